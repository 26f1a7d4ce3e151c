"""How much memory a unit takes: measured as it is done."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from jobs.memory import Gauge
from tests.jobs.conftest import Runner

MB = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_a_peak_is_of_its_own_time_alone() -> None:
    first = Gauge("cpu")
    held = np.ones(200 * MB // 8)
    large = first.peak.process
    del held
    second = Gauge("cpu").peak.process
    held = np.ones(50 * MB // 8)
    assert 150 * MB < large - second < 250 * MB, "what was freed before is not counted"
    assert held.sum() > 0


@pytest.mark.timeout(900)
def test_the_log_tells_what_each_unit_took(run_into: Runner, tmp_path) -> None:
    report = run_into(tmp_path / "atlas", layers="0", units="0:2", workers=1)
    lines = (tmp_path / "atlas/.atlas/logs" / f"{report.run_id}.jsonl").read_text().splitlines()
    peaks = [line["peak_bytes"] for line in map(json.loads, lines) if line["event"] == "committed"]
    assert len(peaks) == report.units_done > 0
    assert all(100 * MB < peak < 4096 * MB for peak in peaks), peaks
