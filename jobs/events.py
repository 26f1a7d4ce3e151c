"""What the scheduling loop is told, and by whom: faults, events, workers; who listens, and the numbers it goes by.

An `Executor` starts workers and reports events; the loop (`jobs.loop`) knows it by this protocol alone, so that its
whole logic runs in virtual time in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from atlas_schema.units import WorkUnit
from jobs.memory import Peak
from jobs.task import Receipt, Task


class Scope(Enum):
    """What a fault speaks against, and so what it ends."""

    UNIT = "unit"
    STAGE = "stage"  # a model cannot do it: no unit of this stage of the model can succeed
    STORE = "store"  # the store did not answer this worker, this time
    WORKER = "worker"  # it loaded other weights than the driver, or its device computes other numbers than a CPU
    RUN = "run"  # no unit can succeed: a full disk


@dataclass(frozen=True)
class Fault:
    """An exception as a plain record: it crosses processes without being unpickled as its own class."""

    kind: str  # class name of the exception
    message: str
    trace: str = ""
    scope: Scope = Scope.UNIT
    lost: WorkUnit | None = None  # the unit whose committed part was needed, and is damaged or gone
    memory: bool = False  # memory ran out, with the smallest batch too

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


@dataclass(frozen=True)
class Ready:
    """The worker answered for the first time."""

    worker: int


@dataclass(frozen=True)
class Committed:
    worker: int
    unit: Task
    receipt: Receipt
    seconds: float = 0.0
    peak: Peak = field(default_factory=Peak)


@dataclass(frozen=True)
class UnitFailed:
    worker: int
    unit: Task
    fault: Fault


@dataclass(frozen=True)
class WorkerLost:
    """The worker is gone, with whatever it was doing."""

    worker: int
    reason: str
    in_constructor: bool = False
    memory: bool = False  # killed because memory ran out
    begun: bool = True  # it had begun the unit that it was given


@dataclass(frozen=True)
class HeadLost:
    """What holds the cluster together is gone: no worker can be had any more, and none can be asked."""

    reason: str


Event = Ready | Committed | UnitFailed | WorkerLost | HeadLost


class Executor(Protocol):
    """Starts workers and reports what happens to them; each worker does one unit at a time."""

    def clock(self) -> float: ...  # seconds, monotonic
    def hire(self) -> int: ...  # returns at once; Ready or WorkerLost follows
    def assign(self, worker: int, unit: Task, attempt: int, *, alone: bool) -> None: ...  # alone: least memory
    def wait(self, seconds: float) -> list[Event]: ...  # at most so long; [] if nothing happened
    def beat(self, worker: int) -> int: ...  # steps the worker made so far, as last heard
    def shortage(self) -> str: ...  # what workers ask for, and what there is: said where none can start
    def dismiss(self, worker: int) -> None: ...  # kill at once; no event follows


class Stop(Enum):
    NO = 0
    DRAIN = 1  # hand out nothing, let units in flight end within the grace


@dataclass(frozen=True)
class Policy:
    workers: int = 1
    retries: int = 2  # of a unit whose computation raised
    felled: int = 3  # workers that one unit may take down
    hang_seconds: float = 600.0  # without a step
    load_seconds: float = 1800.0  # the same while the model is being loaded (a download may be part of it)
    start_failures: int = 3  # in a row while nobody is at work, before the run is given up
    start_told: float = 60.0  # seconds after which it is said that workers do not start
    start_seconds: float = 1800.0  # the same while nobody is at work, before the run is given up: nodes have to boot
    lost_in_a_row: int = 20  # times that workers were lost without one commit in between
    lost_together: int = 3  # workers, within one event, that speak against no unit
    store_seconds: float = 600.0  # without a commit since a store's first refusal, before the run is given up
    store_rest: float = 5.0  # for a worker whom the store refused, doubling
    store_refusals: int = 4  # of one worker in a row, before it is replaced: its node may have no network
    weights_differ: int = 2  # workers, before the run is given up
    hopeless: int = 30  # attempts that raised, without one commit in the whole run
    backoff_seconds: float = 1.0  # before a replacement, doubling
    backoff_most: float = 60.0
    grace_seconds: float = 20.0
    idle_seconds: float = math.inf  # a worker waits for a unit, before it is let go
    tick_seconds: float = 0.5
    one_event_seconds: float = 10.0  # workers lost within it were lost for one reason
    blocked_seconds: float = 5.0  # longer than that between two looks, the driver itself stood still


@dataclass
class Flight:
    unit: Task
    attempt: int
    beat: int
    beat_at: float
    patience: float
    alone: bool = False


@dataclass
class Outcome:
    """What became of the units: every one given to the loop is in exactly one of the three."""

    done: list[Receipt] = field(default_factory=list)
    failed: dict[Task, Fault] = field(default_factory=dict)
    left: list[Task] = field(default_factory=list)
    fatal: Fault | None = None
    stopped: bool = False
    workers_lost: int = 0


class Listener:
    """Hears of each event after it was settled; override what is of interest."""

    def started(self, worker: int, unit: Task, attempt: int) -> None: ...
    def committed(self, worker: int, unit: Task, receipt: Receipt, seconds: float, peak: Peak) -> Iterable[Task]:
        """May return units that can begin now."""
        return ()

    def last(self) -> Iterable[Task]:
        """What is left to do once nothing else is: asked for until there is nothing."""
        return ()

    def part_lost(self, reader: Task, lost: WorkUnit, fault: Fault) -> Iterable[Task] | None:
        """A unit could not read what another committed: the units to do now, its producer among them. The reader is
        handed out again when that is there. None: it counts as the reader's own fault.
        """
        return None

    def stopping(self, flying: int, seconds: float) -> None: ...
    def let_go(self, workers: Sequence[int], seconds: float) -> None:
        """Workers for which no unit was ready for so many seconds are no more; others are started when some are."""

    def retrying(self, unit: Task, attempt: int, fault: Fault) -> None: ...
    def put_aside(self, unit: Task, reason: str) -> None:
        """Memory ran out: the unit is done alone when nothing else can be."""

    def stage_ended(self, unit: WorkUnit, others: Sequence[Task], fault: Fault) -> None:
        """The model of a unit that was given up cannot do the stage: the others were given up with it."""

    def resting(self, worker: int, unit: Task, fault: Fault) -> None:
        """The store did not answer: the unit is queued again, and the worker waits a while."""

    def not_starting(self, count: int, seconds: float, shortage: str) -> None:
        """Workers were asked for so many seconds ago and none of these has answered."""

    def starved(self, unit: Task, reason: str) -> str:
        """What is said of a unit for which all memory is too little."""
        return f"memory is too small for it, alone and with the smallest batch: {reason}"

    def gave_up(self, unit: Task, fault: Fault) -> None: ...
    def lost(self, worker: int, unit: Task | None, reason: str) -> None: ...
    def tick(self, todo: int, flying: int, workers: int) -> None: ...
