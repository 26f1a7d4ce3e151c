"""How many of the texts that describe two heads are the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product


def share_of_texts(first: Sequence[str], second: Sequence[str]) -> float | None:
    """Texts that both have, over the number of the longer list, in whatever order; None where neither has any."""
    longer = max(len(set(first)), len(set(second)))
    return len(set(first) & set(second)) / longer if longer else None


def texts_of_different_heads(first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]) -> float | None:
    """Mean of `share_of_texts` over all pairs of heads i of the first model and j != i of the second, as by chance.

    None where there is no such pair.
    """
    pairs = product(enumerate(first), enumerate(second))
    shares = [share_of_texts(one, other) for (i, one), (j, other) in pairs if i != j]
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else None
