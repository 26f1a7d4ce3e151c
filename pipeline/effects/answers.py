"""What is right about a probe image, as the outputs of a model know it: classes by name, or the caption's text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.effects.readout import Readout
from pipeline.images.probe_set import ProbeImage

Answer = Callable[[ProbeImage], Tensor | None]
"""An image's correct outputs, int64 (k,), or the embedding of its caption, float (d,); None where it has none."""


def answers_for(readout: Readout, texts: Callable[[Sequence[str]], Tensor] | None) -> Answer:
    """How images are answered with this readout. texts: for a CLIP, what embeds captions."""
    if readout.texts is not None:
        return lambda image: texts([image.caption])[0].cpu() if texts is not None and image.caption else None
    index_of: dict[str, int] = {}
    for index, name in enumerate(readout.names):
        for spelling in _spellings(name):
            index_of.setdefault(spelling, index)

    def answer(image: ProbeImage) -> Tensor | None:
        values = [f"{name}: {value}" for name, value in image.attributes] or [image.label]
        indices = [index_of[_folded(text)] for text in values if _folded(text) in index_of]
        return torch.tensor(indices) if indices and len(indices) == len(values) else None

    return answer


def _spellings(name: str) -> list[str]:
    """A class by its whole name, and by each of the synonyms that ImageNet's names list."""
    return [_folded(name), *(_folded(part) for part in name.split(","))]


def _folded(name: str) -> str:
    return re.sub(r"[\s_]+", " ", name.strip().casefold())
