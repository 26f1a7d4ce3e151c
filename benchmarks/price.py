"""Whether the plan foretold what a run took, by stage, and whether its progress line told the time left.

    python -m benchmarks.price ATLAS [--run RUN] [--out FILE]

Reads an atlas that a run has finished: the run's config gives the plan anew, its log says what each unit took. Of every
stage the plan's seconds of a worker stand beside those of the log (CPU time where the units shared the machine with
other work: seconds on the clock then measure that work). The log is then replayed through `jobs.forecast`, and at every
hundredth of the run's time the time left that its line would have told is divided by the time that was left.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from atlas_schema.parquet import decode
from atlas_schema.shards import shard_path
from atlas_schema.store import Store
from atlas_schema.tables import RUNS
from atlas_schema.units import Identity, Images, Pair, WorkUnit
from benchmarks.machine import description, put
from jobs.config import config_from_mapping
from jobs.forecast import Forecast, seconds_left
from jobs.graph import Graph, Job
from jobs.opening import counts_of
from jobs.plan import Machine, Partner, Plan, make_plan
from jobs.prepare import describe_all
from jobs.records import LOGS
from jobs.stages import stages_of
from pipeline.models import ModelRequest, describe
from pipeline.visualize.recipes import recipe_named

PLANNED = Identity("0" * 64, "0" * 16)
FROM_A_QUARTER = 0.25
LAST = 0.98  # of the run's time: seconds before its end are told as seconds


def plan_of(row: Mapping[str, Any]) -> Plan:
    """The plan of a run, by its row of `runs`."""
    config = config_from_mapping(json.loads(row["config"]))
    machine = json.loads(row["machine"])
    stages = stages_of(config.stages, config.also)
    embeds = any(stage.owner == "embedder" for stage in stages)
    embedder = describe(ModelRequest(config.embedder)) if embeds else None
    counts = counts_of(config, stages, lambda _: None)
    recipe, described = recipe_named(config.recipe), describe_all(config)
    at = Machine(machine["device"], machine["workers"], machine["threads"])
    return make_plan(config, described, stages, recipe, counts, at, embedder)


def graph_of(plan: Plan) -> Graph:
    """... with nothing committed."""

    def own(cut: Any) -> Any:
        return Pair(cut.slug, PLANNED.settings) if isinstance(cut, Partner) else cut

    return Graph(Job(job.stage, job.slug, PLANNED, [own(cut) for cut in job.cuts]) for job in plan.jobs)


def events_of(store: Store, run: str) -> list[dict[str, Any]]:
    """What the log of a run tells, with seconds since its first line."""
    found = [json.loads(line) for line in store.read(f"{LOGS}/{run}.jsonl").decode().splitlines()]
    began = datetime.fromisoformat(found[0]["time"])
    return [event | {"at": (datetime.fromisoformat(event["time"]) - began).total_seconds()} for event in found]


def by_stage(plan: Plan, events: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of every stage: seconds planned, seconds and CPU seconds taken, merges of slices included."""
    found = {job.stage.name: {"planned": 0.0, "seconds": 0.0, "cpu_seconds": 0.0} for job in plan.jobs}
    for job in plan.jobs:
        found[job.stage.name]["planned"] += job.total / plan.machine.speed
    for event in events:
        if event["event"] == "committed":
            own = found[event["unit"].split()[0]]
            own["seconds"] += event["seconds"]
            own["cpu_seconds"] += event.get("cpu_seconds", 0.0)
    return found


def units_named(graph: Graph) -> dict[str, WorkUnit]:
    """The planned units by the name that the log has for them; merges are made from their names."""
    return {str(unit): unit for job in graph.jobs.values() for layer in job.layers for unit in job.gaps(layer)}


def merge_named(name: str) -> WorkUnit | None:
    """A merge of slices, which no plan has: "probe zoo-vit images 0 to 999"."""
    stage, slug, *rest = name.split()
    if len(rest) == 4 and rest[0] == "images":
        return PLANNED.unit(stage, slug, Images(int(rest[1]), int(rest[3]) + 1))
    return None


def replayed(plan: Plan, graph: Graph, events: list[dict[str, Any]]) -> Iterator[dict[str, float]]:
    """At every hundredth of the run's time: what was left, and what the line would have told."""
    units, forecast = units_named(graph), Forecast(plan, graph)
    end = events[-1]["at"]
    started = [event["at"] for event in events if event["event"] == "started"]
    first = min(started, default=0.0)
    todo, step = list(events), (end - first) / 100
    for hundredth in range(1, 100):
        now = first + hundredth * step
        while todo and todo[0]["at"] <= now:
            event = todo.pop(0)
            name = event.get("unit") or ""
            unit = units.get(name)
            if event["event"] == "started" and unit is not None:
                forecast.began(unit, event["at"])
            elif event["event"] == "committed":
                known = unit or merge_named(name)
                if known is not None:
                    forecast.committed(known, event["seconds"], counts=unit is not None)
            elif event["event"] in ("retrying", "worker lost", "put aside", "gave up") and unit is not None:
                forecast.ended(unit)
        spent, left = forecast.work(now)
        if spent:
            told, true = seconds_left(spent, left, now - first), end - now
            yield {"of_the_time": hundredth / 100, "told": round(told, 1), "true": round(true, 1)}


def report_of(atlas: str, run: str | None) -> dict[str, Any]:
    """The figures of one run of an atlas: of the first, where none is named."""
    store = Store(atlas)
    logs = sorted(path for path in store.list(LOGS) if path.endswith(".jsonl"))
    run = run or logs[0].rpartition("/")[2].removesuffix(".jsonl")
    (row,) = decode(store.read(shard_path(RUNS, run)), run)[0].to_pylist()
    plan = plan_of(row)
    events = events_of(store, run)
    stages = by_stage(plan, events)
    planned, taken, cpu = (sum(one[name] for one in stages.values()) for name in ("planned", "seconds", "cpu_seconds"))
    told = list(replayed(plan, graph_of(plan), events))
    later = [one["told"] / one["true"] for one in told if FROM_A_QUARTER <= one["of_the_time"] <= LAST]
    return {
        "machine": description(),
        "models": [model.slug for model in plan.models],
        "workers": plan.machine.workers,
        "stages": {
            name: {key: round(value, 2) for key, value in one.items()}
            | {
                "planned_to_cpu": round(one["planned"] / one["cpu_seconds"], 2) if one["cpu_seconds"] else None,
                "share_planned": round(one["planned"] / planned, 4),
                "share_taken": round(one["cpu_seconds"] / cpu, 4) if cpu else None,
            }
            for name, one in stages.items()
        },
        "planned_seconds": round(planned, 1),
        "worker_seconds": round(taken, 1),
        "worker_cpu_seconds": round(cpu, 1),
        "clock_seconds": round(events[-1]["at"], 1),
        "planned_to_cpu": round(planned / cpu, 3) if cpu else None,
        "time_left": {"told_to_true_least": round(min(later), 2), "told_to_true_most": round(max(later), 2)}
        if later
        else {},
        "time_left_at": told[4::5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", help="an atlas that a run has finished")
    parser.add_argument("--run", help="the run, by its name in `runs` (default: the first)")
    parser.add_argument("--out", help="also write the JSON here")
    chosen = parser.parse_args()
    put(report_of(chosen.atlas, chosen.run), chosen.out)


if __name__ == "__main__":
    main()
