"""Every architecture is described, or refused in words; docs/coverage.md says which."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from atlas_schema.errors import AtlasError, BadConfig, UnknownFamily
from pipeline.models import ModelRequest, describe, from_module
from pipeline.models.coverage import (
    MEANING,
    NO_ATTENTION,
    NO_FFN,
    ONE_LITERAL,
    OTHER_FORM,
    architectures,
    line_of,
    verdict_on,
)
from pipeline.models.description import unwrapped
from tests.pipeline.test_families import _vit

PAGE = (Path(__file__).parents[2] / "docs/coverage.md").read_text()
EVERY = architectures()


def section(kind: str) -> str:
    title = f"## Refused: {kind}" if kind else "## Accepted"
    return PAGE.split(f"{title}\n")[1].split("\n## ")[0]


def test_the_page_lists_every_architecture_once() -> None:
    assert len(EVERY) > 1400
    lines = PAGE.split("## Accepted")[1]
    assert [model for model in EVERY if lines.count(f"`{model}`") != 1] == []


@pytest.mark.parametrize("model", EVERY[7::53])
def test_the_page_is_not_stale(model: str) -> None:
    verdict = verdict_on(model)
    own = section(verdict.kind)
    assert f"`{model}`" in own, "python -m pipeline.models.coverage docs/coverage.md"
    if line_of(verdict):
        assert line_of(verdict) in own.splitlines()


def test_kinds_of_refusal() -> None:
    assert verdict_on("timm/resnet18").kind == NO_FFN
    assert verdict_on("timm/mixer_s32_224").kind == NO_ATTENTION
    assert set(MEANING) == {NO_FFN, NO_ATTENTION, ONE_LITERAL, OTHER_FORM}


@pytest.mark.parametrize("model", ["timm/efficientvit_m0", "timm/levit_128s", "timm/botnet26t_256", "open_clip/RN50"])
def test_a_model_of_another_form_is_refused_in_words(model: str) -> None:
    with pytest.raises(AtlasError, match="no family describes the class"):
        describe(ModelRequest(model))


def test_a_model_for_pictures_of_one_channel_is_refused_in_words() -> None:
    with pytest.raises(BadConfig, match="takes pictures of 1 channels, and images here have three"):
        from_module(_vit(in_chans=1), name="grey", input_size=(32, 32))


def test_a_model_with_adapters_is_refused_with_the_way_out() -> None:
    class Adapted(nn.Module):
        """As peft wraps a linear map."""

        def __init__(self, base_layer: nn.Linear) -> None:
            super().__init__()
            self.base_layer = base_layer
            self.lora_A = nn.Linear(base_layer.in_features, 2)
            self.lora_B = nn.Linear(2, base_layer.out_features)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base_layer(x) + self.lora_B(self.lora_A(x))

    module = _vit()
    module.blocks[1].mlp.fc2 = Adapted(module.blocks[1].mlp.fc2)
    with pytest.raises(BadConfig, match=r"first at blocks\.1\.mlp\.fc2\. Merge them .*merge_and_unload"):
        from_module(module, name="adapted", input_size=(32, 32))


def test_a_foreign_layer_in_an_ffn_is_refused_in_words() -> None:
    module = _vit()
    module.blocks[1].mlp.fc2 = nn.Bilinear(4, 4, 4)
    with pytest.raises(UnknownFamily, match="A module of the class Bilinear stands where"):
        from_module(module, name="odd", input_size=(32, 32))


def test_wrappers_around_a_model_are_taken_off() -> None:
    module = _vit()
    assert unwrapped(module) is module
    assert unwrapped(nn.DataParallel(torch.compile(module))) is module
    assert unwrapped(torch.compile(nn.DataParallel(module))) is module


def test_a_wrapped_module_of_ones_own_is_the_module() -> None:
    module = timm.create_model("vit_tiny_patch16_224", depth=1).eval()
    plain = from_module(module, name="own", input_size=(224, 224))
    for wrapped in (nn.DataParallel(module), torch.compile(module)):
        found = from_module(wrapped, name="own", input_size=(224, 224))
        assert (found.module, found.fingerprint) == (module, plain.fingerprint)
