"""What finished pictures of heads reach: as stored, and under the natural changes by which all pictures are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.invert.heads import HeadOutputs
from pipeline.invert.judge import Inversion, encoded, unmeasured
from pipeline.invert.recipes import InversionRecipe
from pipeline.invert.targets import Target
from pipeline.visualize.natural import CHANGES, NaturalSettings, changed, drawn


def judged_heads(
    outputs: HeadOutputs,
    targets: Sequence[Target],
    pictures: Tensor,
    recipe: InversionRecipe,
    seed: int,
    settings: NaturalSettings,
    on_step: Callable[[], None] = lambda: None,
) -> list[Inversion]:
    """Each target's pictures as they are stored, and how far they bring its head, as it is and under natural changes.

    pictures: from `ascent.invert`. A direction that is not there, or a picture that is no finite number, gives an
    Inversion without a file and without figures.
    """
    slug = outputs.contributing.model.description.slug
    there = [one for one in outputs.there.tolist() for _ in range(recipe.variants)]
    files = [webp if is_there else None for webp, is_there in zip(encoded(pictures), there, strict=True)]
    bare = unmeasured(slug, targets, files, recipe, seed)
    made = [place for place, one in enumerate(bare) if one.webp is not None]
    if not made:
        return bare
    stored = torch.stack([bare[place].pixels() for place in made]).to(pictures.device)
    index = [bare[place].target.index for place in made]
    projection, deviations, cosine = outputs.read(index, stored)
    addresses = [bare[place].address for place in made]
    draws = [drawn(addresses, number, stored, settings) for number in range(settings.draws)]
    kinds: dict[str, tuple[Tensor, Tensor]] = {}
    for kind in CHANGES:
        readings = [outputs.read(index, changed(stored, kind, by, settings)) for by in draws]
        kinds[kind] = tuple(torch.stack([one[at] for one in readings]).mean(0) for at in (1, 2))  # type: ignore[assignment]
        on_step()
    natural_deviations, natural = (torch.stack([one[at] for one in kinds.values()]).mean(0) for at in (0, 1))
    for i, place in enumerate(made):
        bare[place] = replace(
            bare[place],
            score=float(cosine[i]),
            natural_score=float(natural[i]),
            natural_kinds=tuple((kind, float(found[1][i]), None) for kind, found in kinds.items()),
            projection=float(projection[i]),
            deviations=float(deviations[i]),
            natural_deviations=float(natural_deviations[i]),
        )
    return bare
