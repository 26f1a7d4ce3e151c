"""Counterparts: permuted copies are found, correlations are numpy's, sums merge, and shuffled images give the null."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.match.counterparts import (
    Counterparts,
    PairedImages,
    best_partners,
    common_maps,
    derangement,
    join,
    layer_blocks,
    match_layers,
    match_models,
    neuron_at,
    neuron_index,
    pair_moments,
    resampling,
)
from pipeline.match.cross_moments import CrossMoments
from pipeline.match.rows import match_rows
from pipeline.models import ModelRequest, from_module, load
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes

IMAGES, BATCH = 90, 30


@pytest.fixture(scope="module")
def x01():
    return pixels(scenes(HELD_OUT_SEED, range(IMAGES)))


@pytest.fixture(scope="module")
def batches(x01):
    shuffled = x01[derangement([str(i) for i in range(IMAGES)])]
    return [PairedImages(a, a, b) for a, b in zip(x01.split(BATCH), shuffled.split(BATCH), strict=True)]


def permuted_copy(name):
    """A zoo model whose neurons stand in another order in every layer, and the order: copy[i] is original[order[i]]."""
    model = load(ModelRequest(name))
    generator = torch.Generator().manual_seed(5)
    orders = []
    with torch.no_grad():
        for site in model.description.ffn_sites:
            order = torch.randperm(site.width, generator=generator)
            expand, post = (model.module.get_submodule(path) for path in (site.expand, site.post))
            expand.weight.copy_(expand.weight[order])
            expand.bias.copy_(expand.bias[order])
            post.weight.copy_(post.weight[:, order])
            orders.append(order + neuron_index(model.description, site.layer, 0))
    return model, torch.cat(orders).numpy()


@pytest.mark.parametrize("name", ["zoo/vit", "zoo/swin", "zoo/coat"])
def test_a_permuted_copy_is_matched_wholly_and_mutually(name, batches):
    original = load(ModelRequest(name))
    copy, order = permuted_copy(name)
    result = match_models(copy, original, batches)
    varies = result.first.partner[:, 0] >= 0
    assert varies.mean() > 0.99
    assert np.array_equal(result.first.partner[varies, 0], order[varies])
    assert result.first.mutual[varies].all()
    assert result.second.mutual[order[varies]].all()
    assert result.first.correlation[varies, 0].min() > 0.9999
    assert result.first.significant[varies, 0].all()
    assert (result.first.null_best[varies] < result.first.correlation[varies, 0]).all()
    assert result.first.null_threshold < 0.95
    assert result.samples == IMAGES * 49


def test_correlations_and_ranks_are_those_of_stored_maps(vit, batches, x01):
    swin = load(ModelRequest("zoo/swin"))
    result = match_models(vit, swin, batches)
    with torch.inference_mode():
        x, y = (common_maps(m, m.normalise(x01)).double().numpy() for m in (vit, swin))
    shuffled = x01[derangement([str(i) for i in range(IMAGES)])]
    with torch.inference_mode():
        z = common_maps(swin, swin.normalise(shuffled)).double().numpy()
    n = x.shape[1]
    for side, truth, null in (
        (result.first, np.corrcoef(x.T, y.T)[:n, n:], np.corrcoef(x.T, z.T)[:n, n:]),
        (result.second, np.corrcoef(x.T, y.T)[n:, :n], np.corrcoef(x.T, z.T)[n:, :n]),
    ):
        ranked = np.sort(truth, axis=1)[:, ::-1][:, :5]
        np.testing.assert_allclose(side.correlation, ranked, atol=2e-6)
        np.testing.assert_allclose(np.take_along_axis(truth, side.partner, 1), ranked, atol=2e-6)
        np.testing.assert_allclose(side.null_best, null.max(1), atol=2e-6)
        assert side.null_threshold == pytest.approx(np.quantile(null.max(1), 0.99), abs=2e-6)
        back = truth.T.argmax(1)
        assert (side.mutual == (back[truth.argmax(1)] == np.arange(len(truth)))).all()


def test_blocks_of_layers_give_what_one_block_gives(vit, batches):
    pit = load(ModelRequest("zoo/pit"))
    whole = match_models(vit, pit, batches)
    memory = 2 * 4 * 130 * pit.description.neurons
    assert layer_blocks(vit.description, pit.description, memory) == [[0], [1], [2], [3]]
    split = match_models(vit, pit, batches, memory=memory)
    for one, other in ((whole.first, split.first), (whole.second, split.second)):
        assert np.array_equal(one.partner, other.partner)
        assert np.array_equal(one.mutual, other.mutual)
        np.testing.assert_allclose(one.correlation, other.correlation, atol=1e-6)
        np.testing.assert_allclose(one.null_best, other.null_best, atol=1e-6)
        assert one.null_threshold == pytest.approx(other.null_threshold, abs=1e-6)


def test_near_duplicates_leave_the_neuron_itself_out(batches):
    model = load(ModelRequest("zoo/vit"))
    site = model.description.ffn_sites[2]
    with torch.no_grad():  # unit 3 becomes a copy of unit 90
        expand = model.module.get_submodule(site.expand)
        expand.weight[3], expand.bias[3] = expand.weight[90], expand.bias[90]
    found = match_models(model, model, batches).first
    one, other = (neuron_index(model.description, 2, unit) for unit in (3, 90))
    assert (found.partner[one, 0], found.partner[other, 0]) == (other, one)
    assert found.mutual[[one, other]].all()
    assert found.correlation[one, 0] == pytest.approx(1, abs=1e-5)
    assert (found.partner != np.arange(len(found.partner))[:, None]).all()
    in_blocks = match_models(model, model, batches, memory=1).first
    assert np.array_equal(found.partner[:, 0], in_blocks.partner[:, 0])


def test_a_constant_neuron_has_no_partner_and_is_none(batches):
    dead, whole = load(ModelRequest("zoo/vit")), load(ModelRequest("zoo/vit"))
    site = dead.description.ffn_sites[1]
    with torch.no_grad():
        expand = dead.module.get_submodule(site.expand)
        expand.weight[7], expand.bias[7] = 0, 1.5
    gone = neuron_index(dead.description, 1, 7)
    for result, side, other in (
        (match_models(dead, whole, batches), "first", "second"),
        (match_models(whole, dead, batches), "second", "first"),
    ):
        mine, theirs = getattr(result, side), getattr(result, other)
        assert (mine.partner[gone] == -1).all()
        assert (mine.correlation[gone] == 0).all()
        assert not mine.mutual[gone]
        assert not mine.significant[gone].any()
        assert gone not in theirs.partner
        for table in (mine, theirs):
            assert np.isfinite(table.correlation).all()
            assert np.isfinite(table.null_best).all()


@settings(max_examples=40)
@given(
    cuts=st.lists(st.integers(0, 60), max_size=4),
    seed=st.integers(0, 1000),
    offset=st.sampled_from([0.0, 50.0]),
    backwards=st.booleans(),
)
def test_any_batches_in_any_order_equal_one_pass(cuts, seed, offset, backwards):
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.normal(offset, 1 + 9 * rng.random(6), size=(60, 6))).float()
    y = torch.from_numpy(rng.normal(size=(60, 5))).float() + x[:, :5]
    whole = CrossMoments(6, 5)
    whole.update(x, y)
    batches = list(pairwise([0, *sorted(cuts), 60]))
    merged = CrossMoments(6, 5)
    for begin, end in reversed(batches) if backwards else batches:
        merged.update(x[begin:end], y[begin:end])
    assert merged.samples == 60
    truth = np.corrcoef(x.double().T, y.double().T)[:6, 6:]
    np.testing.assert_allclose(merged.correlations(), whole.correlations(), atol=1e-6)
    np.testing.assert_allclose(merged.correlations(), truth, atol=1e-6 if offset == 0 else 1e-5)
    np.testing.assert_allclose(merged.square_x, 60 * x.double().var(0, correction=0), rtol=1e-4)


def test_the_order_of_batches_changes_nothing(vit, batches):
    whole, turned = pair_moments(vit, vit, batches), pair_moments(vit, vit, batches[::-1])
    for one, other in zip(whole, turned, strict=True):
        torch.testing.assert_close(other.correlations(), one.correlations(), atol=1e-6, rtol=0)


def test_null_is_of_shuffled_images():
    """Maps that are the same function of the image correlate wholly, and not at all when images are shuffled."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4000, 30, generator=generator)
    true, null = CrossMoments(30, 30), CrossMoments(30, 30)
    true.update(x, x.flip(1))
    null.update(x, x[torch.from_numpy(derangement([str(i) for i in range(4000)]))].flip(1))
    result = join([best_partners(true, null)])
    assert result.first.mutual.all()
    assert result.first.null_threshold < 0.08  # the best of 30 at a standard error of 1 / sqrt(4000)
    assert result.first.significant[:, 0].all()


def test_derangement_moves_every_image_and_depends_on_the_set_alone():
    ids = [f"image-{i}" for i in range(101)]
    partner = derangement(ids)
    assert sorted(partner) == list(range(101))
    assert (partner != np.arange(101)).all()
    turned = derangement(ids[::-1])
    assert {ids[i]: ids[p] for i, p in enumerate(partner)} == {ids[::-1][i]: ids[::-1][p] for i, p in enumerate(turned)}
    assert (derangement(ids, seed=1) != partner).any()
    for bad in (["one"], ["one", "one", "two"]):
        with pytest.raises(BadConfig, match="shuffling"):
            derangement(bad)


@pytest.mark.parametrize(
    ("shape", "grid"), [((16, 16), (8, 8)), ((16, 14), (7, 7)), ((7, 7), (7, 7)), ((15, 4), (6, 7))]
)
def test_resampling_keeps_constants_and_averages_areas(shape, grid):
    matrix = resampling(shape, grid)
    torch.testing.assert_close(matrix.sum(1), torch.ones(grid[0] * grid[1]))
    if shape[0] >= grid[0] and shape[1] >= grid[1]:  # area means keep the mean of any map
        torch.testing.assert_close(matrix.mean(0), torch.full((shape[0] * shape[1],), 1 / (shape[0] * shape[1])))
    if shape[0] % grid[0] == 0 and shape[1] % grid[1] == 0:
        maps = torch.rand(2, 3, *shape)
        pooled = torch.nn.functional.adaptive_avg_pool2d(maps, grid)
        torch.testing.assert_close((maps.flatten(2) @ matrix.T).unflatten(2, grid), pooled)


def test_coarse_maps_are_interpolated():
    maps = torch.rand(2, 3, 4, 5)
    wanted = torch.nn.functional.interpolate(maps, size=(7, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close((maps.flatten(2) @ resampling((4, 5), (7, 8)).T).unflatten(2, (7, 8)), wanted)


def test_scales_of_one_neuron_are_averaged_on_the_grid(x01):
    from pipeline.hooks.activations import all_ffn_activations

    coat = load(ModelRequest("zoo/coat"))
    x = coat.normalise(x01[:3])
    with torch.inference_mode():
        maps = common_maps(coat, x, (4, 4)).unflatten(0, (3, 16))
        hidden = all_ffn_activations(coat, x)
    site = coat.description.ffn_sites[-1]
    assert len(site.grids) == 3
    scales = [call @ torch.eye(site.width) for call in hidden[site.layer]]
    wanted = torch.stack(
        [torch.einsum("ct,btn->bcn", resampling(g, (4, 4)), s) for g, s in zip(site.grids, scales, strict=True)]
    ).mean(0)
    start = neuron_index(coat.description, site.layer, 0)
    torch.testing.assert_close(maps[:, :, start : start + site.width], wanted)
    assert maps.shape[2] == coat.description.neurons
    assert neuron_at(coat.description, start + 5) == (site.layer, 5)


def test_mistakes_are_named(vit, batches):
    with pytest.raises(BadConfig, match="no images"):
        match_models(vit, vit, [])
    with pytest.raises(BadConfig, match=r"needed 4 times"):
        match_models(vit, vit, iter(batches), memory=1)
    with pytest.raises(BadConfig, match="without gaps"):
        join([match_layers(vit, vit, batches, [1])])
    moments = CrossMoments(2, 2)
    with pytest.raises(NotFinite, match="1 of 2 neurons"):
        moments.update(torch.tensor([[0.0, float("nan")]]), torch.zeros(1, 2))
    with pytest.raises(BadConfig, match="2 and 2 neurons"):
        moments.update(torch.zeros(2, 2), torch.zeros(3, 2))
    module = load(ModelRequest("zoo/vit")).module
    own = from_module(module, name="mine", input_size=(64, 64))
    with pytest.raises(BadConfig, match="no neuron 512"):
        neuron_at(own.description, own.description.neurons)


def test_rows_of_matches_name_both_neurons_by_layer_and_unit():
    counterparts = Counterparts(
        partner=np.array([[3, 0], [-1, -1], [2, -1]], dtype=np.int32),
        correlation=np.array([[0.9, 0.5], [0, 0], [0.6, 0]], dtype=np.float32),
        mutual=np.array([True, False, False]),
        null_best=np.array([0.1, 0.2, 0.3], dtype=np.float32),
        null_threshold=0.55,
    )
    rows = list(match_rows("a", [1, 2], "b", [2, 2], counterparts, "set"))
    found = [(row["address"], row["rank"], row["partner"], row["mutual"], row["significant"]) for row in rows]
    assert found == [
        ("a/mlp/0/0", 0, "b/mlp/1/1", True, True),
        ("a/mlp/0/0", 1, "b/mlp/0/0", False, False),
        ("a/mlp/1/1", 0, "b/mlp/1/0", False, True),
    ]
    assert {row["probe_set"] for row in rows} == {"set"}
