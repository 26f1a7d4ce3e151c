"""Mean and spread of soft WPMI over all shuffles of the images, in closed form: no draws, so no luck in them.

A neuron's score of a text is a sum over the ranks r of its strongest images, S = sum_r g_r(x_r), where x_r is the image
(in the neuron's view v_r of it) and g_r(x) = log(1 + m_r (p(t|x) - 1) + 1e-7) with m_r the membership of rank r
(`similarity.SoftWpmi`). A shuffle gives the ranks images drawn from all N without replacement. With C_rs the covariance
of g_r and g_s over the N images (divided by N):

    E[S]   = sum_r mean g_r
    Var[S] = sum_r C_rr + sum_{r != s} Cov(g_r(x_r), g_s(x_s)),    Cov = -C_rs / (N - 1) without replacement
           = N / (N - 1) sum_r C_rr - Var_x(sum_r g_r(x)) / (N - 1)

Where all neurons look at whole images, both are the same for all neurons. Crops are different for each: the sums run
over the views that its ranks have. So that this costs no pass over the images for each neuron, g_r is interpolated: as
a function of log(1 - m) it is smooth (its nearest singularity lies pi off the real axis, whatever p), and `NODES`
Chebyshev points give it for every rank to about 1e-4 of its spread. What is kept is, for each text, the mean and the
covariance of g at these points of each view; each neuron's moments are linear and quadratic forms in them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NODES = 6
"""Memberships at which g is computed: the error falls by 4.8 for each."""


class ShuffledMoments:
    """Moments of soft WPMI's log likelihood on shuffled images, for neurons of any views."""

    def __init__(self, chances: Tensor, views: int, membership: Tensor, elements: int) -> None:
        """chances: float32 (images x views, texts), p(t|x) - 1 is taken of it; membership: (ranks,), descending.

        elements: floats in the largest temporary.
        """
        nodes, self.weights = interpolation(membership.double())
        self.images, self.views = len(chances) // views, views
        self.sites = views * len(nodes)  # points of all views
        texts = chances.shape[1]
        self.mean = chances.new_empty(texts, self.sites)
        self.covariance = chances.new_empty(texts, self.sites, self.sites)
        size = max(1, elements // (self.images * self.sites))
        for start in range(0, texts, size):
            some = slice(start, min(start + size, texts))
            away = (chances[:, some] - 1).view(self.images, views, 1, -1)
            g = (away * nodes.to(away)[:, None] + (1 + 1e-7)).log_().flatten(1, 2).permute(2, 1, 0)
            mean = g.mean(2)  # (texts, sites)
            g = g - mean[:, :, None]
            self.mean[some] = mean
            self.covariance[some] = g @ g.transpose(1, 2) / self.images

    def of(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the log likelihood on shuffled images: float32 (neurons, texts) each.

        views: int64 (ranks, neurons), the view that each rank of each neuron has.
        """
        weights = self.weights.to(self.mean)
        in_view = torch.nn.functional.one_hot(views.T, self.views).to(weights)  # (neurons, ranks, views)
        first = torch.einsum("nrv,rk->nvk", in_view, weights).flatten(1)
        squares = torch.einsum("nrv,rk,rl->nvkl", in_view, weights, weights)
        form = torch.diag_embed(squares.permute(0, 2, 3, 1))  # (neurons, k, l, view, view)
        form = form.permute(0, 3, 1, 4, 2).reshape(len(first), self.sites, self.sites) * self.images
        form = (form - first[:, :, None] * first[:, None, :]) / max(1, self.images - 1)
        variance = form.flatten(1) @ self.covariance.flatten(1).T
        return first @ self.mean.T, variance.clamp(min=0).sqrt()


def interpolation(membership: Tensor) -> tuple[Tensor, Tensor]:
    """Memberships to compute at, float64 (nodes,), and what each counts at each rank: float64 (ranks, nodes).

    Lagrange's polynomials through Chebyshev's points of log(1 - m); exact where there are no more ranks than nodes.
    """
    ranks = len(membership)
    if ranks <= NODES:
        return membership, torch.eye(ranks, dtype=torch.float64, device=membership.device)
    at = torch.log1p(-membership)
    low, high = at.min(), at.max()
    angle = (2 * torch.arange(NODES, dtype=torch.float64, device=at.device) + 1) * (math.pi / (2 * NODES))
    nodes = (low + high) / 2 + (high - low) / 2 * torch.cos(angle)
    apart = nodes[:, None] - nodes[None, :] + torch.eye(NODES, dtype=torch.float64, device=at.device)
    weights = torch.stack(
        [torch.stack([(at - nodes[j]) / apart[i, j] for j in range(NODES) if j != i]).prod(0) for i in range(NODES)],
        dim=1,
    )
    return -torch.expm1(nodes), weights
