"""What a run shows: a live line a stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from atlas_schema.units import Identity, Images, Neurons, WorkUnit
from jobs import progress
from jobs.graph import Graph, Job
from jobs.plan import Job as PlannedJob
from jobs.plan import Machine, Plan
from jobs.progress import Progress, duration
from jobs.stages import STAGES

STAGE = {stage.name: stage for stage in STAGES}
OWN = Identity("f", "s")
PICTURES = [Neurons(0, start, start + 16) for start in range(0, 64, 16)]
SLICES = [Images(0, 60), Images(60, 100)]


def unit(start: int) -> WorkUnit:
    return OWN.unit("visualize", "zoo-vit", Neurons(0, start, start + 16))


def shown(stream: io.StringIO, committed: tuple[WorkUnit, ...] = ()) -> Progress:
    """A run of 64 pictures at 1 FLOP a neuron and a pass over 100 images at a hundredth."""
    wanted = [("visualize", PICTURES, (16.0,) * 4), ("probe", SLICES, (0.6, 0.4)), ("evidence", PICTURES[:1], (0.0,))]
    planned = [PlannedJob(STAGE[name], "zoo-vit", tuple(cuts), flops) for name, cuts, flops in wanted]
    held = [
        Job(STAGE[name], "zoo-vit", OWN, cuts, [one for one in committed if one.stage == name])
        for name, cuts, _ in wanted
    ]
    return Progress(Plan((), tuple(planned), Machine(), {}), Graph(held), stream)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_counts_time_left_and_failures_of_every_stage(clock):
    run = shown(io.StringIO(), (unit(48),))
    run.tick(workers=2, at_work=0)
    assert run.line() == "0 failed; visualize 16 of 64 neurons; to come: probe, evidence"
    clock.now = 10.0
    run.committed(unit(0), 10.0)
    assert run.line() == (
        "33 % of the work, 21 s left, 0 failed; visualize 32 of 64 neurons; to come: probe, evidence"
    ), "16 of 49 FLOPs"
    run.gave_up(unit(16))
    assert "11 s left, 16 failed; visualize 32 of 64 neurons, 16 failed" in run.line()
    for cut in SLICES:
        run.committed(OWN.unit("probe", "zoo-vit", cut), 1.0)
    assert run.line().endswith("complete: probe; to come: evidence")
    run.committed(OWN.unit("probe", "zoo-vit", Images(0, 100)), 1.0)
    assert run.stages["probe"].done == 100, "a merge counts no image again"
    run.again(unit(0))
    assert run.stages["visualize"].done == 0


def test_a_stage_that_was_seen_counts_by_what_it_took(clock):
    """A hundredth of the FLOPs, as slow as the pictures: half of the work."""
    run = shown(io.StringIO())
    run.tick(workers=1, at_work=1)
    run.committed(unit(0), 10.0)
    assert run.work() == (10.0, pytest.approx(30.0 + 10 / 16))
    run.committed(OWN.unit("probe", "zoo-vit", SLICES[0]), 24.0)
    clock.now = 40.0  # of which the worker was at units for 34 seconds
    busy, left = run.work()
    assert busy == 34.0
    assert 46.0 <= left <= 1.5 * 46.0, "at the pace of each stage 30 and 16 seconds are left"
    assert "1 unit at work" in run.line()
    assert " left, 0 failed; visualize 16 of 64 neurons" in run.line()


def test_what_is_done_of_a_unit_at_work_counts(clock):
    """Else a run whose units are as long as it is tells nothing until it is over."""
    run = shown(io.StringIO())
    run.tick(workers=1, at_work=0)
    run.committed(unit(0), 10.0)
    clock.now = 10.0
    run.started(unit(16))
    before = run.work()
    clock.now = 15.0
    assert run.work() == (pytest.approx(before[0] + 5.0), pytest.approx(before[1] - 5.0))
    clock.now = 1000.0
    assert run.work()[1] >= 20.0 + 1.0 - 1e-9, "a unit that takes longer than it should is never done by that"
    run.ended(unit(16))
    assert run.work() == pytest.approx(before)


def test_before_any_worker_answered_it_says_so(clock):
    assert "waiting for workers" in shown(io.StringIO()).line()


def test_plain_lines_now_and_then_where_there_is_no_terminal(clock):
    stream = io.StringIO()
    with shown(stream, (unit(0),)) as run:
        for second in range(100):
            clock.now = float(second)
            run.tick(workers=1, at_work=1)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 + 1, "every 20 s, and at the end"
    assert all(line.startswith("1 unit at work, 0 failed; visualize 16 of 64 neurons") for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_a_live_line_a_stage_on_a_terminal():
    stream = Terminal()
    with shown(stream) as run:
        run.committed(unit(0), 1.0)
        run.tick(workers=1, at_work=1)
        run.say("Worker 1 was lost")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "16 of 64 neurons" in text
    assert "0 of 100 images" in text
    assert "Worker 1 was lost" in text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (12600, "3.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text
