"""What the driver costs a unit: handing it out, and taking in its commit; no worker computes anything.

    python -m benchmarks.control_plane [--quick] [--out FILE]

A hand-out is compared, in one run, with a search through a list of all waiting units (how it was done before the queue
was kept by model and layer). A commit is what the driver does for one: the graph takes it in and says what can begin,
and it is asked whether a shard is complete.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from atlas_schema.store import Store
from atlas_schema.units import Identity, Images, Neurons, WorkUnit
from benchmarks.machine import description
from jobs.assembly import Shards
from jobs.graph import Graph, Job
from jobs.loop import Queue
from jobs.stages import stage_named

MODELS, LAYERS = 31, 12
OWN = Identity("f" * 64, "s" * 16)
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
    return {"queue_ms": 1e3 * ours, "list_ms": 1e3 * (time.process_time() - started) / few}


def commits(units: int, samples: int) -> dict[str, float]:
    """Milliseconds of one commit in a run of `units` units, all stages of neurons and a pass on every model."""
    each = -(-units // (MODELS * len(NEURON_STAGES)))
    jobs = []
    for m in range(MODELS):
        jobs.append(Job(stage_named("probe"), f"m{m}", OWN, [Images(i, i + 1) for i in range(8)]))
        jobs += [Job(stage_named(name), f"m{m}", OWN, layer_cuts(each)) for name in NEURON_STAGES]
    graph = Graph(jobs)
    depths = {f"m{m}": LAYERS for m in range(MODELS)}
    shards = Shards(Store("memory://control"), graph, (), depths, {slug: {} for slug in depths})
    ready = [unit for unit in graph.ready() if unit.stage == "visualize"]
    started = time.process_time()
    for unit in ready[:samples]:
        graph.add(unit)
        for target in shards.of_unit(unit):
            shards.ready(target)
        graph.ready()
    return {"commit_ms": 1e3 * (time.process_time() - started) / min(samples, len(ready))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--out", type=Path, help="write the JSON there, too")
    options = parser.parse_args()
    sizes = [(64, 2_000), (64, 20_000)] if options.quick else [(64, 2_000), (64, 100_000), (1_000, 100_000)]
    rows = []
    for workers, units in sizes:
        row: dict[str, Any] = {"workers": workers, "units": units, **hand_out(workers, units, 1_000)}
        row |= commits(units, 1_000)
        row["hand_out_ratio"] = row["list_ms"] / row["queue_ms"]
        rows.append({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
    made = json.dumps({"machine": description(), "models": MODELS, "layers": LAYERS, "rows": rows}, indent=1)
    print(made)
    if options.out:
        options.out.write_text(made + "\n")


if __name__ == "__main__":
    main()
