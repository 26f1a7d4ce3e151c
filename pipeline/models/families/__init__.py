"""The families of the atlas, one literal each. To add one: docs/families.md."""

from fnmatch import fnmatchcase

from torch import nn

from pipeline.models.families.cait import CAIT
from pipeline.models.families.clip import CLIP, WRAPPER, of_trunk
from pipeline.models.families.coat import COAT
from pipeline.models.families.convit import CONVIT
from pipeline.models.families.family import Family
from pipeline.models.families.maxvit import MAXVIT
from pipeline.models.families.pit import PIT
from pipeline.models.families.pvt import PVT
from pipeline.models.families.sam import SAM
from pipeline.models.families.swin import SWIN
from pipeline.models.families.twins import TWINS
from pipeline.models.families.vit import BEIT, CLIP_OF_TIMM, DEIT, EVA, VIT

__all__ = ["FAMILIES", "Family", "convolution_maps", "families_named", "matching_families", "qualified_class"]

FAMILIES: tuple[Family, ...] = (
    VIT,
    DEIT,
    CLIP_OF_TIMM,
    CLIP,
    SWIN,
    COAT,
    CONVIT,
    PIT,
    TWINS,
    MAXVIT,
    EVA,
    BEIT,
    PVT,
    SAM,
    CAIT,
)


def qualified_class(module: nn.Module) -> str:
    """`package.module.Class` of a module."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def matching_families(module: nn.Module, architecture: str) -> list[Family]:
    """Families that cover a model: one is right, none or several are for the caller to report."""
    if qualified_class(module) == WRAPPER:
        return [of_trunk(family) for family in matching_families(module.get_submodule("trunk"), "")]
    return _claimants([f for f in FAMILIES if qualified_class(module) in f.classes], architecture)


def convolution_maps(module: nn.Module) -> tuple[str, ...]:
    """Paths of the last maps of a model's convolution blocks, in their order: what they add is no attention or FFN."""
    last = {block: name for family in FAMILIES for block, name in family.convolutions}
    blocks = ((path, qualified_class(part)) for path, part in module.named_modules())
    return tuple(f"{path}.{last[block]}" for path, block in blocks if block in last)


def families_named(timm_module: str, architecture: str) -> list[Family]:
    """Families of an architecture of timm.models.<timm_module>, by its name: nothing is built."""
    listing = [f for f in FAMILIES if timm_module in f.timm_modules and not _named(architecture, f.other_forms)]
    return _claimants(listing, architecture)


def _claimants(families: list[Family], architecture: str) -> list[Family]:
    claiming = [family for family in families if _named(architecture, family.models)]
    return claiming or [family for family in families if not family.models] or families


def _named(architecture: str, globs: tuple[str, ...]) -> bool:
    return any(fnmatchcase(architecture, glob) for glob in globs)
