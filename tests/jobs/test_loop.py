"""The scheduling loop against a scripted executor in virtual time: no Ray, no clock, no model."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.parts import PartReceipt, part_path
from atlas_schema.units import Neurons, WorkUnit
from jobs.events import Committed, Event, Fault, Listener, Outcome, Policy, Ready, Scope, Stop, UnitFailed, WorkerLost
from jobs.loop import Loop
from jobs.queue import Queue

FAST = Policy(workers=2, backoff_seconds=1, hang_seconds=30, load_seconds=60)


def unit(index: int, slug: str = "zoo-vit", layer: int = 0) -> WorkUnit:
    return WorkUnit("visualize", slug, Neurons(layer, 16 * index, 16 * index + 16), "f" * 64, "r" * 16)


@dataclass
class Script:
    """What becomes of an attempt: (outcome, seconds). Outcomes: ok, raise, full, die, hang, starve, small."""

    of: Callable[[WorkUnit, int], tuple[str, float]] = lambda unit, attempt: ("ok", 10.0)
    starts: Callable[[int], str] = lambda worker: "ok"  # ok, fail, never


@dataclass
class FakeExecutor:
    """Virtual time: `wait` jumps to the next event. Beats advance each second unless the worker hangs."""

    script: Script
    now: float = 0.0
    hired: int = 0
    alive: set[int] = field(default_factory=set)
    due: list[tuple[float, int, Event]] = field(default_factory=list)
    hung: dict[int, float] = field(default_factory=dict)
    attempts: list[tuple[WorkUnit, int, int]] = field(default_factory=list)
    busy: set[int] = field(default_factory=set)
    hire_times: list[float] = field(default_factory=list)
    lost: WorkUnit | None = None  # what an attempt that ends "lost" could not read
    alone: bool = False  # whether a unit is at work alone now
    alone_units: list[WorkUnit] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def hire(self) -> int:
        self.hired += 1
        worker = self.hired
        self.alive.add(worker)
        self.hire_times.append(self.now)
        how = self.script.starts(worker)
        if how == "ok":
            self.due.append((self.now + 1, worker, Ready(worker)))
        elif how == "fail":
            self.due.append((self.now + 1, worker, WorkerLost(worker, "no such module", in_constructor=True)))
        return worker

    def assign(self, worker: int, unit: WorkUnit, attempt: int, *, alone: bool) -> None:
        assert worker in self.alive
        assert worker not in self.busy, "one unit in flight a worker"
        assert not self.alone, "a unit that is done alone has no neighbour"
        if alone:
            assert self.alive == {worker}, "not even an idle worker, which holds a model"
            self.alone = True
            self.alone_units.append(unit)
        self.busy.add(worker)
        self.attempts.append((unit, attempt, worker))
        outcome, seconds = self.script.of(unit, attempt)
        event: Event | None = {
            "ok": self.done(worker, unit, seconds) if outcome == "ok" else None,
            "raise": UnitFailed(worker, unit, Fault("ValueError", "boom")),
            "full": UnitFailed(worker, unit, Fault("StoreFull", "no space left", scope=Scope.RUN)),
            "lost": UnitFailed(worker, unit, Fault("PartLost", "damaged", lost=self.lost)),
            "die": WorkerLost(worker, "killed"),
            "starve": WorkerLost(worker, "the node runs low on memory", memory=True),
            "small": UnitFailed(worker, unit, Fault("MemoryError", "no room", memory=True)),
            "hang": None,
        }[outcome]
        if event is None:
            self.hung[worker] = self.now
        else:
            self.due.append((self.now + seconds, worker, event))

    def done(self, worker: int, unit: WorkUnit, seconds: float) -> Event:
        """What an attempt that goes well ends in."""
        return Committed(worker, unit, PartReceipt(unit, part_path(unit), 16, 1, True), seconds)

    def wait(self, seconds: float) -> list[Event]:
        self.due.sort(key=lambda entry: entry[0])
        if not self.due or self.due[0][0] > self.now + seconds:
            self.now += seconds
            return []
        self.now, worker, event = self.due.pop(0)
        if not isinstance(event, Ready):
            self.busy.discard(worker)
            self.alone = False
        if isinstance(event, WorkerLost):
            self.alive.discard(worker)
        return [event]

    def shortage(self) -> str:
        return "A worker asks for 4 CPUs; the nodes there are have 2 CPUs."

    def beat(self, worker: int) -> int:
        return int(self.hung.get(worker, self.now))

    def dismiss(self, worker: int) -> None:
        self.alive.discard(worker)
        if worker in self.busy:
            self.busy.discard(worker)
            self.alone = False
        self.due = [entry for entry in self.due if entry[1] != worker]


def play(
    units: list[WorkUnit],
    script: Script | None = None,
    policy: Policy = FAST,
    stop: Callable[[FakeExecutor], Stop] = lambda executor: Stop.NO,
    listener: Listener | None = None,
) -> tuple[Outcome, FakeExecutor]:
    executor = FakeExecutor(script or Script())
    outcome = Loop(units, executor, policy, listener or Listener(), lambda: stop(executor)).run()
    assert not executor.alive, "no worker is left behind"
    settled = Counter([r.unit for r in outcome.done]) + Counter(list(outcome.failed)) + Counter(outcome.left)
    assert set(settled) == set(units)
    assert set(settled.values()) <= {1}, "each unit ends in exactly one place"
    return outcome, executor


def test_all_units_are_done_by_workers_in_parallel():
    outcome, executor = play([unit(i) for i in range(10)])
    assert len(outcome.done) == 10
    assert executor.hired == 2
    assert executor.now == pytest.approx(1 + 5 * 10)


def test_no_more_workers_than_units():
    _, executor = play([unit(0)], policy=Policy(workers=8))
    assert executor.hired == 1


def test_a_unit_that_raises_is_retried_then_given_up_and_the_rest_done():
    bad = unit(1)
    script = Script(lambda u, attempt: ("raise", 1) if u == bad else ("ok", 1))
    outcome, executor = play([unit(i) for i in range(4)], script, Policy(workers=2, retries=2))
    assert outcome.failed == {bad: Fault("ValueError", "boom")}
    assert len(outcome.done) == 3
    assert [attempt for u, attempt, _ in executor.attempts if u == bad] == [1, 2, 3]
    assert executor.hired == 2, "a fault of the unit costs no worker"


def test_a_passing_fault_costs_one_more_attempt():
    script = Script(lambda u, attempt: ("raise", 1) if attempt == 1 else ("ok", 1))
    outcome, executor = play([unit(0), unit(1)], script)
    assert len(outcome.done) == 2
    assert not outcome.failed
    assert len(executor.attempts) == 4


def test_a_dead_worker_is_replaced_and_only_its_unit_done_again():
    script = Script(lambda u, attempt: ("die", 5) if u == unit(2) and attempt == 1 else ("ok", 10))
    outcome, executor = play([unit(i) for i in range(6)], script)
    assert len(outcome.done) == 6
    assert outcome.workers_lost == 1
    assert executor.hired == 3
    assert Counter(u for u, _, _ in executor.attempts) == Counter({unit(i): 1 for i in range(6)} | {unit(2): 2})


def test_a_unit_that_fells_three_workers_is_poisoned():
    script = Script(lambda u, attempt: ("die", 1) if u == unit(0) else ("ok", 1))
    outcome, _executor = play([unit(i) for i in range(5)], script)
    assert list(outcome.failed) == [unit(0)]
    assert "took down 3 workers" in outcome.failed[unit(0)].message
    assert len(outcome.done) == 4
    assert outcome.workers_lost == 3


def test_a_hung_worker_is_replaced_at_its_deadline():
    script = Script(lambda u, attempt: ("hang", 0) if u == unit(0) and attempt == 1 else ("ok", 10))
    outcome, executor = play([unit(0), unit(1)], script)
    assert len(outcome.done) == 2
    assert 60 < executor.now < 60 + 30, "the first unit of a worker includes the load: its patience is load_seconds"


def test_a_worker_that_steps_slowly_is_left_alone():
    outcome, executor = play([unit(0)], Script(lambda u, attempt: ("ok", 10_000)))
    assert len(outcome.done) == 1
    assert executor.hired == 1


def test_workers_that_cannot_start_end_the_run():
    outcome, executor = play([unit(0)], Script(starts=lambda worker: "fail"))
    assert outcome.fatal is not None
    assert "cannot start: no such module" in outcome.fatal.message
    assert outcome.left == [unit(0)]
    assert executor.hired == 3 + 0


def test_replacements_come_with_growing_delays():
    script = Script(lambda u, attempt: ("die", 1))
    policy = Policy(workers=1, felled=99, lost_in_a_row=6, backoff_seconds=1, tick_seconds=0.01)
    outcome, executor = play([unit(0)], script, policy)
    gaps = [b - a for a, b in zip(executor.hire_times, executor.hire_times[1:], strict=False)]
    assert outcome.fatal is not None
    assert gaps == pytest.approx([3, 4, 6, 10, 18], abs=0.1)  # start 1 s, work 1 s, then 1, 2, 4, 8, 16


def test_a_full_disk_stops_the_run_without_blaming_units():
    script = Script(lambda u, attempt: ("full", 1) if u == unit(3) else ("ok", 1))
    outcome, _ = play([unit(i) for i in range(8)], script)
    assert outcome.fatal == Fault("StoreFull", "no space left", scope=Scope.RUN)
    assert not outcome.failed
    assert unit(3) in outcome.left


def test_a_run_in_which_nothing_works_ends_early():
    outcome, executor = play([unit(i) for i in range(100)], Script(lambda u, attempt: ("raise", 1)))
    assert outcome.fatal is not None
    assert "nothing could be done; the last error: ValueError: boom" in outcome.fatal.message
    assert len(executor.attempts) < 40


def test_stop_hands_out_nothing_and_lets_units_in_flight_end():
    outcome, executor = play(
        [unit(i) for i in range(8)], stop=lambda executor: Stop.DRAIN if executor.now > 15 else Stop.NO
    )
    assert outcome.stopped
    assert len(outcome.done) == 4
    assert outcome.left == [unit(i) for i in range(4, 8)]
    assert executor.now < 25


def test_stop_waits_no_longer_than_the_grace():
    outcome, executor = play(
        [unit(0)],
        Script(lambda u, attempt: ("ok", 500)),
        Policy(grace_seconds=20),
        stop=lambda executor: Stop.DRAIN if executor.now > 5 else Stop.NO,
    )
    assert outcome.left == [unit(0)]
    assert 20 < executor.now < 30


def test_workers_keep_their_model_and_share_the_last():
    units = [unit(i, slug) for slug in ("a", "b") for i in range(3)] + [unit(i, "c") for i in range(8)]
    _, executor = play(units)
    slugs: dict[int, list[str]] = {}
    for u, _, worker in executor.attempts:
        slugs.setdefault(worker, []).append(u.slug)
    switches = {worker: sum(a != b for a, b in itertools.pairwise(names)) for worker, names in slugs.items()}
    assert switches == {1: 1, 2: 1}
    assert {names[0] for names in slugs.values()} == {"a", "b"}


def test_workers_of_one_model_start_at_different_sites():
    units = [unit(i, layer=layer) for layer in range(2) for i in range(3)]
    _, executor = play(units)
    layers: dict[int, list[int]] = {}
    for u, _, worker in executor.attempts:
        layers.setdefault(worker, []).append(u.layer)
    assert sorted(layers.values()) == [[0, 0, 0], [1, 1, 1]]


def test_a_damaged_part_named_by_the_listener_is_done_again():
    class Finds(Listener):
        found = False

        def committed(self, worker, unit, receipt, seconds, peak):
            if unit.start == 0 and not self.found:
                self.found = True
                return [unit]
            return []

    executor = FakeExecutor(Script())
    outcome = Loop([unit(0), unit(1)], executor, FAST, Finds()).run()
    assert Counter(r.unit for r in outcome.done) == Counter({unit(0): 2, unit(1): 1})


@pytest.mark.parametrize("shortage", ["starve", "small"])
def test_a_unit_for_which_memory_ran_out_is_done_alone_when_nothing_else_is_left(shortage: str):
    script = Script(lambda u, attempt: (shortage, 5) if u == unit(1) and attempt == 1 else ("ok", 10))
    outcome, executor = play([unit(i) for i in range(7)], script, Policy(workers=3))
    assert len(outcome.done) == 7
    assert executor.alone_units == [unit(1)]
    assert executor.attempts[-1][0] == unit(1), "no worker waits for it while there is other work"
    assert Counter(u for u, _, _ in executor.attempts) == Counter({unit(i): 1 for i in range(7)} | {unit(1): 2})


def test_a_unit_that_is_killed_for_memory_alone_too_is_given_up_with_what_it_needs():
    class Says(Listener):
        def starved(self, unit, reason):
            return f"needs about 9.0 GB, has 4.0 GB: {reason}"

    script = Script(lambda u, attempt: ("starve", 5) if u == unit(0) else ("ok", 1))
    outcome, executor = play([unit(i) for i in range(4)], script, listener=Says())
    text = "needs about 9.0 GB, has 4.0 GB: the node runs low on memory"
    assert outcome.failed == {unit(0): Fault("OutOfMemory", text, memory=True)}
    assert [attempt for u, attempt, _ in executor.attempts if u == unit(0)] == [1, 2]
    assert len(outcome.done) == 3


def test_neighbours_killed_by_one_shortage_are_all_done_and_it_counts_once():
    """Three workers die at once, again and again, until each unit is alone: no unit is to blame, nor the run."""
    policy = Policy(workers=3, felled=1, lost_in_a_row=2, backoff_seconds=0.1)
    outcome, executor = play(
        [unit(i) for i in range(3)], Script(lambda u, attempt: ("starve" if attempt == 1 else "ok", 5)), policy
    )
    assert outcome.fatal is None
    assert len(outcome.done) == 3
    assert sorted(executor.alone_units, key=str) == [unit(i) for i in range(3)]


def test_what_waits_for_a_unit_done_alone_is_done_by_all_workers_again():
    class Graph(Listener):
        def committed(self, worker, one, receipt, seconds, peak):
            return [unit(i) for i in range(10, 16)] if one == unit(0) else ()

    script = Script(lambda u, attempt: ("starve" if (u, attempt) == (unit(0), 1) else "ok", 10))
    executor = FakeExecutor(script)
    outcome = Loop([unit(0)], executor, Policy(workers=3), Graph()).run()
    assert len(outcome.done) == 7
    assert len({worker for u, _, worker in executor.attempts if u.start >= 160}) == 3


def test_workers_killed_for_memory_before_they_do_anything_end_the_run():
    class Dying(FakeExecutor):
        def hire(self) -> int:
            worker = super().hire()
            self.due = [(self.now + 1, worker, WorkerLost(worker, "low on memory", memory=True))]
            self.alive.discard(worker)
            return worker

    executor = Dying(Script())
    outcome = Loop([unit(0)], executor, Policy(workers=1), Listener()).run()
    assert outcome.fatal is not None
    assert "killed for want of memory before they are given a unit" in outcome.fatal.message
    assert outcome.left == [unit(0)]
    assert executor.now < 60, "after three, not twenty"


def test_a_run_for_which_memory_is_too_small_everywhere_ends_early():
    outcome, executor = play([unit(i) for i in range(100)], Script(lambda u, attempt: ("small", 1)))
    assert outcome.fatal is not None
    assert "for want of memory; the last: MemoryError: no room" in outcome.fatal.message
    assert len(executor.attempts) < 40


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from(["ok", "raise", "die", "hang", "starve", "small"]), max_size=12),
    st.integers(1, 4),
    st.integers(1, 9),
)
def test_whatever_happens_every_unit_is_settled_once(faults: list[str], workers: int, count: int):
    """Faults strike the first attempts in order; each unit still ends done or given up, exactly once."""
    queue = list(faults)
    script = Script(lambda u, attempt: (queue.pop(0) if queue else "ok", 3.0))
    outcome, executor = play(
        [unit(i) for i in range(count)],
        script,
        Policy(workers=workers, hang_seconds=5, load_seconds=5, lost_in_a_row=50),
    )
    assert not outcome.left
    assert len(outcome.done) + len(outcome.failed) == count
    assert len(executor.attempts) <= count + len(faults)


def test_a_unit_that_cannot_read_what_another_committed_is_not_to_blame():
    """Its producer is done again, then it: no attempt of its own is spent, and nothing is given up."""
    producer, reader = unit(0), unit(1)
    healed: list[WorkUnit] = []

    class Sent(Listener):
        def part_lost(self, reading, lost, fault):
            healed.append(lost)
            return [lost]

        def committed(self, worker, one, receipt, seconds, peak):
            return [reader] if one == producer and healed else ()

    def of(one: WorkUnit, attempt: int) -> tuple[str, float]:
        return ("lost", 1.0) if one == reader and not healed else ("ok", 1.0)

    executor = FakeExecutor(Script(of))
    executor.lost = producer
    outcome = Loop([producer, reader], executor, Policy(workers=1, retries=0), Sent()).run()
    assert not outcome.failed
    assert [receipt.unit for receipt in outcome.done] == [producer, producer, reader]
    assert healed == [producer]


def test_a_part_that_is_lost_again_and_again_counts_as_a_fault_of_its_reader():
    producer, reader = unit(0), unit(1)
    executor = FakeExecutor(Script(lambda one, attempt: ("lost", 1.0) if one == reader else ("ok", 1.0)))
    executor.lost = producer
    outcome = Loop([producer, reader], executor, Policy(workers=1, retries=1), Listener()).run()
    assert list(outcome.failed) == [reader]
    assert executor.attempts.count((reader, 1, 1)) + executor.attempts.count((reader, 2, 1)) == 2


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 9)), unique=True),
    st.integers(0, 10**9),
)
def test_the_queue_gives_every_unit_once_whatever_comes_and_lands(drawn, seed):
    chance = random.Random(seed)
    units = [unit(index, slug, layer) for slug, layer, index in drawn]
    queue, flying, taken = Queue(units[: len(units) // 2]), [], []
    late = units[len(units) // 2 :]
    while queue or late:
        if late and (not queue or chance.random() < 0.3):
            one = late.pop()
            queue.put_first(one) if chance.random() < 0.5 else queue.extend([one])
            continue
        assert set(queue) & set(taken) == set()
        taken.append(queue.take(chance.choice(flying) if flying else None))
        flying.append(taken[-1])
        if chance.random() < 0.5:
            queue.landed(flying.pop(chance.randrange(len(flying))))
    assert sorted(taken, key=str) == sorted(units, key=str)
    assert len(queue) == 0
    assert list(queue) == []


def test_the_queue_keeps_a_model_then_a_layer_and_spreads_workers_over_them():
    queue = Queue([unit(i, slug, layer) for slug in "ab" for layer in (0, 1) for i in range(3)])
    first, second, third = queue.take(None), queue.take(None), queue.take(None)
    assert (first.slug, first.layer) == ("a", 0)
    assert (second.slug, second.layer) == ("b", 0), "a model that nobody is at"
    assert (third.slug, third.layer) == ("a", 1), "then a layer that nobody is at"
    queue.landed(first)
    assert queue.take(first) == unit(1, "a", 0), "what a worker holds, it goes on with"


class Chain(Listener):
    """Units of a model of which each becomes ready when the one before is committed; then `after` at once."""

    def __init__(self, chain: list[WorkUnit], after: list[WorkUnit]) -> None:
        self.chain, self.after, self.gone = chain, after, []

    def committed(self, worker, one, receipt, seconds, peak):
        if one not in self.chain:
            return ()
        return self.chain[self.chain.index(one) + 1 :][:1] or self.after

    def let_go(self, workers, seconds):
        self.gone += [(worker, seconds) for worker in workers]


def chain_played(idle_seconds: float) -> tuple[Outcome, FakeExecutor, Chain, list[int]]:
    """Four models with a unit each, then ten units of the fourth one after another, then eight at once."""
    first = [unit(0, slug) for slug in "abcd"]
    chain = [first[3], *(unit(i, "d", layer=i) for i in range(1, 11))]
    listener = Chain(chain, [unit(i, "e") for i in range(8)])
    executor = FakeExecutor(Script(lambda one, attempt: ("ok", 40.0)))
    present: list[int] = []

    def look() -> Stop:
        present.append(len(executor.alive))
        return Stop.NO

    policy = Policy(workers=4, idle_seconds=idle_seconds)
    return Loop(first, executor, policy, listener, look).run(), executor, listener, present


def test_workers_that_nothing_waits_for_are_let_go_and_others_come_when_something_does():
    outcome, executor, listener, present = chain_played(idle_seconds=60.0)
    assert len(outcome.done) == 4 + 10 + 8
    assert not outcome.failed
    assert outcome.workers_lost == 0, "none of this counts as a loss"
    assert listener.gone == [(1, 60.0), (2, 60.0), (3, 60.0)]
    at_the_chain = {worker for one, _, worker in executor.attempts if one.slug == "d"}
    assert at_the_chain == {4}, "the one that has the model loaded, though others were idle"
    assert min(present[10:]) == 1
    assert executor.hired == 4 + 3, "for the eight units at the end"
    assert {worker for one, _, worker in executor.attempts if one.slug == "e"} == {4, 5, 6, 7}


def test_without_an_end_to_patience_nobody_is_let_go():
    outcome, executor, listener, _ = chain_played(idle_seconds=float("inf"))
    assert len(outcome.done) == 22
    assert (executor.hired, listener.gone) == (4, [])


def test_workers_that_did_not_start_are_no_longer_asked_for_when_nothing_waits():
    """Eight units, and a cluster of one node, which does them all: the others are given up over the last."""
    listener = Chain([], [])
    executor = FakeExecutor(Script(lambda one, attempt: ("ok", 40.0), lambda worker: "ok" if worker == 1 else "never"))
    outcome = Loop([unit(i) for i in range(8)], executor, Policy(workers=4, idle_seconds=30.0), listener).run()
    assert len(outcome.done) == 8
    assert listener.gone == [(2, 30.0), (3, 30.0), (4, 30.0)]
    assert executor.hired == 4
