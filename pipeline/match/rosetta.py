"""Rosetta clusters: neurons of three or more models, every two of them each other's best counterpart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import networkx as nx
import numpy as np

from pipeline.match.counterparts import MatchResult

Neuron = tuple[str, int]
"""A slug and an index over all neurons of that model."""


@dataclass(frozen=True)
class Cluster:
    """Neurons of different models, each the mutual best of each; `correlation` is the mean over all pairs."""

    neurons: tuple[Neuron, ...]  # sorted
    correlation: float


def clusters(matches: dict[tuple[str, str], MatchResult], *, models: int = 3) -> list[Cluster]:
    """Rosetta clusters of at least `models` neurons, the largest first, then the most alike.

    In the graph whose edges are the significant mutual-best pairs of all pairs of models, a cluster is a clique. As a
    neuron has at most one mutual best in a model, a cluster holds at most one neuron a model. Cliques may overlap;
    they are taken greedily, largest first, then by correlation, then by name, so that each neuron is in one at most.
    matches: by the slugs of both models, each pair once.
    """
    graph = _rosetta_pairs(matches)
    taken = []
    for component in list(nx.connected_components(graph)):
        left = graph.subgraph(component).copy()
        while len(left) >= models:
            best = min((_cluster(clique, graph) for clique in nx.find_cliques(left)), key=_rank)
            if len(best.neurons) < models:
                break
            taken.append(best)
            left.remove_nodes_from(best.neurons)
    return sorted(taken, key=_rank)


def _rank(cluster: Cluster) -> tuple[int, float, tuple[Neuron, ...]]:
    return -len(cluster.neurons), -cluster.correlation, cluster.neurons


def _rosetta_pairs(matches: dict[tuple[str, str], MatchResult]) -> nx.Graph:
    """The significant mutual-best pairs as edges, each with its correlation."""
    graph = nx.Graph()
    for (first, second), match in matches.items():
        side = match.first
        for index in np.flatnonzero(side.mutual & side.significant[:, 0]):
            neurons = (first, int(index)), (second, int(side.partner[index, 0]))
            graph.add_edge(*neurons, correlation=float(side.correlation[index, 0]))
    return graph


def _cluster(clique: Iterable[Neuron], graph: nx.Graph) -> Cluster:
    neurons = tuple(sorted(clique))
    pairs = [graph.edges[pair]["correlation"] for pair in combinations(neurons, 2)]
    return Cluster(neurons, sum(pairs) / len(pairs) if pairs else 0.0)
