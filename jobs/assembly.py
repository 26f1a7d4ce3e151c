"""Decides when a shard is written, hands it to a worker, and what happens where a part of it is found damaged.

A shard is written when all that the run wants of it is committed; and once before, when those of its stages are done
that wait for no pass over images, so that pictures can be looked at while everything else is computed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

from atlas_schema.errors import PartLost
from atlas_schema.parts import part_path
from atlas_schema.store import Store
from atlas_schema.tables import TABLES, tables_filled_by
from atlas_schema.units import Pair, WorkUnit
from jobs.damage import put_part_aside
from jobs.graph import Graph, Job
from jobs.ranges import Range
from jobs.stages import at_once
from jobs.task import Assembly

MOST_REPAIRS = 3  # of one part, before its damage is taken for the store's
FOOTERS_AT_ONCE = 8  # read at the start of a run: a remote store answers each after some time


@dataclass(frozen=True)
class Target:
    """Shards of one table that are written together: of a model; where stages fill it layer by layer, of a layer."""

    table: str
    slug: str
    layer: int | None = None

    @classmethod
    def of(cls, task: Assembly) -> Target:
        """What a task writes."""
        return cls(task.table, task.slug, task.layer)


class _TimeUp(Exception):
    """Raised between two files, so that shards are not begun that would take too long."""


@dataclass
class Shards:
    """The shards that a run fills.

    jobs: of this run, and of earlier ones that fill the same tables: what they committed stays in the shards.

    Workers write them, each once all that the run wants of it is committed. One worker is at a shard at a time: what is
    due again in between is handed out when that one is done.
    """

    store: Store
    graph: Graph
    earlier: Sequence[Job]
    depths: Mapping[str, int]  # slug -> number of FFN layers
    planned: Mapping[str, Mapping[int, Sequence[Range]]]  # slug -> layer -> neurons that the atlas describes
    repaired: Counter[WorkUnit] = field(default_factory=Counter)
    written: set[Target] = field(default_factory=set)  # as complete as they will be in this run
    failed: set[Target] = field(default_factory=set)  # given up
    _begun: set[Target] = field(default_factory=set)  # were handed out before they were complete, or stood so
    _early: set[Target] = field(default_factory=set)  # are handed out before they are complete
    _pending: set[Target] = field(default_factory=set)  # handed out
    _again: set[Target] = field(default_factory=set)  # due once more when that is settled

    def begin(self) -> list[Assembly]:
        """What is complete, or begun, and does not stand. Read for it: the tails of shards, and no part."""
        ready = [target for target in self.targets() if self.ready(target) or self._may_begin(target)]
        with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
            standing = list(pool.map(self.stands, ready))
        stands = {target for target, stands in zip(ready, standing, strict=True) if stands}
        complete = {target for target in ready if self.ready(target)}
        self.written |= stands & complete
        self._begun.update(ready)
        self._early.update(set(ready) - complete - stands)
        return [task for target in ready if target not in stands for task in self.due(target)]

    def stands(self, target: Target) -> bool:
        """Whether shards say all that is committed of them; also where there is nothing to say."""
        task = self.assembly(target)
        return task is None or task.stands(self.store)

    def assembly(self, target: Target) -> Assembly | None:
        """The task that writes shards from what is committed now; None where nothing is, or no neuron is planned."""
        units = self._units(target)
        layers = self._layers(target)
        if not units or not layers:
            return None
        by_layer = TABLES[target.table].shard == "layer"
        depth = self.depths[target.slug] if by_layer else 1
        planned = self.planned.get(target.slug) if target.layer is None and by_layer else None
        return Assembly(target.table, target.slug, target.layer, tuple(layers), depth, tuple(units), planned)

    def after(self, unit: WorkUnit) -> list[Assembly]:
        """The shards that a committed unit completes, or of which it is the last that they begin with."""
        return [
            task
            for target in self.of_unit(unit)
            if self.ready(target) or self._begins(target)
            for task in self.due(target)
        ]

    def _begins(self, target: Target) -> bool:
        """Whether shards are to be written before they are complete, now and no other time."""
        if target in self._begun or not self._may_begin(target):
            return False
        self._begun.add(target)
        self._early.add(target)
        return True

    def _may_begin(self, target: Target) -> bool:
        """Whether the stages that wait for none but one another are done of shards that others fill, too."""
        jobs = {job.stage.name: job for job in self._jobs.get(target, ())}
        first = at_once([job.stage for job in jobs.values()])
        return 0 < len(first) < len(jobs) and all(jobs[name].done(target.layer) for name in first)

    def due(self, target: Target) -> list[Assembly]:
        """The task that writes shards, unless a worker is at it: then it is due after that."""
        self.written.discard(target)
        if target in self._pending:
            self._again.add(target)
            return []
        task = self.assembly(target)
        if task is None:
            return []
        self._pending.add(target)
        return [task]

    def settled(self, task: Assembly, *, written: bool = True) -> list[Assembly]:
        """A worker wrote these shards, or could not; the task where they are due once more."""
        target = Target.of(task)
        self._pending.discard(target)
        if written and (target not in self._early or self.ready(target)):
            self.written.add(target)
        self._early.discard(target)
        if target not in self._again:
            return []
        self._again.discard(target)
        return self.due(target)

    def give_up(self, task: Assembly) -> None:
        """Nobody can write these shards: they are left as they are."""
        self._pending.discard(Target.of(task))
        self.failed.add(Target.of(task))

    def last(self) -> list[Assembly]:
        """What is not complete, and will not be in this run: with gaps it is still worth reading."""
        return [task for target in self._left() if not self.stands(target) for task in self.due(target)]

    def assemble_rest(self, seconds: float) -> list[Target]:
        """Assemble, here and within so many seconds, what no worker did in a run that was stopped; what is left."""
        deadline = time.monotonic() + seconds

        def step() -> None:
            if time.monotonic() >= deadline:
                raise _TimeUp

        rest = self._left()
        while rest and time.monotonic() < deadline:
            try:
                if not self.stands(rest[0]):
                    self._assemble(rest[0], step)
            except _TimeUp:
                break
            self.written.add(rest.pop(0))
        return rest

    def _left(self) -> list[Target]:
        return [target for target in self.targets() if target not in self.written | self.failed]

    def _assemble(self, target: Target, step: Callable[[], None]) -> None:
        """Write shards from the parts that can be read. ShardCorrupt where one cannot be removed for good."""
        while (task := self.assembly(target)) is not None:
            try:
                task.write(self.store, step)
                return
            except PartLost as error:
                if not isinstance(error.unit, WorkUnit) or not self.take_back(error.unit, task.table):
                    raise

    def targets(self) -> list[Target]:
        """What this run fills."""
        return list(self._jobs)

    @cached_property
    def _jobs(self) -> dict[Target, list[Job]]:
        """By what they fill, the jobs of this run."""
        jobs: dict[Target, list[Job]] = {}
        for job in self.graph.jobs.values():
            for target in self._of_job(job):
                jobs.setdefault(target, []).append(job)
        return jobs

    def _of_job(self, job: Job) -> Iterable[Target]:
        for table in tables_filled_by(job.stage.name):
            for layer in job.layers if table.shard == "layer" and job.stage.cut == "neurons" else [None]:
                for slug in self._slugs(job):
                    yield Target(table.name, slug, layer)

    def _slugs(self, job: Job) -> list[str]:
        """The models of which the job's parts hold rows."""
        if job.stage.cut != "pair":
            return [job.slug]
        partners = [cut.partner for cut in job.cuts(None) if isinstance(cut, Pair)]
        return [slug for slug in dict.fromkeys([job.slug, *partners]) if slug in self.depths]

    def of_unit(self, unit: WorkUnit) -> list[Target]:
        """The shards that hold rows of a unit."""
        slugs = [unit.slug, unit.cut.partner] if isinstance(unit.cut, Pair) else [unit.slug]
        return [
            Target(table.name, slug, unit.layer if table.shard == "layer" else None)
            for table in tables_filled_by(unit.stage)
            for slug in dict.fromkeys(slugs)
            if slug in self.depths
        ]

    def ready(self, target: Target) -> bool:
        """Whether all that the run wants for these shards is committed."""
        return all(self._complete(job, target) for job in self._jobs.get(target, ()))

    @staticmethod
    def _complete(job: Job, target: Target) -> bool:
        """Whether a job has committed its rows of these shards: of a pair, those that the model is part of."""
        if job.stage.cut != "pair":
            return job.done(target.layer if job.stage.cut == "neurons" else None)
        own = [cut for cut in job.cuts() if isinstance(cut, Pair) and target.slug in (job.slug, cut.partner)]
        return all(job.unit(cut) in job.committed() for cut in own)

    def _layers(self, target: Target) -> list[int]:
        """The layers of its shards: those of which neurons are planned, 0 of a table with one shard a model."""
        if TABLES[target.table].shard != "layer":
            return [0]
        layers = [target.layer] if target.layer is not None else sorted(self.planned.get(target.slug, {}))
        return [layer for layer in layers if self._has(target.slug, layer)]

    def _has(self, slug: str, layer: int) -> bool:
        return bool(self.planned.get(slug, {}).get(layer))

    def _units(self, target: Target) -> list[WorkUnit]:
        """All committed units with rows of these shards, of this run and of earlier ones."""
        return [
            unit
            for stage in TABLES[target.table].stages
            for job in self._of_stage.get(stage, ())
            for unit in job.committed(target.layer if job.stage.cut == "neurons" else None)
            if unit.slug == target.slug or (isinstance(unit.cut, Pair) and unit.cut.partner == target.slug)
        ]

    @cached_property
    def _of_stage(self) -> dict[str, list[Job]]:
        jobs: dict[str, list[Job]] = {}
        for job in (*self.graph.jobs.values(), *self.earlier):
            jobs.setdefault(job.stage.name, []).append(job)
        return jobs

    def take_back(self, unit: WorkUnit, table: str) -> bool:
        """A committed part was found damaged or gone: it is put aside, and made again where this run has its stage.

        table: whose rows could not be read. False where that was done too often: the store is to blame.
        """
        self.repaired[unit] += 1
        if self.repaired[unit] > MOST_REPAIRS:
            return False
        put_part_aside(self.store, unit, part_path(unit, TABLES[table]))
        self.graph.lost(unit)
        for job in self.earlier:
            if (job.stage.name, job.slug) == (unit.stage, unit.slug):
                job.remove(unit)
        return True
