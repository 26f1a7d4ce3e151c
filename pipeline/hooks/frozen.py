"""Parts of a network held still: the norms' statistics, and modules that answer what they are given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


def is_norm(module: nn.Module) -> bool:
    """Whether a module divides tokens by a statistic of their own (batch norms in eval mode are linear already)."""
    return isinstance(module, nn.LayerNorm | nn.RMSNorm) or type(module).__name__.startswith("RmsNorm")


def _axes(norm: Any) -> tuple[int, ...]:
    return (1,) if channels_first(norm) else tuple(range(-len(norm.normalized_shape), 0))


def channels_first(norm: Any) -> bool:
    """Whether a norm takes maps with channels on axis 1 (timm's LayerNorm2d and its like)."""
    return type(norm).__name__.endswith("2d")


def centred(norm: Any, x: Tensor) -> Tensor:
    """What a norm scales: its input less the mean, if it takes one."""
    return x - x.mean(_axes(norm), keepdim=True) if isinstance(norm, nn.LayerNorm) else x


def reciprocal_deviation(norm: Any, centre: Tensor) -> Tensor:
    """1 / sqrt(mean square + epsilon) of a centred input, one number a token."""
    return (centre.square().mean(_axes(norm), keepdim=True) + epsilon_of(norm, centre.dtype)).rsqrt()


def gain(norm: Any) -> Tensor | float:
    """The norm's weight in the shape of its output; 1 where it has none."""
    return _shaped(norm, getattr(norm, "weight", None), 1.0)


def shift(norm: Any) -> Tensor | float:
    """The norm's bias in the shape of its output; 0 where it has none."""
    return _shaped(norm, getattr(norm, "bias", None), 0.0)


def _shaped(norm: Any, parameter: Tensor | None, absent: float) -> Tensor | float:
    if parameter is None:
        return absent
    return parameter[:, None, None] if channels_first(norm) else parameter


def epsilon_of(norm: Any, dtype: torch.dtype) -> float:
    """What a norm adds to the variance; torch's RMSNorm takes that of the number format where it is given none."""
    return float(torch.finfo(dtype).eps if norm.eps is None else norm.eps)


def stub(stack: ExitStack, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Until the stack closes, calls of the module are answered by `forward`; its real one is returned."""
    real: Callable[..., Any] = module.forward
    before = module.__dict__.get("forward")
    module.forward = forward

    def restore() -> None:
        if before is None:
            module.__dict__.pop("forward")
        else:
            module.forward = before

    stack.callback(restore)
    return real
