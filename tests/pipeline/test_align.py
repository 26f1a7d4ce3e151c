"""Alignment of components with a CLIP's space: planted maps are found, figures are what they say."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.decompose import align, stock
from pipeline.decompose.align import (
    AlignSettings,
    Question,
    fit_alignment,
    least_squares,
    orthogonality,
    procrustes,
    zero_shot,
)
from pipeline.decompose.alignment import Alignment, Spaces
from pipeline.decompose.components import Level
from pipeline.decompose.contributions import direct_components
from tests.pipeline.close import assert_close

IMAGES, COMPONENTS = 300, 4
LEVELS = (Level.DIRECT, Level.THROUGH, Level.DIRECT, Level.DIRECT)
DIRECT = direct_components(LEVELS)
SETTINGS = AlignSettings(steps=200, batch=50)


def full(found: Alignment) -> torch.Tensor:
    """The maps of all components, (components, d, e)."""
    return torch.stack([found.map(component) for component in range(COMPONENTS)])


def isometries(count: int, d: int, e: int, seed: int = 0) -> torch.Tensor:
    """(count, d, e): random, with orthonormal columns or, where d < e, rows."""
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(torch.randn(count, d, e, generator=generator), full_matrices=False)
    return left @ right


class Planted:
    """Contributions whose true maps to the targets are known isometries, and how often they were read."""

    def __init__(self, d: int = 8, e: int = 6, noise: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(1)
        self.vectors = torch.randn(IMAGES, COMPONENTS, d, generator=generator)
        self.maps = isometries(COMPONENTS, d, e)
        aligned = torch.einsum("nkd,kde->nke", self.vectors, self.maps)[:, DIRECT].sum(1) + 0.5
        self.targets = functional.normalize(aligned + noise * torch.randn(IMAGES, e, generator=generator), dim=1)
        self.fit = torch.rand(IMAGES, generator=generator) < 0.6
        self.passes = 0

    def __call__(self):
        self.passes += 1
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(2))
        for places in order.split(37):
            yield places, self.vectors[places]


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def found(planted: Planted) -> Alignment:
    return fit_alignment(planted, planted.targets, planted.fit, LEVELS, settings=SETTINGS)


@pytest.mark.parametrize(("d", "e"), [(6, 6), (8, 6), (5, 9)])
def test_planted_maps_are_found(d: int, e: int) -> None:
    planted = Planted(d, e)
    settings = replace(SETTINGS, steps=500)
    found = fit_alignment(planted, planted.targets, planted.fit, LEVELS, settings=settings)
    assert found.cosine > 0.995
    assert found.cosine_shared < 0.9  # components need maps of their own
    assert float(orthogonality(full(found)[DIRECT]).max()) < 0.01
    error = (full(found) - planted.maps)[DIRECT].norm(dim=(1, 2)) / planted.maps[DIRECT].norm(dim=(1, 2))
    assert float(error.max()) < 0.15


def test_without_the_term_maps_are_free(planted: Planted, found: Alignment) -> None:
    free = fit_alignment(
        planted, planted.targets, planted.fit, LEVELS, settings=replace(SETTINGS, orthogonality=0.0, rate=0.1)
    )
    assert float(orthogonality(full(free)[DIRECT]).mean()) > 10 * float(orthogonality(full(found)[DIRECT]).mean())


def test_figures_are_those_of_the_maps(planted: Planted, found: Alignment) -> None:
    aligned = found.whole(planted.vectors, DIRECT)
    cosines = functional.cosine_similarity(aligned, planted.targets)
    assert found.cosine == pytest.approx(float(cosines[~planted.fit].mean()), abs=1e-6)
    assert found.cosine_fit == pytest.approx(float(cosines[planted.fit].mean()), abs=1e-6)
    ours, theirs = functional.normalize(aligned, dim=1)[~planted.fit], planted.targets[~planted.fit]
    others = (ours @ theirs.T)[~torch.eye(len(ours), dtype=torch.bool)]
    assert found.cosine_chance == pytest.approx(float(others.mean()), abs=1e-6)


def test_the_whole_is_the_sum_of_the_mapped_direct_parts(planted: Planted, found: Alignment) -> None:
    parts = found.apply(planted.vectors)
    assert_close(found.whole(planted.vectors, DIRECT), parts[:, DIRECT].sum(1) + found.bias, 1e-6)
    directions = torch.randn(3, 6, generator=torch.Generator().manual_seed(3))
    pulled = torch.einsum("nkd,ktd->nkt", planted.vectors, found.pull(directions))
    assert_close(pulled, parts @ directions.T, 2e-6)


def test_what_has_no_direct_effect_gets_an_isometry_and_changes_nothing(planted: Planted, found: Alignment) -> None:
    other = Planted()
    other.vectors = planted.vectors.clone()
    other.vectors[:, 1] = 100.0
    again = fit_alignment(other, planted.targets, planted.fit, LEVELS, settings=SETTINGS)
    assert torch.equal(again.maps, found.maps)
    assert float(orthogonality(full(found)[1:2])) < 1e-9


@pytest.mark.parametrize("capacity", [10_000, 3_000])
def test_a_small_buffer_streams_and_finds_the_same(planted: Planted, found: Alignment, capacity: int) -> None:
    """10,000 bytes hold 78 images of 4 x 8 float32, so that the set is read in passes; 3,000 less than a batch."""
    streamed = Planted()
    settings = replace(SETTINGS, buffer_bytes=capacity)
    less = fit_alignment(streamed, streamed.targets, streamed.fit, LEVELS, settings=settings)
    assert streamed.passes > 2
    assert less.cosine == pytest.approx(found.cosine, abs=0.02)
    again = fit_alignment(Planted(), streamed.targets, streamed.fit, LEVELS, settings=settings)
    assert torch.equal(again.maps, less.maps)


def test_a_set_that_fits_is_read_once() -> None:
    planted, steps = Planted(), []
    settings = replace(SETTINGS, steps=7)
    fit_alignment(planted, planted.targets, planted.fit, LEVELS, settings=settings, on_step=lambda: steps.append(1))
    assert planted.passes == 1
    assert len(steps) == math.ceil(IMAGES / 37) + 7


def test_no_more_than_the_buffer_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the batches given, as weak references see them; and of what is joined from them to fit on."""
    planted = Planted()
    capacity = 3 * 37 * COMPONENTS * 8 * 4  # three batches
    given: list[weakref.ref[torch.Tensor]] = []
    alive, sizes = [], []

    def watched():
        for places, vectors in planted():
            alive.append(sum(one() is not None for one in given))
            given.append(weakref.ref(vectors))
            yield places, vectors

    def joining(parts):
        sizes.append(sum(vectors.nbytes for _, vectors in parts))
        return join(parts)

    join = stock.joined
    for module in (align, stock):
        monkeypatch.setattr(module, "joined", joining)
    fit_alignment(
        watched, planted.targets, planted.fit, LEVELS, settings=replace(SETTINGS, steps=60, buffer_bytes=capacity)
    )
    assert planted.passes >= 2
    assert max(alive) <= 4
    assert len(sizes) >= 2
    assert max(sizes) <= capacity


def test_chance_tells_a_cosine_that_is_worth_nothing() -> None:
    """Targets that share one direction and nothing else: the cosine is high, and so is that to other images."""
    planted = Planted()
    generator = torch.Generator().manual_seed(4)
    noise = 0.3 * torch.randn(IMAGES, 6, generator=generator)
    targets = functional.normalize(torch.ones(IMAGES, 6) + noise, dim=1)
    found = fit_alignment(planted, targets, planted.fit, LEVELS, settings=SETTINGS)
    assert found.cosine > 0.85
    assert found.cosine == pytest.approx(found.cosine_chance, abs=0.02)


def test_closed_forms() -> None:
    generator = torch.Generator().manual_seed(5)
    z = torch.randn(200, 7, generator=generator, dtype=torch.float64) + 3
    weights, offset = torch.randn(7, 4, generator=generator).double(), torch.randn(4, generator=generator).double()
    found, at = least_squares(z, z @ weights + offset, 1e-9)
    assert_close(found, weights, 1e-6)
    assert_close(at, offset, 2e-6)
    shrunk, _ = least_squares(z, z @ weights + offset, 1e6)
    assert float(shrunk.norm()) < 1e-3 * float(weights.norm())
    isometry = isometries(1, 7, 7)[0].double()
    turned, _ = procrustes(z, 3 * (z @ isometry) + 1)
    assert_close(turned, isometry, 1e-6)


def test_zero_shot_counts_what_is_known() -> None:
    aligned = torch.eye(3)
    question = Question(torch.eye(3), torch.tensor([0, 2, -1]))
    every = torch.ones(3, dtype=torch.bool)
    assert zero_shot(aligned, [question], every) == 0.5
    assert zero_shot(aligned, [question, Question(torch.eye(3), torch.tensor([0, 1, 2]))], every) == 0.75
    assert zero_shot(aligned, [Question(torch.eye(3), torch.full((3,), -1))], every) is None
    assert zero_shot(aligned, [question], torch.tensor([True, False, True])) == 1.0


def test_arrays_and_back(found: Alignment) -> None:
    again = Alignment.of(found.arrays())
    assert torch.equal(again.maps, found.maps)
    assert torch.equal(again.bias, found.bias)
    assert replace(again, maps=None, bias=None) == replace(found, maps=None, bias=None)
    own = Alignment.of(Alignment.own(5, 6, 0.5).arrays())
    assert own.maps is None
    assert (own.cosine, own.accuracy) == (1.0, 0.5)
    vectors = torch.randn(2, 5, 6)
    assert torch.equal(own.apply(vectors), vectors)
    assert own.pull(torch.eye(6)).shape == (5, 6, 6)


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"fit": torch.zeros(IMAGES, dtype=torch.bool)}, BadConfig, "0 images to fit the maps on"),
        ({"fit": torch.ones(IMAGES, dtype=torch.bool)}, BadConfig, "0 to check them"),
        ({"fit": torch.ones(3, dtype=torch.bool)}, BadConfig, "expected (300,)"),
        ({"levels": LEVELS[:3]}, BadConfig, "expected (37, 3, d)"),
        ({"levels": (Level.THROUGH,) * 4}, BadConfig, "no component has a direct effect"),
        ({"targets": torch.full((IMAGES, 6), torch.nan)}, NotFinite, "embeddings"),
    ],
)
def test_what_is_refused(planted: Planted, change: dict, error: type[Exception], told: str) -> None:
    given = {"targets": planted.targets, "fit": planted.fit, "levels": LEVELS} | change
    with pytest.raises(error) as caught:
        fit_alignment(planted, settings=SETTINGS, **given)
    assert told in str(caught.value)


def test_missing_images_and_numbers_are_named(planted: Planted) -> None:
    def lacking():
        yield torch.arange(200), planted.vectors[:200]
        yield torch.arange(199), planted.vectors[:199]

    with pytest.raises(BadConfig, match=r"200 of 300 images \(399 in all\)"):
        fit_alignment(lacking, planted.targets, planted.fit, LEVELS, settings=SETTINGS)
    with pytest.raises(BadConfig, match="0 of 300 images"):
        fit_alignment(list, planted.targets, planted.fit, LEVELS, settings=SETTINGS)

    def broken():
        yield torch.arange(IMAGES), torch.full_like(planted.vectors, torch.inf)

    with pytest.raises(NotFinite, match="contributions"):
        fit_alignment(broken, planted.targets, planted.fit, LEVELS, settings=SETTINGS)


def test_fewer_images_than_dimensions_is_safe() -> None:
    planted = Planted(d=32, e=24)
    few = torch.arange(6)
    fit = torch.tensor([True, True, True, False, False, False])
    found = fit_alignment(lambda: [(few, planted.vectors[:6])], planted.targets[:6], fit, LEVELS, settings=SETTINGS)
    assert torch.isfinite(found.maps).all()
    assert found.cosine < found.cosine_fit  # it says that it does not generalise


def test_a_constant_model_is_safe() -> None:
    planted = Planted()
    planted.vectors = torch.ones_like(planted.vectors)
    found = fit_alignment(planted, planted.targets, planted.fit, LEVELS, settings=SETTINGS)
    assert torch.isfinite(found.maps).all()
    assert found.cosine == pytest.approx(found.cosine_chance, abs=0.05)


def test_a_map_of_a_small_space_is_all_that_its_component_needs() -> None:
    """Contributions in 3 of 6 dimensions: maps of these find as much, and map everything else to zero."""
    planted = Planted(6, 8)
    bases = isometries(COMPONENTS, 6, 3, seed=7)  # (components, d, r), orthonormal columns
    planted.vectors = torch.einsum("nkd,kdr,ker->nke", planted.vectors, bases, bases)
    aligned = torch.einsum("nkd,kde->nke", planted.vectors, planted.maps)[:, DIRECT].sum(1) + 0.5
    planted.targets = functional.normalize(aligned, dim=1)
    spaces = Spaces(6, tuple(bases))
    settings = replace(SETTINGS, steps=500)
    found = fit_alignment(planted, planted.targets, planted.fit, LEVELS, spaces=spaces, settings=settings)
    whole = fit_alignment(planted, planted.targets, planted.fit, LEVELS, settings=settings)
    assert found.maps.shape == (COMPONENTS * 3, 8)
    assert found.cosine > 0.99
    assert found.cosine > whole.cosine - 0.005
    own = torch.stack(found.maps.split(3))
    assert float(orthogonality(own[DIRECT]).max()) < 0.01
    parts = found.apply(planted.vectors)
    assert_close(found.whole(planted.vectors, DIRECT), parts[:, DIRECT].sum(1) + found.bias, 1e-6)
    for component, basis in enumerate(bases):
        outside = torch.eye(6) - basis @ basis.mT
        assert float((outside @ found.map(component)).abs().max()) < 1e-6
    again = Alignment.of(found.arrays())
    assert torch.equal(again.maps, found.maps)
    assert torch.allclose(again.apply(planted.vectors), parts)


def test_it_ends_where_images_kept_aside_gain_nothing() -> None:
    planted, steps = Planted(), []
    settings = replace(SETTINGS, steps=2000, watched=20, look_each=20, rise=1e-3)
    found = fit_alignment(
        planted, planted.targets, planted.fit, LEVELS, settings=settings, on_step=lambda: steps.append(1)
    )
    assert len(steps) < 1500, "it ended before all steps were made"
    assert found.cosine > 0.99
    few = replace(settings, steps=60, most_watched=0.05)  # 20 images would be more than a twentieth
    steps.clear()
    fit_alignment(planted, planted.targets, planted.fit, LEVELS, settings=few, on_step=lambda: steps.append(1))
    assert len(steps) == math.ceil(IMAGES / 37) + 60
