"""Weight files of the zoo: safetensors, float16 on disk, with a header that says how they came to be."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from atlas_schema.errors import WeightsUnreadable


def write_weights(path: Path, state: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a state dict in float16, atomically. Tensors that modules share are written under each name, so
    that the file loads strictly into the library's class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {
        name: (tensor.half() if tensor.is_floating_point() else tensor.clone()).detach().cpu().contiguous()
        for name, tensor in state.items()
    }
    partial = path.with_suffix(".partial")
    save_file(half, partial, {"format": "pt", **header})
    os.replace(partial, path)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """State dict with floating tensors in float32, and the header. Raises WeightsUnreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            header = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsUnreadable(
            f"{path}: expected a safetensors file of the zoo, got: {error}; "
            f"write it anew with: neuron-atlas zoo train {path.stem} --out {path.parent}"
        ) from error
    return {n: t.float() if t.is_floating_point() else t for n, t in state.items()}, header
