"""What is inverted: classes, texts of a CLIP and directions of heads, checked before any picture is made."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig, nearest
from pipeline.effects.readout import Readout, readout_of
from pipeline.label.embedder import Embedder
from pipeline.models import LoadedModel

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
_WEIGHT = re.compile(r"\[\s*(-?\d+(?:\.\d+)?)\s*\]")
LONGER = 8  # times the context: what texts are measured in that may be too long for it


@dataclass(frozen=True)
class Target:
    """A class of a model's classifier, a text, or a direction of what a head adds."""

    kind: str  # "class", "text" or "head"
    index: int  # of the output; of the text or direction among those asked for; from 0
    text: str  # name of the class, the text itself, or head and direction: `3.2/axis-0-high`

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


def text_outputs(model: LoadedModel, embedder: Embedder, texts: Sequence[str]) -> Outputs:
    """Texts as a CLIP reads them; they compete with one another. BadConfig as `check_texts`, and for another CLIP."""
    if embedder.vision.fingerprint != model.fingerprint:
        raise BadConfig(
            f"texts of {embedder.slug} say nothing to {model.description.slug}: expected its own text tower."
        )
    check_texts(embedder, texts)
    readout = readout_of(model, texts=(list(texts), embedded(embedder, texts)))
    return Outputs(readout, torch.zeros(len(texts), dtype=torch.int64), "text")


def blend_of(text: str) -> tuple[tuple[float, str], ...]:
    """Weights and texts of a blend such as `[0.7] a red object [0.3] a star`; a text without weights counts whole.

    BadConfig where a weight has no text, or all weights add up to nothing.
    """
    if not _WEIGHT.match(text):
        return ((1.0, text),)
    pieces = _WEIGHT.split(text)[1:]
    blend = tuple((float(weight), part.strip()) for weight, part in zip(pieces[::2], pieces[1::2], strict=True))
    if any(not part for _, part in blend) or not any(weight for weight, _ in blend):
        raise BadConfig(
            f"prompts: {text!r} is no blend: expected a text behind each weight, and a weight that is not 0, such as "
            "[0.7] a red object [0.3] a star."
        )
    return blend


def embedded(embedder: Embedder, texts: Sequence[str]) -> Tensor:
    """The direction of each text, (texts, d), of length 1; of a blend the weighted sum of its texts' directions."""
    blends = [blend_of(text) for text in texts]
    parts = list(dict.fromkeys(part for blend in blends for _, part in blend))
    vectors = dict(zip(parts, functional.normalize(embedder.texts(parts), dim=1), strict=True))
    summed = [torch.stack([weight * vectors[part] for weight, part in blend]).sum(0) for blend in blends]
    return functional.normalize(torch.stack(summed), dim=1)


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


def read_prompts(data: bytes, origin: str) -> tuple[str, ...]:
    """The texts of a file, one a line; empty lines are skipped. BadConfig: not UTF-8, no text, or one twice."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadConfig(f"prompts {origin}: not UTF-8 (byte {error.start}). Save it as UTF-8 text.") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if text in found:
            raise BadConfig(
                f"prompts {origin}: line {number} says {text!r}, as line {found[text]} does: expected each text once. "
                "Remove one of them."
            )
        if text:
            found[text] = number
    if not found:
        raise BadConfig(f"prompts {origin}: it holds no texts. Expected one a line.")
    return tuple(found)


def check_texts(embedder: Embedder, texts: Sequence[str]) -> None:
    """BadConfig where the model reads no text, does not know a word, or cuts a text off, which it would do silently."""
    tokenizer: Any = embedder.tokenizer
    language: Any = embedder.language
    texts = [part for text in texts for _, part in blend_of(text)]
    for text in texts if tokenizer is not None else ():
        context = int(getattr(tokenizer, "context_length", None) or language.context_length)
        length = _tokens(tokenizer([text], LONGER * context)[0])
        if length > context:
            raise BadConfig(
                f"{embedder.vision.description.id}: {text!r} has {length} tokens, its context holds {context}: what is "
                "beyond would not be read. Shorten the text."
            )
    embedder.check_texts(texts)


def _tokens(row: Tensor) -> int:
    """How many ids of a padded row come before its padding."""
    told = (row != row[-1]).nonzero()
    return int(told.max()) + 1 if len(told) else 0
