"""What a recipe that was run on some values would come to on all of them, by one that was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.invert_sample import estimated
from pipeline.zoo.world import ATTRIBUTES

COUNTS = {attribute: len(values) for attribute, values in ATTRIBUTES.items()}


def report(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """A report of two models, from (models, attributes) of each recipe."""
    told = {}
    for name, of in values.items():
        rows = [dict(zip(COUNTS, row, strict=True)) for row in of]
        told[name] = {"models": {slug: {"transfer": row} for slug, row in zip("ab", rows, strict=True)}}
    return {"recipes": told}


def whole(of: dict[str, np.ndarray]) -> np.ndarray:
    """(models, attributes): means over all values."""
    return np.stack([of[attribute].mean(1) for attribute in COUNTS], axis=1)


def one_each(of: dict[str, np.ndarray], at: dict[str, int]) -> np.ndarray:
    """(models, attributes): one value of each attribute."""
    return np.stack([of[attribute][:, at[attribute]] for attribute in COUNTS], axis=1)


def test_a_recipe_that_differs_by_a_constant_comes_out_exactly() -> None:
    random = np.random.default_rng(0)
    every = {attribute: random.random((2, count)) for attribute, count in COUNTS.items()}
    some = [one_each(every, dict.fromkeys(COUNTS, value)) for value in (0, 2)]
    samples = [report({"dear": one - 0.1, "cheap": one}) for one in some]
    found = estimated(samples, report({"cheap": whole(every)}), "dear", "cheap")
    over_all = np.concatenate(list(every.values()), axis=1).mean() - 0.1
    assert found["targets"] == 24
    assert found["all"] == {"mean": pytest.approx(over_all, abs=1e-3), "standard_error": 0}
    assert found["difference"] == {"mean": pytest.approx(-0.1), "standard_error": 0}
    for row, slug in enumerate("ab"):
        own = np.concatenate([every[attribute][row] for attribute in COUNTS]).mean() - 0.1
        assert found["models"][slug]["mean"] == pytest.approx(own, abs=1e-3)
    for place, attribute in enumerate(COUNTS):
        assert found["attributes"][attribute]["mean"] == pytest.approx(whole(every)[:, place].mean() - 0.1, abs=1e-3)


def test_the_error_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    far = []
    for _ in range(300):
        cheap = {attribute: random.random((2, count)) for attribute, count in COUNTS.items()}
        dear = {attribute: of + random.normal(0, 0.1, of.shape) for attribute, of in cheap.items()}
        drawn = {attribute: random.permutation(count)[:2] for attribute, count in COUNTS.items()}
        ats = [{attribute: int(of[place]) for attribute, of in drawn.items()} for place in (0, 1)]
        samples = [report({"dear": one_each(dear, at), "cheap": one_each(cheap, at)}) for at in ats]
        found = estimated(samples, report({"cheap": whole(cheap)}), "dear", "cheap")["all"]
        far.append((found["mean"] - np.concatenate(list(dear.values()), axis=1).mean()) / found["standard_error"])
    assert np.mean(np.abs(far) < 2.45) > 0.9, "Student's t with six degrees of freedom: 95 in 100"
