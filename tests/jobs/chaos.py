"""Whole runs under faults drawn from a seed: workers in this process, in virtual time, on a real folder.

The driver, the loop, the graph, workers, stages, parts and shards are the real ones. Only Ray is not there: a worker is
an object whose death is an exception. What a stage computes for a unit is computed once a process, as it is a function
of the unit; so a run takes a second, and twenty seeds can be played.

    python -m tests.jobs.chaos [--seeds 20] [--first 0]
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa

import jobs.ray_run
import jobs.stages
import jobs.worker
from atlas_schema.errors import AtlasError, StoreFailed
from atlas_schema.parquet import decode
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from atlas_schema.validate import validate
from jobs.cleaning import carry_out as carry_out_cleaning
from jobs.cleaning import decide
from jobs.config import load_config
from jobs.driver import Run
from jobs.driver import run as carry_out
from jobs.events import Committed, Event, HeadLost, Ready, UnitFailed, WorkerLost
from jobs.lock import locked
from jobs.report import RunReport
from jobs.worker import Worker, WorkerSettings
from tests.jobs.tiny import OPTIONS

RUN: dict[str, Any] = {
    **OPTIONS,
    "models": ["zoo/vit"],
    "random_weights": None,
    "layers": "0,1",
    "units": "0:64",
    "workers": 4,
    "probe": "zoo:96",
    "panel": 96,
    "unit_seconds": 0.15,
    "stages": "visualize,probe,label,effect",
}
RUNS = 6  # under faults, before one without


class Died(BaseException):
    """A worker is gone at once: nothing that would tidy up after an error may run."""


class DriverDied(BaseException):
    """The same of the driver."""


@dataclass(frozen=True)
class Rates:
    """How likely faults are: of an attempt, of a call of a worker's store, of a run."""

    die: float = 0.08  # at one of the places of `jobs.failpoints`, drawn
    dead: float = 0.03  # before it begins
    node: float = 0.02  # with all workers that are at work
    hang: float = 0.02
    fail: float = 0.05  # the computation raises
    memory: float = 0.04
    refuse: float = 0.02  # a call of the store
    full: float = 0.0002
    head: float = 0.0003  # of a wait
    driver: float = 0.5  # of a run: the driver is killed somewhere
    damage: float = 0.7  # between runs: files are damaged
    clean: float = 0.3  # the same: the atlas is cleaned


NONE = Rates(*[0.0] * len(fields(Rates)))
PLACES = ("start", "before_commit", "after_commit")


class FaultyStore(Store):
    """A worker's store, which refuses now and then."""

    chance: random.Random
    rates: Rates

    def _may_refuse(self) -> None:
        draw = self.chance.random()
        if draw < self.rates.full:
            raise OSError(28, "No space left on device (chaos)")
        if draw < self.rates.refuse:
            raise StoreFailed("503 slow down (chaos)")

    def read(self, path: str) -> bytes:
        self._may_refuse()
        return super().read(path)

    def create(self, path: str, data: bytes) -> bool:
        self._may_refuse()
        return super().create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        self._may_refuse()
        super().replace(path, data)


@dataclass
class InProcess:
    """The loop's executor: workers are objects of this process; a unit takes some virtual seconds."""

    settings: WorkerSettings
    chance: random.Random
    rates: Rates
    now: float = 0.0
    hired: int = 0
    workers: dict[int, Worker] = field(default_factory=dict)
    due: list[tuple[float, int, Callable[[], Event | None]]] = field(default_factory=list)
    hung: set[int] = field(default_factory=set)
    busy: dict[int, Any] = field(default_factory=dict)

    def clock(self) -> float:
        return self.now

    def hire(self) -> int:
        self.hired += 1
        worker = self.hired
        self.workers[worker] = self._worker()
        self.due.append((self.now + 1, worker, lambda: Ready(worker)))
        return worker

    def _worker(self) -> Worker:
        worker = Worker(replace(self.settings, nonce=""))
        store = FaultyStore(self.settings.store_url)
        store.chance, store.rates = self.chance, self.rates
        worker.store = store
        return worker

    def assign(self, worker: int, unit: Any, attempt: int, *, alone: bool) -> None:
        assert worker in self.workers
        assert worker not in self.busy
        self.busy[worker] = unit
        seconds = self.chance.uniform(1, 30)
        draw = self.chance.random()
        if draw < self.rates.hang:
            self.hung.add(worker)
            return
        self.due.append((self.now + seconds, worker, lambda: self._attempt(worker, unit, attempt, alone)))

    def _attempt(self, worker: int, unit: Any, attempt: int, alone: bool) -> Event | None:
        chance, rates = self.chance, self.rates
        if chance.random() < rates.dead:
            return self._lost(worker, "it was dead already", begun=False)
        if chance.random() < rates.node:
            others = [one for one in self.busy if one != worker]
            for other in others:
                self.due = [one for one in self.due if one[1] != other]
                self.due.append((self.now, other, lambda other=other: self._lost(other, "its node is gone")))  # type: ignore[misc]
            return self._lost(worker, "its node is gone")
        place = chance.choice(PLACES) if chance.random() < rates.die else None
        failing = chance.random() < rates.fail
        starving = not alone and chance.random() < rates.memory

        def at(name: str, *_: Any) -> None:
            if name == place:
                raise Died
            if name == "step" and starving:
                raise MemoryError("chaos")
            if name == "start" and failing:
                raise ValueError("chaos")

        with mock.patch.object(jobs.worker, "failpoint", at):
            try:
                answer = self.workers[worker].run(unit, attempt, alone)
            except Died:
                return self._lost(worker, f"killed at {place}")
        self.busy.pop(worker)
        if answer.fault is not None:
            return UnitFailed(worker, unit, answer.fault)
        assert answer.receipt is not None
        return Committed(worker, unit, answer.receipt, answer.seconds, answer.peak)

    def _lost(self, worker: int, reason: str, *, begun: bool = True) -> WorkerLost:
        self.busy.pop(worker, None)
        self.workers.pop(worker)
        return WorkerLost(worker, reason, begun=begun)

    def wait(self, seconds: float) -> list[Event]:
        if self.chance.random() < self.rates.head:
            return [HeadLost("the head does not answer (chaos)")]
        self.due.sort(key=lambda entry: entry[0])
        if not self.due or self.due[0][0] > self.now + seconds:
            self.now += seconds
            return []
        at, _, happens = self.due.pop(0)
        self.now = max(self.now, at)
        event = happens()
        return [event] if event is not None else []

    def beat(self, worker: int) -> int:
        return 0 if worker in self.hung else int(self.now)

    def shortage(self) -> str:
        return "nothing is missing"

    def dismiss(self, worker: int) -> None:
        self.workers.pop(worker, None)
        self.busy.pop(worker, None)
        self.hung.discard(worker)
        self.due = [one for one in self.due if one[1] != worker]


_known: dict[Any, Any] = {}


def _once(compute: Callable[..., Any]) -> Callable[..., Any]:
    """A stage's function, which computes a unit once a process."""

    def known(work: Any, unit: Any) -> Any:
        key = (unit.stage, unit.slug, unit.key, unit.cut.name)
        if key not in _known:
            result = compute(work, unit)
            _known[key] = dict(result) if isinstance(result, Iterator) else result  # arrays made as they are written
        work.step()
        return copy.deepcopy(_known[key])

    return known


@contextlib.contextmanager
def in_process(chance: random.Random, rates: Rates) -> Iterator[None]:
    """Runs of this process have workers of this process, and computations are remembered."""
    stages = tuple(replace(stage, compute=_once(stage.compute)) for stage in jobs.stages.STAGES)
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.object(jobs.stages, "STAGES", stages))

        def executor(settings: WorkerSettings, *_: Any) -> InProcess:
            return InProcess(settings, chance, rates)

        enter(mock.patch.object(jobs.ray_run, "RayExecutor", executor))
        enter(mock.patch.object(jobs.ray_run, "ray_session", return_value=contextlib.nullcontext()))
        enter(mock.patch.object(jobs.ray_run, "on_every_node"))
        enter(contextlib.redirect_stderr(io.StringIO()))  # progress
        yield


def play_run(folder: Path, chance: random.Random, rates: Rates, **options: Any) -> RunReport | BaseException:
    """One run under faults; where the driver is killed, the folder is as it was at that moment."""
    kill_at = chance.choice((1, 2, 3, 5, 8, 13, 21, 34)) if chance.random() < rates.driver else None
    kept, commits = folder.with_name("at the kill"), 0
    real = Run.committed

    def committed(self: Run, *args: Any) -> Any:
        nonlocal commits
        commits += 1
        if commits == kill_at:
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept)
            raise DriverDied
        return real(self, *args)

    config = load_config(None, {**RUN, **options, "out": str(folder)})
    with in_process(chance, rates), mock.patch.object(Run, "committed", committed):
        try:
            return carry_out(config, command="chaos", say=lambda text: None)
        except DriverDied as error:
            shutil.rmtree(folder)
            kept.rename(folder)
            (folder / ".atlas/lock.json").unlink(missing_ok=True)  # its owner would be this process, which lives
            return error
        except AtlasError as error:
            return error


def damage(folder: Path, chance: random.Random) -> set[str]:
    """Flip a bit of, cut short or remove some files of the atlas; their paths."""
    files = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    hit = chance.sample(files, min(len(files), chance.randrange(4)))
    for path in hit:
        held = bytearray(path.read_bytes())
        how = chance.choice(("flip", "cut", "remove"))
        if how == "remove":
            path.unlink()
            continue
        if how == "flip":
            held[chance.randrange(len(held))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(held) if how == "flip" else bytes(held[: len(held) // 2]))
    return {str(path.relative_to(folder)) for path in hit}


def clean_up(folder: Path, *, parts: bool) -> None:
    """`neuron-atlas clean --yes`."""
    store = Store(str(folder))
    if not store.list("models"):
        return
    with locked(store, "clean") as lock:
        carry_out_cleaning(store, decide(store, parts=parts), lock)


Rows = dict[str, dict[tuple[Any, ...], frozenset[str]]]


def rows_of(folder: Path) -> Rows:
    """By readable shard, its rows by their keys, with the stages that fill each."""
    found: Rows = {}
    for path in sorted(folder.glob("*/*/train-*.parquet")):
        name = str(path.relative_to(folder))
        table = TABLES[path.parts[-3]]
        if table.name in ("models", "sites", "runs", "probe_images"):
            continue
        try:
            data, _ = decode(path.read_bytes(), name)
        except AtlasError:
            continue
        keys = list(zip(*(data[one].to_pylist() for one in table.key), strict=True))
        assert len(set(keys)) == len(keys), f"{name}: rows are doubled"
        found[name] = dict(zip(keys, _filled(table, data), strict=True))
    return found


def _filled(table: Any, data: pa.Table) -> list[frozenset[str]]:
    filled: list[set[str]] = [set() for _ in range(data.num_rows)]
    for column in table.columns:
        if column.stage and column.name in data.column_names:
            for row, valid in enumerate(data[column.name].is_valid().to_pylist()):
                if valid:
                    filled[row].add(column.stage)
    return [frozenset(one) for one in filled]


def lost(before: Rows, after: Rows, damaged: set[str]) -> list[str]:
    """What rows, or columns of a stage, shards lost that nobody damaged."""
    return [
        f"{name}: {key}: {sorted(stages - after.get(name, {}).get(key, frozenset()))}"
        for name, rows in before.items()
        if name not in damaged
        for key, stages in rows.items()
        if key not in after.get(name, {}) or not stages <= after[name][key]
    ]


def measured(folder: Path) -> Mapping[str, pa.Table]:
    """All rows of the atlas without what differs from run to run."""
    tables = {}
    for path in sorted(folder.glob("*/*/train-*.parquet")):
        table = TABLES[path.parts[-3]]
        if table.name in ("models", "runs"):
            continue
        data, _ = decode(path.read_bytes(), str(path.relative_to(folder)))
        steady = [column.name for column in table.columns if not column.volatile]
        tables[str(path.relative_to(folder))] = data.select(steady).replace_schema_metadata(None)
    return tables


@dataclass
class Played:
    """What came of a seed."""

    seed: int
    ends: Counter[str] = field(default_factory=Counter)
    damaged: int = 0
    lost: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.lost or self.differs or self.faults)


def play(seed: int, folder: Path, clean: Mapping[str, pa.Table], rates: Rates = Rates()) -> Played:
    """Runs under faults, damage between them, and one run without: the atlas is that of an undisturbed run."""
    chance, played = random.Random(seed), Played(seed)
    for _ in range(RUNS):
        before = rows_of(folder) if folder.exists() else {}
        hit = damage(folder, chance) if folder.exists() and chance.random() < rates.damage else set()
        played.damaged += len(hit)
        if folder.exists() and chance.random() < rates.clean:
            clean_up(folder, parts=chance.random() < 0.5)
        selection = chance.choice(({}, {}, {"layers": "0"}, {"units": "0:32"}, {"stages": "visualize"}))
        end = play_run(folder, chance, rates, **selection)
        played.ends[end.status if isinstance(end, RunReport) else type(end).__name__] += 1
        played.lost += lost(before, rows_of(folder), hit)
    end = play_run(folder, chance, NONE)
    if not isinstance(end, RunReport) or end.exit_code:
        played.faults.append(f"the last run, without faults: {end}")
        return played
    store = Store(str(folder))
    clean_up(folder, parts=False)  # as `validate` says: what is damaged is put aside, and made anew by a run
    end = play_run(folder, chance, NONE)
    played.faults += [str(end)] if not isinstance(end, RunReport) or end.exit_code else []
    played.faults += [str(one) for one in validate(store)]
    now = measured(folder)
    played.differs += [name for name in clean.keys() | now.keys() if name not in now or now[name] != clean.get(name)]
    return played


def undisturbed(folder: Path) -> Mapping[str, pa.Table]:
    """The rows of a run without faults."""
    end = play_run(folder, random.Random(0), NONE)
    assert isinstance(end, RunReport), end
    assert end.exit_code == 0, end
    return measured(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the atlases (default: one that is removed)")
    chosen = parser.parse_args()
    failed = 0
    with contextlib.ExitStack() as stack:
        scratch = chosen.keep or stack.enter_context(tempfile.TemporaryDirectory())
        clean = undisturbed(Path(scratch) / "clean" / "atlas")
        for seed in range(chosen.first, chosen.first + chosen.seeds):
            began = time.monotonic()
            played = play(seed, Path(scratch) / f"seed {seed}" / "atlas", clean)
            ends = ", ".join(f"{count} {how}" for how, count in sorted(played.ends.items()))
            print(
                f"seed {seed}: {ends}; {played.damaged} files damaged; {len(played.lost)} rows lost, "
                f"{len(played.differs)} shards differ; {time.monotonic() - began:.0f} s",
                flush=True,
            )
            for text in [*played.lost[:5], *played.differs[:5], *played.faults[:5]]:
                print("   ", text, flush=True)
            failed += not played.sound
    print(f"{chosen.seeds - failed} of {chosen.seeds} seeds sound")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
