"""What a device is good at, measured: which precision an ascent runs in, and which attention kernel.

Matrix units for bfloat16 make an ascent several times faster where they exist (CUDA since Ampere, CPUs with
AMX) and many times slower where they are emulated, so a short probe decides, not a list of names. Whatever
an ascent runs in, a picture's numbers are always measured in the weights' own precision.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

import torch
from torch import nn

from pipeline.models.description import LoadedModel

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
SMALL_WIDTH = 192  # below it a step is overhead, not matrix products: float32
TIMED_IMAGES = 4  # in a forward by which the number of threads is chosen
TURNS = 3
LONG_SECONDS = 0.5  # of a forward with all threads: more than handing out work can take
FEWER_IF = 1.1  # times the least: as quick with fewer threads
WORTH_IT = 1.5  # how many times faster bfloat16 has to be


def dtype_of(model: LoadedModel) -> torch.dtype:
    """The floating-point type of the model's weights."""
    return next(p.dtype for p in model.module.parameters() if p.is_floating_point())


def choose_precision(model: LoadedModel) -> str:
    """The precision for ascents on this model: `float64` for a float64 model, else as the device measures."""
    if dtype_of(model) == torch.float64:
        return "float64"
    widest = max((site.width for site in model.description.ffn_sites), default=0)
    if widest < 4 * SMALL_WIDTH:
        return "float32"
    return "bfloat16" if bfloat16_speedup(str(model.device)) >= WORTH_IT else "float32"


@lru_cache(maxsize=8)
def bfloat16_speedup(device: str) -> float:
    """How many times faster a chain of bfloat16 matrix products is than float32's, on `device`, now.

    Best of three alternating runs of about 2 GFLOP each: a busy neighbour slows both.
    """
    best = {dtype: float("inf") for dtype in (torch.float32, torch.bfloat16)}
    for dtype in (torch.float32, torch.bfloat16) * 4:
        best[dtype] = min(best[dtype], _seconds(torch.device(device), dtype))
    return best[torch.float32] / best[torch.bfloat16]


def _seconds(device: torch.device, dtype: torch.dtype) -> float:
    tokens, weight = torch.ones(512, 768, device=device, dtype=dtype), torch.ones(768, 768, device=device, dtype=dtype)
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(4):
        tokens = tokens @ weight * (1 / 768)
    synchronize(device)
    return time.perf_counter() - begin


def quickest_threads(model: LoadedModel, most: int) -> int:
    """With how many CPU threads a forward of the model is quickest, at most `most`; rather few where more gain little.

    A small model spends its time in handing out work: with all cores it can be several times slower than with one.
    Measured on a few blank images, the least of alternating turns; a model that takes long with `most` is not small.
    """
    before = torch.get_num_threads()
    counts = sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)})
    x = torch.zeros(TIMED_IMAGES, 3, *model.description.input_size, dtype=dtype_of(model), device=model.device)
    seconds = dict.fromkeys(counts, float("inf"))
    try:
        with torch.no_grad():
            torch.set_num_threads(most)
            began = time.perf_counter()
            model.module(x)
            if time.perf_counter() - began > LONG_SECONDS:
                return most
            for turn in range(TURNS + 1):
                for count in counts:
                    torch.set_num_threads(count)
                    began = time.perf_counter()
                    model.module(x)
                    if turn:  # the first one also makes what is kept
                        seconds[count] = min(seconds[count], time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    best = min(seconds.values())
    return next(count for count in counts if seconds[count] <= FEWER_IF * best)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given (nothing to wait for on a CPU)."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


_casts: weakref.WeakKeyDictionary[nn.Module, dict[torch.dtype, nn.Module]] = weakref.WeakKeyDictionary()


def in_precision(model: LoadedModel, precision: str) -> LoadedModel:
    """The same model with its weights in `precision`; casts stay until `forget_casts`, or as long as the model."""
    dtype = PRECISIONS[precision]
    if dtype == dtype_of(model):
        return model
    casts = _casts.setdefault(model.module, {})
    if dtype not in casts:
        casts[dtype] = _cast(model.module, dtype)
    return replace(model, module=casts[dtype])


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """`copy.deepcopy(module).to(dtype)` without a second copy of the weights as they are on the way."""
    made: dict[int, object] = {}
    for given in (*module.parameters(), *module.buffers()):
        if given.is_floating_point():
            tensor = given.detach().to(dtype)
            made[id(given)] = nn.Parameter(tensor, given.requires_grad) if isinstance(given, nn.Parameter) else tensor
    return copy.deepcopy(module, made).to(dtype)


def forget_casts() -> None:
    """Let go of all models in other precisions than their own; they are made again where they are asked for."""
    _casts.clear()


@contextmanager
def quickest_attention(module: nn.Module, device: torch.device, precision: str) -> Iterator[None]:
    """On a CPU in bfloat16, run timm's attention as plain matrix products.

    The fused kernel's backward does not use the CPU's matrix units: with it a ViT-S step spent 39 % of its
    time there, and the plain form was 1.4 times faster in all (docs/decisions/precision.md).
    """
    fused = [m for m in module.modules() if getattr(m, "fused_attn", False)]
    plain = device.type == "cpu" and precision == "bfloat16"
    try:
        for m in fused:
            setattr(m, "fused_attn", not plain)  # noqa: B010 (timm's own switch; typed as a submodule)
        yield
    finally:
        for m in fused:
            setattr(m, "fused_attn", True)  # noqa: B010


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out (CUDA's own error, or the CPU allocator's)."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
