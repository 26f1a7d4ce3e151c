"""All correlations between two sets of neurons, from samples that come in batches and add up in any order."""

from __future__ import annotations

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, NotFinite

CONSTANT = 1e-6
"""A neuron whose standard deviation is at most this share of its mean is constant: float32 holds no more. What
rounding leaves, not a choice: it is among no settings."""


class CrossMoments:
    """Means, variances and all covariances between two sets of neurons, over samples that come in batches.

    Each batch is centred on its own mean and joined by the update of Chan, Golub and LeVeque (1979), so that large
    means cost no digits. Means and variances are float64; `cross`, (n_x, n_y), is float32 on the device.
    """

    def __init__(self, n_x: int, n_y: int, device: torch.device | str = "cpu") -> None:
        self.samples = 0
        self.mean_x, self.square_x = torch.zeros(2, n_x, dtype=torch.float64, device=device)
        self.mean_y, self.square_y = torch.zeros(2, n_y, dtype=torch.float64, device=device)
        self.cross = torch.zeros(n_x, n_y, device=device)  # sums of products of deviations

    def update(self, x: Tensor, y: Tensor) -> None:
        """Add samples: x (samples, n_x), y (samples, n_y), row for row. NotFinite where they are not."""
        if len(x) != len(y) or x.shape[1] != len(self.mean_x) or y.shape[1] != len(self.mean_y):
            raise BadConfig(
                f"samples of {tuple(x.shape)} and {tuple(y.shape)}: expected as many rows in both, and "
                f"{len(self.mean_x)} and {len(self.mean_y)} neurons."
            )
        if not len(x):
            return
        count, total = len(x), self.samples + len(x)
        x_mean, x = _centred(x)
        y_mean, y = _centred(y)
        weight = self.samples * count / total
        x_step, y_step = x_mean - self.mean_x, y_mean - self.mean_y
        self.square_x += _squares(x) + weight * x_step**2
        self.square_y += _squares(y) + weight * y_step**2
        # the step between the means is one more sample: one product does all
        x = torch.cat([x, (weight**0.5 * x_step).float()[None]])
        y = torch.cat([y, (weight**0.5 * y_step).float()[None]])
        self.cross.addmm_(x.T, y)
        self.mean_x += x_step * (count / total)
        self.mean_y += y_step * (count / total)
        self.samples = total

    @property
    def constant_x(self) -> Tensor:
        """(n_x,) bool: neurons that do not vary, so that they correlate with nothing."""
        return self.square_x <= self.samples * (CONSTANT * self.mean_x) ** 2

    @property
    def constant_y(self) -> Tensor:
        return self.square_y <= self.samples * (CONSTANT * self.mean_y) ** 2

    def correlations(self, rows: slice = slice(None)) -> Tensor:
        """float32 (rows, n_y), -inf where one of both is constant."""
        scale_x = torch.where(self.constant_x, 1.0, self.square_x).rsqrt()[rows].float()
        scale_y = torch.where(self.constant_y, 1.0, self.square_y).rsqrt().float()
        correlations = (self.cross[rows] * scale_x[:, None]).mul_(scale_y).clamp_(-1, 1)
        correlations[self.constant_x[rows]] = -torch.inf
        correlations[:, self.constant_y] = -torch.inf
        return correlations


def _centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of a batch, float64 (n,), and the float32 deviations from it."""
    mean = x.mean(0, dtype=torch.float64)
    if not bool(torch.isfinite(mean).all()):
        raise NotFinite(
            f"{int((~torch.isfinite(mean)).sum())} of {len(mean)} neurons have NaN or infinite activations."
        )
    return mean, (x - mean).float() if x.dtype == torch.float64 else x.sub(mean.float()).float()


def _squares(x: Tensor) -> Tensor:
    """Sum of squares over samples: (samples, n) -> float64 (n,). The squares alone are rounded to float32."""
    return x.square().sum(0, dtype=torch.float64)
