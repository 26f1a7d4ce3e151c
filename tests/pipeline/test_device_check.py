"""A device that computes other numbers than the CPU is found before anything is computed on it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from atlas_schema.errors import DeviceWrong
from jobs.loop import Scope
from jobs.worker import fault_of
from pipeline.hooks import device_check
from pipeline.hooks.device_check import MOST, deviation, require_sound
from pipeline.models import LoadedModel, ModelRequest, load


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
