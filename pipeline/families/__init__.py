"""The families of the atlas, one literal each. To add one: docs/families.md."""

from fnmatch import fnmatchcase

from torch import nn

from pipeline.families.family import Family
from pipeline.families.vit import CLIP_OF_TIMM, DEIT, VIT

FAMILIES: tuple[Family, ...] = (VIT, DEIT, CLIP_OF_TIMM)


def qualified_class(model: nn.Module) -> str:
    """`package.module.Class` of a model."""
    return f"{type(model).__module__}.{type(model).__qualname__}"


def matching_families(class_name: str, architecture: str) -> list[Family]:
    """Families that cover the class: those whose globs claim the architecture, else those that claim none."""
    of_class = [family for family in FAMILIES if class_name in family.classes]
    claiming = [f for f in of_class if any(fnmatchcase(architecture, glob) for glob in f.models)]
    return claiming or [family for family in of_class if not family.models]
