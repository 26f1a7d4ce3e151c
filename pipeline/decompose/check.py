"""How exact the decomposition of a model is: residuals of its three levels, and the reach of its heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.decompose.components import Decomposition, Level, decompose, relative
from pipeline.models import LoadedModel

PERTURBATION = 0.1
"""Standard deviation of what `perturb` adds, relative to the parameter's own where that is larger than 0."""


@dataclass(frozen=True)
class Check:
    """How exact the decomposition of a model is. Errors are the largest over images.

    relative_error: length of (sum of all components less the representation) over the representation's, level direct
    euler_error_*: |sum of contributions along a random direction less the representation's| over both lengths
    reach: for each attention site by its layer, whether a head reaches the representation at the level direct
    """

    id: str
    relative_error: float
    heads: int
    heads_with_direct_effect: int
    euler_error_through_attention: float
    euler_error_gated: float
    reach: dict[int, tuple[bool, ...]]


def check_decomposition(model: LoadedModel, x01: Tensor) -> Check:
    """The figures of a model on some pictures, x01: (images, 3, height, width) in [0, 1].

    Raises what `decompose` raises.
    """
    x = model.normalise(x01)
    direct = decompose(model, x, Level.DIRECT)
    reach = direct.reach()
    return Check(
        id=model.description.id,
        relative_error=sum_error(direct),
        heads=model.description.heads,
        heads_with_direct_effect=sum(map(sum, reach.values())),
        euler_error_through_attention=euler_error(decompose(model, x, Level.THROUGH)),
        euler_error_gated=euler_error(decompose(model, x, Level.GATED)),
        reach=reach,
    )


def sum_error(decomposition: Decomposition) -> float:
    """How far the components' vectors are from adding up: the largest relative error over images."""
    whole = decomposition.representation
    return float(relative(decomposition.vectors().sum(1) - whole, whole).max())


def euler_error(decomposition: Decomposition, seed: int = 0) -> float:
    """How far contributions along a random direction are from adding up, relative to both lengths; the largest over
    images.
    """
    z = decomposition.representation
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z)
    columns = [decomposition.components.index(component) for component in decomposition.adds_up]
    difference = decomposition.scores(direction)[:, columns].sum(1) - (direction * z).sum(1)
    return float((difference.abs() / (direction.norm(dim=1) * z.norm(dim=1))).max())


def random_pictures(model: LoadedModel, count: int, seed: int = 0) -> Tensor:
    """(count, 3, height, width): uniform noise in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, *model.description.input_size, generator=generator).to(model.device)


@torch.no_grad()
def perturb(model: LoadedModel, seed: int = 0) -> None:
    """Add noise to every parameter, so that no gate, bias, shift or scale is at its start, where it hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.module.parameters():
        if parameter.is_floating_point():
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(noise, alpha=PERTURBATION * (spread or 1.0))
