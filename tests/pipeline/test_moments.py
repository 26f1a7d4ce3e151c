"""Moments of contributions: merged in any way, they are those of all images at once, computed plainly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.errors import UnknownFamily
from pipeline.decompose.contributions import Contributing, Contributions, direct_components, indirect_components
from pipeline.decompose.moments import MOST_ROWS, ContributionMoments
from pipeline.models import ModelRequest, load
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes

FAMILIES = ("vit", "deit", "swin", "coat", "convit", "pit", "twins", "clip")
IMAGES, COMPONENTS, HEADS, WIDTH = 24, 5, 3, 6
THROUGH = torch.tensor([False, True, False, False, False])


def drawn(seed: int = 0, offset: float = 50.0) -> Contributions:
    """Contributions far from zero, where sums of squares would cancel."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(IMAGES, COMPONENTS, WIDTH, generator=generator, dtype=torch.float64) + offset
    return Contributions(vectors, vectors.sum(1))


def of(found: Contributions, rows: list[int]) -> ContributionMoments:
    made = ContributionMoments(THROUGH, HEADS, WIDTH)
    if rows:
        made.update(Contributions(found.vectors[rows], found.representation[rows]))
    return made


@given(st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES), st.permutations(range(4)))
@settings(max_examples=60)
def test_any_split_and_order_gives_the_moments_of_all(split: list[int], order: list[int]) -> None:
    found = drawn()
    whole = ContributionMoments(THROUGH, HEADS, WIDTH)
    for group in order:
        whole.merge(of(found, [row for row, own in enumerate(split) if own == group]))
    vectors, z = found.vectors.numpy(), found.representation.numpy()
    apart, z_apart = vectors - vectors.mean(0), z - z.mean(0)
    expected = {
        "images": np.array(IMAGES),
        "mean": vectors.mean(0),
        "trace": (apart**2).sum((0, 2)),
        "shared": np.einsum("nkd,nd->k", apart, z_apart),
        "whole_mean": z.mean(0),
        "whole_trace": (z_apart**2).sum(),
        "norm": np.linalg.norm(vectors, axis=2).sum(0),
        "ratio": (np.linalg.norm(vectors, axis=2) / np.linalg.norm(z, axis=1)[:, None]).sum(0),
    }
    for head in range(HEADS):
        own = apart[:, head].T @ apart[:, head] / IMAGES
        np.testing.assert_allclose(whole.covariance(head).numpy(), own, rtol=1e-11, atol=1e-11)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(whole, name).numpy(), value, rtol=1e-11, atol=1e-9, err_msg=name)
    assert float(whole.variance_share().sum()) == pytest.approx(1, abs=1e-12)


def test_arrays_are_the_way_back() -> None:
    made = of(drawn(), list(range(IMAGES)))
    again = ContributionMoments.of(made.arrays())
    for name in made.FIELDS:
        torch.testing.assert_close(getattr(again, name), getattr(made, name), rtol=1e-13, atol=1e-13)


def test_axes_are_those_of_a_singular_value_decomposition() -> None:
    found = drawn()
    made = of(found, list(range(IMAGES)))
    axes, share = made.axes(4)
    for head in range(HEADS):
        own = found.vectors[:, head].numpy()
        _, values, right = np.linalg.svd(own - own.mean(0))
        np.testing.assert_allclose(share[head].numpy(), (values**2 / (values**2).sum())[:4], rtol=1e-9)
        np.testing.assert_allclose(np.abs((axes[head].numpy() * right[:4]).sum(1)), 1, atol=1e-9)
        assert (axes[head].numpy() @ own.mean(0) > 0).all(), "an axis points to the side of the mean"
        ratio = (values**2).sum() ** 2 / (values**4).sum()
        assert float(made.dimensions()[head]) == pytest.approx(ratio, rel=1e-9)


def test_a_head_that_never_changes_has_no_axes() -> None:
    vectors = torch.ones(4, 1, 3, dtype=torch.float64).expand(4, COMPONENTS, 3)
    made = ContributionMoments(THROUGH, HEADS, 3)
    made.update(Contributions(vectors, vectors.sum(1)))
    axes, share = made.axes(5)
    assert axes.shape == (HEADS, 5, 3)
    assert not axes.any()
    assert not share.any()
    assert not made.dimensions().any()
    assert not made.variance_share().any()


def test_fewer_images_than_a_head_is_wide() -> None:
    made = of(drawn(), [0, 1, 2])
    _, share = made.axes(WIDTH)
    assert (share[:, :2] > 1e-6).all()
    assert (share[:, 2:] < 1e-12).all(), "three images span two axes about their mean"


@pytest.mark.parametrize("name", FAMILIES)
def test_direct_contributions_add_up_and_their_shares_of_variance_to_one(name: str) -> None:
    model = load(ModelRequest(f"zoo/{name}"))
    contributing = Contributing(model)
    made: ContributionMoments | None = None
    for start in (0, 12):
        x = model.normalise(pixels(scenes(HELD_OUT_SEED, range(start, start + 12))))
        found = contributing(x)
        direct = direct_components(contributing.levels)
        error = (found.vectors[:, direct].sum(1) - found.representation).norm() / found.representation.norm()
        assert error < 1e-5
        indirect = indirect_components(contributing.levels)
        made = made or ContributionMoments(indirect, model.description.heads, found.vectors.shape[2])
        made.update(found)
    assert made is not None
    assert float(made.variance_share()[direct].sum()) == pytest.approx(1, abs=1e-5)
    silent = [one for one, level in zip(contributing.components, contributing.levels, strict=True) if level != "direct"]
    expected = {"convit": 12, "coat": 4}.get(name, 0)
    assert len(silent) == expected
    assert all(one.kind == "head" for one in silent)
    assert (made.norm[[contributing.components.index(one) for one in silent]] > 0).all(), "they have the next level's"


@pytest.mark.parametrize("name", ["coat", "pit"])
def test_what_the_first_batch_showed_serves_the_next(name: str) -> None:
    """Whatever does not reach the representation is found once; later batches are what they would be by themselves."""
    model = load(ModelRequest(f"zoo/{name}"))
    x = model.normalise(pixels(scenes(HELD_OUT_SEED, range(6))))
    contributing = Contributing(model)
    contributing(x[:2])
    torch.testing.assert_close(contributing(x).vectors, Contributing(model)(x).vectors, rtol=0, atol=0)


def test_contributions_that_do_not_add_up_are_refused() -> None:
    """In a place that does reach the representation the graph was cut."""
    model = load(ModelRequest("zoo/vit"))
    x = model.normalise(pixels(scenes(HELD_OUT_SEED, range(2))))
    contributing = Contributing(model)
    contributing(x)
    contributing._idle = frozenset(range(40))
    with pytest.raises(UnknownFamily, match="do not add up"):
        contributing(x)


def test_what_varies_in_many_dimensions_keeps_the_leading_ones_and_counts_the_rest() -> None:
    """A head of 500 dimensions over 900 images in batches: 192 rows at most, which are the strongest."""
    generator = torch.Generator().manual_seed(3)
    scale = torch.logspace(0, -3, 500, dtype=torch.float64)
    vectors = torch.randn(900, 1, 500, generator=generator, dtype=torch.float64) * scale
    made = ContributionMoments(torch.zeros(1, dtype=torch.bool), 1, 500)
    for batch in vectors.split(60):
        made.update(Contributions(batch, batch[:, 0]))
    apart = vectors[:, 0] - vectors[:, 0].mean(0)
    factor = made.factor(0)
    assert len(factor) <= MOST_ROWS
    assert float(factor.square().sum() + made.dropped[0]) == pytest.approx(float(apart.square().sum()), rel=1e-9)
    assert 0 < float(made.dropped[0]) < 0.01 * float(made.trace[0])
    _, values, _ = torch.linalg.svd(apart)
    _, share = made.axes(16)
    torch.testing.assert_close(share[0], values[:16].square() / values.square().sum(), rtol=1e-3, atol=0)


def test_sums_in_the_coordinates_of_a_space_are_those_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(4)
    basis = torch.linalg.qr(torch.randn(WIDTH, 2, generator=generator, dtype=torch.float64)).Q
    found = drawn()
    found.vectors[:, 0] = found.vectors[:, 0] @ basis @ basis.mT
    whole, within = of(found, list(range(IMAGES))), ContributionMoments(THROUGH, HEADS, WIDTH, bases={0: basis})
    for rows in (range(10), range(10, IMAGES)):
        within.update(Contributions(found.vectors[rows], found.representation[rows]))
    assert within.arrays()["rows_of"].tolist()[0] == 2
    for head in range(HEADS):
        torch.testing.assert_close(within.covariance(head), whole.covariance(head), rtol=1e-9, atol=1e-9)
    spaces = within.spaces()
    assert spaces.ranks == (2, *[WIDTH] * (COMPONENTS - 1))
    kept = spaces.bases[0].double()
    torch.testing.assert_close(kept @ kept.mT, basis @ basis.mT, rtol=0, atol=1e-6)
