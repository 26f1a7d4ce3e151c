"""Pictures by other libraries are judged as ours are: the same file, the same measures, the passes that were spent."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import tests.jobs.tiny  # noqa: F401  (the recipe of a few steps)
from benchmarks import peers, recipes
from pipeline.hooks.activations import ffn_pre_and_post
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.visualize.ascent import visualize
from pipeline.visualize.objective import respond
from pipeline.visualize.recipes import RECIPES

UNIT = 5


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(ModelRequest("zoo/vit"))


@pytest.fixture
def neuron(model: LoadedModel) -> peers.Neuron:
    return peers.Neuron(model, model.description.ffn_sites[1], UNIT, "float32")


def test_the_same_picture_is_judged_the_same_whoever_hands_it_back(neuron: peers.Neuron) -> None:
    (ours,) = visualize(neuron.model[0], neuron.site, [UNIT], RECIPES["tiny"], precision="float32")
    pixels = torch.from_numpy(ours.image.copy()).permute(2, 0, 1) / 255
    theirs = peers.handed_back(neuron, torch.rand_like(pixels), pixels, seconds=1.0)
    assert theirs.webp == ours.webp
    (own,) = recipes.made(neuron.model[0], neuron.site, [UNIT], "tiny", "float32")
    mine, other = (recipes.judged(neuron.model[0], neuron.site, [one])[0] for one in (own, theirs))
    assert {name: mine[name] for name in recipes.MEASURES} == {name: other[name] for name in recipes.MEASURES}
    assert mine["clean"] == pytest.approx(ours.activation_stored, abs=1e-5)


def test_the_start_of_a_library_counts_for_the_verdict(neuron: peers.Neuron) -> None:
    """A picture that is no better than what the library began with does not hold, or does not fire."""
    grey, noise = torch.full((3, 64, 64), 0.5), torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for picture in (grey, noise):
        made = peers.handed_back(neuron, picture, picture, seconds=1.0)
        (row,) = recipes.judged(neuron.model[0], neuron.site, [recipes.Made(UNIT, made.webp, 1e6, 1, 1.0)])
        assert row["verdict"] in ("does not", "inactive")
        before, _ = respond(neuron.model[0], neuron.site, [UNIT], picture[None])
        assert made.start == pytest.approx(float(before[0]))


def test_a_library_climbs_what_is_judged_and_its_passes_are_counted(neuron: peers.Neuron) -> None:
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    value = neuron(pictures)
    judged, _ = respond(neuron.model[0], neuron.site, [UNIT] * 3, pictures.detach())
    torch.testing.assert_close(value.detach()[:, 0], judged, atol=1e-5, rtol=1e-5)
    (slope,) = torch.autograd.grad(value.sum(), pictures)
    assert slope.abs().amax() > 0
    neuron(pictures.detach()[:1])
    assert neuron.passes == 4


def test_a_library_may_climb_what_fast_climbs(neuron: peers.Neuron) -> None:
    soft = peers.Neuron(neuron.model[0], neuron.site, UNIT, "float32", "softplus")
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    x, own = neuron.model[0].normalise(pictures), torch.full((2,), UNIT)
    before = ffn_pre_and_post(neuron.model[0], neuron.site, x, own)[0][0]
    torch.testing.assert_close(soft(pictures)[:, 0], torch.nn.functional.softplus(before).mean(1))


def test_the_middle_of_a_picture_is_what_a_crop_shows() -> None:
    picture = torch.zeros(3, 40, 40)
    picture[:, 10:30, 10:30] = 1
    assert peers.middle(picture, 0.5, 20).min() == 1
    assert peers.middle(picture, 0.5, 10).shape == (3, 10, 10)
    assert peers.middle(picture, 1.0, 40).sum() == picture.sum()


def test_fast_stands_beside_each_way_on_the_neurons_that_both_have() -> None:
    def row(value: float) -> dict[str, object]:
        return {**dict.fromkeys(recipes.MEASURES, value), "verdict": "holds", "image_steps": 46, "cpu_seconds": 1.0}

    found = [{"fast": row(2.0), "lucent": row(1.0)}, {"fast": row(1.0), "lucent": row(3.0)}, {"fast": row(1.0)}]
    found[2]["long"] = row(1.0)
    told = peers.beside(found)
    assert (told["lucent"]["neurons"], told["long"]["neurons"]) == (2, 1)
    assert told["lucent"]["fast"]["natural"]["not_lower"][0] == 0.5
    assert told["lucent"]["fast"]["natural"]["difference_over_mean"][0] == -0.25
    assert told["long"]["fast"]["natural"]["not_lower"][0] == 1.0


def test_a_difference_over_nothing_has_no_bound_and_no_number() -> None:
    """A library that leaves neurons at exactly 0: JSON knows no infinity."""
    zero, some, ours = np.zeros(4), np.array([0.0, 0.0, 0.0, 2.0]), np.ones(4)
    assert recipes.difference(zero, ours) == [None, None, None]
    value, low, high = recipes.difference(some, ours)
    assert value == pytest.approx(1.0)
    assert high is None
    assert low is None or low < 1
    assert None not in recipes.difference(ours, zero)


def test_a_missing_library_is_said_in_a_sentence_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "horama", None)
    with pytest.raises(SystemExit, match=r"horama cannot be imported.*pip install horama==0.3.0 torch-lucent==0.1.8"):
        peers.installed()


@pytest.mark.parametrize("at", range(6))
def test_libraries_draw_a_picture_of_the_models_size_twice_the_same(neuron: peers.Neuron, at: int) -> None:
    why = "is not installed: no picture of another library was made"
    pytest.importorskip("horama", reason=f"horama {why}")
    pytest.importorskip("lucent.optvis.render", reason=f"torch-lucent {why}")
    way, model = peers.peer_ways(None)[0][at], neuron.model[0]
    (first,), (again,) = (way.make(model, neuron.site, [UNIT], "float32") for _ in range(2))
    assert first.webp == again.webp
    assert first.image_steps == peers.passes_of_fast(neuron.site)
    (row,) = recipes.judged(model, neuron.site, [first])
    assert np.isfinite([row[name] for name in recipes.MEASURES]).all()
    assert row["clean"] != first.start
