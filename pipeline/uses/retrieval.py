"""Image retrieval by a text or an image, looking at some components of a model alone.

After Balasubramanian, Basu, Feizi (2406.01583). A whole representation is near to another for many reasons at once;
the components that matter for a feature are near to each other by that feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.decompose import Alignment, Batch

GROUP = 3
"""Components that are looked at together: the published number."""


def along(batches: Iterable[Batch], groups: Sequence[Sequence[int]], alignment: Alignment, text: Tensor) -> Tensor:
    """How far groups of components say a text of each image, (groups, images): their aligned contributions along it,
    summed.

    text: (e,), of length 1.
    """
    pulled = alignment.pull(text[None])[:, 0]  # (components, d)
    return _collected(
        batches,
        lambda vectors: torch.stack(
            [torch.einsum("nkd,kd->n", vectors[:, list(group)], pulled[list(group)].to(vectors)) for group in groups],
            dim=1,
        ),
    ).T


def restricted(batches: Iterable[Batch], groups: Sequence[Sequence[int]]) -> Tensor:
    """The representation restricted to each group of components, (groups, images, d): their contributions summed."""
    return _collected(
        batches, lambda vectors: torch.stack([vectors[:, list(group)].sum(1) for group in groups], dim=1)
    ).transpose(0, 1)


def likeness(held: Tensor, query: Tensor) -> Tensor:
    """Cosines of restricted representations with a query's, (..., images). held: (..., images, d), query: (..., d),
    both sums over the same components.
    """
    return functional.cosine_similarity(held, query[..., None, :], dim=-1)


def first(values: Tensor, count: int, leave_out: int | None = None) -> list[int]:
    """The images of the greatest of (images,) values, equal ones in their order; `leave_out`: the query itself."""
    order = values.argsort(descending=True, stable=True).tolist()
    return [image for image in order if image != leave_out][:count]


def precision(values: Tensor, relevant: Tensor, count: int, leave_out: int | None = None) -> float:
    """Share of relevant images among the first `count`. relevant: (images,) bool."""
    best = first(values, count, leave_out)
    return float(relevant[best].double().mean()) if best else 0.0


def _collected(batches: Iterable[Batch], measure: Callable[[Tensor], Tensor]) -> Tensor:
    """What `measure` makes of the vectors of each image, in the order of the images."""
    images, parts = [], []
    for where, vectors in batches:
        images.append(where)
        parts.append(measure(vectors))
    if not parts:
        raise BadConfig("retrieval: no images to search among.")
    return torch.cat(parts)[torch.cat(images).argsort()]
