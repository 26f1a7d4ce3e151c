"""Small models with random weights, and what tests of their files share."""

from __future__ import annotations

import timm
import torch

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
