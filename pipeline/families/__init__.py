"""The families of the atlas, one literal each. To add one: docs/families.md."""

from fnmatch import fnmatchcase

from torch import nn

from pipeline.families.clip import CLIP, WRAPPER, of_trunk
from pipeline.families.coat import COAT
from pipeline.families.convit import CONVIT
from pipeline.families.family import Family
from pipeline.families.maxvit import MAXVIT
from pipeline.families.pit import PIT
from pipeline.families.swin import SWIN
from pipeline.families.twins import TWINS
from pipeline.families.vit import BEIT, CLIP_OF_TIMM, DEIT, EVA, VIT

__all__ = ["FAMILIES", "Family", "families_named", "matching_families", "qualified_class"]

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
)


def qualified_class(module: nn.Module) -> str:
    """`package.module.Class` of a module."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def matching_families(module: nn.Module, architecture: str) -> list[Family]:
    """Families that cover a model: one is right, none or several are for the caller to report."""
    if qualified_class(module) == WRAPPER:
        return [of_trunk(f) for f in matching_families(module.get_submodule("trunk"), "")]
    of_class = [family for family in FAMILIES if qualified_class(module) in family.classes]
    claiming = [f for f in of_class if any(fnmatchcase(architecture, glob) for glob in f.models)]
    return claiming or [family for family in of_class if not family.models] or of_class


def families_named(timm_module: str, architecture: str) -> list[Family]:
    """Families that an architecture of timm.models.<timm_module> belongs to by its name, without building
    it.
    """
    claiming = [f for f in FAMILIES if any(fnmatchcase(architecture, glob) for glob in f.models)]
    plain = [f for f in FAMILIES if not f.models and timm_module in f.timm_modules]
    return [f for f in claiming if timm_module in f.timm_modules] or plain
