"""The plain form: one stack of `blocks`, each with `attn` and `mlp` (ViT, DeiT, DINO, CLIP towers of timm, ...)."""

from dataclasses import replace

from torch import nn

from pipeline.families.family import Family


def tokens_before_patches(model: nn.Module) -> tuple[str, ...]:
    """Prefix tokens of a timm model of the plain form, in the order in which it concatenates them."""
    has_class = getattr(model, "cls_token", None) is not None
    has_distillation = getattr(model, "dist_token", None) is not None
    registers = int(getattr(model, "num_reg_tokens", 0))
    return ("class",) * has_class + ("distillation",) * has_distillation + ("register",) * registers


VIT = Family(
    name="vit",
    classes=("timm.models.vision_transformer.VisionTransformer",),
    # `ffns.{j}` and `attns.{j}`: the parallel blocks of the 18x2 models
    ffn=r"blocks\.\d+\.(ffns\.\d+\.)?mlp",
    attention=r"blocks\.\d+\.(attns\.\d+\.)?attn",
    outside=r"attn_pool(\.mlp)?",  # SigLIP's pooling head: one latent token, no patches
    prefix=tokens_before_patches,
    timm_modules=("vision_transformer", "vision_transformer_hybrid"),
)

DEIT = replace(
    VIT,
    name="deit",
    classes=(*VIT.classes, "timm.models.deit.VisionTransformerDistilled"),
    models=("deit*",),
    timm_modules=("deit",),
)

CLIP_OF_TIMM = replace(VIT, name="clip", models=("vit_*clip_*", "vit_*siglip*"), timm_modules=())
