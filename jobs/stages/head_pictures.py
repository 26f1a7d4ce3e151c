"""The stages of what heads look like, one a recipe: pictures that climb what a head adds along its directions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas_schema.inversion_recipes import HEAD_PICTURE_STAGES
from jobs.stages.heads import contributing_of
from jobs.stages.invert import cost, memory, row_of
from jobs.stages.stage import Cost, Sizes, Stage

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.invert.heads import HeadOutputs
    from pipeline.invert.targets import Target

#: What a step costs, over one of a class, as contributions are replayed beside the ascent: the zoo's ViT 1.4, CoaT 1.6.
PASSES = 1.6


def head_pictures(recipe_name: str, work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Rows of the unit's directions: each picture, and how far it brings its head."""
    from pipeline.invert.ascent import invert
    from pipeline.invert.head_judge import judged_heads
    from pipeline.invert.recipes import inversion_recipe

    model, inputs, recipe = work.model(unit.slug), work.inputs, inversion_recipe(recipe_name)
    outputs, targets, told = _outputs(work, unit)
    began = time.monotonic()
    batch = max(1, work.batch // recipe.copies)
    pictures = invert(model, outputs, targets, recipe, seed=inputs.seed, batch=batch, on_step=work.step)
    done = judged_heads(outputs, targets, pictures, recipe, inputs.seed, inputs.settings.natural, work.step)
    seconds = (time.monotonic() - began) / len(done)
    lacking = "the head has no such direction: no text, or no axis, is left to explain what it adds"
    rows = []
    for place, one in enumerate(done):
        target = place // recipe.variants
        own, there = told[target], bool(outputs.there[target])
        row = row_of(one, model, None, seconds, unit) | own
        rows.append(row if there else row | {"status_reason": lacking})
    return rows


def _outputs(work: Work, unit: WorkUnit) -> tuple[HeadOutputs, list[Target], list[dict[str, str]]]:
    """The directions of the unit, its targets among them, and what their rows say of head and direction."""
    import torch

    from jobs.chunks import chunk_of
    from pipeline.decompose.moments import ContributionMoments
    from pipeline.decompose.spans import Spans, direction_names
    from pipeline.invert.heads import HeadOutputs

    slug, contributing = unit.slug, work.shared(unit.slug, contributing_of)
    moments = ContributionMoments.of(work.arrays("decompose", slug))
    spans, pool = Spans.of(work.arrays("spans", slug)), work.inputs.head_texts.pool.texts
    targets = [replace(one, index=index) for index, one in enumerate(chunk_of(work.inputs.targets[slug], unit.cut))]
    names = direction_names(spans.directions.shape[1])
    sites = contributing.model.description.attention_sites
    numbers = {place: at for at, place in enumerate((site.layer, head) for site in sites for head in range(site.heads))}
    heads, directions, spread, told = [], [], [], []
    for target in targets:
        where, _, part = target.text.partition("/")
        layer, head = map(int, where.split("."))
        number, direction = numbers[layer, head], part.replace("-", " ")
        along = spans.directions[number, names.index(direction)].double()
        rank = int(direction.split()[1]) if direction.startswith("text") else -1
        text = int(spans.text[number, rank]) if rank >= 0 else -1
        words = f"along “{pool[text]}”" if text >= 0 else direction
        heads.append(number)
        directions.append(along)
        spread.append((moments.factor(number) @ along).norm() / moments.images.sqrt())
        told.append({"head": f"{slug}/head/{layer}/{head}", "direction": direction, "target": f"head {where}, {words}"})
        work.step()
    found = torch.stack(directions), moments.mean[heads].double(), torch.stack(spread)
    return HeadOutputs(contributing, tuple(heads), *found), targets, told


def head_cost(recipe_name: str, sizes: Sizes) -> Cost:
    """As of a class, with the replay of every step."""
    of_class = cost(recipe_name, sizes)
    return replace(of_class, each=PASSES * of_class.each)


def stage_of(name: str, recipe: str) -> Stage:
    """The stage that makes pictures of heads by a recipe."""
    compute: Callable[[Work, WorkUnit], Any] = partial(head_pictures, recipe)
    return Stage(
        name=name,
        does=f"Makes pictures of what heads add along their directions by the recipe {recipe} (`--head-pictures`)",
        group="",
        cut="targets",
        inverts=("head",),
        reads=("decompose", "spans"),
        facts=(f"inversion recipe {recipe}", "seed", "natural settings"),
        compute=compute,
        cost=partial(head_cost, recipe),
        memory=partial(memory, recipe),
    )


HEAD_PICTURES = tuple(stage_of(name, recipe) for name, recipe in HEAD_PICTURE_STAGES)
