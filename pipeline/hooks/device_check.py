"""Whether a device computes what the CPU does: asked once a worker and model, before anything of it is trusted.

Some devices return wrong numbers without an error (kernels of MPS did; so does a faulty GPU). A few images of noise go
through the model on the device and on the CPU, and the hidden activations of every FFN are compared.
"""

from __future__ import annotations

import copy
import math
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from atlas_schema.errors import DeviceWrong
from pipeline.hooks.activations import all_ffn_activations
from pipeline.models.description import LoadedModel
from pipeline.models.device import dtype_of
from pipeline.seeds import generator

IMAGES = 4
MOST = 0.02  # deviation of a layer's activations in units of their own size; weights rounded to bfloat16 stay below


def require_sound(model: LoadedModel) -> None:
    """Raises DeviceWrong where the model's device and the CPU disagree; nothing is done on a CPU."""
    if model.device.type == "cpu":
        return
    on_cpu = copy.deepcopy(model.module.to("cpu"))  # copied there: a device need not hold the weights twice
    model.module.to(model.device)
    reference = replace(model, module=on_cpu, device=torch.device("cpu"))
    worst, layer = deviation(model, reference)
    if not worst <= MOST:  # NaN is no agreement
        raise DeviceWrong(
            f"{model.description.slug}: {model.device} on {platform.node()} computes other activations than the CPU: "
            f"they are off by {worst:.3g} of their size at FFN layer {layer}, expected at most {MOST}. Nothing "
            "computed on it can be trusted. Use another device (--device cpu), or another version of torch or driver."
        )


@torch.no_grad()
def deviation(
    model: LoadedModel, reference: LoadedModel, around: Callable[[], AbstractContextManager[object]] = nullcontext
) -> tuple[float, int]:
    """The greatest relative deviation (root mean square) of hidden activations over FFN sites, and the site.

    Both models get the same images of noise; infinity where one of them leaves the finite numbers. around: what the
    first of them is run within.
    """
    shape = (IMAGES, *model.description.input_size, 3)
    noise = generator("device check").uniform(0, 1, shape).astype("float32")
    pictures = torch.from_numpy(noise).permute(0, 3, 1, 2)
    with around():
        found = _hidden(model, pictures)
    expected = _hidden(reference, pictures)
    worst, layer = 0.0, 0
    for number, values in expected.items():
        off = float((found[number] - values).square().mean().sqrt() / values.square().mean().sqrt().clamp(min=1e-12))
        off = float("inf") if math.isnan(off) else off
        if off > worst:
            worst, layer = off, number
    return worst, layer


def _hidden(model: LoadedModel, pictures: Tensor) -> dict[int, Tensor]:
    """Layer -> all hidden activations of the pictures, in main memory; one forward."""
    x = model.normalise(pictures.to(model.device)).to(dtype_of(model))
    activations = all_ffn_activations(model, x)
    return {layer: torch.cat([call.cpu().double().flatten() for call in calls]) for layer, calls in activations.items()}
