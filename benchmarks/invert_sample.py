"""What other models read off all 40 values inverted by a dear recipe, from some of its values and all of a cheap one's.

    python -m benchmarks.invert_sample [--recipe pii] [--beside pixels] [--out docs/benchmarks/NAME.json]

`pii` takes minutes a target of a core, so that it was run on some values of each attribute; `pixels`, which is `pii`
without its stages, on all of them. Readers are right about the same values for both. So the mean of `pii` over an
attribute is that of `pixels` over the whole attribute, plus the mean difference of the two over the values that both
were run on: the difference estimator (Cochran, Sampling Techniques, 3rd edition, section 7.9, by stratum as in chapter
5). Its standard error is that of these differences, over values; nothing is taken off for the share that was measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import put
from pipeline.zoo.world import ATTRIBUTES

FIGURES = Path("docs/benchmarks")
SAMPLES = ("invert-recipes.json", "invert-pii.json")  # one value of each attribute in each
WHOLE = "invert-pixels.json"


def transfers(report: dict[str, Any], recipe: str) -> np.ndarray:
    """(models, attributes): the share of readers that are right."""
    models = report["recipes"][recipe]["models"]
    return np.array([[models[slug]["transfer"][attribute] for attribute in ATTRIBUTES] for slug in sorted(models)])


def estimated(samples: list[dict[str, Any]], whole: dict[str, Any], recipe: str, beside: str) -> dict[str, Any]:
    """Means of `recipe` over all values, by attribute, by model, and over all, with standard errors."""
    known = transfers(whole, beside)
    differences = np.stack([transfers(one, recipe) - transfers(one, beside) for one in samples])  # values first
    weights = np.array([len(values) for values in ATTRIBUTES.values()], dtype=float)
    weights /= weights.sum()
    together = differences.mean(1)  # (values, attributes): over the models
    shifts, count = differences.mean(0), len(samples)
    error = np.sqrt(together.var(0, ddof=1).mean() / count)
    errors = np.sqrt(differences.var(0, ddof=1).mean(1) / count)  # (models,)
    spread = np.sqrt(weights @ weights)  # of a mean over attributes by the number of their values
    return {
        "targets": int(differences.size),
        "difference": told(together.mean(), together.std(ddof=1) / np.sqrt(together.size)),
        "attributes": {
            attribute: told(known[:, place].mean() + shifts[:, place].mean(), error)
            for place, attribute in enumerate(ATTRIBUTES)
        },
        "models": {
            slug: told((known[row] + shifts[row]) @ weights, errors[row] * spread)
            for row, slug in enumerate(sorted(whole["recipes"][beside]["models"]))
        },
        "all": told((known + shifts).mean(0) @ weights, error * spread),
    }


def told(value: float, error: float) -> dict[str, float]:
    return {"mean": round(float(value), 3), "standard_error": round(float(error), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="pii")
    parser.add_argument("--beside", default="pixels", help="a recipe that was run on all values")
    parser.add_argument("--out")
    asked = parser.parse_args()
    samples = [json.loads((FIGURES / name).read_text()) for name in SAMPLES]
    whole = json.loads((FIGURES / WHOLE).read_text())
    found = estimated(samples, whole, asked.recipe, asked.beside)
    about = {"benchmark": "invert_sample", "from": [*SAMPLES, WHOLE], "recipe": asked.recipe, "beside": asked.beside}
    put(about | found, asked.out)


if __name__ == "__main__":
    main()
