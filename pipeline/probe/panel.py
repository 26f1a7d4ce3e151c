"""The panel: a bounded sample of the probe images for which every neuron's numbers are kept.

What needs all images of a neuron at once (labels, their null, their held-out check; examples from lower
quantiles) reads the panel, so that memory does not grow with the set. Membership follows from the image's hash
alone: every slice, order and merge agrees on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipeline.probe.measure import Measured


def panel_of(hashes: Sequence[str], size: int) -> list[int]:
    """Indices of the panel's images, those with the least hashes, ascending by index."""
    order = sorted(range(len(hashes)), key=lambda index: (hashes[index], index))
    return sorted(order[:size])


class Panel:
    """The numbers of the panel's images: peak and mean (float16), window of the peak (uint8), (images, width) each.

    members: (images of the whole set,) bool. capacity: how many of them can come.
    """

    def __init__(self, width: int, members: Tensor, capacity: int, device: torch.device | str = "cpu") -> None:
        self.members = members.to(device)
        self.images = torch.full((capacity,), -1, dtype=torch.int64, device=device)
        # zeros, not empty: the memory is there from the start, not when the images come
        self.peak = torch.zeros(capacity, width, dtype=torch.float16, device=device)
        self.mean = torch.zeros(capacity, width, dtype=torch.float16, device=device)
        self.window = torch.zeros(capacity, width, dtype=torch.uint8, device=device)
        self.filled = 0

    def update(self, batch: Measured) -> None:
        chosen = self.members[batch.images].nonzero()[:, 0]
        rows = slice(self.filled, self.filled + len(chosen))
        self.images[rows] = batch.images[chosen]
        self.peak[rows] = _half(batch.peak[chosen])
        self.mean[rows] = _half(batch.mean[chosen])
        self.window[rows] = batch.window[chosen]
        self.filled = rows.stop

    def merge(self, other: Panel) -> None:
        mine, theirs = self.arrays(), other.arrays()
        images = torch.cat([mine["images"], theirs["images"]])
        order = images.argsort()
        for name, array in mine.items():
            setattr(self, name, torch.cat([array, theirs[name].to(array.device)])[order])
        self.filled = len(images)

    def arrays(self) -> dict[str, Tensor]:
        """The numbers of the images that came, by index of the image."""
        order = self.images[: self.filled].argsort()
        held = {"images": self.images, "peak": self.peak, "mean": self.mean, "window": self.window}
        return {name: array[: self.filled][order] for name, array in held.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> Panel:
        made = cls(0, torch.empty(0, dtype=torch.bool), 0)
        made.images, made.peak = arrays["images"], arrays["peak"]
        made.mean, made.window, made.filled = arrays["mean"], arrays["window"], len(arrays["images"])
        return made


def _half(values: Tensor) -> Tensor:
    """float16, cut off at its largest number rather than made infinite."""
    return values.clamp(-65504, 65504).half()
