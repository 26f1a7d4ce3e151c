"""Planning: exact cover of the selected neurons, sizes by estimated FLOPs, what is committed taken off."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.errors import BadConfig, SlugClash
from jobs.config import config_from_mapping
from jobs.plan import LEAST_BATCH, Machine, as_ranges, image_steps, make_plan, neuron_flops, remaining, subtract, union
from pipeline.models import ModelRequest, describe
from pipeline.visualize.recipes import RECIPES, Phase

REFERENCE = RECIPES["reference"]
VIT = ModelRequest("zoo/vit")
PIT = ModelRequest("zoo/pit")


ONE_WORKER = Machine()


def plan_of(*requests: ModelRequest, machine: Machine = ONE_WORKER, recipe=REFERENCE, **options):
    config = config_from_mapping({"models": [request.model for request in requests], **options})
    return make_plan(config, [(request, describe(request)) for request in requests], recipe, machine)


def neurons(slices) -> list[tuple[str, int, int]]:
    return [(one.slug, one.layer, unit) for one in slices for unit in range(one.start, one.stop)]


def test_every_neuron_is_in_exactly_one_unit():
    plan = plan_of(VIT, PIT)
    expected = [
        (description.slug, site.layer, unit)
        for description in map(describe, (VIT, PIT))
        for site in description.ffn_sites
        for unit in range(site.width)
    ]
    assert sorted(neurons(plan.slices)) == sorted(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 127), min_size=1, max_size=12),
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.floats(0.1, 1000),
    st.integers(1, 64),
)
def test_units_cover_exactly_the_selection(units, layers, unit_seconds, workers):
    plan = plan_of(VIT, units=units, layers=layers, unit_seconds=unit_seconds, machine=Machine("cpu", workers))
    assert sorted(neurons(plan.slices)) == sorted(
        ("zoo-vit", layer, unit) for layer in set(layers) for unit in set(units)
    )


def test_boundaries_follow_from_the_settings_alone():
    assert plan_of(VIT) == plan_of(VIT)


def test_units_are_no_longer_than_asked_and_no_shorter_than_pays():
    machine = Machine("cpu", workers=2)
    plan = plan_of(VIT, PIT, machine=machine, unit_seconds=60)
    seconds = [one.flops / machine.speed for one in plan.slices]
    assert max(seconds) <= 300
    wide = [one for one, long in zip(plan.slices, seconds, strict=True) if long > 60]
    assert all(one.stop - one.start <= LEAST_BATCH for one in wide)  # rather long than too narrow to be quick
    assert sum(seconds) / len(seconds) > 4
    assert len(plan.slices) >= 4 * machine.workers


def test_many_workers_get_shorter_units():
    few, many = (plan_of(VIT, machine=Machine("cpu", workers)) for workers in (1, 32))
    assert len(many.slices) > len(few.slices)


def test_a_neuron_longer_than_a_unit_is_a_unit():
    huge = ModelRequest("timm/vit_base_patch16_224")
    plan = plan_of(huge, layers=[11], units="0:3")
    assert [(one.start, one.stop) for one in plan.slices] == [(0, 1), (1, 2), (2, 3)]


def test_deep_neurons_cost_more():
    sites = describe(ModelRequest("timm/vit_base_patch16_224")).ffn_sites
    costs = [neuron_flops(site, REFERENCE) for site in sites]
    assert costs == sorted(costs)
    assert costs[11] > 6 * costs[0]


def test_cost_is_two_passes_of_the_truncated_forward_for_each_image_step():
    site = describe(ModelRequest("timm/vit_base_patch16_224")).ffn_sites[5]
    assert image_steps(REFERENCE, site) == 401 * 8 + REFERENCE.robust_draws
    assert neuron_flops(site, REFERENCE) == 2 * site.flops * image_steps(REFERENCE, site)


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


@given(RANGES)
def test_remaining_is_the_plan_minus_what_is_committed(covered):
    plan = plan_of(VIT, layers=[1], unit_seconds=5)
    left = remaining(plan.slices, {("visualize", "zoo-vit", 1): covered})
    assert {unit for _, _, unit in neurons(left)} == set(range(128)) - members(covered)
    assert len(neurons(left)) == len(set(neurons(left)))


def test_committed_slices_disappear_and_the_others_keep_their_boundaries():
    slices = plan_of(VIT).slices
    done = slices[3]
    left = remaining(slices, {(done.stage, done.slug, done.layer): [(done.start, done.stop)]})
    assert left == [one for one in slices if one != done]
    assert remaining(slices, {(done.stage, "other", done.layer): [(0, 999)]}) == list(slices)


def test_a_recipe_that_costs_less_makes_longer_units():
    ((depth, (ascent,)),) = REFERENCE.bands
    cheap = replace(REFERENCE, bands=((depth, (replace(ascent, phases=(Phase(steps=20, copies=1),)),)),))
    assert len(plan_of(VIT, recipe=cheap).slices) < len(plan_of(VIT).slices)
