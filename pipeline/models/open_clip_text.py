"""The text side of a CLIP: built from open_clip's configuration, filled from the weights of a request, and no more.

open_clip keeps a text tower inside the whole CLIP. Here the whole is built around a picture tower of the smallest size,
which is then taken off: what reads pictures was loaded before, and a ViT-L's 1.2 GB are not held twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from atlas_schema.errors import WeightsMismatch
from pipeline.models.weights import listed, under_best_prefix
from pipeline.models.weights.layouts import TRANSFORMERS_CLIP_TEXT
from pipeline.models.weights.search import Place, signature
from pipeline.models.weights.trial import assembled

#: A picture tower that is built and thrown away: of one block, and of the fields that open_clip cannot do without.
SMALLEST = {"image_size": 32, "patch_size": 32, "layers": 1, "width": 64, "head_width": 64}

Tokenizer = Callable[[Sequence[str]], Tensor]  # texts -> int64 (texts, context)


@dataclass(frozen=True)
class TextSide:
    """How what a CLIP reads texts with is built, with fresh weights, and how texts become tokens."""

    build: Callable[[], nn.Module]  # a module with `encode_text`, its `visual` empty
    tokenizer: Callable[[], Tokenizer]


def text_side(name: str, config: dict[str, Any], quick_gelu: bool) -> TextSide:
    """The text side of a model of open_clip.

    name: as open_clip's tokenizers know the model. config: open_clip's `model_cfg`.
    """

    def tokenizer() -> Tokenizer:
        import open_clip

        cut: Tokenizer = open_clip.get_tokenizer(name)
        return cut

    return TextSide(lambda: _built(config, quick_gelu), tokenizer)


def _built(config: dict[str, Any], quick_gelu: bool) -> nn.Module:
    """As `open_clip.create_model` chooses the class; a text tower of transformers needs its configuration's file."""
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    given = deepcopy({key: value for key, value in config.items() if key != "vision_cfg"})
    custom = given.pop("custom_text", False) or "hf_model_name" in given["text_cfg"]
    if "hf_model_name" in given["text_cfg"]:
        given["text_cfg"]["hf_model_pretrained"] = False  # its weights are in the CLIP's own
    kind = (CoCa if "multimodal_cfg" in given else CustomTextCLIP) if custom else CLIP
    whole: nn.Module = kind(**{**given, "vision_cfg": SMALLEST, "quick_gelu": quick_gelu})
    whole.visual = None  # type: ignore[assignment]
    return whole


def fill(whole: nn.Module, tensors: dict[str, Tensor], location: str, vision: nn.Module, model: str) -> bool:
    """Load the text side out of the tensors of a whole CLIP: every tensor of it, or WeightsMismatch.

    False where they hold nothing of it: they are a picture tower's alone. They may be named as open_clip names them
    (with and without a tower of its own for texts), as Apple's MobileCLIP, or as transformers' CLIP. vision: the CLIP's
    picture tower. location, model: for the message.
    """
    own = whole.state_dict()
    given = _named_as(whole, tensors, vision)
    if not any(key in given for key in own if not _in_either_tower(key)):
        return False
    lacking = [key for key, value in own.items() if key not in given or not _fits(given[key], value)]
    if lacking:
        raise WeightsMismatch(
            f"{location}: {len(lacking)} tensors of the text side of {model} are missing or of another "
            f"shape: {listed(lacking)}. For labels the file must hold the whole CLIP."
        )
    whole.load_state_dict({key: given[key].reshape(value.shape) for key, value in own.items()})
    return True


def _in_either_tower(key: str) -> bool:
    """Whether a picture tower has a tensor of this name too, or a CLIP beside its towers."""
    return ".resblocks." in f".{key}" or key.endswith(("positional_embedding", "logit_scale", "logit_bias"))


def _fits(given: Tensor, own: Tensor) -> bool:
    """A scale may be a number or a vector of one."""
    return given.shape == own.shape or given.numel() == own.numel() == 1


def _named_as(whole: nn.Module, tensors: dict[str, Tensor], vision: nn.Module) -> dict[str, Tensor]:
    """The tensors by the names that the text side has."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    own = whole.state_dict()
    inner = convert_state_dict(SimpleNamespace(visual=vision), under_best_prefix(tensors, own))
    if any(key.startswith("text.") for key in own) and "positional_embedding" in inner:
        inner = convert_to_custom_text_state_dict(inner)
    if all(key in inner for key in own):
        return inner
    inside = under_best_prefix(tensors, signature(TRANSFORMERS_CLIP_TEXT, own))
    translated, _ = assembled(Place(TRANSFORMERS_CLIP_TEXT, "", 0), inside, own)
    return translated if len(translated) > sum(key in inner for key in own) else inner
