"""The stages of inversions: one for each recipe, cut along targets, the classes of a classifier and texts of a CLIP."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas_schema.inversion_recipes import INVERSION_STAGES
from jobs.stages.stage import GRAPH, PIXEL_COPIES, Cost, Sizes, Stage
from jobs.stages.visualize import BYTES_PER_PIXEL, BYTES_PER_ROW

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.invert.judge import Inversion
    from pipeline.invert.targets import Outputs, Target
    from pipeline.models import LoadedModel


def inversions(recipe_name: str, work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Rows of the unit's targets: each picture, and what the model itself makes of it."""
    from pipeline.invert.ascent import invert
    from pipeline.invert.judge import judged
    from pipeline.invert.recipes import inversion_recipe

    model, inputs, recipe = work.model(unit.slug), work.inputs, inversion_recipe(recipe_name)
    outputs, targets = _outputs(work, unit, model)
    began = time.monotonic()
    batch = max(1, work.batch // recipe.copies)
    pictures = invert(model, outputs, targets, recipe, seed=inputs.seed, batch=batch, on_step=work.step)
    done = judged(model, outputs, targets, pictures, recipe, inputs.seed, inputs.settings.natural, work.step)
    seconds = (time.monotonic() - began) / len(targets)
    return [_row(one, model, outputs, seconds, unit) for one in done]


def _outputs(work: Work, unit: WorkUnit, model: LoadedModel) -> tuple[Outputs, list[Target]]:
    """The model's outputs, and the unit's targets among them."""
    from dataclasses import replace

    from jobs.chunks import chunk_of
    from pipeline.invert.targets import class_outputs, text_outputs
    from pipeline.label.embedder import load_embedder

    targets = chunk_of(work.inputs.targets[unit.slug], unit.cut)
    if targets[0].kind == "class":
        return class_outputs(model), list(targets)
    work.step()
    embedder = load_embedder(work.request(unit.slug), work.device, vision=model)
    outputs = text_outputs(model, embedder, [one.text for one in targets])
    return outputs, [replace(one, index=index) for index, one in enumerate(targets)]


def _row(one: Inversion, model: LoadedModel, outputs: Outputs, seconds: float, unit: WorkUnit) -> dict[str, Any]:
    import torch

    from pipeline.models.device import dtype_of

    is_class = one.target.kind == "class"
    rivals = int(outputs.rivals(torch.tensor([one.target.index])).sum()) if is_class else None
    there = one.webp is not None
    return {
        "address": one.address,
        "slug": one.slug,
        "recipe": one.recipe.name,
        "variant": 0,
        "kind": one.target.kind,
        "index": one.target.index if is_class else None,
        "target": one.target.text,
        "image": {"bytes": one.webp, "path": None} if there else None,
        "status": "made" if there else "failed",
        "status_reason": None if there else "the ascent left the finite numbers",
        "score": one.score,
        "rank": one.rank if is_class else None,
        "rivals": rivals if there else None,
        "natural_score": one.natural_score,
        "natural_right": one.natural_right if is_class else None,
        "natural_kinds": [
            {"kind": kind, "score": score, "right": right if is_class else None}
            for kind, score, right in one.natural_kinds
        ]
        if there
        else None,
        "image_steps": one.recipe.image_steps,
        "seconds": seconds,
        "recipe_hash": one.recipe.hash,
        "precision": "float64" if dtype_of(model) == torch.float64 else "float32",
        "seed": one.seed,
        "together": getattr(unit.cut, "digest", ""),
    }


def cost(recipe_name: str, sizes: Sizes) -> Cost:
    """Forwards and backwards of each step, and forwards of the changed copies by which a picture is judged."""
    from pipeline.invert.recipes import inversion_recipe
    from pipeline.visualize.natural import CHANGES, NaturalSettings

    steps, copies = inversion_recipe(recipe_name).image_steps, 1 + NaturalSettings().draws * len(CHANGES)
    picture = BYTES_PER_ROW + BYTES_PER_PIXEL * math.prod(sizes.description.input_size)
    return Cost(each=(2 * steps + copies) * sizes.forward, bytes=picture)


def memory(recipe_name: str, sizes: Sizes, batch: int) -> float:
    """What a forward keeps for its backward, of all pictures of a step."""
    from pipeline.invert.recipes import inversion_recipe

    pictures = max(batch, inversion_recipe(recipe_name).copies) if batch else 0
    return sizes.all_weights + pictures * (GRAPH * sizes.hidden_up_to_site + PIXEL_COPIES * sizes.pixels)


def stage_of(name: str, recipe: str) -> Stage:
    """The stage that makes the pictures of a recipe."""
    compute: Callable[[Work, WorkUnit], Any] = partial(inversions, recipe)
    return Stage(
        name=name,
        does=f"Makes pictures of classes and texts by the recipe {recipe} (`--classes`, `--prompts`), and judges them",
        group="",
        cut="targets",
        facts=(f"inversion recipe {recipe}", "seed", "natural settings"),
        names_classes=True,
        compute=compute,
        cost=partial(cost, recipe),
        memory=partial(memory, recipe),
    )


INVERSIONS = tuple(stage_of(name, recipe) for name, recipe in INVERSION_STAGES)
