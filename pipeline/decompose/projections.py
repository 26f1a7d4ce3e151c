"""Contributions along given directions: the images that are strongest along each, and the mean of each class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

NOBODY = torch.iinfo(torch.int64).max


class TopProjections:
    """The images that contribute most along each direction of each head; of equal ones that of the lower index.

    value: (count, heads, directions) float32, image: int64; best first.
    """

    def __init__(self, count: int, heads: int, directions: int) -> None:
        self.value = torch.full((count, heads, directions), -torch.inf)
        self.image = torch.full((count, heads, directions), NOBODY)

    def update(self, projections: Tensor, images: Tensor) -> None:
        """Take in the contributions of some images along the directions. projections: (images, heads, directions)."""
        own = images.cpu()[:, None, None].expand(projections.shape)
        self._take(projections.float().cpu(), own)

    def merge(self, other: TopProjections) -> None:
        self._take(other.value, other.image)

    def _take(self, value: Tensor, image: Tensor) -> None:
        count = len(self.value)
        value, image = torch.cat([self.value, value]), torch.cat([self.image, image])
        by_image = image.argsort(dim=0, stable=True)
        order = by_image.gather(0, value.gather(0, by_image).argsort(dim=0, descending=True, stable=True))[:count]
        self.value, self.image = value.gather(0, order), image.gather(0, order)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"value": self.value.numpy(), "image": self.image.numpy()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> TopProjections:
        sums = cls(0, 0, 0)
        sums.value, sums.image = (torch.from_numpy(np.array(arrays[name])) for name in ("value", "image"))
        return sums


class ClassMeans:
    """Sums, by class of the image, of each head's contribution along a direction of its own, for class means.

    sums: (classes, heads); images: (classes,), how many of each class; float64.
    """

    def __init__(self, classes: int, heads: int) -> None:
        self.sums = torch.zeros(classes, heads, dtype=torch.float64)
        self.images = torch.zeros(classes, dtype=torch.float64)

    def update(self, projections: Tensor, labels: Tensor) -> None:
        """Take in some images. projections: (images, heads); labels: int64 (images,), -1 for none."""
        known = labels >= 0
        self.sums.index_add_(0, labels[known], projections[known].double().cpu())
        self.images += torch.bincount(labels[known], minlength=len(self.images))

    def merge(self, other: ClassMeans) -> None:
        self.sums += other.sums
        self.images += other.images

    def finalize(self) -> Tensor:
        """The mean of each class, (classes, heads); NaN for a class without images."""
        return self.sums / self.images[:, None]

    def arrays(self) -> dict[str, np.ndarray]:
        return {"sums": self.sums.numpy(), "images": self.images.numpy()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> ClassMeans:
        sums = cls(0, 0)
        sums.sums, sums.images = (torch.from_numpy(np.array(arrays[name])) for name in ("sums", "images"))
        return sums
