"""What the driver costs a unit and a run with nothing to do; no worker computes anything.

    python -m benchmarks.control_plane [--quick] [--only loop,counterparts,atlas] [--atlas FOLDER] [--out FILE]

Each number stands beside the way it was done before, in the same run: a hand-out beside a search through a list of all
waiting units; a commit beside gaps that are worked out anew at each; a run with nothing to do beside one that assembles
every shard again and makes the card's figures anew; shards of counterparts beside all pairs held at once. `unit_ms` is
the whole loop with the run's own listener, log included: a hand-out, a commit and its share of the assemblies, where
workers answer at once. CPU time of the process, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from atlas_schema import shards as shards_module
from atlas_schema.card import card_text, write_card
from atlas_schema.parts import Listing, PartReceipt, committed_units, part_path
from atlas_schema.shards import ShardPlace, assemble
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_MATCHES
from atlas_schema.units import Identity, Images, Neurons, WorkUnit
from atlas_schema.validate import validate
from benchmarks import made_atlas
from benchmarks.machine import description
from jobs.assembly import Shards
from jobs.driver import Run
from jobs.events import Committed, Event, Policy, Ready
from jobs.graph import Graph, Job
from jobs.loop import Loop
from jobs.memory import Gauge, give_back
from jobs.queue import Queue
from jobs.run_log import RunLog
from jobs.stages import stage_named
from jobs.status import status_of
from jobs.task import Assembly, ShardReceipt, Task

MODELS, LAYERS = 31, 12
SHARD_LAYERS = 13  # of the synthetic atlas: 403 shards of neurons, and as many of counterparts
OWN = Identity("f" * 64, "s" * 16)
HELD_BYTES = 16 << 20  # of rows of pairs: for models of 9,216 neurons, where `assemble` has 256 MB
NEURON_STAGES = ("visualize", "evidence", "examples", "judge", "label", "effect")


def layer_cuts(count: int) -> list[Neurons]:
    """`count` units of a model, over its layers."""
    each = -(-count // LAYERS)
    cuts = [Neurons(layer, 16 * i, 16 * i + 16) for layer in range(LAYERS) for i in range(each)]
    return cuts[:count]


def units_of(count: int) -> list[WorkUnit]:
    """Units of all models, as a run of `count` units has them."""
    each = -(-count // MODELS)
    models = [[OWN.unit("visualize", f"m{m}", cut) for cut in layer_cuts(each)] for m in range(MODELS)]
    return [unit for units in models for unit in units][:count]


def linear_choice(todo: Sequence[WorkUnit], busy: Sequence[WorkUnit], held: WorkUnit | None) -> int:
    """The alternative: index in a list of all waiting units, by the same rule."""

    def least(waiting: list[Any], at: list[Any], preferred: list[Any]) -> Any:
        for one in preferred:
            if one in waiting:
                return one
        free = [one for one in waiting if one not in set(at)]
        if free:
            return free[0]
        counts, crowds = Counter(waiting), Counter(at)
        return max(counts, key=lambda one: counts[one] / crowds[one])

    slug = least([unit.slug for unit in todo], [unit.slug for unit in busy], [held.slug] if held else [])
    layers = [unit.layer for unit in todo if unit.slug == slug]
    own = [held.layer] if held and held.slug == slug else []
    layer = least(layers, [unit.layer for unit in busy if unit.slug == slug], own)
    return next(i for i, unit in enumerate(todo) if (unit.slug, unit.layer) == (slug, layer))


def hand_out(workers: int, units: int, samples: int) -> dict[str, float]:
    """Milliseconds of one hand-out, by the queue and by the list, with `workers` at work and `units` waiting."""
    everything = units_of(units + workers)
    queue = Queue(everything)
    flying = [queue.take(None) for _ in range(workers)]
    started = time.process_time()
    for unit in islice(iter(flying), samples):
        queue.landed(unit)
        queue.take(unit)
    ours = (time.process_time() - started) / min(samples, workers)
    todo, few = list(queue), min(3, workers)
    started = time.process_time()
    for unit in flying[:few]:
        todo.pop(linear_choice(todo, flying[1:], unit))
    theirs = (time.process_time() - started) / few
    return {"hand_out_ms": 1e3 * ours, "list_ms": 1e3 * theirs, "hand_out_ratio": theirs / ours}


class AnewJob(Job):
    """The alternative: what is missing of a layer is worked out whenever it is asked for."""

    def _gaps(self, layer: int | None) -> dict[WorkUnit, None]:
        self._look_again(layer)
        return super()._gaps(layer)

    def done(self, layer: int | None = None) -> bool:
        if self.stage.cut == "images":
            return self.whole in self.committed()
        return not any(True for _ in self._work_out(layer))


def jobs_of(units: int, models: int, kind: type[Job] = Job) -> list[Job]:
    """All stages of neurons and a pass over images, of every model; of one model its pictures alone."""
    if models == 1:
        return [kind(stage_named("visualize"), "m0", OWN, layer_cuts(units))]
    each = -(-units // (models * len(NEURON_STAGES)))
    jobs = []
    for m in range(models):
        jobs.append(kind(stage_named("probe"), f"m{m}", OWN, [Images(i, i + 1) for i in range(8)]))
        jobs += [kind(stage_named(name), f"m{m}", OWN, layer_cuts(each)) for name in NEURON_STAGES]
    return jobs


def shards_of(jobs: Sequence[Job], models: int) -> Shards:
    """The shards of a run that writes into nothing."""
    planned = {f"m{m}": dict.fromkeys(range(LAYERS), ((0, 1 << 20),)) for m in range(models)}
    return Shards(Store("memory://control"), Graph(jobs), (), dict.fromkeys(planned, LAYERS), planned)


def commits(units: int, models: int, samples: int) -> dict[str, float]:
    """Milliseconds of one commit to graph and shards, now and with gaps worked out anew."""
    found = {}
    for name, kind in (("commit_ms", Job), ("anew_ms", AnewJob)):
        shards = shards_of(jobs_of(units, models, kind), models)
        ready = [unit for unit in shards.graph.ready() if unit.stage == "visualize"]
        few = ready[: samples if kind is Job else 10]
        started = time.process_time()
        for unit in few:
            shards.graph.add(unit)
            shards.graph.ready()
            shards.after(unit)
        found[name] = 1e3 * (time.process_time() - started) / len(few)
    return found | {"commit_ratio": found["anew_ms"] / found["commit_ms"]}


class AtOnce:
    """Workers that answer at once, in the order in which they were given work."""

    def __init__(self) -> None:
        self.due: deque[Event] = deque()
        self.hired = 0

    def clock(self) -> float:
        return time.monotonic()

    def hire(self) -> int:
        self.hired += 1
        self.due.append(Ready(self.hired))
        return self.hired

    def assign(self, worker: int, unit: Task, attempt: int, *, alone: bool) -> None:
        if isinstance(unit, Assembly):
            self.due.append(Committed(worker, unit, ShardReceipt(unit, 1, 1)))
        else:
            self.due.append(Committed(worker, unit, PartReceipt(unit, part_path(unit), 16, 1, True)))

    def wait(self, seconds: float) -> list[Event]:
        return [self.due.popleft()]

    def beat(self, worker: int) -> int:
        return 0

    def dismiss(self, worker: int) -> None: ...


def whole_loop(workers: int, units: int, models: int, folder: Path) -> dict[str, float]:
    """Milliseconds a unit of the loop, the graph, the shards and the log of a run, from start to end."""
    shards = shards_of(jobs_of(units, models), models)
    log = RunLog(Store(str(folder)), f"run-{workers}-{units}-{models}")
    run = Run.__new__(Run)
    told = ("started", "ended", "committed", "gave_up", "tick", "again", "say", "assembled")
    progress = SimpleNamespace(**dict.fromkeys(told, lambda *_: None))
    row = SimpleNamespace(units_done=0, run_id="run")
    facts = {"graph": shards.graph, "shards": shards, "store": Store("memory://control"), "log": log, "row": row}
    vars(run).update(**facts, progress=progress, receipts=0, stop=SimpleNamespace(signal=None))
    tasks = shards.graph.ready()
    started = time.process_time()
    outcome = Loop(tasks, AtOnce(), Policy(workers=workers), run).run()
    spent = time.process_time() - started
    log.close()
    done = sum(isinstance(receipt, PartReceipt) for receipt in outcome.done)
    assert not outcome.failed
    assert not outcome.left
    return {"unit_ms": 1e3 * spent / done, "done": done, "assemblies": len(outcome.done) - done}


class Names:
    """A store that only lists: the names of `units`."""

    def __init__(self, units: Sequence[WorkUnit]) -> None:
        self.names = [part_path(unit) for unit in units]

    def list(self, prefix: str) -> Sequence[str]:
        return self.names


def resumed(units: int) -> dict[str, float]:
    """Seconds until a run whose every unit is committed knows that: from names to a graph that wants nothing."""
    names = Names(units_of(units))
    started = time.process_time()
    listing = Listing(names)  # type: ignore[arg-type]
    jobs = []
    for m in range(MODELS):
        held = committed_units(listing, "visualize", f"m{m}", OWN)
        jobs.append(Job(stage_named("visualize"), f"m{m}", OWN, [unit.cut for unit in held], held))
    graph = Graph(jobs)
    assert not graph.ready()
    assert not graph.missing()
    return {"units": units, "graph_of_committed_s": time.process_time() - started}


class Asked(Store):
    """A folder that counts what it is asked."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls: Counter[str] = Counter()
        for name in ("read", "read_range", "open", "create", "replace", "list", "sizes"):
            setattr(self, name, self._counted(name, getattr(self, name)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: str = "", *rest: Any) -> Any:
            kind = "parts" if path.startswith(".atlas/parts") else "others"
            self.calls[f"{name} of {kind}"] += 1
            return call(path, *rest)

        return counted


def nothing_to_do(folder: Path, models: int, layers: int) -> dict[str, Any]:
    """Seconds and calls to the store of a run that finds everything done, now and as it was before."""
    rows = {}
    for name, look in (("now", _look), ("before", _assemble_all)):
        store = Asked(str(folder))
        started, spent = time.monotonic(), time.process_time()
        look(store, models, layers)
        rows[name] = {"seconds": time.monotonic() - started, "cpu_s": time.process_time() - spent, **store.calls}
    rows["ratio"] = rows["before"]["cpu_s"] / rows["now"]["cpu_s"]  # type: ignore[assignment]
    return rows


def _look(store: Store, models: int, layers: int) -> None:
    shards = made_atlas.shards_of(store, models, layers)
    assert shards.begin() == []
    assert shards.assemble_rest(60.0) == []
    write_card(store)


def _assemble_all(store: Store, models: int, layers: int) -> None:
    shards = made_atlas.shards_of(store, models, layers)
    for target in shards.targets():
        task = shards.assembly(target)
        assert task is not None
        task.write(store)
    store.replace("README.md", card_text(store).encode())


def reading(folder: Path) -> dict[str, float]:
    """Seconds of `status` and of `validate` on the same atlas."""
    store = Store(str(folder))
    started = time.monotonic()
    status_of(store)
    told = time.monotonic()
    validate(store)
    return {"status_s": told - started, "validate_s": time.monotonic() - told}


def counterparts(folder: Path, partners: int, layers: int, width: int) -> dict[str, float]:
    """Peak memory of writing a model's shards of counterparts, layer by layer and with all pairs held."""
    store = Store(str(folder))
    identity = made_atlas.identity("pairs")
    units = [identity.unit("pairs", "own", made_atlas.pair_of(f"partner{p:02d}")) for p in range(partners)]
    for unit in units:
        made_atlas.commit_pair(store, unit, layers, width, ranks=5)
    places = [ShardPlace(NEURON_MATCHES, "own", layer, layers) for layer in range(layers)]
    found: dict[str, float] = {"partners": partners, "neurons": layers * width}
    for name, held_bytes in (("held", math.inf), ("bounded", HELD_BYTES)):
        for path in store.list("neuron_matches"):
            store.delete(path)
        give_back()
        before, shards_module.HELD_BYTES = shards_module.HELD_BYTES, held_bytes
        resting = Gauge("cpu").peak.process
        gauge, spent = Gauge("cpu"), time.process_time()
        assemble(store, places, units)
        found |= {f"{name}_mb": (gauge.peak.process - resting) / 1e6, f"{name}_s": time.process_time() - spent}
        shards_module.HELD_BYTES = before
    shard = sum(store.size(path) for path in store.list("neuron_matches"))
    return found | {"bytes_a_neuron": shard / (layers * width)}


def rounded(value: Any) -> Any:
    """Floats with three digits that matter."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def loop_rows(quick: bool, scratch: Path) -> dict[str, Any]:
    """What a unit costs, by workers, units and models."""
    sizes = [(64, 2_000)] if quick else [(64, 2_000), (64, 100_000), (1_000, 2_000), (1_000, 100_000)]
    rows = []
    for workers, units in sizes:
        handed = hand_out(workers, units, 1_000)
        for models in (MODELS, 1):
            row = {"workers": workers, "units": units, "models": models} | handed
            rows.append(row | commits(units, models, 1_000) | whole_loop(workers, units, models, scratch))
    return {"layers": LAYERS, "rows": rows, "resumed": resumed(sizes[-1][1])}


def counterpart_rows(quick: bool, scratch: Path) -> dict[str, Any]:
    """What shards of counterparts take, by partners."""
    width, partners = (64, (2, 4)) if quick else (768, (8, 31))
    return {"counterparts": [counterparts(scratch / f"pairs-{n}", n, LAYERS, width) for n in partners]}


def atlas_rows(quick: bool, folder: Path) -> dict[str, Any]:
    """What a run with nothing to do, `status` and `validate` take."""
    models, layers = (4, 3) if quick else (MODELS, SHARD_LAYERS)
    store = Store(str(folder))
    if not store.exists("README.md"):
        made_atlas.make(store, models, layers)
    shards = len(store.list("neurons")) + len(store.list("neuron_matches"))
    return {
        "atlas": {"models": models, "parts": len(store.list(".atlas/parts")), "shards": shards},
        "nothing_to_do": nothing_to_do(folder, models, layers),
        "reading": reading(folder),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--only", default="loop,counterparts,atlas", help="some of these; --out keeps the others")
    parser.add_argument("--atlas", type=Path, help="keep the synthetic atlas there, and use the one that is")
    parser.add_argument("--out", type=Path, help="write the JSON there, too")
    options = parser.parse_args()
    made: dict[str, Any] = {"machine": description()}
    if options.out and options.out.exists():
        made = json.loads(options.out.read_text()) | made
    with tempfile.TemporaryDirectory() as folder:
        scratch, asked = Path(folder), options.only.split(",")
        if "loop" in asked:
            made |= loop_rows(options.quick, scratch)
        if "counterparts" in asked:
            made |= counterpart_rows(options.quick, scratch)
        if "atlas" in asked:
            made |= atlas_rows(options.quick, options.atlas or scratch / "atlas")
    text = json.dumps(rounded(made), indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
