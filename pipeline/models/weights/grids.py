"""Position embeddings and windows of another size: what grid they were trained on, and whether that is sure.

A library resamples position embeddings as if their grid were square. Where the number of positions says otherwise, or
could be either, the size in the file's own settings decides; else the weights are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from atlas_schema.errors import WeightsMismatch
from pipeline.models.families import qualified_class
from pipeline.models.families.clip import WRAPPER
from pipeline.models.weights.names import Names

POSITIONS = ("pos_embed", "positional_embedding")
Grid = tuple[int, int]


def check_grids(module: nn.Module, state: dict[str, Tensor], names: Names) -> tuple[str, ...]:
    """Notes on what is taken for granted of position embeddings. WeightsMismatch where that would be a guess.

    state: tensors of the file by the module's names, before anything is resampled. Where the file says the grid, the
    module is told, for the library to resample from it.
    """
    encoder = module.get_submodule("trunk") if qualified_class(module) == WRAPPER else module
    inner = {name.removeprefix("trunk."): value for name, value in state.items()}
    _check_windows(encoder, inner, names.location)
    _check_patches(encoder, inner, names.location)
    target, prefix = _grid(encoder), _prefix_tokens(encoder)
    name = next((name for name in POSITIONS if name in inner), "")
    if target is None or not name or inner[name].ndim < 2:
        return ()
    own: Tensor = encoder.state_dict()[name]
    if own.shape[-2] - prefix != math.prod(target):  # not one position a patch: PiT and its like
        return ()
    count = inner[name].shape[-2] - prefix
    said = next((grid for grid in _said_grids(names, encoder) if math.prod(grid) == count), None)
    if said is not None:
        return _told(encoder, said, target, names)
    return _untold(encoder, count, target, names)


def _told(encoder: nn.Module, said: Grid, target: Grid, names: Names) -> tuple[str, ...]:
    patch = _patch(encoder)
    encoder.pretrained_model_args = {"img_size": (said[0] * patch[0], said[1] * patch[1])}  # type: ignore[assignment]
    if said == target:
        return ()
    if said[0] != said[1] and qualified_class(encoder).startswith("open_clip."):
        raise WeightsMismatch(
            f"{names.location}: its position embeddings are a grid of {said[0]} x {said[1]}, which open_clip does not "
            f"resample. Give --input-size {_pixels(encoder, said)}."
        )
    return (f"position embeddings are a grid of {said[0]} x {said[1]}, by the file's own settings",)


def _untold(encoder: nn.Module, count: int, target: Grid, names: Names) -> tuple[str, ...]:
    side = math.isqrt(count)
    square, same = side * side == count, math.prod(target) == count
    if square and same and target[0] != target[1]:
        size = _pixels(encoder, target)
        raise WeightsMismatch(
            f"{names.location}: its {count} position embeddings may be a grid of {target[0]} x {target[1]} or of "
            f"{side} x {side}, and the file does not say which. Say the size of its pictures in the file: "
            f"torch.save({{'state_dict': weights, 'img_size': {[int(one) for one in size.split('x')]}}}, FILE)."
        )
    if same or (square and target[0] == target[1] and side == target[0]):
        return ()
    if not square:
        pairs = [f"{_pixels(encoder, pair)} (a grid of {pair[0]} x {pair[1]})" for pair in _factors(count)]
        raise WeightsMismatch(
            f"{names.location}: it has {count} position embeddings, which is no square grid and not the {target[0]} x "
            f"{target[1]} of this size. Give --input-size as it was trained: {' or '.join(pairs[:4])}."
        )
    return (f"the {count} position embeddings are taken as a square grid, {side} x {side}: the file does not say",)


def _factors(count: int) -> Iterator[Grid]:
    """Grids of so many patches, the most square ones first."""
    for short in range(math.isqrt(count), 0, -1):
        if count % short == 0:
            yield short, count // short
            yield count // short, short


def _said_grids(names: Names, encoder: nn.Module) -> Iterator[Grid]:
    height, width = _patch(encoder)
    for size in names.said_sizes():
        yield size[0] // height, size[1] // width


def _grid(encoder: nn.Module) -> Grid | None:
    holder: Any = getattr(encoder, "patch_embed", encoder)
    grid = getattr(holder, "grid_size", None)
    return (int(grid[0]), int(grid[1])) if isinstance(grid, tuple | list) and len(grid) == 2 else None


def _patch(encoder: nn.Module) -> Grid:
    holder: Any = getattr(encoder, "patch_embed", encoder)
    size = getattr(holder, "patch_size", 1)
    return (int(size[0]), int(size[1])) if isinstance(size, tuple | list) else (int(size), int(size))


def _pixels(encoder: nn.Module, grid: Grid) -> str:
    height, width = _patch(encoder)
    return f"{grid[0] * height}x{grid[1] * width}"


def _prefix_tokens(encoder: nn.Module) -> int:
    """Tokens before the patches that have a position of their own."""
    if getattr(encoder, "no_embed_class", False):
        return 0
    if hasattr(encoder, "class_embedding"):
        return 1
    tokens = getattr(encoder, "num_prefix_tokens", None)
    return tokens if isinstance(tokens, int) else int(getattr(encoder, "cls_token", None) is not None)


def _check_windows(encoder: nn.Module, state: dict[str, Tensor], location: str) -> None:
    """WeightsMismatch where Swin's first windows are of another size: that is another attention, not another size."""
    if ".swin_transformer" not in qualified_class(encoder):
        return
    name = next(
        (name for name in state if name.endswith(("relative_position_bias_table", "relative_coords_table"))), ""
    )
    owner = _submodule(encoder, name.rpartition(".")[0])
    if not name or owner is None:
        return
    table = state[name]
    rows = table.shape[1] if name.endswith("coords_table") else math.isqrt(table.shape[0])
    given, own = (rows + 1) // 2, int(owner.window_size[0])  # type: ignore[index]
    if given != own:
        raise WeightsMismatch(
            f"{location}: it was trained with windows of {given} x {given} patches, this architecture has {own} x "
            f"{own} there. That is another attention. Name the architecture with window {given}, or add --model-args "
            f"window_size={given}."
        )


def _check_patches(encoder: nn.Module, state: dict[str, Tensor], location: str) -> None:
    """WeightsMismatch where patches are of another size: the library would resample the embedding without a word."""
    name = "patch_embed.proj.weight"
    given, own = state.get(name), encoder.state_dict().get(name)
    if given is None or own is None or given.ndim != 4 or given.shape[-2:] == own.shape[-2:]:
        return
    size = tuple(given.shape[-2:])
    raise WeightsMismatch(
        f"{location}: it was trained with patches of {size[0]} x {size[1]} pixels, this architecture has "
        f"{own.shape[-2]} x {own.shape[-1]}. Name the architecture with these patches, or add --model-args "
        f"patch_size={size[0]}."
    )


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None
