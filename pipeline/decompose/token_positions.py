"""Which patch token each value of an attention belongs to: window partition, roll, padding and pooling, undone.

No arithmetic of any family is repeated here. The model runs once with numbers for tokens: what an attention receives
(where it works in windows, what its block receives) is replaced by the number of the token, norms hand on what they
get, and the numbers are read where values are made. A convolution in between, which pools the tokens of keys and values
(Twins), starts a coarser grid of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atlas_schema.errors import UnknownFamily
from pipeline.decompose.attention import FrozenMap, frozen_maps, open_up, output_projection
from pipeline.hooks.frozen import is_norm, stub
from pipeline.models import AttentionSite, LoadedModel

_IMAGES = 2  # tell the axis of images from that of windows


@dataclass(frozen=True)
class TokenPositions:
    """Where the values of one call of an attention lie on a patch grid.

    grid: height and width of the patch grid that they are on, the site's own or a coarser one. patch: int64
    (positions,), for each value of an image, windows first, its patch, row by row; -1 for a prefix token or padding.
    axis: of the images in the value map's output, all other axes but the channels flattened behind them; windows
    are folded into axis 0.
    """

    grid: tuple[int, int]
    patch: Tensor
    axis: int

    def by_image(self, values: Tensor, images: int) -> Tensor:
        """(images, positions, channels) of a tensor with channels last, as the value map gives it."""
        return values.movedim(self.axis, 0).reshape(images, -1, values.shape[-1])

    def on_grid(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(images, positions, heads) -> (images, heads, height, width) and (images, heads) of what is no patch."""
        height, width = self.grid
        patch = self.patch.to(scores.device)
        elsewhere = scores[:, patch < 0].sum(1)
        spread = scores.new_zeros(len(scores), height * width, scores.shape[2])
        spread.index_add_(1, patch[patch >= 0], scores[:, patch >= 0])
        return spread.transpose(1, 2).unflatten(2, self.grid), elsewhere


def token_positions_of(model: LoadedModel) -> dict[str, list[TokenPositions]]:
    """Where the values of each attention site lie, by its path, a call each; from one forward of two images.

    UnknownFamily where a site has no map that makes values, or values are no tokens in another order.
    """
    modules = {site.path: model.module.get_submodule(site.path) for site in model.description.attention_sites}
    maps = {path: frozen_maps(path, module) for path, module in modules.items()}
    seen = _SeenTokens(
        {weight: value_map for found in maps.values() for weight, value_map in found.items() if value_map.makes_values}
    )
    weight = next(parameter for parameter in model.module.parameters() if parameter.is_floating_point())
    with ExitStack() as stack, torch.no_grad():
        for part in model.module.modules():
            if is_norm(part):
                stub(stack, part, lambda x: x)
        for site in model.description.attention_sites:
            open_up(stack, site.path, modules[site.path])
            _number(stack, model, site, seen, maps[site.path])
        stack.enter_context(seen)
        model.module(weight.new_zeros(_IMAGES, 3, *model.description.input_size))
    return {site.path: _positions(site, maps[site.path], seen) for site in model.description.attention_sites}


@dataclass
class _Numbered:
    """The tokens that carry numbers: 1 + image * tokens + token; 0 is padding."""

    grid: tuple[int, int]
    prefix: int

    @property
    def tokens(self) -> int:
        return self.prefix + self.grid[0] * self.grid[1]


class _SeenTokens(TorchFunctionMode):
    """A context in which the inputs of the maps that make values are kept."""

    def __init__(self, maps: dict[int, FrozenMap]) -> None:
        super().__init__()
        self.maps = maps
        self.numbered: dict[str, _Numbered] = {}  # by site: what its tokens carry now
        self.read: dict[str, list[tuple[Tensor, _Numbered]]] = {}  # by FrozenMap.path, a call each

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear or func is functional.conv2d:
            weight = args[1] if len(args) > 1 else (kwargs or {}).get("weight")
            known = self.maps.get(id(weight))
            if known is not None:
                received = args[0] if known.axis < 0 else args[0].movedim(1, -1)
                numbered = self.numbered.get(known.path.rpartition(".")[0])
                if numbered is not None:
                    self.read.setdefault(known.path, []).append((received.clone(), numbered))
        return func(*args, **(kwargs or {}))


def _number(
    stack: ExitStack, model: LoadedModel, site: AttentionSite, seen: _SeenTokens, maps: dict[int, FrozenMap]
) -> None:
    """Hooks that put numbers in place of the tokens of a site, and again behind convolutions inside it."""
    attention = model.module.get_submodule(site.path)
    in_windows = site.kind in ("window", "grid")
    module = model.module.get_submodule(site.path.rpartition(".")[0]) if in_windows else attention
    second = getattr(attention, "batch_first", True) is False
    channels_first = isinstance(output_projection(attention), nn.Conv2d)
    grids = iter(site.grids)

    def tokens(part: nn.Module, args: Any, kwargs: Any) -> Any:
        first = args[0] if args else next(iter(kwargs.values()))
        numbered = _Numbered(next(grids), len(site.prefix_tokens))
        marked = _numbers(first, numbered, channels_first, second, site.path)
        seen.numbered[site.path] = numbered

        def swap(given: Any) -> Any:
            return marked if given is first else given

        return tuple(map(swap, args)), {name: swap(given) for name, given in kwargs.items()}

    stack.callback(module.register_forward_pre_hook(tokens, with_kwargs=True).remove)
    for part in attention.modules():
        if isinstance(part, nn.Conv2d) and id(part.weight) not in maps and part is not output_projection(attention):
            stack.callback(part.register_forward_hook(_pooled(seen, site.path)).remove)


def _pooled(seen: _SeenTokens, path: str) -> Callable[..., Tensor]:
    def renumber(part: nn.Module, args: Any, out: Tensor) -> Tensor:
        numbered = _Numbered((int(out.shape[-2]), int(out.shape[-1])), 0)
        seen.numbered[path] = numbered
        return _numbers(out, numbered, True, False, path)

    return renumber


def _numbers(like: Tensor, numbered: _Numbered, channels_first: bool, second: bool, path: str) -> Tensor:
    """A tensor of this shape in which every channel holds the number of its token."""
    shape = list(like.movedim(1, -1).shape if channels_first else like.shape)
    shape[0], shape[int(second)] = shape[int(second)], shape[0]
    count = numbered.tokens
    if shape[0] != _IMAGES or torch.Size(shape[1:-1]).numel() != count:
        raise UnknownFamily(
            f"{path}: its tokens come in the shape {tuple(like.shape)}, not {_IMAGES} images of {count} tokens: what "
            "single tokens add cannot be put on the patch grid."
        )
    marks = torch.arange(1, _IMAGES * count + 1, dtype=like.dtype, device=like.device)
    marked = marks.reshape(*shape[:-1], 1).expand(shape).transpose(0, int(second))
    return (marked.movedim(-1, 1) if channels_first else marked).contiguous()


def _positions(site: AttentionSite, maps: dict[int, FrozenMap], seen: _SeenTokens) -> list[TokenPositions]:
    paths = [candidate.path for candidate in maps.values() if candidate.makes_values]
    if len(paths) != 1 or len(seen.read.get(paths[0], [])) != len(site.grids):
        raise UnknownFamily(
            f"{site.path}: {len(paths)} maps make its values ({', '.join(paths)}), expected one that runs "
            f"{len(site.grids)} times: what single tokens add cannot be read."
        )
    return [_read(site.path, received, numbered) for received, numbered in seen.read[paths[0]]]


def _read(path: str, received: Tensor, numbered: _Numbered) -> TokenPositions:
    """The positions, from the numbers in what a value map received, channels last."""
    marks = received[..., 0]
    for axis in (0, 1):
        rows = marks.movedim(axis, 0).reshape(_IMAGES, -1) if marks.shape[axis] % _IMAGES == 0 else marks[:0]
        token = rows - 1 - torch.arange(len(rows)).to(rows)[:, None] * numbered.tokens
        token = torch.where(rows == 0, -1, token)
        alike = len(rows) and bool((token == token[0]).all()) and bool((received == marks[..., None]).all())
        if alike and _all_once(token[0], numbered.tokens):
            return TokenPositions(numbered.grid, (token[0].long() - numbered.prefix).clamp(min=-1), axis)
    raise UnknownFamily(
        f"{path}: the tokens of which its values are made are not those of its grid {numbered.grid} in another order: "
        "what single tokens add cannot be put on the patch grid."
    )


def _all_once(token: Tensor, tokens: int) -> bool:
    """Whether every token is there once; -1 stands for padding."""
    return torch.equal(token[token >= 0].sort().values, torch.arange(tokens).to(token))
