"""Sentences about scenes, and the word tokenizer of the zoo's CLIP.

A caption may leave attributes out; what it does mention is true of the scene. So "a red object" and "a large
red star with dots at the top on a dark background" are sentences of one language, and a prompt about a single
attribute is a text that the model was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from atlas_schema.errors import BadConfig, nearest
from pipeline.zoo.world import ATTRIBUTES

_TEXTURE_PHRASES = {
    "plain": "in one plain colour",
    "horizontal": "with horizontal stripes",
    "vertical": "with vertical stripes",
    "diagonal": "with diagonal stripes",
    "checked": "with checks",
    "dotted": "with dots",
}
_POSITION_PHRASES = {name: f"at the {name}" for name in ATTRIBUTES["position"]} | {
    "left": "on the left",
    "right": "on the right",
    "centre": "in the centre",
}


def caption(
    labels: Sequence[int] | NDArray[np.int64], mention: Sequence[bool] | NDArray[np.bool_] | None = None
) -> str:
    """One sentence from one row of labels; `mention` (per attribute, default all) says what it may tell."""
    names = list(ATTRIBUTES)
    values = {name: ATTRIBUTES[name][int(labels[i])] for i, name in enumerate(names) if mention is None or mention[i]}
    noun = " ".join([values[name] for name in ("size", "colour") if name in values] + [values.get("shape", "object")])
    phrases = [("an " if noun[0] in "aeiou" else "a ") + noun]
    if "texture" in values:
        phrases.append(_TEXTURE_PHRASES[values["texture"]])
    if "position" in values:
        phrases.append(_POSITION_PHRASES[values["position"]])
    if "background" in values:
        phrases.append(f"on a {values['background']} background")
    return " ".join(phrases)


def prompts(attribute: str) -> list[str]:
    """One sentence for each value of the attribute, mentioning nothing else: ["a small object", ...]."""
    names = list(ATTRIBUTES)
    if attribute not in names:
        raise BadConfig(f"{attribute!r}: unknown attribute; the scenes have {', '.join(names)}")
    mention = [name == attribute for name in names]
    return [caption([value] * len(names), mention) for value in range(len(ATTRIBUTES[attribute]))]


def _vocabulary() -> tuple[str, ...]:
    sentences = [text for attribute in ATTRIBUTES for text in prompts(attribute)]
    return tuple(sorted({word for text in sentences for word in text.split()}))


class WordTokenizer:
    """Texts to token ids, (text, context_length) int64; called as open_clip's tokenizers are.

    The vocabulary is every word of the captions. A word outside it raises BadConfig: the model has never
    seen it, so any number for it would be noise. End of text has the greatest id, because open_clip finds
    the token to pool by the greatest id in the row.
    """

    context_length = 24
    words = _vocabulary()
    start_id, end_id = len(words) + 1, len(words) + 2  # id 0 pads, words count from 1
    vocab_size = len(words) + 3

    def __init__(self) -> None:
        self.ids = {word: i + 1 for i, word in enumerate(self.words)}

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> torch.Tensor:
        length = context_length or self.context_length
        texts = [texts] if isinstance(texts, str) else texts
        out = np.zeros((len(texts), length), dtype=np.int64)
        for row, text in zip(out, texts, strict=True):
            tokens = [self.start_id, *(self._id(word) for word in self._split(text)), self.end_id]
            if len(tokens) > length:
                raise BadConfig(f"{text!r}: {len(tokens)} tokens, at most {length} fit; shorten the text")
            row[: len(tokens)] = tokens
        return torch.from_numpy(out)

    def decode(self, ids: Sequence[int] | torch.Tensor) -> str:
        """The words of one row of ids, padding and marks left out."""
        return " ".join(self.words[int(i) - 1] for i in ids if 0 < int(i) <= len(self.words))

    @staticmethod
    def _split(text: str) -> list[str]:
        return re.findall(r"[^\s.,;:!?]+", text.lower())

    def _id(self, word: str) -> int:
        if word not in self.ids:
            close = ", ".join(nearest(word, self.words)) or ", ".join(self.words)
            raise BadConfig(
                f"{word!r}: the zoo's CLIP knows {len(self.words)} words and not this one; nearest: {close}"
            )
        return self.ids[word]
