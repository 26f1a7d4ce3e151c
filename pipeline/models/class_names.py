"""What a classifier's outputs are called: from a list of one's own, from the checkpoint, or known of its weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from atlas_schema.errors import BadConfig
from pipeline.models.description import LoadedModel
from pipeline.models.weights.names import Names
from pipeline.zoo import output_names

LISTS = ("class_names", "classes", "CLASSES", "label_names", "labels", "categories", "names")
"""Under which names trainers store a list of classes."""

FROM_INDEX = ("id2label", "idx_to_class", "idx2label", "names", "classes")
TO_INDEX = ("class_to_idx", "label2id", "label_to_idx", "classes")
_NAMELESS = re.compile(r"LABEL_\d+")  # what transformers writes where nobody gave names


def class_names(model: LoadedModel) -> tuple[str, ...]:
    """Names of a classifier's outputs where they are known for certain; else ().

    Those that were given or that the checkpoint holds. The zoo's: `attribute: value`, in the order of its outputs.
    timm's: ImageNet's, where the tag of the weights says that they were trained on it; of a user's own weights nothing
    is assumed.
    """
    if model.class_names:
        return model.class_names
    source, _, name = model.description.id.partition("/")
    if source == "zoo":
        return output_names(name)
    if source == "timm" and "_in" in name.partition(".")[2]:
        from timm.data import ImageNetInfo, infer_imagenet_subset

        subset = infer_imagenet_subset(model.module)
        if subset is not None:
            info = ImageNetInfo(subset)
            return tuple(info.index_to_description(i) for i in range(info.num_classes()))
    return ()


def read_class_names(path: str) -> tuple[str, ...]:
    """The names in a file, in the order of the outputs: one a line, or JSON as trainers and transformers write it (a
    list; index to name; name to index; a config.json). BadConfig where it holds none.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadConfig(
            f"class names {path}: cannot be read ({error.strerror}). Give a text file, a name a line."
        ) from error
    except UnicodeDecodeError as error:
        raise BadConfig(f"class names {path}: not UTF-8 (byte {error.start}). Save it as UTF-8 text.") from error
    names = (
        _of_json(text, path) if text.lstrip()[:1] in ("{", "[") else tuple(map(str.strip, text.strip().splitlines()))
    )
    if not names:
        raise BadConfig(f"class names {path}: it holds no names. Expected one a line, or a JSON list.")
    if not all(names):
        raise BadConfig(f"class names {path}: name {names.index('') + 1} is empty. Expected a name for every output.")
    return names


def names_in(checkpoint: Names) -> tuple[str, ...]:
    """The names of classes that a checkpoint or the config.json beside it holds; () where it holds none."""
    for settings in (checkpoint.config, checkpoint.config.get("pretrained_cfg")):
        found = _of_config(settings) if isinstance(settings, Mapping) else ()
        if found:
            return found
    for name, value in checkpoint.values.items():
        if name.rpartition(".")[2] in LISTS and _are_names(value):
            return tuple(value)
    for words, order in ((FROM_INDEX, _by_index), (TO_INDEX, _by_name)):
        for word in words:
            found = order(_entries(checkpoint.values, word))
            if found:
                return found
    return ()


def checked(names: Sequence[str], outputs: int, model: str) -> tuple[str, ...]:
    """Names that a user gave, one for each output. BadConfig where the model has no classifier or another number."""
    if names and not outputs:
        raise BadConfig(f"{model}: class names were given, but it has no classifier. Leave out --class-names.")
    if names and len(names) != outputs:
        raise BadConfig(
            f"{model}: {len(names)} class names were given, its classifier has {outputs} outputs: expected as many."
        )
    return tuple(names)


def said(found: Sequence[str], known: bool, outputs: int) -> str:
    """The sentence that tells where the names of outputs come from, or why there are none; "" where nothing is to say.

    found: those of the checkpoint; known: whether there are names of another source.
    """
    if not outputs or (known and not found):
        return ""
    if len(found) == outputs:
        return f"its {outputs:,} classes have the names that the checkpoint holds"
    lacking = f"the checkpoint names {len(found):,} classes, the classifier has {outputs:,} outputs" if found else ""
    lacking = lacking or "neither the checkpoint nor its id says what its classes are called"
    return "" if known else f"classes are shown by their index: {lacking}; --class-names FILE gives names"


def _of_json(text: str, path: str) -> tuple[str, ...]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise BadConfig(f"class names {path}: not valid JSON: {error}.") from error
    if _are_names(content):
        return tuple(content)
    if isinstance(content, dict):
        return _of_config(content) or _by_index(content.items()) or _by_name(content.items())
    return ()


def _of_config(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """As transformers (id2label) and timm (label_names, with label_descriptions) write them."""
    listed = settings.get("label_names")
    if _are_names(listed):
        told = settings.get("label_descriptions")
        return tuple(str(told.get(name, name)) for name in listed) if isinstance(told, Mapping) else tuple(listed)
    for word, order in (*((word, _by_index) for word in FROM_INDEX), *((word, _by_name) for word in TO_INDEX)):
        found = settings.get(word)
        if isinstance(found, Mapping) and (names := order(found.items())):
            return names
    return next((tuple(settings[word]) for word in LISTS if _are_names(settings.get(word))), ())


def _are_names(value: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) and one for one in value)


def _entries(values: Mapping[str, Any], word: str) -> list[tuple[str, Any]]:
    """The entries of the first dict of this name in a flattened checkpoint."""
    inside = [(name.partition(f"{word}."), value) for name, value in values.items()]
    found = [(head, rest, value) for (head, mark, rest), value in inside if mark and (not head or head.endswith("."))]
    return [(rest, value) for head, rest, value in found if head == found[0][0]]


def _by_index(entries: Iterable[tuple[Any, Any]]) -> tuple[str, ...]:
    """{0: "cat", 1: "dog"} and {"0": "cat", "1": "dog"}."""
    by = {str(index): name for index, name in entries}
    ordered = [by.get(str(index)) for index in range(len(by))]
    nameless = all(isinstance(name, str) and _NAMELESS.fullmatch(name) for name in ordered)
    return tuple(ordered) if _are_names(ordered) and not nameless else ()


def _by_name(entries: Iterable[tuple[Any, Any]]) -> tuple[str, ...]:
    """{"cat": 0, "dog": 1}."""
    return _by_index([(index, name) for name, index in entries if isinstance(index, int | str)])
