"""The planted model: its claimed optima are optima, found here by means that do not know them."""

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from pipeline.hooks.activations import ffn_activations
from pipeline.planted import EPS, PATCH, SIZE, VALUES, agreement, best_patch, load_planted


@pytest.fixture(scope="module")
def planted():
    return load_planted()


def activation(model, unit, pictures):
    """(batch, tokens) of one neuron on pictures (batch, 3, h, w) in [0, 1]."""
    site = model.description.ffn_sites[unit.layer]
    return ffn_activations(model, site, model.normalise(pictures))[0][:, :, unit.unit]


def as_batch(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None]


def test_it_is_timms_own_class_with_every_unit_named(planted):
    model, units = planted
    assert type(model.module) is VisionTransformer
    assert [(u.layer, u.unit) for u in units] == [(layer, unit) for layer in (0, 1) for unit in range(8)]
    assert len({u.name for u in units}) == 16
    assert model.description.neurons == 96  # twelve sites, of which two are planted


def test_the_optimum_reaches_what_is_claimed_on_every_patch(planted):
    model, units = planted
    for unit in units:
        if unit.optimum is not None:
            reached = activation(model, unit, as_batch(unit.optimum))
            assert reached.shape == (1, (SIZE // PATCH) ** 2)
            assert reached.numpy() == pytest.approx(unit.activation, abs=1e-3), unit.name


def test_no_other_picture_does_better(planted):
    """Random pictures, other units' optima, and the optimum with more or less contrast or some noise."""
    model, units = planted
    best = [u for u in units if u.optimum is not None]
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 3, SIZE, SIZE, generator=generator)
    for unit in best:
        own = as_batch(unit.optimum)
        rivals = torch.cat(
            [
                (own + 0.05 * noise).clamp(0, 1),
                *((0.5 + share * (own - 0.5)).clamp(0, 1) for share in (0.5, 0.9, 1.1, 2.0)),
                *(as_batch(u.optimum) for u in best if u is not unit),
                torch.rand(6, 3, SIZE, SIZE, generator=generator),
            ]
        )
        # units whose optimum is saturated are unchanged by contrast: equal, never better
        assert activation(model, unit, rivals).mean(dim=1).max() <= unit.activation + 1e-3, unit.name


@pytest.mark.parametrize("index", [2, 6, 8, 14])
def test_gradient_ascent_from_grey_noise_arrives_there(planted, index):
    """Plain ascent on the pixels, without regulariser or augmentation, knowing nothing of the pattern."""
    model, units = planted
    unit = units[index]
    start = 0.5 + 0.1 * torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(index))
    picture = start.clamp(0, 1).requires_grad_()
    optimiser = torch.optim.Adam([picture], lr=0.06)
    for _ in range(80):
        optimiser.zero_grad()
        (-activation(model, unit, picture).mean()).backward()
        optimiser.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    found = picture.detach()[0].permute(1, 2, 0).numpy()
    assert np.corrcoef(found.ravel(), unit.optimum.ravel())[0, 1] > 0.999
    assert agreement(start[0].permute(1, 2, 0).numpy(), unit.optimum) < 0.3


def test_the_dead_unit_stays_dead(planted):
    model, units = planted
    dead = next(u for u in units if u.optimum is None)
    pictures = [as_batch(u.optimum) for u in units if u.optimum is not None]
    assert activation(model, dead, torch.cat(pictures)).abs().max() < 1e-3


def test_best_patch_satisfies_the_first_order_conditions():
    """At a maximum over a box, the gradient vanishes at inner values and points outwards at clipped ones."""
    pattern = np.random.default_rng(0).normal(size=VALUES)
    x = best_patch(pattern)
    energy = x @ x / VALUES + EPS
    gradient = pattern / np.sqrt(energy) - (pattern @ x) * x / (VALUES * energy**1.5)
    inner = np.abs(x) < 1
    assert 0 < inner.sum() < VALUES
    assert np.abs(gradient[inner]).max() < 1e-9
    assert (gradient[~inner] * x[~inner] >= -1e-12).all()


def test_agreement_forgives_a_shift_and_nothing_else(planted):
    _, units = planted
    stripes, across = units[0].optimum, units[1].optimum
    assert agreement(np.roll(stripes, (3, 5), (0, 1)), stripes) == pytest.approx(1, abs=1e-6)
    assert agreement(across, stripes) == pytest.approx(0, abs=1e-6)
    assert agreement(1 - stripes, stripes) == pytest.approx(1, abs=1e-2)  # half a period is a shift too
    assert agreement(units[8].optimum, units[9].optimum) < 0  # red and green: no shift helps
    assert agreement(np.full_like(stripes, 0.3), stripes) == 0
