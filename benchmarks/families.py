"""One model of every family at 224 px with random weights: how many neurons rise well above their start, by depth.

    python -m benchmarks.families --units 32 --out docs/benchmarks/families.json

Nothing was learned here, so no picture means anything; the question is whether every family's neurons are found,
reached and moved. "Well above" is RISE times the start's spread over the neurons of the layer, above the start.
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
from pipeline.models import ModelRequest, load
from pipeline.recipes import recipe_named
from pipeline.visualize import visualize

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
        rows.append(
            {
                "model": model.description.slug,
                "family": model.description.family,
                "layer": site.layer,
                "depth": round(site.depth, 3),
                "neurons": len(results),
                "share_well_above_start": round(float((end > start + RISE * start.std()).mean()), 3),
                "share_active": round(float((end > 0).mean()), 3),
                "rescued": sum(r.rescue is not None for r in results),
                "start_mean": round(float(start.mean()), 4),
                "start_spread": round(float(start.std()), 4),
                "end_mean": round(float(end.mean()), 4),
                "precision": results[0].precision,
                "seconds_per_neuron": round((time.perf_counter() - began) / len(results), 2),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    main()
