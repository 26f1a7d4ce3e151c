"""What a CLIP is inverted for: texts, images by their embeddings, and blends of these, a line of a file each.

A line is a text (`a red object`), an image (`image: cat.jpg`, a file beside the list, or a URL), or a blend of several
with weights (`[0.7] image: cat.jpg [0.3] a painting`). An image is known by its name and the hash of its file, so that
another file of the same name is another target, and no folder of anyone's machine is told.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig, BadImage
from pipeline.images.decoding import decoded
from pipeline.label.embedder import Embedder
from pipeline.models.preprocess import pixels_of

IMAGE = "image:"  # what a part of a prompt begins with that names an image
_WEIGHT = re.compile(r"\[\s*(-?\d+(?:\.\d+)?)\s*\]")
LONGER = 8  # times the context: what texts are measured in that may be too long for it


@dataclass(frozen=True)
class Prompts:
    """What is asked for. pictures: the file of each image, by how texts name it: `image: cat.jpg (3f2a9c1b7d44)`."""

    texts: tuple[str, ...] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def read_prompts(data: bytes, origin: str, read: Callable[[str], bytes]) -> Prompts:
    """The prompts of a file; empty lines are skipped. read: gives the file of an image by what the line calls it.

    BadConfig: not UTF-8, nothing there, a line twice, an image that is none, a blend that is none.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadConfig(f"prompts {origin}: not UTF-8 (byte {error.start}). Save it as UTF-8 text.") from error
    found: dict[str, int] = {}
    pictures: dict[str, bytes] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        try:
            text = _with_pictures(line, read, pictures)
        except (BadConfig, BadImage) as error:
            raise BadConfig(f"prompts {origin}: line {number}: {error}") from error
        if text in found:
            raise BadConfig(
                f"prompts {origin}: line {number} says {text!r}, as line {found[text]} does: expected each text once. "
                "Remove one of them."
            )
        found[text] = number
    if not found:
        raise BadConfig(f"prompts {origin}: it holds no texts. Expected one a line.")
    return Prompts(tuple(found), pictures)


def _with_pictures(line: str, read: Callable[[str], bytes], pictures: dict[str, bytes]) -> str:
    """A line with each image told by name and hash; their files go to `pictures`."""
    told = []
    for weight, part in blend_of(line):
        if part.startswith(IMAGE):
            name = part.removeprefix(IMAGE).strip()
            if not name:
                raise BadConfig(f"{part!r} names no image. Expected a file or URL, such as image: cat.jpg.")
            content = read(name)
            try:
                decoded(content)
            except BadImage as error:
                raise BadConfig(f"{name} is no image: {error}.") from error
            alone = PurePosixPath(name.replace("\\", "/")).name
            part = f"{IMAGE} {alone} ({hashlib.sha256(content).hexdigest()[:12]})"
            pictures[part] = content
        told.append((weight, part))
    if not _WEIGHT.match(line):
        return told[0][1]
    return " ".join(f"[{weight:g}] {part}" for weight, part in told) if IMAGE in line else line


def blend_of(text: str) -> tuple[tuple[float, str], ...]:
    """Weights and parts of a blend such as `[0.7] a red object [0.3] a star`; a text without weights counts whole.

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


def embedded(embedder: Embedder, texts: Sequence[str], pictures: Mapping[str, bytes] = MappingProxyType({})) -> Tensor:
    """The direction of each prompt, (texts, d), of length 1: of a text or an image its embedding, of a blend the
    weighted sum of its parts'. pictures: of `Prompts`; BadConfig for an image that is not among them.
    """
    blends = [blend_of(text) for text in texts]
    parts = list(dict.fromkeys(part for blend in blends for _, part in blend))
    words = [part for part in parts if not part.startswith(IMAGE)]
    images = [part for part in parts if part.startswith(IMAGE)]
    vectors = dict(zip(words, functional.normalize(embedder.texts(words), dim=1), strict=True)) if words else {}
    if images:
        seen = torch.stack([_pixels(embedder, part, pictures) for part in images])
        vectors |= dict(zip(images, embedder.pictures(seen), strict=True))
    summed = [torch.stack([weight * vectors[part] for weight, part in blend]).sum(0) for blend in blends]
    return functional.normalize(torch.stack(summed), dim=1)


def _pixels(embedder: Embedder, part: str, pictures: Mapping[str, bytes]) -> Tensor:
    if part not in pictures:
        raise BadConfig(f"prompts: the file of {part!r} was not given. Name it in a file of prompts, `{IMAGE} FILE`.")
    return pixels_of(decoded(pictures[part]), embedder.vision.description)


def check_prompts(embedder: Embedder, texts: Sequence[str]) -> None:
    """BadConfig where the model reads no text, does not know a word, or cuts a text off, which it would do silently."""
    tokenizer: Any = embedder.tokenizer
    language: Any = embedder.language
    parts = [part for text in texts for _, part in blend_of(text) if not part.startswith(IMAGE)]
    for text in parts if tokenizer is not None else ():
        context = int(getattr(tokenizer, "context_length", None) or language.context_length)
        length = _tokens(tokenizer([text], LONGER * context)[0])
        if length > context:
            raise BadConfig(
                f"{embedder.vision.description.id}: {text!r} has {length} tokens, its context holds {context}: what is "
                "beyond would not be read. Shorten the text."
            )
    if parts or tokenizer is None:
        embedder.check_texts(parts)


def _tokens(row: Tensor) -> int:
    """How many ids of a padded row come before its padding."""
    told = (row != row[-1]).nonzero()
    return int(told.max()) + 1 if len(told) else 0
