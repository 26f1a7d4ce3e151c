"""Folders of weights: which file in one is meant, and what a folder is that holds none."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from atlas_schema.errors import WeightsUnreadable

CONFIG = "config.json"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")

#: As the Hugging Face libraries and open_clip name them, the one that is taken first in front.
USUAL = (
    "model.safetensors.index.json",
    "model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)

#: a name that ends so -> what the folder is, and the command that makes a file of it
FOLDERS = (
    (
        ".distcp",
        "a distributed checkpoint (torch.distributed.checkpoint, FSDP)",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth",
    ),
    ("zero_to_fp32.py", "a DeepSpeed checkpoint", "python {folder}/zero_to_fp32.py {folder} weights"),
    ("saved_model.pb", "a TensorFlow SavedModel", "save the state dict of the PyTorch architecture it belongs to"),
    ("checkpoint.index", "a TensorFlow checkpoint", "save the state dict of the PyTorch architecture it belongs to"),
    ("_CHECKPOINT_METADATA", "an Orbax checkpoint of JAX", "export it as .npz, then convert it with timm"),
    ("flax_model.msgpack", "a Flax model", "load it with transformers (from_flax=True) and save_pretrained it"),
    ("tf_model.h5", "a TensorFlow model", "load it with transformers (from_tf=True) and save_pretrained it"),
)


def chosen_file(folder: str, names: Sequence[str]) -> str:
    """The one weights file of a folder. WeightsUnreadable where there is none or where there are several."""
    usual = next((name for name in USUAL if name in names), None)
    if usual:
        return usual
    other = [name for name in names if name.endswith(SUFFIXES)]
    if len(other) == 1:
        return other[0]
    if other:
        raise WeightsUnreadable(
            f"{folder} is a folder with {len(other)} weights files: {', '.join(other[:6])}. Name one of them."
        )
    for ending, what, command in FOLDERS:
        if any(name.endswith(ending) for name in names):
            raise WeightsUnreadable(
                f"{folder} is {what}. Make one file of it:\n  {command.format(folder=shlex.quote(folder))}"
            )
    there = ", ".join(names[:4]) or "nothing"
    raise WeightsUnreadable(
        f"{folder} is a folder without a weights file; it holds {there}. Expected .safetensors, .pth, .pt or .bin."
    )


def shards_of(location: str, index: dict[str, Any]) -> list[str]:
    """The files that an index lists. WeightsUnreadable where it is no index."""
    listed = index.get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise WeightsUnreadable(
            f"{location} is a JSON file without weights. Give the .safetensors or .bin file beside it, or their folder."
        )
    names = sorted(set(listed.values()))
    outside = [name for name in names if "/" in name or "\\" in name]
    if outside:
        raise WeightsUnreadable(
            f"{location}: its index names a file of another folder ({outside[0]}). Expected shards."
        )
    return names
