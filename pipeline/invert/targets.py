"""What is inverted: classes, texts of a CLIP and directions of heads, checked before any picture is made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, nearest
from pipeline.effects.readout import Readout, readout_of
from pipeline.invert.prompts import check_prompts, embedded
from pipeline.label.embedder import Embedder
from pipeline.models import LoadedModel

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Target:
    """A class of a model's classifier, a text, or a direction of what a head adds."""

    kind: str  # "class", "text" or "head"
    index: int  # of the output; of the text or direction among those asked for; from 0
    text: str  # name of the class, the text as in `Prompts.texts`, or head and direction: `3.2/axis-0-high`

    @property
    def name(self) -> str:
        """What tells it from others of its kind: a text's or direction's place in a list does not."""
        return str(self.index) if self.kind == "class" else self.text

    def address(self, slug: str) -> str:
        """Such as `zoo-vit/class/12`, `zoo-clip/text/0a1b2c3d4e5f` or `zoo-vit/head/3.2/axis-0-high`."""
        told = hashlib.sha256(self.text.encode()).hexdigest()[:12] if self.kind == "text" else self.name
        return f"{slug}/{self.kind}/{told}"

    def key(self, slug: str) -> tuple[object, ...]:
        """What its random numbers depend on."""
        return (slug, self.kind, self.index if self.kind == "class" else self.text)


@dataclass(frozen=True)
class Outputs:
    """A model's outputs as answers: how they are read, and which compete with one another."""

    readout: Readout
    groups: Tensor  # int64 (outputs,): outputs of one number exclude each other
    kind: str  # "class" or "text"

    @property
    def names(self) -> tuple[str, ...]:
        return self.readout.names

    def rivals(self, index: Tensor) -> Tensor:
        """bool (n, outputs): the outputs that compete with each of `index` (n,), itself among them."""
        groups = self.groups.to(index.device)
        return groups[index][:, None] == groups[None, :]


def class_outputs(model: LoadedModel) -> Outputs:
    """The classes of a model. BadConfig where it has no classifier, or one that was never trained.

    The zoo's classifiers answer six questions at once, a softmax for each attribute; all other classes exclude one
    another.
    """
    readout = readout_of(model)
    if readout.reason:
        raise BadConfig(
            f"{model.description.id} has no classes to invert: {readout.reason}. Take a classifier, such as "
            "timm/vit_base_patch16_224 or zoo/vit; a CLIP is inverted for texts."
        )
    names = readout.names
    questions = [name.partition(": ")[0] if model.description.source == "zoo" else "" for name in names]
    order = list(dict.fromkeys(questions))
    return Outputs(readout, torch.tensor([order.index(one) for one in questions]), "class")


def text_outputs(
    model: LoadedModel, embedder: Embedder, texts: Sequence[str], pictures: Mapping[str, bytes] = MappingProxyType({})
) -> Outputs:
    """Texts as a CLIP reads them, and images as it sees them; they compete with one another.

    pictures: of `Prompts`. BadConfig as `check_prompts`, and for another CLIP.
    """
    if embedder.vision.fingerprint != model.fingerprint:
        raise BadConfig(
            f"texts of {embedder.slug} say nothing to {model.description.slug}: expected its own text tower."
        )
    check_prompts(embedder, texts)
    readout = readout_of(model, texts=(list(texts), embedded(embedder, texts, pictures)))
    return Outputs(readout, torch.zeros(len(texts), dtype=torch.int64), "text")


def targets_of(outputs: Outputs, wanted: Sequence[str] = ()) -> list[Target]:
    """Targets for these outputs, in their order; all of them where nothing is named.

    wanted: names, indices (`12`) or ranges of them (`0-9`, both ends included); a name counts before an index.
    BadConfig for one that is not there or comes twice.
    """
    chosen: dict[int, str] = {}
    for one in wanted:
        for index in _indices(one, outputs.names):
            if index in chosen:
                raise BadConfig(
                    f"classes: {one!r} names {outputs.names[index]!r} (index {index}), and so does {chosen[index]!r}: "
                    "name each once."
                )
            chosen[index] = one
    numbers = sorted(chosen) if wanted else range(len(outputs.names))
    return [Target(outputs.kind, index, outputs.names[index]) for index in numbers]


def text_targets(texts: Sequence[str]) -> list[Target]:
    """A target for each text."""
    return [Target("text", index, text) for index, text in enumerate(texts)]


def zoo_prompts() -> tuple[str, ...]:
    """A sentence for each value of the zoo's attributes, such as "a red object", in the order of its classes."""
    from pipeline.zoo.captions import prompts
    from pipeline.zoo.world import ATTRIBUTES

    return tuple(text for attribute in ATTRIBUTES for text in prompts(attribute))


def _indices(wanted: str, names: Sequence[str]) -> Sequence[int]:
    same = [index for index, name in enumerate(names) if name == wanted]
    if same:
        return same
    numbers = _RANGE.fullmatch(wanted.strip())
    if numbers is None:
        close = ", ".join(repr(name) for name in nearest(wanted, names)) or f"{names[0]!r}"
        raise BadConfig(
            f"classes: {wanted!r} is no class of the model, expected a name, an index from 0 to {len(names) - 1} or a "
            f"range such as 0-9; nearest: {close}."
        )
    first, last = int(numbers[1]), int(numbers[2] or numbers[1])
    if first > last or last >= len(names):
        raise BadConfig(f"classes: {wanted}: expected indices from 0 to {len(names) - 1}, the lower one first.")
    return range(first, last + 1)
