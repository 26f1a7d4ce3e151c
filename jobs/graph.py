"""Decides which work units may begin: each once, and never before what it reads is committed. Pure.

A stage of a model is a job. What a job has committed, it knows; what it may begin follows from that: units that are
missing, and of a pass over images, once no slice is missing, merges of neighbours up to one partial of all. A unit that
is given up leaves what reads it undone; everything else goes on. A committed part that is found damaged is taken back
with `lost`: its unit, or what it was merged from, is handed out again, and what has yet to read it waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property

from atlas_schema.tables import tables_filled_by
from atlas_schema.units import Cut, Identity, Images, Neurons, WorkUnit
from jobs.ranges import Range, intersect, subtract, union
from jobs.stages import Stage

FAN_IN = 8  # partials that one merge takes in

Layer = int | None
"""Of a job that is cut along neurons the FFN layer, None of every other."""


class Job:
    """One stage of one model: what is wanted, what is committed, what was handed out.

    cuts: what is wanted, as planned; of a pass over images the slices, without their merges.

    What is missing of a layer is kept, and shortened by each commit: a commit costs the same however many units a layer
    has. Only a unit that none of these gaps is (another cut, a part that is gone) has it worked out anew.
    """

    def __init__(
        self, stage: Stage, slug: str, identity: Identity, cuts: Iterable[Cut], committed: Collection[WorkUnit] = ()
    ) -> None:
        self.stage, self.slug, self.identity = stage, slug, identity
        self._cuts: dict[Layer, list[Cut]] = {}
        for cut in cuts:
            self._cuts.setdefault(_layer(cut), []).append(cut)
        self._committed: dict[Layer, set[WorkUnit]] = {}
        self._missing: dict[Layer, dict[WorkUnit, None]] = {}  # the gaps of a layer, as far as they were worked out
        self._fresh: dict[Layer, list[WorkUnit]] = {}  # those of them that were not handed out
        for unit in committed:
            self.add(unit)
        self.held = tuple(committed)  # before this run
        self.asked: set[WorkUnit] = set()

    @property
    def layers(self) -> list[Layer]:
        """The layers of which something is wanted; [None] of a job that is not cut along neurons."""
        return list(self._cuts)

    @property
    def held_layers(self) -> list[Layer]:
        """The layers of which something is committed."""
        return list(self._committed)

    def cuts(self, layer: Layer = None) -> Sequence[Cut]:
        """What is wanted of a layer, as planned."""
        return self._cuts.get(layer, ())

    def committed(self, layer: Layer = None) -> set[WorkUnit]:
        """What is committed of a layer, or of a job without layers."""
        return self._committed.get(layer, set())

    def unit(self, cut: Cut) -> WorkUnit:
        """The work unit of a cut of this job."""
        return self.identity.unit(self.stage.name, self.slug, cut)

    def wanted(self, layer: Layer) -> tuple[Range, ...]:
        """The neurons, images or models that it is to do of a layer."""
        return union((cut.start, cut.stop) for cut in self._cuts.get(layer, ()))

    def covered(self, layer: Layer) -> tuple[Range, ...]:
        """The neurons or images that committed parts hold."""
        return union((unit.start, unit.stop) for unit in self.committed(layer))

    def narrow(self, layer: Layer, to: Sequence[Range]) -> None:
        """Want no other neurons of a layer than these."""
        parts = [(cut, intersect((cut.start, cut.stop), to)) for cut in self._cuts[layer]]
        self._cuts[layer] = [Neurons(cut.layer, *one) for cut, own in parts for one in own if isinstance(cut, Neurons)]
        self._look_again(layer)

    def done(self, layer: Layer = None) -> bool:
        """Whether all that is wanted of a layer, or of a job without layers, is committed."""
        return self.whole in self.committed() if self.stage.cut == "images" else not self._gaps(layer)

    @cached_property
    def whole(self) -> WorkUnit:
        """The merge of all slices, of a stage that is cut along images."""
        return self.unit(self._all)

    @cached_property
    def _all(self) -> Images:
        return Images(0, max(cut.stop for cut in self._cuts[None]))

    def gaps(self, layer: Layer) -> list[WorkUnit]:
        """The cuts that no part holds, less what parts of other cuts hold of them."""
        return list(self._gaps(layer))

    def _gaps(self, layer: Layer) -> dict[WorkUnit, None]:
        if layer not in self._missing:
            self._missing[layer] = dict.fromkeys(self._work_out(layer))
            self._fresh[layer] = [unit for unit in self._missing[layer] if unit not in self.asked]
        return self._missing[layer]

    def _look_again(self, layer: Layer) -> None:
        self._missing.pop(layer, None)
        self._fresh.pop(layer, None)

    def _work_out(self, layer: Layer) -> Iterator[WorkUnit]:
        covered = self.covered(layer) if self.stage.cut in ("neurons", "images") else ()
        for cut in self._cuts.get(layer, ()):
            if isinstance(cut, Neurons):
                yield from (self.unit(Neurons(cut.layer, *gap)) for gap in subtract((cut.start, cut.stop), covered))
            elif isinstance(cut, Images):
                yield from (self.unit(Images(*gap)) for gap in subtract((cut.start, cut.stop), covered))
            elif self.unit(cut) not in self.committed():
                yield self.unit(cut)

    def missing(self, layer: Layer = None) -> list[WorkUnit]:
        """What would complete a layer, whether it can begin or not."""
        if self.done(layer):
            return []
        return self.gaps(layer) or [self.whole]

    def next(self, layer: Layer = None) -> list[WorkUnit]:
        """Units that were not handed out yet, and that need nothing more of this job."""
        gaps = self._gaps(layer)
        fresh, self._fresh[layer] = [unit for unit in self._fresh[layer] if unit in gaps], []
        if not gaps and self.stage.cut == "images" and not self.done() and self.asked <= self.committed():
            # of one level at a time: two merges never read, and so never remove, the same slice
            fresh = [unit for unit in self._merges() if unit not in self.asked]
        self.asked.update(fresh)
        return fresh

    def again(self, unit: WorkUnit) -> None:
        """A unit that was handed out is to be handed out once more."""
        self.asked.discard(unit)
        self._look_again(unit.layer)

    def _merges(self) -> list[WorkUnit]:
        """Merges of neighbours, once every image is in some partial."""
        nodes = self._tiles()
        groups = [nodes[i : i + FAN_IN] for i in range(0, len(nodes), FAN_IN)]
        return [self.unit(Images(group[0].start, group[-1].stop)) for group in groups if len(group) > 1]

    def _tiles(self) -> list[WorkUnit]:
        """Partials side by side, from the longest that begins at each place; of all, where these do not tile."""
        longest = {unit.start: unit for unit in sorted(self.committed(), key=lambda unit: unit.stop)}
        chosen, at = [], 0
        while at in longest and longest[at].stop <= self._all.stop:
            chosen.append(longest[at])
            at = longest[at].stop
        if at == self._all.stop:
            return chosen
        chosen = []
        for unit in sorted(self.committed(), key=lambda unit: (unit.start - unit.stop, unit.start)):
            if all(unit.stop <= one.start or unit.start >= one.stop for one in chosen):
                chosen.append(unit)
        return sorted(chosen, key=lambda unit: unit.start)

    def add(self, unit: WorkUnit) -> None:
        """A unit of this job was committed."""
        self._committed.setdefault(unit.layer, set()).add(unit)
        gaps = self._missing.get(unit.layer)
        if gaps is None:
            return
        if unit in gaps:
            del gaps[unit]
        elif gaps:  # of another cut: it may hold parts of some
            self._look_again(unit.layer)

    def remove(self, unit: WorkUnit) -> None:
        """A committed unit is gone: it, and other cuts of it that were handed out, may be handed out again."""
        self.committed(unit.layer).discard(unit)
        self.asked = {
            one
            for one in self.asked
            if one in self.committed(one.layer) or one.layer != unit.layer or not _overlap(one, unit)
        }
        self._look_again(unit.layer)

    def within(self, unit: WorkUnit) -> list[WorkUnit]:
        """Committed slices of images that a merge of them holds."""
        if not isinstance(unit.cut, Images) or (unit.cut in self._slices and unit.cut != self._all):
            return []
        return [
            one
            for one in sorted(self.committed(), key=lambda one: one.start)
            if one.cut != unit.cut and unit.start <= one.start and one.stop <= unit.stop
        ]

    @cached_property
    def _slices(self) -> set[Cut]:
        return set(self._cuts.get(None, ()))

    def covers(self, unit: WorkUnit) -> bool:
        """Whether committed parts hold all that `unit` would, in this cut or another."""
        if self.stage.cut in ("neurons", "images"):
            return not subtract((unit.start, unit.stop), self.covered(unit.layer))
        return unit in self.committed()


def _layer(cut: Cut) -> Layer:
    return cut.layer if isinstance(cut, Neurons) else None


def _overlap(one: WorkUnit, other: WorkUnit) -> bool:
    same = (one.cut.axis, one.cut.name) if one.cut.axis not in ("neurons", "images") else None
    return other.cut.name == one.cut.name if same else one.start < other.stop and other.start < one.stop


class Graph:
    """All work of a run; `ready` gives each unit once, `add` takes in what is committed, `lost` takes it back."""

    def __init__(self, jobs: Iterable[Job], earlier: Iterable[Job] = ()) -> None:
        """earlier: stages that this run leaves alone, with what is committed of them."""
        self.jobs = {(job.stage.name, job.slug): job for job in jobs}
        self._earlier = {(job.stage.name, job.slug): job for job in earlier}
        self._embedders = {job.stage.name: job for job in self.jobs.values() if job.stage.owner == "embedder"}
        self._readers: dict[str, list[Job]] = {}  # by the name of the stage that they read
        for job in self.jobs.values():
            self._narrow(job)
            for name in _reads(job.stage):
                self._readers.setdefault(name, []).append(job)
        self._changed = [(job, layer) for job in self.jobs.values() for layer in job.layers]

    def _narrow(self, job: Job) -> None:
        """A stage that takes what is there of another wants no neuron that the other neither has nor will have."""
        for name in job.stage.reads_if_there:
            other = self.jobs.get((name, job.slug)) or self._earlier.get((name, job.slug))
            for layer in job.layers:
                job.narrow(layer, union(other.wanted(layer), other.covered(layer)) if other else ())

    def ready(self) -> list[WorkUnit]:
        """Units that can begin now and were not handed out before."""
        changed, self._changed = dict.fromkeys(self._changed), []
        return [
            unit
            for job, layer in changed
            if self._may_begin(job, layer) and self.needed(job)
            for unit in job.next(layer)
        ]

    def needed(self, job: Job) -> bool:
        """Whether anything is to be done that wants a job: sums that nothing has yet to read are not made again.

        They may be gone: `neuron-atlas clean` removes them where all that is made of them stands.
        """
        if tables_filled_by(job.stage.name):
            return True
        readers = self._readers_of(job)
        return not readers or any(not _all_done(reader) and self.needed(reader) for reader in readers)

    def _readers_of(self, job: Job) -> list[Job]:
        readers = self._readers.get(job.stage.name, ())
        return [reader for reader in readers if job.stage.owner == "embedder" or reader.slug == job.slug]

    def _may_begin(self, job: Job, layer: Layer) -> bool:
        return all(self._has(name, job.slug, layer) for name in _reads(job.stage))

    def _has(self, name: str, slug: str, layer: Layer) -> bool:
        job = self.jobs.get((name, slug)) or self._embedders.get(name)
        if job is None:  # no part of this run: what is there of it is taken as it stands
            return True
        if job.stage.cut != "neurons":
            return job.done()
        return all(job.done(one) for one in ([layer] if layer is not None else job.layers))

    def add(self, unit: WorkUnit) -> None:
        """A unit was committed."""
        job = self.jobs.get((unit.stage, unit.slug))
        if job is not None:
            job.add(unit)
            self._touch(job, unit.layer)

    def superseded(self, unit: WorkUnit) -> list[WorkUnit]:
        """The slices that a committed merge holds, which nothing reads any more; they count as gone."""
        job = self.jobs.get((unit.stage, unit.slug))
        if job is None:
            return []
        slices = job.within(unit)
        for one in slices:
            job.remove(one)
        return slices

    def _touch(self, job: Job, layer: Layer) -> None:
        """Look again at a job, and where it is complete at those that read it."""
        self._changed.append((job, layer))
        if job.done(layer):
            for reader in self._readers_of(job):
                same = layer is not None and reader.stage.cut == "neurons"
                self._changed += [(reader, one) for one in reader.layers if not same or one == layer]

    def lost(self, unit: WorkUnit, reader: WorkUnit | None = None) -> None:
        """A committed part is damaged or gone: it is made again; its `reader` is handed out once more after it.

        Where it is being made again already, one more reader waits for it.
        """
        lost = [unit] if self.holds(unit) else []
        for one in [*lost, reader] if reader else lost:
            job = self.jobs.get((one.stage, one.slug))
            if job is not None:
                job.remove(one)
                job.again(one)
                self._changed.append((job, one.layer))
                self._look_at_sources(job)

    def _look_at_sources(self, job: Job) -> None:
        """What a job reads may be gone, as nothing wanted it until now."""
        for name in _reads(job.stage):
            source = self.jobs.get((name, job.slug)) or self._embedders.get(name)
            if source is not None and not _all_done(source):
                self._changed += [(source, layer) for layer in source.layers]
                self._look_at_sources(source)

    def holds(self, unit: WorkUnit) -> bool:
        """Whether this very unit is committed."""
        job = self.jobs.get((unit.stage, unit.slug))
        return job is not None and unit in job.committed(unit.layer)

    def covers(self, unit: WorkUnit) -> bool:
        """Whether committed parts hold all that `unit` would, in this cut or another."""
        job = self.jobs.get((unit.stage, unit.slug))
        return job is not None and unit.identity == job.identity and job.covers(unit)

    def missing(self) -> list[WorkUnit]:
        """What the run wanted and no part holds; sums that nothing has yet to read are not wanted."""
        jobs = [job for job in self.jobs.values() if self.needed(job)]
        return [unit for job in jobs for layer in job.layers for unit in job.missing(layer)]


def _all_done(job: Job) -> bool:
    return all(job.done(layer) for layer in job.layers)


def _reads(stage: Stage) -> tuple[str, ...]:
    return (*stage.reads, *stage.reads_if_there)
