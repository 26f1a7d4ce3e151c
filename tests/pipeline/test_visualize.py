"""Visualization: equal to the published loop, independent of the batch, true to a known optimum."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from atlas_schema.errors import BadAddress
from atlas_schema.rows import rows_to_table
from atlas_schema.tables import NEURONS
from pipeline.models import ModelRequest, load
from pipeline.visualize.ascent import _Climber, visualize
from pipeline.visualize.initial_images import own_noises
from pipeline.visualize.objective import over_patches
from pipeline.visualize.recipes import EARLY, LATE, MIDDLE, PUBLISHED, RECIPES, Ascent, Phase, Recipe
from pipeline.visualize.transforms import draw
from tests.pipeline import published


@pytest.fixture(scope="module")
def zoo_vit():
    """The zoo's trained ViT, in float64."""
    return load(ModelRequest(model="zoo/vit"), dtype=torch.float64)


@pytest.fixture(scope="module")
def zoo_vit32():
    return load(ModelRequest(model="zoo/vit"))


def short(steps):
    """A few steps in Fourier space, from noise."""
    return Ascent(parameterization="fourier", phases=(Phase(steps=steps, copies=1),), learning_rate=0.2)


def plain_picture(model, site, unit, recipe, steps, ascent=PUBLISHED):
    """The published loop for one neuron of `model`, on the random numbers that our recipe draws for it."""
    size = model.description.input_size
    dtype = next(model.module.parameters()).dtype
    like = torch.empty(0, dtype=dtype)
    climber = _Climber(model, model, site, recipe, 0, "float32", None)
    key = climber._key(unit, "ascent 0")
    draws = draw([key], ascent, size, like)
    from pipeline.visualize.parametrize import Pixels

    start = own_noises([key], Pixels(*size), like)
    seen = {}
    hook = model.module.get_submodule(site.post).register_forward_pre_hook(
        lambda module, args: seen.__setitem__("hidden", args[0][:, len(site.prefix_tokens) :])
    )
    try:
        return published.visualize(
            model.module,
            model.normalise,
            lambda: seen["hidden"],
            start,
            unit,
            lambda step: (
                *(part[0][:, :, None, None] for part in (draws[step].mean, draws[step].std, draws[step].offset)),
                tuple(draws[step].roll[0].tolist()),
            ),
            steps=steps,
        )
    finally:
        hook.remove()


def ours(model, site, unit, recipe, precision, stop_after=None):
    """Our picture before rounding, for one neuron, after `stop_after` steps of the recipe."""

    class Stop(Exception):
        pass

    climber = _Climber(model, model, site, recipe, 0, precision, None)
    if stop_after is None:
        return climber.climb([unit], PUBLISHED, "ascent 0").pictures[0]
    kept = {}

    def watch(done, total):
        if done == stop_after:
            raise Stop

    climber.on_step = watch
    import pipeline.visualize.ascent as module

    original = module.roll_each

    def spy(picture, roll):
        kept["picture"] = picture
        return original(picture, roll)

    module.roll_each = spy
    try:
        climber.climb([unit], PUBLISHED, "ascent 0")
    except Stop:
        return kept["picture"].detach()[0]  # the leaf itself: holds the state after the last step
    finally:
        module.roll_each = original
    raise AssertionError("the ascent was not stopped")


@pytest.mark.parametrize("layer", [0, 2])
def test_reference_equals_published_loop_20_steps_float32(zoo_vit32, layer):
    site = zoo_vit32.description.ffn_sites[layer]
    recipe = RECIPES["reference"]
    theirs = plain_picture(zoo_vit32, site, 5, recipe, steps=20)[0]
    mine = ours(zoo_vit32, site, 5, recipe, "float32", stop_after=20)
    assert (mine - theirs).abs().max() < 1e-3  # Adam's first steps have size lr whatever the gradient's
    assert (mine - theirs).abs().mean() < 1e-5


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("unit", [9])
def test_reference_equals_published_loop_401_steps_float64(zoo_vit, unit):
    """For neurons that fire. One that is negative everywhere leaves Adam with gradients near its epsilon, and a last
    digit grows until the pictures part, in float64 too (docs/decisions/precision.md)."""
    site = zoo_vit.description.ffn_sites[1]
    recipe = RECIPES["reference"]
    theirs = plain_picture(zoo_vit, site, unit, recipe, steps=401)[0]
    mine = ours(zoo_vit, site, unit, recipe, "float64")
    assert (mine - theirs).abs().max() < 1e-6


def test_same_picture_alone_in_8_and_in_64(zoo_vit):
    recipe = Recipe(
        name="short",
        version=1,
        bands=((1.0, (short(12),)),),
    )
    site = zoo_vit.description.ffn_sites[1]
    climber = _Climber(zoo_vit, zoo_vit, site, recipe, 0, "float64", None)
    pictures = {n: climber.climb(list(range(n)), recipe.ascents_at(0.5)[0], "ascent 0").pictures for n in (1, 8, 64)}
    assert (pictures[1][0] - pictures[64][0]).abs().max() < 1e-12
    assert (pictures[8] - pictures[64][:8]).abs().max() < 1e-12


def test_unknown_unit_is_named(zoo_vit32):
    site = zoo_vit32.description.ffn_sites[0]
    with pytest.raises(BadAddress, match=f"no unit {site.width}.*0 to {site.width - 1}"):
        visualize(zoo_vit32, site, [0, site.width], RECIPES["reference"])


def test_out_of_memory_halves_the_batch_and_changes_nothing(zoo_vit, monkeypatch):
    """A real allocator error above three pictures: the same pictures come out, nothing is lost."""
    recipe = Recipe(
        name="short",
        version=1,
        bands=((1.0, (short(4),)),),
    )
    site = zoo_vit.description.ffn_sites[0]
    plain = visualize(zoo_vit, site, range(7), recipe, batch=7)
    climb, sizes = _Climber.climb, []

    def tight(self, units, *rest):
        sizes.append(len(units))
        if len(units) > 3:
            raise torch.OutOfMemoryError("no room")
        return climb(self, units, *rest)

    monkeypatch.setattr(_Climber, "climb", tight)
    halved = visualize(zoo_vit, site, range(7), recipe, batch=7)
    assert sizes[:2] == [7, 3]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(plain, halved, strict=True))


def test_a_neuron_with_damaged_weights_costs_no_other():
    """Its row says so; the others of its batch are what they are without it."""
    model, healthy = (load(ModelRequest(model="zoo/vit")) for _ in range(2))
    site = model.description.ffn_sites[1]
    with torch.no_grad():
        model.module.get_submodule(site.pre).weight[3] = float("nan")
    recipe = Recipe(name="short", version=1, bands=((1.0, (short(3),)),), robust_draws=2)
    expected = {one.address.unit: one for one in visualize(healthy, site, [2, 3, 4], recipe)}
    found = {one.address.unit: one for one in visualize(model, site, [2, 3, 4], recipe)}
    assert [found[unit].status == "failed" for unit in (2, 3, 4)] == [False, True, False]
    for unit in (2, 4):
        assert found[unit].webp == expected[unit].webp
        assert found[unit].activation == expected[unit].activation
    row = found[3].row()
    assert row["status_reason"] == "the activation is no finite number: the weights that make it are damaged"
    assert row["image"] is row["activation"] is row["loss_curve"] is row["robust_mean"] is None
    rows_to_table(
        NEURONS.part_columns("visualize"), NEURONS.part_schema("visualize"), [one.row() for one in found.values()]
    )


def test_an_ascent_that_leaves_the_finite_numbers_costs_no_other(zoo_vit32, monkeypatch):
    site = zoo_vit32.description.ffn_sites[1]
    recipe = Recipe(name="short", version=1, bands=((1.0, (short(3),)),), robust_draws=2)
    expected = visualize(zoo_vit32, site, [2, 3, 4], recipe)
    real = _Climber._objective

    def diverging(self, copies, own, ascent):
        value, activation = real(self, copies, own, ascent)
        return torch.stack(
            [one * float("nan") if unit == 3 else one for unit, one in zip(own, value, strict=True)]
        ), activation

    monkeypatch.setattr(_Climber, "_objective", diverging)
    found = visualize(zoo_vit32, site, [2, 3, 4], recipe)
    assert [one.status == "failed" for one in found] == [False, True, False]
    assert found[1].status_reason == "the optimization left the finite numbers, whatever it started from"
    assert [found[i].webp for i in (0, 2)] == [expected[i].webp for i in (0, 2)]


def test_a_peak_objective_is_the_mean_of_the_strongest_patches():
    """Of each call its own strongest; the gradient reaches these patches alone."""
    calls = [torch.tensor([[4.0, 1, 3, 2], [0, 0, 8, -1]]), torch.tensor([[1.0, 2], [5, 3]])]
    calls[0].requires_grad_()
    half = replace(PUBLISHED, peak_share=0.5)

    def climbed(ascent):
        return over_patches([(call, call) for call in calls], ascent)

    value = climbed(half)
    assert value.tolist() == [(3.5 + 2) / 2, (4 + 5) / 2]
    assert climbed(PUBLISHED).tolist() == [(2.5 + 1.5) / 2, (7 / 4 + 4) / 2]
    (slope,) = torch.autograd.grad(value.sum(), calls[0])
    assert (slope != 0).sum(1).tolist() == [2, 2]
    few = climbed(replace(PUBLISHED, peak_share=0.01))
    assert few.tolist() == [(4 + 2) / 2, (8 + 5) / 2], "one patch at least"


def test_shifts_in_proportion_to_the_picture():
    ascent = replace(PUBLISHED, phases=(Phase(steps=300, copies=1),), jitter_share=1 / 14)
    rolls = torch.stack([step.roll[0] for step in draw([("a",)], ascent, (112, 224), torch.empty(0))])
    assert rolls.abs().amax(0).tolist() == [8, 16]
    plain = torch.stack(
        [step.roll[0] for step in draw([("a",)], replace(ascent, jitter_share=0), (112, 224), torch.empty(0))]
    )
    assert plain.abs().amax(0).tolist() == [32, 32]


@pytest.mark.parametrize(("name", "known"), [("fast", "ee1a5616cd42cf81"), ("reference", "1d637d39d60a1701")])
def test_settings_that_come_later_leave_known_recipes_what_they_were(name, known):
    assert RECIPES[name].hash == known


def test_a_version_that_changes_the_later_bands_leaves_the_pictures_of_the_first_as_they_were():
    fast = RECIPES["fast"]
    bands = ((0.2, (EARLY,)), (0.4, (MIDDLE,)), (1.0, (LATE,)))
    second = replace(fast, version=2, drawn_as="", bands=bands, overtaken=())
    assert second.hash == fast.draws
    model = load(ModelRequest("zoo/coat"))
    sites = model.description.ffn_sites[:2]
    before, now = (
        [one.webp for site in sites for one in visualize(model, site, [5], recipe)] for recipe in (second, fast)
    )
    assert [site.depth > 0.2 for site in sites] == [False, True]
    assert (before[0] == now[0], before[1] == now[1]) == (True, False)
