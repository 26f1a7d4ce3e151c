"""The script that is run where a GPU is lent works: on a CPU, with small numbers, each part by the same code."""

from __future__ import annotations

import tests.jobs.tiny  # noqa: F401  (the recipe of a few steps)
from benchmarks.gpu import PARTS, arguments, measured


def test_every_part_gives_its_figures() -> None:
    asked = arguments(["--device", "cpu", "--quick", "--recipe", "tiny"])
    report: dict[str, object] = {}
    for name, part in PARTS.items():
        report[name] = measured(part, asked, report)
    assert report["equality"]["pictures_differ_by_at_most"] == 0
    assert report["equality"]["float32_activations_against_the_cpu"] == 0
    assert [row["layer"] for row in report["ascents"]["layers"]] == [0, 3]
    assert all(0 < row["share_of_peak"] < 1 for row in report["ascents"]["layers"])
    assert all(0 <= share < 1 for row in report["ascents"]["layers"] for share in row["time_goes_to"].values())
    each = [row["seconds_a_neuron"] for row in report["ascents"]["layers"]]
    assert min(each) * 512 / 60 * 0.99 <= report["ascents"]["all_neurons_minutes"] <= max(each) * 512 / 60 * 1.01
    assert report["contributions"]["over_inference"] > 1
    assert all(rate > 0 for name, rate in report["probe"].items() if name.endswith("images_a_second"))
