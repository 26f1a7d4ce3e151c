"""Files of words whose associations in a text tower are asked for.

templates = ["a photo of a {}", "{}"]
near = ["..."]            # with pool: which targets lie near any of these
pool = ["...", "..."]     # other words, which say how near is nearer than usual

[attributes]
warm = ["red", "orange"]  # exactly two groups
cold = ["blue", "cyan"]

[targets]
shapes = ["heart", "star"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, NothingThere

if TYPE_CHECKING:
    from pipeline.label.embedder import Embedder

KEYS = ("templates", "near", "pool", "attributes", "targets")


@dataclass(frozen=True)
class WordGroups:
    """Two groups of attributes, one or more of targets; a word is embedded as the mean of its templates."""

    attributes: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, tuple[str, ...]]
    templates: tuple[str, ...] = ("{}",)
    near: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()

    def embedded(self, embedder: Embedder, words: Sequence[str]) -> Tensor:
        """float32 (words, d), each of length 1: the direction of the mean over templates. BadConfig as `texts`."""
        each = [embedder.texts([template.replace("{}", word) for word in words]) for template in self.templates]
        return torch.nn.functional.normalize(torch.stack(each).mean(0), dim=1)


def read_word_groups(path: Path) -> WordGroups:
    """The groups of a TOML file. NothingThere without the file, BadConfig where it says something else."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NothingThere(
            f"{path}: there is no such file. Expected a TOML file of words ({', '.join(KEYS)})."
        ) from None
    except UnicodeDecodeError:
        raise BadConfig(f"{path}: not UTF-8. Save it as UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{path}: not TOML: {error}.") from None
    unknown = sorted(told.keys() - set(KEYS))
    if unknown:
        raise BadConfig(f"{path}: {unknown[0]!r} is unknown. Expected: {', '.join(KEYS)}.")
    attributes, targets = _groups(path, told, "attributes"), _groups(path, told, "targets")
    if len(attributes) != 2:
        raise BadConfig(
            f"{path}: [attributes] has {len(attributes)} groups; expected two, which words are compared with."
        )
    for name in attributes:
        if len(attributes[name]) < 2:
            raise BadConfig(f"{path}: attributes.{name} has one word; expected two or more, to tell it from chance.")
    shared = sorted(set(attributes.keys()) & set(targets.keys()))
    if shared:
        raise BadConfig(f"{path}: {shared[0]!r} names a group of attributes and one of targets. Name one otherwise.")
    one, other = attributes.values()
    both = sorted(set(one) & set(other))
    if both:
        raise BadConfig(f"{path}: {both[0]!r} is in both groups of attributes. Leave it out of one.")
    templates = _list(path, told.get("templates", ["{}"]), "templates")
    wrong = next((template for template in templates if template.count("{}") != 1), None)
    if wrong is not None:
        raise BadConfig(f"{path}: template {wrong!r}: expected one {{}} in it, where the word goes.")
    near, pool = (_list(path, told[key], key) if key in told else () for key in ("near", "pool"))
    if bool(near) != bool(pool):
        raise BadConfig(f"{path}: near and pool go together: the list, and other words that say how near is usual.")
    return WordGroups(attributes, targets, templates, near, pool)


def _groups(path: Path, told: Mapping[str, Any], key: str) -> dict[str, tuple[str, ...]]:
    groups = told.get(key)
    if not isinstance(groups, Mapping) or not groups:
        raise BadConfig(f'{path}: no [{key}]. Expected groups of words, such as warm = ["red", "orange"].')
    return {name: _list(path, words, f"{key}.{name}") for name, words in groups.items()}


def _list(path: Path, words: object, name: str) -> tuple[str, ...]:
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise BadConfig(f"{path}: {name}: expected a list of one or more texts, found {words!r}.")
    double = sorted({word for word in words if words.count(word) > 1})
    if double:
        raise BadConfig(f"{path}: {name} has {double[0]!r} twice.")
    return tuple(words)
