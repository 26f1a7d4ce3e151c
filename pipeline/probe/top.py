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
    (count, width, tokens) uint8, the activation map between `low` (0) and `high` (255), row by row. In whatever order;
    `arrays` ranks them.
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
        """Take in a batch.

        Only neurons that some image of the batch enters are touched, ever fewer as images go by, and of these only the
        slots that change hands: a slot keeps its image until a better one takes it, whatever its rank.
        """
        touched = (batch.peak.amax(0) >= self.peak.amin(0)).nonzero()[:, 0]
        if not len(touched):
            return
        came = batch.peak[:, touched]
        chosen = _order(
            torch.cat([self.peak[:, touched], came]),
            torch.cat([self.image[:, touched], batch.images[:, None].expand_as(came)]),
            self.count,
        )  # (count, touched): slots below count, then rows of the batch
        stays = torch.zeros(self.count + len(came), len(touched), dtype=torch.bool, device=chosen.device)
        stays.scatter_(0, chosen, True)
        # Entering rows first, slots to vacate first: the i-th of one takes the i-th of the other.
        entering = chosen.sort(dim=0, descending=True).values
        vacated = stays[: self.count].int().argsort(dim=0, stable=True)
        rank, column = (entering >= self.count).nonzero(as_tuple=True)
        slot = vacated[rank, column]
        self._enter(batch, slot, touched[column], entering[rank, column] - self.count)

    def _enter(self, batch: Measured, slot: Tensor, unit: Tensor, row: Tensor) -> None:
        """Put image `row` of the batch in a `slot` of neuron `unit`: (entries,) each."""
        at = slot, unit
        self.peak[at] = batch.peak[row, unit]
        self.mean[at] = batch.mean[row, unit]
        self.image[at] = batch.images[row]
        best = torch.full_like(batch.peak[row, unit], -torch.inf)
        for scale, hidden in enumerate(batch.hidden):
            maps = hidden[row, :, unit].float()  # (entries, tokens)
            fired = maps.amax(1) > best
            best = torch.where(fired, maps.amax(1), best)
            cells, low, high = quantized(maps[fired])
            own = slot[fired], unit[fired]
            self.scale[own] = scale
            self.low[own], self.high[own] = low, high
            self.cells[own[0], own[1], : cells.shape[1]] = cells

    def merge(self, other: TopImages) -> None:
        both = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in self.FIELDS}
        for name, array in _ranked(both, self.count).items():
            setattr(self, name, array)

    def arrays(self) -> dict[str, Tensor]:
        """The fields in order of rank."""
        return _ranked({name: getattr(self, name) for name in self.FIELDS}, self.count)

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


def _ranked(fields: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """The `count` best of each neuron, the strongest first."""
    order = _order(fields["peak"], fields["image"], count)
    flat = {name: array.gather(0, order) for name, array in fields.items() if array.dim() == 2}
    cells = fields["cells"]
    return {**flat, "cells": cells.gather(0, order[:, :, None].expand(-1, -1, cells.shape[2]))}


def _order(peak: Tensor, image: Tensor, count: int) -> Tensor:
    """Rows of the `count` best of each column: by peak, highest first, then by image, lowest first."""
    by_image = image.argsort(dim=0, stable=True)
    by_peak = peak.gather(0, by_image).argsort(dim=0, descending=True, stable=True)
    return by_image.gather(0, by_peak)[:count]
