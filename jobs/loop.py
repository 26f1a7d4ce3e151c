"""The scheduling loop: hands work units to workers, settles what comes back, replaces what dies.

Assemblies of shards (`jobs.task`) are handed out and settled as units are. The loop knows nothing of Ray: an
`Executor` starts workers and reports events, so that the whole logic runs in virtual time in the tests. Outcomes of an
attempt are kept apart by what they speak against:

- a receipt: the part is committed;
- a *unit fault*: the computation raised. It spends the unit's retries, then the unit is given up; where the
  model cannot do the stage at all, so are the other units of that stage of that model, and nothing else;
- an *infrastructure fault*: the worker died, hung or vanished, or the store did not answer it. Exactly that unit
  is queued again and the worker replaced or let rest, with backoff; but a unit that fells several workers is given
  up too. A worker that was lost before it began the unit, or at one moment with several others (a node), speaks
  against no unit.

A worker for which no unit is ready is let go after `idle_seconds`, so that a cluster can give its node back while
others go on with a long chain of units; another is asked for when units are ready again.

What ends the run: a full disk, a store that refuses for `store_seconds` while nothing is committed, weights that
several workers find to differ from the driver's, workers that cannot be had, and the loss of the cluster's head.

Memory that ran out, in the unit or by a worker killed for it, is a fault of neither: what ran beside it counts as much.
Such a unit is put aside until nothing else can be done, and then done alone with the smallest batch. Only where that
is too much as well is it given up.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable

from atlas_schema.units import WorkUnit
from jobs.events import (
    Committed,
    Event,
    Executor,
    Fault,
    Flight,
    HeadLost,
    Listener,
    Outcome,
    Policy,
    Ready,
    Scope,
    Stop,
    UnitFailed,
    WorkerLost,
)
from jobs.queue import Queue
from jobs.task import Task


class Loop:
    """One pass over `units`; `run()` returns when each is committed, given up, or was left by a stop."""

    def __init__(
        self,
        units: Iterable[Task],
        executor: Executor,
        policy: Policy,
        listener: Listener,
        stop: Callable[[], Stop] = lambda: Stop.NO,
    ):
        self.todo = Queue(units)
        self.executor, self.policy, self.listener, self.stop = executor, policy, listener, stop
        self.outcome = Outcome()
        self.flying: dict[int, Flight] = {}
        self.starting: dict[int, float] = {}  # worker -> when it was asked for
        self.hired: dict[int, float] = {}  # the same of every worker there is
        self.idle: dict[int, float] = {}  # worker -> since when
        self.waited_at = executor.clock()  # when a unit last waited for a worker
        self.holds: dict[int, Task] = {}  # worker -> its last unit, whose model it has loaded
        self.faults: Counter[Task] = Counter()
        self.felled: Counter[Task] = Counter()
        self.aside: deque[Task] = deque()  # to be done alone, when nothing else can be
        self.starved: Counter[Task] = Counter()  # how often memory ran out
        self.start_failures = 0
        self.starts_told = False
        self.nobody_since = executor.clock()  # since when no worker was there but those that are starting
        self.lost_in_a_row = 0
        self.lately: list[tuple[float, Task | None]] = []  # losses of the event that goes on: when, and with what
        self.together: Counter[Task] = Counter()  # how often a unit was lost in an event of many
        self.store_since = math.inf  # when the store first refused since the last commit
        self.refused: Counter[int] = Counter()  # by worker: refusals in a row
        self.rests: dict[int, float] = {}  # worker -> until when it is given nothing
        self.headless = False
        self.foreign: set[int] = set()  # workers that loaded other weights
        self.hire_after = 0.0
        self.looked_at = -math.inf  # when hung workers were last looked for

    def run(self) -> Outcome:
        try:
            self._run()
        finally:
            self._close()
        return self.outcome

    def _run(self) -> None:
        deadline: float | None = None
        while self._unfinished() or self._last():
            if deadline is None and (self.outcome.fatal or self.stop() is not Stop.NO):
                self.outcome.stopped = self.outcome.fatal is None
                deadline = self.executor.clock() + self.policy.grace_seconds
                self.listener.stopping(len(self.flying), self.policy.grace_seconds)
            if deadline is None:
                self._staff()
                self._hand_out()
            elif not self.flying or self.executor.clock() >= deadline or self.headless:
                break
            for event in self.executor.wait(self.policy.tick_seconds):
                self._settle(event)
            self._dismiss_hung()
            self._look_at_starts()
            self._let_idle_go()
            self.listener.tick(len(self.todo) + len(self.aside), len(self.flying), len(self.idle) + len(self.flying))

    def _unfinished(self) -> bool:
        return bool(self.flying or self.todo or self.aside)

    def _last(self) -> bool:
        """Whether there is something to do that had to wait for everything else."""
        if self.outcome.fatal or self.stop() is not Stop.NO:
            return False
        self.todo.extend(self.listener.last())
        return bool(self.todo)

    def _close(self) -> None:
        """Dismiss everyone; what is still in flight or queued is left for the next run."""
        self.outcome.left = [*(flight.unit for flight in self.flying.values()), *self.todo, *self.aside]
        for worker in [*self.flying, *self.idle, *self.starting]:
            self.executor.dismiss(worker)
        self.flying.clear()

    def _staff(self) -> None:
        """Start or replace workers, never more than there is work for."""
        if self.executor.clock() < self.hire_after:
            return
        present = len(self.flying) + len(self.idle) + len(self.starting)
        wanted = 1 if self._one_alone() else min(self.policy.workers, len(self.todo) + len(self.flying))
        for _ in range(wanted - present):
            worker = self.executor.hire()
            self.starting[worker] = self.hired[worker] = self.executor.clock()

    def _one_alone(self) -> bool:
        """Whether a unit is at work alone, or nothing is left to do but such units."""
        if self._at_work_alone():
            return True
        return bool(self.aside) and not self.todo and not self.flying

    def _at_work_alone(self) -> bool:
        """Whether a unit is at work alone: then it is the only one, as all other workers were let go."""
        return len(self.flying) == 1 and next(iter(self.flying.values())).alone

    def _hand_out(self) -> None:
        if self._at_work_alone():
            return
        now = self.executor.clock()
        for worker in sorted(self.idle, key=self._aptness) if self.todo else ():
            if not self.todo:
                break
            if now < self.rests.get(worker, now):
                continue
            self._assign(worker, self.todo.take(self.holds.get(worker)))
        if self.idle and self._one_alone():
            first, *others = sorted(self.idle)
            for worker in [*others, *self.starting]:  # their models take memory too
                self._let_go(worker)
                self.executor.dismiss(worker)
            self._assign(first, self.todo.reserve(self.aside.popleft()), alone=True)

    def _aptness(self, worker: int) -> tuple[int, int]:
        """Who is given a unit first: one that has loaded what a waiting unit needs; then those that came first, so that
        the others may go.
        """
        return self.todo.distance(self.holds.get(worker)), worker

    def _let_idle_go(self) -> None:
        """Let workers go that had no unit for long, and no longer ask for those that have not started."""
        now, patience = self.executor.clock(), self.policy.idle_seconds
        if self.todo:
            self.waited_at = now
            return
        spare = [worker for worker, since in self.idle.items() if now - since >= patience]
        spare += [worker for worker in self.starting if now - self.waited_at >= patience]
        for worker in spare:
            self._let_go(worker)
            self.executor.dismiss(worker)
        if spare:
            self.listener.let_go(spare, patience)

    def _assign(self, worker: int, unit: Task, *, alone: bool = False) -> None:
        held = self.holds.get(worker)
        loads = isinstance(unit, WorkUnit)  # an assembly needs no model, and leaves the one that is there
        loaded = not loads or (held is not None and held.slug == unit.slug and not alone)
        del self.idle[worker]
        if loads:
            self.holds[worker] = unit
        patience = self.policy.hang_seconds if loaded else max(self.policy.load_seconds, self.policy.hang_seconds)
        attempt = self.faults[unit] + self.felled[unit] + self.starved[unit] + 1
        beat, now = self.executor.beat(worker), self.executor.clock()
        self.flying[worker] = Flight(unit, attempt, beat, now, patience, alone)
        self.executor.assign(worker, unit, attempt, alone=alone)
        self.listener.started(worker, unit, attempt)

    def _let_go(self, worker: int) -> None:
        self.starting.pop(worker, None)
        self.idle.pop(worker, None)
        self.holds.pop(worker, None)
        self.hired.pop(worker, None)
        self.rests.pop(worker, None)
        self.refused.pop(worker, None)

    def _settle(self, event: Event) -> None:
        match event:
            case Ready(worker):
                self.starting.pop(worker, None)
                self.start_failures, self.starts_told = 0, False
                self.idle[worker] = self.executor.clock()
            case Committed(worker, unit, receipt, seconds, peak):
                self._land(worker)
                self.lost_in_a_row, self.store_since = 0, math.inf
                self.refused.pop(worker, None)
                self.outcome.done.append(receipt)
                self.todo.extend(self.listener.committed(worker, unit, receipt, seconds, peak))
            case UnitFailed(worker, unit, fault):
                self._land(worker)
                again = self.listener.part_lost(unit, fault.lost, fault) if fault.lost else None
                if again is not None:
                    self.todo.extend(again)
                elif fault.memory:
                    self._starved(unit, str(fault))
                else:
                    self._faulted(worker, unit, fault)
            case WorkerLost():
                self._worker_lost(event)
            case HeadLost(reason):
                self.outcome.fatal, self.headless = Fault("WorkFailed", reason), True

    def _land(self, worker: int) -> None:
        self.todo.landed(self.flying.pop(worker).unit)
        self.idle[worker] = self.executor.clock()

    def _faulted(self, worker: int, unit: Task, fault: Fault) -> None:
        match fault.scope:
            case Scope.RUN:
                self.outcome.fatal = fault
                self.todo.put_first(unit)
            case Scope.STAGE:
                self._give_up(unit, fault)
                others = self.todo.drop(unit.slug, unit.stage) if isinstance(unit, WorkUnit) else []
                self.outcome.failed |= dict.fromkeys(others, fault)
                if isinstance(unit, WorkUnit) and others:
                    self.listener.stage_ended(unit, others, fault)
            case Scope.STORE:
                self._refused(worker, unit, fault)
            case Scope.WORKER:
                self._foreign(worker, unit, fault)
            case Scope.UNIT:
                self._unit_fault(unit, fault)

    def _unit_fault(self, unit: Task, fault: Fault) -> None:
        self.faults[unit] += 1
        if not self.outcome.done and self.faults.total() >= self.policy.hopeless:
            self.outcome.fatal = Fault("WorkFailed", f"nothing could be done; the last error: {fault}", fault.trace)
        if self.faults[unit] > self.policy.retries:
            self._give_up(unit, fault)
        else:
            self.listener.retrying(unit, self.faults[unit] + 1, fault)
            self.todo.extend([unit])  # last: a passing fault has time to pass

    def _refused(self, worker: int, unit: Task, fault: Fault) -> None:
        """The store did not answer this worker: the unit goes to another; the run ends where nobody is answered."""
        now = self.executor.clock()
        self.todo.put_first(unit)
        self.store_since = min(self.store_since, now)
        if now - self.store_since >= self.policy.store_seconds:
            self.outcome.fatal = fault
            return
        self.refused[worker] += 1
        self.listener.resting(worker, unit, fault)
        if self.refused[worker] >= self.policy.store_refusals:
            self._replace(worker, f"the store refused it {self.refused[worker]} times: {fault}")
        else:
            rest = self.policy.store_rest * 2.0 ** (self.refused[worker] - 1)
            self.rests[worker] = now + min(rest, self.policy.backoff_most)

    def _foreign(self, worker: int, unit: Task, fault: Fault) -> None:
        """A worker loaded other weights than the driver: one has a stale file; with several it is the driver's word
        that is in doubt.
        """
        self.todo.put_first(unit)
        self.foreign.add(worker)
        if len(self.foreign) >= self.policy.weights_differ:
            self.outcome.fatal = fault
        else:
            self._replace(worker, str(fault))

    def _replace(self, worker: int, reason: str) -> None:
        """Let a worker go that is at no unit; another is started in its place."""
        self._let_go(worker)
        self.executor.dismiss(worker)
        self.outcome.workers_lost += 1
        self.listener.lost(worker, None, reason)

    def _give_up(self, unit: Task, fault: Fault) -> None:
        self.outcome.failed[unit] = fault
        self.listener.gave_up(unit, fault)

    def _worker_lost(self, event: WorkerLost) -> None:
        worker, reason = event.worker, event.reason
        flight = self.flying.pop(worker, None)
        unit = flight.unit if flight else None
        if flight:
            self.todo.landed(flight.unit)
        new_event = self._new_event(worker)
        self._let_go(worker)
        self.outcome.workers_lost += 1
        if new_event:
            self.lost_in_a_row += 1
            if event.memory and not flight and not self.flying:
                self._starved_at_the_start(reason)
        self.lately.append((self.executor.clock(), unit if event.begun and not event.memory else None))
        self._back_off()
        self.listener.lost(worker, unit, reason)
        if unit and event.memory:
            self._starved(unit, reason)
        elif unit:
            self._felled(unit, reason, event.begun)
        if event.in_constructor:
            self._start_failed(reason)
        if self.lost_in_a_row >= self.policy.lost_in_a_row:
            self.outcome.fatal = Fault(
                "WorkFailed",
                f"workers were lost {self.lost_in_a_row} times without one committed unit in between; the last: "
                f"{reason}",
            )

    def _new_event(self, worker: int) -> bool:
        """Whether no other worker was lost just before: nodes fail, and systems short of memory kill, several at once.

        An event ends `one_event_seconds` after it began, and concerns those that were there then.
        """
        now = self.executor.clock()
        began = self.lately[0][0] if self.lately else -math.inf
        if now - began <= self.policy.one_event_seconds and self.hired.get(worker, now) < began:
            return False
        self.lately.clear()
        return True

    def _felled(self, unit: Task, reason: str, begun: bool) -> None:
        """A worker was lost with a unit: the unit is suspected if the worker had begun it, and was lost by itself."""
        if begun:
            self.felled[unit] += 1
        if len(self.lately) >= self.policy.lost_together:
            for _, one in self.lately:
                if one is not None:
                    self.felled[one] -= 1
                    self.together[one] += 1
            self.lately = [(at, None) for at, _ in self.lately]
        count = self.felled[unit] + self.together[unit] // 2  # one that is there whenever many die is not innocent
        if begun and count >= self.policy.felled:
            self._give_up(unit, Fault("WorkerLost", f"took down {count} workers; the last: {reason}"))
        else:
            self.todo.put_first(unit)

    def _start_failed(self, reason: str) -> None:
        self.start_failures += 1
        if self.start_failures >= self.policy.start_failures and not (self.flying or self.idle):
            self.outcome.fatal = Fault("WorkFailed", f"workers cannot start: {reason}")

    def _look_at_starts(self) -> None:
        """Say once that workers do not start; where nobody is at work that long, end."""
        now = self.executor.clock()
        if self.flying or self.idle or not self.starting:
            self.nobody_since = now
        waited = now - min(self.starting.values(), default=now)
        if waited >= self.policy.start_told and not self.starts_told:
            self.starts_told = True
            self.listener.not_starting(len(self.starting), waited, self.executor.shortage())
        if now - self.nobody_since >= self.policy.start_seconds:
            self.outcome.fatal = Fault(
                "WorkFailed", f"no worker started within {waited:.0f} s. {self.executor.shortage()}"
            )

    def _starved_at_the_start(self, reason: str) -> None:
        """A worker was killed for memory though none was given a unit: what is missing is room for a worker."""
        self.start_failures += 1
        if self.start_failures >= self.policy.start_failures:
            self.outcome.fatal = Fault(
                "WorkFailed",
                "workers are killed for want of memory before they are given a unit. Free memory on this machine, or "
                f"ask for fewer workers (--workers 1). The last: {reason}",
            )

    def _starved(self, unit: Task, reason: str) -> None:
        self.starved[unit] += 1
        if not self.outcome.done and self.starved.total() >= self.policy.hopeless:
            self.outcome.fatal = Fault("WorkFailed", f"nothing could be done for want of memory; the last: {reason}")
        if self.starved[unit] > 1:
            self._give_up(unit, Fault("OutOfMemory", self.listener.starved(unit, reason), memory=True))
        else:
            self.aside.append(unit)
            self.listener.put_aside(unit, reason)

    def _back_off(self) -> None:
        delay = self.policy.backoff_seconds * 2 ** (self.lost_in_a_row - 1)
        self.hire_after = self.executor.clock() + min(delay, self.policy.backoff_most)

    def _dismiss_hung(self) -> None:
        """Only an advancing step counter counts as life: a worker may answer and yet do nothing."""
        now = self.executor.clock()
        since = now - self.looked_at
        if since < self.policy.tick_seconds:  # once a tick, however many events there are
            return
        self.looked_at = now
        unheard = since if since > self.policy.blocked_seconds else 0.0  # the driver stood still, and heard no beat
        for worker, flight in list(self.flying.items()):
            beat = self.executor.beat(worker)
            if beat != flight.beat:
                flight.beat, flight.beat_at, flight.patience = beat, now, self.policy.hang_seconds
                continue
            flight.beat_at = min(now, flight.beat_at + unheard)
            if now - flight.beat_at > flight.patience:
                self.executor.dismiss(worker)
                self._worker_lost(WorkerLost(worker, f"no step for {flight.patience:.0f} s"))
