"""Which neurons write to a class and which heads carry it, from their tables, for the page of the class's inversion."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from atlas_schema.read import Atlas
from site_builder.packs import rounded

#: Neurons and heads that the page of a class leads to, the strongest first.
MOST_WRITERS, MOST_HEADS = 12, 6
#: By class name what leads to its page's neighbours: `neurons` as [layer, unit, logit], `heads` as [layer, head, mean].
Links = Mapping[str, dict[str, list[list[float]]]]
#: What is linked, and how strong: (class, layer, unit or head, strength).
Strength = tuple[str, int, int, float]


def class_links(atlas: Atlas, slug: str, layers: Sequence[int], classes: Collection[str]) -> Links:
    """The strongest neurons and heads of each class; a class without any is left out.

    layers: FFN layers of which the atlas has neurons. Of neurons only what raises a class is said (a positive logit in
    `writes_to`), of heads either end of the first axis, whose sign is arbitrary (`axis_classes`: above 0 the high end).
    """
    neurons = _strongest(_writers(atlas, slug, layers, classes), MOST_WRITERS)
    heads = _strongest(_carriers(atlas.heads(slug), classes), MOST_HEADS)
    told: dict[str, dict[str, list[list[float]]]] = {}
    for name, found in (("neurons", neurons), ("heads", heads)):
        for of_class, ranked in found.items():
            told.setdefault(of_class, {})[name] = ranked
    return told


def _writers(atlas: Atlas, slug: str, layers: Sequence[int], classes: Collection[str]) -> Iterator[Strength]:
    for layer in layers:
        rows = atlas.neurons(slug, layer, ["unit", "writes_to"])
        if rows is None or rows["writes_to"].null_count == len(rows):
            continue
        for unit, written in zip(rows["unit"].to_pylist(), rows["writes_to"].to_pylist(), strict=True):
            for one in written or ():
                if one["logit"] > 0 and one["name"] in classes:
                    yield one["name"], layer, unit, one["logit"]


def _carriers(heads: Iterable[Mapping[str, Any]], classes: Collection[str]) -> Iterator[Strength]:
    for row in heads:
        for one in row["axis_classes"] or ():
            if one["name"] in classes:
                yield one["name"], row["layer"], row["head"], one["mean"]


def _strongest(found: Iterable[Strength], most: int) -> dict[str, list[list[float]]]:
    """Of each class so many, the strongest first; of equal ones those nearer the input."""
    kept: dict[str, list[tuple[float, int, int, float]]] = {}
    for name, layer, index, strength in found:
        own, entry = kept.setdefault(name, []), (abs(strength), -layer, -index, strength)
        if len(own) < most:
            heapq.heappush(own, entry)
        else:
            heapq.heappushpop(own, entry)
    return {
        name: [[-layer, -index, rounded(strength, 4)] for _, layer, index, strength in sorted(own, reverse=True)]
        for name, own in kept.items()
    }
