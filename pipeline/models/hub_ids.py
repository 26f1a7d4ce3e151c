"""Names on the Hugging Face hub that people type, and the ids under which the libraries have the same weights."""

from __future__ import annotations

import re
from functools import lru_cache

#: a name on the hub -> our id; `\1` and `\2` are what the parentheses matched.
HUB_NAMES: tuple[tuple[str, str], ...] = (
    (r"facebook/dinov2-(small|base|large|giant)", r"timm/vit_\1_patch14_dinov2.lvd142m"),
    (r"facebook/dinov2-with-registers-(small|base|large|giant)", r"timm/vit_\1_patch14_reg4_dinov2.lvd142m"),
    (r"facebook/dinov3-vits16-pretrain-lvd1689m", "timm/vit_small_patch16_dinov3.lvd1689m"),
    (r"facebook/dinov3-vits16plus-pretrain-lvd1689m", "timm/vit_small_plus_patch16_dinov3.lvd1689m"),
    (r"facebook/dinov3-vitb16-pretrain-lvd1689m", "timm/vit_base_patch16_dinov3.lvd1689m"),
    (r"facebook/dinov3-vitl16-pretrain-(lvd1689m|sat493m)", r"timm/vit_large_patch16_dinov3.\1"),
    (r"facebook/dino-vits(8|16)", r"timm/vit_small_patch\1_224.dino"),
    (r"facebook/dino-vitb(8|16)", r"timm/vit_base_patch\1_224.dino"),
    (r"facebook/vit-mae-(base|large)", r"timm/vit_\1_patch16_224.mae"),
    (r"facebook/vit-mae-huge", "timm/vit_huge_patch14_224.mae"),
    (r"facebook/deit-(tiny|small|base)-patch16-224", r"timm/deit_\1_patch16_224.fb_in1k"),
    (r"facebook/deit-(tiny|small|base)-distilled-patch16-224", r"timm/deit_\1_distilled_patch16_224.fb_in1k"),
    (r"google/vit-base-patch16-(224|384)", r"timm/vit_base_patch16_\1.orig_in21k_ft_in1k"),
    (r"google/vit-base-patch(16|32)-224-in21k", r"timm/vit_base_patch\1_224.orig_in21k"),
    (r"google/vit-large-patch(16|32)-224-in21k", r"timm/vit_large_patch\1_224.orig_in21k"),
    (r"google/vit-large-patch32-384", "timm/vit_large_patch32_384.orig_in21k_ft_in1k"),
    (r"google/vit-huge-patch14-224-in21k", "timm/vit_huge_patch14_224.orig_in21k"),
    (r"microsoft/swin-(tiny|small)-patch4-window7-224", r"timm/swin_\1_patch4_window7_224.ms_in1k"),
    (r"microsoft/swin-base-patch4-window(7-224|12-384)", r"timm/swin_base_patch4_window\1.ms_in1k"),
    (r"microsoft/swin-large-patch4-window(7-224|12-384)", r"timm/swin_large_patch4_window\1.ms_in22k_ft_in1k"),
    (r"openai/clip-vit-base-patch(16|32)", r"open_clip/ViT-B-\1/openai"),
    (r"openai/clip-vit-large-patch14", "open_clip/ViT-L-14/openai"),
    (r"openai/clip-vit-large-patch14-336", "open_clip/ViT-L-14-336/openai"),
    (r"google/siglip-base-patch16-(256|384|512)", r"open_clip/ViT-B-16-SigLIP-\1/webli"),
    (r"google/siglip-base-patch16-224", "open_clip/ViT-B-16-SigLIP/webli"),
    (r"google/siglip-so400m-patch14-384", "open_clip/ViT-SO400M-14-SigLIP-384/webli"),
)


def id_for_hub_name(name: str) -> str:
    """The id of the same weights in timm, open_clip; "" where none is known. `name`: ORG/NAME, any case."""
    for pattern, target in HUB_NAMES:
        found = re.fullmatch(pattern, name, re.IGNORECASE)
        if found:
            made = found.expand(target)
            return made.replace("window7-224", "window7_224").replace("window12-384", "window12_384")
    return _of_open_clip().get(name.casefold(), "")


@lru_cache(maxsize=1)
def _of_open_clip() -> dict[str, str]:
    """By repository on the hub, the id of the weights that open_clip keeps there."""
    import open_clip

    found: dict[str, str] = {}
    for architecture, tag in open_clip.list_pretrained():
        hub = open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub", "").strip("/")
        found.setdefault(hub.casefold(), f"open_clip/{architecture}/{tag}")
    return found
