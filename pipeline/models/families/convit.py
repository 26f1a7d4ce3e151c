"""ConViT: gated positional attention, then plain attention; the class token joins only before the latter.

In the blocks below `local_up_to_layer` all tokens are patches: the traced lengths say so.
"""

from torch import nn

from pipeline.models.families.family import Family


def cache_positions(model: nn.Module, grid: tuple[int, int]) -> None:
    """Fill the relative positions that GPSA otherwise makes in the first forward.

    Made there under inference mode they could never take part in a gradient, and a captured graph would make
    them each time.
    """
    for module in model.modules():
        if type(module).__name__ == "GPSA":
            module.rel_indices = module.get_rel_indices(grid[0] * grid[1])  # type: ignore[operator]


CONVIT = Family(
    name="convit",
    classes=("timm.models.convit.ConVit",),
    ffn=r"blocks\.\d+\.mlp",
    attention=r"blocks\.\d+\.attn",
    attention_kinds=(("GPSA", "positional"),),
    prefix=lambda model: ("class",),
    timm_modules=("convit",),
    prepare=cache_positions,
)
