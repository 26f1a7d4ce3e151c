"""The stages of pictures: an image optimized to activate each neuron, and whether it holds under natural changes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jobs.memory import MOST_BATCH
from jobs.stages.stage import GRAPH, PIXEL_COPIES, Cost, Sizes, Stage

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.models import FfnSite
    from pipeline.visualize.recipes import Recipe

BYTES_PER_PIXEL = 0.32  # of a stored picture, WebP at quality 75: 16 kB at 224 x 224
BYTES_PER_ROW = 900  # the numbers beside it
PICTURE_STEP = 4.5  # images changed: what making a picture of its coefficients and changing it costs a step, and back
CAST = 1.5  # times the weights: on many devices a copy of half the bytes climbs


def visualize(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Rows of the unit's neurons with their pictures."""
    from pipeline.visualize.ascent import default_batch
    from pipeline.visualize.ascent import visualize as ascend

    model, inputs = work.model(unit.slug), work.inputs
    site = model.description.ffn_sites[work.layer(unit)]
    usual = default_batch(model, site, inputs.recipe)  # neurons; fewer only where memory is short
    pictures = ascend(
        model,
        site,
        range(unit.start, unit.stop),
        inputs.recipe,
        seed=inputs.seed,
        batch=max(1, usual * work.batch // MOST_BATCH[work.device]),
        precision=work.precision,
        on_step=lambda *_, **__: work.step(),
        settings=inputs.settings.visualize,
    )
    return [picture.row() for picture in pictures]


def verdict(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """What is left of each stored picture under natural changes."""
    from pipeline.visualize.natural import Picture, natural_rows

    model = work.model(unit.slug)
    rows = work.rows("visualize", unit, ["unit", "image", "activation_start"])
    pictures = {
        row["unit"]: Picture(row["image"]["bytes"], row["activation_start"]) if row["image"] else None for row in rows
    }
    site = model.description.ffn_sites[work.layer(unit)]
    return natural_rows(model, site, pictures, work.inputs.settings.natural, work.batch, work.step)


def image_steps(recipe: Recipe, site: FfnSite) -> int:
    """Forward-backward passes of one image that the recipe spends on one neuron of this layer."""
    return sum(ascent.image_steps for ascent in recipe.ascents_at(site.depth)) + recipe.robust_draws


def cost(sizes: Sizes) -> Cost:
    """Every image step is a forward to the layer and a backward, without weight gradients about as dear, and the
    picture's own: of a small model more than both.
    """
    assert sizes.site is not None
    picture = BYTES_PER_ROW + BYTES_PER_PIXEL * math.prod(sizes.description.input_size)
    step = 2 * sizes.to_site + PICTURE_STEP * sizes.opened
    return Cost(each=step * image_steps(sizes.recipe, sizes.site), bytes=picture)


def verdict_cost(sizes: Sizes) -> Cost:
    """A copy of a picture is changed, and goes to the layer."""
    from pipeline.visualize.natural import CHANGES, NaturalSettings

    copies = 1 + NaturalSettings().draws * len(CHANGES)
    return Cost(each=(sizes.to_site + sizes.opened) * copies, bytes=250)


def verdict_memory(sizes: Sizes, batch: int) -> float:
    """Forwards of changed pictures."""
    return sizes.weights + sizes.forward_bytes(batch)


def memory(sizes: Sizes, batch: int) -> float:
    """Forward and backward of the pictures of a step: what all layers up to this one keep for the backward."""
    from pipeline.visualize.ascent import pictures_at_once, pictures_of

    assert sizes.site is not None
    on_gpu = batch > MOST_BATCH["cpu"]
    most = pictures_at_once(sizes.site, on_gpu)
    pictures = most * batch // MOST_BATCH["cuda" if on_gpu else "cpu"]
    pictures = max(pictures, pictures_of(sizes.site, sizes.recipe)) if batch else 0
    return CAST * sizes.weights + pictures * (GRAPH * sizes.hidden_up_to_site + PIXEL_COPIES * sizes.pixels)


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
VERDICT = Stage(
    name="verdict",
    does="Measures what is left of each picture under natural changes, and says whether it holds",
    group="verdict",
    cut="neurons",
    reads_if_there=("visualize",),
    facts=("natural settings",),
    compute=verdict,
    cost=verdict_cost,
    memory=verdict_memory,
)
