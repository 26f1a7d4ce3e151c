"""The rule by which a neuron is said to have kept its meaning, to have moved, or to be gone (docs/diff.md).

Two questions are asked of every neuron of a layer, each against a null, each with the false discovery rate of the layer
held by Benjamini and Hochberg's procedure (Journal of the Royal Statistical Society B 57, 1995):

1. Is it as like the neuron of the same address as no two neurons of the layer are that were paired at random?
2. Where not: is it as like its best partner in the layer as no neuron is like another one of its own model, and the
   partner's own best?
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from pipeline.compare.likeness import NO_PARTNER, Floats, Integers, LayerLikeness


class Fate(StrEnum):
    """What became of a neuron; `GONE` is called died of the first model's neurons, appeared of the second's."""

    KEPT = "kept"
    MOVED = "moved"
    GONE = "gone"


@dataclass(frozen=True)
class Rule:
    """least: likeness that counts, at least; discovery_rate: of a layer's kept, and of its moved, neurons."""

    least: float
    discovery_rate: float = 0.05


@dataclass(frozen=True)
class Fates:
    """What became of the n neurons of a layer, in the order of `LayerLikeness.units`.

    fate: Fate (n,)
    same, same_q: (n,), likeness with the neuron of the same address (minus infinity: not known), and its q
    partner: int (n,), column of the most similar neuron of the layer; `NO_PARTNER` where none is known
    best, best_q: (n,), likeness with it, and its q; NaN where this was not asked, since the neuron kept its address
    mutual: bool (n,), whether it is the partner's most similar one, too
    """

    fate: NDArray[np.object_]
    same: Floats
    same_q: Floats
    partner: Integers
    best: Floats
    best_q: Floats
    mutual: NDArray[np.bool_]


def fates(alike: LayerLikeness, rule: Rule) -> Fates:
    """What became of each neuron of a layer in another model; `alike.turned()` asks the other way round."""
    same, same_q = _by_address(alike)
    at_address = (same_q <= rule.discovery_rate) & (same >= rule.least)
    partner, best, mutual = best_partners(alike)
    elsewhere = (partner != NO_PARTNER) & (best > same)
    asked = ~at_address | (elsewhere & mutual)
    best_q = np.full(len(same), np.nan)
    best_q[asked] = _q(_share_at_least(np.concatenate([alike.strangers, alike.strangers_there]), best[asked]))
    found = asked & mutual & (np.nan_to_num(best_q, nan=1.0) <= rule.discovery_rate) & (best >= rule.least)
    fate = np.full(len(same), Fate.GONE, dtype=object)
    fate[at_address | (found & ~elsewhere)] = Fate.KEPT
    fate[found & elsewhere] = Fate.MOVED
    return Fates(fate, same, same_q, partner, best, best_q, mutual)


def best_partners(alike: LayerLikeness) -> tuple[Integers, Floats, NDArray[np.bool_]]:
    """(n,) each: column of the most similar neuron, how alike, and whether each is the other's most similar."""
    rows, columns = alike.order.shape
    if not rows or not columns:
        return np.full(rows, NO_PARTNER), np.full(rows, -np.inf), np.zeros(rows, dtype=np.bool_)
    forward, backward = alike.order.argmax(axis=1), alike.order.argmax(axis=0)
    best = alike.held[np.arange(rows), forward]
    known = np.isfinite(best)
    mutual = known & (backward[forward] == np.arange(rows))
    return np.where(known, forward, NO_PARTNER), best, mutual


def random_pairs(alike: LayerLikeness) -> Floats:
    """Likeness (at most) of all pairs of neurons with different addresses, in no order: the null of question 1."""
    different = alike.units[:, None] != alike.units_there[None]
    pairs: Floats = alike.ceiling[different]
    return pairs


def _by_address(alike: LayerLikeness) -> tuple[Floats, Floats]:
    """(n,) likeness with the neuron of the same address, and its q over those that have one; else -inf and 1."""
    column_of = {int(unit): column for column, unit in enumerate(alike.units_there)}
    columns = np.array([column_of.get(int(unit), NO_PARTNER) for unit in alike.units], dtype=np.int64)
    there = columns != NO_PARTNER
    same, q = np.full(len(columns), -np.inf), np.ones(len(columns))
    same[there] = alike.held[np.nonzero(there)[0], columns[there]]
    q[there] = _q(_share_at_least(random_pairs(alike), same[there]))
    return same, q


def _share_at_least(null: Floats, values: Floats) -> Floats:
    """(1 + how many of `null` are not below) / (1 + their number), for each value: a p-value that is never 0."""
    ordered = np.sort(null)
    above = len(ordered) - np.searchsorted(ordered, values, side="left")
    return np.where(np.isfinite(values), (1.0 + above) / (1.0 + len(ordered)), 1.0)


def _q(p: Floats) -> Floats:
    """p-values of a layer as the false discovery rate at which each would still be called."""
    return np.asarray(false_discovery_control(p)) if len(p) else p
