"""TextSpan from second moments alone: the texts that span most of what a head adds.

The published algorithm (Gandelsman et al., 2310.05916, Algorithm 1, and compute_complete_text_set.py) keeps every
image's contribution: it takes the text along which the contributions deviate most, removes the direction of the text
from contributions and texts, and goes on. The deviation along a text t is sqrt(t' C t) with C the covariance, and
removing a direction from all contributions projects C on both sides: images are not needed. The same texts come out
in the same order, from d x d numbers a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """The texts that span one head's contributions, in the order of choice.

    text: int64 (m,); deviation: (m,), standard deviation over images
    along the text as projected and orthogonalised; explained: (m,), share of the head's variance along its direction.
    m is below what was asked for where nothing is left to explain.
    """

    text: Tensor
    deviation: Tensor
    explained: Tensor


def text_span(
    mean: Tensor, factor: Tensor, texts: Tensor, *, count: int = 20, rank: int = 80, least: float = 1e-10
) -> Span:
    """The texts of one head: at most `count`, on at most `rank` axes; the defaults are the published numbers.

    least: share of the second moment below which an axis, and of the variance below which a text, is rounding.

    mean: (e,) over images, in the space of texts; factor: (r, e), rows whose outer products add up to the covariance;
    texts: (texts, e), each of length 1; float64.
    Texts are first projected on the leading axes of the *uncentred* second moment, at most `rank` and no more than it
    has: the published code keeps 80 whatever the head's rank, and so directions of rounding. They are not scaled anew.
    All that follows happens within these axes, in r x r numbers.
    """
    own = _axes(mean, factor, rank, least)  # (e, r)
    left, within = texts @ own, factor @ own  # (texts, r), (rows, r)
    inner = within.mT @ within  # (r, r)
    total = factor.square().sum()
    chosen, deviations, explained = [], [], []
    for _ in range(min(count, len(texts))):
        variance = torch.einsum("tr,tr->t", left @ inner, left).clamp_min(0)
        best = int(variance.argmax()) if left.shape[1] else 0
        square = left[best].square().sum()
        if not float(variance[best]) > least * float(total * square):
            break
        direction = left[best] / square.sqrt()
        along = inner @ direction
        gained = direction @ along
        chosen.append(best)
        deviations.append(variance[best].sqrt())
        explained.append(gained / total)
        # (1 - uu') C (1 - uu'), and the same direction out of every text
        inner = inner - torch.outer(direction, along) - torch.outer(along, direction)
        inner = inner + gained * torch.outer(direction, direction)
        left = left - torch.outer(left @ direction, direction)
    nothing = texts.new_zeros(0)
    return Span(
        torch.tensor(chosen, dtype=torch.int64, device=texts.device),
        torch.stack(deviations) if chosen else nothing,
        torch.stack(explained) if chosen else nothing,
    )


def _axes(mean: Tensor, factor: Tensor, rank: int, least: float) -> Tensor:
    """(e, r): the leading eigenvectors of the second moment, which are right singular vectors of what it is made of."""
    _, values, vectors = torch.linalg.svd(torch.cat([factor, mean[None]]), full_matrices=False)
    kept = values.square() > least * values[0].square()
    kept[rank:] = False
    return vectors[kept].mT
