"""PVT v2: four stages on token sequences without any prefix token; FFNs with a depthwise convolution inside."""

from pipeline.models.families.family import Family

PVT = Family(
    name="pvt",
    classes=("timm.models.pvt_v2.PyramidVisionTransformerV2",),
    ffn=r"stages\.\d+\.blocks\.\d+\.mlp",
    attention=r"stages\.\d+\.blocks\.\d+\.attn",
    pooling_part="sr",
    timm_modules=("pvt_v2",),
)
