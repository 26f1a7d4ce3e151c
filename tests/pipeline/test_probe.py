"""The probe pass: any split and order of the images gives one result, and that of a naive computation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.hooks.activations import all_ffn_activations
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.images.windows import windows_of_grid
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.probe.evidence import EvidenceSettings, Picture, evidence_rows, judge_rows, quantile_rows, top_rows
from pipeline.probe.measure import measure
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, SiteProbe, probe, site_arrays, site_of
from pipeline.probe.panel import panel_of
from pipeline.probe.sketch import BINS, Sketch, bins_of, edges
from pipeline.probe.top import NOBODY
from pipeline.zoo import ZOO

IMAGES = 48
SETTINGS = ProbeSettings(top=5, panel=30, least_class=3)
GRID = (3, 4)


@pytest.fixture(scope="module")
def images() -> ProbeSet:
    return open_probe_set(f"zoo:{IMAGES}")


@pytest.mark.parametrize(("images_a_bin", "kind"), [(255, "uint8"), (256, "int16"), (32767, "int16"), (32768, "int32")])
def test_counts_are_kept_in_the_least_type_that_holds_them(images_a_bin: int, kind: str) -> None:
    """And add up all the same."""
    first = Sketch(3)
    first.counts[1, 7] = images_a_bin
    first.low, first.high = torch.zeros(3), torch.ones(3)
    arrays = {name: array.numpy() for name, array in first.arrays().items()}
    assert arrays["counts"].dtype == kind
    before = arrays["counts"].copy()
    back = [Sketch.of({name: torch.from_numpy(array) for name, array in arrays.items()}) for _ in range(2)]
    np.testing.assert_array_equal(back[0].finalize().counts, first.counts.numpy())
    back[0].merge(back[1])
    np.testing.assert_array_equal(back[0].finalize().counts, 2 * first.counts.numpy())
    assert back[0].finalize().total.dtype == first.finalize().total.dtype
    np.testing.assert_array_equal(arrays["counts"], before)


# --- accumulators alone: activations that tie often -------------------------------------------------------


class Site:
    """The facts of an FFN site that accumulators ask for."""

    width, grids, layer = 6, (GRID, (2, 2)), 0


def hidden_of(seed: int) -> list[torch.Tensor]:
    """Two calls (scales) of activations in few distinct values, so that peaks tie: (IMAGES, tokens, width)."""
    draw = torch.Generator().manual_seed(seed)
    return [
        torch.randint(-3, 4, (IMAGES, height * width, Site.width), generator=draw).float() / 2
        for height, width in Site.grids
    ]


def membership(images: ProbeSet) -> Membership:
    return Membership.of(images, SETTINGS)


def measured(hidden: Sequence[torch.Tensor], members: Membership, indices: Sequence[int]) -> SiteProbe:
    site = SiteProbe.empty(Site, SETTINGS, members, int(members.panel[list(indices)].sum()), torch.device("cpu"))  # type: ignore[arg-type]
    for start in range(0, len(indices), 7):
        some = list(indices[start : start + 7])
        site.update(measure(torch.tensor(some), [call[some] for call in hidden], Site.grids))
    return site


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), cuts=st.lists(st.integers(1, IMAGES - 1), max_size=5), order=st.randoms())
def test_any_split_and_order_of_merges_equals_one_pass(seed: int, cuts: list[int], order: random.Random) -> None:
    members = membership(open_probe_set(f"zoo:{IMAGES}"))
    hidden = hidden_of(seed)
    whole = measured(hidden, members, range(IMAGES)).arrays()
    shuffled = list(range(IMAGES))
    order.shuffle(shuffled)
    bounds = [0, *sorted(set(cuts)), IMAGES]
    parts = [measured(hidden, members, shuffled[low:high]) for low, high in pairwise(bounds)]
    order.shuffle(parts)
    while len(parts) > 1:  # a tree of merges, in any shape
        first = parts.pop(order.randrange(len(parts)))
        second = parts.pop(order.randrange(len(parts)))
        first.merge(SiteProbe.of(second.arrays()))
        parts.append(first)
    merged = parts[0].arrays()
    assert sorted(merged) == sorted(whole)
    for name, array in whole.items():
        if name in ("moments/powers", "classes/sums"):  # sums of float64, in another order
            np.testing.assert_allclose(merged[name], array, rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(merged[name], array, err_msg=name)


def test_of_equal_peaks_the_first_image_wins(images: ProbeSet) -> None:
    members = membership(images)
    hidden = [torch.ones(IMAGES, height * width, Site.width) for height, width in Site.grids]
    site = measured(hidden, members, list(range(IMAGES))[::-1])
    assert site.top.arrays()["image"][:, 0].tolist() == list(range(SETTINGS.top))


def test_fewer_images_than_the_top_asks_for(images: ProbeSet) -> None:
    site = measured(hidden_of(1), membership(images), [3, 4])
    found = site.top.arrays()["image"][:, 0]
    assert sorted(found[:2].tolist()) == [3, 4]
    assert found[2:].tolist() == [NOBODY] * (SETTINGS.top - 2)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50))
def test_a_value_lies_between_the_boundsof_its_bin(values: list[float]) -> None:
    edge, bins = edges(), bins_of(torch.tensor(values))
    assert len(edge) == BINS + 1
    for value, number in zip(values, bins.tolist(), strict=True):
        if 2**-10 <= abs(value) < 2**8:
            assert edge[number] <= value <= edge[number + 1]
            assert edge[number + 1] - edge[number] <= abs(value) / 8 * 1.0001


# --- against a naive computation, on a model of each family -----------------------------------------------


@pytest.fixture(scope="module", params=ZOO)
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return load(ModelRequest(model=f"zoo/{request.param}"))


@pytest.fixture(scope="module")
def probed(model: LoadedModel, images: ProbeSet) -> ModelProbe:
    members = membership(images)
    into = ModelProbe.empty(model.description, SETTINGS, members, range(IMAGES), model.device)
    return probe(model, batches(images, range(IMAGES), model.description, 20), into)


@pytest.fixture(scope="module")
def stored(model: LoadedModel, images: ProbeSet) -> dict[int, list[np.ndarray]]:
    """Everything, kept: layer -> a call each, (image, token, unit) float64."""
    found: dict[int, list[list[np.ndarray]]] = {}
    with torch.no_grad():
        for _, pixels in batches(images, range(IMAGES), model.description, 20):
            for layer, calls in all_ffn_activations(model, model.normalise(pixels)).items():
                found.setdefault(layer, []).append([call.numpy() for call in calls])
    return {layer: [np.concatenate(call) for call in zip(*parts, strict=True)] for layer, parts in found.items()}


def test_every_figure_equals_a_naive_one(
    model: LoadedModel, images: ProbeSet, probed: ModelProbe, stored: dict[int, list[np.ndarray]]
) -> None:
    members = membership(images)
    assert probed.images == IMAGES
    for site in model.description.ffn_sites:
        rows = evidence_rows(probed.sites[site.layer], range(site.width), images.identity, members)
        calls = stored[site.layer]
        tokens = np.concatenate([call.reshape(-1, site.width) for call in calls]).astype(np.float64)
        peaks = np.stack([call.max(1) for call in calls]).max(0)  # (image, unit)
        means = np.mean([call.mean(1, dtype=np.float64) for call in calls], 0)
        close = {"rtol": 1e-4, "atol": 1e-5}
        np.testing.assert_allclose([row["token_mean"] for row in rows], tokens.mean(0), **close)
        np.testing.assert_allclose([row["token_std"] for row in rows], tokens.std(0), **close)
        np.testing.assert_allclose([row["fraction_active"] for row in rows], (tokens > 0).mean(0), atol=1e-12)
        kurtosis = stats.kurtosis(tokens, 0, fisher=False)
        np.testing.assert_allclose([row["token_kurtosis"] for row in rows], kurtosis, rtol=1e-3)
        np.testing.assert_array_equal([row["peak_max"] for row in rows], peaks.max(0))
        np.testing.assert_allclose([row["mean_max"] for row in rows], means.max(0), rtol=1e-5, atol=1e-6)
        for unit in range(0, site.width, 17):
            _compare_distribution(rows[unit], peaks[:, unit], means[:, unit])
            _compare_classes(rows[unit], peaks[:, unit], images)


def _compare_distribution(row: dict, peaks: np.ndarray, means: np.ndarray) -> None:
    """Sketches are as fine as their bins: a share is right for some value within an eighth of the one asked for."""
    for name, values in (("peak_quantiles", peaks), ("mean_quantiles", means)):
        for quantile, found in zip(EvidenceSettings.quantiles, row[name], strict=True):
            slack = abs(found) / 8 + 2**-10
            low, high = (values < found - slack).mean(), (values <= found + slack).mean()
            assert low <= quantile + 1 / len(values)
            assert high >= quantile - 1 / len(values)
    assert row["histogram"]["low"] == pytest.approx(peaks.min())
    assert sum(row["histogram"]["counts"]) == len(peaks)
    if peaks.max() > 0:
        half = peaks.max() / 2
        low, high = (peaks > half * 9 / 8).mean(), (peaks > half * 7 / 8).mean()
        assert low - 1e-9 <= row["fires_on"] <= high + 1e-9


def _compare_classes(row: dict, peaks: np.ndarray, images: ProbeSet) -> None:
    labels = np.array([image.label for image in images.images])
    means = {name: peaks[labels == name].mean() for name in images.classes if (labels == name).sum() >= 3}
    best = sorted(means, key=lambda name: -means[name])[:5]
    assert [one["name"] for one in row["exciting_classes"]] == best
    assert row["exciting_classes"][0]["mean"] == pytest.approx(means[best[0]], rel=1e-5)


def test_examples_are_the_strongest_images_with_their_maps(
    model: LoadedModel, images: ProbeSet, probed: ModelProbe, stored: dict[int, list[np.ndarray]]
) -> None:
    for site in model.description.ffn_sites:
        calls, units = stored[site.layer], range(0, site.width, 13)
        peaks = np.stack([call.max(1) for call in calls]).max(0)
        panel = panel_of([image.sha256 for image in images.images], SETTINGS.panel)
        rows = list(top_rows(probed.sites[site.layer], site, units, images))
        rows += quantile_rows(model, probed.sites[site.layer], site, units, images)
        for row in rows:
            unit, image = row["unit"], row["image_index"]
            hidden = calls[row["scale"]][image, :, unit]
            span = row["map_high"] - row["map_low"]
            decoded = row["map_low"] + np.frombuffer(row["map"], np.uint8) / 255 * span
            np.testing.assert_allclose(decoded, hidden, atol=span / 509 + 1e-4)
            assert site.grids[row["scale"]] == (row["map_height"], row["map_width"])
            assert hidden[row["row"] * row["map_width"] + row["column"]] >= hidden.max() - span / 254 - 1e-4
            assert row["activation"] == pytest.approx(peaks[image, unit], rel=2e-3, abs=1e-3)
        for unit in units:
            top = [row["image_index"] for row in rows if (row["unit"], row["kind"]) == (unit, "top")]
            assert top == np.lexsort((np.arange(IMAGES), -peaks[:, unit]))[: SETTINGS.top].tolist()
            other = [row for row in rows if (row["unit"], row["kind"]) == (unit, "quantile")]
            assert len({row["image_index"] for row in other}) == len(other) == 5
            assert {row["image_index"] for row in other} <= set(panel)
            ranks = [row["quantile"] for row in other]
            assert ranks == sorted(ranks, reverse=True)
            assert ranks[0] > 0.8 > 0.2 > ranks[-1]


def test_the_panel_holds_every_number_of_its_images(
    model: LoadedModel, images: ProbeSet, probed: ModelProbe, stored: dict[int, list[np.ndarray]]
) -> None:
    chosen = panel_of([image.sha256 for image in images.images], SETTINGS.panel)
    for site in model.description.ffn_sites:
        panel, calls = probed.sites[site.layer].panel, stored[site.layer]
        assert panel.images.tolist() == chosen
        peaks = np.stack([call.max(1) for call in calls])  # (call, image, unit)
        np.testing.assert_allclose(panel.peak.float(), peaks.max(0)[chosen], rtol=1e-3, atol=1e-3)
        scale = peaks.argmax(0)[chosen]
        place = np.stack([call.argmax(1) for call in calls])[:, chosen]
        tables = [windows_of_grid(grid) for grid in site.grids]
        expected = np.choose(scale, [table[at] for table, at in zip(tables, place, strict=True)])
        tied = np.stack([(call == call.max(1, keepdims=True)).sum(1) for call in calls]).max(0)[chosen] > 1
        np.testing.assert_array_equal(panel.window.numpy()[~tied], expected[~tied])
        assert tied.mean() < 0.1


def test_the_gallery_shows_progress_with_each_batch(model: LoadedModel, images: ProbeSet, probed: ModelProbe) -> None:
    """Of a large model a batch takes a minute: a worker that is silent through all of them counts as hung."""
    site, steps = model.description.ffn_sites[-1], []
    rows = quantile_rows(
        model, probed.sites[site.layer], site, range(2), images, batch=7, on_step=lambda: steps.append(1)
    )
    assert len(list(rows)) > 0
    assert len(steps) == -(-SETTINGS.panel // 7)


def test_arrays_of_one_layer_make_its_accumulators(model: LoadedModel, probed: ModelProbe) -> None:
    arrays = probed.arrays()
    layer = model.description.ffn_sites[-1].layer
    assert set(site_arrays(layer)) == {name for name in arrays if name.startswith(f"{layer}/")}
    back = site_of({name: arrays[name] for name in site_arrays(layer)}, layer).arrays()
    for name, array in probed.sites[layer].arrays().items():
        np.testing.assert_array_equal(back[name], array)


def test_an_object_in_a_corner_lights_that_corner(model: LoadedModel) -> None:
    """What an object in a corner changes in the maps, over all neurons, is largest in that corner."""
    height, width = model.description.input_size
    blank = torch.full((1, 3, height, width), 0.5)
    side = height // 4
    kept = 0
    for layer, site in enumerate(model.description.ffn_sites):
        right = []
        for row in (0, 1):
            for column in (0, 1):
                shown = blank.clone()
                top, left = row * (height - side), column * (width - side)
                shown[:, :, top : top + side, left : left + side] = torch.tensor([1.0, 0.1, 0.1])[:, None, None]
                shown[:, :, top : top + side : 4, left : left + side] = 0.0
                with torch.no_grad():
                    before = all_ffn_activations(model, model.normalise(blank))[layer]
                    after = all_ffn_activations(model, model.normalise(shown))[layer]
                for grid, one, other in zip(site.grids, before, after, strict=True):
                    if grid != max(site.grids):  # where scales are mixed (CoaT), the coarse ones take on others' places
                        continue
                    change = (other - one)[0].abs().mean(1).unflatten(0, grid)  # (rows, columns)
                    halves = [change[: grid[0] // 2], change[-(grid[0] // 2) :]]
                    quarters = [[half[:, : grid[1] // 2], half[:, -(grid[1] // 2) :]] for half in halves]
                    strength = torch.tensor([[quarter.mean() for quarter in half] for half in quarters])
                    right.append(strength.argmax().item() == 2 * row + column)
        kept += all(right)
        assert all(right), f"layer {layer}: {right}"
    assert kept == len(model.description.ffn_sites)


def test_a_picture_is_judged_by_real_images(model: LoadedModel, probed: ModelProbe, stored: dict) -> None:
    means = np.mean([call.mean(1) for call in stored[0]], 0)[:, 2]
    peaks = np.stack([call.max(1) for call in stored[0]]).max(0)[:, 2]
    best, middle = float(means.max()), float(np.median(means))
    rows = judge_rows(probed.sites[0], {2: Picture(2 * abs(best) + 1, 3.0), 1: Picture(-1e6, -1e6)})
    assert [row["unit"] for row in rows] == [1, 2]
    assert (rows[0]["percentile"], rows[1]["percentile"]) == (0, 100)
    if best > 0:
        assert rows[1]["ratio_to_best"] == pytest.approx((2 * best + 1) / best, rel=1e-4)
    if peaks.max() > 0:
        assert rows[1]["peak_ratio"] == pytest.approx(3.0 / peaks.max(), rel=1e-4)
    (halfway,) = judge_rows(probed.sites[0], {2: Picture(middle, 0.0)})
    (without,) = judge_rows(probed.sites[0], {2: None})
    assert without == {"unit": 2, "percentile": None, "ratio_to_best": None, "peak_ratio": None}
    slack = abs(middle) / 8 + 2**-10
    assert (
        100 * (means < middle - slack).mean() - 3 <= halfway["percentile"] <= 100 * (means < middle + slack).mean() + 3
    )
