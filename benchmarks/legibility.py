"""Does a picture tell what its neuron likes? Other models read the attribute that the neuron's label names off it.

    python -m benchmarks.legibility ATLAS [--recipes fast,reference] [--neurons 6] [--out FILE]

The zoo's scenes have known attributes, and each zoo model was trained to tell them. Of the neurons of an atlas of the
zoo, those count whose label names one value of one attribute and tells held-out scenes apart with an AUROC of 0.85 or
more. A picture of such a neuron is shown to the seven models that did not make it: the share of them that answer with
the label's value is its legibility. Beside it stand chance (one over the number of values) and the same models' answers
for the neuron's strongest probe image, which no picture need exceed. Shares are means over neurons, with the standard
error; each recipe makes pictures of the same neurons, and beside it stands the difference to the atlas's, by neuron.

Without --recipes the pictures of the atlas itself are read, of all such neurons.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from atlas_schema.read import Atlas
from atlas_schema.store import Store
from benchmarks.machine import description, public, put
from pipeline import zoo
from pipeline.models import ModelRequest, load
from pipeline.visualize.ascent import visualize
from pipeline.visualize.picture import decode
from pipeline.visualize.recipes import recipe_named
from pipeline.zoo.captions import prompts
from pipeline.zoo.train import predict
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, Scenes, scenes

CLEAR = 0.85  # AUROC on held-out images from which a label counts as certain
VALUES = {text: (name, value) for name in ATTRIBUTES for value, text in enumerate(prompts(name))}
COLUMNS = ("unit", "image", "status", "label", "label_auroc", "verdict")


@dataclass(frozen=True)
class Clear:
    """A neuron whose label names one value of one attribute."""

    model: str  # the zoo's name
    layer: int
    depth: float  # layer over the last layer
    unit: int
    attribute: str
    value: int
    picture: bytes  # the atlas's
    strongest: int  # the probe image that excites it most
    verdict: str | None


def clear_neurons(atlas: Atlas, name: str) -> Iterable[Clear]:
    """Of one model of the zoo, by layer and unit."""
    slug = f"zoo-{name}"
    layers = atlas.layers(slug)
    for layer in layers:
        rows, examples = atlas.neurons(slug, layer, COLUMNS), atlas.examples(slug, layer)
        if rows is None or examples is None:
            continue
        top = {
            row["unit"]: row["image_index"]
            for row in examples.select(["unit", "kind", "rank", "image_index"]).to_pylist()
            if row["kind"] == "top" and row["rank"] == 0
        }
        for row in rows.to_pylist():
            known = VALUES.get(row["label"] or "")
            if known and row["label_auroc"] >= CLEAR and row["status"] == "active" and row["unit"] in top:
                place = (name, layer, layer / max(layers), row["unit"])
                yield Clear(*place, *known, row["image"]["bytes"], top[row["unit"]], row["verdict"])


def readers() -> dict[str, Any]:
    """All models of the zoo, with their classifiers or text towers."""
    made = {}
    for name in zoo.ZOO:
        made[name] = zoo.build(name)
        made[name].load_state_dict(zoo.load_state(name))
    return made


def answers(models: Mapping[str, Any], images: np.ndarray) -> dict[str, np.ndarray]:
    """What each model sees in each picture: int64 (picture, attribute). images: uint8 (picture, side, side, 3)."""
    batch = Scenes(images, np.zeros(images.shape[:3], bool), np.zeros((len(images), len(ATTRIBUTES)), np.int64))
    return {name: predict(name, model, batch) for name, model in models.items()}


def legibility(neurons: Sequence[Clear], seen: Mapping[str, np.ndarray]) -> np.ndarray:
    """Share of the other models that answer rightly, of each neuron's picture: float64 (neurons,)."""
    column = list(ATTRIBUTES)
    return np.array(
        [
            np.mean([seen[name][at, column.index(one.attribute)] == one.value for name in seen if name != one.model])
            for at, one in enumerate(neurons)
        ]
    )


def table(neurons: Sequence[Clear], shares: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """By attribute: neurons, chance, and of each way the mean share with its standard error; by depth thirds too."""
    groups: dict[str, list[int]] = defaultdict(list)
    for at, one in enumerate(neurons):
        groups[one.attribute].append(at)
        groups[f"{one.attribute}, {('first', 'middle', 'last')[min(2, int(3 * one.depth))]} third"].append(at)
        groups["all"].append(at)
    told = {}
    for group, members in sorted(groups.items()):
        attribute = group.partition(",")[0]
        told[group] = {"neurons": len(members)}
        if attribute in ATTRIBUTES:
            told[group]["chance"] = round(1 / len(ATTRIBUTES[attribute]), 3)
        for way, values in shares.items():
            told[group][way] = mean_and_error(values[members])
            if way not in ("atlas", "strongest image"):
                told[group][f"{way} - atlas"] = mean_and_error((values - shares["atlas"])[members])
    return told


def mean_and_error(values: np.ndarray) -> list[float]:
    """[mean, its standard error], to three digits behind the point."""
    return [round(float(values.mean()), 3), round(float(values.std() / len(values) ** 0.5), 3)]


def remade(neurons: Sequence[Clear], recipe: str) -> np.ndarray:
    """Pictures of the neurons by a recipe: uint8 (neuron, side, side, 3)."""
    images: dict[int, np.ndarray] = {}
    for name in dict.fromkeys(one.model for one in neurons):
        model = load(ModelRequest(f"zoo/{name}"))
        for layer in sorted({one.layer for one in neurons if one.model == name}):
            members = [at for at, one in enumerate(neurons) if (one.model, one.layer) == (name, layer)]
            site = model.description.ffn_sites[layer]
            made = visualize(model, site, [neurons[at].unit for at in members], recipe_named(recipe))
            images |= {at: decode(one.webp) for at, one in zip(members, made, strict=True)}
            print(f"{recipe}: {name} layer {layer}, {len(members)} pictures", file=sys.stderr, flush=True)
    return np.stack([images[at] for at in range(len(neurons))])


def few(neurons: Iterable[Clear], most: int, skip: int = 0) -> list[Clear]:
    """At most so many of each model, layer and attribute, by unit; without the first `skip` of these."""
    counts: dict[tuple[str, int, str], int] = defaultdict(int)
    chosen = []
    for one in neurons:
        counts[one.model, one.layer, one.attribute] += 1
        if skip < counts[one.model, one.layer, one.attribute] <= skip + most:
            chosen.append(one)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", help="an atlas of the zoo with labels and exciting images, on probe zoo:1000")
    parser.add_argument("--recipes", default="", help="recipes to make pictures with, separated by commas")
    parser.add_argument("--neurons", type=int, default=6, help="of each model, layer and attribute, with --recipes")
    parser.add_argument("--skip", type=int, default=0, help="neurons of each that a choice was made on: left out")
    parser.add_argument("--models", default=",".join(zoo.ZOO), help="whose neurons")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", help="a file for the report")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    atlas = Atlas(Store(asked.atlas))
    neurons = [one for name in asked.models.split(",") for one in clear_neurons(atlas, name)]
    if asked.recipes:
        neurons = few(neurons, asked.neurons, asked.skip)
    models = readers()
    shown = {"atlas": np.stack([decode(one.picture) for one in neurons])}
    shown |= {recipe: remade(neurons, recipe) for recipe in filter(None, asked.recipes.split(","))}
    indices = sorted({one.strongest for one in neurons})
    drawn = scenes(HELD_OUT_SEED, indices).images
    shown["strongest image"] = np.stack([drawn[indices.index(one.strongest)] for one in neurons])
    shares = {way: legibility(neurons, answers(models, images)) for way, images in shown.items()}
    report = {
        "benchmark": "legibility",
        "command": " ".join(["python -m benchmarks.legibility", *public(sys.argv[1:])]),
        "machine": description(),
        "shares": table(neurons, shares),
        "by verdict": {
            verdict: [members.count(True), round(float(shares["atlas"][members].mean()), 3)]
            for verdict in ("holds", "partly", "does not")
            if True in (members := [one.verdict == verdict for one in neurons])
        },
    }
    put(report, asked.out)


if __name__ == "__main__":
    main()
