"""Whom a lost worker, a store that does not answer, or a driver that stood still speaks against: in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from atlas_schema.units import WorkUnit
from jobs.events import Event, Fault, HeadLost, Listener, Policy, Scope, UnitFailed, WorkerLost
from tests.jobs import test_loop
from tests.jobs.test_loop import FakeExecutor, Script, unit

FAST = Policy(workers=2, backoff_seconds=1, hang_seconds=30, load_seconds=60)


@dataclass
class Heard(Listener):
    said: list[str] = field(default_factory=list)
    on_commit: Callable[[], None] = lambda: None

    def committed(self, *args: object) -> Sequence[WorkUnit]:
        self.on_commit()
        return ()

    def not_starting(self, count: int, seconds: float, shortage: str) -> None:
        self.said.append(f"{count} after {seconds:.0f} s: {shortage}")

    def stage_ended(self, unit: WorkUnit, others: Sequence[WorkUnit], fault: Fault) -> None:
        self.said.append(f"{unit.stage} of {unit.slug} with {len(others)} others")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch):
    """`test_loop.play` with events of our own: by unit, attempt and worker what becomes of an attempt, or None."""

    def of(
        units: list[WorkUnit],
        event: Callable[[WorkUnit, int, int], Event | None],
        policy: Policy = FAST,
        listener: Listener | None = None,
        executor: type[FakeExecutor] = FakeExecutor,
        **script: object,
    ):
        class Scripted(executor):  # type: ignore[misc, valid-type]
            def assign(self, worker: int, unit: WorkUnit, attempt: int, *, alone: bool) -> None:
                super().assign(worker, unit, attempt, alone=alone)
                own = event(unit, attempt, worker)
                if own is not None:
                    self.due[-1] = (self.due[-1][0], worker, own)

        monkeypatch.setattr(test_loop, "FakeExecutor", Scripted)
        return test_loop.play(units, Script(**script), policy, listener=listener)  # type: ignore[arg-type]

    return of


def test_idle_workers_that_are_dead_when_they_get_a_unit_do_not_speak_against_it(play):
    """A worker that died unnoticed is given a unit and never begins it: four times, for one unit."""

    def event(one: WorkUnit, attempt: int, worker: int) -> Event | None:
        return WorkerLost(worker, "it was dead already", begun=False) if worker <= 4 else None

    outcome, _ = play([unit(0)], event, Policy(workers=1, backoff_seconds=1))
    assert [receipt.unit for receipt in outcome.done] == [unit(0)]
    assert outcome.workers_lost == 4


def test_a_node_that_fails_again_and_again_speaks_against_no_unit(play):
    """Eight workers are lost at one moment, three times; each unit was on a lost worker three times."""
    lost_at: set[int] = set()

    def event(one: WorkUnit, attempt: int, worker: int) -> Event | None:
        if worker <= 24:
            lost_at.add(worker)
            return WorkerLost(worker, "the node is gone")
        return None

    units = [unit(i) for i in range(8)]
    policy = Policy(workers=8, backoff_seconds=20, lost_in_a_row=5)
    outcome, _ = play(units, event, policy)
    assert len(lost_at) == 24
    assert outcome.fatal is None, "three events are no twenty"
    assert outcome.failed == {}
    assert len(outcome.done) == 8


def test_a_unit_that_is_there_whenever_many_workers_die_is_given_up(play):
    def event(one: WorkUnit, attempt: int, worker: int) -> Event | None:
        return WorkerLost(worker, "segmentation fault") if one.start < 3 * 16 else None

    outcome, _ = play([unit(i) for i in range(12)], event, Policy(workers=4, backoff_seconds=1))
    assert {one.start for one in outcome.failed} == {0, 16, 32}
    assert len(outcome.done) == 9


def test_a_driver_that_stood_still_dismisses_nobody(play):
    """It assembled shards for ten minutes; the beats it did not hear meanwhile are no sign of a hung worker."""

    class Busy(FakeExecutor):
        def beat(self, worker: int) -> int:
            return int(self.heard) if hasattr(self, "heard") else 0

        def wait(self, seconds: float) -> list[Event]:
            events = super().wait(seconds)
            self.heard = self.now - 5  # beats are heard a little late
            return events

    stood: list[float] = []

    class Slow(Heard):
        def committed(self, *args: object) -> Sequence[WorkUnit]:
            if not stood:
                stood.append(1)
                running[0].now += 600
            return ()

    running: list[FakeExecutor] = []

    class Kept(Busy):
        def __init__(self, script: Script) -> None:
            super().__init__(script)
            running.append(self)

    def seconds(one: WorkUnit, attempt: int) -> tuple[str, float]:
        return ("ok", 10.0) if one == unit(0) else ("ok", 700.0)

    outcome, _ = play([unit(0), unit(1)], lambda *_: None, FAST, Slow(), Kept, of=seconds)
    assert stood
    assert outcome.workers_lost == 0
    assert len(outcome.done) == 2


def test_a_hung_worker_is_found_although_the_driver_stands_still_now_and_then(play):
    running: list[FakeExecutor] = []

    class Kept(FakeExecutor):
        def __init__(self, script: Script) -> None:
            super().__init__(script)
            running.append(self)

        def wait(self, seconds: float) -> list[Event]:
            events = super().wait(seconds)
            if random.Random(self.now).random() < 0.1:
                self.now += 20  # the driver is slow elsewhere
            return events

    def once(one: WorkUnit, attempt: int) -> tuple[str, float]:
        return ("hang", 0.0) if one == unit(0) and attempt == 1 else ("ok", 10.0)

    outcome, _ = play([unit(0)], lambda *_: None, FAST, executor=Kept, of=once)
    assert outcome.workers_lost == 1
    assert len(outcome.done) == 1


def test_workers_that_never_start_are_told_within_a_minute_and_end_the_run(play):
    listener = Heard()
    outcome, executor = play([unit(0)], lambda *_: None, FAST, listener, starts=lambda worker: "never")
    assert listener.said == ["1 after 60 s: A worker asks for 4 CPUs; the nodes there are have 2 CPUs."]
    assert outcome.fatal is not None
    assert "no worker started within 1800 s. A worker asks for 4 CPUs" in outcome.fatal.message
    assert outcome.left == [unit(0)]
    assert executor.now < 1900


def test_workers_that_never_start_beside_others_end_nothing(play):
    listener = Heard()
    starts = {1: "ok"}
    outcome, _ = play(
        [unit(i) for i in range(300)],
        lambda *_: None,
        FAST,
        listener,
        starts=lambda worker: starts.get(worker, "never"),
        of=lambda one, attempt: ("ok", 10.0),
    )
    assert outcome.fatal is None
    assert len(outcome.done) == 300
    assert len(listener.said) == 1


def test_a_node_where_workers_cannot_start_does_not_end_the_others_work(play):
    outcome, _ = play(
        [unit(i) for i in range(40)],
        lambda *_: None,
        Policy(workers=2, backoff_seconds=1, lost_in_a_row=99),
        starts=lambda worker: "ok" if worker == 1 else "fail",
    )
    assert outcome.fatal is None
    assert len(outcome.done) == 40


REFUSED = Fault("StoreFailed", "503 slow down", scope=Scope.STORE)


def test_a_passing_refusal_of_the_store_costs_time_and_no_retry(play):
    refusals = iter(range(12))

    def event(one: WorkUnit, attempt: int, worker: int) -> Event | None:
        return UnitFailed(worker, one, REFUSED) if next(refusals, None) is not None else None

    outcome, _ = play([unit(i) for i in range(6)], event, Policy(workers=2, retries=0))
    assert outcome.fatal is None
    assert len(outcome.done) == 6
    assert outcome.failed == {}


def test_a_store_that_refuses_persistently_ends_the_run_with_its_reason(play):
    outcome, executor = play([unit(i) for i in range(6)], lambda one, _, worker: UnitFailed(worker, one, REFUSED))
    assert outcome.fatal == REFUSED
    assert set(outcome.left) == {unit(i) for i in range(6)}
    assert 600 <= executor.now < 1000


def test_one_worker_without_network_is_replaced_and_the_rest_goes_on(play):
    def event(one: WorkUnit, attempt: int, worker: int) -> Event | None:
        return UnitFailed(worker, one, REFUSED) if worker == 1 else None

    outcome, executor = play([unit(i) for i in range(60)], event)
    assert outcome.fatal is None
    assert len(outcome.done) == 60
    assert outcome.workers_lost == 1
    assert sum(1 for _, _, worker in executor.attempts if worker == 1) == FAST.store_refusals


OTHERS = Fault("WeightsMismatch", "other weights", scope=Scope.WORKER)


def test_a_worker_with_other_weights_is_replaced(play):
    outcome, _ = play(
        [unit(i) for i in range(6)],
        lambda one, _, worker: UnitFailed(worker, one, OTHERS) if worker == 1 else None,
    )
    assert outcome.fatal is None
    assert len(outcome.done) == 6


def test_several_workers_with_other_weights_end_the_run(play):
    outcome, _ = play([unit(i) for i in range(6)], lambda one, _, worker: UnitFailed(worker, one, OTHERS))
    assert outcome.fatal == OTHERS
    assert outcome.failed == {}


def test_a_stage_that_a_model_cannot_do_ends_for_that_model_alone(play):
    listener = Heard()
    cannot = Fault("UnknownFamily", "no such operation", scope=Scope.STAGE)

    def event(one: WorkUnit, attempt: int, worker: int) -> Event | None:
        return UnitFailed(worker, one, cannot) if one.slug == "b" else None

    units = [unit(i, slug) for slug in "ab" for i in range(10)]
    outcome, executor = play(units, event, FAST, listener)
    assert {one.slug for one in outcome.failed} == {"b"}
    assert len(outcome.failed) == 10
    assert len(outcome.done) == 10
    assert sum(one.slug == "b" for one, _, _ in executor.attempts) <= 2, "what waits is not tried"
    assert listener.said == [f"visualize of b with {10 - sum(u.slug == 'b' for u, _, _ in executor.attempts)} others"]


def test_the_loss_of_the_clusters_head_ends_the_run_at_once(play):
    """Ray ends the driver's process a minute later: there is no time for units at work."""

    class Headless(FakeExecutor):
        def wait(self, seconds: float) -> list[Event]:
            return [HeadLost("the head is gone")] if self.now > 30 else super().wait(seconds)

    outcome, executor = play([unit(i) for i in range(9)], lambda *_: None, executor=Headless)
    assert outcome.fatal is not None
    assert outcome.fatal.message == "the head is gone"
    assert len(outcome.done) + len(outcome.left) == 9
    assert executor.now < 35
