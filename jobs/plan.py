"""Config and model descriptions -> work units of all stages, with what they cost. Pure: no files, no clock, no weights.

Units of a stage cover exactly what is wanted of it: the selected neurons of every FFN layer, slices of the images, the
model, the pairs. Their length is aimed at `unit_seconds` by the FLOPs that the stage estimates, shorter where that
keeps all workers busy. Boundaries depend on the selection, the settings and the machine, never on what is committed:
a resumed run forms the same batches as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from types import MappingProxyType
from typing import TYPE_CHECKING

from atlas_schema.errors import SlugClash
from atlas_schema.units import Images, Neurons, Readings, Targets, Whole
from jobs.chunks import cuts, own_of
from jobs.config import RunConfig, select
from jobs.memory import BASE, EASY_BATCH, MOST_BATCH, UNLIMITED, fitting_batch
from jobs.ranges import Range, as_ranges, length
from jobs.requests import Asking, requests_of
from jobs.stages import Cost, Sizes, Stage

if TYPE_CHECKING:
    from pipeline.models import ModelDescription, ModelRequest
    from pipeline.visualize.recipes import Recipe

# Sustained float32 speed that the plan assumes, FLOP/s: of one CPU thread, of one GPU. Only the length
# of units and the estimated hours rest on it.
SPEEDS = {"cpu": 4.0e10, "mps": 1.5e12, "cuda": 6.0e13}
LEAST_UNIT_SECONDS = 5.0  # below this the cost of starting and committing a unit shows
LEAST_SLICE_SECONDS = 1.0  # of a pass over images: what reads it waits for the last of its slices
UNITS_PER_WORKER = 4  # at least, where the units stay long enough: an even finish
LONGEST_UNIT_SECONDS = 300.0
BATCH_MULTIPLE = 16  # neurons
LEAST_BATCH = 8  # neurons: below it matrix products are too small to be quick; a unit is longer rather than narrower
IMAGE_MULTIPLE = 32
MOST_IMAGES = 8192  # of one slice


@dataclass(frozen=True)
class Machine:
    """What the units are sized for."""

    device: str = "cpu"  # "cpu", "cuda", "mps"
    workers: int = 1
    threads: int = 1
    memory: int = UNLIMITED  # bytes of main memory that a worker may take

    @property
    def room(self) -> float:
        """Bytes for models and batches on the device of a worker; of a GPU its worker sees how much is free."""
        return UNLIMITED if self.device == "cuda" else self.memory - BASE[self.device]

    @property
    def speed(self) -> float:
        """Assumed FLOP/s of one worker."""
        return SPEEDS[self.device] * (self.threads if self.device == "cpu" else 1)

    @property
    def text(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = f", {self.threads} CPU thread{'s' * (self.threads > 1)} each" if self.device == "cpu" else ""
        return f"{workers} on {self.device}{threads}"


Ranges = Mapping[int, tuple[Range, ...]]
"""By FFN layer, ascending and disjoint."""


@dataclass(frozen=True)
class Counts:
    """How much there is of what stages read, as far as it is known before anything is opened."""

    images: int = 0
    panel: int = 0
    match_images: int = 0
    texts: int = 0
    pool: int = 0
    examples: int = 0

    @classmethod
    def of(cls, config: RunConfig, images: int, texts: int, pool: int) -> Counts:
        """Of a set of so many images, and of so many texts for labels and for heads."""
        panel, match_images = min(config.panel, images), min(config.match_images, images)
        return cls(images, panel, match_images, texts, pool, config.examples)


@dataclass(frozen=True)
class Partner:
    """The other model of a pair, before its weights are known."""

    slug: str


PlannedCut = Neurons | Images | Targets | Readings | Whole | Partner


@dataclass(frozen=True)
class Job:
    """One stage of one model: its units as planned, without merges, and what each costs."""

    stage: Stage
    slug: str  # of the owner
    cuts: tuple[PlannedCut, ...]
    flops: tuple[float, ...]  # of each cut
    bytes: float = 0.0  # added to the tables that people read
    kept: float = 0.0  # added beside them, for later stages
    needs: Mapping[int, float] = field(default_factory=dict)  # by batch, bytes that the unit that takes most takes

    def batch(self, machine: Machine) -> int:
        """Images in a forward that the unit which takes most is done with."""
        return fitting_batch(lambda batch: self.needs.get(batch, 0.0), machine.room, machine.device)

    @property
    def total(self) -> float:
        """FLOPs of all units."""
        return sum(self.flops)

    @property
    def ranges(self) -> dict[int, list[Range]]:
        """By layer, the neurons of a stage that is cut along neurons."""
        found: dict[int, list[Range]] = {}
        for cut in self.cuts:
            if isinstance(cut, Neurons):
                found.setdefault(cut.layer, []).append((cut.start, cut.stop))
        return found

    @property
    def size(self) -> int:
        """Neurons, images, targets, models or pairs."""
        return sum(size_of(cut) for cut in self.cuts)


@dataclass(frozen=True)
class ModelPlan:
    """One model's share of a run: which units of which FFN layers."""

    request: ModelRequest
    description: ModelDescription
    ranges: Ranges

    @property
    def slug(self) -> str:
        return self.description.slug

    @property
    def neurons(self) -> int:
        return sum(length(ranges) for ranges in self.ranges.values())


@dataclass(frozen=True)
class Plan:
    """All work of one run, before what is committed is taken off."""

    models: tuple[ModelPlan, ...]
    jobs: tuple[Job, ...]
    machine: Machine
    sizes: Mapping[str, Sizes]  # by slug, the embedder's too
    paces: Mapping[str, float] = field(default_factory=dict)  # by stage, as measured

    @property
    def units(self) -> int:
        return sum(len(job.cuts) for job in self.jobs)

    @property
    def flops(self) -> float:
        return sum(job.total for job in self.jobs)

    @property
    def bytes(self) -> int:
        """Estimated size of what the run adds to the tables that people read."""
        return round(sum(job.bytes for job in self.jobs))

    @property
    def kept(self) -> int:
        """Estimated size of what it keeps beside them, for later stages."""
        return round(sum(job.kept for job in self.jobs))

    def need(self, batch: int | None = None) -> float:
        """Bytes on the device that the unit which takes most takes with a batch, or with the one that fits."""
        needs = [job.needs.get(job.batch(self.machine) if batch is None else batch, 0.0) for job in self.jobs]
        return max(needs, default=0.0)

    @property
    def peak(self) -> float:
        """Bytes of main memory that a worker takes at most. With a GPU: what passes through it on the way there."""
        return BASE[self.machine.device] + self.need(0 if self.machine.device == "cuda" else None)

    def at_ease(self, device: str) -> float:
        """Bytes of main memory that a worker on a device takes with batches that are large enough to be quick."""
        return BASE[device] + self.need(EASY_BATCH.get(device, 0))

    @property
    def seconds(self) -> float:
        """Estimated seconds of one worker that does it all; `jobs.schedule` says what several take on the clock."""
        return sum(map(self.seconds_of, self.jobs))

    @property
    def requests(self) -> dict[str, int]:
        """Estimated requests to an object store: `put` for writes, `get` for reads and look-ups."""
        return requests_of((Asking(job.stage, job.slug, job.cuts) for job in self.jobs), len(self.models))

    def pace(self, stage: str) -> float:
        """How many times longer than by its FLOPs a stage takes: as measured, else the mean of those that were."""
        if not self.paces:
            return 1.0
        usual = math.exp(math.fsum(map(math.log, self.paces.values())) / len(self.paces))
        return self.paces.get(stage, usual)

    def seconds_of(self, job: Job) -> float:
        """Estimated seconds of one worker for all units of a job."""
        return job.total / self.machine.speed * self.pace(job.stage.name)

    def job(self, stage: str, slug: str) -> Job | None:
        """The job of a stage of a model, None where the run has none."""
        return next((job for job in self.jobs if (job.stage.name, job.slug) == (stage, slug)), None)


def make_plan(
    config: RunConfig,
    described: Sequence[tuple[ModelRequest, ModelDescription]],
    stages: Sequence[Stage],
    recipe: Recipe,
    counts: Counts,
    machine: Machine,
    embedder: ModelDescription | None = None,
    left_out: Collection[tuple[str, str]] = (),
    targets: Mapping[str, Sequence[str]] = MappingProxyType({}),
    readers: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> Plan:
    """Cut the work of all stages on all models into units. Raises SlugClash, BadConfig.

    left_out: stages that some models cannot do, as (stage, slug). targets: by slug, names of what is inverted of it;
    readers: by slug, the models that read the pictures, each with its key.
    """
    _refuse_slug_clash([description for _, description in described])
    models = tuple(ModelPlan(request, one, _selected_ranges(config, one)) for request, one in described)
    sizes = {one.slug: Sizes(one, recipe, **vars(counts)) for one in (*(one for _, one in described), embedder) if one}
    jobs: list[Job] = []
    for stage in stages:
        if stage.owner == "embedder":
            if embedder is not None:
                jobs += _jobs(stage, [(sizes[embedder.slug], {})], config, machine)
            continue
        owners = [model for model in models if (stage.name, model.slug) not in left_out]
        if stage.cut == "targets":
            jobs += [
                _inverting(stage, sizes[one.slug], own_of(stage.inverts, targets.get(one.slug, ())), machine)
                for one in owners
            ]
            continue
        if stage.cut == "readings":
            jobs += [_reading(stage, one.slug, sizes, readers.get(one.slug, {}), jobs) for one in owners]
            continue
        jobs += _jobs(stage, [(sizes[model.slug], model.ranges) for model in owners], config, machine)
    return Plan(models, tuple(jobs), machine, sizes)


def _jobs(stage: Stage, owners: Sequence[tuple[Sizes, Ranges]], config: RunConfig, machine: Machine) -> Iterator[Job]:
    """The jobs of one stage: on each of its owners, each a model's sizes and the neurons that are wanted of it."""
    if stage.cut == "pair":
        yield from _pairs(stage, [sizes for sizes, _ in owners])
        return
    drafts = [(sizes, list(_pieces(stage, sizes, ranges))) for sizes, ranges in owners]
    total = sum(cost.flops(size_of(piece)) for _, pieces in drafts for piece, cost in pieces)
    least = LEAST_SLICE_SECONDS if stage.cut == "images" else LEAST_UNIT_SECONDS
    target = unit_flops(total, config.unit_seconds, machine, least)
    limit = LONGEST_UNIT_SECONDS * machine.speed
    for sizes, pieces in drafts:
        cut = [(one, cost) for piece, cost in pieces for one in _cut(stage, piece, cost, target, limit)]
        yield Job(
            stage,
            sizes.description.slug,
            tuple(one for one, _ in cut),
            tuple(cost.flops(_worked_on(stage, sizes, one)) for one, cost in cut),
            sum(cost.bytes * size_of(one) for one, cost in cut),
            sum(cost.kept + cost.kept_each * size_of(one) for one, cost in cut),
            _needs(stage, [sizes.at(piece) for piece, _ in pieces]),
        )


def _inverting(stage: Stage, sizes: Sizes, names: Sequence[str], machine: Machine) -> Job:
    """The job of a stage that is cut along targets, on one model."""
    cost = stage.cost(sizes)
    units = tuple(cuts(names, cost.each / SPEEDS[machine.device]))
    flops = tuple(cost.flops(size_of(one)) for one in units)
    return Job(stage, sizes.description.slug, units, flops, cost.bytes * len(names), needs=_needs(stage, [sizes]))


def _reading(
    stage: Stage, slug: str, sizes: Mapping[str, Sizes], readers: Mapping[str, str], jobs: Sequence[Job]
) -> Job:
    """The job in which other models read the pictures of one: each unit of these, by each reader."""
    sources = [job for job in jobs if job.slug == slug and job.stage.name in stage.reads]
    units = [cut for source in sources for cut in source.cuts if isinstance(cut, Targets)]
    own = [(cut, reader, key) for reader, key in readers.items() for cut in units]
    by_reader = {reader: sizes[slug].at(None, sizes[reader].description) for reader in readers}
    costs = {reader: stage.cost(one) for reader, one in by_reader.items()}
    return Job(
        stage,
        slug,
        tuple(Readings(cut.stop, cut.digest, reader, key) for cut, reader, key in own),
        tuple(costs[reader].flops(cut.stop) for cut, reader, _ in own),
        sum(costs[reader].bytes * cut.stop for cut, reader, _ in own),
        needs=_needs(stage, list(by_reader.values())),
    )


def _worked_on(stage: Stage, sizes: Sizes, cut: PlannedCut) -> int:
    """What a unit computes: of a stage that treats a layer's neurons together all of them, whichever it keeps."""
    site = sizes.at(cut).site if stage.together else None
    return site.width if site else size_of(cut)


def _needs(stage: Stage, sizes: Sequence[Sizes]) -> dict[int, float]:
    """By batch, from none: bytes that the stage takes where it takes most."""
    most = max(MOST_BATCH.values())
    counts = (0, *(most >> halvings for halvings in range(most.bit_length())))
    return {batch: max((stage.memory(one, batch) for one in sizes), default=0.0) for batch in counts}


def _pieces(stage: Stage, sizes: Sizes, ranges: Ranges) -> Iterator[tuple[Neurons | Images | Whole, Cost]]:
    """What is wanted of a stage of a model, uncut, with the costs that hold there."""
    if stage.cut == "neurons":
        for layer, wanted in ranges.items():
            cost = stage.cost(sizes.at(Neurons(layer, 0, 1)))
            yield from ((Neurons(layer, start, stop), cost) for start, stop in wanted)
    elif stage.cut == "images":
        count = sizes.images if stage.passes_over(sizes.description) == "images" else sizes.panel
        if count:
            yield Images(0, count), stage.cost(sizes)
    else:
        yield Whole(), stage.cost(sizes)


def _pairs(stage: Stage, models: Sequence[Sizes]) -> Iterator[Job]:
    """Every pair of the models, each model with itself too: of the first, by slug."""
    ordered = sorted(models, key=lambda sizes: sizes.description.slug)
    made: dict[str, list[Sizes]] = {sizes.description.slug: [] for sizes in ordered}
    for first, second in combinations_with_replacement(ordered, 2):
        made[first.description.slug].append(first.at(None, second.description))
    for slug, pairs in made.items():
        cuts = tuple(Partner(pair.partner.slug) for pair in pairs if pair.partner)
        costs = [stage.cost(pair) for pair in pairs]
        flops = tuple(cost.flops(1) for cost in costs)
        yield Job(stage, slug, cuts, flops, sum(cost.bytes for cost in costs), needs=_needs(stage, pairs))


def size_of(cut: PlannedCut) -> int:
    """Neurons, images or targets of a cut; 1 for a model or a pair."""
    return cut.stop - cut.start if isinstance(cut, Neurons | Images | Targets | Readings) else 1


def unit_flops(total: float, unit_seconds: float, machine: Machine, least: float = LEAST_UNIT_SECONDS) -> float:
    """FLOPs that one unit should cost: `unit_seconds`, less where workers would otherwise stand idle."""
    aimed = min(unit_seconds * machine.speed, total / (UNITS_PER_WORKER * machine.workers))
    return max(aimed, min(least, unit_seconds) * machine.speed)


def _cut(stage: Stage, piece: PlannedCut, cost: Cost, target: float, limit: float) -> Iterator[PlannedCut]:
    """Pieces of about equal length and `target` FLOPs; of neurons a least batch where `limit` allows it."""
    if isinstance(piece, Images):
        count = max(IMAGE_MULTIPLE, int(target / cost.each) // IMAGE_MULTIPLE * IMAGE_MULTIPLE)
        length = _even(size_of(piece), min(count, MOST_IMAGES), IMAGE_MULTIPLE)
        for start in range(piece.start, piece.stop, length):
            yield Images(start, min(start + length, piece.stop))
    elif isinstance(piece, Neurons) and not stage.together:
        most = max(1, int(target / cost.each), min(LEAST_BATCH, int(limit / cost.each)))
        if cost.fixed > 0:  # what every unit costs anew should not outweigh what it is for
            most = max(most, math.ceil(cost.fixed / cost.each))
        length = _even(size_of(piece), most, BATCH_MULTIPLE)
        for start in range(piece.start, piece.stop, length):
            yield Neurons(piece.layer, start, min(start + length, piece.stop))
    else:
        yield piece


def _even(count: int, most: int, multiple: int) -> int:
    """The length of the fewest pieces of `count` that hold at most `most`: of about equal length, whole multiples."""
    if most > multiple:
        most -= most % multiple
    length = math.ceil(count / math.ceil(count / most))
    return math.ceil(length / multiple) * multiple if most > multiple else length


def _refuse_slug_clash(descriptions: Sequence[ModelDescription]) -> None:
    seen: dict[str, str] = {}
    for description in descriptions:
        if description.slug in seen:
            raise SlugClash(
                f"{seen[description.slug]} and {description.id} would share the slug {description.slug!r}, "
                "and with it every address. Give one of them another name with --as NAME (in a TOML file: "
                'name = "NAME" in its [[models]] table).'
            )
        seen[description.slug] = description.id


def _selected_ranges(config: RunConfig, description: ModelDescription) -> dict[int, tuple[Range, ...]]:
    layers = select(config.layers, len(description.ffn_sites), f"FFN layer in {description.id}")
    return {
        layer: as_ranges(
            select(config.units, description.ffn_sites[layer].width, f"unit in layer {layer} of {description.id}")
        )
        for layer in layers
    }
