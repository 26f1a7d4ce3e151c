"""Leaving out of a graph what does not reach its result.

In CoaT and PiT the patches of the last stages never meet the class token that is read, and yet every component is
pushed through their convolutions. Which intermediate results have no gradient shows on one pass; they are cut in the
next, which changes no value and no derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Outputs(TorchFunctionMode):
    """A context in which the results of torch's functions are kept by call, or those of given calls are cut."""

    def __init__(self, cut: frozenset[int] = frozenset()) -> None:
        super().__init__()
        self.cut, self.calls = cut, 0
        self.kept: list[tuple[int, Tensor, int]] = []  # call, result, its version

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, Tensor):
            return out
        call, self.calls = self.calls, self.calls + 1
        if call in self.cut:
            return out.detach()
        if out.requires_grad and not self.cut:
            self.kept.append((call, out, out._version))
        return out

    def without_gradient(self, result: Tensor, seed: Tensor) -> frozenset[int]:
        """Numbers of the calls on whose results <seed, result> does not depend; what was changed in place counts as
        used.
        """
        whole = [(call, out) for call, out, version in self.kept if out._version == version]
        grads = _gradients(result, [out for _, out in whole], seed)
        pairs = zip(whole, grads, strict=True)
        return frozenset(call for (call, _), grad in pairs if grad is not None and not bool(grad.any()))


def _gradients(result: Tensor, inner: Sequence[Tensor], seed: Tensor) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(result, list(inner), seed, retain_graph=True, allow_unused=True)
