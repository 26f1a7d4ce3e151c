"""Whether a finding may be chance: AUROC with a lower bound, pooled permutation p-values, false discovery rate."""

from __future__ import annotations

import torch
from torch import Tensor

ONE_SIDED_95 = 1.6448536269514722


def auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """Chance that a positive scores above a negative, ties counting half: (..., rows).

    scores: float (..., rows, items); positive: bool, broadcastable to it. NaN where a kind is absent.
    """
    scores = scores.contiguous()
    ordered = scores.sort(dim=-1).values
    below = torch.searchsorted(ordered, scores, right=False)
    upto = torch.searchsorted(ordered, scores, right=True)
    rank = (below + upto + 1).double() / 2  # from 1, ties share the mean
    positive = positive.expand_as(scores)
    ones = positive.sum(-1).double()
    zeros = positive.shape[-1] - ones
    above = (rank * positive).sum(-1) - ones * (ones + 1) / 2
    return torch.where((ones > 0) & (zeros > 0), above / (ones * zeros), torch.nan)


def auroc_lower(value: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """One-sided 95 % lower bound of an AUROC, by the standard error of Hanley and McNeil (1982)."""
    a = value.double()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = a * (1 - a) + (positives - 1) * (q1 - a * a) + (negatives - 1) * (q2 - a * a)
    return a - ONE_SIDED_95 * (variance / (positives * negatives)).clamp(min=0).sqrt()


def pooled_p(statistic: Tensor, null: Tensor) -> tuple[Tensor, Tensor]:
    """z and p of each row's statistic against its own null draws: float64 (rows,) each.

    statistic: (rows,); null: (rows, draws). Every row is standardised by its own null; the tail is counted in the
    standardised draws of all rows together. So a layer of 3,072 neurons with 200 shuffles can resolve p down to
    1 in 600,000, where each by itself would end at 1 in 200. The draw itself counts: p is never 0.
    """
    null = null.double()
    mean, spread = null.mean(1), null.std(1).clamp(min=1e-12)
    z = (statistic.double() - mean) / spread
    pool = ((null - mean[:, None]) / spread[:, None]).flatten().sort().values
    as_high = len(pool) - torch.searchsorted(pool, z, right=False)
    return z, (1 + as_high).double() / (1 + len(pool))


def benjamini_hochberg(p: Tensor) -> Tensor:
    """q of each p: the smallest false discovery rate at which it is still a discovery (Benjamini, Hochberg 1995)."""
    if not len(p):
        return p.clone()
    order = p.argsort(stable=True)
    count = len(p)
    raw = p[order] * count / torch.arange(1, count + 1, device=p.device)
    monotone = raw.flip(0).cummin(0).values.flip(0).clamp(max=1)
    return torch.empty_like(monotone).scatter_(0, order, monotone)
