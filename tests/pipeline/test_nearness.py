"""Is a picture nearer to its own neuron's crops than to others'? Places, the bound, and what is told by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.nearness import Excited, candidates, colours, own_place, place_of_crops, strongest_patches, waves
from pipeline.models import ModelRequest, load


def test_a_query_that_is_its_own_candidate_with_some_noise_is_ahead_of_all_others() -> None:
    draw = torch.Generator().manual_seed(0)
    references = torch.randn(200, 64, generator=draw)
    queries = references[:20] + 0.3 * torch.randn(20, 64, generator=draw)
    assert own_place(queries, references).tolist() == [1.0] * 20


def test_queries_that_have_nothing_to_do_with_candidates_lie_in_the_middle() -> None:
    draw = torch.Generator().manual_seed(1)
    places = own_place(torch.randn(400, 32, generator=draw), torch.randn(500, 32, generator=draw))
    assert places.mean().item() == pytest.approx(0.5, abs=0.045)  # three standard errors


def test_what_all_queries_share_does_not_count() -> None:
    draw = torch.Generator().manual_seed(2)
    references = torch.randn(50, 16, generator=draw)
    queries = references[:10] + 0.2 * torch.randn(10, 16, generator=draw)
    style = 100 * torch.ones(16)
    assert torch.equal(own_place(queries, references), own_place(queries + style, references))


def test_ties_count_half() -> None:
    references = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert own_place(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), references)[0].item() == pytest.approx(2.5 / 3)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        own_place(torch.full((2, 3), torch.nan), torch.zeros(4, 3))


def test_the_photograph_of_the_crop_that_asks_counts_for_no_candidate() -> None:
    """Candidate 1 shares its strongest photograph with candidate 0: with it, its crops would be as near as 0's own."""
    draw = torch.Generator().manual_seed(3)
    tastes = torch.randn(40, 24, generator=draw)
    crops = tastes + 0.4 * torch.randn(9, 40, 24, generator=draw)
    images = torch.arange(9 * 40).view(9, 40)
    alone = place_of_crops(crops, images, 10)
    assert alone.tolist() == [1.0] * 10
    same = crops.clone()
    same[:8, 1] = 3 * crops[0, 0]  # what candidate 1 is, but for one crop, is that photograph
    shared = images.clone()
    shared[:8, 1] = images[0, 0]
    assert place_of_crops(same, shared, 10)[0] == 1.0
    assert place_of_crops(same, images, 10)[0] < 1.0


def test_strongest_crops_are_of_the_images_and_windows_with_the_highest_patches() -> None:
    peaks = torch.tensor([[0.1, 3.0], [2.0, 1.0], [1.0, 2.0], *[[0.0, 0.0]] * 8])
    windows = torch.tensor([[4, 1], [7, 0], [2, 8], *[[0, 0]] * 8])
    excited = Excited.by(peaks, windows)
    assert excited.images[:3].T.tolist() == [[1, 2, 0], [0, 2, 1]]
    assert excited.windows[:3].T.tolist() == [[7, 2, 4], [1, 8, 0]]
    assert excited.peak.tolist() == [2.0, 3.0]
    views = torch.arange(11 * 10).view(11, 10, 1).float()
    assert excited.crops(views)[0, :, 0].tolist() == [10 * 1 + 8, 10 * 0 + 2]


def test_candidates_begin_with_the_chosen_and_leave_out_what_no_image_excites() -> None:
    peak = torch.ones(60)
    peak[::2] = -1.0
    excited = Excited(torch.zeros(9, 60, dtype=torch.int64), torch.zeros(9, 60, dtype=torch.int64), peak)
    found = candidates(excited, [5, 1], 3)
    assert found[:2] == [5, 1]
    assert sorted(found) == list(range(1, 60, 2))


def test_the_window_of_the_strongest_patch_is_where_a_neuron_of_the_zoo_fires() -> None:
    """Half of a picture is what excites a neuron, the other half grey: its window lies in the half that excites.

    Attention carries some of it to the other half, so not for all; by chance it would be one in three.
    """
    model = load(ModelRequest("zoo/vit"))
    draw = np.random.default_rng(0)
    noise = torch.from_numpy(draw.random((3, 64, 64), np.float32))
    grey = torch.full((3, 64, 64), 0.5)
    left, right = grey.clone(), grey.clone()
    left[:, :, :24], right[:, :, 40:] = noise[:, :, :24], noise[:, :, 40:]
    peak, window = strongest_patches(model, [(range(3), torch.stack([grey, left, right]))], 3)[0]
    lively = (peak[1] > 2 * peak[0]) & (peak[2] > 2 * peak[0])
    assert lively.sum() > 50
    assert (window[1, lively] % 3 == 0).float().mean() > 0.85
    assert (window[2, lively] % 3 == 2).float().mean() > 0.85


def test_colours_tell_a_plain_colour_and_waves_its_stripes() -> None:
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0] = 1.0
    assert colours(red)[0].argmax() == 4 * 25
    assert colours(red)[0].square().sum().item() == pytest.approx(1.0)
    between = torch.full((1, 3, 64, 64), 0.125)  # half-way between the two darkest of five
    assert colours(between)[0].nonzero()[:, 0].tolist() == [0, 1, 5, 6, 25, 26, 30, 31]
    place = torch.arange(64.0)
    fine = (0.5 + 0.5 * torch.cos(2 * torch.pi * 24 / 64 * place))[None, :].expand(64, 64)  # from left to right
    coarse = (0.5 + 0.5 * torch.cos(2 * torch.pi * 3 / 64 * place))[:, None].expand(64, 64)  # from top to bottom
    told = waves(torch.stack([fine, coarse])[:, None].expand(-1, 3, -1, -1))
    assert told.shape == (2, 32)
    assert torch.isfinite(told).all()
    assert told.argmax(1).tolist() == [8 * 0 + 0, 8 * 3 + 4]
