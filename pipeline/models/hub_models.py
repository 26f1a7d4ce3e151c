"""Models of the Hugging Face hub, or a folder of one: from its config.json to an architecture of timm or open_clip.

`hf://ORG/NAME` and a folder that holds `config.json`, as transformers and timm write them. How pictures are prepared is
in `preprocessor_config.json`. Nothing of transformers is imported, and no code of a repository is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas_schema.errors import NoNetwork, UnknownModel
from pipeline.models.arguments import Arguments, Value, as_arguments
from pipeline.models.weights import Names, read_weights

HUB = "hf://"
CONFIG, PICTURES = "config.json", "preprocessor_config.json"
WEIGHTS = (("*.safetensors", "*.safetensors.index.json"), ("*.bin", "*.bin.index.json"))
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as PIL counts them

#: (width, blocks, heads) -> how the libraries call the size
SIZES = {
    (192, 12, 3): "tiny",
    (384, 12, 6): "small",
    (768, 12, 12): "base",
    (1024, 24, 16): "large",
    (1280, 32, 16): "huge",
    (1536, 40, 24): "giant",
}
#: model_type -> timm's names of such a model, and the one that takes arguments for other sizes
OF_TIMM = {
    "vit": ("vit_{size}_patch{patch}_224", "vit_base_patch16_224"),
    "vit_mae": ("vit_{size}_patch{patch}_224", "vit_base_patch16_224"),
    "deit": ("deit_{size}_patch{patch}_224", "deit_base_patch16_224"),
    "deit, distilled": ("deit_{size}_distilled_patch{patch}_224", "deit_base_distilled_patch16_224"),
    "dinov2": ("vit_{size}_patch{patch}_dinov2", "vit_base_patch14_dinov2"),
    "dinov2_with_registers": ("vit_{size}_patch{patch}_reg4_dinov2", "vit_base_patch14_reg4_dinov2"),
    "dinov3_vit": ("vit_{size}_patch{patch}_dinov3", "vit_base_patch16_dinov3"),
}
OF_TOWER = ("hidden_size", "num_hidden_layers", "patch_size")
#: of SigLIP, (width, blocks, patch) -> timm's architecture
SIGLIP = {
    (768, 12, 16): "vit_base_patch16_siglip_224",
    (1024, 24, 16): "vit_large_patch16_siglip_256",
    (1152, 27, 14): "vit_so400m_patch14_siglip_224",
    (1152, 27, 16): "vit_so400m_patch16_siglip_256",
}
#: of CLIP, (width, blocks, patch) -> open_clip's architecture
CLIP = {
    (768, 12, 32): "ViT-B-32",
    (768, 12, 16): "ViT-B-16",
    (1024, 24, 14): "ViT-L-14",
    (1280, 32, 14): "ViT-H-14",
    (1664, 48, 14): "ViT-bigG-14",
}


@dataclass(frozen=True)
class HubModel:
    """An architecture, how it is built and fed, and where its weights are."""

    id: str
    architecture: str  # a model id without tag
    arguments: Arguments
    input_size: tuple[int, int]
    fetch: Callable[[], Names]
    pictures: Mapping[str, Any] = field(default_factory=dict)  # mean, std, interpolation where they are said


def hub_model(model: str) -> HubModel | None:
    """The model of `hf://ORG/NAME` or of a folder; None for other ids. UnknownModel, NoNetwork."""
    if model.startswith(HUB) and not os.path.isdir(model.removeprefix(HUB)):
        repository = model.removeprefix(HUB).strip("/")
        settings, pictures = (_fetched_json(repository, name) for name in (CONFIG, PICTURES))
        return _made(f"{HUB}{repository}", settings, pictures, lambda: read_weights(_fetched_weights(repository)))
    folder = Path(model.removeprefix(HUB))
    if not (folder / CONFIG).is_file():
        return None
    settings, pictures = (_read_json(folder / name) for name in (CONFIG, PICTURES))
    return _made(f"{HUB}{folder.resolve().name}", settings, pictures, lambda: read_weights(str(folder)))


def _made(name: str, settings: dict[str, Any], pictures: dict[str, Any], fetch: Callable[[], Names]) -> HubModel:
    try:
        if "architecture" in settings and "model_type" not in settings:
            architecture, arguments, size, said = _of_timms_own(settings)
        else:
            architecture, arguments, size = _of_transformers(name, settings)
            said = _pictures(pictures)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnknownModel(f"{name}: its {CONFIG} lacks what an architecture needs ({error}).") from error
    return HubModel(name, architecture, arguments, size, fetch, said)


def _of_timms_own(settings: dict[str, Any]) -> tuple[str, Arguments, tuple[int, int], dict[str, Any]]:
    """As timm pushes models: the name of the architecture, its arguments, and how pictures are prepared."""
    own = settings["pretrained_cfg"]
    given = {name: value for name, value in (settings.get("model_args") or {}).items() if name != "img_size"}
    said = {"mean": tuple(own["mean"]), "std": tuple(own["std"]), "interpolation": own.get("interpolation", "bicubic")}
    height, width = own["input_size"][-2:]
    return f"timm/{settings['architecture']}", as_arguments(given), (int(height), int(width)), said


def _of_transformers(name: str, settings: dict[str, Any]) -> tuple[str, Arguments, tuple[int, int]]:
    kind = str(settings.get("model_type"))
    vision: dict[str, Any] = settings.get("vision_config") or settings
    size = _pair(vision.get("image_size", 224))
    if kind in ("clip", "clip_vision_model"):
        return *_of_clip(vision), size
    if kind in ("siglip", "siglip_vision_model"):  # whose activation function timm's architecture approximates
        return f"timm/{SIGLIP[_measures(vision, *OF_TOWER)]}", (("act_layer", "gelu_tanh"),), size
    if kind == "swin":
        return *_of_swin(settings), size
    if kind == "deit" and any("Teacher" in one for one in settings.get("architectures") or ()):
        kind = "deit, distilled"
    if kind not in OF_TIMM:
        known = ", ".join(sorted({*OF_TIMM, "clip", "siglip", "swin"} - {"deit, distilled"}))
        raise UnknownModel(
            f"{name}: models of the type {kind!r} are not read from the hub. Expected {known}, or timm's own. Name an "
            "architecture of timm or open_clip, with --weights."
        )
    return *_of_vit(kind, settings), size


def _of_vit(kind: str, settings: dict[str, Any]) -> tuple[str, Arguments]:
    import timm

    named, general = OF_TIMM[kind]
    width, blocks, heads = _measures(settings, "hidden_size", "num_hidden_layers", "num_attention_heads")
    patch = int(settings["patch_size"])
    name = named.format(size=SIZES.get((width, blocks, heads), "none"), patch=patch)
    given: dict[str, Value] = {}
    if not timm.is_model(name):
        name = general
        given = {"embed_dim": width, "depth": blocks, "num_heads": heads, "patch_size": patch}
    ratio = settings.get("mlp_ratio") or settings["intermediate_size"] / width
    if ratio != 4 and not settings.get("use_swiglu_ffn"):
        given["mlp_ratio"] = float(ratio)
    if settings.get("num_register_tokens", 4) != 4:
        given["reg_tokens"] = int(settings["num_register_tokens"])
    if settings.get("qkv_bias") is False:
        given["qkv_bias"] = False
    return f"timm/{name}", as_arguments(given)


def _of_swin(settings: dict[str, Any]) -> tuple[str, Arguments]:
    import timm

    depths, heads = tuple(settings["depths"]), tuple(settings["num_heads"])
    window, width, size = settings["window_size"], settings["embed_dim"], settings["image_size"]
    letter = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}.get(
        (width, max(depths)), "none"
    )
    name = f"swin_{letter}_patch{settings['patch_size']}_window{window}_{size}"
    if timm.is_model(name):
        return f"timm/{name}", ()
    given: dict[str, Value] = {"depths": depths, "embed_dim": width, "num_heads": heads, "window_size": window}
    return "timm/swin_tiny_patch4_window7_224", as_arguments(given)


def _of_clip(vision: dict[str, Any]) -> tuple[str, Arguments]:
    """QuickGELU is what transformers takes where a config does not say."""
    import open_clip

    name = CLIP[_measures(vision, *OF_TOWER)]
    if vision.get("hidden_act", "quick_gelu") != "quick_gelu":
        return f"open_clip/{name}", ()
    if f"{name}-quickgelu" in open_clip.list_models():
        return f"open_clip/{name}-quickgelu", ()
    return f"open_clip/{name}", (("quick_gelu", True),)


def _measures(settings: dict[str, Any], first: str, second: str, third: str) -> tuple[int, int, int]:
    return int(settings[first]), int(settings[second]), int(settings[third])


def _pair(size: Any) -> tuple[int, int]:
    return (int(size[0]), int(size[1])) if isinstance(size, list | tuple) else (int(size), int(size))


def _pictures(settings: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for ours, theirs in (("mean", "image_mean"), ("std", "image_std")):
        if theirs in settings:
            said[ours] = tuple(map(float, settings[theirs]))
    if settings.get("resample") in RESAMPLING:
        said["interpolation"] = RESAMPLING[settings["resample"]]
    return said


# ------------------------------------------------------------------------------------------------------ where it lies


def _read_json(path: Path) -> dict[str, Any]:
    """The settings in a file; none where it is not there."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UnknownModel(f"{path}: not valid JSON: {error}.") from error
    return found if isinstance(found, dict) else {}


def _fetched_json(repository: str, name: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    from pipeline.models.network import quick_when_offline

    try:
        with quick_when_offline():
            return _read_json(Path(hf_hub_download(repository, name)))
    except EntryNotFoundError as error:
        if name != CONFIG:
            return {}
        raise UnknownModel(f"{HUB}{repository}: it holds no {CONFIG}, which would say the architecture.") from error
    except Exception as error:  # the hub's client has a dozen
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NoNetwork(
            f"{HUB}{repository}: its {name} is neither in the local cache nor can it be fetched: {line} Check the "
            "name, connect this machine once, or download the repository and name its folder."
        ) from error


def _fetched_weights(repository: str) -> str:
    """The folder in the local cache that the weights of a repository were fetched into."""
    from huggingface_hub import snapshot_download

    for patterns in WEIGHTS:
        folder = snapshot_download(repository, allow_patterns=[CONFIG, *patterns])
        if any(Path(folder).glob(patterns[0])):
            break
    return folder
