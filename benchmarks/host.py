"""What a processor does for each picture while a GPU waits, and what that leaves of a GPU's time: an estimate.

    python -m benchmarks.host [--model timm/vit_base_patch16_224] [--threads 1,2] [--out docs/benchmarks/host.json]

Measured here, in milliseconds of a neuron, by the number of threads in turn (the least of several rounds, as others
share this machine): the random numbers of an ascent by `fast`, WebP encoding and reading back, the random numbers of
natural changes. Estimated from that, with no GPU at hand: seconds for all neurons of the model on one, as
`estimate` says it, with one thread and with as many as stand beside a GPU.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.machine import description, public, put
from pipeline.models import ModelDescription, ModelRequest, describe
from pipeline.visualize.initial_images import own_noises
from pipeline.visualize.natural import CHANGES, NaturalSettings, drawn
from pipeline.visualize.parametrize import parameterization
from pipeline.visualize.picture import encode_webp, stored_pixels, to_bytes
from pipeline.visualize.recipes import FAST, RECIPES, Recipe
from pipeline.visualize.threads import each
from pipeline.visualize.transforms import draw

NEURONS = 16
ROUNDS = 3
PASSES = 3  # a forward and a backward pass of a picture, in forwards
JUDGED = 3  # pictures beside those under fresh changes: as optimized, as stored, the start
H200 = {"bfloat16": 989.0, "tf32": 494.0, "float32": 67.0}
"""Dense TFLOP/s that the maker states (NVIDIA H200 SXM data sheet, half of what it gives with sparsity; float32 without
TF32)."""
REACHED = 0.5  # of these, the aim that benchmarks/gpu.py measures
BESIDE = 16  # threads beside a GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm/vit_base_patch16_224")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="fast")
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--out")
    asked = parser.parse_args()
    model, recipe = describe(ModelRequest(asked.model, random_weights=True)), RECIPES[asked.recipe]
    milliseconds: dict[int, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for threads in asked.threads:
            torch.set_num_threads(threads)
            for name, own in host_costs(model, recipe).items():
                known = milliseconds.setdefault(threads, {})
                known[name] = min(own, known.get(name, own))
    alone = milliseconds[min(milliseconds)]
    report = {
        "benchmark": "host",
        "command": " ".join(["python -m benchmarks.host", *public(sys.argv[1:])]),
        "machine": description(),
        "model": model.slug,
        "recipe": recipe.hash,
        "milliseconds_a_neuron": {
            str(threads): {name: round(own, 2) for name, own in costs.items()}
            for threads, costs in milliseconds.items()
        },
        "estimate": {
            "assumed": {"tflops": H200, "reached": REACHED, "threads": BESIDE},
            "seconds_one_thread": estimate(model, recipe, alone, 1),
            "seconds": estimate(model, recipe, alone, BESIDE),
            "seconds_judged_exactly": estimate(model, recipe, alone, BESIDE, "float32"),
        },
    }
    put(report, asked.out)


def host_costs(model: ModelDescription, recipe: Recipe = FAST) -> dict[str, float]:
    """Milliseconds of a neuron, with torch's number of threads."""
    size, settings = model.input_size, NaturalSettings()
    ascent = recipe.ascents_at(0.5)[0]
    space = parameterization(ascent.parameterization, size, ascent.spectrum_exponent)
    like, keys = torch.empty(0), [("host", unit) for unit in range(NEURONS)]
    pictures = space.picture(0.3 * own_noises(keys, space, like)).numpy()
    files = each(lambda picture: encode_webp(to_bytes(picture), 75), pictures)
    shape = torch.empty(1, 3, *size)

    def natural() -> None:
        for number in range(settings.draws):
            drawn([str(key) for key in keys], number, shape, settings)

    return {
        "noise": timed(lambda: (own_noises(keys, space, like), draw(keys, ascent, size, like))),
        "encoding": timed(lambda: each(lambda picture: encode_webp(to_bytes(picture), 75), pictures)),
        "reading": timed(lambda: torch.stack(each(stored_pixels, files))),
        "natural": timed(natural),
    }


def timed(do: Callable[[], Any]) -> float:
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1000 / NEURONS


def estimate(
    model: ModelDescription, recipe: Recipe, costs: dict[str, float], threads: int, judge: str = "tf32"
) -> dict[str, float]:
    """Seconds for all neurons of a model on one GPU: ascents at REACHED of the stated bfloat16 rate; pictures judged,
    and judged under natural changes, at REACHED of the rate of `judge`; the host's costs divided by `threads`."""
    copies = 1 + NaturalSettings().draws * len(CHANGES)
    per_second = {name: rate * 1e12 * REACHED for name, rate in H200.items()}
    climbed = judged = natural = 0.0
    for site in model.ffn_sites:
        steps = sum(ascent.image_steps for ascent in recipe.ascents_at(site.depth))
        climbed += site.width * PASSES * site.flops * steps
        judged += site.width * site.flops * (JUDGED + recipe.robust_draws)
        natural += site.width * site.flops * copies
    host = float(np.sum(list(costs.values()))) / 1000 * model.neurons / threads
    seconds = {
        "ascents": climbed / per_second["bfloat16"],
        "judging": judged / per_second[judge],
        "natural changes": natural / per_second[judge],
        "host": host,
    }
    return {name: round(value, 1) for name, value in (seconds | {"all": sum(seconds.values())}).items()}


if __name__ == "__main__":
    main()
