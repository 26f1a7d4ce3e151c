"""Twins, PCPVT and SVT: four stages on token sequences without any prefix token."""

from pipeline.models.families.family import Family

TWINS = Family(
    name="twins",
    classes=("timm.models.twins.Twins",),
    ffn=r"blocks\.\d+\.\d+\.mlp",
    attention=r"blocks\.\d+\.\d+\.attn",
    attention_kinds=(("LocallyGroupedAttn", "window"),),
    pooling_ratio="sr_ratio",
    timm_modules=("twins",),
)
