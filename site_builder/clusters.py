"""Rosetta clusters: neurons of three or more models, every two of them each other's best counterpart.

In the graph whose edges are the mutual best pairs of different models, a cluster is a clique; as a neuron has at most
one mutual best in a model, it holds at most one neuron a model. Cliques may overlap: the largest are taken first,
then the most alike. A pair that shuffled images reach as well is no edge: among thousands of neurons some are each
other's best by chance.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import pyarrow as pa
import pyarrow.compute as pc

from site_builder.outline import Neuron
from site_builder.packs import dump, rounded
from site_builder.search_index import Labelled, search_index

#: A cluster has neurons of so many models at least.
LEAST_MODELS = 3
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
    members: tuple[Neuron, ...]  # of different models, sorted
    pairs: tuple[Pair, ...]  # every two of them

    @property
    def rank(self) -> tuple[int, float, tuple[Neuron, ...]]:
        """Smaller is better: more members, then a higher mean correlation, then the name."""
        return -len(self.members), -sum(pair.correlation for pair in self.pairs) / len(self.pairs), self.members


def mutual_pairs(rows: pa.Table) -> list[Pair]:
    """The mutual best and significant pairs of one layer's neuron_matches, the smaller address first."""
    kept = pc.and_(pc.fill_null(rows["mutual"], False), pc.fill_null(rows["significant"], True))
    kept = pc.and_(kept, pc.equal(rows["rank"], 0))
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
    """Clusters of three or more models, the best first; each neuron in one at most.

    A pair that both ends tell counts once. Neurons that no path of pairs connects are never in one cluster, so each
    connected part of the graph is gone through by itself: memory follows the largest of them.
    """
    edges: dict[Neuron, dict[Neuron, Pair]] = {}
    for pair in pairs:
        edges.setdefault(pair.first, {})[pair.second] = pair
        edges.setdefault(pair.second, {})[pair.first] = pair
    graph = nx.Graph((first, second) for first, others in edges.items() for second in others)
    parts = (graph.subgraph(part) for part in nx.connected_components(graph) if len(part) >= LEAST_MODELS)
    return sorted((one for part in parts for one in _clusters_of(part, edges)), key=lambda cluster: cluster.rank)


def _clusters_of(graph: nx.Graph, edges: Mapping[Neuron, Mapping[Neuron, Pair]]) -> list[Cluster]:
    """Of a graph, the best clique first."""
    waiting = [_cluster(clique, edges) for clique in nx.find_cliques(graph) if len(clique) >= LEAST_MODELS]
    heap = [(cluster.rank, cluster) for cluster in waiting]
    heapq.heapify(heap)
    found: list[Cluster] = []
    taken: set[Neuron] = set()
    while heap:
        _, cluster = heapq.heappop(heap)
        left = [neuron for neuron in cluster.members if neuron not in taken]
        if len(left) == len(cluster.members):
            found.append(cluster)
            taken.update(left)
        elif len(left) >= LEAST_MODELS:  # what a better one left of it waits its turn
            rest = _cluster(left, edges)
            heapq.heappush(heap, (rest.rank, rest))
    return found


def _cluster(clique: Iterable[Neuron], edges: Mapping[Neuron, Mapping[Neuron, Pair]]) -> Cluster:
    members = tuple(sorted(clique))
    return Cluster(members, tuple(edges[a][b] for i, a in enumerate(members) for b in members[i + 1 :]))


def cluster_packs(clusters: Sequence[Cluster], labels: Mapping[Neuron, str]) -> dict[str, bytes]:
    """File name -> gzip JSON of CLUSTER_PACK clusters in their order."""
    return {
        f"{start // CLUSTER_PACK:05d}.json.gz": dump(
            [_plain(cluster, labels) for cluster in clusters[start : start + CLUSTER_PACK]]
        )
        for start in range(0, len(clusters), CLUSTER_PACK)
    }


def cluster_search(
    clusters: Sequence[Cluster], labels: Mapping[Neuron, str]
) -> tuple[dict[str, bytes], dict[str, Any] | None]:
    """Search by what members are called (search_index.py): a cluster stands where a neuron would, its number as the
    unit, the share of its members that carry the label where z would. Nothing where no member has a label.
    """
    named = [
        Labelled(("", 0, number), text, count / len(cluster.members), None)
        for number, cluster in enumerate(clusters)
        for text, count in Counter(labels[one] for one in cluster.members if one in labels).items()
    ]
    return search_index(named, [""]) if named else ({}, None)


def shared_label(labels: Sequence[str | None]) -> str:
    """The label that at least half of the members of a cluster carry, or nothing: a page says the same."""
    counts = Counter(label for label in labels if label is not None)
    best = min(counts.items(), key=lambda one: (-one[1], one[0]), default=("", 0))
    return best[0] if 2 * best[1] >= len(labels) else ""


def _plain(cluster: Cluster, labels: Mapping[Neuron, str]) -> dict[str, Any]:
    place = {neuron: at for at, neuron in enumerate(cluster.members)}
    return {
        "members": [[*neuron, labels.get(neuron)] for neuron in cluster.members],
        "pairs": [
            [place[pair.first], place[pair.second], rounded(pair.correlation, 4), rounded(pair.null, 4)]
            for pair in cluster.pairs
        ],
    }
