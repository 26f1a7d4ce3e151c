"""Small models with random weights, and what tests of their files share."""

from __future__ import annotations

import os
import runpy
import shlex
import sys

import pytest
import timm
import torch

from atlas_schema.errors import WeightsUnreadable
from pipeline.models import LoadedModel, ModelRequest, load

TINY = "timm/test_vit"  # 3 blocks of width 64, 160 px, 16-pixel patches
PIXELS = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(1))


def made(name: str = "test_vit", seed: int = 11, **options) -> torch.nn.Module:
    """A timm model whose every parameter is random."""
    torch.manual_seed(seed)
    return shaken(timm.create_model(name, **options))


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """A module with random parameters, in eval mode: none is one or zero, so that each is seen in the features."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


def body(state):
    """A state dict without the classifier."""
    return {name: value for name, value in state.items() if not name.startswith("head.")}


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def loaded(path: object, model: str = TINY, **options) -> LoadedModel:
    return load(ModelRequest(model, weights=str(path), name="mine", **options))


def assert_equal(model: LoadedModel, module: torch.nn.Module, *, logits: bool = True, pixels=PIXELS) -> None:
    """The same features, and logits: with a maximal difference of 0."""
    with torch.no_grad():
        assert (model.module.forward_features(pixels) - module.forward_features(pixels)).abs().max() == 0
        if logits:
            assert (model.module(pixels) - module(pixels)).abs().max() == 0


def refused(path, match: str) -> str:
    """The message with which a file is refused as weights of the small ViT; it names the file."""
    with pytest.raises(WeightsUnreadable, match=match) as error:
        loaded(path)
    assert os.path.basename(str(path)) in str(error.value)
    return str(error.value)


def run_told_command(command: str, folder, monkeypatch) -> None:
    """Run a command line that a message tells, as a shell would take it apart, in a folder; in this process."""
    python, flag, what, *rest = shlex.split(command.strip())
    assert python == "python"
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [what, *rest])
        if flag == "-c":
            exec(what, {"__name__": "__main__"})
        else:
            assert flag == "-m"
            runpy.run_module(what, run_name="__main__")
