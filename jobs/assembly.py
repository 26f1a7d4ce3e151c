"""Decides when a shard is complete, and what happens where a part of it is found damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from atlas_schema.columns import Table
from atlas_schema.errors import ShardCorrupt
from atlas_schema.parts import part_path
from atlas_schema.shards import ShardPlace, assemble
from atlas_schema.store import Store
from atlas_schema.tables import TABLES, tables_of
from atlas_schema.units import Pair, WorkUnit
from jobs.damage import put_part_aside
from jobs.graph import Graph, Job
from jobs.ranges import Range

MOST_REPAIRS = 3  # of one part, before its damage is taken for the store's


@dataclass(frozen=True)
class Target:
    """Shards of one table that are written together: of a model; where stages fill it layer by layer, of a layer."""

    table: str
    slug: str
    layer: int | None = None


@dataclass
class Shards:
    """The shards that a run fills.

    jobs: of this run, and of earlier ones that fill the same tables: what they committed stays in the shards.
    """

    store: Store
    graph: Graph
    earlier: Sequence[Job]
    depths: Mapping[str, int]  # slug -> number of FFN layers
    planned: Mapping[str, Mapping[int, Sequence[Range]]]  # slug -> layer -> neurons that the atlas describes
    repaired: Counter[WorkUnit] = field(default_factory=Counter)
    written: set[Target] = field(default_factory=set)  # as complete as they will be in this run

    def assemble_rest(self) -> None:
        """Assemble what was not complete, or not looked at since: with gaps it is still worth reading."""
        for target in self.targets():
            if target not in self.written:
                self.assemble(target)

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
        for table in _filled(job.stage.name):
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
            for table in _filled(unit.stage)
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

    def assemble_ready(self) -> list[WorkUnit]:
        """Assemble all that is ready; the units whose parts were found damaged."""
        return [unit for target in self.targets() if self.ready(target) for unit in self.assemble(target)]

    def assemble(self, target: Target) -> list[WorkUnit]:
        """Write shards from their parts: [] if they stand, else the units to be done again.

        Repeated at will: an equal shard is left alone, a damaged one is replaced. A damaged part is put aside, and
        its unit returned; ShardCorrupt if that does not help. What a standing shard holds of it stays there.
        """
        damaged: list[WorkUnit] = []
        self.written.discard(target)
        places = self._places(target)
        planned = self.planned.get(target.slug) if target.layer is None else None
        while places and (units := self._units(target)):
            try:
                assemble(self.store, places, units, planned)
                if self.ready(target):
                    self.written.add(target)
                break
            except ShardCorrupt as error:
                damaged.append(self._take_back(units, target, error))
        return [unit for unit in damaged if not self.graph.covers(unit)]

    def _places(self, target: Target) -> list[ShardPlace]:
        table, slug = TABLES[target.table], target.slug
        if table.shard != "layer":
            return [ShardPlace(table, slug)]
        layers = [target.layer] if target.layer is not None else sorted(self.planned.get(slug, {}))
        return [ShardPlace(table, slug, layer, self.depths[slug]) for layer in layers if self._has(slug, layer)]

    def _has(self, slug: str, layer: int) -> bool:
        return bool(self.planned.get(slug, {}).get(layer))

    def _units(self, target: Target) -> list[WorkUnit]:
        """All committed units with rows of these shards, of this run and of earlier ones."""
        stages = TABLES[target.table].stages
        return [
            unit
            for job in (*self.graph.jobs.values(), *self.earlier)
            if job.stage.name in stages
            for unit in job.committed(target.layer if job.stage.cut == "neurons" else None)
            if unit.slug == target.slug or (isinstance(unit.cut, Pair) and unit.cut.partner == target.slug)
        ]

    def _take_back(self, units: Iterable[WorkUnit], target: Target, error: ShardCorrupt) -> WorkUnit:
        table = TABLES[target.table]
        unit = next((unit for unit in units if part_path(unit, table) == error.path), None)
        if unit is None:
            raise error
        self.repaired[unit] += 1
        if self.repaired[unit] > MOST_REPAIRS:
            raise error
        put_part_aside(self.store, unit, error.path)
        for job in (*self.graph.jobs.values(), *self.earlier):
            if (job.stage.name, job.slug) == (unit.stage, unit.slug):
                job.remove(unit)
        self.graph.lost(unit)
        return unit


def _filled(stage: str) -> list[Table]:
    """The tables of the dataset that a stage fills."""
    return [table for table in tables_of(stage) if table.name in TABLES]
