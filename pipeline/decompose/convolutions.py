"""Convolutions as functions of their input alone, so that a derivative of a derivative costs one convolution.

A component is pushed forward by differentiating a vector-Jacobian product. For a convolution torch's own second
derivative finds what would change its weight besides, and goes through its groups one at a time: as many calls as
channels for the positional convolutions of Twins and CoaT. As a map of its input it is its own second derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_input

from pipeline.hooks.frozen import stub


@dataclass(frozen=True)
class _Map:
    """A convolution as an affine map; its weight and bias are held."""

    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def transposed(self, shape: torch.Size, y: Tensor) -> Tensor:
        """The adjoint of the linear part of `forward`, for inputs of a shape."""
        return conv2d_input(shape, self.weight, y.contiguous(), self.stride, self.padding, self.dilation, self.groups)


class LinearConvolution(torch.autograd.Function):
    """A convolution as a function of its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, made: _Map) -> Tensor:
        ctx.made, ctx.shape = made, x.shape
        return made.forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return LinearConvolutionTransposed.apply(grads[0], ctx.made, ctx.shape), None  # type: ignore[no-untyped-call]


class LinearConvolutionTransposed(torch.autograd.Function):
    """The adjoint of `LinearConvolution`, as a function of its output."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, made: _Map, shape: torch.Size) -> Tensor:
        ctx.made = made
        return made.transposed(shape, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return LinearConvolution.apply(grads[0], replace(ctx.made, bias=None)), None, None  # type: ignore[no-untyped-call]


def linear_convolutions(stack: ExitStack, model: nn.Module, but: Container[int]) -> None:
    """Until the stack closes, a model's convolutions are functions of their inputs alone; but those of some weights, by
    their ids.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and id(module.weight) not in but and _plain(module):
            stub(stack, module, _linear(module))


def _plain(module: nn.Conv2d) -> bool:
    return module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _linear(module: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    bias = None if module.bias is None else module.bias.detach()
    made = _Map(module.weight.detach(), bias, module.stride, module.padding, module.dilation, module.groups)

    def forward(x: Tensor) -> Tensor:
        # as many calls of torch's functions either way, by whose numbers `pruning` knows them
        out: Tensor = LinearConvolution.apply(x, made) if x.requires_grad else made.forward(x)  # type: ignore[no-untyped-call]
        return out

    return forward
