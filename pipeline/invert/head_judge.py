"""What finished pictures of heads reach: as stored, and under the natural changes by which all pictures are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.invert.heads import HeadOutputs
from pipeline.invert.judge import Inversion, encoded, stored_pixels
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
    """Each target's picture as it is stored, and how far it brings its head, as it is and under natural changes.

    pictures: from `ascent.invert`. A direction that is not there, or a picture that is no finite number, gives an
    Inversion without a file and without figures.
    """
    slug, there = outputs.contributing.model.description.slug, outputs.there.tolist()
    webps = [webp if is_there else None for webp, is_there in zip(encoded(pictures), there, strict=True)]
    made = [place for place, webp in enumerate(webps) if webp is not None]
    bare = [Inversion(slug, target, recipe, seed, webp) for target, webp in zip(targets, webps, strict=True)]
    if not made:
        return bare
    stored = torch.stack([stored_pixels(webps[place] or b"") for place in made]).to(pictures.device)
    index = [targets[place].index for place in made]
    projection, deviations, cosine = outputs.read(index, stored)
    addresses = [targets[place].address(slug) for place in made]
    draws = [drawn(addresses, number, stored, settings) for number in range(settings.draws)]
    kinds: dict[str, tuple[Tensor, Tensor]] = {}
    for kind in CHANGES:
        readings = [outputs.read(index, changed(stored, kind, by, settings)) for by in draws]
        kinds[kind] = tuple(torch.stack([one[at] for one in readings]).mean(0) for at in (1, 2))  # type: ignore[assignment]
        on_step()
    natural_deviations, natural = (torch.stack([one[at] for one in kinds.values()]).mean(0) for at in (0, 1))
    for i, place in enumerate(made):
        bare[place] = Inversion(
            slug=slug,
            target=targets[place],
            recipe=recipe,
            seed=seed,
            webp=webps[place],
            score=float(cosine[i]),
            natural_score=float(natural[i]),
            natural_kinds=tuple((kind, float(found[1][i]), None) for kind, found in kinds.items()),
            projection=float(projection[i]),
            deviations=float(deviations[i]),
            natural_deviations=float(natural_deviations[i]),
        )
    return bare
