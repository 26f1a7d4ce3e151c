"""Adam for many pictures at once, whose steps may share a part of their size over each picture.

Adam (Kingma & Ba, 1412.6980, algorithm 1) divides the gradient of every number by its own root mean square: each moves
equally far, however little the objective asks of it. For the Fourier coefficients of a picture this means that
frequencies and colours that a neuron is indifferent to grow as fast, in a random direction, as those that it answers
to: a neuron for plain dark backgrounds gets a dark picture under coloured noise. Here the divisor is

    sqrt(v) ** (1 - shared) * sqrt(mean of v over the picture) ** shared

with v Adam's second moment: shared 0 is Adam; at 1 the step has the gradient's own direction (normalised ascent with
momentum), which leaves fine patterns behind, whose gradients are small. Ours; measured:
docs/decisions/fast-recipe.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-8


def optimizer_of(
    latent: Tensor, rate: float, betas: tuple[float, float], shared: float, *, fused: bool = True
) -> torch.optim.Optimizer:
    """What moves a latent (pictures, ...) by its gradient: torch's Adam where nothing is shared.

    fused: Adam in one pass over memory, which rounds otherwise.
    """
    if not shared:
        return torch.optim.Adam([latent], lr=rate, betas=betas, eps=EPSILON, fused=fused)
    return SharedAdam(latent, rate, betas, shared)


class SharedAdam(torch.optim.Optimizer):
    """Adam of one tensor (pictures, ...), the size of whose steps is in part one for each picture.

    No picture of a batch changes another's. shared: from 0 to 1. Gradient and steps are on the latent's device, and
    nothing is waited for.
    """

    def __init__(self, latent: Tensor, rate: float, betas: tuple[float, float], shared: float) -> None:
        super().__init__([latent], {"lr": rate})
        self.betas, self.shared, self.steps = betas, shared, 0
        self.first, self.second = torch.zeros_like(latent.detach()), torch.zeros_like(latent.detach())

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        (latent,) = group["params"]
        (begin, keep), self.steps = self.betas, self.steps + 1
        self.first.lerp_(latent.grad, 1 - begin)
        self.second.mul_(keep).addcmul_(latent.grad, latent.grad, value=1 - keep)
        together = self.second.flatten(1).mean(1).view(-1, *[1] * (latent.ndim - 1))
        right = math.sqrt(1 - keep**self.steps)  # what sqrt(v) is divided by, v having begun at zero
        size = self.second.sqrt().add_(EPSILON * right).pow_(1 - self.shared)
        size.mul_((together.sqrt() + EPSILON * right) ** self.shared)
        latent.addcdiv_(self.first, size, value=-group["lr"] * right / (1 - begin**self.steps))
