"""Contributions of all components of a model, each at the first level where it has one.

A head that reaches the final representation along the residual path has its direct contribution; one that does not
(all of ConViT's before the class token joins, most of CoaT-Lite's) has that through the values of later attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import UnknownFamily
from pipeline.decompose.components import Component, Level, components_of, decompose, relative
from pipeline.models import LoadedModel


@dataclass(frozen=True)
class Contributions:
    """What each component adds to the representation of some images.

    vectors: (images, components, d); representation: (images, d), the sum of the direct ones.
    """

    vectors: Tensor
    representation: Tensor


SUMS_TO = {torch.float32: 1e-4, torch.float64: 1e-9}
"""How far the sum of contributions may be from the representation, relative to its length, in any batch."""


@dataclass
class Contributing:
    """Computes the contributions of a model's components, batch by batch of images.

    What reaches the representation is a fact of the architecture: it is found on the first batch, and so is the
    certificate that the replay is linear. That contributions add up is checked in every batch.
    """

    model: LoadedModel
    components: tuple[Component, ...] = ()
    levels: tuple[Level, ...] = field(default=())  # of each component; () before the first batch
    _idle: frozenset[int] | None = None

    def __post_init__(self) -> None:
        self.components = components_of(self.model)

    def __call__(self, x: Tensor) -> Contributions:
        """x: (images, 3, height, width), normalised, float32 or float64. Raises what `decompose` raises."""
        first = not self.levels
        direct = decompose(self.model, x, Level.DIRECT, certify=first, idle=self._idle)
        if first:
            self.levels, self._idle = self._levels(direct.reach()), direct.idle
        vectors = direct.vectors().detach()
        self._check_sum(vectors, direct.representation)
        indirect = [index for index, level in enumerate(self.levels) if level == Level.THROUGH]
        if indirect:
            through = decompose(self.model, x, Level.THROUGH, certify=first)
            vectors[:, indirect] = through.vectors([self.components[index] for index in indirect]).detach()
        return Contributions(vectors, direct.representation)

    def _check_sum(self, vectors: Tensor, representation: Tensor) -> None:
        error = float(relative(vectors.sum(1) - representation, representation).max())
        if not error < SUMS_TO[vectors.dtype]:
            raise UnknownFamily(
                f"{self.model.description.slug}: the contributions of some images do not add up to their "
                f"representation (relative difference {error:.1e}): its form changes from image to image."
            )

    def _levels(self, reach: dict[int, tuple[bool, ...]]) -> tuple[Level, ...]:
        silent = {("head", layer, head) for layer, heads in reach.items() for head, ok in enumerate(heads) if not ok}
        keys = ((component.kind, component.layer, component.head) for component in self.components)
        return tuple(Level.THROUGH if component in silent else Level.DIRECT for component in keys)


def direct_components(levels: Sequence[Level], device: torch.device | str = "cpu") -> Tensor:
    """Which components' contributions add up to the representation: (components,) bool."""
    return torch.tensor([level == Level.DIRECT for level in levels], device=device)


def levels_of(through: Tensor | np.ndarray) -> tuple[Level, ...]:
    """At which level each component contributes, from `ContributionMoments.through`."""
    return tuple(Level.THROUGH if indirect else Level.DIRECT for indirect in through.tolist())


def indirect_components(levels: Sequence[Level]) -> Tensor:
    """Which components have no direct effect, and contribute through later attention: (components,) bool."""
    return torch.tensor([level == Level.THROUGH for level in levels])
