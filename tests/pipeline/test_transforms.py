"""Transforms, parameterizations and seeds: each against its plain definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.seeds import generator
from pipeline.visualize.colours import LIMIT
from pipeline.visualize.parametrize import Fourier, parameterization
from pipeline.visualize.recipes import PUBLISHED, Ascent, Phase
from pipeline.visualize.transforms import augment, draw, offset_scale, roll_each, total_variation
from tests.pipeline import published


def pictures(count=3, height=10, width=14):
    return torch.from_numpy(generator("test", count).uniform(0, 1, (count, 3, height, width)))


@given(st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=3, max_size=3))
@settings(max_examples=30)
def test_each_picture_is_rolled_by_its_own_shift(shifts):
    picture = pictures()
    expected = torch.stack([torch.roll(p, s, dims=(1, 2)) for p, s in zip(picture, shifts, strict=True)])
    assert torch.equal(roll_each(picture, torch.tensor(shifts)), expected)


def test_total_variation_of_the_picture_serves_all_its_copies():
    picture = pictures(2)
    random = generator("tv")
    mean, offset = (torch.from_numpy(random.normal(size=(2, 8, 3))) for _ in range(2))
    std = torch.from_numpy(np.exp(random.uniform(-1, 1, (2, 8, 3))))
    copies = augment(picture, mean, std, offset).unflatten(0, (2, 8))
    expected = torch.stack([published.total_variation(own) for own in copies])
    torch.testing.assert_close(total_variation(picture, std), expected)


def test_copies_are_shifted_in_colour_and_lie_side_by_side():
    picture = pictures(2)
    mean, std = torch.full((2, 4, 3), 0.25), torch.full((2, 4, 3), 2.0)
    offset = torch.zeros(2, 4, 3)
    offset[1, 3, 2] = 0.5
    copies = augment(picture, mean, std, offset)
    assert copies.shape == (8, 3, 10, 14)
    torch.testing.assert_close(copies[3], (picture[0] - 0.25) / 2)
    torch.testing.assert_close(copies[7, 2], (picture[1, 2] - 0.25) / 2 + 0.5)


def test_offset_runs_as_the_published_counter():
    """Spent once before the first step, then down to 0, then wrapped for the last two steps."""
    left, expected = 399, []
    for _ in range(402):
        expected.append(0.5 * left / 400)
        left = (left - 1 + 400) % 400
    np.testing.assert_allclose(offset_scale(PUBLISHED), expected[1:])


def test_draws_depend_on_the_key_and_not_on_the_company():
    like = torch.empty(0, dtype=torch.float64)
    alone = draw([("r", "a/mlp/0/7")], PUBLISHED, (64, 64), like)
    among = draw([("r", "a/mlp/0/3"), ("r", "a/mlp/0/7")], PUBLISHED, (64, 64), like)
    for one, two in zip(alone, among, strict=True):
        assert torch.equal(one.mean[0], two.mean[1])
        assert torch.equal(one.roll[0], two.roll[1])
    assert not torch.equal(among[0].mean[0], among[0].mean[1])


def test_draws_have_the_published_distributions():
    steps = draw([("d", i) for i in range(20)], PUBLISHED, (224, 224), torch.empty(0, dtype=torch.float64))
    mean = torch.stack([s.mean for s in steps])
    log_std = torch.stack([s.std for s in steps]).log()
    roll = torch.stack([s.roll for s in steps])
    for drawn in (mean, log_std):  # U[-1, 1]
        assert -1 <= drawn.min() < -0.999
        assert 0.999 < drawn.max() <= 1
        assert abs(drawn.var() - 1 / 3) < 0.005
    assert roll.min() == -32
    assert roll.max() == 32


def test_phases_fade_the_colour_shift():
    ascent = Ascent(
        parameterization="fourier",
        learning_rate=0.1,
        phases=(Phase(steps=5, copies=1, colour_shift=(0, 0)), Phase(steps=5, copies=3, colour_shift=(0, 1))),
    )
    steps = draw([("p",)], ascent, (32, 32), torch.empty(0))
    assert [s.mean.shape[1] for s in steps] == [1] * 5 + [3] * 5
    assert all((s.mean == 0).all() and (s.std == 1).all() for s in steps[:6])
    assert (steps[-1].mean != 0).all()


@pytest.mark.parametrize("size", [(16, 16), (15, 22)])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5])
def test_fourier_latent_of_a_picture_gives_the_picture(size, exponent):
    space = Fourier(*size, exponent)
    picture = pictures(2, *size).clamp(LIMIT, 1 - LIMIT)
    torch.testing.assert_close(space.picture(space.latent(picture)), picture)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_one_learning_rate_means_the_same_at_every_exponent(exponent):
    """Coefficients of unit variance give values of unit variance before colours and sigmoid."""
    space = Fourier(64, 64, exponent)
    latent = torch.from_numpy(generator("unit", exponent).standard_normal((40, 3, 64, 33, 2)))
    spectrum = torch.view_as_complex(latent * space.scale(latent)[..., None])
    values = torch.fft.irfft2(spectrum, s=(64, 64), norm="ortho")
    assert abs(values.var().item() / 2 - 1) < 0.15  # real and imaginary part, each of unit variance


def test_unknown_parameterization_is_named():
    with pytest.raises(ValueError, match=r"'wavelets'.*'pixels', 'fourier' or 'phases'"):
        parameterization("wavelets", (8, 8), 1.0)
