"""What a model makes of its own finished pictures: as stored, and under natural changes.

The natural changes are those that pictures of neurons are judged by (pipeline/visualize/natural.py): shift, turn and
zoom, colour, blur, noise, drawn by the target's address alone, so that all recipes face the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.invert.recipes import InversionRecipe
from pipeline.invert.targets import Outputs, Target
from pipeline.invert.transfer import read
from pipeline.models import LoadedModel
from pipeline.visualize.natural import CHANGES, NaturalSettings, changed, drawn
from pipeline.visualize.picture import encode_webp, stored_pixels, to_bytes

WEBP_QUALITY = 75  # as of neurons' pictures
NATURAL = NaturalSettings()


@dataclass(frozen=True, eq=False)
class Inversion:
    """One target's picture and the numbers beside it. None: there is no picture."""

    slug: str
    target: Target
    recipe: InversionRecipe
    seed: int
    webp: bytes | None
    variant: int = 0  # which of the recipe's pictures of the target
    score: float | None = None  # of the stored file: probability among the rivals, cosine with the text or direction
    rank: int | None = None  # of the target among its rivals, from 1
    natural_score: float | None = None  # mean over all changed copies
    natural_right: float | None = None  # share of changed copies in which the target still comes first
    natural_kinds: tuple[tuple[str, float, float | None], ...] = ()  # of each kind: kind, score, share that is right
    projection: float | None = None  # of a head's contribution, less its mean over probe images, on the direction
    deviations: float | None = None  # the same, in standard deviations of the probe images
    natural_deviations: float | None = None  # ... mean over all changed copies

    @property
    def address(self) -> str:
        return self.target.address(self.slug)

    def pixels(self) -> Tensor:
        """The picture as anyone reads it back: float32 (3, height, width) in [0, 1]. ValueError where there is none."""
        if self.webp is None:
            raise ValueError(f"{self.address} has no picture: its ascent left the finite numbers")
        return stored_pixels(self.webp)


def judged(
    model: LoadedModel,
    outputs: Outputs,
    targets: Sequence[Target],
    pictures: Tensor,
    recipe: InversionRecipe,
    seed: int,
    settings: NaturalSettings = NATURAL,
    on_step: Callable[[], None] = lambda: None,
) -> list[Inversion]:
    """Each target's pictures as they are stored, and what the model says of them. pictures: from `ascent.invert`.

    A picture that is no finite number gives an Inversion without a file and without figures.
    """
    bare = unmeasured(model.description.slug, targets, encoded(pictures), recipe, seed)
    own = [one for one in bare if one.webp is not None]
    found = iter(_measured(model, outputs, own, settings, on_step) if own else ())
    return [one if one.webp is None else next(found) for one in bare]


def unmeasured(
    slug: str, targets: Sequence[Target], files: Sequence[bytes | None], recipe: InversionRecipe, seed: int
) -> list[Inversion]:
    """The inversions of targets, all variants of each, without figures. files: of each picture."""
    each = [(target, variant) for target in targets for variant in range(recipe.variants)]
    return [
        Inversion(slug, target, recipe, seed, webp, variant)
        for (target, variant), webp in zip(each, files, strict=True)
    ]


def encoded(pictures: Tensor) -> list[bytes | None]:
    """The file of each picture; None where it is no finite number."""
    there = torch.isfinite(pictures).flatten(1).all(1).tolist()
    return [
        encode_webp(to_bytes(picture.float().cpu().numpy()), WEBP_QUALITY) if is_there else None
        for picture, is_there in zip(pictures, there, strict=True)
    ]


def _measured(
    model: LoadedModel,
    outputs: Outputs,
    made: Sequence[Inversion],
    settings: NaturalSettings,
    on_step: Callable[[], None],
) -> list[Inversion]:
    stored = torch.stack([one.pixels() for one in made]).to(model.device)
    index = [one.target.index for one in made]
    clean = read(model, outputs, index, stored)
    kinds = {}
    draws = [drawn([one.address for one in made], number, stored, settings) for number in range(settings.draws)]
    for kind in CHANGES:
        readings = [read(model, outputs, index, changed(stored, kind, by, settings)) for by in draws]
        on_step()
        kinds[kind] = (
            torch.stack([one.score.double() for one in readings]).mean(0),
            torch.stack([one.right.double() for one in readings]).mean(0),
        )
    score, right = (torch.stack([pair[at] for pair in kinds.values()]).mean(0) for at in (0, 1))
    return [
        replace(
            one,
            score=float(clean.score[i]),
            rank=int(clean.rank[i]),
            natural_score=float(score[i]),
            natural_right=float(right[i]),
            natural_kinds=tuple((kind, float(pair[0][i]), float(pair[1][i])) for kind, pair in kinds.items()),
        )
        for i, one in enumerate(made)
    ]
