"""Checkpoint files: from a path or fsspec URL to a plain state dict. Nothing in a file is ever executed."""

import io
import os
import pickle
from collections.abc import Iterable
from typing import IO, Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from atlas_schema.errors import WeightsUnreadable

WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "teacher",
)
PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "encoder.",
    "student.",
    "teacher.",
    "visual.",
    "trunk.",
)
FORMATS = "Expected .safetensors, or .pth/.pt/.bin as torch.save writes them."


def read_checkpoint(location: str) -> dict[str, Tensor]:
    """The state dict in a safetensors or torch file, out of the usual wrappers (state_dict, model,
    model_ema).

    WeightsUnreadable where the file is missing, truncated, of a foreign format, or needs code to be run to
    load.
    """
    try:
        with _opened(location) as file:
            loaded = _parsed(file, location)
    except WeightsUnreadable:
        raise
    except FileNotFoundError as error:
        raise WeightsUnreadable(f"{location}: no such file. Give a path or an fsspec URL (s3://, https://).") from error
    except (OSError, ImportError, ValueError) as error:
        raise WeightsUnreadable(f"{location} cannot be opened: {_first_line(error)}") from error
    state = unwrapped(loaded, location)
    broken = [key for key, value in state.items() if not _finite(value)]
    if broken:
        raise WeightsUnreadable(
            f"{location}: NaN or infinity in {len(broken)} of {len(state)} tensors ({listed(broken)}). "
            "The checkpoint is damaged, or its training diverged."
        )
    return state


def _opened(location: str) -> IO[bytes]:
    if os.path.exists(location):
        if os.path.isdir(location):
            raise WeightsUnreadable(f"{location} is a folder; give the weights file in it. {FORMATS}")
        return open(location, "rb")
    import fsspec

    opened = fsspec.open(location, "rb").open()
    # torch and safetensors seek back and forth: fetch a remote file once, whole
    return io.BytesIO(opened.read())


def _parsed(file: IO[bytes], location: str) -> Any:
    """Told apart by their first bytes: names of checkpoint files are not to be relied on."""
    head = file.read(9)
    file.seek(0)
    if head[8:9] == b"{":
        return _safetensors(file, location)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return _torch(file, location)
    size = "It is empty." if not head else "It does not begin like one of these."
    raise WeightsUnreadable(f"{location} is no weights file. {size} {FORMATS}")


def _safetensors(file: IO[bytes], location: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    try:
        return load_file(location) if os.path.exists(location) else load(file.read())
    except SafetensorError as error:
        raise WeightsUnreadable(
            f"{location} is truncated or damaged: {_first_line(error)}. Fetch it again and compare its size."
        ) from error


def _torch(file: IO[bytes], location: str) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "GLOBAL" not in str(error):
            raise WeightsUnreadable(f"{location} is truncated or damaged: {_first_line(error)}.") from error
        raise WeightsUnreadable(
            f"{location} holds Python objects besides tensors, and loading them would run code: refused. "
            "Save the state dict alone, where you trust the file: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
        ) from error
    except (RuntimeError, BadZipFile, EOFError, KeyError, ValueError, OSError) as error:
        raise WeightsUnreadable(
            f"{location} is truncated or damaged: {_first_line(error)}. Fetch it again and compare its size."
        ) from error


def unwrapped(checkpoint: Any, location: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint without the wrappers of training scripts (exponential averages first)."""
    while isinstance(checkpoint, dict):
        tensors = {str(key): value for key, value in checkpoint.items() if isinstance(value, Tensor)}
        inner = next((checkpoint[key] for key in WRAPPERS if isinstance(checkpoint.get(key), dict)), None)
        if inner is None and tensors:
            return tensors
        if inner is None:
            break
        checkpoint = inner
    kind = type(checkpoint).__name__
    if isinstance(checkpoint, dict):
        kind = f"the keys {listed(map(str, checkpoint))}"
    raise WeightsUnreadable(
        f"{location} holds no state dict but {kind}. Expected tensors by name, or a dict with them under "
        f"one of {', '.join(WRAPPERS)}."
    )


def without_prefix(state: dict[str, Tensor], wanted: Iterable[str]) -> tuple[dict[str, Tensor], int]:
    """The state dict under the prefix (module., backbone., ...) that makes most names fit; and how many were
    left.

    Names outside that prefix belong to other modules of a training wrapper (a projector, a text tower).
    """
    own = set(wanted)
    best = state
    queue = [state]
    while queue:
        current = queue.pop()
        for prefix in PREFIXES:
            inner = {key[len(prefix) :]: value for key, value in current.items() if key.startswith(prefix)}
            if inner:
                queue.append(inner)
                if len(own & set(inner)) > len(own & set(best)):
                    best = inner
    return best, len(state) - len(best)


def listed(names: Iterable[str], n: int = 4) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
