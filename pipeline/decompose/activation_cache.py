"""The activations of one plain forward that a replay needs: heads, FFN outputs, norm statistics, queries, keys, gates.

Everything is kept a call, not a module: CoaT calls one FFN at three scales.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from atlas_schema.errors import BadConfig, UnknownFamily
from pipeline.decompose.attention import FrozenMap, QueriesAndKeys, as_given, frozen_maps, open_up, output_projection
from pipeline.hooks.frozen import centred, is_norm, reciprocal_deviation, stub
from pipeline.models import FfnSite, LoadedModel
from pipeline.models.families import convolution_maps
from pipeline.models.representation import representation

# FFNs that multiply a map by an activation function's output: this output, not a ratio, is their gate
_MULTIPLIED = ("GluMlp", "SwiGLU", "GeGluMlp")


@dataclass
class ActivationCache:
    """What one forward computed. Lists are calls in their order, keys are module paths."""

    representation: Tensor  # (images, d)
    heads: dict[str, list[Tensor]] = field(default_factory=dict)  # attention: the input of its output projection
    ffns: dict[str, list[Tensor]] = field(default_factory=dict)  # FFN: its output
    convolutions: dict[str, list[Tensor]] = field(default_factory=dict)  # convolution block: what it adds
    scales: dict[str, list[Tensor]] = field(default_factory=dict)  # norm: 1 / deviation, one number a token
    maps: dict[int, FrozenMap] = field(default_factory=dict)  # id of a weight: what of its outputs is held
    queries_and_keys: dict[str, list[Tensor]] = field(default_factory=dict)  # by FrozenMap.path
    gates: dict[str, list[Tensor]] = field(default_factory=dict)  # activation function: the factor it stands for


@torch.no_grad()
def cache_activations(model: LoadedModel, x: Tensor, *, attention: bool, gates: bool) -> ActivationCache:
    """The activations of one forward of the model.

    x: normalised; attention: with queries and keys; gates: with those of FFNs. UnknownFamily where an attention's
    output is not the projection of its heads, or a part cannot be held; BadConfig below float32.
    """
    _check_precision(model, x)
    cache = ActivationCache(torch.empty(0))
    if attention:
        for site in model.description.attention_sites:
            cache.maps |= frozen_maps(site.path, model.module.get_submodule(site.path))
    with ExitStack() as stack:
        for site in model.description.attention_sites:
            _cache_heads(stack, cache, site.path, model.module.get_submodule(site.path))
        for ffn in model.description.ffn_sites:
            _cache_output(stack, cache.ffns.setdefault(ffn.path, []), model.module.get_submodule(ffn.path))
            if gates:
                _cache_gates(stack, cache, ffn, model.module.get_submodule(ffn.path))
        for path in convolution_maps(model.module):
            _cache_output(stack, cache.convolutions.setdefault(path, []), model.module.get_submodule(path))
        for path, module in model.module.named_modules():
            if is_norm(module):
                _cache_scales(stack, cache.scales.setdefault(path, []), module)
        if attention:
            stack.enter_context(QueriesAndKeys(cache.maps, cache.queries_and_keys, replay=False))
        cache.representation = representation(model, x)
    return cache


def live_heads(model: LoadedModel, x: Tensor) -> dict[str, list[Tensor]]:
    """The heads of one forward, as `ActivationCache` has them, with a gradient to x. Raises as `cache_activations`."""
    _check_precision(model, x)
    cache = ActivationCache(torch.empty(0))
    with ExitStack() as stack:
        for site in model.description.attention_sites:
            _cache_heads(stack, cache, site.path, model.module.get_submodule(site.path))
        representation(model, x)
    return cache.heads


def _check_precision(model: LoadedModel, x: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(x.device.type):
        raise BadConfig(
            f"{model.description.slug}: a decomposition is exact in float32 or float64 only, not in {x.dtype} or under "
            "autocast. Load the model with dtype=torch.float32."
        )


def _cache_heads(stack: ExitStack, cache: ActivationCache, path: str, module: nn.Module) -> None:
    calls = cache.heads.setdefault(path, [])
    projected: list[Tensor] = []

    def keep(part: nn.Module, args: Any, out: Tensor) -> None:
        calls.append(args[0])
        projected.append(out)

    def check(part: nn.Module, args: Any, out: Any) -> None:
        out = out[0] if isinstance(out, tuple) else out
        same = projected and as_given(projected[-1], args[0] if args else out)
        if not isinstance(same, Tensor) or out.shape != same.shape or out.data_ptr() != same.data_ptr():
            raise UnknownFamily(
                f"{path} ({type(module).__name__}): its output is not what its output projection makes of its heads. "
                "Such an attention is not decomposed."
            )

    open_up(stack, path, module)
    stack.callback(output_projection(module).register_forward_hook(keep).remove)
    stack.callback(module.register_forward_hook(check).remove)


def _cache_output(stack: ExitStack, calls: list[Tensor], module: nn.Module) -> None:
    stack.callback(module.register_forward_hook(lambda m, args, out: calls.append(out)).remove)


def _cache_scales(stack: ExitStack, calls: list[Tensor], norm: nn.Module) -> None:
    def keep(module: nn.Module, args: Any, out: Tensor) -> None:
        calls.append(reciprocal_deviation(norm, centred(norm, args[0])))

    stack.callback(norm.register_forward_hook(keep).remove)


def _cache_gates(stack: ExitStack, cache: ActivationCache, site: FfnSite, module: nn.Module) -> None:
    path = gate_path(site)
    act = module.get_submodule(path.removeprefix(f"{site.path}."))
    weight = next(module.parameters())
    if not multiplied(module) and bool(act(torch.zeros(1, dtype=weight.dtype, device=weight.device)).any()):
        raise UnknownFamily(
            f"{path} ({type(act).__name__}) is not 0 at 0: it is no gate on its input, and the level 'gated' does "
            "not exist."
        )
    calls = cache.gates.setdefault(path, [])

    def forward(z: Tensor) -> Tensor:
        before = z.clone() if getattr(act, "inplace", False) else z
        out = real(z)
        ratio = out / torch.where(before == 0, torch.ones_like(before), before)
        calls.append(out if multiplied(module) else ratio)
        return out

    real = stub(stack, act, forward)


def gate_path(site: FfnSite) -> str:
    """Path of an FFN's activation function."""
    return site.act or f"{site.path}.act"


def multiplied(ffn: nn.Module) -> bool:
    """Whether the FFN multiplies the output of its activation function by another map of the same tokens."""
    return type(ffn).__name__ in _MULTIPLIED
