"""One model of every family at 224 px with random weights: how many neurons rise well above their start, by depth.

    python -m benchmarks.families --units 32 --out docs/benchmarks/families.json

Nothing was learned here, so no picture means anything; the question is whether every family's neurons are found,
reached and moved. "Well above" is more than RISE standard deviations above the start, taken over the neuron's own
activations on SPREAD_DRAWS other noise pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import description
from pipeline.hooks.activations import ffn_activations
from pipeline.models import FfnSite, LoadedModel, ModelRequest, load
from pipeline.visualize.ascent import visualize
from pipeline.visualize.initial_images import own_noise
from pipeline.visualize.parametrize import parameterization
from pipeline.visualize.recipes import recipe_named

SMALLEST = (  # timm's smallest of each family; open_clip's smallest tower of 224 px
    "timm/vit_tiny_patch16_224",
    "timm/deit_tiny_distilled_patch16_224",
    "timm/swin_tiny_patch4_window7_224",
    "timm/coat_tiny",
    "timm/convit_tiny",
    "timm/pit_ti_224",
    "timm/twins_svt_small",
    "open_clip/ViT-S-32",
)
RISE = 3.0
SPREAD_DRAWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=SMALLEST)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    rows = []
    report = {"benchmark": "families", "machine": description(), "recipe": recipe_named(asked.recipe).hash}
    for name in asked.models:
        rows += of_model(name, asked.units, asked.recipe)
        report["layers"] = rows
        if asked.out:
            Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def of_model(name: str, count: int, recipe: str) -> list[dict[str, object]]:
    """Three depths of one model: first, middle and last FFN site."""
    model = load(ModelRequest(model=name, random_weights=True))
    sites = model.description.ffn_sites
    rows = []
    for site in (sites[0], sites[len(sites) // 2], sites[-1]):
        units = np.random.default_rng(site.layer).permutation(site.width)[:count]
        began = time.perf_counter()
        results = visualize(model, site, [int(u) for u in units], recipe_named(recipe))
        start = np.array([r.activation_start for r in results])
        end = np.array([r.activation for r in results])
        spread = own_spread(model, site, [int(u) for u in units], recipe)
        rows.append(
            {
                "model": model.description.slug,
                "family": model.description.family,
                "layer": site.layer,
                "depth": round(site.depth, 3),
                "neurons": len(results),
                "share_well_above_start": round(float((end > start + RISE * spread).mean()), 3),
                "share_active": round(float((end > 0).mean()), 3),
                "rescued": sum(r.rescue is not None for r in results),
                "start_mean": round(float(start.mean()), 4),
                "own_spread_median": round(float(np.median(spread)), 4),
                "end_mean": round(float(end.mean()), 4),
                "precision": results[0].precision,
                "seconds_per_neuron": round((time.perf_counter() - began) / len(results), 2),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def own_spread(model: LoadedModel, site: FfnSite, units: list[int], recipe: str) -> np.ndarray:
    """(units,): standard deviation of each unit's mean activation over noise pictures like those ascents start from."""
    ascent = recipe_named(recipe).ascents_at(site.depth)[0]
    space = parameterization(ascent.parameterization, model.description.input_size, ascent.spectrum_exponent)
    like = torch.empty(0)
    strength = 1.0 if ascent.parameterization == "pixels" else ascent.start_strength
    latents = torch.stack([own_noise(("spread", draw), space, like) for draw in range(SPREAD_DRAWS)]) * strength
    with torch.no_grad():
        calls = ffn_activations(model, site, model.normalise(space.picture(latents)))
    means = torch.stack([call.mean(1) for call in calls]).mean(0)[:, units]  # (draws, units)
    return means.std(0).numpy()


if __name__ == "__main__":
    main()
