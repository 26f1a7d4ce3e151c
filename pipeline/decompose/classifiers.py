"""Classifying images by their representations: by the model's own classifier, or zero-shot by likeness with texts.

Questions come in groups: of a zoo model one an attribute (shape, colour, ...), of any other classifier one, its
classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.effects.answers import answers_for
from pipeline.effects.readout import Readout
from pipeline.images.probe_set import ProbeImage
from pipeline.models import LoadedModel
from pipeline.models.description import classifiers
from pipeline.models.representation import is_clip

CLASS = "class"
"""The only group of a classifier that knows no attributes."""


@dataclass(frozen=True)
class Classifier:
    """How representations answer questions about images.

    by: "classifier" or "texts". groups: names of the questions. scores: from representations (n, d), in the CLIP's
    space (n, e) where texts answer, to (n, answers) of each group. labels: the right answers (images, groups), int64,
    of all probe images, -1 where none is known.
    """

    by: str
    groups: tuple[str, ...]
    scores: Callable[[Tensor], list[Tensor]]
    labels: Tensor
    texts: tuple[Tensor, ...] = ()  # (answers, e) of each group, each of length 1, where texts answer

    def margins(self, representation: Tensor, images: Tensor) -> Tensor:
        """By how much the right answer about image `images[n]` scores over the best other, (n, groups): the answer is
        right where that is above 0. NaN where the right answer is unknown.
        """
        labels = self.labels.to(images.device)[images]
        columns = []
        for group, scores in enumerate(self.scores(representation)):
            right = labels[:, group, None].clamp_min(0)
            others = scores.scatter(1, right, -torch.inf).amax(1)
            columns.append(scores.gather(1, right)[:, 0] - others)
        return torch.where(labels >= 0, torch.stack(columns, dim=1), torch.nan)


def own_classifier(model: LoadedModel, readout: Readout, images: Sequence[ProbeImage]) -> Classifier | None:
    """The model's own classifier, where it has one whose outputs have names that answer some of the images."""
    if is_clip(model) or readout.reason or not readout.names:
        return None
    answer = answers_for(readout, {})
    groups = _groups(readout.names)
    group_of = {output: (g, i) for g, outputs in enumerate(groups.values()) for i, output in enumerate(outputs)}
    labels = torch.full((len(images), len(groups)), -1)
    for row, image in enumerate(images):
        right = answer(image)
        for output in [] if right is None else right.tolist():
            group, index = group_of[output]
            labels[row, group] = index
    if not bool((labels >= 0).any()):
        return None
    columns = [torch.tensor(outputs) for outputs in groups.values()]

    def scores(representation: Tensor) -> list[Tensor]:
        outputs = class_outputs(model, representation)
        return [outputs[..., one.to(outputs.device)] for one in columns]

    return Classifier("classifier", tuple(groups), scores, labels)


def zero_shot_classifier(
    texts: Mapping[str, tuple[Sequence[str], Tensor]], images: Sequence[ProbeImage]
) -> Classifier | None:
    """The classifier by likeness with texts; None where no image has a value of any group.

    texts: by group the values and their embeddings (values, e); a group is an attribute of the images by its name, or
    CLASS.
    """
    known = {group: {value: i for i, value in enumerate(values)} for group, (values, _) in texts.items()}
    labels = torch.full((len(images), len(texts)), -1)
    for row, image in enumerate(images):
        values_of = dict(image.attributes) | ({CLASS: image.label} if image.label else {})
        for column, group in enumerate(texts):
            labels[row, column] = known[group].get(values_of.get(group, ""), -1)
    answered = [column for column in range(len(texts)) if bool((labels[:, column] >= 0).any())]
    if not answered:
        return None
    chosen = [list(texts)[column] for column in answered]
    vectors = [functional.normalize(texts[group][1].float(), dim=1) for group in chosen]

    def scores(representation: Tensor) -> list[Tensor]:
        return [representation @ embedded.to(representation).T for embedded in vectors]

    return Classifier("texts", tuple(chosen), scores, labels[:, answered], tuple(vectors))


def class_outputs(model: LoadedModel, representation: Tensor) -> Tensor:
    """The model's outputs from its final representation (..., d): `representation` and this are its forward."""
    module = model.module
    heads = classifiers(module)
    if getattr(module, "head_dist", None) is not None:
        halves = representation.chunk(2, dim=-1)
        return sum(head(half) for head, half in zip(heads, halves, strict=True)) / 2  # type: ignore[return-value]
    squashed = getattr(getattr(getattr(module, "head", None), "pre_logits", None), "act", None)
    if isinstance(squashed, nn.Module):
        representation = squashed(representation)
    outputs: Tensor = heads[0](representation)
    return outputs


def _groups(names: Sequence[str]) -> dict[str, list[int]]:
    """Outputs by attribute where all names are `attribute: value`; else one group."""
    if not all(": " in name for name in names):
        return {CLASS: list(range(len(names)))}
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        groups.setdefault(name.partition(": ")[0], []).append(index)
    return groups
