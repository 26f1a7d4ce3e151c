"""Texts and principal axes of each head, from the moments of its contributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from pipeline.decompose.alignment import Alignment
from pipeline.decompose.moments import ContributionMoments
from pipeline.decompose.textspan import text_span


@dataclass(frozen=True)
class SpanSettings:
    """How texts are chosen for a head, and along what images are ordered after that."""

    texts: int = 20  # of a head: the published number
    rank: int = 80  # axes of the contributions that texts are projected on, at most: the published default
    least: float = 1e-10  # of a head's second moment, and of its variance: below this share lies rounding
    axes: int = 16  # principal axes whose share of the variance is kept
    looked_along: int = 3  # texts along which images are ordered, besides both ends of the first axis


def direction_names(count: int) -> tuple[str, ...]:
    """What rows call the directions of a head, of which there are `count`: both ends of its first axis, then texts."""
    return ("axis 0 high", "axis 0 low", *(f"text {rank}" for rank in range(count - 2)))


@dataclass(frozen=True)
class Spans:
    """The texts and axes of all heads of a model, and the directions along which images are ordered next.

    text: int64 (heads, texts), -1 where nothing is left to explain; deviation, explained: float64, alike. spectrum:
    (heads, axes). dimensions: (heads,). keeps: (heads,), variance after the map to the CLIP's space over that before.
    directions: (heads, directions, d), in the space of contributions and the order of `direction_names`; zero where
    there is none.
    """

    text: Tensor
    deviation: Tensor
    explained: Tensor
    spectrum: Tensor
    dimensions: Tensor
    keeps: Tensor
    directions: Tensor

    def arrays(self) -> dict[str, np.ndarray]:
        return {field.name: getattr(self, field.name).cpu().numpy() for field in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Spans:
        return cls(**{field.name: torch.from_numpy(np.array(arrays[field.name])) for field in fields(cls)})


def spans_of(
    moments: ContributionMoments,
    alignment: Alignment,
    texts: Tensor,
    on_step: Callable[[], None] = lambda: None,
    settings: SpanSettings = SpanSettings(),
) -> Spans:
    """Texts, axes and directions of every head: one TextSpan a head, from its mean and covariance in the CLIP's space.

    texts: (texts, e), each of length 1. on_step: called after each head.
    """
    texts = texts.double()
    heads = moments.heads
    chosen = torch.full((heads, settings.texts), -1)
    deviation, explained = torch.zeros(2, heads, settings.texts, dtype=torch.float64)
    keeps = torch.zeros(heads).double()
    for head in range(heads):
        factor = moments.factor(head) / moments.images.sqrt()
        mean, own = (alignment.applied(given, head) for given in (moments.mean[head], factor))
        before = float(factor.square().sum())
        keeps[head] = float(own.square().sum()) / before if before > 0 else 0.0
        span = text_span(mean, own, texts, count=settings.texts, rank=settings.rank, least=settings.least)
        count = len(span.text)
        chosen[head, :count] = span.text
        deviation[head, :count], explained[head, :count] = span.deviation, span.explained
        on_step()
    axes, spectrum = moments.axes(settings.axes)
    along = _along_texts(alignment, texts, chosen[:, : settings.looked_along])
    directions = torch.cat([axes[:, :1], -axes[:, :1], along], dim=1)
    return Spans(chosen, deviation, explained, spectrum, moments.dimensions(), keeps, directions)


def _along_texts(alignment: Alignment, texts: Tensor, chosen: Tensor) -> Tensor:
    """(heads, k, d): texts in the space of each head's contributions; zero where `chosen` is -1."""
    picked = texts[chosen.clamp_min(0)] * (chosen >= 0)[..., None]  # (heads, k, e)
    maps = [alignment.map(head) for head in range(len(chosen))]
    along = [own if onto is None else own @ onto.double().mT for own, onto in zip(picked, maps, strict=True)]
    return torch.stack(along)
