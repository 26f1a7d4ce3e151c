"""A mergeable sketch of a distribution: counts in fixed bins of floating-point numbers, and both extremes.

A bin holds the values with the same sign, exponent and first three bits of mantissa, so that its edges differ by
at most an eighth of the value, for every neuron and without a look at the data: adding counts up is exact, in
whatever order. (The idea is DDSketch's, Masson et al., 1908.10693, with the bins that float32 already has.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SketchSettings:
    """What the bins are. There is one way: the fields are facts of this code, for the keys of results."""

    mantissa_bits: int = field(default=3, init=False)
    lowest_exponent: int = field(default=-10, init=False)  # of 2: what is smaller falls into the bin of zero
    highest_exponent: int = field(default=8, init=False)  # of 2: what is larger falls into the last bin


MANTISSA_BITS = SketchSettings().mantissa_bits
_LOWEST, _HIGHEST = (
    (127 + exponent) << MANTISSA_BITS
    for exponent in (SketchSettings().lowest_exponent, SketchSettings().highest_exponent)
)
HALF = _HIGHEST - _LOWEST
BINS = 2 * HALF + 1


def bins_of(values: Tensor) -> Tensor:
    """The bin of every value, int64, ascending with the value."""
    bits = values.float().contiguous().view(torch.int32)
    size = ((bits & 0x7FFFFFFF) >> (23 - MANTISSA_BITS)).clamp(_LOWEST - 1, _HIGHEST - 1) - (_LOWEST - 1)
    return (torch.where(bits < 0, -size, size) + HALF).long()


def edges() -> np.ndarray:
    """The edges of the bins, float64 (BINS + 1,): bin b holds values from edges[b] to edges[b + 1]."""
    bits = (np.arange(_LOWEST, _HIGHEST + 1, dtype=np.int64) << (23 - MANTISSA_BITS)).astype(np.int32)
    positive = bits.view(np.float32).astype(np.float64)  # (HALF + 1,)
    return np.concatenate([-positive[::-1], positive])


_COUNTS = (torch.uint8, torch.int16, torch.int32)


class Sketch:
    """Counts (width, BINS) of one number per image and neuron, with the least and greatest: (width,).

    Counts are int32 while images come; written and read back, they are as narrow as they can be.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu") -> None:
        self.counts = torch.zeros(width, BINS, dtype=torch.int32, device=device)
        self.low = torch.full((width,), torch.inf, device=device)
        self.high = torch.full((width,), -torch.inf, device=device)

    def update(self, values: Tensor) -> None:
        """Take in the values of some images, (batch, width)."""
        flat = bins_of(values) + torch.arange(values.shape[1], device=values.device) * BINS
        self.counts.view(-1).index_add_(0, flat.view(-1), torch.ones_like(flat.view(-1), dtype=torch.int32))
        self.low = torch.minimum(self.low, values.amin(0))
        self.high = torch.maximum(self.high, values.amax(0))

    def merge(self, other: Sketch) -> None:
        self.counts = self.counts.to(torch.int32) + other.counts
        self.low = torch.minimum(self.low, other.low)
        self.high = torch.maximum(self.high, other.high)

    def finalize(self) -> Distribution:
        return Distribution(
            self.counts.to(torch.int32).cpu().numpy(),
            self.low.cpu().numpy().astype(float),
            self.high.cpu().numpy().astype(float),
        )

    def arrays(self) -> dict[str, Tensor]:
        return {"counts": _narrowed(self.counts), "low": self.low, "high": self.high}

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Sketch:
        made = cls(0)
        made.counts, made.low, made.high = arrays["counts"], arrays["low"], arrays["high"]
        return made


def _narrowed(counts: Tensor) -> Tensor:
    """The same counts in the least of the types that hold them."""
    most = int(counts.max()) if counts.numel() else 0
    return counts.to(next(kind for kind in _COUNTS if most <= torch.iinfo(kind).max))


class Distribution:
    """What a sketch says: shares and quantiles, each value taken as evenly spread within its bin."""

    def __init__(self, counts: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        self.counts, self.low, self.high = counts, low, high
        self.total = counts.sum(1)  # (width,)
        self.below = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts, 1)], 1)  # (width, BINS + 1)

    def share_below(self, unit: int, value: float) -> float:
        """Share of images below `value`, 0 to 1; exact outside the extremes."""
        if value <= self.low[unit]:
            return 0.0
        if value > self.high[unit]:
            return 1.0
        return float(np.interp(value, *self._curve(unit)) / self.total[unit])

    def quantiles(self, unit: int, shares: Sequence[float]) -> list[float]:
        """The values below which these shares lie."""
        values, counts = self._curve(unit)
        wanted = np.asarray(shares) * self.total[unit]
        right = np.clip(np.searchsorted(counts, wanted), 1, len(counts) - 1)  # the edge behind the bin it falls into
        part = (wanted - counts[right - 1]) / np.maximum(counts[right] - counts[right - 1], 1)
        quantiles = values[right - 1] + part * (values[right] - values[right - 1])
        return [float(value) for value in quantiles]

    def histogram(self, unit: int, bins: int) -> tuple[float, float, list[int]]:
        """A histogram, (low, high, counts): equal bins between the extremes; counts are whole and sum to all images."""
        low, high = float(self.low[unit]), float(self.high[unit])
        if not high > low:
            return low, high, [int(self.total[unit])]
        cumulated = np.interp(np.linspace(low, high, bins + 1), *self._curve(unit)).round().astype(int)
        return low, high, np.diff(cumulated).tolist()

    def _curve(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Values and how many images lie below each: the bins' edges within the extremes, and these."""
        edge = edges()
        low, high = self.low[unit], self.high[unit]
        inside = (edge > low) & (edge < high)
        values = np.concatenate([[low], edge[inside], [high]])
        counts = np.concatenate([[0], self.below[unit][inside], [self.total[unit]]])
        return values, counts
