"""Mean ablation: equal to a hook that sets the activation in a whole forward, image by image, in every family."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.effects.ablation import (
    AnsweredImages,
    ablation_effects,
    correct_output,
    exact_form,
    falls_by_replay,
    matter_most,
)
from pipeline.effects.direct import SiteEffect
from pipeline.effects.last_norm import falls_behind_last_norm, has_formula
from pipeline.effects.readout import columns, readout_of
from pipeline.effects.rows import Ablations, EffectSettings, ablated_rows, written_rows
from pipeline.effects.written import DirectEffects
from pipeline.label.embedder import load_embedder
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, probe
from pipeline.zoo import ZOO
from pipeline.zoo.captions import caption
from pipeline.zoo.train import WIDTHS, pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.pipeline.close import assert_close
from tests.pipeline.test_families import SMALL, small
from tests.pipeline.test_readout import images_for, readout_for

# members whose last FFN is followed by more than norms and linear maps
WITHOUT_FORMULA = {
    "vit, no class token, map pooling",  # attention pools
    "open_clip around timm",
    "cait",  # the class token gathers patches by attention
    "sam",  # a convolution between two norms
    "maxvit, hidden layer in the head",  # an activation function before the classifier
}


@torch.no_grad()
def by_hook(model: LoadedModel, site, units, x, answers, target, readout) -> torch.Tensor:
    """(units, images): falls, from one whole forward a unit."""
    base = correct_output(model, readout, x, answers)
    falls = []
    for unit, value in zip(units, target, strict=True):

        def ablate(module, args, unit=unit, value=value):
            hidden = args[0].clone()
            (hidden[:, unit] if site.layout == "NCHW" else hidden[..., unit]).fill_(value)
            return (hidden,)

        hook = model.module.get_submodule(site.post).register_forward_pre_hook(ablate)
        falls.append(base - correct_output(model, readout, x, answers))
        hook.remove()
    return torch.stack(falls)


@pytest.mark.parametrize("name", SMALL)
def test_replay_and_formula_equal_a_hooked_forward(name):
    model = small(name)
    x01, readout = images_for(model, 3), readout_for(model)
    x = model.normalise(x01)
    answers = torch.tensor([[0, 3], [1, 1], [2, 0]])
    sites = model.description.ffn_sites
    for site in {0: sites[0], len(sites) // 2: sites[len(sites) // 2], len(sites) - 1: sites[-1]}.values():
        units = torch.tensor([1, 0, site.width - 1])
        target = torch.tensor([0.3, -0.1, 0.7], dtype=torch.float64)
        truth = by_hook(model, site, units, x, answers, target, readout)
        assert truth.abs().max() > 1e-7
        with torch.no_grad():
            replayed = falls_by_replay(model, site, units, x, answers, target, readout, copies=6)
        torch.testing.assert_close(replayed, truth, rtol=1e-8, atol=1e-11)
        found = falls_behind_last_norm(model, site, units, x, answers, target, readout)
        assert (found is not None) == (site == sites[-1] and name not in WITHOUT_FORMULA)
        assert has_formula(model, site, x, answers, readout) == (found is not None)
        if found is not None:
            torch.testing.assert_close(found, truth, rtol=1e-8, atol=1e-11)
    assert not any("forward" in part.__dict__ for part in model.module.modules())


@pytest.mark.parametrize("name", SMALL)
def test_the_formula_is_found_in_float32_as_in_float64(name):
    model, answers = small(name), torch.tensor([[0, 3], [1, 1]])
    single = replace(model, module=deepcopy(model.module).float())
    x, site, readout = model.normalise(images_for(model, 2)), model.description.ffn_sites[-1], readout_for(model)
    units, target = torch.arange(site.width), torch.linspace(-0.2, 0.5, site.width, dtype=torch.float64)
    whole = falls_behind_last_norm(model, site, units, x, answers, target, readout)
    found = falls_behind_last_norm(single, site, units, x.float(), answers, target.float(), readout)
    assert has_formula(single, site, x.float(), answers, readout) == (whole is not None) == (found is not None)
    if whole is not None:
        assert_close(found, whole, 1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_only_a_bounded_number_of_neurons_is_ablated_by_running_the_network(name, monkeypatch):
    """In the last layer too: what follows decides, not that it is the last."""
    model = small(name)
    x01, readout = images_for(model, 3), readout_for(model)
    site = model.description.ffn_sites[-1]
    membership = Membership(torch.ones(3, dtype=torch.bool), torch.full((3,), -1), ())
    sums = ModelProbe.empty(model.description, ProbeSettings(), membership, range(3), torch.device("cpu"))
    probed = probe(model, [(range(3), x01)], sums).sites[site.layer]
    replayed = []

    def counted(model, site, units, *given):
        replayed.append(len(units))
        return falls_by_replay(model, site, units, *given)

    monkeypatch.setattr("pipeline.effects.ablation.falls_by_replay", counted)
    images = [AnsweredImages(x01, torch.tensor([[0, 3], [1, 1], [2, 0]]))]
    shared = Ablations(readout, images, EffectSettings(measured_units=5))
    rows = ablated_rows(model, site, range(site.width), probed, shared)
    monkeypatch.setattr("pipeline.effects.last_norm._trace", None)  # what no neuron changes is not done again
    assert ablated_rows(model, site, range(site.width), probed, shared) == rows
    del replayed[1:]
    without = name in WITHOUT_FORMULA
    assert replayed == ([5] if without else [])
    assert len(rows) == (5 if without else site.width)
    assert {row["ablation_kind"] for row in rows.values()} == {"measured" if without else "exact"}
    means, std = (torch.from_numpy(probed.moments.finalize()[key]) for key in ("token_mean", "token_std"))
    if without:
        assert list(rows) == matter_most(model, site, std, 5)
    some = list(rows)[::7]
    truth = by_hook(model, site, some, model.normalise(x01), images[0].answers, means.float()[some], readout)
    effects = torch.tensor([rows[unit]["ablation_effect"] for unit in some], dtype=truth.dtype)
    torch.testing.assert_close(effects, truth.mean(1), rtol=1e-6, atol=1e-9)


def answered(name: str, count: int):
    """A zoo model, its readout, and scenes with all six true attributes, or for the CLIP the true caption's text."""
    batch = scenes(HELD_OUT_SEED, range(count))
    model = load(ModelRequest(f"zoo/{name}"))
    if name == "clip":
        captions = [caption(labels) for labels in batch.labels]
        texts = load_embedder(ModelRequest("zoo/clip")).texts(captions)
        return model, readout_of(model, texts=(captions, texts)), pixels(batch), texts
    starts = np.cumsum([0, *WIDTHS[:-1]])
    return model, readout_of(model), pixels(batch), torch.from_numpy(batch.labels + starts)


@pytest.mark.parametrize("name", ZOO)
def test_last_block_of_every_family_is_exact(name):
    """Every neuron of the last FFN, in float32, within 1e-5 of a hooked forward on each image."""
    model, readout, x01, answers = answered(name, 8)
    site = model.description.ffn_sites[-1]
    means = torch.linspace(-0.2, 0.5, site.width)
    images = [AnsweredImages(x01[:5], answers[:5]), AnsweredImages(x01[5:], answers[5:])]
    form = exact_form(model, site, images, readout)
    found = ablation_effects(model, site, range(site.width), images, means, readout, form=form)
    assert (found.kind, found.images) == ("exact", 8)
    some = torch.arange(0, site.width, 7)
    truth = by_hook(model, site, some, model.normalise(x01), answers, means[some], readout).double()
    assert_close(found.effect[some], truth.mean(1), 5e-4, at_most=1e-5)
    assert_close(found.standard_error[some], truth.std(1) / 8**0.5, 5e-4, at_most=1e-5)
    assert np.abs(found.effect).max() > 1e-3


@pytest.mark.parametrize("name", ["vit", "coat", "clip"])
def test_other_blocks_are_measured_whatever_the_batches(name):
    model, readout, x01, answers = answered(name, 6)
    site = model.description.ffn_sites[1]
    means = torch.full((site.width,), 0.1)
    units = [3, 0, 5]

    def effects(*slices, **options):
        batches = [AnsweredImages(x01[s], answers[s]) for s in slices]
        return ablation_effects(model, site, units, batches, means, readout, **options)

    whole = effects(slice(0, 6))
    assert whole.kind == "measured"
    truth = by_hook(model, site, units, model.normalise(x01), answers, means[units], readout).double()
    assert_close(whole.effect, truth.mean(1), 5e-4, at_most=1e-5)
    assert_close(whole.standard_error, truth.std(1) / 6**0.5, 5e-4, at_most=1e-5)
    for other in (
        effects(slice(0, 6), copies=1),
        effects(slice(0, 2), slice(2, 6)),
        effects(slice(4, 6), slice(0, 4)),
    ):
        assert other.images == 6
        assert_close(other.effect, whole.effect, 5e-4, at_most=2e-6)
        assert_close(other.standard_error, whole.standard_error, 5e-4, at_most=2e-6)
    assert effects(slice(0, 1)).standard_error is None


def test_a_neuron_that_writes_nothing_has_no_effect_and_matters_least():
    model, readout, x01, answers = answered("vit", 4)
    means = torch.zeros(128)
    for layer in (1, 3):
        site = model.description.ffn_sites[layer]
        model.module.get_submodule(site.post).weight.data[:, 9] = 0
        images = [AnsweredImages(x01, answers)]
        form = exact_form(model, site, images, readout)
        assert (form is not None) == (layer == 3)
        found = ablation_effects(model, site, [9, 8], images, means, readout, form=form)
        assert found.effect[0] == 0
        assert found.effect[1] != 0
        std = torch.ones(128)
        assert matter_most(model, site, std, 128)[-1] == 9
        moved = columns(model, site).norm(dim=0)
        assert matter_most(model, site, std, 1) == [int(moved.argmax())]
        std[4] = 1000
        assert matter_most(model, site, std, 2)[0] == 4


def test_mistakes_are_named():
    model, readout, x01, answers = answered("vit", 2)
    site = model.description.ffn_sites[0]
    means = torch.zeros(site.width)
    images = [AnsweredImages(x01, answers)]
    with pytest.raises(BadConfig, match="no images"):
        ablation_effects(model, site, [0], [], means, readout)
    clip = load(ModelRequest("zoo/clip"))
    with pytest.raises(BadConfig, match=r"zoo-clip.*texts"):
        ablation_effects(clip, clip.description.ffn_sites[0], [0], images, means, readout_of(clip))
    with pytest.raises(NotFinite, match="damaged"):
        ablation_effects(model, site, [0], images, means * torch.nan, readout)


def test_rows_of_what_is_written_name_what_is_raised_then_what_is_lowered():
    effect = SiteEffect(0, torch.tensor([[3.0, 0.5], [-2.0, -1.0], [1.0, -3.0], [0.0, -2.0], [5.0, 0.0]]))
    rows = written_rows(DirectEffects.of_sites([effect], 2), 0, list("abcde"), [0, 1])
    assert [[(one["name"], one["logit"]) for one in row["writes_to"]] for row in rows] == [
        [("e", 5.0), ("a", 3.0), ("d", 0.0), ("b", -2.0)],
        [("a", 0.5), ("e", 0.0), ("d", -2.0), ("c", -3.0)],
    ]
    nothing = written_rows(DirectEffects.of_sites([SiteEffect(0, None, "no readout")], 2), 0, [], [3])
    assert nothing == [{"unit": 3, "writes_to": None, "effect_note": "no readout"}]
