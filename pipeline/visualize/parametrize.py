"""Latent to picture: what gradient ascent moves, and the picture in [0, 1] that it stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.visualize.colours import coloured, logit_colours
from pipeline.visualize.spectrum import natural_spectrum


@dataclass(frozen=True)
class Pixels:
    """The picture itself. Latent: (batch, 3, height, width) in [0, 1]."""

    height: int
    width: int

    def picture(self, latent: Tensor) -> Tensor:
        return latent

    def latent(self, picture: Tensor) -> Tensor:
        return picture.clone()

    def project(self, latent: Tensor) -> None:
        """Keep the latent a picture, in place: clamp to [0, 1]."""
        latent.clamp_(0, 1)


@dataclass(frozen=True)
class Fourier:
    """Fourier coefficients of a colour-decorrelated picture under a sigmoid.

    Latent: (batch, 3, height, width // 2 + 1, 2), real and imaginary parts. A coefficient of frequency f is
    scaled by 1 / f ** exponent, and the scales are normalised so that coefficients of unit variance give
    values of unit variance before the sigmoid, whatever the exponent and the size: one learning rate then
    means the same everywhere.
    """

    height: int
    width: int
    exponent: float

    def scale(self, like: Tensor) -> Tensor:
        return _scale(self.height, self.width, self.exponent).to(like)

    def picture(self, latent: Tensor) -> Tensor:
        coefficients = torch.view_as_complex(latent * self.scale(latent)[..., None])
        values = torch.fft.irfft2(coefficients, s=(self.height, self.width), norm="ortho")
        return coloured(values)

    def latent(self, picture: Tensor) -> Tensor:
        """The latent whose picture is `picture` (clipped to [LIMIT, 1 - LIMIT])."""
        values = logit_colours(picture)
        coefficients = torch.fft.rfft2(values, norm="ortho") / self.scale(values)
        return torch.view_as_real(coefficients).contiguous()

    def project(self, latent: Tensor) -> None:
        """Nothing to keep: every latent is a picture."""


@dataclass(frozen=True)
class Phases:
    """Phases of Fourier coefficients whose amplitudes are those of photographs, fixed (MACO, Fel et al. 2306.06805).

    Latent: (batch, 3, height, width // 2 + 1), radians. Colour axes and sigmoid are those of `Fourier`; amplitudes
    are measured on photographs in the same space (pipeline/visualize/spectrum.py).
    """

    height: int
    width: int

    def picture(self, latent: Tensor) -> Tensor:
        coefficients = torch.polar(_amplitudes(self.height, self.width).to(latent).expand_as(latent), latent)
        return coloured(torch.fft.irfft2(coefficients, s=(self.height, self.width), norm="ortho"))

    def latent(self, picture: Tensor) -> Tensor:
        """The phases of a picture: its amplitudes are lost."""
        return torch.fft.rfft2(logit_colours(picture), norm="ortho").angle()

    def project(self, latent: Tensor) -> None:
        """Nothing to keep: every latent is a picture."""


@lru_cache(maxsize=32)
def _amplitudes(height: int, width: int) -> Tensor:
    return natural_spectrum().on_grid(height, width)


@lru_cache(maxsize=32)
def _scale(height: int, width: int, exponent: float) -> Tensor:
    """(height, width // 2 + 1): how far each coefficient moves the picture."""
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :]
    frequency = torch.sqrt(rows**2 + columns**2).clamp(min=1 / max(height, width))
    scale = frequency**-exponent
    twice = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64)  # rfft keeps one of each conjugate pair
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    power = (scale**2 * twice).sum() / (height * width)
    return scale / math.sqrt(power)


def parameterization(name: str, size: tuple[int, int], exponent: float) -> Space:
    """`pixels`, `fourier` or `phases` for pictures of `size` (height, width)."""
    if name == "pixels":
        return Pixels(*size)
    if name == "fourier":
        return Fourier(*size, exponent)
    if name == "phases":
        return Phases(*size)
    raise ValueError(f"parameterization is {name!r}; expected 'pixels', 'fourier' or 'phases'")


Space = Pixels | Fourier | Phases
