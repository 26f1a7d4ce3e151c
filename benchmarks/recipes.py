"""What the pictures of several recipes reach, and what is left of it under natural changes, neuron by neuron.

    python -m benchmarks.recipes [--model zoo/vit] [--recipes fast,placed,reference] [--layers 0,1] [--units 6]

Each recipe makes a picture of the same neurons (drawn by the layer's number as seed); the stored picture is measured as
the stage verdict does, with changes that depend on the neuron alone. Told by layer: medians, the share of neurons whose
picture holds, and of how many neurons the natural mean and strongest patch are at least those of the last recipe named.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.machine import description, public, put
from pipeline.models import FfnSite, LoadedModel, ModelRequest, load
from pipeline.visualize.ascent import visualize
from pipeline.visualize.natural import NaturalSettings, Picture, natural_rows
from pipeline.visualize.recipes import recipe_named

FIGURES = ("clean", "natural_mean", "natural_peak")


def measured(model: LoadedModel, site: FfnSite, units: list[int], name: str) -> dict[str, Any]:
    """Of one recipe: process seconds and passes a neuron, and a list over units of each figure."""
    began = time.process_time()
    made = visualize(model, site, units, recipe_named(name))
    seconds = (time.process_time() - began) / len(units)
    pictures = {one.address.unit: Picture(one.webp, one.activation_start) for one in made}
    told = natural_rows(model, site, pictures, NaturalSettings())
    by_unit = {row["unit"]: row for row in told}
    rows = [by_unit[unit] for unit in units]
    return {
        "process_seconds": seconds,
        "passes": float(np.mean([one.image_steps for one in made])),
        "clean": [one.activation_stored for one in made],
        "natural_mean": [row["natural_mean"] for row in rows],
        "natural_peak": [row["natural_peak"] for row in rows],
        "holds": [row["verdict"] == "holds" for row in rows],
    }


def compared(found: dict[str, dict[str, Any]], last: str) -> dict[str, Any]:
    """The figures of one or several layers, by recipe."""
    told = {}
    for name, own in found.items():
        told[name] = {
            "process_seconds": round(float(own["process_seconds"]), 3),
            "passes": round(own["passes"], 1),
            "holds": round(float(np.mean(own["holds"])), 3),
            **{f"median_{key}": round(float(np.median(own[key])), 3) for key in FIGURES},
        }
        if name != last:
            for key in ("natural_mean", "natural_peak"):
                wins = np.array(own[key]) >= np.array(found[last][key])
                told[name][f"{key}_at_least_{last}"] = round(float(wins.mean()), 3)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="zoo/vit")
    parser.add_argument("--weights")
    parser.add_argument("--as", dest="name")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--recipes", default="placed,fast")
    parser.add_argument("--layers", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2, 3])
    parser.add_argument("--units", type=int, default=6, help="of each layer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load(ModelRequest(asked.model, weights=asked.weights, name=asked.name, input_size=asked.input_size))
    names, layers = asked.recipes.split(","), {}
    everything: dict[str, dict[str, Any]] = {}
    for layer in asked.layers:
        site = model.description.ffn_sites[layer]
        units = sorted(int(u) for u in np.random.default_rng(layer).permutation(site.width)[: asked.units])
        found = {name: measured(model, site, units, name) for name in names}
        layers[layer] = {"depth": round(site.depth, 3), "units": units, **compared(found, names[-1])}
        print(f"layer {layer}: {layers[layer]}", file=sys.stderr, flush=True)
        for name, own in found.items():
            pool = everything.setdefault(name, {key: [] for key in own})
            for key, value in own.items():
                pool[key] += value if isinstance(value, list) else [value]
    for pool in everything.values():
        pool |= {key: float(np.mean(pool[key])) for key in ("process_seconds", "passes")}
    report = {
        "benchmark": "recipes",
        "command": " ".join(["python -m benchmarks.recipes", *public(sys.argv[1:])]),
        "machine": description(),
        "model": model.description.slug,
        "recipes": {name: recipe_named(name).hash for name in names},
        "all": {"neurons": asked.units * len(asked.layers), **compared(everything, names[-1])},
        "layers": layers,
    }
    put(report, asked.out)


if __name__ == "__main__":
    main()
