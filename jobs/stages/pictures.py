"""The stages of further pictures: one for each recipe, so that a recipe is added to an atlas and touches no other."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas_schema.picture_recipes import PICTURE_STAGES
from jobs.memory import MOST_BATCH
from jobs.stages import visualize
from jobs.stages.stage import Cost, Sizes, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.visualize.result import Visualization

NO_PHOTOGRAPH = "no probe image excites the neuron, so there is none to start from"
#: Recipes that start from the neuron's strongest probe images, which the stage examples lists.
FROM_PHOTOGRAPHS = ("accentuated",)


def pictures(recipe_name: str, work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Rows of neuron_pictures of the unit's neurons: every variant, judged as the main picture is."""
    from pipeline.visualize.ascent import default_batch
    from pipeline.visualize.ascent import visualize as ascend
    from pipeline.visualize.recipes import recipe_named

    model, inputs, recipe = work.model(unit.slug), work.inputs, recipe_named(recipe_name)
    site = model.description.ffn_sites[work.layer(unit)]
    starts = _photographs(work, unit, recipe.variants) if recipe.photographs else {}
    units = [one for one in range(unit.start, unit.stop) if one in starts or not recipe.photographs]
    made = ascend(
        model,
        site,
        units,
        recipe,
        seed=inputs.seed,
        batch=max(1, default_batch(model, site, recipe) * work.batch // MOST_BATCH[work.device]),
        precision=work.precision,
        on_step=lambda *_, **__: work.step(),
        settings=inputs.settings.visualize,
        photographs={one: pixels for one, (_, pixels) in starts.items()} if recipe.photographs else None,
    )
    verdicts = _verdicts(work, unit, made, recipe.variants)
    rows = []
    for one in made:
        names = starts[one.address.unit][0] if one.address.unit in starts else []
        begun = names[one.variant] if names and one.status != "failed" else None
        rows.append({**one.picture_row(), **verdicts[one.address.unit, one.variant], "start_image": begun})
    lacking = [one for one in range(unit.start, unit.stop) if one not in set(units)]
    return rows + [_without(work, one, recipe_name, variant) for one in lacking for variant in range(recipe.variants)]


def _verdicts(
    work: Work, unit: WorkUnit, made: list[Visualization], variants: int
) -> dict[tuple[int, int], dict[str, object]]:
    """By unit and variant, what is left of each picture under natural changes."""
    from pipeline.visualize.natural import Picture, natural_rows

    model, found = work.model(unit.slug), {}
    site = model.description.ffn_sites[work.layer(unit)]
    for variant in range(variants):
        own = {
            one.address.unit: None if one.status == "failed" else Picture(one.webp, one.activation_start)
            for one in made
            if one.variant == variant
        }
        for row in natural_rows(model, site, own, work.inputs.settings.natural, work.batch, work.step):
            told = {name: value for name, value in row.items() if name not in ("unit", "natural_kinds")}
            found[int(str(row["unit"])), variant] = told
    return found


def _photographs(work: Work, unit: WorkUnit, count: int) -> dict[int, tuple[list[str], Tensor]]:
    """Of each neuron that some probe image excites, the names and the pixels of its `count` strongest: float
    (count, 3, height, width) in [0, 1]. Where fewer are kept they come again, the strongest first.
    """
    import torch

    from pipeline.images.probe_set import batches

    strongest: dict[int, list[int]] = {}
    for row in work.rows("examples", unit, ["unit", "kind", "rank", "image_index"]):
        if row["kind"] == "top" and row["rank"] < count:
            strongest.setdefault(row["unit"], []).append(row["image_index"])
    wanted = sorted({index for own in strongest.values() for index in own})
    images = work.inputs.images
    pixels: dict[int, Tensor] = {}
    for numbers, some in batches(images, wanted, work.model(unit.slug).description, work.batch):
        work.step()
        pixels.update(zip((int(number) for number in numbers), some, strict=True))
    chosen = {one: [own[place % len(own)] for place in range(count)] for one, own in strongest.items()}
    return {
        one: ([images.images[index].id for index in own], torch.stack([pixels[index] for index in own]))
        for one, own in chosen.items()
    }


def _without(work: Work, unit: int, recipe_name: str, variant: int) -> dict[str, Any]:
    """The row of a neuron that has no photograph to start from."""
    from pipeline.visualize.recipes import recipe_named

    return {
        "unit": unit,
        "recipe": recipe_name,
        "variant": variant,
        "status": "failed",
        "status_reason": NO_PHOTOGRAPH,
        "image_steps": 0,
        "seconds": 0.0,
        "recipe_hash": recipe_named(recipe_name).hash,
        "precision": work.precision or "float32",
        "seed": work.inputs.seed,
    }


def _with(recipe_name: str, sizes: Sizes) -> Sizes:
    from pipeline.visualize.recipes import recipe_named

    return replace(sizes, recipe=recipe_named(recipe_name))


def cost(recipe_name: str, sizes: Sizes) -> Cost:
    """As of the main picture and its verdict, for each variant."""
    own = _with(recipe_name, sizes)
    made, judged = visualize.cost(own), visualize.verdict_cost(own)
    variants = own.recipe.variants
    picture = visualize.BYTES_PER_ROW + visualize.BYTES_PER_PIXEL * math.prod(sizes.description.input_size)
    return Cost(each=variants * (made.each + judged.each), bytes=variants * picture)


def memory(recipe_name: str, sizes: Sizes, batch: int) -> float:
    """As of the main picture."""
    return visualize.memory(_with(recipe_name, sizes), batch)


def stage_of(name: str, recipe: str) -> Stage:
    """The stage that makes a recipe's pictures."""
    begins = recipe in FROM_PHOTOGRAPHS
    compute: Callable[[Work, WorkUnit], Any] = partial(pictures, recipe)
    return Stage(
        name=name,
        does=f"Makes further pictures of each neuron by the recipe {recipe}, and judges them (`--also {recipe}`)",
        group="",
        cut="neurons",
        reads=("examples",) if begins else (),
        facts=(f"recipe {recipe}", "seed", "picture settings", "natural settings", *(("images",) if begins else ())),
        compute=compute,
        cost=partial(cost, recipe),
        memory=partial(memory, recipe),
    )


PICTURES = tuple(stage_of(name, recipe) for name, recipe in PICTURE_STAGES)
