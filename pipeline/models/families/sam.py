"""The image encoder of Segment Anything: plain blocks on maps, most of them in windows; no prefix tokens."""

from pipeline.models.families.family import Family

SAM = Family(
    name="sam",
    classes=("timm.models.vision_transformer_sam.VisionTransformerSAM",),
    ffn=r"blocks\.\d+\.mlp",
    attention=r"blocks\.\d+\.attn",
    windows_of_block="window_size",
    timm_modules=("vision_transformer_sam",),
)
