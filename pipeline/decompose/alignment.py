"""A fitted alignment: linear maps from the spaces that a model's components write to, to the space of a CLIP.

How they are fitted: `align`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FIGURES = ("cosine", "cosine_fit", "cosine_shared", "cosine_chance", "accuracy")


@dataclass(frozen=True)
class Spaces:
    """The spaces that components write to, as orthonormal coordinates.

    width: d. bases: of each component (d, r), or None where its coordinates are those of the representation.
    """

    width: int
    bases: tuple[Tensor | None, ...]

    @classmethod
    def whole(cls, components: int, width: int) -> Spaces:
        """The representation's own coordinates, for all components."""
        return cls(width, (None,) * components)

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(self.width if basis is None else basis.shape[1] for basis in self.bases)

    def coordinates(self, vectors: Tensor) -> Tensor:
        """(images, sum of ranks): those of all components side by side, of vectors (images, components, d)."""
        return torch.cat([vectors[:, k] @ self._in(vectors, k) if b is not None else vectors[:, k]
                          for k, b in enumerate(self.bases)], dim=1)  # fmt: skip

    def written(self, maps: Tensor, component: int) -> Tensor:
        """(d, e): the map of a component as one of the whole representation; maps: (its rank, e)."""
        return maps if self.bases[component] is None else self._in(maps, component) @ maps

    def within(self, whole: Tensor, component: int) -> Tensor:
        """(rank, e): a map of the whole representation (d, e), on the space of a component."""
        return whole if self.bases[component] is None else self._in(whole, component).mT @ whole

    def _in(self, like: Tensor, component: int) -> Tensor:
        basis = self.bases[component]
        assert basis is not None
        return basis.to(like)

    def arrays(self) -> dict[str, np.ndarray]:
        given = [basis for basis in self.bases if basis is not None]
        columns = torch.cat([basis.mT for basis in given]) if given else torch.zeros(0, self.width)
        ranks = [-1 if basis is None else basis.shape[1] for basis in self.bases]
        return {"space_ranks": np.array(ranks, dtype=np.int32), "spaces": columns.float().cpu().numpy()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Spaces:
        ranks = arrays["space_ranks"].tolist()
        columns = torch.tensor(arrays["spaces"])
        parts = iter(columns.split([rank for rank in ranks if rank >= 0]))
        return cls(columns.shape[1], tuple(None if rank < 0 else next(parts).mT for rank in ranks))


@dataclass(frozen=True)
class Alignment:
    """Linear maps of a model's components to the space of a CLIP: f_i(c) = W_i^T c + bias / n.

    spaces: of the components. maps: float32 (sum of ranks, e), on the coordinates of each component, one after the
    other; None where the space is the CLIP's own. bias: float32 (e,). The figures are cosines to the CLIP's embeddings,
    mean over the images that nothing was fitted on, unless said otherwise.
    """

    spaces: Spaces
    maps: Tensor | None
    bias: Tensor
    cosine: float
    cosine_fit: float  # over the images of the fit
    cosine_shared: float  # of one least-squares map for all components
    cosine_chance: float  # to the embeddings of other images: what a cosine is to be compared with
    accuracy: float | None = None  # zero-shot, mean over questions; None where no answer is known

    @classmethod
    def own(cls, components: int, width: int, accuracy: float | None = None) -> Alignment:
        """The alignment of a CLIP to its own space, which maps nothing."""
        return cls(Spaces.whole(components, width), None, torch.zeros(width), 1.0, 1.0, 1.0, math.nan, accuracy)

    @classmethod
    def of_maps(cls, maps: Tensor, bias: Tensor, *figures: float) -> Alignment:
        """From maps of the whole representation, (components, d, e), the bias and the figures in their order."""
        return cls(Spaces.whole(*maps.shape[:2]), maps.flatten(0, 1), bias, *figures)

    @property
    def components(self) -> int:
        return len(self.spaces.bases)

    def map(self, component: int) -> Tensor | None:
        """W of one component, (d, e); None where nothing is mapped."""
        if self.maps is None:
            return None
        ranks = self.spaces.ranks
        first = sum(ranks[:component])
        return self.spaces.written(self.maps[first : first + ranks[component]], component)

    def applied(self, vectors: Tensor, component: int) -> Tensor:
        """Vectors of one component in the CLIP's space, (..., d) -> (..., e); no bias is added."""
        onto = self.map(component)
        return vectors if onto is None else vectors @ onto.to(vectors)

    def apply(self, vectors: Tensor) -> Tensor:
        """Contributions mapped to the CLIP's space, (images, components, d) -> (images, components, e); no bias is
        added.
        """
        if self.maps is None:
            return vectors
        return torch.stack([self.applied(vectors[:, k], k) for k in range(vectors.shape[1])], dim=1)

    def whole(self, vectors: Tensor, direct: Tensor) -> Tensor:
        """The aligned representation, (images, e): the mapped contributions with a direct effect, summed, and the bias.

        vectors: (images, components, d); direct: (components,) bool.
        """
        if self.maps is None:
            return vectors[:, direct].sum(1) + self.bias.to(vectors)
        held = vectors * direct.to(vectors)[:, None]
        return self.spaces.coordinates(held) @ self.maps.to(vectors) + self.bias.to(vectors)

    def pull(self, directions: Tensor) -> Tensor:
        """Directions of the CLIP's space in each component's own, (T, e) -> (components, T, d): their product with a
        contribution is that of the direction with the aligned contribution.
        """
        if self.maps is None:
            return directions.expand(self.components, *directions.shape)
        pulled = (self.maps.to(directions) @ directions.mT).split(self.spaces.ranks)
        return torch.stack([self.spaces.written(part, k).mT for k, part in enumerate(pulled)])

    def arrays(self) -> dict[str, np.ndarray]:
        accuracy = math.nan if self.accuracy is None else self.accuracy
        figures = [self.cosine, self.cosine_fit, self.cosine_shared, self.cosine_chance, accuracy]
        held = {"bias": self.bias.cpu().numpy(), "figures": np.array(figures), **self.spaces.arrays()}
        return held if self.maps is None else held | {"maps": self.maps.cpu().numpy()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Alignment:
        maps = torch.tensor(arrays["maps"]) if "maps" in arrays else None
        figures = dict(zip(FIGURES, map(float, arrays["figures"]), strict=True))
        accuracy = figures.pop("accuracy")
        known_accuracy = None if math.isnan(accuracy) else accuracy
        return cls(Spaces.of(arrays), maps, torch.tensor(arrays["bias"]), **figures, accuracy=known_accuracy)
