"""A checkpoint as one list of tensors by name: dicts in dicts become prefixes, marks of wrappers are cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import WeightsUnreadable
from pipeline.models.weights.files import Checkpoint, listed

#: Parts of a name that torch.compile, FSDP, activation checkpointing and Lightning's strategies put in anywhere.
MARKS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"})
MOST_DEPTH = 12  # of dicts in dicts

#: Under which names trainers store the size of their pictures.
SIZES = ("img_size", "image_size", "input_size", "image_resolution", "input_resolution")


@dataclass(frozen=True)
class Names:
    """All tensors of a checkpoint by their whole name, and the plain values beside them."""

    location: str
    tensors: dict[str, Tensor]
    values: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    def unnamed(self) -> dict[str, int]:
        """By name, how many tensors stand in lists: they have no names of their own, and are not read."""
        counts = {
            name: sum(isinstance(one, Tensor) for one in value)
            for name, value in self.values.items()
            if isinstance(value, list | tuple)
        }
        return {name: count for name, count in counts.items() if count}

    def said_sizes(self) -> list[tuple[int, int]]:
        """Sizes of pictures (height, width) that the file's own settings name, in any unit that trainers use."""
        own = [value for name, value in self.values.items() if name.rpartition(".")[2] in SIZES]
        inner = self.config.get("vision_config")
        for settings in (self.config, inner if isinstance(inner, Mapping) else {}):
            own += [settings[name] for name in SIZES if name in settings]
        return [size for size in map(_size, own) if size is not None]


def names_of(checkpoint: Checkpoint) -> Names:
    """The tensors of a checkpoint by name. WeightsUnreadable where it holds none."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for name, value in _leaves(checkpoint.content, "", 0):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.size > 1:
            value = torch.from_numpy(value.copy())  # some trainers store their weights so
        (tensors if isinstance(value, Tensor) else values)[name] = value
    if not tensors:
        raise WeightsUnreadable(
            f"{checkpoint.location} holds no state dict but {_kind(checkpoint.content)}. Expected tensors by name, or "
            "a dict with them under a name such as state_dict, model or teacher."
        )
    return Names(checkpoint.location, _without_marks(tensors), values, checkpoint.config)


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        if not content:
            return "an empty dict"
        return f"the keys {listed(map(str, content))}"
    return type(content).__name__


def _leaves(content: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    inner = _inner(content)
    if inner is None or depth > MOST_DEPTH:
        return
    for key, value in inner.items():
        name = f"{prefix}{key}"
        if isinstance(value, Tensor) or _inner(value) is None:
            yield name, value
        else:
            yield from _leaves(value, f"{name}.", depth + 1)


def _inner(value: Any) -> Mapping[Any, Any] | None:
    """What a dict, a namespace or a stand-in for a trainer's object holds."""
    if isinstance(value, Mapping):
        return value
    held = getattr(value, "__dict__", None)
    return held if isinstance(held, dict) and not isinstance(value, Tensor | type) else None


def _without_marks(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the marks of wrappers, unless two tensors would then share a name."""
    cut = {".".join(part for part in name.split(".") if part not in MARKS): name for name in tensors}
    return {short: tensors[name] for short, name in cut.items()} if len(cut) == len(tensors) else tensors


def _size(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value, value
    if isinstance(value, list | tuple) and len(value) in (2, 3) and all(isinstance(one, int) for one in value):
        return value[-2], value[-1]
    return None
