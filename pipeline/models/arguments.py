"""Arguments of an architecture's constructor that a user gives: parsed, and checked before anything is built."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable

from atlas_schema.errors import BadConfig, nearest

Value = bool | int | float | str | None | tuple[int | float | bool | str, ...]
Arguments = tuple[tuple[str, Value], ...]
"""Sorted by name."""

#: Arguments that are not given in this way -> why not.
ELSEWHERE = {
    "img_size": "the size of the input is --input-size",
    "image_size": "the size of the input is --input-size",
    "num_classes": "the number of classes follows from the weights",
    "pretrained": "weights are the tag of the model id, or --weights",
    "checkpoint_path": "weights are the tag of the model id, or --weights",
    "in_chans": "pictures have 3 channels here; a model of another number of channels cannot be shown any",
    "timm_model_pretrained": "weights are the tag of the model id, or --weights",
}


def parsed(pairs: Iterable[str]) -> dict[str, Value]:
    """Arguments from texts such as `global_pool=avg`. BadConfig where one is no such text."""
    found: dict[str, Value] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.strip().isidentifier():
            raise BadConfig(f"--model-args {pair}: expected NAME=VALUE, such as global_pool=avg.")
        found[name.strip()] = _value(text.strip())
    return found


def _value(text: str) -> Value:
    """true, false and none as TOML and Python write them; numbers and tuples; else the text itself."""
    words: dict[str, Value] = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float | str | tuple) else text


def as_arguments(given: dict[str, Value]) -> Arguments:
    """As models are asked for with them: sorted, and lists made tuples."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in sorted(given.items()))


def check_names(model: str, arguments: Arguments, known: Collection[str]) -> None:
    """BadConfig for an argument that the constructor does not have, or that is given otherwise. known: empty is any."""
    for name, _ in arguments:
        if name in ELSEWHERE:
            raise BadConfig(f"{model}: --model-args {name}: {ELSEWHERE[name]}.")
        if known and name not in known:
            close = nearest(name, known)
            hint = (
                f"nearest: {', '.join(close)}" if close else f"it has {', '.join(sorted(set(known) - {'self'})[:12])}"
            )
            raise BadConfig(f"{model}: its constructor has no argument {name!r}; {hint}.")
