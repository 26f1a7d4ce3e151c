"""What is done to a picture before the network sees it, batched, on the device, with numbers per neuron.

The published augmentations (Ghiasi, Kazemi et al. 2212.06727; reference in docs/recipes.md): a colour shift
(x - m) / s per copy and channel, a Gaussian offset per copy and channel, one circular shift for all copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.recipes import Ascent
from pipeline.seeds import generator


@dataclass(frozen=True)
class Draws:
    """The random numbers of an ascent, for every step at once.

    mean, std, offset: (steps, batch, copies, 3); roll: int64 (steps, batch, 2), rows then columns in pixels.
    """

    mean: Tensor
    std: Tensor
    offset: Tensor
    roll: Tensor


def draw(keys: Sequence[tuple[object, ...]], ascent: Ascent, size: tuple[int, int], like: Tensor) -> Draws:
    """Draws for one neuron per key; a neuron's numbers depend on its key and on `ascent` alone."""
    per_neuron = [_draw_one(generator(*key), ascent, size) for key in keys]
    mean, std, offset, roll = (np.stack(part, axis=1) for part in zip(*per_neuron, strict=True))
    floats = (torch.from_numpy(part).to(like) for part in (mean, std, offset))
    return Draws(*floats, roll=torch.from_numpy(roll).to(like.device))


def _draw_one(random: np.random.Generator, ascent: Ascent, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    shape = (ascent.steps, ascent.copies, 3)
    strength = ascent.colour_shift * fading(ascent.steps, ascent.colour_shift_until)[:, None, None]
    mean = random.uniform(-1, 1, shape) * strength
    std = np.exp(random.uniform(-1, 1, shape) * strength)
    offset = random.standard_normal(shape) * offset_scale(ascent)[:, None, None]
    reach = np.minimum(ascent.jitter, np.array(size) // 2)
    roll = random.integers(-reach, reach, size=(ascent.steps, 2), endpoint=True)
    return mean, std, offset, roll


def fading(steps: int, until: float | None) -> np.ndarray:
    """(steps,): 1 at the start, falling linearly to 0 at the share `until` of the steps; all 1 without it."""
    if until is None:
        return np.ones(steps)
    return np.clip(1 - np.arange(steps) / max(until * steps, 1), 0, 1)


def offset_scale(ascent: Ascent) -> np.ndarray:
    """(steps,): standard deviation of the offset, as the published counter runs.

    The counter starts one below its end, is spent once before the first step, and wraps: with 401 steps the
    scale falls from 398/400 to 0 at step 398, and the last two steps see it near full strength again. At
    their learning rate this changes nothing; we keep it because `reference` is what the code did.
    """
    last = max(ascent.steps - 1, 1)
    left = np.mod(last - 2 - np.arange(ascent.steps), last)
    return ascent.offset * left / last


def roll_each(picture: Tensor, roll: Tensor) -> Tensor:
    """Shift each picture circularly by its own (rows, columns): (batch, 3, h, w), int64 (batch, 2)."""
    batch, channels, height, width = picture.shape
    rows = (torch.arange(height, device=roll.device) - roll[:, :1]) % height  # (batch, height)
    columns = (torch.arange(width, device=roll.device) - roll[:, 1:]) % width  # (batch, width)
    place = (rows[:, :, None] * width + columns[:, None, :]).reshape(batch, 1, height * width)
    shifted = picture.reshape(batch, channels, -1).gather(2, place.expand(-1, channels, -1))
    return shifted.reshape(picture.shape)


def augment(rolled: Tensor, mean: Tensor, std: Tensor, offset: Tensor) -> Tensor:
    """Copies of each picture, (batch * copies, 3, h, w), a neuron's copies side by side.

    rolled: (batch, 3, h, w); mean, std, offset: (batch, copies, 3). The shift of place commutes with the
    shift of colour, so it is done once for all copies.
    """
    shifted = (rolled[:, None] - mean[..., None, None]) / std[..., None, None] + offset[..., None, None]
    return shifted.flatten(0, 1)


def total_variation(rolled: Tensor, std: Tensor) -> Tensor:
    """The published total variation of the augmented copies of each picture: (batch,).

    Four directions, each the un-squared L2 norm of the differences over the plane, averaged over copies and
    channels. Colour shift and offset are constant over a copy's channel, so differences only scale by
    1 / std, and one picture's norms serve all its copies.
    rolled: (batch, 3, h, w), after the circular shift (its seam counts); std: (batch, copies, 3).
    """
    differences = (
        rolled[..., :, 1:] - rolled[..., :, :-1],
        rolled[..., 1:, :] - rolled[..., :-1, :],
        rolled[..., 1:, 1:] - rolled[..., :-1, :-1],
        rolled[..., 1:, :-1] - rolled[..., :-1, 1:],
    )
    norms = sum(torch.linalg.vector_norm(d, dim=(2, 3)) for d in differences)  # (batch, 3)
    return (norms * std.reciprocal().mean(1)).mean(1)
