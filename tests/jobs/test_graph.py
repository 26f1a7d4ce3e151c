"""The graph of a run, purely: every unit once, never before what it reads, and damage sends its producer back."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.units import Identity, Images, Neurons, Pair, Whole, WorkUnit
from jobs import stages
from jobs.graph import FAN_IN, Graph, Job
from jobs.stages import Cost, Stage

REAL = {stage.name: stage for stage in stages.STAGES}
OWN = Identity("f" * 64, "s" * 16)
MODELS = ("vit", "swin")
EMBEDDER = "clip"


def stage(name: str, cut: str, reads: tuple[str, ...] = (), **more: object) -> Stage:
    return Stage(
        name=name,
        does=name,
        group=name,
        cut=cut,  # type: ignore[arg-type]
        reads=reads,
        compute=lambda work, unit: [],
        memory=lambda sizes, batch: 1.0,
        cost=lambda sizes: Cost(1.0),
        **more,  # type: ignore[arg-type]
    )


# The forms of the pipeline's own stages: one of each axis, read by one of each.
PICTURES = stage("pictures", "neurons")
PASS = stage("pass", "images")
VIEWS = stage("views", "images", owner="embedder")
TEXTS = stage("texts", "model", owner="embedder")
ROWS = stage("rows", "neurons", ("pass",))
JUDGED = stage("judged", "neurons", ("pass",), reads_if_there=("pictures",))
NAMES = stage("names", "neurons", ("pass", "views", "texts"))
MAPS = stage("maps", "model", ("pass", "views"))
AGAIN = stage("again", "images", ("maps",))
TABLES = stage("tables", "model", ("again", "pass"))
PAIRS = stage("pairs", "pair")
STAGES = (PICTURES, PASS, VIEWS, TEXTS, ROWS, JUDGED, NAMES, MAPS, AGAIN, TABLES, PAIRS)


def cuts(kind: Stage, slug: str, layers: int, width: int, step: int, images: int, slice_images: int) -> list:
    if kind.cut == "neurons":
        starts = range(0, width, step)
        return [Neurons(layer, start, min(start + step, width)) for layer in range(layers) for start in starts]
    if kind.cut == "images":
        return [Images(start, min(start + slice_images, images)) for start in range(0, images, slice_images)]
    if kind.cut == "pair":
        return [Pair(other, "0" * 16) for other in MODELS if other >= slug]
    return [Whole()]


def jobs(layers=2, width=24, step=8, images=50, slice_images=7, committed=()) -> list[Job]:
    made = []
    for kind in STAGES:
        for slug in [EMBEDDER] if kind.owner == "embedder" else MODELS:
            own = [unit for unit in committed if (unit.stage, unit.slug) == (kind.name, slug)]
            wanted = cuts(kind, slug, layers, width, step, images, slice_images)
            made.append(Job(kind, slug, OWN, wanted, own))
    return made


@dataclass
class World:
    """Workers in virtual time that check what they are given; `broken` are parts that nobody can read."""

    graph: Graph
    committed: set[WorkUnit] = field(default_factory=set)
    given: list[WorkUnit] = field(default_factory=list)
    broken: set[WorkUnit] = field(default_factory=set)
    sent_back: list[WorkUnit] = field(default_factory=list)
    failed: list[WorkUnit] = field(default_factory=list)  # attempts that could not read what they needed
    images: int = 50

    def run(self, chance: random.Random, workers: int) -> None:
        todo = self.ready()
        flying: list[tuple[float, int, WorkUnit]] = []
        now = 0.0
        while todo or flying:
            while todo and len(flying) < workers:
                unit = todo.pop(chance.randrange(len(todo)))
                self.given.append(unit)
                heapq.heappush(flying, (now + chance.uniform(1, 9), len(self.given), unit))
            now, _, unit = heapq.heappop(flying)
            lost = self.unreadable(unit)
            if lost is not None:
                self.failed.append(unit)
                self.sent_back += [lost] if self.graph.holds(lost) else []
                self.broken.discard(lost)
                self.committed.discard(lost)
                self.graph.lost(lost, unit)
            else:
                self.committed.add(unit)
                self.graph.add(unit)
            todo += self.ready()

    def ready(self) -> list[WorkUnit]:
        """What the graph hands out now: all that these units read is committed, whole."""
        units = self.graph.ready()
        for unit in units:
            for name, job in self.read(unit):
                assert job.done(unit.layer if job.stage.cut == "neurons" else None), f"{unit} before {name}"
        return units

    def read(self, unit: WorkUnit) -> list[tuple[str, Job]]:
        stage = self.graph.jobs[unit.stage, unit.slug].stage
        names = (*stage.reads, *stage.reads_if_there)
        return [(name, self.graph.jobs.get((name, unit.slug)) or self.graph.jobs[name, EMBEDDER]) for name in names]

    def unreadable(self, unit: WorkUnit) -> WorkUnit | None:
        """A whole partial that a worker at `unit` finds damaged or gone."""
        for _, job in self.read(unit):
            if job.stage.cut in ("images", "model"):
                (whole,) = {job.unit(Whole()) if job.stage.cut == "model" else job.unit(Images(0, self.images))}
                if whole in self.broken or whole not in self.committed:
                    return whole
        return None


def neurons_of(units: list[WorkUnit], name: str, slug: str) -> list[tuple[int, int]]:
    return sorted((u.layer, n) for u in units if (u.stage, u.slug) == (name, slug) for n in range(u.start, u.stop))


@settings(max_examples=60)
@given(
    st.integers(0, 10**9).map(random.Random),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 30),
    st.integers(1, 12),
    st.integers(1, 90),
    st.integers(1, 40),
)
def test_every_unit_once_and_none_before_what_it_reads(chance, workers, layers, width, step, images, slice_images):
    world = World(Graph(jobs(layers, width, step, images, slice_images)), images=images)
    world.run(chance, workers)
    assert world.graph.missing() == []
    assert len(world.given) == len(set(world.given)), "each unit is handed out once"
    everything = [(layer, neuron) for layer in range(layers) for neuron in range(width)]
    for kind in STAGES:
        for slug in [EMBEDDER] if kind.owner == "embedder" else MODELS:
            if kind.cut == "neurons":
                assert neurons_of(world.given, kind.name, slug) == everything
            elif kind.cut == "images":
                assert OWN.unit(kind.name, slug, Images(0, images)) in world.committed, "one partial of all images"


@settings(max_examples=60)
@given(st.integers(0, 10**9).map(random.Random), st.integers(1, 5), st.integers(0, 40))
def test_a_run_that_was_stopped_anywhere_is_taken_up(chance, workers, after):
    first = World(Graph(jobs()))
    first.run(chance, workers)
    kept = set(chance.sample(sorted(first.committed, key=str), min(after, len(first.committed))))
    second = World(Graph(jobs(committed=kept)), set(kept))
    second.run(chance, workers)
    assert second.graph.missing() == []
    assert not kept & set(second.given), "nothing that is committed is done again"


@settings(max_examples=80)
@given(st.integers(0, 10**9).map(random.Random), st.integers(1, 5))
def test_damage_sends_its_producer_back(chance, workers):
    """Whole partials are found damaged by whoever reads them: they are made again, and then they are read."""
    world = World(Graph(jobs()))
    read = [OWN.unit("pass", "vit", Images(0, 50)), OWN.unit("views", EMBEDDER, Images(0, 50))]
    read += [OWN.unit("maps", "swin", Whole()), OWN.unit("texts", EMBEDDER, Whole())]
    world.broken = set(chance.sample(read, chance.randint(1, len(read))))
    broken = set(world.broken)
    world.run(chance, workers)
    assert set(world.sent_back) == broken, "each was found and made again"
    assert world.graph.missing() == []
    for unit in set(world.given):
        attempts = 1 + (unit in broken) + world.failed.count(unit)
        assert world.given.count(unit) == attempts, "nobody else does anything twice"


def test_a_unit_that_is_given_up_leaves_what_reads_it_and_nothing_else():
    graph = Graph(jobs(images=5, slice_images=5))
    bad = OWN.unit("pass", "vit", Images(0, 5))
    todo, done = list(graph.ready()), set()
    while todo:
        unit = todo.pop()
        if unit != bad:
            graph.add(unit)
            done.add(unit)
            todo += graph.ready()
    missing = {(unit.stage, unit.slug) for unit in graph.missing()}
    assert missing == {(name, "vit") for name in ("pass", "rows", "judged", "names", "maps", "again", "tables")}


def test_slices_are_merged_by_eights_up_to_one():
    graph = Graph([Job(PASS, "vit", OWN, [Images(i, i + 1) for i in range(70)])])
    slices = graph.ready()
    assert len(slices) == 70
    for unit in slices:
        graph.add(unit)
    merges = graph.ready()
    assert [unit.size for unit in merges] == [FAN_IN] * 8 + [70 - 64]
    for unit in merges[:-1]:
        graph.add(unit)
        assert graph.ready() == [], "a level is merged when the one below it is whole"
    graph.add(merges[-1])
    upper = graph.ready()
    assert [(unit.start, unit.stop) for unit in upper] == [(0, 64)]
    graph.add(upper[0])
    assert [(unit.start, unit.stop) for unit in graph.ready()] == [(0, 70)]


def test_what_other_cuts_left_is_used():
    """An earlier run on another machine cut the pass otherwise: only the gaps are computed."""
    held = [OWN.unit("pass", "vit", Images(*span)) for span in ((0, 20), (30, 35), (33, 40))]
    graph = Graph([Job(PASS, "vit", OWN, [Images(0, 25), Images(25, 50)], held)])
    assert [(unit.start, unit.stop) for unit in graph.ready()] == [(20, 25), (25, 30), (40, 50)]


def test_only_pictures_that_are_there_or_will_be_are_judged():
    held = [OWN.unit("pictures", "vit", Neurons(0, 4, 9))]
    judged = Job(JUDGED, "vit", OWN, [Neurons(0, 0, 16)])
    graph = Graph(
        [Job(PICTURES, "vit", OWN, [Neurons(0, 12, 16)], held), judged, Job(PASS, "vit", OWN, [Images(0, 1)])]
    )
    assert judged.wanted(0) == ((4, 9), (12, 16))
    alone = Job(JUDGED, "vit", OWN, [Neurons(0, 0, 16)])
    Graph([alone], [Job(PICTURES, "vit", OWN, (), held)])
    assert alone.wanted(0) == ((4, 9),), "pictures of an earlier run, that this one leaves alone"
    assert {unit.stage for unit in graph.ready()} == {"pictures", "pass"}


@pytest.mark.parametrize("cut", [Neurons(0, 3, 5), Images(2, 4), Whole(), Pair("vit", "0" * 16)])
def test_covers_is_about_what_is_held_not_how_it_was_cut(cut):
    kind = {"neurons": PICTURES, "images": PASS, "model": TABLES, "pair": PAIRS}[cut.axis]
    held = {"neurons": Neurons(0, 0, 8), "images": Images(0, 9)}.get(cut.axis, cut)
    graph = Graph([Job(kind, "vit", OWN, [held], [OWN.unit(kind.name, "vit", held)])])
    assert graph.covers(OWN.unit(kind.name, "vit", cut))
    assert not graph.covers(Identity("0" * 64, "s" * 16).unit(kind.name, "vit", cut))
    assert not graph.covers(OWN.unit(kind.name, "swin", cut))


def test_slices_that_a_merge_holds_are_superseded_and_not_done_again() -> None:
    graph = Graph([Job(PASS, "vit", OWN, [Images(0, 4), Images(4, 8)], [])])
    slices = graph.ready()
    for unit in slices:
        graph.add(unit)
        assert graph.superseded(unit) == []
    (merge,) = graph.ready()
    graph.add(merge)
    assert graph.superseded(merge) == slices
    assert graph.superseded(merge) == []
    assert graph.missing() == graph.ready() == []
    graph.lost(merge)
    assert graph.ready() == slices, "without it they are computed again"


@settings(max_examples=60)
@given(st.integers(2, 90), st.integers(0, 2**16), st.booleans())
def test_however_commits_come_slices_are_merged_from_what_is_there(count: int, seed: int, resumed: bool) -> None:
    """As a run does it: what a committed merge holds is removed at once, while other merges are still to be done."""
    shuffled = random.Random(seed)
    job = Job(PASS, "vit", OWN, [Images(i, i + 1) for i in range(count)])
    graph, there, given = Graph([job]), set(), []
    todo = graph.ready()
    while todo:
        unit = todo.pop(shuffled.randrange(len(todo)))
        assert unit not in given, "nothing is done twice"
        given.append(unit)
        if unit.size > 1:
            parts = sorted((one for one in there if unit.start <= one.start and one.stop <= unit.stop), key=_start)
            assert [one.start for one in parts] == [unit.start, *(one.stop for one in parts[:-1])]
            assert parts[-1].stop == unit.stop, "else a worker would compute all of its images again"
        there.add(unit)
        graph.add(unit)
        there -= set(graph.superseded(unit))
        todo += graph.ready()
        if resumed and shuffled.random() < 0.05:  # killed, and run again
            graph = Graph([Job(PASS, "vit", OWN, [Images(i, i + 1) for i in range(count)], there)])
            given, todo = [], graph.ready()
    assert [(one.start, one.stop) for one in there] == [(0, count)]
    assert graph.missing() == []


def _start(unit: WorkUnit) -> int:
    return unit.start


def test_sums_that_nothing_has_yet_to_read_are_not_made_again() -> None:
    """They were cleaned away; where a reader is to be done, or done again, they are."""
    wanted = [Neurons(0, 0, 8)]
    held = [OWN.unit("evidence", "vit", cut) for cut in wanted]
    probe, evidence = REAL["probe"], REAL["evidence"]
    graph = Graph([Job(probe, "vit", OWN, [Images(0, 4)]), Job(evidence, "vit", OWN, wanted, held)])
    assert graph.ready() == []
    assert graph.missing() == []
    graph.lost(held[0])
    sums = OWN.unit("probe", "vit", Images(0, 4))
    assert graph.ready() == [sums]
    assert set(graph.missing()) == {sums, held[0]}
    graph.add(sums)
    assert graph.ready() == held
    wider = Graph([Job(probe, "vit", OWN, [Images(0, 4)]), Job(evidence, "vit", OWN, [Neurons(0, 0, 9)], held)])
    assert wider.ready() == [sums]


def test_sums_by_way_of_sums_are_made_again_for_the_last_reader() -> None:
    names = ("pool", "embed", "decompose", "align", "spans", "project", "maps", "reads")
    along = {"images": Images(0, 4), "model": Whole()}
    jobs = [Job(REAL[name], "vit", OWN, [along[REAL[name].cut]]) for name in names]
    heads = OWN.unit("heads", "vit", Whole())
    graph = Graph([*jobs, Job(REAL["heads"], "vit", OWN, [Whole()], [heads])])
    assert graph.ready() == []
    assert graph.missing() == []
    graph.lost(heads)
    assert {unit.stage for unit in graph.ready()} == {"pool", "embed", "decompose"}
    assert {unit.stage for unit in graph.missing()} == {*names, "heads"}
