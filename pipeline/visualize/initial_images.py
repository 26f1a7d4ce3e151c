"""Where an ascent begins: noise of a neuron's own, or the generated picture that already excites it most.

A unit that is negative on every patch of a noise picture gives its ascent little to follow. A bank of a few
hundred generated pictures (noise of several spectra, gratings, blobs, plain colours), run once through the
network up to the site, offers every unit of the site a start on which it fires as strongly as on any of
them, for less than the cost of one unit's ascent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pipeline.hooks.activations import ffn_activations
from pipeline.models import FfnSite, LoadedModel
from pipeline.models.device import dtype_of
from pipeline.seeds import generator
from pipeline.visualize.colours import COLOURS
from pipeline.visualize.parametrize import Fourier, Phases, Pixels, Space
from pipeline.visualize.recipes import Ascent
from pipeline.visualize.threads import each


def own_noises(keys: Sequence[tuple[object, ...]], space: Space, like: Tensor) -> Tensor:
    """Of each key a random latent of its own, (keys, 3, ...): U[0, 1] pixels, a random spectrum, or random phases."""
    return torch.stack(each(lambda key: _own_noise(key, space, like.dtype), keys)).to(like.device)


def _own_noise(key: tuple[object, ...], space: Space, dtype: torch.dtype) -> Tensor:
    random = generator(*key, "start")
    if isinstance(space, Pixels):
        values = random.uniform(0, 1, (3, space.height, space.width))
    elif isinstance(space, Phases):
        values = random.uniform(-np.pi, np.pi, (3, space.height, space.width // 2 + 1))
    else:
        values = random.standard_normal((3, space.height, space.width // 2 + 1, 2))
    return torch.from_numpy(values).to(dtype)


def faded(latent: Tensor, strength: float, space: Space) -> Tensor:
    """The latent with its contrast around grey multiplied by `strength`."""
    grey = 0.5 if isinstance(space, Pixels) else 0.0
    return latent if strength == 1 else grey + (latent - grey) * strength


@lru_cache(maxsize=4)
def bank(count: int, height: int, width: int) -> Tensor:
    """`count` generated pictures, float32 (count, 3, height, width) in [0, 1]; the same for every model.

    In turn: coloured noise with spectra between white and 1 / f^2; two-colour gratings of every orientation,
    from the finest to six periods a side; soft blobs on a plain ground; plain colours with faint noise.
    """
    makers = (_noise, _grating, _noise, _grating, _blobs, _plain)
    random = generator("bank of starts", count, height, width)
    pictures = [makers[i % len(makers)](random, height, width) for i in range(count)]
    return torch.from_numpy(np.stack(pictures)).float().clamp(0, 1)


def _noise(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    space = Fourier(height, width, exponent=float(random.uniform(0, 2)))
    latent = torch.from_numpy(random.standard_normal((1, 3, height, width // 2 + 1, 2)))
    return space.picture(latent * float(random.uniform(0.5, 2.5)))[0].numpy()


def _grating(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    side = min(height, width)
    periods = np.exp(random.uniform(np.log(6), np.log(side / 2.5)))
    angle, phase = random.uniform(0, np.pi), random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:height, :width] / side
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * periods * (np.cos(angle) * columns + np.sin(angle) * rows) + phase)
    first, second = random.uniform(0, 1, (2, 3, 1, 1))
    return first + (second - first) * wave


def _blobs(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] / min(height, width)
    picture = np.broadcast_to(random.uniform(0, 1, (3, 1, 1)), (3, height, width)).copy()
    for _ in range(random.integers(3, 40)):
        row, column = random.uniform(0, rows.max()), random.uniform(0, columns.max())
        radius = np.exp(random.uniform(np.log(0.02), np.log(0.25)))
        weight = 1 / (1 + np.exp((np.hypot(rows - row, columns - column) - radius) / (0.15 * radius)))
        picture += weight * (random.uniform(0, 1, (3, 1, 1)) - picture)
    return picture


def _plain(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    tint = COLOURS.numpy() @ random.uniform(-4, 4, 3)
    colour = 1 / (1 + np.exp(-tint))[:, None, None]
    return colour + random.normal(0, 0.03, (3, height, width))


@torch.no_grad()
def best_of_bank(
    model: LoadedModel, site: FfnSite, ascent: Ascent, batch: int, on_batch: Callable[[], None] = lambda: None
) -> tuple[Tensor, Tensor]:
    """For each unit of the site the bank picture with its highest mean activation, int64 (width,), and that activation,
    float32 (width,).

    One forward of the bank, stopped at the site. A unit that fires on none gets the one it likes least badly.
    on_batch: called after each batch of the bank.
    """
    pictures = bank(ascent.bank_size, *model.description.input_size)
    values = []
    for chunk in pictures.split(batch):
        x = model.normalise(chunk.to(model.device)).to(dtype_of(model))
        calls = ffn_activations(model, site, x)
        values.append(torch.stack([call.float().mean(1) for call in calls]).mean(0))
        on_batch()
    highest, best = torch.cat(values).max(0)
    return best.cpu(), highest.cpu()
