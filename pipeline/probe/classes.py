"""Class-conditional means of the peak."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pipeline.probe.measure import Measured


class ClassSums:
    """Sums of the images' peaks by class, (classes, width) float64, and images (classes,) behind them.

    labels: (images of the whole set,) int64, the class of each image or -1.
    """

    def __init__(self, width: int, labels: Tensor, classes: int, device: torch.device | str = "cpu") -> None:
        self.labels = labels.to(device)
        self.sums = torch.zeros(classes, width, dtype=torch.float64, device=device)
        self.images = torch.zeros(classes, dtype=torch.int64, device=device)

    def update(self, batch: Measured) -> None:
        labels = self.labels[batch.images]
        known = labels >= 0
        self.sums.index_add_(0, labels[known], batch.peak[known].double())
        self.images += torch.bincount(labels[known], minlength=len(self.images))

    def merge(self, other: ClassSums) -> None:
        self.sums = self.sums + other.sums
        self.images = self.images + other.images

    def finalize(self) -> Tensor:
        """The mean peak of each class, (classes, width); NaN for a class without images."""
        return (self.sums / self.images[:, None]).cpu()

    def arrays(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "images": self.images}

    @classmethod
    def of(cls, arrays: Mapping[str, Tensor]) -> ClassSums:
        made = cls(0, torch.empty(0, dtype=torch.int64), 0)
        made.sums, made.images = arrays["sums"], arrays["images"]
        return made
