"""Small members of the eight families: timm's and open_clip's own classes, configured for 64 x 64 pictures.

Widths are chosen so that every site of every family has tens to a few hundred neurons and a model costs
some tens of MFLOP an image: large enough to learn the procedural set, small enough to treat every neuron.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pipeline.zoo.world import ATTRIBUTES, SIZE

LOGITS = sum(len(values) for values in ATTRIBUTES.values())
"""Outputs of a classifier: one softmax group an attribute, groups in the order of ATTRIBUTES."""


def vit() -> nn.Module:
    """Plain ViT: class token, learned positions, 8 x 8 grid of 8-pixel patches."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2, num_classes=LOGITS
    )


def deit() -> nn.Module:
    """DeiT with a distillation token: two prefix tokens, two heads, their logits averaged."""
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(
        img_size=SIZE, patch_size=8, embed_dim=64, depth=4, num_heads=4, mlp_ratio=2, num_classes=LOGITS
    )


def swin() -> nn.Module:
    """Swin: 16 x 16 then 8 x 8 tokens, windows of 4 x 4, every second block shifted; no class token."""
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=SIZE, patch_size=4, embed_dim=48, depths=(2, 2), num_heads=(3, 6), window_size=4,
        mlp_ratio=2, drop_path_rate=0, num_classes=LOGITS,
    )  # fmt: skip


def coat() -> nn.Module:
    """CoaT with parallel blocks: one MLP shared by three scales (mlp2 is mlp3 is mlp4), firing on each."""
    from timm.models.coat import CoaT

    return CoaT(
        img_size=SIZE, patch_size=4, embed_dims=(32, 64, 64, 64), serial_depths=(1, 1, 1, 1),
        parallel_depth=2, num_heads=4, mlp_ratios=(2, 2, 2, 2), crpe_window={3: 2, 5: 2}, num_classes=LOGITS,
    )  # fmt: skip


def convit() -> nn.Module:
    """ConViT: three gated positional blocks on patches alone, the class token joins for the last two."""
    from timm.models.convit import ConVit

    return ConVit(
        img_size=SIZE, patch_size=8, embed_dim=16, num_heads=4, depth=5, local_up_to_layer=3, mlp_ratio=2,
        num_classes=LOGITS,
    )  # fmt: skip


def pit() -> nn.Module:
    """PiT: overlapping patches (15 x 15 tokens), then a strided depthwise convolution to 8 x 8."""
    from timm.models.pit import PoolingVisionTransformer

    return PoolingVisionTransformer(
        img_size=SIZE, patch_size=8, stride=4, stem_type="overlap", base_dims=(24, 24), depth=(2, 2),
        heads=(2, 4), mlp_ratio=2, num_classes=LOGITS,
    )  # fmt: skip


def twins() -> nn.Module:
    """Twins-SVT: in each stage one locally grouped attention, then one over sub-sampled global keys."""
    from timm.models.twins import Twins

    return Twins(
        img_size=SIZE, patch_size=4, embed_dims=(40, 80), num_heads=(2, 4), mlp_ratios=(2, 2), depths=(2, 2),
        sr_ratios=(4, 2), wss=(4, 4), num_classes=LOGITS,
    )  # fmt: skip


def clip() -> nn.Module:
    """open_clip's CLIP: a ViT on pictures and a causal transformer on captions, one 64-dimensional space."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    from pipeline.zoo.captions import WordTokenizer

    return CLIP(
        embed_dim=64,
        vision_cfg=CLIPVisionCfg(
            layers=4, width=64, head_width=16, mlp_ratio=2.0, patch_size=8, image_size=SIZE
        ),
        text_cfg=CLIPTextCfg(
            context_length=WordTokenizer.context_length, vocab_size=WordTokenizer.vocab_size,
            width=64, heads=4, layers=2, mlp_ratio=2.0,
        ),
    )  # fmt: skip


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "vit": vit, "deit": deit, "swin": swin, "coat": coat,
    "convit": convit, "pit": pit, "twins": twins, "clip": clip,
}  # fmt: skip
