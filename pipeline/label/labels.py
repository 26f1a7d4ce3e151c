"""What a neuron is called, and how sure that is.

A label is chosen on one half of the probe images (fit) and checked on the other (test):

1. Every text of a concept set is scored by a similarity function (`pipeline.label.similarity`).
2. Null: the images' embeddings are shuffled. A text's z is how many standard deviations its score is above its own
   mean over all shuffles: for soft WPMI from a formula (`pipeline.label.shuffled`), so that no luck chooses the text;
   for the other functions over the shuffles drawn. The best text is the one of the greatest z (`calibrated`), or of
   the greatest score, as published.
3. The best value is compared with the best values over all texts on images shuffled many times: p, so the choice among
   texts is paid for. q is p after Benjamini and Hochberg over the layer.
4. Held-out check: does the text's similarity tell the test images that fire the neuron from the others? AUROC, with a
   one-sided 95 % lower bound. A test image fires the neuron if its peak is above the neuron's 95th percentile on fit.

A neuron is labelled where q <= 0.05 and the lower bound is above 0.5. Neither alone would do: the first holds chance
off, the second says that the label is of use on images it was not chosen on.

Shuffling moves all views of an image together and leaves each neuron its windows, so a neuron that always looks at one
place of the picture is compared with that place of other pictures. p(t) of soft WPMI stays as observed: for one neuron
it is a property of its layer. Calibrated, p(t) cancels out, and a neuron's label does not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.label.readability import ReadabilitySettings
from pipeline.label.significance import auroc, auroc_lower, benjamini_hochberg, least_spread, pooled_p, standardised
from pipeline.label.similarity import ELEMENTS, Measured, SoftWpmi, chunks, similarity
from pipeline.seeds import generator


@dataclass(frozen=True)
class LabelSettings:
    """How labels are chosen and checked, and how readable neurons are judged to be."""

    similarity: str = "soft_wpmi"  # soft_wpmi | rank_reorder | cosine
    calibrated: bool = True  # texts compete by z, not by score as published
    view: str = "both"  # crop: the neuron's window of each image; image: the whole; both: whichever stands out more
    top: int = 100  # strongest images, at most
    top_share: float = 0.1  # of the fit images, at most: a hundred of five hundred would not be strong
    firing_share: float = 0.05  # of the fit images above the level that counts as firing
    permutations: int = 200
    level: float = 0.05  # of q
    candidates: int = 5  # texts kept of a neuron, the best first
    #: AUROC by which a crop has to be better than the whole image: about the standard error with the fifty firing
    #: images of a probe set of two thousand
    crop_margin: float = 0.05
    least_firing: int = 5  # test images that must fire a neuron, and that must not, before an AUROC is given
    seed: int = 0
    readability: ReadabilitySettings = field(default_factory=ReadabilitySettings)

    def __post_init__(self) -> None:
        if self.view not in ("crop", "image", "both"):
            raise BadConfig(f"label view {self.view!r}: expected crop, image or both.")
        if self.permutations < 20:
            raise BadConfig(f"{self.permutations} permutations: expected at least 20, or the null has no tail.")


@dataclass(frozen=True)
class LayerLabels:
    """Labels of the neurons of a layer, in their order. NaN where a neuron says nothing (all its peaks are equal).

    score, z, p, q, auroc, auroc_lower: float64 (neurons,), of the best text
    standing: float64 (neurons,), the best value among the best values on shuffled images, in their standard deviations
    auroc_fit: float64 (neurons,), the same on the images the text was chosen on: too high, but fit for choosing a view
    text: int64 (neurons,), index of the best text, labelled or not; -1 where the neuron says nothing
    labelled: bool (neurons,)
    candidates, candidate_scores, candidate_z, candidate_auroc: (neurons, candidates), best first
    """

    texts: tuple[str, ...]
    view: tuple[str, ...]
    text: Tensor
    score: Tensor
    z: Tensor
    standing: Tensor
    p: Tensor
    q: Tensor
    auroc: Tensor
    auroc_lower: Tensor
    auroc_fit: Tensor
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
    if settings.view == "both":
        crop, image = (
            label_layer(peaks, windows, similarities, fit, texts, replace(settings, view=view))
            for view in ("crop", "image")
        )
        return better_view(crop, image, settings)
    device = similarities.device
    peaks, windows, fit = peaks.to(device).float(), windows.to(device), fit.to(device)
    top = _check(peaks, windows, similarities, fit, texts, settings)
    views = windows.long() + 1 if settings.view == "crop" else torch.zeros_like(windows, dtype=torch.int64)
    if settings.view == "image":
        similarities = similarities[:, :1]  # the others are not looked at
    chosen_on = Measured(peaks[fit], views[fit], similarities[fit])
    alive = chosen_on.peaks.amax(0) > chosen_on.peaks.amin(0)
    best = _best_texts(chosen_on, alive, top, settings)
    level = _firing_level(chosen_on.peaks, settings.firing_share)
    on_fit, _ = _told_apart(chosen_on, level, best.indices[:, :1], settings.least_firing)
    checked_on = Measured(peaks[~fit], views[~fit], similarities[~fit])
    areas, lower = _told_apart(checked_on, level, best.indices, settings.least_firing)
    return _concluded(alive, best, on_fit[:, 0], areas, lower, texts, settings)


def strongest_count(fit_images: int, settings: LabelSettings) -> int:
    """How many of the strongest images a neuron is labelled by."""
    return min(settings.top, max(1, round(settings.top_share * fit_images)))


def better_view(crop: LayerLabels, image: LayerLabels, settings: LabelSettings = LabelSettings()) -> LayerLabels:
    """Of each neuron the view whose best text tells firing images apart better, on the images it was chosen on.

    A crop has to be better by `settings.crop_margin`: less is noise, and the whole image is what people see.

    Choosing between two views is one more choice to pay for: p is doubled, q computed again.
    """
    take = ~(image.auroc_fit < crop.auroc_fit - settings.crop_margin)
    p = (2 * torch.where(take, image.p, crop.p)).clamp(max=1)
    spoke = ~p.isnan()
    q = torch.full_like(p, torch.nan)
    q[spoke] = benjamini_hochberg(p[spoke])
    lower = torch.where(take, image.auroc_lower, crop.auroc_lower)

    def either(name: str) -> Tensor:
        first, second = getattr(image, name), getattr(crop, name)
        return torch.where(take.view(-1, *[1] * (first.ndim - 1)), first, second)

    columns = ("text", "score", "z", "standing", "auroc", "auroc_fit")
    lists = ("candidates", "candidate_scores", "candidate_z", "candidate_auroc")
    return LayerLabels(
        texts=crop.texts,
        view=tuple("image" if whole else "crop" for whole in take.tolist()),
        p=p,
        q=q,
        auroc_lower=lower,
        labelled=(q <= settings.level) & (lower > 0.5),
        **{name: either(name) for name in (*columns, *lists)},
    )


def require_halves(fit: Sequence[bool], settings: LabelSettings = LabelSettings()) -> int:
    """The number of fit images; BadConfig where either half of the probe images is too small for labels."""
    chosen_on, checked_on = sum(fit), len(fit) - sum(fit)
    least = 4 * settings.least_firing
    if min(chosen_on, checked_on) < least:
        raise BadConfig(
            f"labels: {chosen_on} images to choose labels on and {checked_on} to check them; expected at least "
            f"{least} each. Probe more images."
        )
    return chosen_on


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
    chosen_on = require_halves(fit.tolist(), settings)
    for name, values in (("peaks", peaks), ("similarities", similarities)):
        if not torch.isfinite(values).all():
            raise NotFinite(f"labels: NaN or infinity among the {name}.")
    return strongest_count(chosen_on, settings)


@dataclass(frozen=True)
class _Best:
    """The best texts of each neuron, best first, with what shuffled images give.

    indices: int64; scores, z: float32, (neurons, candidates)
    value: (neurons,), what the best text won by; null: (permutations, neurons), what it takes to win by chance
    """

    indices: Tensor
    scores: Tensor
    z: Tensor
    value: Tensor
    null: Tensor


def _best_texts(measured: Measured, alive: Tensor, top: int, settings: LabelSettings) -> _Best:
    scorer = similarity(settings.similarity, measured, top)
    if isinstance(scorer, SoftWpmi):
        scorer.normalise(scorer.log_mean(alive))
    shuffles = _shuffles(len(measured.peaks), settings).to(alive.device)
    # all shuffles of a chunk are held at once
    size = min(scorer.chunk, max(1, ELEMENTS // (measured.texts * len(shuffles))))
    parts = []
    for neurons in chunks(measured.neurons, size):
        scores = scorer.scores(neurons)
        null = torch.stack([scorer.scores(neurons, order) for order in shuffles])  # (permutations, neurons, texts)
        z, chance = _standing(scores, null, scorer.shuffled(neurons))
        value, chance = (z, chance) if settings.calibrated else (scores, null)
        order = value.sort(dim=1, descending=True, stable=True).indices[:, : settings.candidates]
        parts.append(_Best(order, scores.gather(1, order), z.gather(1, order), value.amax(1), chance.amax(2)))
    along = {"null": 1}
    return _Best(
        **{
            f.name: torch.cat([getattr(part, f.name) for part in parts], dim=along.get(f.name, 0))
            for f in fields(_Best)
        }
    )


def _standing(scores: Tensor, null: Tensor, moments: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """(scores, null draws) in standard deviations of the null from its mean: exact ones where there is a formula."""
    if moments is None:
        return standardised(scores, null)
    mean, spread = moments
    spread = torch.maximum(spread, least_spread(mean))
    return (scores - mean) / spread, (null - mean) / spread


def _shuffles(images: int, settings: LabelSettings) -> Tensor:
    """int64 (permutations, images), the same for all neurons, layers and models."""
    draw = generator("label shuffles", settings.seed, images)
    return torch.from_numpy(np.stack([draw.permutation(images) for _ in range(settings.permutations)]))


def _told_apart(measured: Measured, level: Tensor, texts: Tensor, least_firing: int) -> tuple[Tensor, Tensor]:
    """AUROC of texts' similarities against firing, and its lower bound: float64 (neurons, texts of each) both.

    level: (neurons,), the peak above which an image fires the neuron; texts: int64 (neurons, texts of each).
    NaN where fewer than `least_firing` images fire the neuron, or do not.
    """
    fires = measured.peaks > level
    image = torch.arange(len(fires), device=fires.device)
    areas, lowers = [], []
    for part in chunks(measured.neurons, max(1, ELEMENTS // (len(fires) * texts.shape[1]))):
        views = measured.views[:, part].T[:, None, :]
        seen = measured.similarities[image, views, texts[part][:, :, None]]  # (neurons, texts, images)
        firing = fires[:, part].T[:, None, :]
        ones = firing.sum(-1).double()
        zeros = len(fires) - ones
        area = auroc(seen, firing).where((ones >= least_firing) & (zeros >= least_firing), torch.nan)
        areas.append(area)
        lowers.append(auroc_lower(area, ones, zeros))
    return torch.cat(areas), torch.cat(lowers)


def _firing_level(peaks: Tensor, share: float) -> Tensor:
    """The peak that `share` of the images exceed (ties: fewer do): (neurons,)."""
    exceed = max(1, round(share * len(peaks)))
    return peaks.kthvalue(len(peaks) - exceed, dim=0).values


def _concluded(
    alive: Tensor,
    best: _Best,
    on_fit: Tensor,
    areas: Tensor,
    lower: Tensor,
    texts: Sequence[str],
    settings: LabelSettings,
) -> LayerLabels:
    standing, p, q = (torch.full(alive.shape, torch.nan, dtype=torch.float64, device=alive.device) for _ in range(3))
    if alive.any():
        standing[alive], p[alive] = pooled_p(best.value[alive], best.null[:, alive])
        q[alive] = benjamini_hochberg(p[alive])

    def first(column: Tensor) -> Tensor:
        return column[:, 0].double().where(alive, torch.nan).cpu()

    return LayerLabels(
        texts=tuple(texts),
        view=(settings.view,) * len(alive),
        text=best.indices[:, 0].where(alive, -1).cpu(),
        score=first(best.scores),
        z=first(best.z),
        standing=standing.cpu(),
        p=p.cpu(),
        q=q.cpu(),
        auroc=first(areas),
        auroc_lower=first(lower),
        auroc_fit=on_fit.where(alive, torch.nan).cpu(),
        labelled=((q <= settings.level) & (lower[:, 0] > 0.5)).cpu(),
        candidates=best.indices.cpu(),
        candidate_scores=best.scores.double().cpu(),
        candidate_z=best.z.double().cpu(),
        candidate_auroc=areas.cpu(),
    )


def _number(value: Tensor) -> float | None:
    return None if torch.isnan(value) else float(value)
