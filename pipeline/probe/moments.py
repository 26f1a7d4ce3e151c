"""Power sums over tokens: mean, standard deviation, kurtosis, share of active tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.probe.measure import POWERS, Measured


class Moments:
    """Power sums over all patch tokens of all images, float64: (width,) each; merging adds them up."""

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.powers = torch.zeros(POWERS, width, dtype=torch.float64, device=device)
        self.active = torch.zeros(width, dtype=torch.float64, device=device)
        self.tokens = 0

    def update(self, batch: Measured) -> None:
        self.powers += batch.powers
        self.active += batch.active
        self.tokens += batch.tokens

    def merge(self, other: Moments) -> None:
        self.powers = self.powers + other.powers
        self.active = self.active + other.active
        self.tokens += other.tokens

    def finalize(self) -> dict[str, np.ndarray]:
        """The moments by name, (width,) each: token_mean, token_std, token_kurtosis (NaN where a neuron never changes),
        fraction_active.
        """
        first, second, third, fourth = (self.powers / max(self.tokens, 1)).cpu().numpy()
        variance = np.maximum(second - first**2, 0)
        # What is left of sums that cancel is rounding, not variance.
        varies = variance > 1e-10 * np.maximum(second, 1e-300)
        about_mean = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
        kurtosis = np.divide(about_mean, variance**2, out=np.full_like(first, np.nan), where=varies)
        return {
            "token_mean": first,
            "token_std": np.sqrt(variance),
            "token_kurtosis": np.where(varies, np.maximum(kurtosis, 1), np.nan),  # never below 1
            "fraction_active": (self.active / max(self.tokens, 1)).cpu().numpy(),
        }

    def arrays(self) -> dict[str, Tensor]:
        return {"powers": self.powers, "active": self.active, "tokens": torch.tensor(self.tokens)}

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Moments:
        made = cls(arrays["active"].shape[0])
        made.powers, made.active, made.tokens = arrays["powers"], arrays["active"], int(arrays["tokens"])
        return made
