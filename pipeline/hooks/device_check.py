"""Whether a device computes what the CPU does: asked once a worker and model, before anything of it is trusted.

Some devices return wrong numbers without an error (kernels of MPS did; so does a faulty GPU). A few images of noise go
through the model on the device and on the CPU, and the hidden activations of every FFN are compared.
"""

from __future__ import annotations

import copy
import platform
from dataclasses import replace

import torch
from torch import Tensor

from atlas_schema.errors import DeviceWrong
from pipeline.hooks.activations import ffn_activations
from pipeline.models.description import LoadedModel
from pipeline.models.device import dtype_of
from pipeline.seeds import generator

IMAGES = 4
MOST = 0.02  # deviation of a layer's activations in units of their own size: TF32 and bfloat16 sums stay below


def require_sound(model: LoadedModel) -> None:
    """Raises DeviceWrong where the model's device and the CPU disagree; nothing is done on a CPU."""
    if model.device.type == "cpu":
        return
    reference = replace(model, module=copy.deepcopy(model.module).to("cpu"), device=torch.device("cpu"))
    worst, layer = deviation(model, reference)
    if not worst <= MOST:  # NaN is no agreement
        raise DeviceWrong(
            f"{model.description.slug}: {model.device} on {platform.node()} computes other activations than the CPU: "
            f"they are off by {worst:.3g} of their size at FFN layer {layer}, expected at most {MOST}. Nothing "
            "computed on it can be trusted. Use another device (--device cpu), or another version of torch or driver."
        )


@torch.no_grad()
def deviation(model: LoadedModel, reference: LoadedModel) -> tuple[float, int]:
    """The greatest relative deviation (root mean square) of hidden activations over FFN sites, and the site.

    Both models get the same images of noise; infinity where one of them leaves the finite numbers.
    """
    shape = (IMAGES, *model.description.input_size, 3)
    noise = generator("device check").uniform(0, 1, shape).astype("float32")
    pictures = torch.from_numpy(noise).permute(0, 3, 1, 2)
    worst, layer = 0.0, 0
    for site in model.description.ffn_sites:
        found, expected = (
            _hidden(ffn_activations(one, site, one.normalise(pictures.to(one.device)).to(dtype_of(one))))
            for one in (model, reference)
        )
        off = float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp(min=1e-12))
        off = off if off == off else float("inf")
        if off > worst:
            worst, layer = off, site.layer
    return worst, layer


def _hidden(calls: list[Tensor]) -> Tensor:
    return torch.cat([call.cpu().double().flatten() for call in calls])
