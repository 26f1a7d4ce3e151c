"""What `neuron-atlas models` lists: every checkpoint of the libraries that some family claims by name.

Nothing is built for it: whether a model has the form of its family shows when it is described.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pipeline.models.families import FAMILIES, families_named


@dataclass(frozen=True, order=True)
class KnownModel:
    """A model id with weights, and its family."""

    id: str
    family: str


def catalogue(pattern: str = "*") -> list[KnownModel]:
    """Known models whose id matches a glob, or contains the text where it has no wildcard; zoo first."""
    glob = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    every = (*_zoo(), *sorted(_timm()), *sorted(_open_clip()))
    return [known for known in every if fnmatchcase(known.id.lower(), glob.lower())]


def known_models(pattern: str = "*") -> list[str]:
    """Ids of `catalogue(pattern)`."""
    return [known.id for known in catalogue(pattern)]


def architectures() -> list[str]:
    """Every architecture of timm and open_clip that some family claims by name, without tags."""
    timm_names = {known.id.partition(".")[0] for known in catalogue("timm/*")}
    clip_names = {known.id.rpartition("/")[0] for known in catalogue("open_clip/*")}
    return [*sorted(timm_names), *sorted(clip_names)]


def _zoo() -> Iterator[KnownModel]:
    from pipeline.zoo import ZOO

    return (KnownModel(f"zoo/{name}", name) for name in ZOO)


def _timm() -> Iterator[KnownModel]:
    import timm

    for module in sorted({module for family in FAMILIES for module in family.timm_modules}):
        for full in timm.list_models(module=module, pretrained=True):
            for family in families_named(module, full.partition(".")[0]):
                yield KnownModel(f"timm/{full}", family.name)


def _open_clip() -> Iterator[KnownModel]:
    import open_clip

    for name, tag in open_clip.list_pretrained():
        config = open_clip.get_model_config(name)
        if config is not None and _has_known_tower(config["vision_cfg"]):
            yield KnownModel(f"open_clip/{name}/{tag}", "clip")


def _has_known_tower(vision: dict[str, Any]) -> bool:
    """A transformer of open_clip's own (ResNets have a list of layers), or a timm trunk of a known family."""
    trunk = vision.get("timm_model_name")
    if trunk is None:
        return isinstance(vision.get("layers"), int)
    import timm

    modules = {module for family in FAMILIES for module in family.timm_modules}
    return any(timm.models.is_model_in_modules(trunk, [module]) for module in modules)
