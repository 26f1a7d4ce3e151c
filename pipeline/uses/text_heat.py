"""Where in an image a model finds what a text says, though it reads no texts: the heat of the heads that say most."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.decompose import Alignment, Component, Contributing, example_maps, spread
from pipeline.models import LoadedModel

HEADS = 12
"""Heads whose maps are summed, those that contribute most along the text."""


@dataclass(frozen=True)
class TextHeat:
    """Where in an image a text is found, and by which heads.

    heat: (height, width), the sum of the heads' maps in pixels. heads: each with its aligned contribution along the
    text, the largest by absolute value first.
    """

    heat: Tensor
    heads: tuple[tuple[Component, float], ...]


def text_heat(model: LoadedModel, x: Tensor, text: Tensor, alignment: Alignment, count: int = HEADS) -> TextHeat:
    """The heat of one image along a text, each head along the text's direction in its own space.

    x: (1, 3, height, width), normalised. text: (e,), in the CLIP's space. BadConfig where the alignment is of another
    number of components; raises what `decompose` raises.
    """
    contributing = Contributing(model)
    if alignment.components != len(contributing.components):
        raise BadConfig(
            f"The alignment is of {alignment.components} components, {model.description.slug} has "
            f"{len(contributing.components)}: it was fitted for another model."
        )
    if text.shape != alignment.bias.shape:
        raise BadConfig(
            f"A text of {len(text)} numbers and an alignment with a space of {len(alignment.bias)}: expected the text "
            "embedded by the CLIP that the model was aligned with (--embedder)."
        )
    vectors = contributing(x).vectors[0]  # (components, d)
    pulled = alignment.pull(text[None].to(vectors))[:, 0]  # (components, d)
    scores = (vectors * pulled).sum(1)[: model.description.heads]
    chosen = scores.abs().topk(min(count, len(scores))).indices.tolist()
    size = (int(x.shape[-2]), int(x.shape[-1]))
    heat = torch.zeros(size, dtype=vectors.dtype, device=vectors.device)
    for level in sorted({contributing.levels[index] for index in chosen}):
        of = [index for index in chosen if contributing.levels[index] == level]
        components = [contributing.components[index] for index in of]
        layers, heads = torch.tensor([[component.layer, component.head] for component in components]).T
        many = x.expand(len(of), -1, -1, -1)
        maps, _ = example_maps(model, many, layers, heads, pulled[of], level, certify=False)
        heat += torch.stack([spread(head_map[None, None], size)[0, 0] for head_map in maps]).sum(0)
    return TextHeat(heat, tuple((contributing.components[index], float(scores[index])) for index in chosen))
