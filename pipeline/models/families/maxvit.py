"""MaxViT and CoAtNet: convolution blocks, then attention in windows and over a dilated grid; no prefix tokens."""

from pipeline.models.families.family import Family

_BLOCK = r"stages\.\d+\.blocks\.\d+\.((attn_block|attn_grid)\.)?"

MAXVIT = Family(
    name="maxvit",
    classes=("timm.models.maxxvit.MaxxVit",),
    ffn=_BLOCK + "mlp",
    attention=_BLOCK + "attn",
    attention_kinds=(("attn_grid", "grid"), ("attn_block", "window")),
    convolutions=(("timm.models.maxxvit.Stem", "conv2"), ("timm.models.maxxvit.MbConvBlock", "conv3_1x1")),
    outside=r".*\.(rel_pos\.mlp|conv\.mlp)",  # position biases; ConvNeXt blocks' own channel mixing
    timm_modules=("maxxvit",),
    other_forms=("*_pm_*",),  # both attentions side by side before one FFN
)
