"""Clarity, polysemanticity and redundancy: on clouds whose answer is known, and on planted neurons of the zoo."""

import pytest
import torch
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.images.windows import VIEWS
from pipeline.label.embedder import load_embedder
from pipeline.label.readability import (
    RandomCrops,
    ReadabilitySettings,
    _rotations,
    _split,
    exciting_crops,
    nearest_twin,
    polysemanticity,
    random_crops,
    readability,
)
from pipeline.models import ModelRequest
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, scenes
from tests.pipeline.close import assert_close

K, D = 20, 64


def generator():
    return torch.Generator().manual_seed(0)


def unit(x):
    return functional.normalize(x, dim=-1)


def clouds(neurons, noise, share=0.0, g=None):
    """(neurons, K, D): around one centre, or with this share of the crops around a second one at a right angle."""
    g = g or generator()
    centres = torch.linalg.qr(torch.randn(neurons, D, 2, generator=g)).Q.mT
    second = torch.arange(K)[None, :, None] < share * K
    crops = torch.where(second, centres[:, None, 1], centres[:, None, 0])
    return unit(crops + noise / D**0.5 * torch.randn(neurons, K, D, generator=g))


@pytest.fixture(scope="module")
def anywhere():
    """Random crops that have nothing in common: directions drawn evenly."""
    return random_crops(unit(torch.randn(500, VIEWS, D, generator=generator())), K)


# ---------------------------------------------------------------------------------------------------- clarity


def test_clarity_is_the_mean_cosine_counted_from_random_crops():
    crops = clouds(3, 0.5)
    random = RandomCrops(K, 0.25, torch.full((200,), 0.1))
    pairs = crops @ crops.mT
    mean = (pairs.sum((1, 2)) - K) / (K * (K - 1))
    assert torch.allclose(readability(crops, random).clarity, (mean - 0.25) / 0.75, atol=1e-5)


def test_equal_crops_are_perfectly_clear_and_random_ones_not_at_all(anywhere):
    assert readability(clouds(1, 0.0), anywhere).clarity[0] == pytest.approx(1, abs=1e-3)
    assert abs(readability(unit(torch.randn(50, K, D, generator=generator())), anywhere).clarity.mean()) < 0.01


def test_random_crops_of_alike_pictures_have_a_high_likeness():
    base = torch.randn(1, 1, D, generator=generator())
    views = unit(base + torch.randn(100, VIEWS, D, generator=generator()))
    assert random_crops(views, K).likeness == pytest.approx(0.5, abs=0.1)
    assert random_crops(views, K).likeness == random_crops(views, K).likeness


# -------------------------------------------------------------------------------------------- polysemanticity


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
def test_one_meaning_is_not_called_two(anywhere, noise):
    score, p = polysemanticity(clouds(200, noise), anywhere)
    assert score.mean() < 0.01
    assert (p < 0.05).float().mean() <= 0.05


def test_noise_is_not_called_two(anywhere):
    score, p = polysemanticity(unit(torch.randn(200, K, D, generator=generator())), anywhere)
    assert score.mean() < 0.02
    assert (p < 0.05).float().mean() <= 0.08


@pytest.mark.parametrize(("share", "noise"), [(0.5, 0.2), (0.5, 0.5), (0.3, 0.5), (0.2, 0.5), (0.5, 1.0)])
def test_two_meanings_are_found(anywhere, share, noise):
    two, p = polysemanticity(clouds(200, noise, share), anywhere)
    one, _ = polysemanticity(clouds(200, noise), anywhere)
    assert (p < 0.05).float().mean() > 0.9
    assert two.median() > 10 * one.median().clamp(min=0.005)


def test_the_further_apart_and_the_tighter_the_more(anywhere):
    score = [float(polysemanticity(clouds(50, noise, 0.5), anywhere)[0].mean()) for noise in (1.0, 0.5, 0.2, 0.0)]
    assert score == sorted(score)
    assert score[-1] == pytest.approx(1, abs=0.01)


def test_one_odd_crop_is_no_second_meaning(anywhere):
    assert polysemanticity(clouds(50, 0.3, 1 / K), anywhere)[0].max() < 0.1


def test_equal_crops_have_one_meaning(anywhere):
    score, p = polysemanticity(clouds(2, 0.0), anywhere)
    assert score.tolist() == [0, 0]
    assert p.tolist() == [1, 1]


def test_random_crops_with_clusters_of_their_own_are_no_meanings():
    """Pictures of two kinds: random crops of them fall into two clusters, and so do those of a neuron of no meaning."""
    kinds = torch.linalg.qr(torch.randn(D, 2, generator=generator())).Q.T
    views = unit(kinds[torch.arange(400) % 2][:, None] + 0.5 / 8 * torch.randn(400, VIEWS, D, generator=generator()))
    peaks = torch.randn(400, 60, generator=generator())
    windows = torch.randint(0, 9, peaks.shape, generator=generator())
    crops, _ = exciting_crops(peaks, windows, views, K)
    found = readability(crops, random_crops(views, K))
    assert found.polysemanticity.mean() < 0.05
    assert (found.polysemanticity_p < 0.05).float().mean() <= 0.1


def test_two_means_explain_as_much_as_the_best_of_all_splits():
    """Eight points: all 127 splits can be tried."""
    crops = torch.randn(20, 8, 5, generator=generator()) + 2 * (torch.arange(8) % 2)[None, :, None]
    away = crops - crops.mean(1, keepdim=True)
    gram = away @ away.mT
    starts = torch.linalg.eigh(gram).eigenvectors.flip(2)[:, :, :4].mT
    found, side = _split(gram, starts)
    masks = ((torch.arange(1, 128)[:, None] >> torch.arange(8)) & 1).float()
    masks = masks[(masks.sum(1) >= 2) & (masks.sum(1) <= 6)]
    count = masks.sum(1)
    total = gram.diagonal(dim1=1, dim2=2).sum(1)
    shares = ((masks @ gram) * masks).sum(2) * (1 / count + 1 / (8 - count)) / total[:, None]
    assert (found <= shares.max(1).values + 1e-5).all()
    assert (found >= 0.95 * shares.max(1).values).float().mean() >= 0.9
    own = ((side[:, None] @ gram).squeeze(1) * side).sum(1) * (1 / side.sum(1) + 1 / (8 - side.sum(1)))
    assert torch.allclose(own / total, found, atol=1e-5)


def test_rotations_keep_lengths_and_the_mean():
    q = _rotations(7, ReadabilitySettings())
    assert torch.allclose(q @ q.mT, torch.eye(7).expand_as(q), atol=1e-5)
    assert torch.allclose(q.sum(2), torch.ones(len(q), 7), atol=1e-5)
    assert q.mean(0).diagonal().mean() == pytest.approx(1 / 7, abs=0.05)  # nothing is preferred


# ------------------------------------------------------------------------------------------------- redundancy


def test_the_nearest_twin_is_found_and_never_oneself():
    mean = unit(torch.randn(300, D, generator=generator()))
    mean[200] = 3 * mean[17]
    cosine, twin = nearest_twin(mean, torch.ones(300, dtype=torch.bool))
    assert (int(twin[200]), int(twin[17])) == (17, 200)
    assert cosine[200] == pytest.approx(1, abs=1e-5)
    table = unit(mean) @ unit(mean).T - 2 * torch.eye(300)
    assert torch.equal(twin, table.argmax(1))
    assert torch.allclose(cosine, table.max(1).values.clamp(max=1), atol=1e-5)


def test_silent_neurons_have_no_figures_and_are_nobodys_twin(anywhere):
    crops = clouds(3, 0.2)
    crops[2] = crops[0]
    found = readability(crops, anywhere, alive=torch.tensor([True, True, False]))
    assert found.twin.tolist() == [1, 0, -1]
    for values in (found.clarity, found.polysemanticity, found.polysemanticity_p, found.redundancy):
        assert values[2].isnan()
        assert not values[:2].isnan().any()
    alone = readability(crops[:1], anywhere)
    assert alone.twin.tolist() == [-1]
    assert alone.redundancy.isnan().all()


# ------------------------------------------------------------------------------------------------- mechanics


def test_exciting_crops_are_the_windows_of_the_strongest_images():
    views = torch.arange(30.0)[:, None, None] + torch.arange(10.0)[None, :, None] / 10
    peaks = torch.stack([torch.arange(30.0), -torch.arange(30.0), torch.zeros(30)], 1).half()
    windows = torch.stack([torch.full((30,), 8), torch.arange(30) % 9, torch.zeros(30)], 1).to(torch.uint8)
    crops, alive = exciting_crops(peaks, windows, views, k=3)
    assert torch.allclose(crops[:2, :, 0], torch.tensor([[29.9, 28.9, 27.9], [0.1, 1.2, 2.3]]))
    assert alive.tolist() == [True, True, False]


def test_chunks_change_nothing(anywhere, monkeypatch):
    crops = clouds(40, 0.5, 0.5)
    whole = readability(crops, anywhere)
    monkeypatch.setattr("pipeline.label.readability.ELEMENTS", 1 << 10)
    parts = readability(crops, anywhere)
    for name in ("clarity", "polysemanticity", "polysemanticity_p", "redundancy"):
        assert_close(getattr(parts, name), getattr(whole, name), 1e-5, name)
    assert torch.equal(parts.twin, whole.twin)


def test_refusals(anywhere):
    with pytest.raises(BadConfig, match="at least 4 crops"):
        random_crops(torch.zeros(30, VIEWS, 4), 3)
    with pytest.raises(BadConfig, match="as many images"):
        random_crops(torch.zeros(10, VIEWS, 4), 20)
    with pytest.raises(BadConfig, match="5 crops a neuron against sets of 20"):
        readability(clouds(1, 0.5)[:, :5], anywhere)


# ------------------------------------------------------------------------------------ planted in zoo pictures


@pytest.fixture(scope="module")
def controlled():
    """400 scenes that differ in shape, colour and texture alone, their centre windows in zoo/clip, and their words."""
    batch = scenes(HELD_OUT_SEED, range(400), {"size": "large", "position": "centre", "background": "dark"})
    pictures = torch.from_numpy(batch.images).permute(0, 3, 1, 2).float() / 255
    views = load_embedder(ModelRequest("zoo/clip")).embed_views(pictures)
    views[:, 1:] = views[:, 5:6]  # random crops too show the object: the same question for all crops
    return views, batch.labels


def planted(controlled, *values):
    """Readability of 20 neurons that fire on any of these values, under noise."""
    views, labels = controlled
    names = [(i, name) for i, some in enumerate(ATTRIBUTES.values()) for name in some]
    fires = torch.zeros(len(labels), dtype=torch.bool)
    for value in values:
        column = next(i for i, name in names if name == value)
        fires |= torch.from_numpy(labels[:, column] == list(ATTRIBUTES.values())[column].index(value))
    peaks = 3 * fires[:, None] + 0.3 * torch.randn(len(labels), 20, generator=generator())
    crops, _ = exciting_crops(peaks, torch.full(peaks.shape, 4), views, K)
    return readability(crops, random_crops(views, K))


def test_planted_neurons_with_one_and_with_two_meanings(controlled):
    one = {value: planted(controlled, value) for value in ("red", "star", "dotted", "plain")}
    two = {pair: planted(controlled, *pair) for pair in (("red", "star"), ("red", "blue"), ("red", "plain"))}
    for value, found in one.items():
        assert found.polysemanticity.mean() < 0.015, value
        assert (found.polysemanticity_p < 0.05).float().mean() <= 0.15, value
    for pair, found in two.items():
        assert found.polysemanticity.mean() > 0.03, pair
        assert (found.polysemanticity_p < 0.05).float().mean() >= 0.6, pair
    assert one["red"].clarity.mean() > two["red", "star"].clarity.mean() + 0.2


def test_a_planted_neuron_of_no_meaning_is_neither_clear_nor_polysemantic(controlled):
    found = planted(controlled)
    assert abs(found.clarity.mean()) < 0.05
    assert found.polysemanticity.mean() < 0.02
    assert (found.polysemanticity_p < 0.05).float().mean() <= 0.15
