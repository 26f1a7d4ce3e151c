"""`neuron-atlas check decomposition`: its figures, and what it says where there are none."""

import json

import pytest
import torch

from jobs.cli import call
from pipeline.decompose import Level, decompose
from pipeline.decompose.check import euler_error, perturb, random_pictures, sum_error
from pipeline.models import ModelRequest, load

KEYS = {
    "id", "relative_error", "heads", "heads_with_direct_effect", "euler_error_through_attention", "euler_error_gated",
}  # fmt: skip


def test_figures_of_trained_and_perturbed_models(capsys: pytest.CaptureFixture[str]):
    assert call(["check", "decomposition", "--model", "zoo/convit", "--model", "zoo/clip", "--json"]) == 0
    convit, clip = json.loads(capsys.readouterr().out)["models"]
    assert set(convit) == set(clip) == KEYS
    assert (convit["id"], convit["heads"], convit["heads_with_direct_effect"]) == ("zoo/convit", 20, 8)
    assert (clip["id"], clip["heads"], clip["heads_with_direct_effect"]) == ("zoo/clip", 16, 16)
    for found in (convit, clip):
        assert 0 < max(value for key, value in found.items() if "error" in key) < 1e-5
    assert call(["check", "decomposition", "--model", "zoo/convit", "--random-weights"]) == 0
    told = capsys.readouterr().out
    assert "heads with direct effect: 8 of 20" in told
    assert "attention sites without direct effect: 0, 1, 2" in told


def test_what_cannot_be_decomposed_is_told(capsys: pytest.CaptureFixture[str]):
    assert call(["check", "decomposition", "--model", "zoo/vit", "--images", "0"]) == 2
    assert "at least one picture" in capsys.readouterr().err
    for model, reason in {
        "timm/visformer_tiny": "no family describes the class timm.models.visformer.Visformer",
        "timm/cait_xxs24_224": "the way to the readout is not linear: it passes Gelu, ScaledDotProduct",
    }.items():
        assert call(["check", "decomposition", "--model", model, "--random-weights", "--json"]) == 2
        assert reason in capsys.readouterr().err


def test_the_errors_would_be_seen():
    """The control: a component that is left out, or counted with another norm, shows."""
    model = load(ModelRequest("zoo/vit"))
    found = decompose(model, model.normalise(random_pictures(model, 2)))
    exact = sum_error(found), euler_error(found)
    assert max(exact) < 1e-6
    found.adds_up = found.adds_up[1:]
    assert sum_error(found) > 1e-3
    assert euler_error(found) > 1e-5
    for scales in found._cache.scales.values():
        scales[0] = scales[0] * 1.001
    del found.constant
    found.adds_up = found.components
    assert sum_error(found) > 1e-5


def test_perturbed_parameters_all_move_the_representation():
    """Every parameter behind the patches takes part: none is at a value where a mistake would not show."""
    model = load(ModelRequest("zoo/vit", random_weights=True))
    before = {name: value.clone() for name, value in model.module.named_parameters()}
    perturb(model)
    for name, value in model.module.named_parameters():
        assert (value != before[name]).float().mean() > 0.99, name
    z = decompose(model, model.normalise(random_pictures(model, 1)), Level.GATED).representation
    assert bool(torch.isfinite(z).all())
