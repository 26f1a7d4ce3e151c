"""The stage that makes pictures: an image optimized to activate each neuron."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jobs.stages.stage import LIVE, Cost, Sizes, Stage

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.models import FfnSite
    from pipeline.visualize.recipes import Recipe

BYTES_PER_PIXEL = 0.32  # of a stored picture, WebP at quality 75: 16 kB at 224 x 224
BYTES_PER_ROW = 900  # the numbers beside it


def visualize(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Rows of the unit's neurons with their pictures."""
    from pipeline.visualize.ascent import visualize as ascend

    model, inputs = work.model(unit.slug), work.inputs
    site = model.description.ffn_sites[work.layer(unit)]
    pictures = ascend(
        model,
        site,
        range(unit.start, unit.stop),
        inputs.recipe,
        seed=inputs.seed,
        precision=work.precision,
        on_step=lambda *_, **__: work.step(),
        settings=inputs.settings.visualize,
    )
    return [picture.row() for picture in pictures]


def image_steps(recipe: Recipe, site: FfnSite) -> int:
    """Forward-backward passes of one image that the recipe spends on one neuron of this layer."""
    return sum(ascent.image_steps for ascent in recipe.ascents_at(site.depth)) + recipe.robust_draws


def cost(sizes: Sizes) -> Cost:
    """Every image step is a forward to the layer and a backward; without weight gradients both cost the same."""
    assert sizes.site is not None
    picture = BYTES_PER_ROW + BYTES_PER_PIXEL * math.prod(sizes.description.input_size)
    return Cost(each=2 * sizes.to_site * image_steps(sizes.recipe, sizes.site), bytes=picture)


def memory(sizes: Sizes, batch: int) -> float:
    """Forward and backward of the pictures of a step, whose number the ascent chooses itself and halves itself; of a
    batch of one, those of one neuron. What layers keep for the backward grows with the depth.
    """
    assert sizes.site is not None
    copies = max(phase.copies for ascent in sizes.recipe.ascents_at(sizes.site.depth) for phase in ascent.phases)
    return sizes.weights + min(batch, 16) * copies * LIVE * sizes.hidden


VISUALIZE = Stage(
    name="visualize",
    does="Optimizes an image to activate each neuron, and measures what it reaches",
    group="visualize",
    cut="neurons",
    facts=("recipe", "seed", "picture settings"),
    compute=visualize,
    cost=cost,
    memory=memory,
)
