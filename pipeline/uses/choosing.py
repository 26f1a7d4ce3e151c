"""Which components of a model to look at, or to leave out, for a feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from atlas_schema.errors import BadConfig, nearest
from pipeline.decompose import Batch, Component, FeatureSums, Lens

CHOSEN = ("head", "ffn", "convolution")
"""Kinds of components that are chosen among; image and constant are what no part of the model decided."""


def merits(batches: Iterable[Batch], lens: Lens) -> Tensor:
    """How much each component is worth for each feature, (components, features): score x selectivity, from one pass.

    The score alone also finds components that matter for the feature among much else; who looks at them, or leaves
    them out, gets that too. BadConfig without images.
    """
    sums = FeatureSums.empty(lens)
    for _, vectors in batches:
        sums.update(vectors.to(lens.basis), lens)
    if not float(sums.images):
        raise BadConfig("no images: nothing says which components matter for a feature.")
    scores = sums.finalize(lens)
    return scores["score"] * scores["selectivity"]


def ranked(merit: Tensor, components: Sequence[Component], direct: Tensor) -> list[int]:
    """Indices of components, those of the greatest merit (components,) first: heads, FFNs and convolutions with a
    direct effect. direct: (components,) bool.
    """
    each = zip(components, direct.tolist(), strict=True)
    eligible = [index for index, (component, reaches) in enumerate(each) if reaches and component.kind in CHOSEN]
    return sorted(eligible, key=lambda index: (-float(merit[index]), index))


def named(components: Sequence[Component], names: Sequence[str]) -> list[int]:
    """Indices of components by their names (head/3/1, ffn/2). BadConfig for one that the model does not have."""
    index_of = {component.name: index for index, component in enumerate(components)}
    for name in names:
        if name not in index_of:
            close = ", ".join(nearest(name, index_of) or list(index_of)[:3])
            raise BadConfig(f"{name!r}: no component of this model; nearest: {close}.")
    return [index_of[name] for name in names]
