"""Whether a finding may be chance: AUROC with a lower bound, pooled permutation p-values, false discovery rate."""

from __future__ import annotations

import torch
from scipy.stats import false_discovery_control
from torch import Tensor

ONE_SIDED_95 = 1.6448536269514722


def auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """Chance that a positive scores above a negative, ties counting half: (..., rows).

    scores: float (..., rows, items); positive: bool, broadcastable to it. NaN where a kind is absent.
    """
    rank = midranks(scores)
    positive = positive.expand_as(scores)
    ones = positive.sum(-1).double()
    zeros = positive.shape[-1] - ones
    above = (rank * positive).sum(-1) - ones * (ones + 1) / 2
    return torch.where((ones > 0) & (zeros > 0), above / (ones * zeros), torch.nan)


def midranks(scores: Tensor) -> Tensor:
    """float64, the rank of each item in its row from 1 on; ties share the mean of theirs."""
    scores = scores.contiguous()
    ordered = scores.sort(dim=-1).values
    below = torch.searchsorted(ordered, scores, right=False)
    upto = torch.searchsorted(ordered, scores, right=True)
    return (below + upto + 1).double() / 2


def auroc_lower(value: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """One-sided 95 % lower bound of an AUROC, by the standard error of Hanley and McNeil (1982)."""
    a = value.double()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = a * (1 - a) + (positives - 1) * (q1 - a * a) + (negatives - 1) * (q2 - a * a)
    return a - ONE_SIDED_95 * (variance / (positives * negatives)).clamp(min=0).sqrt()


def standardised(observed: Tensor, null: Tensor) -> tuple[Tensor, Tensor]:
    """(observed, null draws) in standard deviations from the mean of the null: shapes as given.

    observed: (...); null: (draws, ...). Each null draw is measured against the other draws, as the observed value is
    against all: were it against itself too, its tail would be shorter than that of an observed draw of the same kind.
    """
    draws = len(null)
    mean, spread = null.mean(0), null.std(0)
    least = least_spread(mean)
    away = null - mean
    others = ((draws - 1) * spread**2 - away**2 * draws / (draws - 1)).clamp(min=0) / (draws - 2)
    left_out = away * draws / (draws - 1) / torch.maximum(others.sqrt(), least)
    return (observed - mean) / torch.maximum(spread, least), left_out


def least_spread(mean: Tensor) -> Tensor:
    """The least that counts as a spread around a mean: where all draws are alike, rounding must not be a finding."""
    return (1e-5 * mean.abs()).clamp(min=1e-12)


def pooled_p(statistic: Tensor, null: Tensor) -> tuple[Tensor, Tensor]:
    """z and p of each row's statistic against its own null draws: float64 (rows,) each.

    statistic: (rows,); null: (draws, rows). Every row is standardised by its own null; the tail is counted in the
    standardised draws of all rows together. So a layer of 3,072 neurons with 200 shuffles can resolve p down to
    1 in 600,000, where each by itself would end at 1 in 200. The draw itself counts: p is never 0.
    """
    z, draws = standardised(statistic.double(), null.double())
    pool = draws.flatten().sort().values
    as_high = len(pool) - torch.searchsorted(pool, z, right=False)
    return z, (1 + as_high).double() / (1 + len(pool))


def benjamini_hochberg(p: Tensor) -> Tensor:
    """q of each p: the smallest false discovery rate at which it is still a discovery (Benjamini, Hochberg 1995)."""
    return torch.from_numpy(false_discovery_control(p.double().cpu().numpy())).to(p) if len(p) else p.clone()
