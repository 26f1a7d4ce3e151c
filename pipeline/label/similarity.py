"""How well a text fits a neuron: three published functions behind one interface.

Each compares the neuron's peaks over images with a CLIP's similarities of these images to texts. Soft WPMI,
rank reordering and cosine are those of CLIP-Dissect (Oikarinen and Weng, 2204.10965), as its code computes them;
departures are said where they are made.

A neuron may look at another view of every image (its crop): `views` says which, for each image and neuron.
`shuffle` gives image i the embeddings of image shuffle[i], for all neurons alike; peaks and views stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, nearest
from pipeline.label.shuffled import ShuffledMoments

ELEMENTS = 1 << 22
"""Floats in the largest temporary: neurons are taken in chunks so that memory does not depend on their number."""


@dataclass(frozen=True)
class Measured:
    """What is known of a layer on the images that labels are chosen on.

    peaks: float32 (images, neurons)
    views: int64 (images, neurons), which view of the image belongs to the neuron, 0 the whole
    similarities: float32 (images, views, texts), cosines
    """

    peaks: Tensor
    views: Tensor
    similarities: Tensor

    @property
    def neurons(self) -> int:
        return self.peaks.shape[1]

    @property
    def texts(self) -> int:
        return self.similarities.shape[2]


class Similarity(Protocol):
    """Scores of texts for neurons; comparable between texts of one neuron, not between functions."""

    chunk: int  # neurons that fit into memory at once

    def scores(self, neurons: slice, shuffle: Tensor | None = None) -> Tensor:
        """float32 (neurons, texts), higher is better."""

    def shuffled(self, neurons: slice) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation of the scores over all shuffles, (neurons, texts); None where no formula is."""


@dataclass(frozen=True)
class LogMean:
    """The log of a mean of exponentials that can be put together from parts: log p(t) over a set of neurons.

    total: float64 (texts,), log of the sum; count: neurons in it.
    """

    total: Tensor
    count: int

    @classmethod
    def of(cls, log_likelihoods: Tensor) -> LogMean:
        """The log mean of log likelihoods (neurons, texts) over neurons."""
        return cls(torch.logsumexp(log_likelihoods.double(), dim=0), len(log_likelihoods))

    def merge(self, other: LogMean) -> LogMean:
        """Of both sets of neurons together; any order gives the same up to rounding in float64."""
        return LogMean(torch.logaddexp(self.total, other.total), self.count + other.count)

    @property
    def value(self) -> Tensor:
        return self.total - math.log(max(self.count, 1))


class SoftWpmi:
    """Soft WPMI: log p(t | the neuron's strongest images) - log p(t).

    p(t|x) is the softmax of `sharpness` times the cosine over texts. Membership of an image in the set of the
    strongest falls linearly with its rank, from 0.998 to nearly 0.97. p(t) is the mean over the normalisation
    set of neurons; it is fixed by `normalise` and stays fixed on shuffled images.
    """

    def __init__(self, measured: Measured, top: int, sharpness: float = 10.0) -> None:
        images, views, texts = measured.similarities.shape
        self.views, self.each = measured.views, views
        self.chances = measured.similarities.new_empty(images * views, texts)
        for some in chunks(images, max(1, ELEMENTS // (views * texts))):  # the whole beside itself may be gigabytes
            own = torch.softmax(sharpness * measured.similarities[some], dim=2).flatten(0, 1)
            self.chances[some.start * views : some.stop * views] = own
        self.order = strongest(measured.peaks, top)
        rank = torch.arange(top, device=self.chances.device)
        self.membership = 0.998 - rank / top * (0.998 - 0.97)
        self.chunk = max(1, ELEMENTS // (8 * texts))
        self.log_p: Tensor | None = None

    def log_likelihood(self, neurons: slice, shuffle: Tensor | None = None) -> Tensor:
        """float32 (neurons, texts): log p(t | strongest images), summed over ranks."""
        image = self.order[:, neurons]  # (top, neurons)
        view = self.views[:, neurons].gather(0, image)
        row = (image if shuffle is None else shuffle[image]) * self.each + view
        total = torch.zeros(row.shape[1], self.chances.shape[1], device=row.device)
        # one logarithm for eight ranks: a factor is at least 0.002, so eight of them stay far from underflow
        for rows, member in zip(row.split(8), self.membership.split(8), strict=True):
            factor = self.chances[rows].sub_(1).mul_(member[:, None, None]).add_(1 + 1e-7)
            total += factor.prod(dim=0).log_()
        return total

    def log_mean(self, alive: Tensor) -> LogMean:
        """log p(t) over the neurons of this layer, or shard of one, that are `alive`: bool (neurons,)."""
        whole: LogMean | None = None
        for neurons in chunks(len(alive), self.chunk):
            some = self.log_likelihood(neurons)[alive[neurons]]
            part = LogMean.of(some) if len(some) else None
            whole = part if whole is None else whole if part is None else whole.merge(part)
        return whole or LogMean(torch.zeros(self.chances.shape[1], device=alive.device, dtype=torch.float64), 0)

    def normalise(self, log_mean: LogMean) -> None:
        """Fix p(t): that of the whole normalisation set, merged from all its shards."""
        self.log_p = log_mean.value.float()

    def scores(self, neurons: slice, shuffle: Tensor | None = None) -> Tensor:
        if self.log_p is None:
            raise ValueError("soft WPMI has no p(t) yet: call normalise() with the log mean of the whole layer.")
        return self.log_likelihood(neurons, shuffle) - self.log_p

    @cached_property
    def _moments(self) -> ShuffledMoments:
        return ShuffledMoments(self.chances, self.each, self.membership, ELEMENTS)

    def shuffled(self, neurons: slice) -> tuple[Tensor, Tensor] | None:
        if self.log_p is None:
            raise ValueError("soft WPMI has no p(t) yet: call normalise() with the log mean of the whole layer.")
        mean, deviation = self._moments.of(self.views[:, neurons].gather(0, self.order[:, neurons]))
        return mean - self.log_p, deviation


class RankReorder:
    """Rank reordering: how little the neuron's peaks change when sorted by the text's similarity.

    Among the strongest images: mean |peak - peak in the text's order|^3, relative to a random order, over the
    square root of the mean similarity; the sign turned. Departures: the random order's mean is taken exactly,
    over all pairs, where the code draws five orders; a mean similarity under 0.001 counts as 0.001, where the
    code gives NaN for a negative one.
    """

    def __init__(self, measured: Measured, top: int) -> None:
        images, self.each, texts = measured.similarities.shape
        self.views, self.similarities = measured.views, measured.similarities.reshape(images * self.each, texts)
        self.order = strongest(measured.peaks, top)
        self.peaks = measured.peaks.gather(0, self.order)  # (top, neurons), descending
        self.chunk = max(1, ELEMENTS // (4 * top * max(texts, top)))

    def scores(self, neurons: slice, shuffle: Tensor | None = None) -> Tensor:
        image, peaks = self.order[:, neurons], self.peaks[:, neurons]
        view = self.views[:, neurons].gather(0, image)
        likeness = self.similarities[(image if shuffle is None else shuffle[image]) * self.each + view]
        order = likeness.permute(1, 2, 0).sort(dim=2, stable=True).indices  # (neurons, texts, top), least similar first
        strong = peaks.T[:, None, :]
        # the image at place j of the text's order gets the j-th smallest peak
        error = (strong.expand(-1, likeness.shape[2], -1).gather(2, order) - strong.flip(2)).abs().pow(3).mean(2)
        chance = (peaks[:, None, :] - peaks[None, :, :]).abs().pow(3).mean((0, 1)).clamp(min=1e-20)
        return -error / chance[:, None] / likeness.mean(0).clamp(min=1e-3).sqrt()

    def shuffled(self, neurons: slice) -> tuple[Tensor, Tensor] | None:
        return None


class Cosine:
    """Cosine between the neuron's peaks and the text's similarities over all images, neither centred."""

    def __init__(self, measured: Measured, top: int) -> None:
        self.measured = measured
        self.present = measured.views.unique().tolist()
        self.chunk = max(1, ELEMENTS // len(measured.peaks))

    def scores(self, neurons: slice, shuffle: Tensor | None = None) -> Tensor:
        peaks, views = self.measured.peaks[:, neurons], self.measured.views[:, neurons]
        dot = torch.zeros(peaks.shape[1], self.measured.texts, device=peaks.device)
        square = torch.zeros_like(dot)
        for view in self.present:
            likeness = self.measured.similarities[:, view]
            likeness = likeness if shuffle is None else likeness[shuffle]
            here = (views == view).float()
            dot += (peaks * here).T @ likeness
            square += here.T @ likeness.square()
        return dot / (square.sqrt() * peaks.norm(dim=0)[:, None]).clamp(min=1e-12)

    def shuffled(self, neurons: slice) -> tuple[Tensor, Tensor] | None:
        return None


SIMILARITIES = {"soft_wpmi": SoftWpmi, "rank_reorder": RankReorder, "cosine": Cosine}


def similarity(name: str, measured: Measured, top: int) -> Similarity:
    """The function of this name on a layer; BadConfig where there is none."""
    if name not in SIMILARITIES:
        close = ", ".join(nearest(name, SIMILARITIES)) or ", ".join(SIMILARITIES)
        raise BadConfig(f"{name!r}: unknown similarity function; nearest: {close}")
    scorer: Similarity = SIMILARITIES[name](measured, top)
    return scorer


def strongest(peaks: Tensor, top: int) -> Tensor:
    """int64 (top, neurons): the images of the highest peaks, descending; ties by the smaller index.

    A stable sort, since topk leaves ties to the device.
    """
    return peaks.sort(dim=0, descending=True, stable=True).indices[:top]


def chunks(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
