"""The images that excite each neuron most, with where in the image."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.probe.measure import Measured

NOBODY = torch.iinfo(torch.int64).max  # index of an image that is not there


class TopImages:
    """Per neuron the `count` images with the highest peak; of equal peaks, the image with the lower index.

    peak, mean, low, high: (count, width) float32; image: int64; scale: uint8, the call that fired; cells:
    (count, width, tokens) uint8, the activation map between `low` (0) and `high` (255), row by row.
    """

    FIELDS = ("peak", "image", "mean", "low", "high", "scale", "cells")

    def __init__(self, width: int, count: int, tokens: int, device: torch.device | str = "cpu") -> None:
        self.peak = torch.full((count, width), -torch.inf, device=device)
        self.image = torch.full((count, width), NOBODY, device=device)
        self.mean, self.low, self.high = (torch.zeros(count, width, device=device) for _ in range(3))
        self.scale = torch.zeros(count, width, dtype=torch.uint8, device=device)
        self.cells = torch.zeros(count, width, tokens, dtype=torch.uint8, device=device)

    @property
    def count(self) -> int:
        return len(self.peak)

    def update(self, batch: Measured) -> None:
        """Only neurons that some image of the batch enters are touched: ever fewer as images go by."""
        touched = (batch.peak.amax(0) >= self.peak[-1]).nonzero()[:, 0]
        if not len(touched):
            return
        came = batch.peak[:, touched]
        order = _order(
            torch.cat([self.peak[:, touched], came]),
            torch.cat([self.image[:, touched], batch.images[:, None].expand_as(came)]),
            self.count,
        )
        new = order >= self.count  # (count, touched): rows of the batch
        stays = order.clamp(max=self.count - 1)
        for name in self.FIELDS:
            array = getattr(self, name)
            held = array[:, touched]
            index = stays if held.dim() == 2 else stays[:, :, None].expand(-1, -1, held.shape[2])
            array[:, touched] = held.gather(0, index)
        rank, column = new.nonzero(as_tuple=True)
        self._enter(batch, rank, touched[column], order[rank, column] - self.count)

    def _enter(self, batch: Measured, rank: Tensor, unit: Tensor, row: Tensor) -> None:
        """Put image `row` of the batch at place `rank` of neuron `unit`: (entries,) each."""
        self.peak[rank, unit] = batch.peak[row, unit]
        self.mean[rank, unit] = batch.mean[row, unit]
        self.image[rank, unit] = batch.images[row]
        best = torch.full_like(batch.peak[row, unit], -torch.inf)
        for scale, hidden in enumerate(batch.hidden):
            maps = hidden[row, :, unit].float()  # (entries, tokens)
            fired = maps.amax(1) > best
            best = torch.where(fired, maps.amax(1), best)
            cells, low, high = quantized(maps[fired])
            at = rank[fired], unit[fired]
            self.scale[at] = scale
            self.low[at], self.high[at] = low, high
            self.cells[at[0], at[1], : cells.shape[1]] = cells

    def merge(self, other: TopImages) -> None:
        order = _order(torch.cat([self.peak, other.peak]), torch.cat([self.image, other.image]), self.count)
        for name in self.FIELDS:
            both = torch.cat([getattr(self, name), getattr(other, name)])
            index = order if both.dim() == 2 else order[:, :, None].expand(-1, -1, both.shape[2])
            setattr(self, name, both.gather(0, index))

    def arrays(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.FIELDS}

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> TopImages:
        made = cls(0, 0, 0)
        for name in cls.FIELDS:
            setattr(made, name, arrays[name])
        return made


def quantized(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, tokens) -> bytes (n, tokens) uint8, and what 0 and 255 stand for: (n,) each."""
    low, high = maps.amin(1), maps.amax(1)
    span = (high - low).clamp_min(torch.finfo(torch.float32).tiny)
    return ((maps - low[:, None]) / span[:, None] * 255).round().to(torch.uint8), low, high


def _order(peak: Tensor, image: Tensor, count: int) -> Tensor:
    """Rows of the `count` best of each column: by peak, highest first, then by image, lowest first."""
    by_image = image.argsort(dim=0, stable=True)
    by_peak = peak.gather(0, by_image).argsort(dim=0, descending=True, stable=True)
    return by_image.gather(0, by_peak)[:count]
