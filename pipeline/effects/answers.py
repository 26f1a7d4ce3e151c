"""What is right about a probe image, as the outputs of a model know it: classes by name, or the caption's text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

import torch
from torch import Tensor

from pipeline.effects.readout import Readout
from pipeline.images.probe_set import ProbeImage

Answer = Callable[[ProbeImage], Tensor | None]
"""An image's correct outputs, int64 (k,), or the embedding of its caption, float (d,); None where it has none."""


def first_captions(images: Iterable[ProbeImage], count: int) -> list[str]:
    """The captions of the first `count` images that have one, each once."""
    captions = (image.caption for image in images)
    return list(dict.fromkeys(islice((caption for caption in captions if caption), count)))


def answers_for(readout: Readout, captions: Mapping[str, Tensor]) -> Answer:
    """How images are answered with this readout. captions: for a CLIP, the embedding (d,) of each caption."""
    if readout.texts is not None:
        return lambda image: captions.get(image.caption)
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
