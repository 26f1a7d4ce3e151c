"""Rows of the five tables of heads, from what the passes over a model's contributions found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from atlas_schema.head_tables import HEAD_EXAMPLES, HEAD_FEATURES, HEAD_READS, HEAD_TEXTS, HEADS
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.components import Component, Level, components_of
from pipeline.decompose.features import FeatureSet, Lens
from pipeline.decompose.head_maps import Asked, HeadMaps
from pipeline.decompose.moments import ContributionMoments
from pipeline.decompose.projections import TopProjections
from pipeline.decompose.reads import Readers
from pipeline.decompose.second_pass import SecondPass, feature_embeddings
from pipeline.decompose.spans import Spans, direction_names
from pipeline.images.probe_set import ProbeSet
from pipeline.label.concepts import ConceptSet
from pipeline.models import LoadedModel, ModelDescription
from pipeline.probe.model import Membership

Row = dict[str, Any]


@dataclass(frozen=True)
class HeadSettings:
    """What the rows of heads name and show."""

    labelled_share: float = 0.1  # of a head's variance that a text must explain to be its label
    end_classes: int = 3  # named at each end of a head's first axis


@dataclass(frozen=True)
class ReadSettings:
    """How neurons are followed into heads."""

    images: int = 64  # of the panel
    images_without_path: int = 16  # the same for heads that are followed through the whole network, which is dear
    readers: int = 3  # heads named for a neuron, the one that reads it most first


@dataclass(frozen=True, eq=False)
class HeadEvidence:
    """All that the rows of a model's heads are made of.

    pool, features: the texts that heads are compared with; embedded: the embeddings of each feature's texts, as
    `feature/NAME` (texts, e), each of length 1; embedder: the slug of the CLIP they are of. maps: of the examples.
    readers: of all neurons.
    """

    model: LoadedModel
    probe_set: ProbeSet
    membership: Membership
    pool: ConceptSet
    features: FeatureSet
    embedded: Mapping[str, Tensor]
    embedder: str
    moments: ContributionMoments
    spans: Spans
    second_pass: SecondPass
    alignment: Alignment
    maps: HeadMaps
    readers: Readers
    settings: HeadSettings = HeadSettings()

    @property
    def description(self) -> ModelDescription:
        return self.model.description

    @cached_property
    def components(self) -> tuple[Component, ...]:
        return components_of(self.model)

    @property
    def levels(self) -> tuple[Level, ...]:
        """At which level each component contributes."""
        return self.moments.levels

    @cached_property
    def feature_scores(self) -> dict[str, Tensor]:
        """How much components matter for features, (components, features) each, as `FeatureSums.finalize` has it."""
        lens = Lens.of(feature_embeddings(self.features, self.embedded), self.alignment, self.levels)
        return self.second_pass.features.finalize(lens)


def head_rows(evidence: HeadEvidence) -> dict[str, list[Row]]:
    """The rows of heads, head_texts, head_features, head_examples and head_reads of one model, by table."""
    return {
        HEADS.name: list(_heads(evidence)),
        HEAD_TEXTS.name: list(_texts(evidence)),
        HEAD_FEATURES.name: list(_features(evidence)),
        HEAD_EXAMPLES.name: list(_examples(evidence)),
        HEAD_READS.name: list(_reads(evidence)),
    }


def _address(evidence: HeadEvidence, head: int) -> Row:
    """The address columns of a head, counted over all sites."""
    component, slug = evidence.components[head], evidence.model.description.slug
    return {
        "address": f"{slug}/head/{component.layer}/{component.head}",
        "slug": slug,
        "layer": component.layer,
        "head": component.head,
    }


def _number(value: Any) -> float | None:
    return None if math.isnan(float(value)) else float(value)


# ------------------------------------------------------------------------------------------------- heads and texts


def _heads(evidence: HeadEvidence) -> Iterator[Row]:
    moments, spans, alignment = evidence.moments, evidence.spans, evidence.alignment
    images, share = float(moments.images), moments.variance_share()
    for head in range(moments.heads):
        label, explained = _label(evidence, head)
        direct = evidence.levels[head] == Level.DIRECT
        yield {
            **_address(evidence, head),
            "level": evidence.levels[head].value,
            "probe_set": evidence.probe_set.identity,
            "probe_images": int(images),
            "norm": float(moments.norm[head]) / images,
            "norm_share": float(moments.ratio[head]) / images,
            "variance_share": float(share[head]) if direct else None,
            "spectrum": [float(value) for value in spans.spectrum[head] if value > 0],
            "dimensions": float(spans.dimensions[head]),
            "axis_classes": _axis_classes(evidence, head),
            **_ablation(evidence, head),
            "label": label,
            "texts_explain": min(explained, 1.0),
            "text_pool": evidence.pool.title,
            "embedder": evidence.embedder,
            "alignment_cosine": float(np.clip(alignment.cosine, -1, 1)),
            "alignment_chance": _number(alignment.cosine_chance),
            "alignment_accuracy": alignment.accuracy,
            "alignment_keeps": float(spans.keeps[head]),
            **_best_feature(evidence, head),
        }


def _ablation(evidence: HeadEvidence, head: int) -> Row:
    ablation = evidence.second_pass.ablation
    effect, error = ablation.effect()
    answered = bool(ablation.judged > 0)
    return {
        "ablation_effect": float(effect[head]) if answered else None,
        "ablation_se": float(error[head]) if answered else None,
        "accuracy": ablation.accuracy() if answered else None,
        "answered_by": evidence.second_pass.answered_by if answered else None,
        "ablation_change": float(ablation.change[head] / ablation.images),
    }


def _axis_classes(evidence: HeadEvidence, head: int) -> list[Row] | None:
    """The classes at the high end of the head's first axis, then those at the low end."""
    names, sums, ends = evidence.membership.classes, evidence.second_pass.classes, evidence.settings.end_classes
    seen = [index for index in range(len(names)) if float(sums.images[index])]
    if not seen:
        return None
    means = sums.finalize()[:, head]
    ranked = sorted(seen, key=lambda index: -float(means[index]))
    shown = ranked if len(ranked) <= 2 * ends else [*ranked[:ends], *ranked[-ends:]]
    return [{"name": names[i], "mean": float(means[i]), "images": int(sums.images[i])} for i in shown]


def _label(evidence: HeadEvidence, head: int) -> tuple[str | None, float]:
    """The text that explains most of the head's variance, if it is enough; and what all texts explain."""
    explained = evidence.spans.explained[head]
    best = int(explained.argmax())
    text = int(evidence.spans.text[head, best])
    enough = float(explained[best]) >= evidence.settings.labelled_share and text >= 0
    return evidence.pool.texts[text] if enough else None, float(explained.sum())


def _best_feature(evidence: HeadEvidence, head: int) -> Row:
    scores = evidence.feature_scores["score"][head]
    best = int(scores.argmax())
    score = float(scores[best])
    if score <= 0:
        return {"feature": None, "feature_score": None}
    return {"feature": tuple(evidence.features.features)[best], "feature_score": score}


def _texts(evidence: HeadEvidence) -> Iterator[Row]:
    spans = evidence.spans
    for head in range(evidence.moments.heads):
        cumulative = 0.0
        for rank, text in enumerate(spans.text[head].tolist()):
            if text < 0:
                break
            explained = float(spans.explained[head, rank])
            cumulative += explained
            yield {
                **_address(evidence, head),
                "rank": rank,
                "text": evidence.pool.texts[text],
                "explained": min(max(explained, 0.0), 1.0),
                "cumulative": min(max(cumulative, 0.0), 1.0),
                "deviation": float(spans.deviation[head, rank]),
            }


# ------------------------------------------------------------------------------------------------------- features


def _features(evidence: HeadEvidence) -> Iterator[Row]:
    """For each feature the heads and FFNs, those of the highest score first."""
    scores, groups, ablation = evidence.feature_scores, evidence.second_pass.groups, evidence.second_pass.ablation
    effect, margin = ablation.group_effect(), ablation.margin_effect()
    ranked = [index for index, component in enumerate(evidence.components) if component.kind in ("head", "ffn")]
    for column, feature in enumerate(evidence.features.features):
        group = groups.index(feature) if feature in groups else None
        score = scores["score"][:, column]
        for rank, index in enumerate(sorted(ranked, key=lambda index: -float(score[index]))):
            component = evidence.components[index]
            yield {
                "slug": evidence.model.description.slug,
                "component": component.name,
                "kind": component.kind,
                "layer": component.layer,
                "head": component.head if component.kind == "head" else None,
                "level": evidence.levels[index].value,
                "feature": feature,
                "score": float(score[index]),
                "rank": rank,
                "variance_share": _number(scores["variance_share"][index, column]),
                "selectivity": min(1.0, float(scores["selectivity"][index, column])),
                "ablation_effect": None if group is None else _number(effect[index, group]),
                "ablation_margin": None if group is None else _number(margin[index, group]),
                "ablation_flips": float(scores["flips"][index, column]),
                "feature_set": evidence.features.title,
            }


# ------------------------------------------------------------------------------------------------------- examples


@dataclass(frozen=True)
class _Example:
    """One of the strongest images along a direction of a head; image: its index in the probe set."""

    head: int
    direction: int
    rank: int
    image: int
    projection: float


def asked_maps(top: TopProjections, directions: Tensor, images: int) -> list[Asked]:
    """The maps that the examples of heads need, of `images` in all: each once, by image."""
    return sorted({Asked(one.image, one.head, one.direction) for one in _strongest(top, directions, images)})


def _examples(evidence: HeadEvidence) -> Iterator[Row]:
    """The strongest images along each direction, with where in them."""
    names = direction_names(evidence.spans.directions.shape[1])
    maps = {asked: (cells, scale, elsewhere) for asked, cells, scale, elsewhere in evidence.maps.found()}
    images = evidence.probe_set.images
    for example in _strongest(evidence.second_pass.top, evidence.spans.directions, len(images)):
        cells, scale, elsewhere = maps[Asked(example.image, example.head, example.direction)]
        yield {
            **_address(evidence, example.head),
            "direction": names[example.direction],
            "rank": example.rank,
            "image": images[example.image].id,
            "image_index": example.image,
            "probe_set": evidence.probe_set.identity,
            "projection": example.projection,
            "map": cells.tobytes(),
            "map_height": cells.shape[0],
            "map_width": cells.shape[1],
            "map_scale": scale,
            "elsewhere": elsewhere,
        }


def _strongest(top: TopProjections, directions: Tensor, images: int) -> Iterator[_Example]:
    for head in range(directions.shape[0]):
        for direction in range(directions.shape[1]):
            if not bool(directions[head, direction].any()):
                continue
            for rank in range(len(top.value)):
                image = int(top.image[rank, head, direction])
                if image < images:
                    yield _Example(head, direction, rank, image, float(top.value[rank, head, direction]))


# ---------------------------------------------------------------------------------------------------------- reads


def _reads(evidence: HeadEvidence) -> Iterator[Row]:
    """The heads that read each neuron most."""
    slug = evidence.description.slug
    for reader in evidence.readers.rows(evidence.description, evidence.levels):
        yield {
            "address": f"{slug}/mlp/{reader.layer}/{reader.unit}",
            "slug": slug,
            "layer": reader.layer,
            "unit": reader.unit,
            "rank": reader.rank,
            "reader": f"{slug}/head/{reader.reader_layer}/{reader.reader_head}",
            "reader_layer": reader.reader_layer,
            "reader_head": reader.reader_head,
            "share": reader.share,
            "level": reader.level.value,
        }
