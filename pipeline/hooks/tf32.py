"""Products of float32 numbers on a GPU: exact ones, or those of its TF32 units where a picture is judged.

TF32 units read ten bits of the mantissa of what they multiply and add in float32; on an H200 they do so seven times as
fast as float32 is computed exactly. torch uses them for convolutions unless it is told not to, and for matrix products
when it is told to. So a worker turns them off (`exactly`), and what judges a picture turns them on (`judging`) once
this GPU has shown, on this model, that they agree with exact products. How far figures of a picture move by that:
docs/benchmarks/tf32.json.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from pipeline.hooks.device_check import deviation
from pipeline.models.description import LoadedModel
from pipeline.models.device import dtype_of

MOST = 0.005  # deviation of a layer's activations in units of their own size; bfloat16 weights are off by 0.01 to 0.02

_agree: weakref.WeakKeyDictionary[nn.Module, bool] = weakref.WeakKeyDictionary()


def exactly() -> None:
    """From now on products of float32 numbers are exact in this process."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def products(exact: bool) -> Iterator[None]:
    """Within it, float32 numbers are multiplied exactly, or by TF32 units; afterwards as before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def by_units() -> AbstractContextManager[None]:
    """Within it, TF32 units multiply float32 numbers."""
    return products(exact=False)


@contextmanager
def judging(model: LoadedModel) -> Iterator[None]:
    """Within it, a float32 model on a GPU uses TF32 units where they agree with exact products; else nothing changes.

    It is measured once a model and process, on the GPU, by the images of the device check: four forwards.
    """
    if dtype_of(model) == torch.float32 and has_units(model.device) and agrees(model):
        with by_units():
            yield
    else:
        yield


def has_units(device: torch.device) -> bool:
    """Whether it is a GPU of NVIDIA's with TF32 units (Ampere and later)."""
    return (
        device.type == "cuda" and torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def agrees(model: LoadedModel) -> bool:
    """Whether no layer's activations deviate by more than MOST when TF32 units multiply."""
    if model.module not in _agree:
        with products(exact=True):
            worst, _ = deviation(model, model, around=by_units)
        _agree[model.module] = worst <= MOST
    return _agree[model.module]


def decide(model: LoadedModel, agree: bool) -> None:
    """Whether TF32 units judge pictures of this model, said instead of measured: for what measures both ways."""
    _agree[model.module] = agree
