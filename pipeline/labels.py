"""What a neuron is called, and how sure that is.

A label is chosen on one half of the probe images (fit) and checked on the other (test):

1. every text of a concept set is scored by a similarity function (`pipeline.similarity`); the best is the candidate;
2. permutation null: the images' embeddings are shuffled, many times, and the best score over all texts is noted each
   time. The candidate's p is where its score stands among these, so the choice among texts is paid for; q is p after
   Benjamini and Hochberg over the layer;
3. held-out check: does the text's similarity tell the test images that fire the neuron from the others? AUROC, with a
   one-sided 95 % lower bound. A test image fires the neuron if its peak is above the neuron's 95th percentile on fit.

A neuron is labelled where q <= 0.05 and the lower bound is above 0.5. Neither alone would do: the first holds chance
off, the second says that the label is of use on images it was not chosen on.

Shuffling moves all views of an image together and leaves each neuron its windows, so a neuron that always looks at one
place of the picture is compared with that place of other pictures. p(t) of soft WPMI stays as observed: for one neuron
it is a property of its layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.seeds import generator
from pipeline.significance import auroc, auroc_lower, benjamini_hochberg, pooled_p
from pipeline.similarity import Measured, SoftWpmi, chunks, similarity

CANDIDATES = 5
LEAST_FIRING = 5
"""Test images that must fire a neuron, and that must not, before an AUROC is given."""


@dataclass(frozen=True)
class LabelSettings:
    similarity: str = "soft_wpmi"  # soft_wpmi | rank_reorder | cosine
    view: str = "crop"  # crop: the neuron's window of each image; image: the whole
    top: int = 100  # strongest images, at most
    top_share: float = 0.05  # of the fit images, at most: a hundred of five hundred would not be strong
    firing_share: float = 0.05  # of the fit images above the level that counts as firing
    permutations: int = 200
    level: float = 0.05  # of q
    seed: int = 0

    def __post_init__(self) -> None:
        if self.view not in ("crop", "image"):
            raise BadConfig(f"label view {self.view!r}: expected crop or image.")
        if self.permutations < 20:
            raise BadConfig(f"{self.permutations} permutations: expected at least 20, or the null has no tail.")


@dataclass(frozen=True)
class LayerLabels:
    """Labels of the neurons of a layer, in their order. NaN where a neuron says nothing (all its peaks are equal).

    score, z, p, q, auroc, auroc_lower: float64 (neurons,), of the best text
    text: int64 (neurons,), index of the best text, labelled or not; -1 where the neuron says nothing
    labelled: bool (neurons,)
    candidates, candidate_scores, candidate_z, candidate_auroc: (neurons, CANDIDATES), best first
    """

    texts: tuple[str, ...]
    view: tuple[str, ...]
    text: Tensor
    score: Tensor
    z: Tensor
    p: Tensor
    q: Tensor
    auroc: Tensor
    auroc_lower: Tensor
    labelled: Tensor
    candidates: Tensor
    candidate_scores: Tensor
    candidate_z: Tensor
    candidate_auroc: Tensor

    def __len__(self) -> int:
        return len(self.text)

    def row(self, neuron: int) -> dict[str, Any]:
        """The label columns of one neuron; None where there is nothing to say."""
        labelled, spoke = bool(self.labelled[neuron]), bool(self.text[neuron] >= 0)
        return {
            "label_status": "labelled" if labelled else "unlabelled",
            "label": self.texts[int(self.text[neuron])] if labelled else None,
            "label_score": _number(self.score[neuron]),
            "label_z": _number(self.z[neuron]),
            "label_p": _number(self.p[neuron]),
            "label_q": _number(self.q[neuron]),
            "label_auroc": _number(self.auroc[neuron]),
            "label_view": self.view[neuron],
            "label_candidates": self._candidates(neuron) if spoke else [],
        }

    def rows(self) -> list[dict[str, Any]]:
        return [self.row(neuron) for neuron in range(len(self))]

    def _candidates(self, neuron: int) -> list[dict[str, Any]]:
        return [
            {"text": self.texts[int(text)], "score": float(score), "z": float(z), "auroc": _number(area)}
            for text, score, z, area in zip(
                self.candidates[neuron],
                self.candidate_scores[neuron],
                self.candidate_z[neuron],
                self.candidate_auroc[neuron],
                strict=True,
            )
        ]


def label_layer(
    peaks: Tensor,
    windows: Tensor,
    similarities: Tensor,
    fit: Tensor,
    texts: Sequence[str],
    settings: LabelSettings = LabelSettings(),
) -> LayerLabels:
    """Labels of all neurons of a layer, which is also the normalisation set of soft WPMI.

    peaks: float (images, neurons); windows: integers (images, neurons), 0 to 8
    similarities: float32 (images, VIEWS, texts), cosines of each view with each text, on the device to compute on
    fit: bool (images,), True where labels are chosen and False where they are checked

    Deterministic: the shuffles depend on the seed and the number of fit images alone. Raises BadConfig where shapes
    do not match or a half has too few images, NotFinite on NaN or infinity.
    """
    device = similarities.device
    peaks, windows, fit = peaks.to(device).float(), windows.to(device), fit.to(device)
    top = _check(peaks, windows, similarities, fit, texts, settings)
    views = windows.long() + 1 if settings.view == "crop" else torch.zeros_like(windows, dtype=torch.int64)
    chosen_on = Measured(peaks[fit], views[fit], similarities[fit])
    alive = chosen_on.peaks.amax(0) > chosen_on.peaks.amin(0)

    scorer = similarity(settings.similarity, chosen_on, top)
    if isinstance(scorer, SoftWpmi):
        scorer.normalise(scorer.log_mean(alive))
    parts = chunks(chosen_on.neurons, scorer.chunk)
    scores = torch.cat([scorer.scores(part) for part in parts])
    shuffles = _shuffles(int(fit.sum()), settings).to(device)
    null = torch.cat([torch.stack([scorer.scores(part, order).amax(1) for order in shuffles], dim=1) for part in parts])
    best = scores.sort(dim=1, descending=True, stable=True)
    kept = min(CANDIDATES, len(texts))
    areas, lower = _held_out(peaks, views, similarities, fit, best.indices[:, :kept], settings)
    return _concluded(alive, best.values[:, :kept], best.indices[:, :kept], null, areas, lower, texts, settings)


def strongest_count(fit_images: int, settings: LabelSettings) -> int:
    """How many of the strongest images a neuron is labelled by."""
    return min(settings.top, max(1, round(settings.top_share * fit_images)))


def better_view(crop: LayerLabels, image: LayerLabels, level: float = 0.05) -> LayerLabels:
    """Of each neuron the view in whose null its best text stands further out (greater z).

    Choosing between two views is one more choice to pay for: p is doubled, q computed again.
    """
    take = image.z > crop.z
    p = (2 * torch.where(take, image.p, crop.p)).clamp(max=1)
    spoke = ~p.isnan()
    q = torch.full_like(p, torch.nan)
    q[spoke] = benjamini_hochberg(p[spoke])
    lower = torch.where(take, image.auroc_lower, crop.auroc_lower)

    def either(name: str) -> Tensor:
        first, second = getattr(image, name), getattr(crop, name)
        return torch.where(take.view(-1, *[1] * (first.ndim - 1)), first, second)

    columns = ("text", "score", "z", "auroc", "candidates", "candidate_scores", "candidate_z", "candidate_auroc")
    return LayerLabels(
        texts=crop.texts,
        view=tuple("image" if whole else "crop" for whole in take.tolist()),
        p=p,
        q=q,
        auroc_lower=lower,
        labelled=(q <= level) & (lower > 0.5),
        **{name: either(name) for name in columns},
    )


def _check(
    peaks: Tensor, windows: Tensor, similarities: Tensor, fit: Tensor, texts: Sequence[str], settings: LabelSettings
) -> int:
    """The number of strongest images; raises where the inputs do not belong together."""
    images, views, scored = similarities.shape
    if peaks.shape != windows.shape or len(peaks) != images or fit.shape != (images,):
        raise BadConfig(
            f"labels: peaks {tuple(peaks.shape)}, windows {tuple(windows.shape)}, similarities of {images} images and "
            f"a split of {tuple(fit.shape)} do not belong to one set of images."
        )
    if scored != len(texts) or scored < 2:
        raise BadConfig(
            f"labels: similarities to {scored} texts, {len(texts)} texts given; expected equal, at least 2."
        )
    if settings.view == "crop" and (views != 10 or int(windows.max()) > 8):
        raise BadConfig(f"labels: {views} views an image and windows up to {int(windows.max())}; expected 10 and 8.")
    halves = int(fit.sum()), int((~fit).sum())
    if min(halves) < 4 * LEAST_FIRING:
        raise BadConfig(
            f"labels: {halves[0]} images to choose labels on and {halves[1]} to check them; expected at least "
            f"{4 * LEAST_FIRING} each. Probe more images."
        )
    for name, values in (("peaks", peaks), ("similarities", similarities)):
        if not torch.isfinite(values).all():
            raise NotFinite(f"labels: NaN or infinity among the {name}.")
    return strongest_count(halves[0], settings)


def _shuffles(images: int, settings: LabelSettings) -> Tensor:
    """int64 (permutations, images)."""
    draw = generator("label shuffles", settings.seed, images)
    return torch.from_numpy(np.stack([draw.permutation(images) for _ in range(settings.permutations)]))


def _held_out(
    peaks: Tensor, views: Tensor, similarities: Tensor, fit: Tensor, candidates: Tensor, settings: LabelSettings
) -> tuple[Tensor, Tensor]:
    """AUROC of each candidate's similarity against firing on test images, and its lower bound: (neurons, kept)."""
    level = _firing_level(peaks[fit], settings.firing_share)
    fires, views, similarities = peaks[~fit] > level, views[~fit], similarities[~fit]
    image = torch.arange(len(fires), device=peaks.device)
    areas, lowers = [], []
    for part in chunks(peaks.shape[1], max(1, (1 << 22) // (len(fires) * candidates.shape[1]))):
        seen = similarities[image, views[:, part].T[:, None, :], candidates[part][:, :, None]]  # neuron, text, image
        firing = fires[:, part].T[:, None, :]
        ones = firing.sum(-1).double()
        zeros = len(fires) - ones
        area = auroc(seen, firing).where((ones >= LEAST_FIRING) & (zeros >= LEAST_FIRING), torch.nan)
        areas.append(area)
        lowers.append(auroc_lower(area, ones, zeros))
    return torch.cat(areas), torch.cat(lowers)


def _firing_level(peaks: Tensor, share: float) -> Tensor:
    """The peak that `share` of the images exceed (ties: fewer do): (neurons,)."""
    exceed = max(1, round(share * len(peaks)))
    return peaks.kthvalue(len(peaks) - exceed, dim=0).values


def _concluded(
    alive: Tensor,
    scores: Tensor,
    indices: Tensor,
    null: Tensor,
    areas: Tensor,
    lower: Tensor,
    texts: Sequence[str],
    settings: LabelSettings,
) -> LayerLabels:
    z, p, q = (torch.full(alive.shape, torch.nan, dtype=torch.float64, device=alive.device) for _ in range(3))
    if alive.any():
        z[alive], p[alive] = pooled_p(scores[alive, 0], null[alive])
        q[alive] = benjamini_hochberg(p[alive])
    spread = null.double().std(1).clamp(min=1e-12)
    all_z = (scores.double() - null.double().mean(1, keepdim=True)) / spread[:, None]
    nothing = torch.nan
    return LayerLabels(
        texts=tuple(texts),
        view=(settings.view,) * len(alive),
        text=indices[:, 0].where(alive, -1).cpu(),
        score=scores[:, 0].double().where(alive, nothing).cpu(),
        z=z.cpu(),
        p=p.cpu(),
        q=q.cpu(),
        auroc=areas[:, 0].where(alive, nothing).cpu(),
        auroc_lower=lower[:, 0].where(alive, nothing).cpu(),
        labelled=((q <= settings.level) & (lower[:, 0] > 0.5)).cpu(),
        candidates=indices.cpu(),
        candidate_scores=scores.double().cpu(),
        candidate_z=all_z.cpu(),
        candidate_auroc=areas.cpu(),
    )


def _number(value: Tensor) -> float | None:
    return None if torch.isnan(value) else float(value)
