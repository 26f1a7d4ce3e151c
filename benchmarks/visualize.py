"""How fast neurons are visualized: as published, by our `reference`, by our `fast`.

    python -m benchmarks.visualize --model timm/deit_tiny_patch16_224 --random-weights
    python -m benchmarks.visualize --model timm/vit_small_patch14_dinov2 --weights FILE --as dinov2 \
        --input-size 224 --layers 0,1,3,5,7,10 --out docs/benchmarks/NAME.json

Three ways in one run: one neuron at a time through the whole network, as published; the recipe `reference`;
the recipe `fast`. Cost is measured in short turns that alternate between the ways, layer by layer, so that a
busy neighbour slows all alike, and counted up by each recipe's image steps. What their pictures reach, neuron by
neuron: benchmarks/recipes.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.machine import description, public, put
from pipeline.models import FfnSite, LoadedModel, ModelRequest, load
from pipeline.models.device import bfloat16_speedup, choose_precision, in_precision, quickest_attention, synchronize
from pipeline.visualize.ascent import _Climber, _Pick, _Result, default_batch
from pipeline.visualize.recipes import PUBLISHED, RECIPES, Ascent, Recipe
from tests.pipeline import published


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    model = load(
        ModelRequest(
            model=asked.model,
            weights=asked.weights,
            name=asked.name,
            random_weights=asked.random_weights,
            input_size=asked.input_size,
        ),
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    precision = asked.precision or choose_precision(model)
    sites = [model.description.ffn_sites[layer] for layer in asked.layers]
    report: dict[str, object] = {
        "benchmark": "visualize",
        "command": " ".join(["python -m benchmarks.visualize", *public(sys.argv[1:])]),
        "machine": description() | {"bfloat16_speedup": round(bfloat16_speedup(str(model.device)), 2)},
        "model": model.description.slug,
        "fingerprint": model.fingerprint[:16],
        "precision": precision,
        "recipes": {name: RECIPES[name].hash for name in ("reference", "fast")},
    }
    layers = [{"layer": site.layer, "depth": round(site.depth, 3)} for site in sites]
    for site, row in zip(sites, layers, strict=True):
        row["cost"] = cost(model, site, precision, asked.turns, asked.only_recipes)
        row["time_goes_to"] = split(model, site, RECIPES["fast"], precision)
        note(f"layer {site.layer}: {json.dumps(row['cost'])}")
    report["layers"] = layers
    report["all_neurons"] = extrapolated(model, sites, layers)
    put(report, asked.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm/deit_tiny_patch16_224")
    parser.add_argument("--weights")
    parser.add_argument("--as", dest="name")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--layers", type=lambda text: [int(part) for part in text.split(",")], default=[1, 5, 10])
    parser.add_argument("--only-recipes", action="store_true", help="no published way and no float32: much shorter")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision")
    parser.add_argument("--quick", action="store_true", help="the zoo's ViT, two turns")
    parser.add_argument("--out")
    asked = parser.parse_args()
    if asked.quick:
        asked.model, asked.layers, asked.turns = "zoo/vit", [0, 2], 2
    elif asked.model == "timm/deit_tiny_patch16_224" and not asked.weights:
        asked.random_weights = True
    return asked


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- cost -------------------------------------------------------------------------------------------------


def cost(model: LoadedModel, site: FfnSite, precision: str, turns: int, only_recipes: bool) -> dict[str, object]:
    """Seconds per neuron of each way, from seconds per step measured in alternating turns.

    only_recipes: `reference` and `fast` in `precision` alone, not the published way nor float32."""
    fast, reference = RECIPES["fast"], RECIPES["reference"]
    ways: dict[str, Callable[[], float]] = {}
    if not only_recipes:
        ways["published"] = lambda: published_step(model, site)
    kinds = (("", precision),) if only_recipes else (("", precision), ("_float32", "float32"))
    ascents = fast.ascents_at(site.depth)
    for suffix, kind in kinds:
        ways["reference" + suffix] = stepper(model, site, reference, reference.ascents_at(site.depth)[0], kind)
        for number, ascent in enumerate(ascents):
            ways[f"fast{suffix}_{number}"] = stepper(model, site, fast, ascent, kind)
    for recipe in (reference, fast):
        ways[f"judge_{recipe.name}"] = judge(model, site, recipe, precision)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            took = way()
            if turn:  # the first turn warms up
                seconds[name].append(took)
    step = {name: statistics.median(values) for name, values in seconds.items()}
    per_step = {"reference": step["reference"]}
    per_step["fast"] = weighted([step[f"fast_{i}"] for i in range(len(ascents))], ascents)
    if not only_recipes:
        per_step["published"] = step["published"] / PUBLISHED.image_steps * PUBLISHED.steps
        per_step["reference_float32"] = step["reference_float32"]
        per_step["fast_float32"] = weighted([step[f"fast_float32_{i}"] for i in range(len(ascents))], ascents)
    neuron = {name: value * image_steps(name, site) for name, value in per_step.items()}
    return {
        "seconds_per_image_step": {name: round(value, 5) for name, value in per_step.items()},
        "seconds_per_neuron": {name: round(value, 4) for name, value in neuron.items()},
        "seconds_after_the_ascent": {name: round(step[f"judge_{name}"], 4) for name in ("reference", "fast")},
        "neurons_per_second": {name: round(1 / value, 5) for name, value in neuron.items()},
        **ratios(neuron),
    }


RATIOS = (
    ("fast", "reference"),
    ("reference_float32", "published"),
    ("reference", "published"),
    ("fast_float32", "reference_float32"),
    ("fast", "published"),
)


def ratios(cost: dict[str, float]) -> dict[str, float]:
    """How many times cheaper the first of each pair is than the second, of those that were measured."""
    return {f"{a}_over_{b}": round(cost[b] / cost[a], 2) for a, b in RATIOS if a in cost and b in cost}


def weighted(seconds: list[float], ascents: tuple[Ascent, ...]) -> float:
    """Seconds per image step over several ascents of a recipe."""
    steps = [ascent.image_steps for ascent in ascents]
    return sum(s * n for s, n in zip(seconds, steps, strict=True)) / sum(steps)


def image_steps(way: str, site: FfnSite) -> int:
    """Forward and backward passes of one picture that a way spends on a neuron of `site`."""
    recipe = RECIPES["fast" if way.startswith("fast") else "reference"]
    return sum(ascent.image_steps for ascent in recipe.ascents_at(site.depth))


def judge(model: LoadedModel, site: FfnSite, recipe: Recipe, precision: str) -> Callable[[], float]:
    """A turn of what follows an ascent, seconds per neuron: placements, then all the numbers of a row, and the WebP."""
    batch = min(default_batch(model, site, recipe), site.width, 4)
    units, ascent = list(range(batch)), recipe.ascents_at(site.depth)[0]
    climber = _Climber(model, in_precision(model, precision), site, recipe, 0, precision, None)
    random = torch.Generator().manual_seed(0)
    noise = torch.rand(batch, 3, *model.description.input_size, generator=random).to(model.device)

    def turn() -> float:
        began = time.perf_counter()
        with quickest_attention(climber.fast.module, torch.device(model.device), precision):
            pictures = climber._best_placed(units, noise, [("judge", unit) for unit in units], ascent)
            result = _Result(ascent, pictures, noise)
            picks = [_Pick(result, place, None) for place in range(batch)]
            climber._judge(units, picks, [0] * batch, climber.respond(units, pictures), began)
        return (time.perf_counter() - began) / batch

    return turn


def stepper(model: LoadedModel, site: FfnSite, recipe: Recipe, ascent: Ascent, precision: str) -> Callable[[], float]:
    """A turn of one ascent: seconds per image step, from the second step at the batch that the device likes."""
    batch = min(default_batch(model, site, recipe), site.width)
    units = list(range(batch))

    def turn() -> float:
        stamps: list[float] = []

        class Enough(Exception):
            pass

        def stop(done: int, of: int) -> None:
            synchronize(torch.device(model.device))
            stamps.append(time.perf_counter())
            if done == 2:
                raise Enough

        climber = _Climber(model, in_precision(model, precision), site, recipe, 0, precision, stop)
        try:
            with quickest_attention(climber.fast.module, torch.device(model.device), precision):
                climber.climb(units, ascent, "cost")
        except Enough:
            pass
        return (stamps[-1] - stamps[0]) / (len(stamps) - 1) / batch / ascent.phases[0].copies

    return turn


def published_step(model: LoadedModel, site: FfnSite) -> float:
    """Seconds per step of the published loop: one neuron, eight copies, the whole network, float32."""
    height, width = model.description.input_size
    device = torch.device(model.device)
    random = torch.Generator().manual_seed(0)

    def numbers(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, int]]:
        mean, std = (torch.rand(2, 8, 3, 1, 1, generator=random) * 2 - 1).to(device)
        return mean, std.exp(), 0.5 * torch.randn(8, 3, 1, 1, generator=random).to(device), (5, -7)

    seen: dict[str, torch.Tensor] = {}
    post = model.module.get_submodule(site.post)
    hook = post.register_forward_pre_hook(lambda module, args: seen.__setitem__("hidden", _flat(args[0])))
    start = torch.rand(1, 3, height, width, generator=random).to(device)
    try:
        synchronize(device)
        begin = time.perf_counter()
        published.visualize(model.module, model.normalise, lambda: seen["hidden"], start, 0, numbers, steps=2)
        synchronize(device)
        return (time.perf_counter() - begin) / 2
    finally:
        hook.remove()


def _flat(hidden: torch.Tensor) -> torch.Tensor:
    return hidden if hidden.dim() == 3 else hidden.flatten(1, 2)


def split(model: LoadedModel, site: FfnSite, recipe: Recipe, precision: str) -> dict[str, float]:
    """Shares of the time of one turn of the recipe's first ascent, by kind of operation."""
    turn = stepper(model, site, recipe, recipe.ascents_at(site.depth)[0], precision)
    turn()
    kinds = {
        "matrix products": ("mm", "addmm", "bmm", "baddbmm", "linear", "convolution", "mkldnn"),
        "attention kernel": ("scaled_dot_product", "flash", "softmax"),
        "activation and norm": ("gelu", "layer_norm", "batch_norm"),
        "Fourier transform": ("fft",),
    }
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as recorded:
        turn()
    shares: dict[str, float] = dict.fromkeys([*kinds, "everything else"], 0.0)
    for event in recorded.key_averages():
        took = event.self_device_time_total if torch.cuda.is_available() else event.self_cpu_time_total
        kind = next((k for k, words in kinds.items() if any(w in event.key for w in words)), "everything else")
        shares[kind] += took
    total = sum(shares.values())
    return {kind: round(value / total, 3) for kind, value in shares.items()}


def extrapolated(model: LoadedModel, sites: list[FfnSite], layers: list[dict]) -> dict[str, object]:
    """Cost of all neurons of the model, each way: seconds per image step interpolated over depth, times the steps that
    the recipe spends at each depth, times widths. `whole` counts what follows the ascent too."""
    depths = [site.depth for site in sites]
    every = model.description.ffn_sites

    def hours(measured: list[float], steps: Callable[[FfnSite], int]) -> float:
        return sum(s.width * steps(s) * float(np.interp(s.depth, depths, measured)) for s in every) / 3600

    ascents = {
        way: hours([row["cost"]["seconds_per_image_step"][way] for row in layers], partial(image_steps, way))
        for way in layers[0]["cost"]["seconds_per_image_step"]
    }
    after = {
        name: hours([row["cost"]["seconds_after_the_ascent"][name] for row in layers], lambda site: 1)
        for name in ("reference", "fast")
    }
    whole = {name: ascents[name] + after[name] for name in after}
    unit = "gpu_hours" if torch.cuda.is_available() else "core_hours"
    return {
        "neurons": model.description.neurons,
        "measured_depths": len(depths),
        unit: {name: round(value, 3) for name, value in ascents.items()},
        f"{unit}_after_the_ascent": {name: round(value, 3) for name, value in after.items()},
        **ratios(ascents),
        "fast_over_reference_whole": round(whole["reference"] / whole["fast"], 2),
    }


if __name__ == "__main__":
    main()
