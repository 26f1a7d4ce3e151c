"""A device that computes other numbers than the CPU is found before anything is computed on it."""

from __future__ import annotations

import copy
import gc
import weakref
from dataclasses import replace

import pytest
import torch

from atlas_schema.errors import DeviceWrong
from jobs.events import Scope
from jobs.worker import fault_of
from pipeline.hooks import device_check
from pipeline.hooks.device_check import MOST, deviation, require_sound
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.device import forget_casts, in_precision


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(ModelRequest("zoo/vit"))


def with_weight(model: LoadedModel, change: float) -> LoadedModel:
    """As a device would have it that gets one matrix of the third block wrong."""
    module = copy.deepcopy(model.module)
    weight = module.get_submodule("blocks.2.mlp.fc1").weight
    weight.data += change * weight.data.std() * torch.randn(weight.shape, generator=torch.manual_seed(0))
    return replace(model, module=module)


def test_the_layer_that_is_wrong_is_named(model: LoadedModel) -> None:
    assert deviation(model, model) == (0.0, 0)
    rounded = replace(model, module=copy.deepcopy(model.module).to(torch.bfloat16).float())
    assert 0 < deviation(rounded, model)[0] < MOST, "rounding is no fault"
    off, layer = deviation(with_weight(model, 0.5), model)
    assert off > MOST
    assert layer >= 2
    assert deviation(with_weight(model, float("nan")), model) == (float("inf"), 2)


def test_a_worker_on_such_a_device_is_to_blame_and_no_unit(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` stands for the device: what is compared with the CPU is what a wrong one would give."""
    require_sound(model)  # a CPU is what others are compared with
    elsewhere = replace(model, module=copy.deepcopy(model.module), device=torch.device("meta"))
    wrong = with_weight(model, 0.5)
    monkeypatch.setattr(device_check, "deviation", lambda one, reference: deviation(wrong, reference))
    with pytest.raises(
        DeviceWrong, match=r"zoo-vit: meta on .* off by .* at FFN layer [23], expected at most 0\.02"
    ) as raised:
        require_sound(elsewhere)
    assert fault_of(raised.value).scope is Scope.WORKER


def test_a_model_in_another_precision_is_a_copy_of_it_with_cast_weights_and_is_let_go_of_when_told():
    model = load(ModelRequest("zoo/swin"))
    model.module.register_buffer("beside", torch.arange(3), persistent=False)
    expected = copy.deepcopy(model.module).to(torch.bfloat16)
    cast = in_precision(model, "bfloat16").module
    assert in_precision(model, "bfloat16").module is cast
    assert {name: (t.dtype, t.requires_grad) for name, t in cast.named_parameters()} == {
        name: (t.dtype, t.requires_grad) for name, t in expected.named_parameters()
    }
    buffers, wanted = dict(cast.named_buffers()), dict(expected.named_buffers())
    assert buffers.keys() == wanted.keys() >= {"beside"}
    for name, tensor in (*cast.named_parameters(), *buffers.items()):
        assert torch.equal(tensor, {**dict(expected.named_parameters()), **wanted}[name]), name
    assert {t.dtype for t in model.module.parameters()} == {torch.float32}, "the model itself is as it was"
    kept = weakref.ref(cast)
    del cast, buffers, tensor
    assert kept() is not None
    forget_casts()
    gc.collect()
    assert kept() is None
