"""What other models of the zoo read off the inversions of its classes, and of the sentences of its CLIP.

    python -m benchmarks.invert [--recipes fast,pii,pixels] [--models vit,swin,clip] [--classes 0-7] [--sheet FILE]
    python -m benchmarks.invert --recipes pii --state FILE.jsonl --out docs/benchmarks/NAME.json

Each classifier is inverted for all 40 values of the six attributes; the stored pictures are read by the other six. The
CLIP is inverted for a sentence about each value ("a red object"), and read by the seven classifiers.
Right is a reader that finds the target first among the values of its attribute. Beside it: chance, and the ceiling,
what the same readers say of real scenes with that value (24 held-out scenes a value). `pixels` is a recipe of this
script: U[0, 1] noise, eight colour-shifted copies, 200 steps, which is Plug-In Inversion without its stages.

`pii` takes one to three minutes a target of a core: with --state every batch of results is kept, and the next run goes
on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.machine import description, public, put
from benchmarks.recipes import JUDGED_BY, State
from pipeline.invert.ascent import PICTURES_AT_ONCE, invert
from pipeline.invert.judge import Inversion, judged
from pipeline.invert.recipes import InversionRecipe, InversionStage, inversion_recipe
from pipeline.invert.targets import Outputs, Target, class_outputs, targets_of, text_outputs
from pipeline.invert.transfer import chance, read
from pipeline.label.embedder import load_embedder
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.visualize.recipes import Ascent, Phase
from pipeline.zoo import READS_TEXT, ZOO, output_names
from pipeline.zoo.captions import prompts
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, scenes

CLASSIFIERS = tuple(name for name in ZOO if name not in READS_TEXT)
SCENES = 24  # of each value
GAP = 16  # pixels between blocks of a sheet
PIXELS = InversionRecipe(
    name="pixels",
    version=1,
    stages=(
        InversionStage(
            ascent=Ascent(parameterization="pixels", phases=(Phase(steps=200, copies=8),), learning_rate=0.1)
        ),
    ),
    colour="multiply",
)


@dataclass(frozen=True)
class Reader:
    """A model of the zoo that is inverted, or reads what others were inverted to."""

    name: str
    model: LoadedModel
    outputs: Outputs


def sentences() -> Reader:
    """The zoo's CLIP, whose outputs are its cosines with a sentence about each value, in the order of the classes."""
    clip = load_embedder(ModelRequest("zoo/clip"))
    texts = [text for attribute in ATTRIBUTES for text in prompts(attribute)]
    return Reader("clip", clip.vision, text_outputs(clip.vision, clip, texts))


def recipe_of(name: str, copies: int) -> InversionRecipe:
    """A recipe by name, with so many copies where it has several."""
    recipe = PIXELS if name == "pixels" else inversion_recipe(name)
    stages = []
    for stage in recipe.stages:
        phases = tuple(replace(one, copies=min(one.copies, copies)) for one in stage.ascent.phases)
        stages.append(replace(stage, ascent=replace(stage.ascent, phases=phases)))
    return replace(recipe, stages=tuple(stages))


def transferred(readers: list[Reader], own: Reader, index: list[int], pictures: Tensor) -> np.ndarray:
    """(readers other than `own`, targets): whether each reads the target off its picture."""
    others = [one for one in readers if one is not own]
    return np.stack([read(one.model, one.outputs, index, pictures).right.numpy() for one in others])


def ceiling(readers: list[Reader], targets: list[Target]) -> np.ndarray:
    """(readers, targets): the share of real scenes with the target's value that each reads rightly."""
    found = np.empty((len(readers), len(targets)))
    for place, target in enumerate(targets):
        attribute, _, value = target.text.partition(": ")
        own = torch.from_numpy(scenes(HELD_OUT_SEED, range(SCENES), {attribute: value}).images)
        pixels = own.permute(0, 3, 1, 2).float() / 255
        for row, one in enumerate(readers):
            right = read(one.model, one.outputs, [target.index] * SCENES, pixels).right
            found[row, place] = right.float().mean()
    return found


def by_attribute(values: np.ndarray, index: list[int]) -> dict[str, float]:
    """Means over the readers and the targets of each attribute; `all` is the mean over all targets."""
    told, names = {}, output_names(CLASSIFIERS[0])
    for attribute in ATTRIBUTES:
        places = [place for place, one in enumerate(index) if names[one].startswith(f"{attribute}: ")]
        if places:
            told[attribute] = round(float(values[..., places].mean()), 3)
    return told | {"all": round(float(values.mean()), 3)}


def measured(
    reader: Reader, readers: list[Reader], targets: list[Target], recipe: InversionRecipe, state: State
) -> tuple[list[dict[str, Any]], list[Inversion]]:
    """What a model's inversions reach, a row a target, from `state` where it has it; and those that were made now."""
    keys = {target.index: key_of(reader, readers, target, recipe) for target in targets}
    missing = [target for target in targets if state.of(keys[target.index]) is None]
    made: list[Inversion] = []
    step = max(1, PICTURES_AT_ONCE["cpu"] // recipe.copies)
    for some in (missing[begin : begin + step] for begin in range(0, len(missing), step)):
        began = time.process_time()
        pictures = invert(reader.model, reader.outputs, some, recipe)
        seconds = (time.process_time() - began) / len(some)
        own = judged(reader.model, reader.outputs, some, pictures, recipe, 0)
        right = transferred(readers, reader, [one.index for one in some], torch.stack([one.pixels() for one in own]))
        state.add(
            [
                {
                    "key": keys[one.target.index],
                    "score": one.score,
                    "rank": one.rank,
                    "natural_right": one.natural_right,
                    "right": right[:, column].tolist(),
                    "process_seconds": seconds,
                }
                for column, one in enumerate(own)
            ]
        )
        made += own
        print(f"{recipe.name} {reader.name}: {len(some)}, {seconds:.1f} s each", file=sys.stderr, flush=True)
    return [state.rows[keys[target.index]] for target in targets], made


def key_of(reader: Reader, readers: list[Reader], target: Target, recipe: InversionRecipe) -> str:
    """Everything that decides a result: weights of the model and of those that read, the recipe's settings, the natural
    changes that judge it, target."""
    read_by = "".join(one.model.fingerprint for one in readers if one is not reader)
    digest = hashlib.sha256(read_by.encode()).hexdigest()[:16]
    settings = (recipe.name, recipe.hash, JUDGED_BY)
    return " ".join([reader.model.fingerprint[:16], digest, *settings, *map(str, target.key(""))])


def figures(rows: list[dict[str, Any]], targets: list[Target], limit: np.ndarray) -> dict[str, Any]:
    """What is told of one model's inversions by one recipe."""
    right = np.array([one["right"] for one in rows], dtype=float).T
    error = right.mean(0).std(ddof=1) / np.sqrt(right.shape[1]) if right.shape[1] > 1 else 0.0
    return {
        "process_seconds_a_target": round(float(np.mean([one["process_seconds"] for one in rows])), 3),
        "own_score": round(float(np.mean([one["score"] for one in rows])), 3),
        "own_right": round(float(np.mean([one["rank"] == 1 for one in rows])), 3),
        "natural_right": round(float(np.mean([one["natural_right"] for one in rows])), 3),
        "transfer": by_attribute(right, [target.index for target in targets]),
        "standard_error_over_targets": round(float(error), 3),
        "share_of_ceiling": round(float(right.mean() / limit.mean()), 3),
    }


def sheet(rows: list[list[Inversion]]) -> Image.Image:
    """A block for each model and recipe, side by side: an attribute a row, its values from left to right."""
    blocks = [_block(made) for made in rows]
    gap = np.ones((blocks[0].shape[0], GAP, 3))
    joined = [part for block in blocks for part in (block, gap)][:-1]
    return Image.fromarray((np.concatenate(joined, axis=1) * 255).round().astype(np.uint8))


def _block(made: list[Inversion]) -> np.ndarray:
    names = output_names(CLASSIFIERS[0])
    by = {attribute: [one for one in made if names[one.target.index].startswith(attribute)] for attribute in ATTRIBUTES}
    filled = [own for own in by.values() if own]
    height, width = made[0].pixels().shape[1:]
    block = np.ones((len(filled) * height, max(map(len, filled)) * width, 3))
    for row, own in enumerate(filled):
        for column, one in enumerate(own):
            place = block[row * height : (row + 1) * height, column * width : (column + 1) * width]
            place[:] = one.pixels().permute(1, 2, 0).numpy()
    return block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", default="fast", help="of fast, pii, pixels")
    parser.add_argument(
        "--models",
        default=",".join(CLASSIFIERS),
        help="that are inverted, classifiers or clip; all seven classifiers read",
    )
    parser.add_argument("--classes", default="", help="names, indices or ranges of classes, separated by commas")
    parser.add_argument("--copies", type=int, default=8, help="of a picture in a step, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheet", help="where the pictures are drawn, as a file of pictures")
    parser.add_argument("--state", help="JSON lines: what each inversion reached, kept and reused")
    parser.add_argument("--out")
    asked = parser.parse_args()
    several = [name for name in asked.recipes.split(",") if name != "pixels" and inversion_recipe(name).variants > 1]
    if several:
        parser.error(
            f"--recipes {several[0]}: makes several pictures of a target, expected one; see inversion_readings"
        )
    if asked.sheet and asked.state:
        parser.error("--sheet draws what this run makes, and --state keeps no pictures; leave one of them out")
    torch.set_num_threads(asked.threads)
    loaded = [(name, load(ModelRequest(f"zoo/{name}"))) for name in CLASSIFIERS]
    readers = [Reader(name, model, class_outputs(model)) for name, model in loaded]
    targets = targets_of(readers[0].outputs, [one for one in asked.classes.split(",") if one])
    index = [target.index for target in targets]
    state = State(asked.state)
    limits, rows, told, wanted = ceiling(readers, targets), [], {}, asked.models.split(",")
    for name in asked.recipes.split(","):
        recipe, results = recipe_of(name, asked.copies), {}
        for place, reader in enumerate([*readers, *([sentences()] if "clip" in wanted else [])]):
            if reader.name not in wanted:
                continue
            own = [Target(reader.outputs.kind, one, reader.outputs.names[one]) for one in index]
            known, made = measured(reader, readers, own, recipe, state)
            limit = np.delete(limits, place, axis=0) if place < len(readers) else limits
            results[reader.name] = figures(known, own, limit)
            print(f"{name} {reader.name}: {results[reader.name]}", file=sys.stderr, flush=True)
            rows.append(made)
        told[name] = {"image_steps": recipe.image_steps, "hash": recipe.hash, "models": results, **mean_of(results)}
    report = {
        "command": public(sys.argv),
        "machine": description(),
        "targets": len(targets),
        "chance": by_attribute(chance(readers[0].outputs, index).numpy(), index),
        "ceiling": by_attribute(limits, index),
        "recipes": told,
    }
    if asked.sheet:
        sheet(rows).save(Path(asked.sheet), quality=90)
    put(report, asked.out)


def mean_of(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over the models that were inverted."""
    values = list(results.values())
    attributes = values[0]["transfer"]
    return {
        "transfer": {key: round(float(np.mean([one["transfer"][key] for one in values])), 3) for key in attributes},
        **{
            key: round(float(np.mean([one[key] for one in values])), 3)
            for key in ("share_of_ceiling", "own_right", "natural_right", "process_seconds_a_target")
        },
    }


if __name__ == "__main__":
    main()
