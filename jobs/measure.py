"""Measures what a unit of each stage takes on this machine, so that a plan rests on seconds that were seen.

The model that costs most is taken, one of its middle layers, some of its neurons and some of the images; they go
through all stages of the run in this process, by the same worker that a run has, into a folder that is thrown away.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from atlas_schema.errors import WorkFailed
from atlas_schema.units import Neurons
from jobs.config import RunConfig
from jobs.forecast import Forecast
from jobs.graph import Graph
from jobs.held import Held
from jobs.plan import ModelPlan, Plan
from jobs.prepare import Prepared, Say, prepare
from jobs.worker import Worker, settings_for

UNIT_SECONDS = 5.0  # aimed length of what is measured of pictures, and of the costliest pass over images
FEWEST_NEURONS, MOST_NEURONS = 4, 64
FEWEST_IMAGES, MOST_IMAGES = 128, 512  # fewer make no labels and no alignment


@dataclass(frozen=True)
class Measured:
    """What units of a stage took here, and what the plan had for them."""

    seconds: float
    estimated: float

    @property
    def pace(self) -> float:
        """How many times longer than estimated."""
        return self.seconds / self.estimated


def measured_paces(
    config: RunConfig, plan: Plan, say: Say, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Measured]:
    """By stage, what it took. Raises what preparing a run raises, and WorkFailed where a unit fails."""
    model = max(plan.models, key=lambda one: sum(job.total for job in plan.jobs if job.slug == one.slug))
    with tempfile.TemporaryDirectory(prefix="atlas-measure-") as folder:
        small = _small(config, plan, model, folder)
        say(f"Measuring a unit of each stage on {model.description.id}: this takes minutes for a large model")
        prepared = _with_some_images(prepare(small, lambda _: None), plan, model)
        return _measured(prepared, plan, say, clock)


def _small(config: RunConfig, plan: Plan, model: ModelPlan, folder: str) -> RunConfig:
    """The run of a few neurons of a middle layer of one model."""
    layers = sorted(model.ranges)
    layer = layers[len(layers) // 2]
    (start, stop), *_ = model.ranges[layer]
    count = min(max(FEWEST_NEURONS, min(MOST_NEURONS, _neurons(plan, model, layer))), stop - start)
    entry = next((one for one in config.models if one.request() == model.request), None)
    if entry is None:  # one of those that a pattern such as zoo/* stands for
        entry = config.models[0].model_copy(update={"model": model.description.id})
    changed = {"models": (entry,), "layers": str(layer), "units": f"{start}:{start + count}", "out": folder}
    # inversions are not measured: their units are as long as lists of targets are, and one may take minutes
    none: dict[str, object] = {"classes": (), "prompts": None}
    return config.model_copy(update={**changed, **none, "workers": 1, "address": None})


def _neurons(plan: Plan, model: ModelPlan, layer: int) -> int:
    """Neurons whose pictures take about UNIT_SECONDS."""
    each = 0.0
    for job in plan.jobs:
        own = [
            flops / (cut.stop - cut.start)
            for cut, flops in zip(job.cuts, job.flops, strict=True)
            if job.slug == model.slug and isinstance(cut, Neurons) and cut.layer == layer
        ]
        each = max(each, *own, 0.0)
    return int(UNIT_SECONDS * plan.machine.speed / each) if each else MOST_NEURONS


def _with_some_images(prepared: Prepared, plan: Plan, model: ModelPlan) -> Prepared:
    """... on images taken evenly from the set, as many as its costliest pass takes about UNIT_SECONDS for."""
    images = prepared.inputs.probe_set
    if images is None:
        return prepared
    each = 0.0
    for job in plan.jobs:
        if job.slug == model.slug and job.stage.cut == "images":
            each = max(each, job.total / max(job.size, 1))
    count = int(UNIT_SECONDS * plan.machine.speed / each) if each else FEWEST_IMAGES
    count = max(FEWEST_IMAGES, min(MOST_IMAGES, count))
    step = max(1, len(images) // count)
    some = replace(images, images=images.images[::step][:count], locators=images.locators[::step][:count])
    return replace(prepared, inputs=replace(prepared.inputs, probe_set=some, _cache={}))


def _measured(prepared: Prepared, plan: Plan, say: Say, clock: Callable[[], float]) -> dict[str, Measured]:
    small = prepared.plan(replace(plan.machine, workers=1))
    graph = Graph(Held(prepared).jobs(small))
    identities = {(job.stage.name, job.slug): job.identity for job in graph.jobs.values()}
    worker, forecast = Worker(settings_for(prepared, small, identities)), Forecast(small, graph)
    worker.load(prepared.models[0].description.slug)
    planned = {unit for job in graph.jobs.values() for layer in job.layers for unit in job.gaps(layer)}
    waiting = graph.ready()
    while waiting:
        for unit in waiting:
            began = clock()
            answer = worker.run(unit, 1)
            if answer.fault is not None:
                raise WorkFailed(f"{unit} failed as it was measured: {answer.fault}")
            forecast.committed(unit, clock() - began, counts=unit in planned)
            graph.add(unit)
        waiting = graph.ready()
    found = {name: Measured(seconds, estimated) for name, (estimated, seconds) in forecast.took.items() if estimated}
    for name, one in found.items():
        say(f"  {name}: {one.seconds:.2g} s, estimated {one.estimated:.2g} s")
    return found
