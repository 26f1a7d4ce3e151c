"""Rosetta clusters: neurons of three or more models that are each other's best counterparts.

Mutual best pairs of two models are the edges; a cluster is a connected component. A pair that shuffled images
reach as well is left out: among thousands of neurons some are each other's best by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from site_builder.packs import dump, rounded

#: (slug, layer, unit)
Neuron = tuple[str, int, int]
#: Fewest models of a cluster.
MODELS = 3
#: Clusters of one pack, and of one page of their list.
CLUSTER_PACK = 64


@dataclass(frozen=True)
class Pair:
    """Two neurons that are each other's best counterpart."""

    first: Neuron
    second: Neuron
    correlation: float
    null: float | None


@dataclass(frozen=True)
class Cluster:
    members: tuple[Neuron, ...]  # by model, layer, unit
    pairs: tuple[Pair, ...]

    @property
    def models(self) -> int:
        return len({slug for slug, _, _ in self.members})

    @property
    def correlation(self) -> float:
        """Mean over its pairs."""
        return sum(pair.correlation for pair in self.pairs) / len(self.pairs)


def mutual_pairs(rows: pa.Table) -> list[Pair]:
    """The mutual and significant pairs of one layer's neuron_matches, the smaller address first."""
    kept = pc.and_(pc.fill_null(rows["mutual"], False), pc.fill_null(rows["significant"], True))
    kept = pc.and_(kept, pc.not_equal(rows["slug"], rows["partner_slug"]))
    pairs = []
    for row in rows.filter(kept).to_pylist():
        ends = sorted(
            [
                (row["slug"], row["layer"], row["unit"]),
                (row["partner_slug"], row["partner_layer"], row["partner_unit"]),
            ]
        )
        pairs.append(Pair(ends[0], ends[1], row["correlation"], row["null_correlation"]))
    return pairs


def rosetta_clusters(pairs: Iterable[Pair]) -> list[Cluster]:
    """Connected neurons of three or more models: those of most models first, then the highest correlation.

    A pair that both ends tell counts once.
    """
    parent: dict[Neuron, Neuron] = {}

    def root(neuron: Neuron) -> Neuron:
        while parent.setdefault(neuron, neuron) != neuron:
            parent[neuron] = parent[parent[neuron]]
            neuron = parent[neuron]
        return neuron

    told = {(pair.first, pair.second): pair for pair in pairs}
    for first, second in sorted(told):
        parent[root(second)] = root(first)
    members: dict[Neuron, list[Neuron]] = {}
    for neuron in sorted(parent):
        members.setdefault(root(neuron), []).append(neuron)
    edges: dict[Neuron, list[Pair]] = {}
    for ends in sorted(told):
        edges.setdefault(root(ends[0]), []).append(told[ends])
    found = [Cluster(tuple(members[key]), tuple(edges[key])) for key in members]
    kept = [cluster for cluster in found if cluster.models >= MODELS]
    return sorted(kept, key=lambda cluster: (-cluster.models, -cluster.correlation, cluster.members))


def numbers_of(clusters: Sequence[Cluster]) -> dict[Neuron, int]:
    """Neuron -> number of its cluster, from 0, in the order of the list."""
    return {neuron: number for number, cluster in enumerate(clusters) for neuron in cluster.members}


def cluster_packs(clusters: Sequence[Cluster], labels: Mapping[Neuron, str]) -> dict[str, bytes]:
    """File name -> gzip JSON of CLUSTER_PACK clusters in their order."""
    return {
        f"{start // CLUSTER_PACK:05d}.json.gz": dump(
            [_plain(cluster, labels) for cluster in clusters[start : start + CLUSTER_PACK]]
        )
        for start in range(0, len(clusters), CLUSTER_PACK)
    }


def _plain(cluster: Cluster, labels: Mapping[Neuron, str]) -> dict[str, Any]:
    place = {neuron: at for at, neuron in enumerate(cluster.members)}
    return {
        "members": [[*neuron, labels.get(neuron)] for neuron in cluster.members],
        "pairs": [
            [place[pair.first], place[pair.second], rounded(pair.correlation, 4), rounded(pair.null, 4)]
            for pair in cluster.pairs
        ],
    }
