"""Where models come from: timm, open_clip and the zoo, each as a blueprint that can build its module.

A blueprint knows names, tags, preprocessing and licence from the library's own records. Nothing here needs
weights or the network, except `Blueprint.fetch`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from atlas_schema.errors import BadConfig, UnknownModel, nearest


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """One architecture at one input size."""

    source: str  # "timm" | "open_clip" | "zoo"
    architecture: str  # the library's name, without tag
    tag: str  # which weights; "" where the name leaves it open and the library has no default
    id: str
    input_size: tuple[int, int]  # height, width
    resized: bool = False  # the input size is asked for, and is not the library's
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    licence: str  # of the pretrained weights; "" where the library does not say
    tags: tuple[str, ...]  # all that the library knows for the architecture
    build: Callable[[], nn.Module]  # the vision tower with fresh weights, on torch's current device
    fetch: Callable[[], nn.Module | dict[str, Tensor]]
    # ^ the weights of the tag: already in a module (timm does both at once) or as a state dict; needs the
    # network   or the library's cache


def blueprint(model: str, input_size: int | None = None) -> Blueprint:
    """The blueprint of a model id; UnknownModel with close matches where there is none."""
    source, _, rest = model.partition("/")
    readers: dict[str, Callable[[str, int | None], Blueprint]] = {
        "timm": _timm,
        "open_clip": _open_clip,
        "zoo": _zoo,
    }
    if source not in readers or not rest:
        raise UnknownModel(_not_an_id(model))
    if input_size is not None and input_size < 1:
        raise BadConfig(f"input_size {input_size}: expected a positive number of pixels.")
    return readers[source](rest, input_size)


def _not_an_id(model: str) -> str:
    import timm

    close = nearest(model, timm.list_models())
    hint = f" Did you mean {', '.join(f'timm/{name}' for name in close)}?" if close else ""
    return (
        f"{model!r} is not a model id: expected timm/NAME[.TAG], open_clip/NAME[/TAG] or zoo/NAME.{hint} "
        "`neuron-atlas models` lists what is known."
    )


# ---------------------------------------------------------------------------------------------------- timm


def _timm(rest: str, input_size: int | None) -> Blueprint:
    import timm
    from timm.models import PretrainedCfg, get_pretrained_cfg

    name, _, tag = rest.partition(".")
    if not timm.is_model(name):
        raise UnknownModel(_unknown("timm", rest, timm.list_models() + timm.list_pretrained()))
    tags = timm_tags(name)
    if tag and tag not in tags:
        raise UnknownModel(_no_tag(f"timm/{rest}", name, tag, tags))
    cfg = get_pretrained_cfg(f"{name}.{tag}" if tag else name) or PretrainedCfg()
    tag = tag or (cfg.tag or "" if tags else "")
    full = f"{name}.{tag}" if tag else name
    # a model that takes any size is built for none
    sized: dict[str, Any] = {"img_size": input_size} if input_size is not None and cfg.fixed_input_size else {}
    return Blueprint(
        source="timm",
        architecture=name,
        tag=tag,
        id=f"timm/{full}",
        input_size=(input_size, input_size) if input_size else (cfg.input_size[1], cfg.input_size[2]),
        resized=bool(input_size) and (input_size, input_size) != (cfg.input_size[1], cfg.input_size[2]),
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        interpolation=cfg.interpolation,
        licence=cfg.license or "",
        tags=tuple(tags),
        build=lambda: timm.create_model(full, pretrained=False, **sized),
        fetch=lambda: timm.create_model(full, pretrained=True, **sized),
    )


def timm_tags(name: str) -> list[str]:
    """Tags of the weights that timm knows for an architecture, its default first."""
    from timm.models import list_pretrained

    return [full.partition(".")[2] for full in list_pretrained(f"{name}.*")]


def _unknown(source: str, name: str, candidates: list[str]) -> str:
    close = nearest(name, candidates)
    hint = f"Did you mean {', '.join(f'{source}/{c}' for c in close)}?" if close else "Nothing is spelt like it."
    return f"{source}/{name}: no such model in this version of {source}. {hint} `neuron-atlas models` lists all."


def _no_tag(model: str, name: str, tag: str, tags: list[str]) -> str:
    close = nearest(tag, tags)
    hint = f" Did you mean {', '.join(close)}?" if close else ""
    known = ", ".join(tags) or "none, it has no weights"
    return f"{model}: {name} has no tag {tag!r}.{hint} Its tags: {known}."


# ----------------------------------------------------------------------------------------------- open_clip


def _open_clip(rest: str, input_size: int | None) -> Blueprint:
    import open_clip
    from open_clip.factory import load_state_dict

    name, _, tag = rest.partition("/")
    config = open_clip.get_model_config(name)
    if config is None:
        raise UnknownModel(_unknown("open_clip", name, open_clip.list_models()))
    tags = open_clip.list_pretrained_tags_by_model(name)
    record = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    if tag and not record:
        raise UnknownModel(_no_tag(f"open_clip/{rest}", name, tag, tags))
    record = record or next((open_clip.get_pretrained_cfg(name, t) for t in tags), {})
    vision = config["vision_cfg"]
    size = vision.get("image_size", 224)
    default = (size, size) if isinstance(size, int) else (size[0], size[1])
    if input_size is not None:
        vision["image_size"] = input_size
    height, width = (input_size, input_size) if input_size else default
    # what the weights were trained with decides; the same architecture has tags of both kinds
    quick_gelu = bool(record.get("quick_gelu") if tag else config.get("quick_gelu"))

    def build() -> nn.Module:
        return _open_clip_tower(
            config["embed_dim"], vision, quick_gelu, (height, width), resize=(height, width) != default
        )

    return Blueprint(
        source="open_clip",
        architecture=name,
        tag=tag,
        id=f"open_clip/{rest}",
        input_size=(height, width),
        resized=(height, width) != default,
        mean=tuple(record.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(record.get("std") or open_clip.OPENAI_DATASET_STD),
        interpolation=record.get("interpolation", "bicubic"),
        licence="",  # open_clip records none
        tags=tuple(tags),
        build=build,
        fetch=lambda: load_state_dict(open_clip.download_pretrained(record)),
    )


def _open_clip_tower(
    embed_dim: int, vision: dict[str, Any], quick_gelu: bool, size: tuple[int, int], *, resize: bool
) -> nn.Module:
    """The image tower alone: the text tower may need files from the hub even where it is built empty."""
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = CLIPVisionCfg(**{**vision, "timm_model_pretrained": False})
    tower: nn.Module = _build_vision_tower(embed_dim, config, quick_gelu)
    if resize and config.timm_model_name:
        tower.set_input_size(size)  # type: ignore[operator]
    return tower


# ---------------------------------------------------------------------------------------------------- zoo


def _zoo(rest: str, input_size: int | None) -> Blueprint:
    from pipeline import zoo

    config = zoo.zoo_config(rest)  # UnknownModel with close matches
    if input_size is not None and (input_size, input_size) != config["input_size"]:
        raise BadConfig(f"zoo/{rest} takes {config['input_size']} pixels only; leave out the input size.")

    def build() -> nn.Module:
        module = zoo.build(rest)
        return module.get_submodule("visual") if "visual" in module._modules else module

    return Blueprint(
        source="zoo",
        architecture=rest,
        tag="",
        id=f"zoo/{rest}",
        input_size=config["input_size"],
        mean=config["mean"],
        std=config["std"],
        interpolation=config["interpolation"],
        licence=config["licence"],
        tags=(),
        build=build,
        fetch=lambda: zoo.load_state(rest),
    )
