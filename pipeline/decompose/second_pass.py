"""The second pass over the probe images, along directions that the first one found.

It keeps which images are strongest along each head's directions, how much components matter for features, and what
becomes of answers when a component is replaced by its mean.

All sums merge; memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.decompose.ablation import MeanAblation
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.classifiers import CLASS, Classifier, own_classifier, zero_shot_classifier
from pipeline.decompose.components import Level
from pipeline.decompose.contributions import Contributions
from pipeline.decompose.features import FeatureSet, FeatureSums, Lens
from pipeline.decompose.projections import ClassMeans, TopProjections
from pipeline.effects.readout import readout_of
from pipeline.images.probe_set import ProbeImage
from pipeline.models import LoadedModel
from pipeline.models.representation import is_clip
from pipeline.probe.model import Membership


@dataclass(frozen=True)
class ProjectSettings:
    """What the second pass keeps of images."""

    top: int = 4  # images of each direction of a head


@dataclass
class SecondPass:
    """The sums of the second pass over some images.

    groups: the questions that are answered, answered_by: by
    what, "classifier" or "texts"; () and "" where nothing answers.
    """

    top: TopProjections
    classes: ClassMeans
    ablation: MeanAblation
    features: FeatureSums
    groups: tuple[str, ...]
    answered_by: str

    KINDS: ClassVar[dict[str, Any]] = {
        "top": TopProjections,
        "classes": ClassMeans,
        "ablation": MeanAblation,
        "features": FeatureSums,
    }

    def merge(self, other: SecondPass) -> None:
        for kind in self.KINDS:
            getattr(self, kind).merge(getattr(other, kind))

    def arrays(self) -> dict[str, np.ndarray]:
        named = {f"{kind}/{name}": array for kind in self.KINDS for name, array in getattr(self, kind).arrays().items()}
        answers = "\n".join([self.answered_by, *self.groups])
        return named | {"answers": np.frombuffer(answers.encode(), dtype=np.uint8)}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> SecondPass:
        by, *groups = arrays["answers"].tobytes().decode().split("\n")
        parts: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in cls.KINDS}
        for name, array in arrays.items():
            kind, _, field = name.partition("/")
            if field:
                parts[kind][field] = array
        sums: dict[str, Any] = {kind: maker.of(parts[kind]) for kind, maker in cls.KINDS.items()}
        return cls(**sums, groups=tuple(groups), answered_by=by)


@dataclass
class SecondPassRunner:
    """The second pass at work on a model: its sums, and the directions and texts that it measures along.

    mean: (components, d), of contributions over the whole probe set. directions: (heads, directions, d); means of
    classes are taken along the first. labels: int64 (images of the probe set,), the class of each, -1 for none that
    counts.
    """

    sums: SecondPass
    mean: Tensor
    alignment: Alignment
    directions: Tensor
    lens: Lens
    classifier: Classifier | None
    labels: Tensor

    @classmethod
    def of(
        cls,
        model: LoadedModel,
        mean: Tensor,
        alignment: Alignment,
        levels: Sequence[Level],
        directions: Tensor,
        features: FeatureSet,
        texts: Mapping[str, Tensor],
        images: Sequence[ProbeImage],
        membership: Membership,
        settings: ProjectSettings = ProjectSettings(),
    ) -> SecondPassRunner:
        """A pass that has seen no image yet. texts: embedded, as `feature/NAME` (texts, e) and, where the images have
        classes, `class`.
        """
        lens = Lens.of(feature_embeddings(features, texts), alignment, levels)
        classifier = classifier_of(model, features, texts, images)
        sums = SecondPass(
            TopProjections(settings.top, *directions.shape[:2]),
            ClassMeans(len(membership.classes), len(directions)),
            MeanAblation(len(mean), len(classifier.groups) if classifier else 0),
            FeatureSums.empty(lens),
            classifier.groups if classifier else (),
            classifier.by if classifier else "",
        )
        return cls(sums, mean.float(), alignment, directions.float(), lens, classifier, membership.labels)

    def update(self, contributions: Contributions, indices: Sequence[int]) -> None:
        """Take in the images `indices` of the probe set; everything is computed on the CPU, in small numbers."""
        images = torch.as_tensor(indices, dtype=torch.int64)
        vectors, whole = contributions.vectors.float().cpu(), contributions.representation.float().cpu()
        apart = vectors - self.mean
        along = torch.einsum("nhd,hpd->nhp", apart[:, : len(self.directions)], self.directions)
        self.sums.top.update(along, images)
        self.sums.classes.update(along[:, :, 0], self.labels[images])
        self.sums.ablation.update(whole, apart)
        self.sums.features.update(vectors, self.lens, self.mean)
        if self.classifier is not None and self.classifier.by == "classifier":
            self.sums.ablation.answer(self.classifier, whole, apart, images)
        elif self.classifier is not None:
            aligned = self.alignment.whole(vectors, self.lens.direct), self.alignment.apply(apart)
            self.sums.ablation.answer(self.classifier, *aligned, images)


def feature_embeddings(features: FeatureSet, texts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The embedded texts of each feature."""
    return {name: texts[f"feature/{name}"] for name in features.features}


def classifier_of(
    model: LoadedModel, features: FeatureSet, texts: Mapping[str, Tensor], images: Sequence[ProbeImage]
) -> Classifier | None:
    """The classifier by which the model answers: its own if that answers some of the images, else by texts."""
    own = None if is_clip(model) else own_classifier(model, readout_of(model), images)
    if own is not None:
        return own
    return zero_shot_classifier(zero_shot_texts(features, texts, images), images)


def zero_shot_texts(
    features: FeatureSet, texts: Mapping[str, Tensor], images: Sequence[ProbeImage]
) -> dict[str, tuple[Sequence[str], Tensor]]:
    """The texts that can answer, by question: the values of each feature, and the classes. texts: as in
    `SecondPassRunner.of`.
    """
    texts_of: dict[str, tuple[Sequence[str], Tensor]] = {
        name: (features.values.get(name, features.features[name]), embedded)
        for name, embedded in feature_embeddings(features, texts).items()
    }
    if "class" in texts:
        texts_of[CLASS] = (sorted({image.label for image in images} - {""}), texts["class"])
    return texts_of
