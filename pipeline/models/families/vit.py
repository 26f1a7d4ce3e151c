"""The plain form: one stack of `blocks`, each with `attn` and `mlp` (ViT, DeiT, DINO, CLIP of timm, EVA, BEiT)."""

from dataclasses import replace

from torch import nn

from pipeline.models.families.family import Family


def tokens_before_patches(model: nn.Module) -> tuple[str, ...]:
    """Prefix tokens of a timm model of the plain form, in the order in which it concatenates them."""
    has_class = getattr(model, "cls_token", None) is not None
    has_distillation = getattr(model, "dist_token", None) is not None
    registers = int(model.num_prefix_tokens) - has_class - has_distillation  # type: ignore[arg-type]
    return ("class",) * has_class + ("distillation",) * has_distillation + ("register",) * registers


VIT = Family(
    name="vit",
    classes=(
        "timm.models.vision_transformer.VisionTransformer",
        "timm.models.vision_transformer_relpos.VisionTransformerRelPos",
    ),
    # `ffns.{j}` and `attns.{j}`: the parallel blocks of the 18x2 models
    ffn=r"blocks\.\d+\.(ffns\.\d+\.)?mlp",
    attention=r"blocks\.\d+\.(attns\.\d+\.)?attn",
    outside=r"attn_pool(\.mlp)?|.*rel_pos\.mlp",  # SigLIP's pooling head: one latent token; position biases
    prefix=tokens_before_patches,
    timm_modules=(
        "vision_transformer",
        "vision_transformer_hybrid",
        "vision_transformer_relpos",
        "vitamin",
    ),
    other_forms=("vit_*_xp_*", "vit_*pwee*"),  # attention and FFN in one projection
)

DEIT = replace(
    VIT,
    name="deit",
    classes=(
        "timm.models.vision_transformer.VisionTransformer",
        "timm.models.deit.VisionTransformerDistilled",
    ),
    models=("deit*",),
    timm_modules=("deit",),
)

CLIP_OF_TIMM = replace(
    VIT,
    name="clip",
    classes=("timm.models.vision_transformer.VisionTransformer",),
    models=("vit_*clip_*", "vit_*siglip*"),
)

EVA = replace(VIT, name="eva", classes=("timm.models.eva.Eva",), timm_modules=("eva",))  # EVA-02, DINOv3, PE

BEIT = replace(VIT, name="beit", classes=("timm.models.beit.Beit",), timm_modules=("beit",))
