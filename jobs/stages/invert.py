"""The stages of inversions, two a recipe: pictures of classes and texts, and what other models read off these."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas_schema.inversion_recipes import INVERSION_STAGES, READING_STAGES
from jobs.stages.stage import GRAPH, LEAST_FLOPS, PIXEL_COPIES, Cost, Sizes, Stage
from jobs.stages.visualize import BYTES_PER_PIXEL, BYTES_PER_ROW, PICTURE_STEP

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.invert.judge import Inversion
    from pipeline.invert.targets import Outputs, Target
    from pipeline.models import LoadedModel


def inversions(recipe_name: str, work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Rows of the unit's targets: each of their pictures, and what the model itself makes of it."""
    from pipeline.invert.ascent import invert
    from pipeline.invert.judge import judged
    from pipeline.invert.recipes import inversion_recipe

    model, inputs, recipe = work.model(unit.slug), work.inputs, inversion_recipe(recipe_name)
    outputs, targets = _outputs(work, unit, model)
    began = time.monotonic()
    batch = max(1, work.batch // recipe.copies)
    pictures = invert(model, outputs, targets, recipe, seed=inputs.seed, batch=batch, on_step=work.step)
    done = judged(model, outputs, targets, pictures, recipe, inputs.seed, inputs.settings.natural, work.step)
    seconds = (time.monotonic() - began) / len(done)
    return [row_of(one, model, outputs, seconds, unit) for one in done]


def _outputs(work: Work, unit: WorkUnit, model: LoadedModel) -> tuple[Outputs, list[Target]]:
    """The model's outputs, and the unit's targets among them."""
    from jobs.chunks import chunk_of
    from pipeline.invert.targets import class_outputs, text_outputs
    from pipeline.label.embedder import load_embedder

    targets = chunk_of(work.inputs.targets[unit.slug], unit.cut)
    if targets[0].kind == "class":
        return class_outputs(model), list(targets)
    work.step()
    embedder = load_embedder(work.request(unit.slug), work.device, vision=model)
    outputs = text_outputs(model, embedder, [one.text for one in targets], work.inputs.prompt_pictures)
    return outputs, [replace(one, index=index) for index, one in enumerate(targets)]


def row_of(
    one: Inversion, model: LoadedModel, outputs: Outputs | None, seconds: float, unit: WorkUnit
) -> dict[str, Any]:
    """The row of a picture. outputs: of a head None, which competes with nothing."""
    import torch

    from pipeline.models.device import dtype_of

    is_class = one.target.kind == "class"
    rivals = int(outputs.rivals(torch.tensor([one.target.index])).sum()) if is_class and outputs else None
    there = one.webp is not None
    return {
        "address": one.address,
        "slug": one.slug,
        "recipe": one.recipe.name,
        "variant": one.variant,
        "kind": one.target.kind,
        "index": one.target.index if is_class else None,
        "target": one.target.text,
        "head": None,
        "direction": None,
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
        "projection": one.projection,
        "deviations": one.deviations,
        "natural_deviations": one.natural_deviations,
        "image_steps": one.recipe.image_steps,
        "seconds": seconds,
        "recipe_hash": one.recipe.hash,
        "precision": "float64" if dtype_of(model) == torch.float64 else "float32",
        "seed": one.seed,
        "together": getattr(unit.cut, "digest", ""),
    }


def transfer(recipe_name: str, work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Rows of what another model reads off the unit's pictures."""
    import torch

    from atlas_schema.units import Readings, Targets
    from jobs.chunks import chunk_of
    from pipeline.invert.targets import class_outputs, text_outputs
    from pipeline.invert.transfer import counterpart_classes, read
    from pipeline.label.embedder import load_embedder
    from pipeline.visualize.picture import stored_pixels

    assert isinstance(unit.cut, Readings)
    cut, reader = Targets(unit.cut.stop, unit.cut.digest), work.model(unit.cut.partner)
    targets = chunk_of(work.inputs.targets[unit.slug], cut)
    rows = work.rows_of(f"invert-{recipe_name}", unit.slug, cut).to_pylist()
    by_address = {target.address(unit.slug): target for target in targets}
    is_class = targets[0].kind == "class"
    if is_class:
        outputs = class_outputs(reader)
        found = counterpart_classes(
            [by_address[row["address"]] for row in rows], outputs.names, (unit.slug, unit.cut.partner)
        )
    else:
        embedder = load_embedder(work.request(unit.cut.partner), work.device, vision=reader)
        outputs = text_outputs(reader, embedder, [row["target"] for row in rows], work.inputs.prompt_pictures)
        found = list(range(len(rows)))
    places = [place for place, row in enumerate(rows) if row["image"]]
    work.step()
    if places:
        pixels = torch.stack([stored_pixels(rows[place]["image"]["bytes"]) for place in places])
        said = read(reader, outputs, [found[place] for place in places], pixels, batch=work.batch)
    told: list[dict[str, Any]] = []
    at = {place: number for number, place in enumerate(places)}  # among the pictures that were read
    for place, row in enumerate(rows):
        one = {name: row[name] for name in ("address", "slug", "recipe", "variant", "together")}
        one |= {"reader": unit.cut.partner, "score": None, "rank": None, "rivals": None}
        if place in at:
            one["score"] = float(said.score[at[place]])
            if is_class:
                one["rank"] = int(said.rank[at[place]])
                one["rivals"] = int(outputs.rivals(torch.tensor([found[place]])).sum())
        told.append(one)
    return told


def transfer_cost(recipe_name: str, sizes: Sizes) -> Cost:
    """A forward of each picture through the reader."""
    from pipeline.invert.recipes import inversion_recipe

    assert sizes.partner is not None
    each, pictures = (
        max(sizes.partner.forward_flops, LEAST_FLOPS) + sizes.opened,
        inversion_recipe(recipe_name).variants,
    )
    return Cost(each=pictures * each, bytes=pictures * 40)


def transfer_memory(sizes: Sizes, batch: int) -> float:
    """The reader's weights and a forward; where none reads, nothing."""
    if sizes.partner is None:
        return 0.0
    reader = replace(sizes, description=sizes.partner, site=None)
    return reader.all_weights + reader.forward_bytes(batch)


def cost(recipe_name: str, sizes: Sizes) -> Cost:
    """Forwards and backwards of each step, as of a picture of a neuron, and forwards of the copies that judge it."""
    from pipeline.invert.recipes import inversion_recipe
    from pipeline.visualize.natural import CHANGES, NaturalSettings

    recipe, copies = inversion_recipe(recipe_name), 1 + NaturalSettings().draws * len(CHANGES)
    picture = BYTES_PER_ROW + BYTES_PER_PIXEL * math.prod(sizes.description.input_size)
    step = 2 * sizes.forward + PICTURE_STEP * sizes.opened
    step *= 1.5 if recipe.variants > 1 else 1  # likeness of variants: half of the network once more
    each = recipe.image_steps * step + copies * (sizes.forward + sizes.opened)
    return Cost(each=recipe.variants * each, bytes=recipe.variants * picture)


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
        inverts=("class", "text"),
        facts=(f"inversion recipe {recipe}", "seed", "natural settings"),
        names_classes=True,
        compute=compute,
        cost=partial(cost, recipe),
        memory=partial(memory, recipe),
    )


def transfer_of(name: str, recipe: str) -> Stage:
    """The stage in which other models read the pictures of a recipe."""
    return Stage(
        name=name,
        does=f"Shows the inversions of the recipe {recipe} to the other models of the run that have the same classes",
        group="",
        cut="readings",
        reads=(f"invert-{recipe}",),
        names_classes=True,
        compute=partial(transfer, recipe),
        cost=partial(transfer_cost, recipe),
        memory=transfer_memory,
    )


TRANSFERS = tuple(transfer_of(name, recipe) for name, recipe in READING_STAGES)
INVERSIONS = tuple(stage_of(name, recipe) for name, recipe in INVERSION_STAGES)
