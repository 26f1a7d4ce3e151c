"""Contributions of all components of a model, each at the first level where it has one.

A head that reaches the final representation along the residual path has its direct contribution; one that does not
(all of ConViT's before the class token joins, most of CoaT-Lite's) has that through the values of later attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import UnknownFamily
from pipeline.decompose.check import random_pictures
from pipeline.decompose.components import Component, Level, components_of, decompose, relative
from pipeline.decompose.paths import FORM, Paths, find_paths
from pipeline.decompose.token_positions import TokenPositions, token_positions_of
from pipeline.models import LoadedModel

CERTIFIED = 2  # images on which a model's form is certified
AT_ONCE = 4  # pictures by which paths are found: coordinates of the representation that are done at a time


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

    What reaches the representation, and along what paths, are facts of the weights: they are found before the first
    batch, and so is the certificate that the replay is linear. That contributions add up, and that derivatives have
    the form that paths rest on, is checked in every batch; images whose derivatives do not are done without paths.
    """

    model: LoadedModel
    components: tuple[Component, ...] = ()
    levels: tuple[Level, ...] = field(default=())  # of each component; () before the first batch
    paths: Paths = field(default_factory=Paths)
    _idle: frozenset[int] | None = None

    def __post_init__(self) -> None:
        self.components = components_of(self.model)

    def __call__(self, x: Tensor, *, through: bool = True) -> Contributions:
        """x: (images, 3, height, width), normalised, float32 or float64. Raises what `decompose` raises.

        through: whether heads that contribute only through later attention are asked for, each of which costs a share
        of a forward by itself; without, theirs are zero. The sum of the direct ones does not need them.
        """
        self.look_at(x)
        direct = decompose(self.model, x, Level.DIRECT, certify=False, idle=self._idle, paths=self.paths)
        vectors = direct.vectors().detach()
        if self.paths.closed and direct.weights.off > FORM[vectors.dtype]:
            vectors = decompose(self.model, x, Level.DIRECT, certify=False).vectors().detach()
        self._check_sum(vectors, direct.representation)
        indirect = [index for index, level in enumerate(self.levels) if level == Level.THROUGH]
        if indirect and through:
            passed_on = decompose(self.model, x, Level.THROUGH, certify=False)
            vectors[:, indirect] = passed_on.vectors([self.components[index] for index in indirect]).detach()
        return Contributions(vectors, direct.representation)

    @cached_property
    def token_positions(self) -> dict[str, list[TokenPositions]]:
        """Where the values of each attention lie, as `token_positions_of` finds it; once."""
        return token_positions_of(self.model)

    def heads_with_path(self, levels: Sequence[Level] | None = None) -> set[int]:
        """Numbers of the heads that contribute directly, along a path. levels: other ones than theirs."""
        sites = [site for site in self.model.description.attention_sites for _ in range(site.heads)]
        at = self.levels if levels is None else levels
        return {
            number for number, site in enumerate(sites) if site.path in self.paths.closed and at[number] == Level.DIRECT
        }

    def bases(self, most: int) -> dict[int, Tensor]:
        """Orthonormal bases (d, r) of the spaces that heads with a path write to, by the number of the head; of those
        with at most `most` dimensions, and fewer than half of d.
        """
        bases: dict[int, Tensor] = {}
        number = 0
        for site in self.model.description.attention_sites:
            spans = self.paths.spans(self.model, site)
            for head in range(site.heads):
                few = spans is not None and 0 < spans.shape[2] <= min(most, spans.shape[1] // 2)
                if spans is not None and few and self.levels[number] == Level.DIRECT:
                    bases[number] = torch.linalg.qr(spans[head].double()).Q
                number += 1
        return bases

    def look_at(self, x: Tensor) -> None:
        """Certify the replay on some images, and find at which level and along what paths components contribute; once.

        x: as in a call.
        """
        if self.levels:
            return
        few = x[:CERTIFIED]
        pictures = random_pictures(self.model, AT_ONCE).to(x)
        self.paths = find_paths(self.model, self.model.normalise(pictures))
        self._idle = decompose(self.model, few, Level.DIRECT, certify=False, paths=self.paths).idle
        self.levels = self._levels(decompose(self.model, few, Level.DIRECT).reach())
        if Level.THROUGH in self.levels:
            decompose(self.model, few, Level.THROUGH)

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
