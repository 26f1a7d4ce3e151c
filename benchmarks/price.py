"""Whether the plan foretold what a run took, by stage, and whether its progress line told the time left.

    python -m benchmarks.price ATLAS [--run RUN] [--cpu] [--out FILE]

Reads an atlas that a run has finished: the run's config gives the plan anew, its log says what each unit took. Of every
stage the plan's seconds of a worker stand beside those of the log (CPU time where the units shared the machine with
other work: seconds on the clock then measure that work). The log is then replayed through `jobs.forecast`, and at every
hundredth of the run's time the time left that its line would have told is divided by the time that was left.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from atlas_schema.parquet import decode
from atlas_schema.shards import shard_path
from atlas_schema.store import Store
from atlas_schema.tables import RUNS
from atlas_schema.units import Identity, Images, Neurons, Pair, Readings, Targets, Whole, WorkUnit
from benchmarks.machine import description, put
from jobs.config import config_from_mapping
from jobs.forecast import Forecast, seconds_left
from jobs.graph import Graph, Job
from jobs.opening import counts_of
from jobs.plan import Machine, Partner, Plan, make_plan
from jobs.prepare import describe_all
from jobs.ranges import subtract, union
from jobs.run_log import logged_runs, read_log
from jobs.stages import stages_of
from jobs.targets import guessed, guessed_readers, prompts_of
from pipeline.models import ModelRequest, describe
from pipeline.visualize.recipes import recipe_named

PLANNED = Identity("0" * 64, "0" * 16)
FROM_A_QUARTER = 0.25
LAST = 0.98  # of the run's time: seconds before its end are told as seconds


def plan_of(row: Mapping[str, Any]) -> Plan:
    """The plan of a run, by its row of `runs`."""
    config = config_from_mapping(json.loads(row["config"]))
    machine = json.loads(row["machine"])
    stages = stages_of(config.stages, config.also, config.inverting, config.picturing_heads)
    embeds = any(stage.owner == "embedder" for stage in stages)
    embedder = describe(ModelRequest(config.embedder)) if embeds else None
    counts = counts_of(config, stages, lambda _: None)
    recipe, described = recipe_named(config.recipe), describe_all(config)
    at = Machine(machine["device"], machine["workers"], machine["threads"])
    prompts = prompts_of(config).texts
    targets = {one.slug: guessed(config, prompts, one) for _, one in described}
    readers = guessed_readers(targets, [one for _, one in described])
    return make_plan(config, described, stages, recipe, counts, at, embedder, targets=targets, readers=readers)


def graph_of(plan: Plan) -> Graph:
    """... with nothing committed."""

    def own(cut: Any) -> Any:
        return Pair(cut.slug, PLANNED.settings) if isinstance(cut, Partner) else cut

    return Graph(Job(job.stage, job.slug, PLANNED, [own(cut) for cut in job.cuts]) for job in plan.jobs)


def events_of(store: Store, run: str) -> list[dict[str, Any]]:
    """What the log of a run tells, with seconds since its first line."""
    found = list(read_log(store, run))
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


def unit_named(name: str) -> WorkUnit | None:
    """The unit that a log has a name for; None of an assembly."""
    stage, _, rest = name.partition(" ")
    of_layer = re.fullmatch(r"(\S+)/mlp/(\d+) units (\d+) to (\d+)", rest)
    if of_layer:
        slug, layer, first, last = of_layer.groups()
        return PLANNED.unit(stage, slug, Neurons(int(layer), int(first), int(last) + 1))
    of_images = re.fullmatch(r"(\S+) images (\d+) to (\d+)", rest)
    if of_images:
        slug, first, last = of_images.groups()
        return PLANNED.unit(stage, slug, Images(int(first), int(last) + 1))
    of_targets = re.fullmatch(r"(\S+) (\d+) targets \([0-9a-f]{6}\)(?: by (\S+))?", rest)
    if of_targets:
        slug, count, reader = of_targets.groups()
        told = (int(count), PLANNED.settings)
        return PLANNED.unit(stage, slug, Readings(*told, reader, PLANNED.settings) if reader else Targets(*told))
    of_pair = re.fullmatch(r"(\S+) with (\S+)", rest)
    if of_pair:
        return PLANNED.unit(stage, of_pair[1], Pair(of_pair[2], PLANNED.settings))
    return None if stage == "assemble" or " " in rest else PLANNED.unit(stage, rest, Whole())


def by_cpu(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same units in the same order, end to end by the CPU time of each: of a worker that had its core alone."""
    now, laid = 0.0, [{"event": "start", "at": 0.0}]
    for event in events:
        if event["event"] == "committed":
            seconds = event["cpu_seconds"]
            laid.append({"event": "started", "unit": event["unit"], "at": now})
            now += seconds
            laid.append({**event, "seconds": seconds, "at": now})
    return [*laid, {"event": "end", "at": now}]


def replayed(plan: Plan, graph: Graph, events: list[dict[str, Any]]) -> Iterator[dict[str, float]]:
    """At every hundredth of the run's time: what was left, and what the line would have told."""
    forecast, passed = Forecast(plan, graph), {}
    end = events[-1]["at"]
    first = min((event["at"] for event in events if event["event"] == "started"), default=0.0)
    todo, step = deque(events), (end - first) / 100
    for hundredth in range(1, 100):
        now = first + hundredth * step
        while todo and todo[0]["at"] <= now:
            event = todo.popleft()
            unit = unit_named(event.get("unit") or "")
            if unit is None:
                continue
            if event["event"] == "started":
                forecast.began(unit, event["at"])
            elif event["event"] == "committed":
                seen = passed.setdefault((unit.stage, unit.slug), ())
                merge = isinstance(unit.cut, Images) and not subtract((unit.start, unit.stop), seen)
                forecast.committed(unit, event["seconds"], counts=not merge)
                if isinstance(unit.cut, Images):
                    passed[unit.stage, unit.slug] = union(seen, [(unit.start, unit.stop)])
            elif event["event"] in ("retrying", "worker lost", "put aside", "gave up"):
                forecast.ended(unit)
        spent, left = forecast.work(now)
        if spent:
            told, true = seconds_left(spent, left, now - first), end - now
            yield {"of_the_time": hundredth / 100, "told": round(told, 1), "true": round(true, 1)}


def report_of(atlas: str, run: str | None, *, cpu: bool = False) -> dict[str, Any]:
    """The figures of one run of an atlas: of the first, where none is named. cpu: as `by_cpu`."""
    store = Store(atlas)
    run = run or logged_runs(store)[0]
    (row,) = decode(store.read(shard_path(RUNS, run)), run)[0].to_pylist()
    plan = plan_of(row)
    events = events_of(store, run)
    stages = by_stage(plan, events)
    planned, taken, busy = (sum(one[name] for one in stages.values()) for name in ("planned", "seconds", "cpu_seconds"))
    told = list(replayed(plan, graph_of(plan), by_cpu(events) if cpu else events))
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
                "share_taken": round(one["cpu_seconds"] / busy, 4) if busy else None,
            }
            for name, one in stages.items()
        },
        "planned_seconds": round(planned, 1),
        "worker_seconds": round(taken, 1),
        "worker_cpu_seconds": round(busy, 1),
        "clock_seconds": round(events[-1]["at"], 1),
        "planned_to_cpu": round(planned / busy, 3) if busy else None,
        "time_left_by": "CPU seconds" if cpu else "seconds on the clock",
        "time_left": {"told_to_true_least": round(min(later), 2), "told_to_true_most": round(max(later), 2)}
        if later
        else {},
        "time_left_at": told[4::5],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", help="an atlas that a run has finished")
    parser.add_argument("--run", help="the run, by its name in `runs` (default: the first)")
    parser.add_argument("--cpu", action="store_true", help="time left by CPU seconds: of a run that shared its machine")
    parser.add_argument("--out", help="also write the JSON here")
    chosen = parser.parse_args()
    put(report_of(chosen.atlas, chosen.run, cpu=chosen.cpu), chosen.out)


if __name__ == "__main__":
    main()
