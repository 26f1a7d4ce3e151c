"""The script for a lent GPU works, on a CPU, with small numbers; and so does the estimate where there is none."""

from __future__ import annotations

import pytest

import tests.jobs.tiny  # noqa: F401  (the recipe of a few steps)
from benchmarks import host
from benchmarks.gpu import PARTS, arguments, measured
from pipeline.models import ModelRequest, describe
from pipeline.visualize.recipes import RECIPES


def test_every_part_gives_its_figures() -> None:
    asked = arguments(["--device", "cpu", "--quick", "--recipe", "tiny"])
    report: dict[str, object] = {}
    for name, part in PARTS.items():
        report[name] = measured(part, asked, report)
    assert report["equality"]["pictures_differ_by_at_most"] == 0
    assert report["equality"]["float32_activations_against_the_cpu"] == 0
    assert report["equality"]["tf32_judges"] is False, "a CPU has no such units"
    assert report["judging"]["differences"]["other_verdicts"] == 0
    assert report["judging"]["tf32_seconds_a_neuron"] > 0
    assert [row["layer"] for row in report["ascents"]["layers"]] == [0, 3]
    assert all(0 < row["share_of_peak"] < 1 for row in report["ascents"]["layers"])
    assert all(0 < share < 1 for row in report["ascents"]["layers"] for share in row["time_goes_to"].values())
    each = [row["seconds_a_neuron"] for row in report["ascents"]["layers"]]
    assert min(each) * 512 / 60 * 0.99 <= report["ascents"]["all_neurons_minutes"] <= max(each) * 512 / 60 * 1.01
    assert report["contributions"]["over_inference"] > 1
    assert all(rate > 0 for name, rate in report["probe"].items() if name.endswith("images_a_second"))


def test_an_estimate_adds_up_and_threads_take_from_the_host_alone():
    model, costs = describe(ModelRequest("zoo/vit")), {"noise": 2.0, "encoding": 6.0}
    alone, beside = (host.estimate(model, RECIPES["fast"], costs, threads) for threads in (1, 16))
    assert alone["host"] == pytest.approx(0.008 * model.neurons, abs=0.1)
    assert beside["host"] == pytest.approx(alone["host"] / 16, abs=0.1)
    assert alone["all"] - alone["host"] == pytest.approx(beside["all"] - beside["host"], abs=0.2)
    exact = host.estimate(model, RECIPES["fast"], costs, 16, "float32")
    for part in ("judging", "natural changes"):
        assert exact[part] == pytest.approx(beside[part] * 494 / 67, rel=0.05, abs=0.5)
    larger = describe(ModelRequest("timm/vit_base_patch16_224", random_weights=True))
    seconds = host.estimate(larger, RECIPES["fast"], costs, 16)
    passes = [3 * one.flops * RECIPES["fast"].ascents_at(one.depth)[0].image_steps for one in larger.ffn_sites]
    assert seconds["ascents"] == pytest.approx(3072 * sum(passes) / (0.5 * 989e12), abs=0.1)


def test_what_the_host_costs_is_measured_part_by_part():
    costs = host.host_costs(describe(ModelRequest("zoo/vit")))
    assert set(costs) == {"noise", "encoding", "reading", "natural"}
    assert all(0 < own < 1000 for own in costs.values())
