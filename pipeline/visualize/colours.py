"""The colour axes of pictures in Fourier space: decorrelated over photographs, before a sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor

# Square root of the covariance of ImageNet's colours (Olah et al. 2017, figures published with lucid):
# columns are the decorrelated axes, of which the first is brightness. Scaled so that its longest column is 1.
_COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
COLOURS = _COLOURS / _COLOURS.norm(dim=0).max()

# how close to black or white a picture may be and still have a finite latent; like COLOURS a part of what `fourier`
# means in a recipe, whose version changes with it
LIMIT = 0.02


def coloured(values: Tensor) -> Tensor:
    """Values along the axes, (batch, 3, h, w), to a picture in [0, 1]."""
    colours = COLOURS.to(values) @ values.flatten(2)  # (batch, 3, h * w)
    return torch.sigmoid(colours.unflatten(2, values.shape[2:]))


def logit_colours(picture: Tensor) -> Tensor:
    """The values whose picture is `picture` (clipped to [LIMIT, 1 - LIMIT]), (batch, 3, h, w): `coloured` backwards."""
    colours = torch.logit(picture.clamp(LIMIT, 1 - LIMIT))
    return torch.einsum("cr,brhw->bchw", torch.linalg.inv(COLOURS).to(colours), colours)
