"""Swin and Swin v2: stages of window attention on channels-last maps; no prefix tokens."""

from pipeline.models.families.family import Family

SWIN = Family(
    name="swin",
    classes=(
        "timm.models.swin_transformer.SwinTransformer",
        "timm.models.swin_transformer_v2.SwinTransformerV2",
        "timm.models.swin_transformer_v2_cr.SwinTransformerV2Cr",
    ),
    ffn=r"(layers|stages)\.\d+\.blocks\.\d+\.mlp",
    attention=r"(layers|stages)\.\d+\.blocks\.\d+\.attn",
    attention_kinds=(("WindowAttention", "window"), ("WindowMultiHeadAttention", "window")),
    outside=r".*\.attn\.meta_mlp",  # v2-cr: makes position biases, sees no image
    timm_modules=("swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr"),
)
