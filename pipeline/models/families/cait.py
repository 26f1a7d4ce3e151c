"""CaiT: plain blocks of patches alone, then blocks in which only the class token is written."""

from pipeline.models.families.family import Family

CAIT = Family(
    name="cait",
    classes=("timm.models.cait.Cait",),
    ffn=r"blocks\.\d+\.mlp",
    attention=r"blocks\.\d+\.attn",
    outside=r"blocks_token_only\..*",  # their FFNs see the class token alone, their attention reads the patches for it
    timm_modules=("cait",),
)
