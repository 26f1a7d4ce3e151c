"""Where models come from: timm, open_clip and the zoo, each as a blueprint that can build its module.

A blueprint knows names, tags, preprocessing and licence from the library's own records; nothing here needs weights
or the network except `Blueprint.build(pretrained=True)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from atlas_schema.errors import BadConfig, UnknownModel, nearest


@dataclass(frozen=True, kw_only=True)
class Blueprint:
    """One architecture at one input size."""

    source: str  # "timm" | "open_clip" | "zoo"
    architecture: str  # the library's name, without tag
    tag: str  # which weights; "" where the name leaves it open and the library has no default
    id: str
    input_size: tuple[int, int]  # height, width
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    licence: str  # of the pretrained weights; "" where the library does not say
    build: Callable[[], nn.Module]  # the vision tower with fresh weights, on torch's current device
    fetch: Callable[[], nn.Module]  # the same with the weights of the tag; needs the network or a cache


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
    from timm.models import get_pretrained_cfg

    name, _, tag = rest.partition(".")
    if not timm.is_model(name):
        raise UnknownModel(_unknown("timm", rest, timm.list_models() + timm.list_pretrained()))
    tags = timm_tags(name)
    if tag and tag not in tags:
        known = ", ".join(tags) or "none: this architecture has no weights on the hub"
        close = nearest(tag, tags)
        hint = f" Did you mean {', '.join(close)}?" if close else ""
        raise UnknownModel(f"timm/{rest}: {name} has no tag {tag!r}.{hint} Its tags: {known}.")
    cfg = get_pretrained_cfg(f"{name}.{tag}" if tag else name)
    tag = tag or (cfg.tag or "" if tags else "")
    size = (input_size, input_size) if input_size else tuple(cfg.input_size[-2:])

    def make(pretrained: bool) -> nn.Module:
        return timm.create_model(
            f"{name}.{tag}" if tag else name, pretrained=pretrained, **_timm_size(name, cfg, input_size)
        )

    return Blueprint(
        source="timm",
        architecture=name,
        tag=tag,
        id=f"timm/{name}.{tag}" if tag else f"timm/{name}",
        input_size=size,
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        interpolation=cfg.interpolation,
        licence=cfg.license or "",
        build=lambda: make(False),
        fetch=lambda: make(True),
    )


def timm_tags(name: str) -> list[str]:
    """Tags of the weights that timm knows for an architecture, its default first."""
    from timm.models import list_pretrained

    return [full.partition(".")[2] for full in list_pretrained(f"{name}.*")]


def _timm_size(name: str, cfg: Any, input_size: int | None) -> dict[str, Any]:
    """Constructor arguments for an input size; a model that takes any size needs none."""
    if input_size is None or not cfg.fixed_input_size:
        return {}
    return {"img_size": input_size}


def _unknown(source: str, name: str, candidates: list[str]) -> str:
    close = nearest(name, candidates)
    hint = (
        f"Did you mean {', '.join(f'{source}/{c}' for c in close)}?" if close else "Nothing is spelt like it."
    )
    return (
        f"{source}/{name}: no such model in this version of {source}. {hint} `neuron-atlas models` lists all."
    )


# ----------------------------------------------------------------------------------------------- open_clip


def _open_clip(rest: str, input_size: int | None) -> Blueprint:
    raise NotImplementedError


# ---------------------------------------------------------------------------------------------------- zoo


def _zoo(rest: str, input_size: int | None) -> Blueprint:
    raise NotImplementedError
