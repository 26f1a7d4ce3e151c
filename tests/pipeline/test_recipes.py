"""Recipes beside `fast` and `reference`: fixed amplitudes, starts from photographs, variants, strong patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.models import ModelRequest, load
from pipeline.seeds import generator
from pipeline.visualize.adam import SharedAdam
from pipeline.visualize.ascent import BETTER, _Climber, visualize
from pipeline.visualize.colours import COLOURS, coloured, logit_colours
from pipeline.visualize.initial_images import bank, best_of_bank
from pipeline.visualize.objective import _over_patches, alike, distance, respond
from pipeline.visualize.parametrize import parameterization
from pipeline.visualize.recipes import ACCENTUATED, FAST, MACO, RECIPES, Ascent, Phase, Recipe
from pipeline.visualize.spectrum import measured, natural_spectrum
from pipeline.visualize.transforms import draw, turn_each


@pytest.fixture(scope="module")
def vit():
    return load(ModelRequest(model="zoo/vit"), dtype=torch.float64)


def pictures(count, side=64):
    """Smooth random pictures, float64 (count, 3, side, side) in [0, 1]."""
    space = parameterization("fourier", (side, side), 1.0)
    values = generator("pictures", count).standard_normal((count, 3, side, side // 2 + 1, 2))
    return space.picture(torch.from_numpy(values))


def short(steps, **settings):
    given = {"parameterization": "fourier", "learning_rate": 0.2, "objective": "softplus", "jitter": 2}
    return Ascent(phases=(Phase(steps=steps, copies=1, colour_shift=(0.0, 0.0)),), **(given | settings))


def one_band(ascent, **settings):
    return Recipe(name="trial", version=1, bands=((1.0, (ascent,)),), robust_draws=2, **settings)


def test_old_recipes_kept_their_hashes():
    """A key that was made with them still finds its pictures."""
    assert RECIPES["aligned"].hash == "d5de6d52ce517f62"
    assert replace(RECIPES["peak"], version=1, drawn_as="").hash == RECIPES["peak"].draws == "5cc976e535016ad1"


# --- steps whose size a picture shares --------------------------------------------------------------------------------


def _moved(shared, gradients, rate=0.1):
    """Where some pictures are after a step for each of their gradients, float64 (pictures, 3, 2)."""
    latent = torch.zeros_like(gradients[0]).requires_grad_()
    optimizer = SharedAdam(latent, rate, (0.5, 0.99), shared)
    for gradient in gradients:
        latent.grad = gradient.clone()
        optimizer.step()
    return latent.detach()


def test_adam_is_what_is_left_where_nothing_is_shared():
    gradients = [torch.from_numpy(generator("slopes", i).standard_normal((4, 3, 2))) for i in range(5)]
    latent = torch.zeros_like(gradients[0]).requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=0.1, betas=(0.5, 0.99), eps=1e-8)
    for gradient in gradients:
        latent.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(_moved(0.0, gradients), latent.detach(), rtol=1e-6, atol=1e-9)


def test_what_the_objective_does_not_ask_for_moves_less():
    """Of two numbers with slopes 100 and 1 the second moves as far as the first under Adam, a tenth of it by half a
    shared size, and a hundredth by a wholly shared one."""
    gradient = torch.tensor([[[100.0, 1.0]]], dtype=torch.float64)
    share = [float(moved[0, 0, 1] / moved[0, 0, 0]) for moved in (_moved(one, [gradient]) for one in (0.0, 0.5, 1.0))]
    assert share == pytest.approx([1.0, 0.1, 0.01], rel=1e-6)


def test_no_picture_changes_the_steps_of_another():
    gradients = [torch.from_numpy(generator("slopes", i).standard_normal((3, 3, 2))) for i in range(4)]
    gradients[2][1] = torch.nan
    together, alone = _moved(0.5, gradients), _moved(0.5, [one[2:] for one in gradients])
    assert torch.equal(together[2:], alone)
    assert together[1].isnan().all()


# --- phases under fixed amplitudes ------------------------------------------------------------------------------------


def test_phases_keep_the_amplitudes_of_photographs(vit):
    site, side = vit.description.ffn_sites[1], vit.description.input_size[0]
    climber = _Climber(vit, vit, site, MACO, 0, "float64", None)
    (ascent,) = MACO.ascents_at(site.depth)
    made = climber.climb([3, 4], replace(ascent, phases=(Phase(steps=3, copies=1, colour_shift=(0.0, 0.0)),)), "x")
    wanted = natural_spectrum().on_grid(side, side)
    space = parameterization("phases", (side, side), 1.0)
    latent = torch.from_numpy(generator("phases").uniform(-np.pi, np.pi, (1, 3, side, side // 2 + 1)))
    axes = torch.einsum("cr,brhw->bchw", torch.linalg.inv(COLOURS), torch.logit(space.picture(latent)))
    found = torch.fft.rfft2(axes[0], norm="ortho").abs()
    torch.testing.assert_close(found[:, :, 1 : side // 2], wanted[:, :, 1 : side // 2])  # the others are real there
    assert not torch.equal(made.pictures, made.initial_pictures)


@pytest.mark.parametrize("kind", ["pixels", "fourier", "phases"])
def test_every_parameterization_climbs(kind, vit):
    """Whatever the strides of the gradient, the fused step of the optimizer goes up: soon far above the start."""
    site = vit.description.ffn_sites[1]
    recipe = one_band(short(30, parameterization=kind, learning_rate=0.1))
    climber = _Climber(vit, vit, site, recipe, 0, "float64", None)
    made = climber.climb([2, 9, 24], recipe.ascents_at(site.depth)[0], "x")
    first, last = made.curve[0][1], made.curve[-1][1]
    assert (last > 1.2 * first).all(), (kind, first, last)


def test_phases_of_a_picture_are_its_own():
    picture = pictures(2)
    space = parameterization("phases", (64, 64), 1.0)
    latent = space.latent(picture)
    coefficients = torch.fft.rfft2(logit_colours(picture), norm="ortho")
    torch.testing.assert_close(torch.polar(coefficients.abs(), latent), coefficients)
    assert space.picture(latent).shape == picture.shape


def test_a_spectrum_is_measured_as_it_was_made():
    """Pictures with amplitudes of one over the frequency, whatever their phases."""
    side, rows = 64, []
    radius = np.hypot(np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side)[None, :] * side).clip(1)
    for number in range(4):
        noise = generator("white", number).standard_normal((3, side, side))
        flat = np.fft.rfft2(noise, norm="ortho")
        values = np.fft.irfft2(0.5 * flat / np.abs(flat) / radius, s=(side, side), norm="ortho")
        rows.append(coloured(torch.from_numpy(values)[None])[0])
    found = measured(rows, "made")
    for own in found.amplitudes:
        product = np.array(own) * np.array(found.frequencies) * side / 0.5
        np.testing.assert_allclose(product[1:], 1, atol=0.1)
    assert found.on_grid(64, 64).shape == (3, 64, 33)
    doubled = found.on_grid(128, 128)[:, :20, :20] / found.on_grid(64, 64)[:, :20, :20]
    torch.testing.assert_close(doubled, torch.full_like(doubled, 2.0))


def test_the_spectrum_that_comes_along_names_its_source_and_falls():
    spectrum = natural_spectrum()
    assert "imagenet-sample-images at bc69043" in spectrum.source
    for own in spectrum.amplitudes:
        assert len(own) == len(spectrum.frequencies)
        assert own[0] > 10 * own[-1] > 0


# --- photographs ------------------------------------------------------------------------------------------------------


def test_a_photograph_is_begun_with_and_held(vit):
    """The more its distance costs, the nearer the picture stays; without steps it is the photograph."""
    site, photograph = vit.description.ffn_sites[1], pictures(1)
    far = {}
    for hold in (0.0, 1.0, 30.0):
        recipe = one_band(short(12, start="photograph", hold=hold, learning_rate=0.1))
        climber = _Climber(vit, vit, site, recipe, 0, "float64", None, photographs={5: photograph})
        made = climber.climb([5], recipe.ascents_at(site.depth)[0], "x")
        torch.testing.assert_close(made.initial_pictures, photograph.clamp(0.02, 0.98))
        far[hold] = distance(made.pictures, made.initial_pictures).item()
    assert far[0.0] > far[1.0] > far[30.0] > 0


def test_each_variant_begins_with_its_own_photograph():
    model = load(ModelRequest(model="zoo/vit"))
    site, photographs = model.description.ffn_sites[2], pictures(3).float()
    made = visualize(model, site, [7], ACCENTUATED, photographs={7: photographs})
    assert [(one.address.unit, one.variant, one.start) for one in made] == [(7, n, "photograph") for n in range(3)]
    for one, photograph in zip(made, photographs, strict=True):
        picture = torch.from_numpy(one.image.copy()).permute(2, 0, 1) / 255
        others = [distance(picture[None], other[None]).item() for other in photographs]
        assert min(others) == distance(picture[None], photograph[None]).item(), "nearest to its own"
    with pytest.raises(ValueError, match="starts from photographs of the neuron"):
        visualize(model, site, [7], ACCENTUATED)


# --- variants ---------------------------------------------------------------------------------------------------------


def test_likeness_is_the_cosine_of_gram_matrices():
    hidden = torch.from_numpy(generator("hidden").standard_normal((6, 5, 8)))
    found = alike(hidden, 3)
    for group in range(2):
        for i in range(3):
            own = hidden[3 * group : 3 * group + 3]
            grams = [one.T @ one for one in own - own.mean((0, 1))]  # width x width, as in the source
            for j in range(3):
                cosine = (grams[i] * grams[j]).sum() / (grams[i].norm() * grams[j].norm())
                assert found[3 * group + i, j] == pytest.approx(0 if i == j else cosine.item())


def test_variants_are_kept_apart_and_alone_are_what_they_are_without_the_others():
    model = load(ModelRequest(model="zoo/vit"))
    site = model.description.ffn_sites[2]
    alike = {}
    for price in (0.0, 2.0):
        recipe = one_band(short(24, diversity=price, start_strength=0.3), variants=3)
        made = visualize(model, site, [1, 2], recipe)
        assert [(one.address.unit, one.variant) for one in made] == [(u, v) for u in (1, 2) for v in range(3)]
        alike[price] = [one.likeness for one in made]
        assert len({one.webp for one in made}) == 6
    assert sum(alike[2.0]) < sum(alike[0.0])
    first = visualize(model, site, [1], one_band(short(24, start_strength=0.3)))[0]
    assert first.likeness is None
    assert first.picture_row()["variant"] == 0


# --- objective and transforms -----------------------------------------------------------------------------------------


def test_focus_goes_from_the_mean_to_the_strongest_patch():
    z = torch.from_numpy(generator("z").standard_normal((4, 50)))
    faint, strong = (_over_patches(z, z, short(1, focus=value)) for value in (1e-6, 200.0))
    torch.testing.assert_close(faint, z.mean(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(strong, z.amax(1), atol=0.03, rtol=0)
    mixed = _over_patches(z, z, short(1, peak_share=0.1, everywhere=0.25))
    torch.testing.assert_close(mixed, 0.75 * z.topk(5, 1).values.mean(1) + 0.25 * z.mean(1))


def test_turns_are_drawn_only_where_they_are_asked_for():
    like = torch.empty(0, dtype=torch.float64)
    plain, turned = (draw([("k",)], short(40, turn=value), (64, 64), like) for value in (0.0, 10.0))
    assert all(torch.equal(a.roll, b.roll) and torch.equal(a.mean, b.mean) for a, b in zip(plain, turned, strict=True))
    assert all(one.turn.tolist() == [[0.0, 1.0]] for one in plain)
    angles = torch.cat([one.turn[:, 0] for one in turned])
    assert np.deg2rad(8) < angles.abs().max() <= np.deg2rad(10)
    picture = pictures(2)
    torch.testing.assert_close(turn_each(picture, torch.tensor([[0.0, 1.0]] * 2).double()), picture)
    half = turn_each(picture, torch.tensor([[np.pi, 1.0]] * 2, dtype=torch.float64))
    torch.testing.assert_close(half, picture.flip(2, 3))


def test_recipes_that_ask_for_photographs_or_variants_say_so():
    assert ACCENTUATED.photographs
    assert not FAST.photographs
    assert {name for name, one in RECIPES.items() if one.variants > 1 and name != "tiny"} == {"accentuated", "varied"}


# --- neurons that a generated picture excites more than what was found -----------------------------------------------


@pytest.fixture(scope="module")
def zoo_vit():
    return load(ModelRequest(model="zoo/vit"))


def test_a_neuron_for_a_plain_colour_gets_it_though_the_ascent_went_astray(zoo_vit):
    """Units 43 and 16 of the first layer fire most on plain blue, 118 on red; from noise, `fast` ended in yellow and
    black blobs (up to version 4), off which nobody would tell."""
    site, units = zoo_vit.description.ffn_sites[0], [43, 16, 118]
    astray = visualize(zoo_vit, site, units, replace(FAST, overtaken=()), precision="float32")
    found = visualize(zoo_vit, site, units, FAST, precision="float32")
    red, green, blue = zip(*(one.image.reshape(-1, 3).mean(0) / 255 for one in found), strict=True)
    assert min(blue[:2]) > 0.7
    assert max(red[:2]) < 0.3
    assert red[2] > 0.7
    assert max(green[2], blue[2]) < 0.3
    assert all(after.activation > 2 * before.activation for after, before in zip(found, astray, strict=True))
    assert {one.rescue for one in found} == {BETTER}
    starts = [[one.activation_start for one in some] for some in (found, astray)]
    assert starts[0] == starts[1]  # what the first attempts began with, not the generated picture
    assert [one.image_steps for one in found] == [one.image_steps + 50 for one in astray]


def test_what_no_generated_picture_excites_more_stays_to_the_byte(zoo_vit):
    site = zoo_vit.description.ffn_sites[2]
    before = visualize(zoo_vit, site, range(24), replace(FAST, overtaken=()), precision="float32")
    now = visualize(zoo_vit, site, range(24), FAST, precision="float32")
    _, least = best_of_bank(zoo_vit, site, FAST.overtaken[0], 32)
    for old, new in zip(before, now, strict=True):
        if old.activation > least[old.address.unit]:
            assert new.webp == old.webp
        assert new.activation >= old.activation
        assert new.activation_peak >= old.activation_peak
    assert sum(old.webp == new.webp for old, new in zip(before, now, strict=True)) > 12


def test_the_best_picture_of_a_bank_is_told_with_what_it_reaches(zoo_vit):
    site = zoo_vit.description.ffn_sites[1]
    best, reached = best_of_bank(zoo_vit, site, FAST.overtaken[0], 32)
    pictures = bank(FAST.overtaken[0].bank_size, 64, 64)
    units = [0, 7, 100]
    mean, _ = respond(zoo_vit, site, torch.tensor(units), pictures[best[units]])
    assert torch.allclose(mean, reached[units], atol=1e-4)
    every = torch.stack([respond(zoo_vit, site, torch.full((192,), unit), pictures)[0] for unit in units])
    assert every.argmax(1).tolist() == best[units].tolist()
