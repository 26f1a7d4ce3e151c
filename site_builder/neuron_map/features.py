"""What a neuron fires on, as a row of numbers: neurons that fire on the same, or on the like, have like rows.

Only the exciting images of the table neuron_examples decide, so that the map needs no labels, and labels can judge it:

    images  which images of the probe set are among the strongest of the neuron; an image that excites few neurons
            counts more (inverse document frequency)
    kinds   which classes and attributes these images have, against how often images of the set have them (a share
            minus its expectation, over its deviation); weighs KINDS times as much. Sets that tell neither have none

Each half is reduced to COMPONENTS axes of greatest spread and brought to length 1. How well rows agree with labels was
measured for each half and both (docs/site.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import scipy.sparse as sp

from atlas_schema.read import Atlas
from site_builder.outline import Layer

#: Axes that each half of the features is reduced to.
COMPONENTS = 48
#: How much kinds of images weigh beside the images themselves.
KINDS = 2.0
#: Columns of an example that decide its neuron's row.
EXAMPLE_COLUMNS = ("unit", "kind", "image_index", "probe_set", "activation")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Fired:
    """Which images excite which neurons most: pairs of a neuron and an image, each (pairs,) int64.

    neuron: place among the neurons, layer by layer and unit by unit; image: place among `images`
    """

    neurons: int
    neuron: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]
    images: tuple[tuple[str, int], ...]  # (probe set, index) of the images that excite any neuron


def fired(atlas: Atlas, layers: Sequence[Layer]) -> Fired:
    """The strongest images of all neurons of these layers, those of activation over 0."""
    number: dict[tuple[str, int], int] = {}
    neurons: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    images: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    first = 0
    for layer in layers:
        rows = atlas.examples(layer.slug, layer.layer, EXAMPLE_COLUMNS)
        if rows is not None:
            rows = rows.filter(pc.and_(pc.equal(rows["kind"], "top"), pc.greater(rows["activation"], 0)))
            units, own = rows["unit"].to_numpy(), np.asarray(layer.units)
            place = np.minimum(np.searchsorted(own, units), len(own) - 1)
            there = own[place] == units
            named = zip(rows["probe_set"].to_pylist(), rows["image_index"].to_pylist(), strict=True)
            numbered = np.fromiter((number.setdefault(one, len(number)) for one in named), np.int64, len(rows))
            neurons.append(first + place[there])
            images.append(numbered[there])
        first += len(layer.units)
    return Fired(first, np.concatenate(neurons), np.concatenate(images), tuple(number))


@dataclass(frozen=True)
class Kinds:
    """What images are: pairs of an image and a kind, each (pairs,) int64, and how common each kind is."""

    image: npt.NDArray[np.int64]  # place among the images of a `Fired`
    kind: npt.NDArray[np.int64]
    share: npt.NDArray[np.float64]  # (kinds,) of the images of all probe sets together


def kinds_of(atlas: Atlas, images: Sequence[tuple[str, int]]) -> Kinds:
    """Classes and attributes of these images; none where the atlas does not list them, or knows nothing of them."""
    place = {image: at for at, image in enumerate(images)}
    number: dict[tuple[str, str], int] = {}
    pairs: list[tuple[int, int]] = []
    counts: list[int] = []
    total = 0
    for probe_set in sorted({probe_set for probe_set, _ in images} & set(atlas.probe_sets())):
        rows = atlas.probe_images(probe_set, ["index", "class", "attributes"])
        total += len(rows)
        for row in rows.to_pylist():
            at = place.get((probe_set, row["index"]))
            for kind in _told(row):
                one = number.setdefault(kind, len(number))
                if one == len(counts):
                    counts.append(0)
                counts[one] += 1
                if at is not None:
                    pairs.append((at, one))
    found = np.asarray(pairs, np.int64).reshape(-1, 2)
    return Kinds(found[:, 0], found[:, 1], np.asarray(counts, np.float64) / max(total, 1))


def _told(row: dict[str, object]) -> Iterator[tuple[str, str]]:
    attributes = row["attributes"]
    named = {(one["name"], one["value"]) for one in attributes} if isinstance(attributes, list) else set()
    if isinstance(row["class"], str) and not any(value == row["class"] for _, value in named):
        yield "class", row["class"]
    yield from sorted(named)


def features(fires: Fired, kinds: Kinds, seed: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """float32 (neurons, axes), and bool (neurons,): whether any image fires the neuron; rows without are 0."""
    shape = (fires.neurons, len(fires.images))
    strongest = sp.csr_matrix((np.ones(len(fires.neuron), np.float32), (fires.neuron, fires.image)), shape=shape)
    halves = [_by_images(strongest, seed)]
    if len(kinds.share):
        halves.append(KINDS * _by_kinds(strongest, kinds, seed))
    there = np.zeros(fires.neurons, bool)
    there[fires.neuron] = True
    return np.hstack(halves).astype(np.float32), there


def _by_images(strongest: sp.csr_matrix, seed: int) -> Floats:
    neurons = strongest.shape[0]
    excites = np.maximum(np.asarray(strongest.sum(0)).ravel(), 1)
    weighted = strongest @ sp.diags(np.log1p(neurons / excites).astype(np.float32))
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    whole = sp.diags(1 / np.where(length > 0, length, 1)) @ weighted
    return _unit_rows(_reduced(whole.tocsr(), np.zeros(strongest.shape[1]), seed))


def _by_kinds(strongest: sp.csr_matrix, kinds: Kinds, seed: int) -> Floats:
    count = len(kinds.share)
    has = sp.csr_matrix(
        (np.ones(len(kinds.image), np.float32), (kinds.image, kinds.kind)), shape=(strongest.shape[1], count)
    )
    images = np.maximum(np.asarray(strongest.sum(1)).ravel(), 1)
    deviation = np.sqrt(kinds.share * (1 - kinds.share))
    over = 1 / np.where(deviation > 0, deviation, np.inf)  # what all images have tells nothing
    shares = sp.diags(1 / images) @ strongest @ has @ sp.diags(over)
    reduced = _reduced(shares.tocsr(), kinds.share * over, seed)
    reduced[np.asarray(strongest.sum(1)).ravel() == 0] = 0
    return _unit_rows(reduced)


def _reduced(matrix: sp.csr_matrix, centre: npt.NDArray[np.float64], seed: int) -> Floats:
    """The rows, less `centre`, along the axes of greatest spread: (rows, at most COMPONENTS)."""
    most = min(COMPONENTS, *matrix.shape)
    from sklearn.utils.extmath import randomized_svd  # a second to import, and sites without a map need none

    _, _, axes = randomized_svd(matrix, most, random_state=seed)
    return np.asarray(matrix @ axes.T - centre @ axes.T, dtype=np.float32)


def _unit_rows(rows: Floats) -> Floats:
    """The rows at length 1; rows of 0 stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1), dtype=np.float32)
