"""How readable a neuron is, from embeddings of the crops that excite it most: clarity, polysemanticity, redundancy.

In the sense of SemanticLens (Dreyer et al., 2501.05398), where clarity is the mean cosine between a neuron's exciting
crops, polysemanticity the distance between the centres of two clusters of them, and redundancy the cosine of mean
embeddings with the nearest other neuron. Two things are added, because raw cosines have no zero: clarity is counted
from what random crops reach, and clusters must be more than any cloud of that shape would split into.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.seeds import generator
from pipeline.similarity import ELEMENTS, chunks

ROTATIONS = 60
"""Clouds of the same shape that a neuron's split is compared with."""

RANDOM_CROPS = 2000
STARTS = 4
"""Directions of greatest spread that a split is started from."""


@dataclass(frozen=True)
class Readability:
    """Per neuron of a layer, float32 (neurons,); NaN where a neuron has no exciting crops.

    clarity: mean cosine between exciting crops, from 0 (random crops) to 1 (equal crops); below 0 where they are less
        alike than random ones
    polysemanticity: 0 (one meaning, or noise) to 1 (two tight clusters as far apart as random crops)
    polysemanticity_p: chance that a cloud without clusters, of the same shape, splits as well
    redundancy: cosine between this neuron's mean embedding and its nearest twin's
    twin: int64, index of that neuron in the layer; -1 where there is none
    """

    clarity: Tensor
    polysemanticity: Tensor
    polysemanticity_p: Tensor
    redundancy: Tensor
    twin: Tensor


def readability(crops: Tensor, random_likeness: float, *, alive: Tensor | None = None, seed: int = 0) -> Readability:
    """The three measures for the neurons of a layer.

    crops: float (neurons, k, d), of length 1 each: embeddings of the k most exciting crops, k from 4 on
    random_likeness: mean cosine between random crops of the probe set (`random_likeness`)
    alive: bool (neurons,), False where a neuron has no exciting crops
    """
    neurons, k, _ = crops.shape
    if k < 4:
        raise BadConfig(f"readability from {k} crops a neuron: expected at least 4, or nothing can be said.")
    alive = torch.ones(neurons, dtype=torch.bool, device=crops.device) if alive is None else alive.to(crops.device)
    room = max(1 - random_likeness, 1e-6)
    mean = crops.float().mean(1)
    likeness = (mean.square().sum(1) * k - 1) / (k - 1)  # mean over pairs of different crops
    poly, p = polysemanticity(crops, room, seed=seed)
    redundancy, twin = nearest_twin(mean, alive)
    nothing = torch.nan
    return Readability(
        clarity=((likeness - random_likeness) / room).where(alive, nothing).cpu(),
        polysemanticity=poly.where(alive, nothing).cpu(),
        polysemanticity_p=p.where(alive, nothing).cpu(),
        redundancy=redundancy.where(alive, nothing).cpu(),
        twin=twin.where(alive, -1).cpu(),
    )


def exciting_crops(peaks: Tensor, windows: Tensor, views: Tensor, k: int = 20) -> tuple[Tensor, Tensor]:
    """(crops, alive): embeddings (neurons, k, d) of each neuron's k most exciting crops; bool (neurons,).

    peaks, windows: (images, neurons); views: (images, VIEWS, d). A neuron whose peaks are all equal has none.
    """
    k = min(k, len(peaks))
    peaks = peaks.float()
    image = peaks.sort(dim=0, descending=True, stable=True).indices[:k]  # (k, neurons)
    view = windows.long().gather(0, image) + 1
    return views[image.T, view.T].float(), peaks.amax(0) > peaks.amin(0)


def random_likeness(views: Tensor, *, seed: int = 0) -> float:
    """Mean cosine between windows of different images, drawn at random: what crops have in common anyway.

    views: (images, VIEWS, d), each of length 1; at least two images.
    """
    images = len(views)
    if images < 2:
        raise BadConfig(f"random crops of {images} images: expected at least two images.")
    draw = generator("random crops", seed, images)
    first = draw.integers(0, images, RANDOM_CROPS)
    second = (first + draw.integers(1, images, RANDOM_CROPS)) % images  # never the same image
    window = torch.from_numpy(draw.integers(1, views.shape[1], (2, RANDOM_CROPS)))
    a, b = (views[torch.from_numpy(i), w].float() for i, w in zip((first, second), window, strict=True))
    return float((a * b).sum(1).mean())


def polysemanticity(crops: Tensor, room: float, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(score, p) of two meanings: float32 (neurons,) both.

    The crops are split in two so that the centres explain the greatest share of their spread. The same is done to
    clouds with the same centre and the same covariance but no clusters: the crops' coordinates, mixed by a random
    rotation that keeps the mean. The score is the share explained beyond the clouds' mean, over all that could be,
    times the distance of the two centres relative to random crops. A split that leaves fewer than a tenth of the
    crops, or fewer than two, on one side does not count: one odd crop is no second meaning.
    """
    neurons, k, _ = crops.shape
    rotations = _rotations(k, seed).to(crops.device)
    scores, ps = [], []
    for part in chunks(neurons, max(1, ELEMENTS // (STARTS * len(rotations) * k * k))):
        some = crops[part].float()
        away = some - some.mean(1, keepdim=True)
        gram = away @ away.mT  # (neurons, k, k)
        starts = torch.linalg.eigh(gram).eigenvectors.flip(2)[:, :, :STARTS].mT  # (neurons, starts, k)
        share, side = _split(gram, starts)
        mixed = rotations @ gram[:, None] @ rotations.mT  # (neurons, rotations, k, k)
        null, _ = _split(mixed, torch.einsum("rij,nsj->nrsi", rotations, starts))
        beyond = (share - null.mean(1)) / (1 - null.mean(1)).clamp(min=1e-6)
        halves = (h / h.sum(1, keepdim=True).clamp(min=1) for h in (side, 1 - side))
        one, two = (functional.normalize((h[:, :, None] * some).sum(1), dim=1) for h in halves)
        apart = ((1 - (one * two).sum(1)) / room).clamp(0, 1)
        scores.append(torch.where(share > 0, beyond.clamp(0, 1) * apart, 0.0))
        # share and null are equal where nothing can be split: p is 1 there
        ps.append((1 + (null >= share[:, None]).sum(1)) / (1 + null.shape[1]))
    return torch.cat(scores), torch.cat(ps).float()


def nearest_twin(mean: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
    """(cosine, index) of the most similar other neuron: (neurons,) both; NaN and -1 where there is no other.

    mean: (neurons, d), mean embeddings; neurons that are not alive are nobody's twin.
    """
    unit = functional.normalize(mean.float(), dim=1)
    best, index = [], []
    for part in chunks(len(unit), max(1, ELEMENTS // max(len(unit), 1))):
        cosine = (unit[part] @ unit.T).masked_fill(~alive, -math.inf)
        own = torch.arange(part.start, part.stop, device=unit.device)
        cosine[own - part.start, own] = -math.inf
        value, which = cosine.max(1)
        best.append(value)
        index.append(which)
    value, which = torch.cat(best), torch.cat(index)
    alone = value.isinf()
    return value.masked_fill(alone, torch.nan).clamp(max=1), which.masked_fill(alone, -1)


def _split(gram: Tensor, starts: Tensor, steps: int = 10) -> tuple[Tensor, Tensor]:
    """Two-means of points given by the Gram matrix of their deviations from the mean, the best of several starts.

    gram: (..., k, k); starts: (..., starts, k), split by sign. Returns the share of the spread that the centres
    explain, (...,), 0 where no split counts, and the side of each point, (..., k), 1.0 or 0.0.
    """
    k = gram.shape[-1]
    least = max(2, math.ceil(k / 10))
    side = (starts > 0).to(gram.dtype)
    for _ in range(steps):
        pull = side @ gram  # of the one side's sum on each point; the other side's is the opposite
        count = side.sum(-1, keepdim=True)
        other = (k - count).clamp(min=1)
        count = count.clamp(min=1)
        within = (pull * side).sum(-1, keepdim=True)  # squared length of the one side's sum, and of the other's
        # nearer to centre one: 2 x.c1 - |c1|^2 > 2 x.c2 - |c2|^2, with c1 = sum / count and c2 = -sum / other
        side = (2 * pull * (1 / count + 1 / other) > within * (1 / count**2 - 1 / other**2)).to(gram.dtype)
    count = side.sum(-1)
    between = ((side @ gram) * side).sum(-1) * (1 / count.clamp(min=1) + 1 / (k - count).clamp(min=1))
    total = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None].clamp(min=1e-12)
    share = (between / total).where((count >= least) & (k - count >= least), torch.zeros_like(between))
    best = share.argmax(-1, keepdim=True)
    chosen = side.gather(-2, best[..., None].expand(*best.shape, k)).squeeze(-2)
    return share.gather(-1, best).squeeze(-1), chosen


def _rotations(k: int, seed: int) -> Tensor:
    """float32 (ROTATIONS, k, k): random orthogonal maps of k points that keep their mean."""
    draw = generator("readability rotations", seed, k)
    centre = torch.full((k, k), 1 / k, dtype=torch.float64)
    # an orthonormal basis of the deviations: Helmert's, all but its first vector
    start = torch.cat([torch.ones(k, 1, dtype=torch.float64), torch.eye(k, dtype=torch.float64)[:, 1:]], dim=1)
    basis = torch.linalg.qr(start).Q[:, 1:]
    q, r = torch.linalg.qr(torch.from_numpy(draw.standard_normal((ROTATIONS, k - 1, k - 1))))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None, :]  # evenly distributed over all rotations (Haar)
    return (basis @ q @ basis.T + centre).float()
