"""The embedded views of images, slice after slice: what labels and alignments compare texts with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.images.windows import VIEWS


class Views:
    """The whole and the nine windows of images, embedded: float16 (images, VIEWS, d), in the order of the images.

    Merging appends: slices are merged in the order of their images.
    """

    def __init__(self, vectors: Tensor) -> None:
        """vectors: (images, VIEWS, d), as `Embedder.embed_views` gives them; kept as float16 on the CPU."""
        if vectors.ndim != 3 or vectors.shape[1] != VIEWS:
            raise BadConfig(f"views of shape {tuple(vectors.shape)}: expected (images, {VIEWS}, d).")
        self.half = vectors.detach().to("cpu", torch.float16)

    def __len__(self) -> int:
        return len(self.half)

    @property
    def vectors(self) -> Tensor:
        """float32 (images, VIEWS, d)."""
        return self.half.float()

    @property
    def whole(self) -> Tensor:
        """float32 (images, d): the view of the whole image."""
        return self.half[:, 0].float()

    def merge(self, other: Views) -> None:
        """Append the views of the images that come next."""
        self.half = torch.cat([self.half, other.half])

    def arrays(self) -> dict[str, np.ndarray]:
        return {"views": self.half.numpy()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Views:
        return cls(torch.from_numpy(np.array(arrays["views"])))
