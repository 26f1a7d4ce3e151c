"""Whether the score of a component for a feature says what its ablation does to that feature.

    neuron-atlas run --model "zoo/*" --probe zoo:4000 --stages decompose --out ATLAS
    python -m benchmarks.features ATLAS --out docs/benchmarks/features.json

From the table head_features of an atlas: per model and feature, Spearman's correlation over components of the score
with the fall of the right answer's margin and with the fall of accuracy, when the component is replaced by its mean;
and the effect of the head ranked first against the median head's. Direct effects alone are compared: what heads
without a direct effect pass on is taken out at another level.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import pyarrow.parquet as pq

from benchmarks.machine import description


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas")
    parser.add_argument("--out")
    asked = parser.parse_args()
    rows = []
    for path in sorted(Path(asked.atlas).glob("head_features/*/*.parquet")):
        found = pq.read_table(path).to_pylist()
        images = pq.read_table(Path(asked.atlas, "heads", path.parent.name, path.name)).to_pylist()[0]["probe_images"]
        for feature in dict.fromkeys(row["feature"] for row in found):
            own = [row for row in found if row["feature"] == feature and row["ablation_margin"] is not None]
            if own:
                rows.append({"model": path.parent.name, "feature": feature, "images": images, **agreement(own)})
    report = {"benchmark": "features", "machine": description(), "summary": summary(rows), "rows": rows}
    text = json.dumps(report, indent=1)
    print(text)
    if asked.out:
        Path(asked.out).write_text(text + "\n")


def agreement(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one model and feature."""
    direct = [row for row in rows if row["level"] == "direct"]
    heads = sorted((row for row in direct if row["kind"] == "head"), key=lambda row: row["rank"])
    score = [row["score"] for row in direct]
    first = heads[0]
    return {
        "components": len(direct),
        "spearman_margin": spearman(score, [row["ablation_margin"] for row in direct]),
        "spearman_accuracy": spearman(score, [row["ablation_effect"] for row in direct]),
        "first_head": first["component"],
        "first_head_score": round(first["score"], 3),
        "first_head_margin": round(first["ablation_margin"], 3),
        "median_head_margin": round(median(row["ablation_margin"] for row in heads), 3),
        "first_head_accuracy": round(first["ablation_effect"], 4),
        "median_head_accuracy": round(median(row["ablation_effect"] for row in heads), 4),
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over all models and features, and by model."""
    over = [row["first_head_margin"] > row["median_head_margin"] for row in rows]
    accuracy = [row["first_head_accuracy"] - row["median_head_accuracy"] for row in rows]
    by_model = {
        model: round(mean(row["spearman_margin"] for row in rows if row["model"] == model), 2)
        for model in dict.fromkeys(row["model"] for row in rows)
    }
    return {
        "pairs_of_model_and_feature": len(rows),
        "first_head_lowers_the_margin_more_than_the_median_head": sum(over),
        "first_head_lowers_accuracy_more": sum(one > 0 for one in accuracy),
        "as_much": sum(one == 0 for one in accuracy),
        "less": sum(one < 0 for one in accuracy),
        "mean_spearman_margin": by_model,
    }


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Rank correlation, ties at their mean rank; None where one side is constant."""
    from scipy.stats import spearmanr

    if len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return round(float(spearmanr(first, second).statistic), 3)


if __name__ == "__main__":
    main()
