"""Which words a CLIP's text tower holds nearer to one group of words than to another, and how often chance does that.

The measures are those of the Word Embedding Association Test (Caliskan, Bryson and Narayanan, 2017, "Semantics derived
automatically from language corpora contain human-like biases", the section on methods): a word w is associated with the
words A more than with the words B by

    s(w, A, B) = mean over a in A of cos(w, a)  -  mean over b in B of cos(w, b)

and two groups of words X and Y differ in that by the effect size (mean of s over X - mean of s over Y) / standard
deviation of s over X and Y together. Both are compared with what is found when the words are dealt out anew at random:
those of A and B in the first case, those of X and Y in the second. Of all ways to deal, or of DRAWS drawn ones where
there are more, the share that is at least as far from zero, on either side, is p. Vectors have length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig

DRAWS = 20_000
"""Ways to deal words into two groups that are looked at, at most; the way they are given in is among them."""
_ROUNDING = 1e-6  # a difference of mean cosines below it is none


@dataclass(frozen=True)
class Associated:
    """One word: `value` is s(w, A, B), `null` the standard deviation of it when A and B are dealt out anew, `p` the
    share of these that is as far from zero, `q` that of Benjamini and Hochberg (1995) among all words tested together.
    """

    word: str
    value: float
    null: float
    p: float
    q: float


@dataclass(frozen=True)
class Effect:
    """Two groups of words: the effect size, in standard deviations of s over both; the share of dealings that is as far
    from zero.
    """

    value: float
    p: float


@dataclass(frozen=True)
class Nearness:
    """How near a word lies to any of a list: the largest cosine, the word of the list that has it, and the share of
    other words (`pool`) that lie as near or nearer to some word of the list.
    """

    word: str
    cosine: float
    nearest: str
    share: float


def associations(
    words: Sequence[str], vectors: Tensor, first: Tensor, second: Tensor, seed: int = 0
) -> list[Associated]:
    """Of each word, how much nearer it is to the first group than to the second.

    vectors: (words, d); first: (a, d), second: (b, d), all of length 1. BadConfig for a group of fewer than two words.
    """
    both = torch.cat([first, second]).double()
    cosines = vectors.double() @ both.mT  # (words, a + b)
    signs = _dealt(len(first), len(second), seed)  # (dealings, a + b), 1 / a in the first group, -1 / b in the second
    found = cosines @ signs.mT  # (words, dealings); the first is the one given
    shares = _as_far(found)
    return [
        Associated(word, float(found[at, 0]), float(found[at].std(correction=0)), float(shares[at]), float(q))
        for at, (word, q) in enumerate(zip(words, discovery_rates(shares), strict=True))
    ]


def effect(x: Tensor, y: Tensor, first: Tensor, second: Tensor, seed: int = 0) -> Effect:
    """How differently two groups of words, (x, d) and (y, d), are associated with two others. BadConfig as above."""
    both = torch.cat([x, y]).double()
    values = both @ first.double().mean(0) - both @ second.double().mean(0)
    found = _dealt(len(x), len(y), seed) @ values  # differences of means
    spread = values.std(correction=1)
    size = float(found[0] / spread) if float(spread) > _ROUNDING else 0.0
    return Effect(size, float(_as_far(found[None])[0]))


def nearness(words: Sequence[str], vectors: Tensor, listed: Sequence[str], to: Tensor, pool: Tensor) -> list[Nearness]:
    """How near each word, (words, d), lies to those of a list, (listed, d). pool: (others, d). BadConfig for none."""
    if not len(pool) or not len(listed):
        raise BadConfig("nearness is told against other words: expected at least one in the list and one in the pool.")
    best, place = (vectors.double() @ to.double().mT).max(1)
    others = (pool.double() @ to.double().mT).amax(1)
    shares = (others[None] >= best[:, None] - _ROUNDING).double().mean(1)
    rows = zip(words, best.tolist(), place.tolist(), shares.tolist(), strict=True)
    return [Nearness(word, cosine, listed[at], share) for word, cosine, at, share in rows]


def discovery_rates(shares: Tensor) -> Tensor:
    """Benjamini and Hochberg's q of p-values (n,): the least false discovery rate at which each counts as found."""
    order = shares.argsort(descending=True)
    count = len(shares)
    ranks = torch.arange(count, 0, -1, dtype=shares.dtype)
    found = torch.empty_like(shares)
    found[order] = torch.cummin(shares[order] * count / ranks, 0).values.clamp_max(1)
    return found


def _dealt(first: int, second: int, seed: int) -> Tensor:
    """float64 (dealings, first + second): weights of a difference of means. All ways, or DRAWS; first the one given."""
    if min(first, second) < 2:
        raise BadConfig(f"groups of {first} and {second} words: expected two or more in each, to tell it from chance.")
    total = first + second
    chosen = np.zeros((min(comb(total, first), DRAWS), total), dtype=bool)
    if comb(total, first) <= DRAWS:
        for row, places in zip(chosen, combinations(range(total), first), strict=True):  # the one given comes first
            row[list(places)] = True
    else:
        draw = np.random.default_rng(seed)
        chosen[0, :first] = True
        for row in chosen[1:]:
            row[draw.choice(total, first, replace=False)] = True
    return torch.from_numpy(np.where(chosen, 1 / first, -1 / second))


def _as_far(found: Tensor) -> Tensor:
    """(rows,): the share of a row (rows, dealings) that is as far from zero as its first, on either side."""
    size = found.abs()
    return (size >= size[:, :1] - _ROUNDING).double().mean(1)
