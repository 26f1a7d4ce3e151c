"""CLIP image towers of open_clip: its own transformer, and towers that wrap a timm model (`trunk`)."""

from dataclasses import replace

from torch import nn

from pipeline.models.families.family import Family

CLIP = Family(
    name="clip",
    classes=("open_clip.transformer.VisionTransformer",),
    ffn=r"transformer\.resblocks\.\d+\.mlp",
    attention=r"transformer\.resblocks\.\d+\.attn",
    outside=r"attn_pool(_contrastive)?\.attn",  # CoCa's pooling queries see no grid
    prefix=lambda model: ("class",),
)

WRAPPER = "open_clip.timm_model.TimmModel"


def of_trunk(family: Family) -> Family:
    """The description of an open_clip tower whose `trunk` is a timm model of `family`."""

    def prefix(model: nn.Module) -> tuple[str, ...]:
        return family.prefix(model.get_submodule("trunk"))

    return replace(
        family,
        name="clip",
        classes=(WRAPPER,),
        ffn=rf"trunk\.({family.ffn})",
        attention=rf"trunk\.({family.attention})",
        outside=rf"trunk\.({family.outside})|head\..*",
        prefix=prefix,
    )
