"""The zoo: small trained members of all eight families, and the procedural pictures they were trained on.

Model ids are `zoo/{name}`. The modules are timm's and open_clip's own classes; the weights ship with the
package. Nothing heavier than the standard library is imported before a function needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

ZOO = ("vit", "deit", "swin", "coat", "convit", "pit", "twins", "clip")
"""Names of the models, one a family; the family has the same name."""

READS_TEXT = ("clip",)
"""Those of them that have a text tower: it knows the words of the zoo's captions and no others."""

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Per channel, of pixels in [0, 1]: the models take (x - MEAN) / STD, that is [-1, 1]."""

_DESCRIPTIONS = {
    "vit": "ViT, 4 blocks of width 64, 8-pixel patches",
    "deit": "distilled DeiT, 4 blocks of width 64, class and distillation token",
    "swin": "Swin, stages of 2 blocks of width 48 and 96, windows of 4 x 4 tokens",
    "coat": "CoaT, 4 serial and 2 parallel blocks, one FFN shared by three scales",
    "convit": "ConViT, 3 gated positional blocks, then 2 with the class token, width 64",
    "pit": "PiT, stages of 2 blocks of width 48 and 96, overlapping patches",
    "twins": "Twins-SVT, stages of 2 blocks of width 40 and 80",
    "clip": "CLIP, a ViT of 4 blocks and a text transformer of 2, width 64, trained on captions",
}


def zoo_config(name: str) -> dict[str, Any]:
    """What a caller must know to feed the model: family, mean, std, input_size (h, w), interpolation,
    licence, description. Raises UnknownModel."""
    return {
        "family": _known(name),
        "mean": MEAN,
        "std": STD,
        "input_size": (64, 64),
        "interpolation": "bilinear",
        "licence": "apache-2.0",
        "description": _DESCRIPTIONS[name],
    }


def zoo_name(model_id: str) -> str | None:
    """The name in `zoo/{name}`; None where the id is of another source."""
    source, _, name = model_id.partition("/")
    return name if source == "zoo" else None


def output_names(name: str) -> tuple[str, ...]:
    """What a classifier of the zoo calls its outputs, `attribute: value`; () of a model that reads texts instead."""
    if name not in ZOO or name in READS_TEXT:
        return ()
    from pipeline.zoo.world import ATTRIBUTES

    return tuple(f"{attribute}: {value}" for attribute, values in ATTRIBUTES.items() for value in values)


def build(name: str) -> nn.Module:
    """The model with untrained weights, in training mode; works under `torch.device("meta")`.

    `clip` is the whole open_clip CLIP, its vision tower at `.visual`. Raises UnknownModel.
    """
    _known(name)
    from pipeline.zoo.architectures import ARCHITECTURES

    return ARCHITECTURES[name]()


def weights_path(name: str) -> Path:
    """Where the shipped weights of a model lie. Raises UnknownModel."""
    return Path(__file__).parent / "weights" / f"{_known(name)}.safetensors"


def load_state(name: str) -> dict[str, Tensor]:
    """The shipped state dict in float32 (it is stored in float16). Raises UnknownModel, WeightsUnreadable."""
    from pipeline.zoo.weights import read_weights

    return read_weights(weights_path(name))[0]


def _known(name: str) -> str:
    from atlas_schema.errors import UnknownModel, nearest

    if name not in ZOO:
        close = ", ".join(f"zoo/{known}" for known in nearest(name, ZOO))
        raise UnknownModel(f"zoo/{name}: no such model in the zoo; nearest: {close}; all: {', '.join(ZOO)}")
    return name
