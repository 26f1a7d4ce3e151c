"""How far the same neuron's picture drifts with the batch it is computed in: only rounding may differ.

python -m benchmarks.batch_spread --out docs/benchmarks/batch_spread.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import description
from pipeline.models import ModelRequest, load
from pipeline.visualize.ascent import visualize
from pipeline.visualize.recipes import recipe_named


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="zoo/vit")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for recipe, dtype, batches in (
        ("fast", torch.float32, (1, 8, 64)),
        ("fast", torch.float64, (1, 8, 64)),
        ("reference", torch.float32, (1, 8)),
        ("reference", torch.float64, (1, 8)),
    ):
        model = load(ModelRequest(model=asked.model), dtype=dtype)
        site = model.description.ffn_sites[asked.layer]
        units = list(range(8))
        of = {
            batch: visualize(model, site, range(max(batch, 8)), recipe_named(recipe), batch=batch)[:8]
            for batch in batches
        }
        for batch in batches[1:]:
            apart = np.abs(
                np.stack([a.image.astype(int) - b.image.astype(int) for a, b in zip(of[1], of[batch], strict=True)])
            )
            gap = [abs(a.activation - b.activation) for a, b in zip(of[1], of[batch], strict=True)]
            rows.append(
                {
                    "recipe": recipe,
                    "precision": str(dtype).removeprefix("torch."),
                    "alone_against_batch_of": batch,
                    "neurons": len(units),
                    "equal_pictures": int(sum((a == 0).all() for a in apart)),
                    "grey_levels_mean": round(float(apart.mean()), 4),
                    "grey_levels_max": int(apart.max()),
                    "activation_gap_median": float(np.median(gap)),
                    "activation_gap_max": float(np.max(gap)),
                    "activation_mean": round(float(np.mean([a.activation for a in of[1]])), 4),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    report = {"benchmark": "batch_spread", "machine": description(), "model": asked.model, "rows": rows}
    if asked.out:
        Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
