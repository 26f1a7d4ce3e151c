"""Where models come from: timm, open_clip and the zoo, each as a blueprint that can build its module.

A blueprint knows names, tags, preprocessing and licence from the library's own records. Nothing here needs
weights or the network, except `Blueprint.fetch`.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from atlas_schema.errors import BadConfig, UnknownModel, nearest
from pipeline.models.arguments import Arguments, as_arguments, check_names
from pipeline.models.hub_ids import id_for_hub_name
from pipeline.models.hub_models import HubModel, hub_model
from pipeline.models.open_clip_elsewhere import OpenClipModel, kept_elsewhere, quick
from pipeline.models.open_clip_text import TextSide, text_side
from pipeline.models.weights import Names


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
    fetch: Callable[[], nn.Module | dict[str, Tensor] | Names]
    # ^ the weights of the tag: already in a module (timm does both at once) or as a state dict; needs the
    # network   or the library's cache
    arguments: Arguments = ()  # of the constructor, where they are not the architecture's
    notes: tuple[str, ...] = ()  # what of it is not as the library's name says
    texts: TextSide | None = None  # of open_clip's models: what reads texts beside the vision tower


Size = tuple[int, int]


def blueprint(
    model: str,
    input_size: int | Size | None = None,
    arguments: Arguments = (),
    *,
    own_weights: bool = False,
) -> Blueprint:
    """The blueprint of a model id; UnknownModel with close matches where there is none.

    input_size: pixels of a square, or (height, width). arguments: of the architecture's constructor; BadConfig where it
    has none of that name. own_weights: they are not those of the library's tag.
    """
    source, _, rest = model.partition("/")
    readers: dict[str, Callable[[str, Size | None, Arguments, bool], Blueprint]] = {
        "timm": _timm,
        "open_clip": _open_clip,
        "zoo": _zoo,
    }
    size = (input_size, input_size) if isinstance(input_size, int) else input_size
    if size is not None and min(size) < 1:
        raise BadConfig(f"input_size {size[0]} x {size[1]}: expected positive numbers of pixels.")
    if source not in readers or not rest:
        found = hub_model(model)
        if found is not None:
            return _of_hub(found, size, arguments)
        raise UnknownModel(_not_an_id(model))
    return readers[source](rest, size, arguments, own_weights)


def _not_an_id(model: str) -> str:
    import timm

    same = id_for_hub_name(model.removeprefix("hf://").removeprefix("hf-hub:"))
    if same:
        return f"{model!r} is a name on the Hugging Face hub; the same weights are {same} here."
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return (
            f"{model!r} is not a model id: expected timm/NAME[.TAG], open_clip/NAME[/TAG] or zoo/NAME. A repository of "
            f"the Hugging Face hub that transformers or timm wrote is hf://{model}, one that open_clip wrote is "
            f"open_clip/hf-hub:{model}; of others name the architecture, with --weights hf://{model}/FILE --as NAME."
        )
    close = nearest(model, timm.list_models())
    hint = f" Did you mean {', '.join(f'timm/{name}' for name in close)}?" if close else ""
    return (
        f"{model!r} is not a model id: expected timm/NAME[.TAG], open_clip/NAME[/TAG] or zoo/NAME.{hint} "
        "`neuron-atlas models` lists what is known."
    )


# ---------------------------------------------------------------------------------------------------- timm

QUICK = "natively QuickGELU"  # as timm's records say it of weights whose plain architecture has GELU
NATIVELY = (
    "activation function QuickGELU, with which the weights were trained; timm's architecture of the name has GELU"
)


def _timm(rest: str, input_size: Size | None, arguments: Arguments, own_weights: bool) -> Blueprint:
    import timm
    from timm.models import PretrainedCfg, get_pretrained_cfg

    name, _, tag = rest.partition(".")
    if not timm.is_model(name):
        raise UnknownModel(_unknown("timm", rest, timm.list_models() + timm.list_pretrained()))
    tags = timm_tags(name)
    if tag and tag not in tags:
        raise UnknownModel(_no_tag(f"timm/{rest}", name, tag, tags))
    cfg = get_pretrained_cfg(f"{name}.{tag}" if tag else name) or PretrainedCfg()
    natively = QUICK in " ".join(cfg.notes or ()) and "quickgelu" not in name and not (own_weights and not tag)
    tag = tag or (cfg.tag or "" if tags else "")
    full = f"{name}.{tag}" if tag else name
    notes: tuple[str, ...] = ()
    if natively and "act_layer" not in dict(arguments):
        arguments, notes = (*arguments, ("act_layer", "quick_gelu")), (NATIVELY,)
    # a model that takes any size is built for none
    sized: dict[str, Any] = {"img_size": input_size} if input_size is not None and cfg.fixed_input_size else {}
    if arguments:
        check_names(f"timm/{name}", arguments, timm_parameters(name))
        sized |= dict(arguments)
    return Blueprint(
        source="timm",
        architecture=name,
        tag=tag,
        id=f"timm/{full}",
        input_size=input_size or (cfg.input_size[1], cfg.input_size[2]),
        resized=bool(input_size) and input_size != (cfg.input_size[1], cfg.input_size[2]),
        mean=tuple(cfg.mean),
        std=tuple(cfg.std),
        interpolation=cfg.interpolation,
        licence=cfg.license or "",
        tags=tuple(tags),
        build=lambda: timm.create_model(full, pretrained=False, **sized),
        fetch=lambda: timm.create_model(full, pretrained=True, **sized),
        arguments=arguments,
        notes=notes,
    )


@lru_cache(maxsize=64)
def timm_parameters(name: str) -> frozenset[str]:
    """Names of the arguments that the class of a timm architecture takes; none: it takes any."""
    import timm

    with torch.device("meta"):
        signature = inspect.signature(type(timm.create_model(name)).__init__)
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values()):
        return frozenset()
    return frozenset(signature.parameters)


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


# ----------------------------------------------------------------------------------------------------- hub


def _of_hub(found: HubModel, size: Size | None, arguments: Arguments) -> Blueprint:
    """An architecture of timm or open_clip, built and fed as a repository's own files say."""
    given = as_arguments({**dict(found.arguments), **dict(arguments)})
    plan = blueprint(found.architecture, size or found.input_size, given, own_weights=True)
    return replace(plan, id=found.id, tag="hub", licence="", tags=(), fetch=found.fetch, **found.pictures)


# ----------------------------------------------------------------------------------------------- open_clip


def _open_clip(rest: str, input_size: Size | None, arguments: Arguments, own_weights: bool) -> Blueprint:
    import open_clip
    from open_clip.model import CLIPVisionCfg

    found = kept_elsewhere(rest) or _of_library(rest)
    name, tag, config, record = found.name, found.tag, found.config, found.record
    vision = config["vision_cfg"]
    size = vision.get("image_size", 224)
    default = (size, size) if isinstance(size, int) else (size[0], size[1])
    if input_size is not None:
        vision["image_size"] = input_size
    height, width = input_size or default
    quick_gelu = found.quick_gelu
    if arguments:
        check_names(f"open_clip/{name}", arguments, {"quick_gelu", *vars(CLIPVisionCfg())})
        asked = dict(arguments)
        quick_gelu = bool(asked.pop("quick_gelu", quick_gelu))
        vision |= asked

    def build() -> nn.Module:
        return _open_clip_tower(
            config["embed_dim"], vision, quick_gelu, (height, width), resize=(height, width) != default
        )

    return Blueprint(
        source="open_clip",
        architecture=name,
        tag=tag,
        id=f"open_clip/{found.id}",
        input_size=(height, width),
        resized=(height, width) != default,
        mean=tuple(record.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(record.get("std") or open_clip.OPENAI_DATASET_STD),
        interpolation=record.get("interpolation", "bicubic"),
        licence="",  # open_clip records none
        tags=found.tags,
        build=build,
        fetch=found.fetch,
        arguments=arguments,
        texts=text_side(found.place or name, config, quick_gelu),
    )


def _of_library(rest: str) -> OpenClipModel:
    """An architecture of open_clip's own list, and one of its tags."""
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
    # what the weights were trained with decides; the same architecture has tags of both kinds
    quick_gelu = bool(record.get("quick_gelu")) if tag else quick(config)

    def fetch() -> dict[str, Tensor]:
        return dict(load_state_dict(open_clip.download_pretrained(record)))

    return OpenClipModel(name, tag, rest, config, record, quick_gelu, tuple(tags), fetch)


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


def _zoo(rest: str, input_size: Size | None, arguments: Arguments, own_weights: bool) -> Blueprint:
    from pipeline import zoo

    config = zoo.zoo_config(rest)  # UnknownModel with close matches
    if input_size is not None and input_size != config["input_size"]:
        raise BadConfig(f"zoo/{rest} takes {config['input_size']} pixels only; leave out the input size.")
    if arguments:
        raise BadConfig(
            f"zoo/{rest} takes no arguments ({arguments[0][0]}): its form is fixed. Leave out --model-args."
        )

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
