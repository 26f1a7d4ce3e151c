"""Real Ray actors behind the loop's interface: whether a worker that is gone had begun its unit."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
import ray
from ray.actor import ActorHandle

from atlas_schema.units import Neurons, WorkUnit
from jobs.events import Event, Ready, WorkerLost
from jobs.plan import Machine
from jobs.ray_run import HEAD_SECONDS, Head, RayExecutor
from tests.jobs.test_memory import settings

UNIT = WorkUnit("visualize", "zoo-vit", Neurons(0, 0, 16), "f" * 64, "r" * 16)


def next_event(executor: RayExecutor, seconds: float = 120) -> Event:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for event in executor.wait(0.2):
            return event
    raise AssertionError("nothing happened in time")


def kill(actor: ActorHandle) -> None:
    """Kills an actor and returns when it is dead; `ray.kill` returns while it may still take a task."""
    ray.kill(actor)
    with contextlib.suppress(ray.exceptions.RayActorError):
        while True:
            ray.get(actor.__ray_ready__.remote(), timeout=60)


def test_a_worker_lost_before_it_began_a_unit_says_so(
    ray_here: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ATLAS_FAILPOINTS", f"start@{UNIT}=kill")
    monkeypatch.setenv("ATLAS_FAILPOINT_MARKS", str(tmp_path))
    executor = RayExecutor(settings(stages=()), Machine("cpu", 1, 1), beat_seconds=0.2)
    found = {}
    for how in ("idle", "given a unit when it was dead", "while it was at the unit"):
        worker = executor.hire()
        assert next_event(executor) == Ready(worker)
        if how != "while it was at the unit":
            kill(executor._actors[worker])
        if how != "idle":
            executor.assign(worker, UNIT, 1, alone=False)
        event = next_event(executor)
        assert isinstance(event, WorkerLost)
        assert event.worker == worker
        found[how] = event.begun
    assert found == {"idle": False, "given a unit when it was dead": False, "while it was at the unit": True}


def test_what_is_missing_for_workers_to_start_is_told(ray_here: None) -> None:
    told = RayExecutor(settings(stages=()), Machine("cpu", 1, 64)).shortage()
    assert told.startswith("A worker asks for 64 CPUs")
    assert "the nodes there are have 0 GPUs (0 free), 2 CPUs" in told


def test_a_head_that_does_not_answer_is_lost_only_after_a_while() -> None:
    class Deaf(Head):
        def answers(self) -> bool:
            return answering

    now, answering = 0.0, True
    head = Deaf("127.0.0.1:1", clock=lambda: now)
    lost = []
    for now in range(100):
        answering = not 30 <= now < 38 and now < 60  # a short silence, then a lasting one
        lost.append(head.lost())
    assert lost.index(True) == pytest.approx(60 + HEAD_SECONDS - 5, abs=5)
    assert head.reason.startswith("the head of the Ray cluster at 127.0.0.1:1 does not answer")
    assert not Head("127.0.0.1:1").answers()


def test_a_driver_that_was_busy_does_not_take_the_head_for_lost() -> None:
    now = 0.0
    head = Head("127.0.0.1:1", clock=lambda: now)
    now = 600.0
    assert not head.lost()
