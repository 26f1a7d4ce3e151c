"""PiT: three stages of plain blocks with pooling between; class (and distillation) token carried through."""

from pipeline.models.families.family import Family

PIT = Family(
    name="pit",
    classes=("timm.models.pit.PoolingVisionTransformer",),
    ffn=r"transformers\.\d+\.blocks\.\d+\.mlp",
    attention=r"transformers\.\d+\.blocks\.\d+\.attn",
    prefix=lambda model: ("class", "distillation")[: model.get_parameter("cls_token").shape[1]],
    timm_modules=("pit",),
)
