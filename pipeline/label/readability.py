"""How readable a neuron is, from embeddings of the crops that excite it most: clarity, polysemanticity, redundancy.

In the sense of SemanticLens (Dreyer et al., 2501.05398), where clarity is the mean cosine between a neuron's exciting
crops, polysemanticity the distance between the centres of two clusters of them, and redundancy the cosine of mean
embeddings with the nearest other neuron. Raw cosines have no zero, so two things are added: clarity is counted from
what random crops reach, and clusters count as far as they are clearer than those that a cloud without clusters, and
random crops of the same pictures, fall into.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.label.similarity import ELEMENTS, chunks
from pipeline.seeds import generator


@dataclass(frozen=True)
class ReadabilitySettings:
    """How many crops a neuron is judged by, and what they are compared with."""

    crops: int = 20  # most exciting ones of a neuron
    rotations: int = 60  # clouds of the same shape that a neuron's split is compared with
    random_sets: int = 200  # of random crops that a neuron's crops are compared with
    starts: int = 4  # directions of greatest spread that a split is started from
    split_steps: int = 10  # of two-means from each start
    seed: int = 0


@dataclass(frozen=True)
class Readability:
    """How readable the neurons of a layer are, float32 (neurons,) each; NaN where a neuron has no exciting crops.

    clarity: mean cosine between exciting crops, from 0 (random crops) to 1 (equal crops); below 0 where they are less
        alike than random ones
    polysemanticity: 0 (one meaning, or noise) to 1 (two tight clusters as far apart as random crops)
    polysemanticity_p: chance that a cloud of the same shape without clusters, or random crops, split as well
    redundancy: cosine between this neuron's mean embedding and its nearest twin's
    twin: int64, index of that neuron in the layer; -1 where there is none
    """

    clarity: Tensor
    polysemanticity: Tensor
    polysemanticity_p: Tensor
    redundancy: Tensor
    twin: Tensor


@dataclass(frozen=True)
class RandomCrops:
    """What crops of a probe set have in common anyway.

    likeness: mean cosine between crops of different images
    shares: float32 (sets,), how much of the spread of k random crops two clusters explain
    """

    k: int
    likeness: float
    shares: Tensor


def readability(
    crops: Tensor,
    random: RandomCrops,
    *,
    alive: Tensor | None = None,
    settings: ReadabilitySettings = ReadabilitySettings(),
) -> Readability:
    """Clarity, polysemanticity and redundancy of the neurons of a layer.

    crops: float (neurons, k, d), of length 1 each: embeddings of the k most exciting crops (`exciting_crops`)
    random: of the same probe set and the same k (`random_crops`)
    alive: bool (neurons,), False where a neuron has no exciting crops
    """
    neurons, k, _ = crops.shape
    if k != random.k:
        raise BadConfig(f"readability: {k} crops a neuron against sets of {random.k} random ones; expected equal.")
    alive = torch.ones(neurons, dtype=torch.bool, device=crops.device) if alive is None else alive.to(crops.device)
    mean = crops.float().mean(1)
    likeness = (mean.square().sum(1) * k - 1) / (k - 1)  # mean over pairs of different crops
    poly, p = polysemanticity(crops, random, settings)
    redundancy, twin = nearest_twin(mean, alive)
    nothing = torch.nan
    return Readability(
        clarity=((likeness - random.likeness) / _room(random)).where(alive, nothing).cpu(),
        polysemanticity=poly.where(alive, nothing).cpu(),
        polysemanticity_p=p.where(alive, nothing).cpu(),
        redundancy=redundancy.where(alive, nothing).cpu(),
        twin=twin.where(alive, -1).cpu(),
    )


def exciting_crops(
    peaks: Tensor, windows: Tensor, views: Tensor, k: int = ReadabilitySettings.crops
) -> tuple[Tensor, Tensor]:
    """(crops, alive): embeddings (neurons, k, d) of each neuron's k most exciting crops; bool (neurons,).

    peaks, windows: (images, neurons); views: (images, VIEWS, d). A neuron whose peaks are all equal has none.
    """
    k = min(k, len(peaks))
    peaks = peaks.float()
    image = peaks.sort(dim=0, descending=True, stable=True).indices[:k]  # (k, neurons)
    view = windows.long().gather(0, image) + 1
    return views[image.T, view.T].float(), peaks.amax(0) > peaks.amin(0)


def random_crops(
    views: Tensor,
    k: int = ReadabilitySettings.crops,
    settings: ReadabilitySettings = ReadabilitySettings(),
) -> RandomCrops:
    """The measure of chance for k exciting crops: windows drawn at random, each from another image of its set.

    views: (images, VIEWS, d), each of length 1. BadConfig under 4 crops or with fewer images than crops.
    """
    images = len(views)
    if k < 4 or images < k:
        raise BadConfig(
            f"readability from {k} crops a neuron of {images} images: expected at least 4 crops, or nothing can be "
            "said, and as many images."
        )
    draw = generator("random crops", settings.seed, images, k)
    image = torch.from_numpy(np.stack([draw.permutation(images)[:k] for _ in range(settings.random_sets)]))
    window = torch.from_numpy(draw.integers(1, views.shape[1], (settings.random_sets, k)))
    sets = views[image.to(views.device), window.to(views.device)].float()
    likeness = (sets.mean(1).square().sum(1) * k - 1) / (k - 1)
    parts = chunks(settings.random_sets, _chunk(k, settings))
    shares = torch.cat([_split(*_shape(sets[part], settings.starts), settings.split_steps)[0] for part in parts])
    return RandomCrops(k, float(likeness.mean()), shares)


def polysemanticity(
    crops: Tensor, random: RandomCrops, settings: ReadabilitySettings = ReadabilitySettings()
) -> tuple[Tensor, Tensor]:
    """How far neurons have two meanings, and the chance of it: (score, p), float32 (neurons,) both.

    The crops are split in two so that the centres explain the greatest share of their spread. That share is compared
    with two nulls, and the stricter one holds: clouds with the same centre and the same covariance but no clusters
    (the crops' coordinates, mixed by a random rotation that keeps the mean), and sets of random crops, which have
    clusters of their own. The score is the share explained beyond the null's mean, over all that could be, times the
    distance of the two centres relative to random crops. A split that leaves fewer than a tenth of the crops, or
    fewer than two, on one side does not count: one odd crop is no second meaning.
    """
    neurons, k, _ = crops.shape
    rotations = _rotations(k, settings).to(crops.device)
    elsewhere = random.shares.to(crops.device)
    scores, ps = [], []
    for part in chunks(neurons, max(1, _chunk(k, settings) // len(rotations))):
        some = crops[part].float()
        gram, starts = _shape(some, settings.starts)
        share, side = _split(gram, starts, settings.split_steps)
        mixed = rotations @ gram[:, None] @ rotations.mT  # (neurons, rotations, k, k)
        cloud, _ = _split(mixed, torch.einsum("rij,nsj->nrsi", rotations, starts), settings.split_steps)
        usual = cloud.mean(1).clamp(min=float(elsewhere.mean()))
        beyond = ((share - usual) / (1 - usual).clamp(min=1e-6)).clamp(0, 1)
        halves = (h / h.sum(1, keepdim=True).clamp(min=1) for h in (side, 1 - side))
        first_centre, second_centre = (functional.normalize((h[:, :, None] * some).sum(1), dim=1) for h in halves)
        apart = ((1 - (first_centre * second_centre).sum(1)) / _room(random)).clamp(0, 1)
        scores.append(torch.where(share > 0, beyond * apart, 0.0))
        # where nothing can be split, share and null are both 0 and p is 1
        as_far = [(1 + (null >= share[:, None]).sum(1)) / (1 + null.shape[-1]) for null in (cloud, elsewhere[None])]
        ps.append(torch.maximum(*as_far))
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


def _room(random: RandomCrops) -> float:
    """How far above random crops a cosine can lie."""
    return max(1 - random.likeness, 1e-6)


def _chunk(k: int, settings: ReadabilitySettings) -> int:
    """Sets of k crops that are split at once."""
    return max(1, ELEMENTS // (settings.starts * k * k))


def _shape(crops: Tensor, starts: int) -> tuple[Tensor, Tensor]:
    """Gram matrices of the deviations from the mean (sets, k, k), and their leading eigenvectors (sets, starts, k)."""
    away = crops - crops.mean(1, keepdim=True)
    gram = away @ away.mT
    return gram, torch.linalg.eigh(gram).eigenvectors.flip(2)[:, :, :starts].mT


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


def _rotations(k: int, settings: ReadabilitySettings) -> Tensor:
    """float32 (rotations, k, k): random orthogonal maps of k points that keep their mean."""
    draw = generator("readability rotations", settings.seed, k)
    centre = torch.full((k, k), 1 / k, dtype=torch.float64)
    # an orthonormal basis of the deviations: Helmert's, all but its first vector
    start = torch.cat([torch.ones(k, 1, dtype=torch.float64), torch.eye(k, dtype=torch.float64)[:, 1:]], dim=1)
    basis = torch.linalg.qr(start).Q[:, 1:]
    q, r = torch.linalg.qr(torch.from_numpy(draw.standard_normal((settings.rotations, k - 1, k - 1))))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None, :]  # evenly distributed over all rotations (Haar)
    return (basis @ q @ basis.T + centre).float()
