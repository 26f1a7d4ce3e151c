"""Config and model descriptions -> work units. Pure: no files, no clock, no Ray, no weights.

Units cover exactly the selected neurons of every FFN site. Their length is aimed at `unit_seconds` by
estimated FLOPs, shorter where that keeps all workers busy. Boundaries depend on the selection and the
settings, never on what is committed: a resumed run forms the same batches as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from atlas_schema.errors import SlugClash
from atlas_schema.parts import WorkUnit
from jobs.config import RunConfig, select

if TYPE_CHECKING:
    from pipeline.models import FfnSite, ModelDescription, ModelRequest
    from pipeline.visualize.recipes import Recipe

Range = tuple[int, int]  # units [start, stop) of one FFN site

# Sustained float32 speed that the plan assumes, FLOP/s: of one CPU thread, of one GPU. Only the length
# of units and the estimated hours rest on it.
SPEEDS = {"cpu": 4.0e10, "mps": 1.5e12, "cuda": 6.0e13}
# A step on a tiny model is bound by calls, not by arithmetic: no image step counts as less than this.
LEAST_STEP_FLOPS = 8.0e6
LEAST_UNIT_SECONDS = 5.0  # below this the cost of starting and committing a unit shows
UNITS_PER_WORKER = 4  # at least, where the units stay long enough: an even finish
LONGEST_UNIT_SECONDS = 300.0
BATCH_MULTIPLE = 16
LEAST_BATCH = 8  # neurons: below it matrix products are too small to be quick; a unit is longer rather than narrower
BYTES_PER_PIXEL = 0.32  # of a stored picture, WebP at quality 75: 16 kB at 224 x 224
BYTES_PER_ROW = 900  # the numbers beside it


@dataclass(frozen=True)
class Machine:
    """What the units are sized for."""

    device: str = "cpu"  # "cpu", "cuda", "mps"
    workers: int = 1
    threads: int = 1

    @property
    def speed(self) -> float:
        """Assumed FLOP/s of one worker."""
        return SPEEDS[self.device] * (self.threads if self.device == "cpu" else 1)

    @property
    def text(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        threads = f", {self.threads} CPU thread{'s' * (self.threads > 1)} each" if self.device == "cpu" else ""
        return f"{workers} on {self.device}{threads}"


@dataclass(frozen=True)
class UnitSlice:
    """A work unit before its model's fingerprint is known: units [start, stop) of one FFN site."""

    stage: str
    slug: str
    layer: int
    start: int
    stop: int
    neuron_flops: float

    @property
    def flops(self) -> float:
        return self.neuron_flops * (self.stop - self.start)

    def work_unit(self, fingerprint: str, recipe_hash: str, seed: int) -> WorkUnit:
        return WorkUnit(
            stage=self.stage,
            slug=self.slug,
            layer=self.layer,
            start=self.start,
            stop=self.stop,
            fingerprint=fingerprint,
            recipe_hash=recipe_hash,
            seed=seed,
        )


@dataclass(frozen=True)
class ModelPlan:
    """One model's share: which units of which FFN sites, and how they are cut."""

    request: ModelRequest
    description: ModelDescription
    ranges: Mapping[int, tuple[Range, ...]]  # by layer, ascending, disjoint
    slices: tuple[UnitSlice, ...]

    @property
    def slug(self) -> str:
        return self.description.slug

    @property
    def neurons(self) -> int:
        return sum(stop - start for ranges in self.ranges.values() for start, stop in ranges)


@dataclass(frozen=True)
class Plan:
    """All work of one run, before what is committed is taken off."""

    models: tuple[ModelPlan, ...]
    machine: Machine

    @property
    def slices(self) -> tuple[UnitSlice, ...]:
        return tuple(one for model in self.models for one in model.slices)

    @property
    def flops(self) -> float:
        return sum(one.flops for one in self.slices)

    @property
    def bytes(self) -> int:
        """Estimated size of the pictures and numbers that the run adds to the atlas."""
        return round(
            sum(
                model.neurons * (BYTES_PER_ROW + BYTES_PER_PIXEL * math.prod(model.description.input_size))
                for model in self.models
            )
        )

    @property
    def hours(self) -> float:
        """Estimated hours of one worker; divide by the number of workers for the time on the clock."""
        return self.flops / self.machine.speed / 3600


def make_plan(
    config: RunConfig,
    described: Sequence[tuple[ModelRequest, ModelDescription]],
    recipe: Recipe,
    machine: Machine,
) -> Plan:
    """Cut the selected neurons of all models into work units. Raises SlugClash, BadConfig."""
    _refuse_slug_clash([description for _, description in described])
    chosen = [(request, description, _selected_ranges(config, description)) for request, description in described]
    total = sum(
        neuron_flops(description.ffn_sites[layer], recipe) * (stop - start)
        for _, description, ranges in chosen
        for layer, layer_ranges in ranges.items()
        for start, stop in layer_ranges
    )
    target = unit_flops(total, config.unit_seconds, machine)
    limit = LONGEST_UNIT_SECONDS * machine.speed
    models = []
    for request, description, ranges in chosen:
        slices = tuple(
            one
            for layer, layer_ranges in ranges.items()
            for one in _cut("visualize", description, layer, layer_ranges, recipe, target, limit)
            if "visualize" in config.stages
        )
        models.append(ModelPlan(request, description, ranges, slices))
    return Plan(tuple(models), machine)


def unit_flops(total: float, unit_seconds: float, machine: Machine) -> float:
    """FLOPs that one unit should cost: `unit_seconds`, less where workers would otherwise stand idle."""
    aimed = min(unit_seconds * machine.speed, total / (UNITS_PER_WORKER * machine.workers))
    return max(aimed, min(LEAST_UNIT_SECONDS, unit_seconds) * machine.speed)


def neuron_flops(site: FfnSite, recipe: Recipe) -> float:
    """Estimated FLOPs of one neuron's visualization.

    Every image step is one forward up to the site and one backward to the image; without weight
    gradients the backward costs as much as the forward.
    """
    return 2 * max(site.flops, LEAST_STEP_FLOPS) * image_steps(recipe, site)


def image_steps(recipe: Recipe, site: FfnSite) -> int:
    """Forward-backward passes of one image that the recipe spends on one neuron of this site."""
    ascents = sum(ascent.image_steps for ascent in recipe.ascents_at(site.depth))
    return ascents + recipe.robust_draws


def probe_images(description: ModelDescription, unit_seconds: float, machine: Machine) -> int:
    """Images of one slice of the probe pass: about `unit_seconds` of forwards, in whole batches."""
    images = unit_seconds * machine.speed / max(description.forward_flops, LEAST_STEP_FLOPS)
    return int(min(8192, max(32, images // 32 * 32)))


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


def as_ranges(units: Iterable[int]) -> tuple[Range, ...]:
    """Ascending distinct integers -> the fewest half-open ranges that hold exactly them."""
    ranges: list[Range] = []
    for unit in units:
        if ranges and ranges[-1][1] == unit:
            ranges[-1] = (ranges[-1][0], unit + 1)
        else:
            ranges.append((unit, unit + 1))
    return tuple(ranges)


def union(*many: Iterable[Range]) -> tuple[Range, ...]:
    """The fewest ranges that cover the same units as all given ones together."""
    merged: list[Range] = []
    for start, stop in sorted(one for ranges in many for one in ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        elif start < stop:
            merged.append((start, stop))
    return tuple(merged)


def subtract(wanted: Range, covered: Iterable[Range]) -> tuple[Range, ...]:
    """What of `wanted` no range of `covered` holds, ascending."""
    start, stop = wanted
    left: list[Range] = []
    for low, high in union(covered):
        if high <= start or low >= stop:
            continue
        if low > start:
            left.append((start, low))
        start = max(start, high)
    if start < stop:
        left.append((start, stop))
    return tuple(left)


def intersect(wanted: Range, covered: Iterable[Range]) -> tuple[Range, ...]:
    """What of `wanted` some range of `covered` holds, ascending."""
    start, stop = wanted
    inside = [(max(start, low), min(stop, high)) for low, high in union(covered)]
    return tuple((low, high) for low, high in inside if low < high)


def _cut(
    stage: str,
    description: ModelDescription,
    layer: int,
    ranges: Iterable[Range],
    recipe: Recipe,
    target: float,
    limit: float,
) -> Iterable[UnitSlice]:
    """Cut each range into pieces of about equal length: `target` FLOPs, or a least batch where `limit` allows it."""
    per_neuron = neuron_flops(description.ffn_sites[layer], recipe)
    most = max(1, int(target / per_neuron), min(LEAST_BATCH, int(limit / per_neuron)))
    if most > BATCH_MULTIPLE:
        most -= most % BATCH_MULTIPLE
    for start, stop in ranges:
        length = math.ceil((stop - start) / math.ceil((stop - start) / most))
        if most > BATCH_MULTIPLE:
            length = math.ceil(length / BATCH_MULTIPLE) * BATCH_MULTIPLE
        for first in range(start, stop, length):
            yield UnitSlice(stage, description.slug, layer, first, min(first + length, stop), per_neuron)


def remaining(slices: Iterable[UnitSlice], covered: Mapping[tuple[str, str, int], Sequence[Range]]) -> list[UnitSlice]:
    """The slices minus what is committed; `covered` maps (stage, slug, layer) to committed ranges.

    A slice that was committed as it stands disappears; one that parts of another cut cover in part
    leaves exactly its gaps.
    """
    left = []
    for one in slices:
        for start, stop in subtract((one.start, one.stop), covered.get((one.stage, one.slug, one.layer), ())):
            left.append(replace(one, start=start, stop=stop))
    return left


def plan_as_dict(plan: Plan, recipe_name: str) -> dict[str, Any]:
    """What `neuron-atlas plan --json` prints."""
    return {
        "models": [_model_as_dict(model) for model in plan.models],
        "recipe": recipe_name,
        "work_units": len(plan.slices),
        "planned_neurons": sum(model.neurons for model in plan.models),
        "estimated_flops": round(plan.flops),
        "estimated_bytes": plan.bytes,
        "estimated_hours": {
            "device": plan.machine.device,
            "workers": plan.machine.workers,
            "worker_hours": plan.hours,
            "clock_hours": plan.hours / plan.machine.workers,
        },
    }


def _model_as_dict(model: ModelPlan) -> dict[str, Any]:
    description = model.description
    head_dims = sorted({site.head_dim for site in description.attention_sites})
    return {
        "id": description.id,
        "slug": description.slug,
        "family": description.family,
        "ffn_sites": len(description.ffn_sites),
        "neurons": description.neurons,
        "attention_sites": len(description.attention_sites),
        "heads": description.heads,
        "head_dim": head_dims[0] if len(head_dims) == 1 else head_dims,
        "representation_dim": description.representation_dim,
        "parameters": description.parameters,
        "planned_neurons": model.neurons,
    }
