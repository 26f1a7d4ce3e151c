"""What is said of each head once the first pass is done: its texts, its axes, and the directions to look along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from pipeline.decompose.align import Alignment
from pipeline.decompose.moments import ContributionMoments
from pipeline.decompose.textspan import TEXTS, text_span

AXES = 16
"""Principal axes whose share of the variance is kept."""

LOOKED_ALONG = ("axis 0 high", "axis 0 low", "text 0", "text 1", "text 2")
"""The directions of a head along which probe images are ordered, by the names that rows have."""


@dataclass(frozen=True)
class Spans:
    """Of all heads of a model.

    text: int64 (heads, TEXTS), -1 where nothing is left to explain; deviation, explained: float64, alike. spectrum:
    (heads, AXES). dimensions: (heads,). keeps: (heads,), variance after the map to the CLIP's space over that before.
    directions: (heads, len(LOOKED_ALONG), d), in the space of contributions; zero where there is none.
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
    moments: ContributionMoments, alignment: Alignment, texts: Tensor, on_step: Callable[[], None] = lambda: None
) -> Spans:
    """texts: (texts, e), each of length 1. One TextSpan a head, from its mean and covariance in the CLIP's space."""
    texts = texts.double()
    heads, covariance = moments.heads, moments.covariance
    chosen = torch.full((heads, TEXTS), -1)
    deviation, explained = torch.zeros(heads, TEXTS).double(), torch.zeros(heads, TEXTS).double()
    keeps = torch.zeros(heads).double()
    for head in range(heads):
        mean, own = moments.mean[head], covariance[head]
        if alignment.maps is not None:
            onto = alignment.maps[head].double()  # (d, e)
            mean, own = mean @ onto, onto.mT @ own @ onto
        before = float(covariance[head].diagonal().sum())
        keeps[head] = float(own.diagonal().sum()) / before if before > 0 else 0.0
        span = text_span(mean, own, texts)
        count = len(span.text)
        chosen[head, :count], deviation[head, :count], explained[head, :count] = (
            span.text,
            span.deviation,
            span.explained,
        )
        on_step()
    axes, spectrum = moments.axes(AXES)
    along = _along_texts(alignment, texts, chosen[:, :3])
    directions = torch.cat([axes[:, :1], -axes[:, :1], along], dim=1)
    return Spans(chosen, deviation, explained, spectrum, moments.dimensions(), keeps, directions)


def _along_texts(alignment: Alignment, texts: Tensor, chosen: Tensor) -> Tensor:
    """(heads, k, d): texts in the space of each head's contributions; zero where `chosen` is -1."""
    picked = texts[chosen.clamp_min(0)] * (chosen >= 0)[..., None]  # (heads, k, e)
    if alignment.maps is None:
        return picked
    return torch.einsum("hde,hke->hkd", alignment.maps[: len(chosen)].double(), picked)
