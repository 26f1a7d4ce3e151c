"""A planted model: a timm VisionTransformer with weights written by hand, so that the best picture is known.

The patch embedding copies a patch's N = 192 values x (in [-1, 1]) into the token and their negatives behind
them. Attention and every FFN's output are zero, so this token reaches each FFN unchanged. LayerNorm then
subtracts nothing (values and negatives sum to zero) and divides by sqrt(|x|^2 / N + eps), and the unit with
weights s (p, -p) / 2 computes

    z(x) = s <p, x> / sqrt(|x|^2 / N + eps).

Without the negatives LayerNorm would remove the patch's mean, and brightness would be lost; with the pattern
as a lone channel it would divide the pattern by itself, and every picture of the right sign would be best.
Here the norm runs over the whole patch, so whatever is not the pattern costs: where z is positive it is a
linear function over a strictly convex one, hence quasi-concave, with one maximum over the box [-1, 1]^N.
The Karush-Kuhn-Tucker conditions give it as

    x* = clip(l p, -1, 1)  with  l = (|x*|^2 + N eps) / <p, x*>.

eps is the contrast floor: it makes a strong pattern better than a faint one (with eps = 0 any positive
multiple of p would do). GELU increases where z > 0, so x* is also best for the neuron; the mean over patches
is best when every patch is x*. Gratings have whole numbers of cycles in a patch: tiled, they are one wave.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from pipeline.models import LoadedModel, ModelDescription
from pipeline.zoo import MEAN, STD

PATCH, SIZE = 8, 64
"""Sides of a patch and of the picture in pixels."""

VALUES = 3 * PATCH * PATCH
"""N: values in a patch, ordered (channel, y, x)."""

EPS = 0.05
"""The LayerNorms' eps, in mean squares of values in [-1, 1]."""

PEAK = 4.0
"""Preactivation of every unit on its best picture."""

DEPTH = 12
"""Blocks. The planted units sit in the first two, where trained models keep such patterns; the others are inert."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlantedUnit:
    """A neuron whose best picture is known; `optimum` is None for a unit that no picture activates.

    optimum: float32 (SIZE, SIZE, 3) in [0, 1]; activation: of the neuron on it, at every patch (after GELU).
    """

    layer: int
    unit: int
    name: str
    optimum: NDArray[np.float32] | None
    activation: float


def planted_model() -> tuple[Any, tuple[PlantedUnit, ...]]:
    """The module (eval mode) and its units: layer 0 holds gratings and one dead unit, layer 1 colours."""
    layers = [{**_gratings(), "dead": np.zeros(VALUES)}, _colours()]
    module = _blank(layers=DEPTH, units=len(layers[0]))
    units = []
    with torch.no_grad():
        for layer, patterns in enumerate(layers):
            fc1 = module.blocks[layer].mlp.fc1
            for unit, (name, pattern) in enumerate(patterns.items()):
                if name == "dead":
                    fc1.bias[unit] = -PEAK
                    units.append(PlantedUnit(layer, unit, name, None, 0.0))
                    continue
                best = best_patch(pattern)
                gain = PEAK * np.sqrt(np.mean(best**2) + EPS) / (pattern @ best)
                fc1.weight[unit] = torch.from_numpy(np.concatenate([pattern, -pattern]) * gain / 2)
                units.append(PlantedUnit(layer, unit, name, _tiled(best), _gelu(PEAK)))
    return module.eval(), tuple(units)


def load_planted(device: str = "cpu") -> tuple[LoadedModel, tuple[PlantedUnit, ...]]:
    """The planted model as the pipeline sees any model, with the slug `planted`."""
    from pipeline.models.families.vit import VIT
    from pipeline.models.load import fingerprint_of
    from pipeline.models.sites import find_sites

    module, units = planted_model()
    with torch.device("meta"):
        shape_only = _blank(layers=DEPTH, units=module.blocks[0].mlp.fc1.out_features).eval()
    ffns, attentions, flops = find_sites(VIT, shape_only, (SIZE, SIZE))
    description = ModelDescription(
        id="zoo/planted", slug="planted", family=VIT.name, source="zoo", licence="apache-2.0",
        input_size=(SIZE, SIZE), mean=MEAN, std=STD, interpolation="bilinear",
        representation_dim=2 * VALUES, ffn_sites=ffns, attention_sites=attentions,
        parameters=sum(p.numel() for p in module.parameters()), forward_flops=flops,
    )  # fmt: skip
    module = module.requires_grad_(False)
    return LoadedModel(description, module.to(device), fingerprint_of(module), torch.device(device)), units


def best_patch(pattern: Array) -> Array:
    """x*: the (VALUES,) patch in [-1, 1] that maximises z for this pattern, by iterating on l."""
    scale = 1 / np.abs(pattern).max()
    for _ in range(200):
        x = np.clip(scale * pattern, -1, 1)
        scale = (x @ x + VALUES * EPS) / (pattern @ x)
    return np.clip(scale * pattern, -1, 1)


def agreement(picture: NDArray[np.floating], optimum: NDArray[np.floating]) -> float:
    """Greatest correlation of two (h, w, 3) pictures over all circular shifts of one.

    A recipe that moves the picture between steps has no reason to prefer one phase of a grating, and a mean
    over patches rewards them alike up to the patch grid; the shift is therefore free, the shape is not.
    """
    a, b = (np.asarray(x, dtype=np.float64) for x in (picture, optimum))
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a**2).sum() * (b**2).sum())
    if norm == 0:
        return 0.0
    spectrum = np.fft.fft2(a, axes=(0, 1)) * np.conj(np.fft.fft2(b, axes=(0, 1)))
    return float(np.fft.ifft2(spectrum.sum(axis=2)).real.max() / norm)


def _blank(*, layers: int, units: int) -> Any:
    """The architecture with identity patch embedding and all else zero, but for the norms."""
    width = 2 * VALUES
    module = VisionTransformer(
        img_size=SIZE, patch_size=PATCH, embed_dim=width, depth=layers, num_heads=6, mlp_ratio=units / width,
        num_classes=0, norm_layer=partial(nn.LayerNorm, eps=EPS),
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        copy = torch.eye(VALUES).view(VALUES, 3, PATCH, PATCH)
        module.patch_embed.proj.weight.copy_(torch.cat([copy, -copy]))
    return module


def _gratings() -> dict[str, Array]:
    """Plane waves of 8 and 4 pixels, grey, and one between red and green; (VALUES,) each, amplitude 1."""
    y, x = (np.mgrid[:PATCH, :PATCH] + 0.5) * 2 * np.pi / PATCH  # radians for one cycle in a patch
    grey = np.ones(3)
    waves = {
        "horizontal stripes of 8 pixels": (grey, np.cos(y)),
        "vertical stripes of 8 pixels": (grey, np.cos(x)),
        "rising stripes": (grey, np.cos(x + y)),
        "falling stripes": (grey, np.cos(x - y)),
        "horizontal stripes of 4 pixels": (grey, np.sin(2 * y)),
        "vertical stripes of 4 pixels": (grey, np.sin(2 * x)),
        "red and green stripes": (np.array([1.0, -1.0, 0.0]), np.cos(x)),
    }
    return {name: np.multiply.outer(colour, wave).ravel() for name, (colour, wave) in waves.items()}


def _colours() -> dict[str, Array]:
    """Plain patches: a colour against its opponent; (VALUES,) each."""
    directions = {
        "red": (1, -0.5, -0.5), "green": (-0.5, 1, -0.5), "blue": (-0.5, -0.5, 1),
        "cyan": (-0.5, 0.5, 0.5), "magenta": (0.5, -0.5, 0.5), "yellow": (0.5, 0.5, -0.5),
        "orange": (1, 0.2, -0.8), "violet": (0.2, -0.8, 1),
    }  # fmt: skip
    return {name: np.repeat(np.array(rgb, dtype=float), PATCH * PATCH) for name, rgb in directions.items()}


def _tiled(patch: Array) -> NDArray[np.float32]:
    """(VALUES,) in [-1, 1] -> the picture (SIZE, SIZE, 3) in [0, 1] that repeats it."""
    pixels = np.tile(patch.reshape(3, PATCH, PATCH), (1, SIZE // PATCH, SIZE // PATCH))
    return ((pixels.transpose(1, 2, 0) + 1) / 2).astype(np.float32)


def _gelu(z: float) -> float:
    return float(nn.functional.gelu(torch.tensor(z)))
