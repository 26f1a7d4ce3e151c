"""Places on a map -> files that a browser reads by region and depth.

A map is a tree. Its root holds some neurons of the whole plane, drawn at random, so that it already shows the map's
shape; what is left is cut in two across the longer side, with as many neurons in each half, and so on. How many nodes
there are follows from the number of neurons alone. Within a node neurons stand in the order of a curve through the
plane, and so do their small pictures: what is seen together comes together.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from site_builder.neuron_map.layout import SEED

#: Neurons of a node; a last one may hold half as many more.
NODE = 8192
#: Bytes of a neuron before gzip: x, y, layer, unit and label of two bytes, verdict of one.
POINT_BYTES = 11
#: Small pictures: pixels of a side, of how many a sheet is made, in how many columns, and of how many neurons of a map.
TILE, SHEET, COLUMNS, MOST_PICTURES = 48, 128, 16, 40_000
NO_LABEL, NO_VERDICT = 65_535, 255

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Node:
    """A region of the map with some of its neurons; those left are in the nodes that name it as their parent."""

    box: tuple[int, int, int, int]  # left, top, right, bottom: of its neurons and of all below it
    members: Numbers  # numbers of its neurons, along the curve
    parent: int  # its number; -1 for the root


def node_count(neurons: int) -> int:
    """How many nodes hold so many neurons."""
    if neurons <= NODE + NODE // 2:
        return int(neurons > 0)
    left = neurons - NODE
    return 1 + node_count(left // 2) + node_count(left - left // 2)


def nodes_of(places: npt.NDArray[np.uint16]) -> list[Node]:
    """The tree, parents before children, level by level. places: (neurons, 2)."""
    made: list[Node] = []
    drawn = np.random.default_rng(SEED).permutation(len(places))
    waiting: list[tuple[Numbers, int]] = [(drawn, -1)] if len(places) else []
    while waiting:
        later = []
        for members, parent in waiting:
            whole = len(members) <= NODE + NODE // 2
            own = members if whole else members[:NODE]
            box = (*places[members].min(0).tolist(), *places[members].max(0).tolist())
            made.append(Node(box, own[np.argsort(_along(places[own]), kind="stable")], parent))
            if not whole:
                later += [(half, len(made) - 1) for half in _halves(places, members[NODE:])]
        waiting = later
    return made


def _halves(places: npt.NDArray[np.uint16], members: Numbers) -> tuple[Numbers, Numbers]:
    """Cut across the longer side, each half in the order in which it was drawn."""
    own = places[members].astype(np.int64)
    axis = int(np.ptp(own, axis=0).argmax())
    first = np.zeros(len(members), bool)
    first[np.lexsort((members, own[:, axis]))[: len(members) // 2]] = True
    return members[first], members[~first]


def _along(places: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint64]:
    """Place along Morton's curve: the bits of x and y by turns."""
    return _spread(places[:, 0]) | _spread(places[:, 1]) << np.uint64(1)


def _spread(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint64]:
    bits = values.astype(np.uint64)
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        bits = (bits | bits << np.uint64(shift)) & np.uint64(mask)
    return bits


def node_files(nodes: Sequence[Node], columns: Mapping[str, npt.NDArray[np.integer]]) -> Iterator[tuple[str, bytes]]:
    """File name -> gzip of a node's neurons: the columns one after the other, in the order of `columns`."""
    for number, node in enumerate(nodes):
        data = b"".join(np.ascontiguousarray(values[node.members]).tobytes() for values in columns.values())
        yield f"{number:05d}.points.gz", gzip.compress(data, compresslevel=9, mtime=0)


def sheets_of(nodes: Sequence[Node], most: int | None = None) -> list[list[Numbers]]:
    """Of each node the sheets of small pictures, as numbers of their neurons; the first nodes have them, up to `most`
    neurons together (default: MOST_PICTURES)."""
    left = MOST_PICTURES if most is None else most
    sheets: list[list[Numbers]] = []
    for node in nodes:
        own = node.members if len(node.members) <= left else node.members[:0]
        left = left - len(own) if len(own) else 0
        sheets.append([own[start : start + SHEET] for start in range(0, len(own), SHEET)])
    return sheets


def sheet_count(neurons: int) -> int:
    """How many sheets a map of so many neurons has, at most."""
    pictured = min(neurons, MOST_PICTURES)
    return -(-pictured // SHEET) + min(node_count(neurons), pictured // NODE + 1)


def region_names(
    places: npt.NDArray[np.uint16], labels: npt.NDArray[np.int64], cells: int = 14
) -> list[tuple[int, int, int, int]]:
    """Labels that name a region: (x, y, label, neurons), the most neurons first.

    The plane is cut into `cells` x `cells`; in a cell the most frequent label stands at the middle of its neurons,
    where three or more, and a quarter of the labelled ones, have it. labels: below 0 for none.
    """
    there = labels >= 0
    own, named = places[there].astype(np.int64), labels[there]
    cell = own[:, 1] * cells // 65_536 * cells + own[:, 0] * cells // 65_536
    found = []
    for number in np.unique(cell):
        inside = np.flatnonzero(cell == number)
        texts, counts = np.unique(named[inside], return_counts=True)
        best = int(counts.argmax())
        if counts[best] >= max(3, len(inside) / 4):
            x, y = np.median(own[inside[named[inside] == texts[best]]], axis=0).round().astype(int).tolist()
            found.append((x, y, int(texts[best]), int(counts[best])))
    return sorted(found, key=lambda one: (-one[3], one[:3]))
