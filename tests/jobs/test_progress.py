"""What a run shows: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from atlas_schema.parts import WorkUnit
from jobs import progress
from jobs.progress import StageProgress, duration


def unit(start: int) -> WorkUnit:
    return WorkUnit("visualize", "zoo-vit", 0, start, start + 16, "f", "r", 0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_counts_rate_time_left_and_failures(clock):
    stage = StageProgress("visualize", 64, 16, {unit(0): 1.0, unit(16): 1.0, unit(32): 2.0}, io.StringIO())
    stage.tick(workers=2, at_work=0)
    assert stage.line() == "16 of 64 neurons, 0 failed"
    clock.now = 10.0
    stage.committed(unit(0))
    assert stage.line() == "32 of 64 neurons, 1.6/s, 30 s left, 0 failed", "a quarter of the FLOPs in 10 s"
    stage.gave_up(unit(32))
    assert stage.line() == "32 of 64 neurons, 1.6/s, 3 s left, 16 failed"
    stage.again(unit(0))
    assert stage.done == 16


def test_before_any_worker_answered_it_says_so(clock):
    assert "waiting for workers" in StageProgress("visualize", 64, 0, {}, io.StringIO()).line()


def test_plain_lines_now_and_then_where_there_is_no_terminal(clock):
    stream = io.StringIO()
    with StageProgress("visualize", 32, 0, {unit(0): 1.0, unit(16): 1.0}, stream) as stage:
        for second in range(100):
            clock.now = float(second)
            stage.tick(workers=1, at_work=1)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 + 1, "every 20 s, and at the end"
    assert all(line.startswith("visualize: 0 of 32 neurons, 1 unit at work") for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_one_live_line_on_a_terminal():
    stream = Terminal()
    with StageProgress("visualize", 32, 0, {unit(0): 1.0}, stream) as stage:
        stage.committed(unit(0))
        stage.tick(workers=1, at_work=1)
        stage.say("Worker 1 was lost")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "16 of 32 neurons" in text
    assert "Worker 1 was lost" in text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (12600, "3.5 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text
