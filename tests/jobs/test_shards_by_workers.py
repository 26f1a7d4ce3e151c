"""Shards are written by workers: the driver's own code and the loop against workers in virtual time, on real files."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from atlas_schema.errors import ForeignAtlas
from atlas_schema.parquet import decode
from atlas_schema.parts import committed_units, part_path
from atlas_schema.shards import HELD_BYTES, assemble
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_MATCHES, NEURONS
from atlas_schema.units import Identity, Neurons, Pair, WorkUnit
from jobs.assembly import MOST_REPAIRS, Shards, Target
from jobs.driver import Run
from jobs.events import Committed, Event, Outcome, Policy, Stop, UnitFailed
from jobs.graph import Graph, Job
from jobs.loop import Loop
from jobs.metrics import Meters
from jobs.stages import STAGES
from jobs.task import Assembly, Task
from jobs.worker import fault_of
from tests.atlas_schema.made_atlas import commit, made_rows
from tests.jobs.test_loop import FakeExecutor, Script

STAGE = {stage.name: stage for stage in STAGES}
OWN = Identity("f" * 64, "s" * 16)
SLUG, LAYERS, WIDTH, SIZE = "zoo-vit", 3, 24, 8
PLANNED = {SLUG: dict.fromkeys(range(LAYERS), ((0, WIDTH),))}


class CountingStore(Store):
    """A folder that counts what is asked of it, by what is asked and the first two folders of the path."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.asked: Counter[tuple[str, str]] = Counter()

    def _count(self, what: str, path: str) -> None:
        self.asked[what, "parts" if path.startswith(".atlas/parts") else path.partition("/")[0]] += 1

    def read(self, path: str) -> bytes:
        self._count("read", path)
        return super().read(path)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        self._count("read range", path)
        return super().read_range(path, offset, length)

    def open(self, path: str) -> Any:
        self._count("open", path)
        return super().open(path)

    def create(self, path: str, data: bytes) -> bool:
        self._count("write", path)
        return super().create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self._count("write", path)
        super().replace(path, data)

    def delete(self, path: str) -> None:
        self._count("delete", path)
        super().delete(path)


class Workers(FakeExecutor):
    """Workers that commit parts and write shards for real, unless the script says otherwise."""

    def __init__(self, store: Store, script: Script) -> None:
        super().__init__(script)
        self.store = store

    def done(self, worker: int, unit: Task, seconds: float) -> Event:
        try:
            if isinstance(unit, Assembly):
                return Committed(worker, unit, unit.write(self.store), seconds)
            return Committed(worker, unit, commit(self.store, unit), seconds)
        except Exception as error:
            return UnitFailed(worker, unit, fault_of(error))


class World:
    """A run over neurons of some layers: the real graph, shards and driver; `play` is the loop."""

    def __init__(self, folder: Path, stages: Iterable[str] = ("visualize", "evidence"), earlier: Iterable[str] = ()):
        self.store = CountingStore(str(folder))
        cuts = [Neurons(layer, at, at + SIZE) for layer in range(LAYERS) for at in range(0, WIDTH, SIZE)]
        self.graph = Graph([self._job(name, cuts) for name in stages])
        before = [self._job(name, ()) for name in earlier]
        self.shards = Shards(self.store, self.graph, before, {SLUG: LAYERS}, PLANNED)
        self.said: list[str] = []
        self.log: list[dict[str, Any]] = []
        self.run = Run.__new__(Run)
        progress = SimpleNamespace(
            **dict.fromkeys(("started", "ended", "committed", "gave_up", "tick", "again"), lambda *_: None)
        )
        progress.say, progress.assembled = self.said.append, lambda shards: None
        vars(self.run).update(
            graph=self.graph, shards=self.shards, store=self.store, say=self.said.append, progress=progress,
            log=lambda event, **facts: self.log.append({"event": event, **facts}),
            row=SimpleNamespace(units_done=0, run_id="run"), stop=SimpleNamespace(signal=None), seen=time.monotonic(),
            meters=Meters(), receipts=0,
        )  # fmt: skip

    def _job(self, name: str, cuts: Sequence[Neurons]) -> Job:
        return Job(self._plain(name), SLUG, OWN, cuts, committed_units(self.store, name, SLUG, OWN))

    @staticmethod
    def _plain(name: str) -> Any:
        """The stage without what it reads: here each has its rows at hand."""
        return SimpleNamespace(name=name, cut="neurons", owner="model", reads=(), reads_if_there=())

    def play(
        self,
        of: Callable[[Task, int], str] = lambda task, attempt: "ok",
        stop: Callable[[Workers], Stop] = lambda workers: Stop.NO,
        **policy: Any,
    ) -> tuple[Outcome, Workers]:
        workers = Workers(self.store, Script(lambda task, attempt: (of(task, attempt), 1.0)))
        tasks = [*self.graph.ready(), *self.shards.begin()]
        loop = Loop(tasks, workers, Policy(**{"workers": 3, **policy}), self.run, lambda: stop(workers))
        return loop.run(), workers

    def assembled(self) -> list[str]:
        return sorted(line["unit"] for line in self.log if line["event"] == "assembled")

    def units(self, layer: int) -> list[WorkUnit]:
        return self.shards._units(Target("neurons", SLUG, layer))

    def bytes(self) -> dict[str, bytes]:
        return {path: Store(self.store.url).read(path) for path in self.store.list("neurons")}

    def rows(self, layer: int) -> list[dict[str, Any]]:
        path = f"neurons/{SLUG}/train-{layer:05d}-of-{LAYERS:05d}.parquet"
        rows: list[dict[str, Any]] = decode(Store(self.store.url).read(path), path)[0].to_pylist()
        return rows


ALL = [f"assemble neurons/{SLUG} layer {layer}" for layer in range(LAYERS)]


def test_workers_write_what_the_driver_would_byte_for_byte(tmp_path: Path) -> None:
    world = World(tmp_path / "atlas")
    outcome, workers = world.play()
    assert outcome.fatal is None
    assert not outcome.failed
    assert world.assembled() == ALL
    assert len({worker for task, _, worker in workers.attempts if isinstance(task, Assembly)}) > 1, "in parallel"
    by_workers = world.bytes()
    for path in by_workers:
        world.store.delete(path)
    again = World(tmp_path / "atlas")
    assert again.shards.assemble_rest(60.0) == []
    assert again.bytes() == by_workers
    places = Assembly("neurons", SLUG, 0, (0,), LAYERS).places
    assert places[0].table is NEURONS
    assemble(again.store, places, world.units(0)[::-1])
    assert again.bytes() == by_workers


def test_the_driver_writes_and_reads_no_shard_while_workers_wait(tmp_path: Path) -> None:
    """Between the first hand-out and the last receipt the driver's store sees neither parts nor shards."""
    world = World(tmp_path / "atlas")
    theirs = Store(world.store.url)
    workers = Workers(theirs, Script())
    tasks = [*world.graph.ready(), *world.shards.begin()]
    world.store.asked.clear()
    Loop(tasks, workers, Policy(workers=3), world.run).run()
    assert world.assembled() == ALL
    assert not world.store.asked


def test_a_run_with_nothing_to_do_reads_tails_alone_and_writes_nothing(tmp_path: Path) -> None:
    World(tmp_path / "atlas").play()
    world = World(tmp_path / "atlas")
    world.store.asked.clear()
    assert world.graph.ready() == []
    assert world.shards.begin() == []
    assert world.shards.assemble_rest(60.0) == []
    assert world.store.asked == {("read range", "neurons"): LAYERS}, "a tail each; no part, no write"


def test_a_worker_lost_during_an_assembly_is_replaced_and_the_shard_written(tmp_path: Path) -> None:
    world = World(tmp_path / "atlas")
    outcome, workers = world.play(lambda task, attempt: "die" if str(task) == ALL[1] and attempt == 1 else "ok")
    assert outcome.workers_lost == 1
    assert not outcome.failed
    assert world.assembled() == ALL
    attempts = Counter(str(task) for task, _, _ in workers.attempts)
    assert attempts.pop(ALL[1]) == 2
    assert set(attempts.values()) == {1}, "nothing else was done twice"


def test_an_assembly_that_fells_workers_is_given_up_and_leaves_the_rest(tmp_path: Path) -> None:
    world = World(tmp_path / "atlas")
    outcome, _ = world.play(lambda task, attempt: "die" if str(task) == ALL[1] else "ok")
    assert [str(task) for task in outcome.failed] == [ALL[1]]
    assert world.assembled() == [ALL[0], ALL[2]]
    assert world.shards.assemble_rest(60.0) == [], "nor does the driver try what felled three workers"
    assert len(world.bytes()) == 2


@pytest.mark.parametrize("damage", ["flip", "gone"])
def test_a_part_found_damaged_sends_its_producer_back_and_the_shard_waits(tmp_path: Path, damage: str) -> None:
    World(tmp_path / "atlas").play()
    world = World(tmp_path / "atlas")
    good = world.bytes()
    for path in good:
        world.store.delete(path)
    lost = world.units(1)[0]
    encoded = bytearray(world.store.read(part_path(lost)))
    encoded[900] ^= 1
    if damage == "flip":
        world.store.replace(part_path(lost), bytes(encoded))
    else:
        world.store.delete(part_path(lost))
    outcome, workers = world.play()
    assert not outcome.failed
    assert world.bytes() == good
    done = [task for task, _, _ in workers.attempts if isinstance(task, WorkUnit)]
    assert done == [lost], "that unit alone, once"
    assert [str(task) for task, _, _ in workers.attempts].count(ALL[1]) == 2
    assert any(line["event"] == "damaged part put aside" and line["unit"] == str(lost) for line in world.log)


def test_a_part_that_is_damaged_again_and_again_is_the_stores_fault(tmp_path: Path) -> None:
    World(tmp_path / "atlas").play()
    world = World(tmp_path / "atlas")
    for path in world.bytes():
        world.store.delete(path)
    bad = world.units(2)[1]
    write = world.store.create

    def spoil(path: str, data: bytes) -> bool:
        return write(path, b"spoilt" + data if path == part_path(bad) else data)

    world.store.create = spoil  # type: ignore[method-assign]
    world.store.replace(part_path(bad), b"spoilt")
    outcome, workers = world.play(retries=0)
    assert [str(task) for task in outcome.failed] == [ALL[2]]
    assert sum(task == bad for task, _, _ in workers.attempts) == MOST_REPAIRS
    assert world.assembled() == ALL[:2]


def test_a_damaged_part_of_an_earlier_run_is_left_out_and_its_rows_stay(tmp_path: Path) -> None:
    """No stage of this run makes it again; what the standing shard says of it is not lost."""
    World(tmp_path / "atlas").play()
    before = World(tmp_path / "atlas").rows(0)
    world = World(tmp_path / "atlas", stages=["evidence"], earlier=["visualize"])
    lost = next(unit for unit in world.units(0) if unit.stage == "visualize")
    world.store.replace(part_path(lost), b"spoilt")
    again = next(unit for unit in world.units(0) if unit.stage == "evidence")
    world.store.delete(part_path(again))
    world = World(tmp_path / "atlas", stages=["evidence"], earlier=["visualize"])
    outcome, workers = world.play()
    assert not outcome.failed
    assert [task for task, _, _ in workers.attempts if isinstance(task, WorkUnit)] == [again]
    assert world.assembled() == [ALL[0]]
    assert world.rows(0) == before
    assert not world.store.exists(part_path(lost))
    assert any("none of this run's" in text for text in world.said)


def test_with_gaps_workers_assemble_when_nothing_else_is_left(tmp_path: Path) -> None:
    world = World(tmp_path / "atlas")
    bad = next(unit for unit in world.graph.missing() if (unit.stage, unit.layer, unit.start) == ("evidence", 0, 8))
    outcome, workers = world.play(lambda task, attempt: "raise" if task == bad else "ok", retries=1)
    assert list(outcome.failed) == [bad]
    assert world.assembled() == ALL
    assert str(workers.attempts[-1][0]) == ALL[0], "the one with a gap last"
    assert [row["probe_set"] is None for row in world.rows(0)] == [8 <= n < 16 for n in range(WIDTH)]
    later = World(tmp_path / "atlas")
    outcome, _ = later.play()
    assert later.assembled() == [ALL[0]], "the next run completes it"
    assert not any(row["probe_set"] is None for row in later.rows(0))


def test_an_interrupted_run_assembles_the_rest_itself_for_so_long_and_no_longer(tmp_path: Path) -> None:
    world = World(tmp_path / "atlas")
    outcome, _ = world.play(stop=lambda workers: Stop.DRAIN if workers.now > 5 else Stop.NO, grace_seconds=3.0)
    assert outcome.stopped
    left = world.shards.assemble_rest(0.0)
    assert left
    held = world.bytes()
    assert world.shards.assemble_rest(0.0) == left
    assert world.bytes() == held
    assert world.shards.assemble_rest(60.0) == []
    begun = {
        unit.layer for job in world.graph.jobs.values() for layer in range(LAYERS) for unit in job.committed(layer)
    }
    assert len(world.bytes()) == len(begun)


def test_shards_that_are_due_while_a_worker_is_at_them_come_after_it(tmp_path: Path) -> None:
    world = World(tmp_path / "atlas")
    world.play()
    target = Target("neurons", SLUG, 0)
    (first,) = world.shards.due(target)
    assert world.shards.due(target) == [], "one worker at a shard at a time"
    assert world.shards.settled(first) == [first], "and once more after it"
    assert world.shards.settled(first) == []


def test_shards_of_other_settings_stop_the_run(tmp_path: Path) -> None:
    World(tmp_path / "atlas").play()
    world = World(tmp_path / "atlas")
    for job in world.graph.jobs.values():
        other = Identity("f" * 64, "0" * 16)
        job._committed = {0: {other.unit(job.stage.name, SLUG, Neurons(0, 0, WIDTH))}}
    with pytest.raises(ForeignAtlas, match="another"):
        world.shards.stands(Target("neurons", SLUG, 0))


def test_counterparts_stand_until_a_pair_or_a_planned_neuron_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CountingStore(str(tmp_path / "atlas"))
    partners = ("zoo-pit", "zoo-swin", "zoo-vit")
    units = [OWN.unit("pairs", SLUG, Pair(partner, "0" * 16)) for partner in partners]
    for unit, partner in zip(units, partners, strict=True):
        facts = {"slug": SLUG, "partner_slug": partner}
        rows = [
            row | facts | {"layer": layer, "address": f"{SLUG}/mlp/{layer}/{neuron}"}
            for layer in range(LAYERS)
            for neuron in range(WIDTH)
            for row in made_rows(NEURON_MATCHES, "pairs", neuron)
        ]
        commit(store, unit, rows)

    def task(count: int, width: int) -> Assembly:
        planned = dict.fromkeys(range(LAYERS), ((0, width),))
        layers = tuple(range(LAYERS))
        return Assembly("neuron_matches", SLUG, None, layers, LAYERS, tuple(units[:count]), planned)

    assert not task(2, 16).stands(store)
    assert task(2, 16).write(store).shards == LAYERS
    assert task(2, 16).stands(store)
    assert not task(3, 16).stands(store), "a partner more"
    assert not task(2, 24).stands(store), "neurons more"
    task(3, 24).write(store)
    assert task(3, 24).stands(store)
    paths = store.list("neuron_matches")
    for layer, path in enumerate(paths):
        rows = decode(store.read(path), path)[0].to_pylist()
        keys = [tuple(row[name] for name in NEURON_MATCHES.key) for row in rows]
        assert keys == sorted(set(keys))
        assert {(row["layer"], row["unit"], row["partner_slug"]) for row in rows} == {
            (layer, neuron, partner) for neuron in range(WIDTH) for partner in partners
        }
    for held_bytes, again in ((HELD_BYTES, 0), (0, len(units) * (1 + LAYERS))):
        monkeypatch.setattr("atlas_schema.shards.HELD_BYTES", held_bytes)
        store.asked.clear()
        task(3, 24).write(store)
        assert store.asked["read", "parts"] == len(units), "each part once in full"
        assert store.asked["read range", "parts"] == again, (
            "where not all can be held, a tail, then the rows of a layer"
        )
        assert ("write", "neuron_matches") not in store.asked, "equal shards are left alone"
