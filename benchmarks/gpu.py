"""What a GPU makes of the pipeline, in under ten minutes: are its pictures right, and is it kept busy?

    python -m benchmarks.gpu --out docs/benchmarks/gpu-NAME.json
    python -m benchmarks.gpu --device cpu --quick         # the same parts on a CPU, tiny: what the tests run

Needs neither Ray nor a hub: random weights, generated images. Parts, each with its seconds and its highest memory:

*equality*: pictures of some neurons on the CPU and on the device, float64; and activations of float32, of float32 by
TF32 units, and of the precision that ascents would choose, against the CPU.
*peak*: TFLOP/s of large products of matrices, by precision: what the device can do.
*ascents*: at some depths one batch of neurons as the pipeline does it, whole: seconds a neuron, the share of the peak
that its forward and backward passes reach, and where the rest of the time goes. Extrapolated to all neurons by depth.
*judging*: seconds of a picture judged with exact products and by TF32 units, and how far figures and verdicts differ.
*probe* and *contributions*: images a second beside plain inference.

A part for which no time is left is named under `left_out`.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import description, public, put
from benchmarks.tf32 import compared, judged
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.moments import ContributionMoments
from pipeline.hooks import tf32
from pipeline.hooks.device_check import deviation
from pipeline.images.probe_set import batches, open_probe_set
from pipeline.models import FfnSite, LoadedModel, ModelRequest, load
from pipeline.models.device import choose_precision, in_precision, synchronize
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, probe
from pipeline.visualize.ascent import default_batch, visualize
from pipeline.visualize.natural import Picture
from pipeline.visualize.recipes import RECIPES, Recipe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
JUDGED = 256  # pictures that are judged
PASSES = 3  # a forward and a backward pass of a picture, in forwards
SPENT_IN = {  # what of an ascent is not steps: functions by their names in the profile
    "noise": ("own_noises", "draw"),
    "encoding": ("_files",),
    "judging": ("fresh", "respond", "_best_placed"),
}


def main() -> None:
    asked = arguments()
    tf32.exactly()
    began = time.perf_counter()
    report: dict[str, Any] = {
        "benchmark": "gpu",
        "command": " ".join(["python -m benchmarks.gpu", *public(sys.argv[1:])]),
        "machine": description() | {"device": asked.device},
        "model": asked.model,
        "recipe": RECIPES[asked.recipe].hash,
        "left_out": [],
    }
    for name, part in PARTS.items():
        if time.perf_counter() - began > asked.seconds:
            report["left_out"].append(name)
            continue
        report[name] = measured(part, asked, report)
        print(f"{name}: {report[name]['seconds']} s", file=sys.stderr, flush=True)
    put(report, asked.out)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", default="timm/vit_base_patch16_224")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument(
        "--layers", type=lambda text: [int(one) for one in text.split(",")], default=[0, 2, 4, 6, 9, 11]
    )
    parser.add_argument("--seconds", type=float, default=480, help="no part begins after them")
    parser.add_argument("--images", type=int, default=2048, help="that are probed and decomposed")
    parser.add_argument("--batch", type=int, default=256, help="of these")
    parser.add_argument("--units", type=int, help="neurons a batch of ascents (default: as the pipeline does it)")
    parser.add_argument("--side", type=int, default=8192, help="of the matrices of the peak")
    parser.add_argument("--quick", action="store_true", help="the zoo's ViT, small numbers")
    parser.add_argument("--out")
    asked = parser.parse_args(words)
    if asked.quick:
        asked.model, asked.layers, asked.units = "zoo/vit", [0, 3], 2
        asked.images, asked.batch, asked.side = 16, 8, 128
    return asked


def measured(part: Callable[..., dict[str, Any]], asked: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """A part's figures, with its seconds and on a GPU the most bytes that it held there."""
    on_gpu = asked.device.startswith("cuda")
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    found = part(asked, report)
    memory = {"peak_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2)} if on_gpu else {}
    return found | {"seconds": round(time.perf_counter() - began, 2), **memory}


def loaded(asked: argparse.Namespace, device: str | None = None, dtype: torch.dtype = torch.float32) -> LoadedModel:
    random = not asked.model.startswith("zoo/")
    return load(ModelRequest(asked.model, random_weights=random), device or asked.device, dtype)


# ---------------------------------------------------------------------------------------------------------- equality


def equality(asked: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """Of two neurons of the zoo's ViT at two depths, the largest difference of a picture, of 255, in float64."""
    recipe = RECIPES[asked.recipe]
    request = ModelRequest("zoo/vit")
    models = [load(request, device, torch.float64) for device in ("cpu", asked.device)]
    worst, activations = 0, 0.0
    for layer in (0, 3):
        of_device = [visualize(m, m.description.ffn_sites[layer], [0, 1], recipe) for m in models]
        for one, other in zip(*of_device, strict=True):
            worst = max(worst, int(np.abs(one.image.astype(int) - other.image.astype(int)).max()))
            activations = max(activations, abs(one.activation - other.activation) / max(abs(one.activation), 1e-12))
    model, on_cpu = loaded(asked), loaded(asked, "cpu")
    precision = choose_precision(model)
    return {
        "pictures_differ_by_at_most": worst,
        "activations_differ_by_at_most": float(f"{activations:.2g}"),
        "float32_activations_against_the_cpu": float(f"{deviation(model, on_cpu)[0]:.2g}"),
        "tf32_activations_against_the_cpu": float(f"{deviation(model, on_cpu, around=tf32.by_units)[0]:.2g}"),
        "tf32_judges": tf32.has_units(model.device) and tf32.agrees(model),
        "precision_of_ascents": precision,
        "its_activations_against_the_cpu": float(f"{deviation(in_precision(model, precision), on_cpu)[0]:.2g}"),
    }


# -------------------------------------------------------------------------------------------------------------- peak


def peak(asked: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """TFLOP/s (a multiplication and an addition are two) of products of square matrices, the best of some; float32 as
    torch computes it here.
    """
    found = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.randn(asked.side, asked.side, device=asked.device).to(dtype) for _ in range(2))
        a @ b
        seconds = []
        for _ in range(5):
            synchronize(torch.device(asked.device))
            began = time.perf_counter()
            a @ b
            synchronize(torch.device(asked.device))
            seconds.append(time.perf_counter() - began)
        found[f"{name}_tflops"] = float(f"{2 * asked.side**3 / min(seconds) / 1e12:.3g}")
    return found


# ----------------------------------------------------------------------------------------------------------- ascents


def ascents(asked: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    model, recipe = loaded(asked), RECIPES[asked.recipe]
    precision = choose_precision(model)
    most = report["peak"][f"{precision}_tflops"] if precision in DTYPES else None
    sites = [model.description.ffn_sites[layer] for layer in asked.layers]
    visualize(model, sites[0], [0], recipe, precision=precision)  # warm up
    rows = [one_batch(model, site, recipe, precision, most, asked.units) for site in sites]
    depths, each = [site.depth for site in sites], [row["seconds_a_neuron"] for row in rows]
    every = model.description.ffn_sites
    whole = sum(site.width * float(np.interp(site.depth, depths, each)) for site in every)
    return {
        "precision": precision,
        "layers": rows,
        "all_neurons": model.description.neurons,
        "all_neurons_minutes": round(whole / 60, 2),
    }


def one_batch(
    model: LoadedModel, site: FfnSite, recipe: Recipe, precision: str, most: float | None, units: int | None
) -> dict[str, Any]:
    """One batch of neurons, as the pipeline does it, under a profile of the host."""
    count = min(site.width, units or default_batch(model, site, recipe))
    profile = cProfile.Profile()
    synchronize(model.device)
    began = time.perf_counter()
    profile.enable()
    found = visualize(model, site, range(count), recipe, batch=count, precision=precision)
    profile.disable()
    synchronize(model.device)
    seconds = time.perf_counter() - began
    flops = PASSES * site.flops * sum(one.image_steps for one in found)
    times: dict[str, float] = {}
    for (_, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        times[name] = times.get(name, 0.0) + cumulative
    spent = {part: sum(times.get(name, 0.0) for name in names) / seconds for part, names in SPENT_IN.items()}
    return {
        "layer": site.layer,
        "depth": round(site.depth, 3),
        "neurons": count,
        "seconds_a_neuron": float(f"{seconds / count:.3g}"),
        "share_of_peak": float(f"{flops / seconds / 1e12 / most:.3g}") if most else None,
        "time_goes_to": {part: round(share, 3) for part, share in spent.items()},
    }


# ----------------------------------------------------------------------------------------------------------- judging


def judging(asked: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """A batch of neurons of the last layer that is asked for: their pictures judged as a run does it, by both ways."""
    model, recipe = loaded(asked), RECIPES[asked.recipe]
    site = model.description.ffn_sites[asked.layers[-1]]
    units = range(min(site.width, asked.units or JUDGED))
    made = visualize(model, site, units, recipe)
    pictures = {one.address.unit: Picture(one.webp, one.activation_start) for one in made}
    rows, seconds = {}, {"exact": float("inf"), "tf32": float("inf")}
    for name in (*seconds, *seconds):  # the first time also warms up
        tf32.decide(model, name == "tf32")
        began = time.perf_counter()
        rows[name] = judged(model, site, pictures)
        seconds[name] = min(seconds[name], time.perf_counter() - began)
    return {f"{name}_seconds_a_neuron": float(f"{own / len(units):.3g}") for name, own in seconds.items()} | {
        "differences": compared(rows["exact"], rows["tf32"])
    }


# --------------------------------------------------------------------------------------------- probe, contributions


def probed(asked: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """Images a second: plain inference on pixels that are on the device, the whole pass, and the pass decoding too."""
    model, images = loaded(asked), open_probe_set(f"zoo:{asked.images}")
    settings = ProbeSettings(panel=min(2048, asked.images))
    into = ModelProbe.empty(
        model.description, settings, Membership.of(images, settings), range(len(images)), model.device
    )
    given = list(batches(images, range(len(images)), model.description, asked.batch))
    ready = [model.normalise(x.to(model.device)) for _, x in given]
    plain(model, ready[0])  # warm up
    inference = timed(model, lambda: [plain(model, x) for x in ready])
    passed = timed(model, lambda: probe(model, given, into))
    fresh = ModelProbe.empty(
        model.description, settings, Membership.of(images, settings), range(len(images)), model.device
    )
    whole = timed(
        model, lambda: probe(model, batches(images, range(len(images)), model.description, asked.batch), fresh)
    )
    rates = {"inference": inference, "probe": passed, "probe_and_decoding": whole}
    return {f"{name}_images_a_second": round(len(images) / seconds, 1) for name, seconds in rates.items()}


def contributed(asked: argparse.Namespace, report: dict[str, Any]) -> dict[str, Any]:
    """Images a second of plain inference, and of contributions of all heads and FFNs with their moments."""
    model = loaded(asked)
    images = open_probe_set(f"zoo:{min(asked.images, 4 * asked.batch)}")
    size = max(1, asked.batch // 8)
    ready = [
        model.normalise(x.to(model.device)) for _, x in batches(images, range(len(images)), model.description, size)
    ]
    contributing = Contributing(model)
    first = contributing(ready[0])
    components, width = first.vectors.shape[1:]
    sums = ContributionMoments(torch.zeros(components, dtype=torch.bool), model.description.heads, width, model.device)
    inference = timed(model, lambda: [plain(model, x) for x in ready])
    whole = timed(model, lambda: [sums.update(contributing(x)) for x in ready])
    return {
        "inference_images_a_second": round(len(images) / inference, 1),
        "contributions_images_a_second": round(len(images) / whole, 1),
        "over_inference": round(whole / inference, 2),
    }


@torch.inference_mode()
def plain(model: LoadedModel, x: Tensor) -> None:
    model.module(x)


def timed(model: LoadedModel, do: Callable[[], Any]) -> float:
    synchronize(model.device)
    began = time.perf_counter()
    do()
    synchronize(model.device)
    return time.perf_counter() - began


PARTS = {
    "equality": equality,
    "peak": peak,
    "ascents": ascents,
    "judging": judging,
    "probe": probed,
    "contributions": contributed,
}

if __name__ == "__main__":
    main()
