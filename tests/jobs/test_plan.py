"""Planning: exact cover of what is wanted of every stage, sizes by estimated FLOPs, what it costs."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.errors import BadConfig, SlugClash
from atlas_schema.inversion_recipes import HEAD_PICTURE_STAGES, INVERSION_STAGES, READING_STAGES
from atlas_schema.picture_recipes import PICTURE_RECIPES
from atlas_schema.units import Identity, Images, Neurons, Whole
from jobs.config import config_from_mapping
from jobs.graph import Job as GraphJob
from jobs.memory import BASE, UNLIMITED
from jobs.plan import LEAST_BATCH, Counts, Machine, Partner, make_plan
from jobs.plan_told import memory_lines, plan_as_dict
from jobs.ranges import as_ranges, intersect, length, subtract, union
from jobs.stages import STAGES, Sizes, groups, stage_named, stages_of
from jobs.stages.visualize import VISUALIZE, image_steps
from pipeline.models import ModelRequest, describe
from pipeline.visualize.recipes import RECIPES, Phase

REFERENCE = RECIPES["reference"]
VIT = ModelRequest("zoo/vit")
PIT = ModelRequest("zoo/pit")
CLIP = ModelRequest("zoo/clip")
COUNTS = Counts(images=1000, panel=800, match_images=64, texts=40, pool=60, examples=9)
OWN = Identity("f" * 64, "s" * 16)


ONE_WORKER = Machine()


def plan_of(*requests: ModelRequest, machine: Machine = ONE_WORKER, recipe=REFERENCE, counts=COUNTS, **options):
    config = config_from_mapping({"models": [request.model for request in requests], **options})
    described = [(request, describe(request)) for request in requests]
    return make_plan(config, described, stages_of(config.stages, config.also), recipe, counts, machine, describe(CLIP))


def pictures(plan) -> list[tuple[str, Neurons, float]]:
    """(slug, cut, FLOPs) of every unit of the stage visualize."""
    jobs = [job for job in plan.jobs if job.stage is VISUALIZE]
    return [(job.slug, cut, flops) for job in jobs for cut, flops in zip(job.cuts, job.flops, strict=True)]


def neurons(plan) -> list[tuple[str, int, int]]:
    return [(slug, cut.layer, unit) for slug, cut, _ in pictures(plan) for unit in range(cut.start, cut.stop)]


def test_every_neuron_is_in_exactly_one_unit():
    plan = plan_of(VIT, PIT)
    expected = [
        (description.slug, site.layer, unit)
        for description in map(describe, (VIT, PIT))
        for site in description.ffn_sites
        for unit in range(site.width)
    ]
    assert sorted(neurons(plan)) == sorted(expected)


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 127), min_size=1, max_size=12),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.floats(0.1, 1000),
    st.integers(1, 64),
)
def test_units_cover_exactly_the_selection(units, layers, unit_seconds, workers):
    plan = plan_of(VIT, units=units, layers=layers, unit_seconds=unit_seconds, machine=Machine("cpu", workers))
    assert sorted(neurons(plan)) == sorted(("zoo-vit", layer, unit) for layer in set(layers) for unit in set(units))


@settings(max_examples=30)
@given(st.integers(1, 100_000), st.floats(0.1, 600), st.integers(1, 500), st.sampled_from(["cpu", "cuda"]))
def test_slices_of_a_pass_cover_all_images_once_and_follow_the_machine(images, unit_seconds, workers, device):
    counts = replace(COUNTS, images=images, panel=min(images, 2048))
    machine = Machine(device, workers)
    plan = plan_of(VIT, machine=machine, counts=counts, stages="probe,label", probe="zoo", unit_seconds=unit_seconds)
    for name, slug, count in (("probe", "zoo-vit", images), ("embed", "zoo-clip", counts.panel)):
        cuts = plan.job(name, slug).cuts
        assert [cut.start for cut in cuts] == [0, *(cut.stop for cut in cuts[:-1])]
        assert cuts[-1].stop == count


def test_a_large_pass_is_cut_for_all_workers():
    """50,000 images of a ViT-B: as many slices as keep 64 GPUs busy, not seven whatever the cluster."""
    base = ModelRequest("timm/vit_base_patch16_224")
    counts = replace(COUNTS, images=50_000, panel=2048)
    slices = {}
    for workers in (1, 64):
        plan = plan_of(base, machine=Machine("cuda", workers), counts=counts, stages="probe", probe="zoo")
        slices[workers] = next(len(job.cuts) for job in plan.jobs if job.stage.name == "probe")
    assert slices[1] == 7  # as long as is allowed: 8,192 images
    assert slices[64] >= 32


def test_every_stage_is_planned_with_its_costs():
    plan = plan_of(VIT, PIT, stages=",".join(groups()), probe="zoo", also=PICTURE_RECIPES[1:])
    told = plan_as_dict(plan, "reference")
    assert json.loads(json.dumps(told)) == told
    left_out = {"pictures-fast", *(stage for stage, _ in (*INVERSION_STAGES, *READING_STAGES, *HEAD_PICTURE_STAGES))}
    assert [one["stage"] for one in told["stages"]] == [stage.name for stage in STAGES if stage.name not in left_out]
    for one in told["stages"]:
        assert one["work_units"] > 0
        assert one["estimated_flops"] > 0
        assert one["worker_hours"] > 0
        assert one["estimated_bytes"] + one["estimated_bytes_kept"] > 0, one["stage"]
    assert told["estimated_flops"] == pytest.approx(sum(one["estimated_flops"] for one in told["stages"]))
    assert told["work_units"] == sum(one["work_units"] for one in told["stages"]) == plan.units
    counts = {one["stage"]: one["count"] for one in told["stages"]}
    assert counts["probe"] == counts["decompose"] == 2 * 1000
    assert counts["embed"] == 800
    assert counts["heads"] == 2
    assert counts["pairs"] == 3
    pairs = [(job.slug, cut) for job in plan.jobs if job.stage.name == "pairs" for cut in job.cuts]
    assert pairs == [("zoo-pit", Partner("zoo-pit")), ("zoo-pit", Partner("zoo-vit")), ("zoo-vit", Partner("zoo-vit"))]


def test_heads_of_which_an_image_costs_many_forwards_are_measured_on_the_panel() -> None:
    base = [ModelRequest("timm/convit_tiny"), ModelRequest("timm/vit_tiny_patch16_224")]
    counts = replace(COUNTS, images=50_000, panel=2_048)
    plan = plan_of(*base, counts=counts, stages="probe,decompose", probe="zoo")
    seen = {(job.stage.name, job.slug): job.size for job in plan.jobs if job.stage.cut == "images"}
    convit, vit = (model.slug for model in plan.models)
    assert {slug: seen["probe", slug] for slug in (convit, vit)} == {convit: 50_000, vit: 50_000}
    for stage in ("decompose", "project", "maps"):
        assert (seen[stage, convit], seen[stage, vit]) == (2_048, 50_000)


def test_large_layers_are_cut_in_every_stage_but_where_all_neurons_belong_together():
    base = ModelRequest("timm/vit_large_patch16_224")
    plan = plan_of(base, machine=Machine("cpu", 8), stages="probe,label,effect", probe="zoo", layers="0")
    cuts = {job.stage.name: len(job.cuts) for job in plan.jobs}
    assert cuts["label"] == 1, "its tests are over all neurons of a layer"
    assert cuts["effect"] > 1


def test_boundaries_follow_from_the_settings_alone():
    assert plan_of(VIT) == plan_of(VIT)


def test_units_are_no_longer_than_asked_and_no_shorter_than_pays():
    machine = Machine("cpu", workers=2)
    units = pictures(plan_of(VIT, PIT, machine=machine, unit_seconds=60))
    seconds = [flops / machine.speed for _, _, flops in units]
    assert max(seconds) <= 300
    wide = [cut for (_, cut, _), long in zip(units, seconds, strict=True) if long > 60]
    assert all(cut.stop - cut.start <= LEAST_BATCH for cut in wide)  # rather long than too narrow to be quick
    assert sum(seconds) / len(seconds) > 4
    assert len(units) >= 4 * machine.workers


def test_many_workers_get_shorter_units():
    few, many = (plan_of(VIT, machine=Machine("cpu", workers)) for workers in (1, 32))
    assert many.units > few.units


def test_a_neuron_longer_than_a_unit_is_a_unit():
    huge = ModelRequest("timm/vit_base_patch16_224")
    plan = plan_of(huge, layers=[11], units="0:3")
    assert [(cut.start, cut.stop) for _, cut, _ in pictures(plan)] == [(0, 1), (1, 2), (2, 3)]


def _costs(recipe=REFERENCE) -> list[float]:
    description = describe(ModelRequest("timm/vit_base_patch16_224"))
    return [VISUALIZE.cost(Sizes(description, recipe, site=site)).each for site in description.ffn_sites]


def test_deep_neurons_cost_more():
    costs = _costs()
    assert costs == sorted(costs)
    assert costs[11] > 6 * costs[0]


def test_cost_is_two_passes_of_the_truncated_forward_for_each_image_step_and_the_picture_itself():
    site = describe(ModelRequest("timm/vit_base_patch16_224")).ffn_sites[5]
    assert image_steps(REFERENCE, site) == 401 * 8 + REFERENCE.robust_draws
    passes = 2 * site.flops * image_steps(REFERENCE, site)
    assert passes < _costs()[5] < 1.03 * passes, "of a large model a picture's own step is next to nothing"


def test_an_embedders_stages_are_planned_once():
    plan = plan_of(VIT, PIT, stages="label,probe", probe="zoo")
    assert [job.slug for job in plan.jobs if job.stage.name == "texts"] == ["zoo-clip"]
    assert plan.job("texts", "zoo-clip").cuts == (Whole(),)
    assert sum(cut.stop - cut.start for cut in plan.job("embed", "zoo-clip").cuts if isinstance(cut, Images)) == 800


def test_a_group_brings_what_its_stages_read():
    assert [stage.name for stage in stages_of(["effect"])] == ["probe", "writes", "effect"]
    assert [stage.name for stage in stages_of(["visualize"])] == ["visualize"]
    decomposed = {stage.name for stage in stages_of(["decompose"])}
    assert decomposed == {"embed", "pool", "decompose", "align", "spans", "project", "maps", "reads", "heads"}
    assert stage_named("judge").reads_if_there == ("visualize",)
    with pytest.raises(KeyError):
        stage_named("visualise")


def test_two_models_of_one_slug_are_refused():
    with pytest.raises(SlugClash) as caught:
        plan_of(VIT, VIT)
    assert "zoo/vit and zoo/vit would share the slug 'zoo-vit'" in str(caught.value)
    assert "--as" in str(caught.value)


def test_a_layer_or_unit_that_does_not_exist_is_named():
    with pytest.raises(BadConfig, match="4: there is no such FFN layer in zoo/vit; there are 4"):
        plan_of(VIT, layers=[4])
    with pytest.raises(BadConfig, match="128: there is no such unit in layer 0 of zoo/vit; there are 128"):
        plan_of(VIT, units=[128])


# Ranges.

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)).map(lambda r: (r[0], r[0] + r[1])), max_size=6)


def members(ranges) -> set[int]:
    return {unit for start, stop in ranges for unit in range(start, stop)}


@given(st.sets(st.integers(0, 50)))
def test_as_ranges_holds_exactly_the_units(units):
    ranges = as_ranges(sorted(units))
    assert members(ranges) == units
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(ranges))


@given(RANGES, RANGES)
def test_union_is_the_union_of_the_sets(a, b):
    merged = union(a, b)
    assert members(merged) == members(a) | members(b)
    assert all(stop < start for (_, stop), (start, _) in itertools.pairwise(merged))


@given(st.tuples(st.integers(0, 20), st.integers(21, 40)), RANGES)
def test_subtract_is_the_difference_of_the_sets(wanted, covered):
    left = subtract(wanted, covered)
    assert members(left) == members([wanted]) - members(covered)
    assert sum(stop - start for start, stop in left) == len(members(left))


@given(st.tuples(st.integers(0, 20), st.integers(21, 40)), RANGES)
def test_intersect_is_what_both_hold(wanted, covered):
    inside = intersect(wanted, covered)
    assert members(inside) == members([wanted]) & members(covered)
    assert length(inside) == len(members(inside))


def job_of(plan, held=()) -> GraphJob:
    planned = plan.job("visualize", "zoo-vit")
    units = [OWN.unit("visualize", "zoo-vit", cut) for cut in held]
    return GraphJob(VISUALIZE, "zoo-vit", OWN, planned.cuts, units)


@given(RANGES)
def test_what_remains_is_the_plan_minus_what_is_committed(covered):
    job = job_of(plan_of(VIT, layers=[1], unit_seconds=5), [Neurons(1, *span) for span in covered])
    left = [neuron for unit in job.missing(1) for neuron in range(unit.start, unit.stop)]
    assert set(left) == set(range(128)) - members(covered)
    assert len(left) == len(set(left))


def test_committed_units_disappear_and_the_others_keep_their_boundaries():
    plan = plan_of(VIT)
    cuts = plan.job("visualize", "zoo-vit").cuts
    job = job_of(plan, [cuts[3]])
    left = [unit.cut for layer in job.layers for unit in job.missing(layer)]
    assert left == [cut for cut in cuts if cut != cuts[3]]


def test_a_recipe_that_costs_less_makes_longer_units():
    ((depth, (ascent,)),) = REFERENCE.bands
    cheap = replace(REFERENCE, bands=((depth, (replace(ascent, phases=(Phase(steps=20, copies=1),)),)),))
    assert plan_of(VIT, recipe=cheap).units < plan_of(VIT).units


# Memory.


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_what_a_stage_takes_grows_with_the_batch_and_the_model(stage):
    def need(name: str, batch: int) -> float:
        description = describe(ModelRequest(name))
        cut = Neurons(0, 0, 1) if stage.cut == "neurons" else None
        return stage.memory(Sizes(description, REFERENCE, **vars(COUNTS)).at(cut, description), batch)

    small, large = ("timm/vit_tiny_patch16_224", "timm/vit_large_patch16_224")
    for name in (small, large):
        needs = [need(name, batch) for batch in (0, 1, 2, 8, 32)]
        assert needs == sorted(needs)
        assert needs[0] > 0
    assert need(large, 8) > need(small, 8)


def test_a_worker_with_less_memory_does_the_same_units_with_smaller_batches():
    base = ModelRequest("timm/vit_base_patch16_224")

    def plan(memory: float):
        return plan_of(base, machine=Machine("cpu", 1, 1, int(memory)), stages="probe", probe="zoo")

    job = max(plan(UNLIMITED).jobs, key=lambda job: job.needs[32] - job.needs[8])
    with_eight, least = BASE["cpu"] + job.needs[8], BASE["cpu"] + job.needs[1]
    assert job.needs[8] < 0.9 * job.needs[32]
    for memory, batch in ((64e9, 32), (with_eight + 1, 8), (with_eight - 1, 4), (least - 1e6, 1)):
        one = plan(memory)
        (same,) = [other for other in one.jobs if other.stage is job.stage]
        assert same.batch(one.machine) == batch
        assert same.cuts == job.cuts, "how work is cut depends on no memory, but on the number of workers"
        assert one.peak >= BASE["cpu"] + same.needs[batch]


def test_the_plan_tells_what_a_worker_takes_and_has():
    little = plan_as_dict(plan_of(VIT, machine=Machine("cpu", 2, 1, 1 << 20), stages="probe", probe="zoo"), "reference")
    told = little["memory_of_a_worker"]
    assert told["given_bytes"] == 1 << 20
    assert told["peak_bytes"] == told["least_bytes"] > 1 << 20
    assert told["device_peak_bytes"] is None
    assert {one["least_batch"] for one in little["stages"]} == {1}
    many = plan_as_dict(plan_of(VIT, machine=Machine("cuda", 2), stages="probe", probe="zoo"), "reference")
    assert many["memory_of_a_worker"]["given_bytes"] is None
    assert many["memory_of_a_worker"]["device_peak_bytes"] > 0
    assert {one["least_batch"] for one in many["stages"]} == {256}


def test_memory_is_said_where_it_is_short_and_else_not():
    lines = memory_lines(plan_of(VIT, machine=Machine("cpu", 2, 1, 1 << 29)))
    assert len(lines) == 1
    assert "a worker needs about" in lines[0]
    assert "1.1 GB free for 2 worker(s)" in lines[0]
    assert memory_lines(plan_of(VIT, machine=Machine("cpu", 2, 1, 8 << 30))) == []
