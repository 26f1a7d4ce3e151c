"""What is done to a picture before the network sees it, batched, on the device, with numbers per neuron.

The published augmentations (Ghiasi, Kazemi et al. 2212.06727; reference in docs/recipes.md): a colour shift
(x - m) / s per copy and channel, a Gaussian offset per copy and channel, one circular shift for all copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.seeds import generator
from pipeline.visualize.recipes import Ascent
from pipeline.visualize.threads import each


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step. mean, std, offset: (batch, copies, 3); roll: int64 (batch, 2), rows then
    columns in pixels."""

    mean: Tensor
    std: Tensor
    offset: Tensor
    roll: Tensor
    turn: Tensor


def draw(
    keys: Sequence[tuple[object, ...]],
    ascent: Ascent,
    size: tuple[int, int],
    like: Tensor,
    patch: tuple[int, int] = (1, 1),
) -> list[Draws]:
    """Draws for every step of an ascent, for one neuron per key.

    size, patch: (height, width) in pixels of the picture, and of a patch for shifts by patches. A neuron's numbers
    depend on its key, on `ascent` and on these sizes alone.
    """
    per_neuron = each(lambda key: _draw_one(generator(*key), ascent, np.array(size), np.array(patch)), keys)
    steps = []
    for phase in zip(*per_neuron, strict=True):  # of each neuron, the phase's arrays
        mean, std, offset, roll, turn = (torch.from_numpy(np.stack(part, axis=1)) for part in zip(*phase, strict=True))
        mean, std, offset, turn = (part.to(like) for part in (mean, std, offset, turn))
        roll = roll.to(like.device)
        steps += [Draws(mean[i], std[i], offset[i], roll[i], turn[i]) for i in range(len(roll))]
    return steps


def _draw_one(
    random: np.random.Generator, ascent: Ascent, size: np.ndarray, patch: np.ndarray
) -> list[tuple[np.ndarray, ...]]:
    """Per phase: mean, std, offset (steps, copies, 3), roll and turn (steps, 2)."""
    phases: list[tuple[np.ndarray, ...]] = []
    offsets, done = offset_scale(ascent), 0
    for phase in ascent.phases:
        shape = (phase.steps, phase.copies, 3)
        strength = np.linspace(*phase.colour_shift, phase.steps)[:, None, None]
        mean = random.uniform(-1, 1, shape) * strength
        std = np.exp(random.uniform(-1, 1, shape) * strength)
        offset = random.standard_normal(shape) * offsets[done : done + phase.steps, None, None]
        cell = patch if phase.jitter_by == "patch" else np.array((1, 1))
        farthest = np.minimum(reach_of(ascent, size), size // 2)
        reach = np.maximum(farthest // cell, farthest > 0)
        roll = cell * random.integers(-reach, reach, size=(phase.steps, 2), endpoint=True)
        turn = np.zeros((phase.steps, 2))
        turn[:, 1] = 1
        if ascent.turn or ascent.zoom:  # drawn only where asked for: other recipes' numbers stay what they were
            turn[:, 0] = np.deg2rad(random.uniform(-ascent.turn, ascent.turn, phase.steps))
            turn[:, 1] = 1 + random.uniform(-ascent.zoom, ascent.zoom, phase.steps)
        phases.append((mean, std, offset, roll, turn))
        done += phase.steps
    return phases


def reach_of(ascent: Ascent, size: np.ndarray) -> np.ndarray:
    """Largest circular shift in pixels, rows and columns."""
    if ascent.jitter_share:
        return np.round(ascent.jitter_share * size).astype(int)
    return np.full(2, ascent.jitter)


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
    return _Roll.apply(picture, roll)


class _Roll(torch.autograd.Function):
    """A circular shift, whose gradient is the shift back: the one of `gather` is a scatter, slow on a CPU."""

    @staticmethod
    def forward(ctx: Any, picture: Tensor, roll: Tensor) -> Tensor:
        ctx.save_for_backward(roll)
        return _rolled(picture, roll)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (roll,) = ctx.saved_tensors
        return _rolled(gradient, -roll), None


def _rolled(picture: Tensor, roll: Tensor) -> Tensor:
    batch, channels, height, width = picture.shape
    rows = (torch.arange(height, device=roll.device) - roll[:, :1]) % height  # (batch, height)
    columns = (torch.arange(width, device=roll.device) - roll[:, 1:]) % width  # (batch, width)
    place = (rows[:, :, None] * width + columns[:, None, :]).reshape(batch, 1, height * width)
    shifted = picture.reshape(batch, channels, -1).gather(2, place.expand(-1, channels, -1))
    return shifted.reshape(picture.shape)


def turn_each(picture: Tensor, turn: Tensor) -> Tensor:
    """Each picture rotated about its middle by its own angle and zoomed by its own scale; what comes in from outside is
    its mirror image. picture: (batch, 3, h, w); turn: (batch, 2), radians and scale."""
    cosine, sine = turn[:, 0].cos() / turn[:, 1], turn[:, 0].sin() / turn[:, 1]
    ratio = picture.shape[3] / picture.shape[2]  # the grid's coordinates are shares of each side
    zero = torch.zeros_like(sine)
    rows = torch.stack([torch.stack([cosine, -sine / ratio, zero], 1), torch.stack([sine * ratio, cosine, zero], 1)], 1)
    grid = F.affine_grid(rows, list(picture.shape), align_corners=False)
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


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
    return (_TotalVariation.apply(rolled) * std.reciprocal().mean(1)).mean(1)


_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Steps (rows, columns) from one neighbour to the other."""


class _TotalVariation(torch.autograd.Function):
    """Sum over directions of the norms of differences, (batch, 3, h, w) -> (batch, 3).

    A norm's gradient is its difference over the norm, so both are taken in one go and added up in one buffer: left to
    autograd, every slice gets a padded copy of the picture, which was a quarter of a step at the first site. On a CPU
    one picture after the other, so that it stays in the cache.
    """

    @staticmethod
    def forward(ctx: Any, picture: Tensor) -> Tensor:
        slope = torch.zeros_like(picture)
        at_once = 1 if picture.device.type == "cpu" else len(picture)
        parts = zip(picture.split(at_once), slope.split(at_once), strict=True)
        norms = torch.cat([_norms_of_differences(part, onto) for part, onto in parts])
        ctx.save_for_backward(slope)
        return norms

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return slope * gradient[..., None, None]


def _norms_of_differences(picture: Tensor, slope: Tensor) -> Tensor:
    """Sum over the four directions of the norms, (batch, 3); its gradient is added to `slope`.

    Rows lie one behind the other, so a neighbour is a fixed distance away; pairs across the border are struck out.
    """
    batch, channels, height, width = picture.shape
    values, onto = picture.reshape(batch, channels, -1), slope.view(batch, channels, -1)
    total = picture.new_zeros(batch, channels)
    part = torch.empty_like(values)
    for rows, columns in _DIRECTIONS:
        distance = rows * width + columns
        torch.sub(values[..., distance:], values[..., :-distance], out=part[..., :-distance])
        part[..., -distance:] = 0
        if columns:
            part.view(batch, channels, height, width)[..., -1 if columns > 0 else 0] = 0
        norm = torch.linalg.vector_norm(part, dim=2)
        total += norm
        part.mul_(torch.where(norm > 0, 1 / norm, 0.0)[..., None])
        onto[..., distance:] += part[..., :-distance]
        onto -= part
    return total
