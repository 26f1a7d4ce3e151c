"""Labels that mean nearly what a text means, by the neurons that they compete for.

The dataset holds no vectors of its texts. But it holds the five best texts of each neuron, with how far each stands out
(z): two texts that stand out for the same neurons say, of these images, nearly the same, as the CLIP that compared them
saw it. The likeness of two texts is the cosine of their z over all neurons. So a word that no neuron is called by leads
to the labels of the neurons that it comes second to. The browser ranks as `ranked` does (static/near_labels.js).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from atlas_schema.searching import words_of
from site_builder.packs import dump

#: Labels kept of a text, how alike they are at least, and how many neurons both stand out for at least.
MOST, LEAST, SHARED = 5, 0.1, 2
#: Labels that a query leads to.
LIMIT = 8

#: Text -> (label, likeness), the most alike first.
Near = dict[str, list[tuple[str, float]]]


def near_labels(candidates: Iterable[Sequence[tuple[str, float]]], labels: Iterable[str]) -> Near:
    """Of every text its nearest labels, other than itself; texts without any are left out.

    candidates: of each neuron its best texts with their z; labels: the texts that neurons are called by.
    """
    number: dict[str, int] = {}
    texts, neurons, values = [], [], []
    for neuron, own in enumerate(candidates):
        for text, z in own:
            if z > 0:
                texts.append(number.setdefault(text, len(number)))
                neurons.append(neuron)
                values.append(z)
    order = [text for text in sorted(set(labels)) if text in number]
    if not order:
        return {}
    shape = (len(number), max(neurons) + 1)
    stands = sp.csr_matrix((np.asarray(values), (texts, neurons)), shape=shape)
    length = np.sqrt(np.asarray(stands.multiply(stands).sum(1)).ravel())
    unit = sp.diags(1 / length) @ stands
    rows = [number[text] for text in order]
    alike = (unit @ unit[rows].T).tocsr()
    shared = ((stands > 0).astype(np.int32) @ (stands[rows] > 0).astype(np.int32).T).tocsr()
    near: Near = {}
    for text, row in number.items():
        together = dict(_cells(shared, row))
        found = [
            (order[at], round(float(likeness), 3))
            for at, likeness in _cells(alike, row)
            if likeness >= LEAST and order[at] != text and together.get(at, 0) >= SHARED
        ]
        if found:
            near[text] = sorted(found, key=lambda one: (-one[1], one[0]))[:MOST]
    return near


def _cells(matrix: sp.csr_matrix, row: int) -> Iterator[tuple[int, float]]:
    """Column and value of what a row of a matrix holds."""
    own = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return zip(matrix.indices[own].tolist(), matrix.data[own].tolist(), strict=True)


def near_file(near: Near) -> bytes:
    """Gzip JSON: `labels`, and of each text pairs of a place among them and a likeness."""
    labels = sorted({label for own in near.values() for label, _ in own})
    place = {label: at for at, label in enumerate(labels)}
    told: dict[str, Any] = {text: [[place[label], likeness] for label, likeness in near[text]] for text in sorted(near)}
    return dump({"labels": labels, "near": told})


def ranked(near: Mapping[str, Sequence[tuple[str, float]]], query: str) -> list[tuple[str, float]]:
    """Labels that a query leads to by meaning, at most LIMIT, with their likeness, the most alike first; ties by name.

    The query stands for the texts that hold all its words, or words that begin so; labels that do so themselves are
    found by their words, and left out here.
    """
    words = words_of(query)

    def holds(text: str) -> bool:
        own = words_of(text)
        return all(any(one.startswith(word) for one in own) for word in words)

    best: dict[str, float] = {}
    for text in near if words else ():
        if holds(text):
            for label, likeness in near[text]:
                if not holds(label):
                    best[label] = max(likeness, best.get(label, 0.0))
    return sorted(best.items(), key=lambda one: (-one[1], one[0]))[:LIMIT]
