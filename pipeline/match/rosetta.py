"""Rosetta clusters: neurons of three or more models, every two of them each other's best counterpart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    edges = _rosetta_pairs(matches)
    found = []
    for component in _components(edges):
        left = set(component)
        while len(left) >= models:
            sizes = [_cluster(clique, edges) for clique in _cliques(set(), set(left), set(), edges)]
            best = min(sizes, key=_rank)
            if len(best.neurons) < models:
                break
            found.append(best)
            left -= set(best.neurons)
    return sorted(found, key=_rank)


def _rank(cluster: Cluster) -> tuple[int, float, tuple[Neuron, ...]]:
    return -len(cluster.neurons), -cluster.correlation, cluster.neurons


def _rosetta_pairs(matches: dict[tuple[str, str], MatchResult]) -> dict[Neuron, dict[Neuron, float]]:
    edges: dict[Neuron, dict[Neuron, float]] = {}
    for (one, other), match in matches.items():
        side = match.first
        for index in np.flatnonzero(side.mutual & side.significant[:, 0]):
            a, b = (one, int(index)), (other, int(side.partner[index, 0]))
            edges.setdefault(a, {})[b] = edges.setdefault(b, {})[a] = float(side.correlation[index, 0])
    return edges


def _components(edges: dict[Neuron, dict[Neuron, float]]) -> Iterator[set[Neuron]]:
    left = set(edges)
    while left:
        component, frontier = set(), [left.pop()]
        while frontier:
            node = frontier.pop()
            component.add(node)
            new = left & set(edges[node])
            left -= new
            frontier.extend(new)
        yield component


def _cliques(
    inside: set[Neuron], may: set[Neuron], done: set[Neuron], edges: dict[Neuron, dict[Neuron, float]]
) -> Iterator[set[Neuron]]:
    """All maximal cliques (Bron and Kerbosch 1973, with a pivot)."""
    if not may and not done:
        yield inside
        return
    pivot = max(may | done, key=lambda node: len(may & set(edges[node])))
    for node in sorted(may - set(edges[pivot])):
        near = set(edges[node])
        yield from _cliques(inside | {node}, may & near, done & near, edges)
        may, done = may - {node}, done | {node}


def _cluster(clique: set[Neuron], edges: dict[Neuron, dict[Neuron, float]]) -> Cluster:
    neurons = tuple(sorted(clique))
    pairs = [edges[a][b] for i, a in enumerate(neurons) for b in neurons[i + 1 :]]
    return Cluster(neurons, sum(pairs) / len(pairs) if pairs else 0.0)
