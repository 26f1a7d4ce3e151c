"""Attention with its weights held: queries and keys answer from an activation cache, values are live.

The maps that make queries and keys are known by their weights, so that calls of a module and functional calls (Swin v2,
BEiT, open_clip) are the same. What an attention makes of cached queries and keys is its own code's. Only torch's
`nn.MultiheadAttention` is replaced: its fast paths never call its output projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from atlas_schema.errors import UnknownFamily
from pipeline.hooks.frozen import stub

# name of a linear map of an attention module -> the share of its outputs, from the first, that are queries and keys;
# the rest are values
_FROZEN = {
    "qkv": (2, 3),
    "in_proj": (2, 3),
    "kv": (1, 2),
    "qk": (1, 1),
    "q": (1, 1),
    "k": (1, 1),
    "q_proj": (1, 1),
    "k_proj": (1, 1),
    "v": (0, 1),
    "v_proj": (0, 1),
}

_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax)


@dataclass(frozen=True)
class FrozenMap:
    """A linear map of an attention module whose outputs are, in part, queries and keys that are held.

    The first `of` parts in `parts` make them, in all outputs or in those of each of `groups` heads; the others are
    values.
    """

    path: str
    of: int
    parts: int
    groups: int
    axis: int  # of the output's channels

    @property
    def makes_values(self) -> bool:
        return self.of < self.parts

    def split(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """An output in two: queries and keys, and values, each with channels (groups, own)."""
        shaped = out.unflatten(self.axis, (self.groups, -1))
        axis = self.axis if self.axis < 0 else self.axis + 1
        own = shaped.shape[axis] // self.parts * self.of
        return shaped.narrow(axis, 0, own), shaped.narrow(axis, own, shaped.shape[axis] - own)

    def join(self, held: Tensor, live: Tensor) -> Tensor:
        axis = self.axis if self.axis < 0 else self.axis + 1
        joined = torch.cat([held, live], dim=axis) if self.makes_values else held
        return joined.flatten(-2) if self.axis < 0 else joined.flatten(1, 2)


def output_projection(module: nn.Module) -> nn.Module:
    """The map of an attention module whose input is all heads side by side."""
    projection = getattr(module, "proj", None) or getattr(module, "out_proj", None)
    assert isinstance(projection, nn.Linear | nn.Conv2d)  # else it would be no site (pipeline.models.sites)
    return projection


def frozen_maps(path: str, module: nn.Module) -> dict[int, FrozenMap]:
    """By the id of their weights, the maps of an attention module that make queries, keys and values.

    UnknownFamily where none of the known names makes queries and keys.
    """
    maps: dict[int, FrozenMap] = {}
    for name, (of, parts) in _FROZEN.items():
        weight = getattr(module, f"{name}_weight", None)
        part = getattr(module, name, None)
        if weight is None and isinstance(part, nn.Linear | nn.Conv2d):
            weight = part.weight
        if isinstance(weight, Tensor):
            groups = module.num_heads if name == "qkv" and getattr(module, "head_first", False) else 1
            axis = 1 if isinstance(part, nn.Conv2d) else -1
            maps[id(weight)] = FrozenMap(f"{path}.{name}", of, parts, groups, axis)  # type: ignore[arg-type]
    if not any(known.of for known in maps.values()):
        names = ", ".join(name for name, (of, _) in _FROZEN.items() if of)
        raise UnknownFamily(
            f"{path} ({type(module).__name__}) makes its queries and keys by none of {names}: its "
            "attention weights cannot be held. Name the map in pipeline/decompose/attention.py."
        )
    return maps


class QueriesAndKeys(TorchFunctionMode):
    """A context in which queries and keys are cached; or answered from the cache, and then take no gradient.

    values: in a replay, by `FrozenMap.path` and call, with channels as `FrozenMap.split` gives them. cut: each is a
    leaf, so that no gradient passes it; else only one that depends on nothing live is.

    Some attention takes queries, keys and values from one tensor, which has a gradient where values are live. What its
    softmax gives depends on queries and keys alone and is taken out of the graph: a derivative then passes the values'
    maps, and not zeros through queries, keys and softmax as well.
    """

    def __init__(
        self, maps: dict[int, FrozenMap], cached: dict[str, list[Tensor]], *, replay: bool, cut: bool = False
    ) -> None:
        super().__init__()
        self.maps, self.cached, self.cut = maps, cached, cut
        self.values: dict[str, list[Tensor]] = {}
        self.inside = 0  # how many attention modules are being called
        self.queues: dict[str, Iterator[Tensor]] | None = None
        if replay:
            self.queues = {path: iter(calls) for path, calls in cached.items()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = None
        if func is functional.linear or func is functional.conv2d:
            weight = args[1] if len(args) > 1 else kwargs.get("weight")
            known = self.maps.get(id(weight))
        if known is None:
            return self._held(func, args, kwargs) if self.queues is not None else func(*args, **kwargs)
        if self.queues is None:
            out = func(*args, **kwargs)
            held, _ = known.split(out)
            self.cached.setdefault(known.path, []).append(held.detach().clone())
            return out
        live = _values_alone(known, *args, **kwargs) if func is functional.linear else None
        if live is None:
            _, live = known.split(func(*args, **kwargs))
        if known.makes_values and torch.is_grad_enabled():
            if self.cut or not live.requires_grad:
                live = live.detach().requires_grad_()
            self.values.setdefault(known.path, []).append(live)
        return known.join(next(self.queues[known.path]), live)

    def _held(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What a function gives; attention weights, of which nothing is live, as constants."""
        if not self.inside:
            return func(*args, **kwargs)
        if func is functional.scaled_dot_product_attention and len(args) >= 3:
            return func(args[0].detach(), args[1].detach(), *args[2:], **kwargs)
        out = func(*args, **kwargs)
        return out.detach() if func in _SOFTMAX else out

    def within(self, stack: ExitStack, module: nn.Module) -> None:
        """Until the stack closes, a softmax in this attention module is known to be that of its weights."""

        def enter(*_: Any) -> None:
            self.inside += 1

        def leave(*_: Any) -> None:
            self.inside -= 1

        stack.callback(module.register_forward_pre_hook(enter).remove)
        stack.callback(module.register_forward_hook(leave).remove)


def _values_alone(known: FrozenMap, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """What a linear map makes of values, as `FrozenMap.split` gives it, without its queries and keys; None where these
    lie between them.
    """
    if known.groups != 1:
        return None
    held = weight.shape[0] // known.parts * known.of
    values = functional.linear(x, weight[held:], None if bias is None else bias[held:])
    return values.unflatten(-1, (1, -1)) if known.makes_values else values[..., None, :]


def open_up(stack: ExitStack, path: str, module: nn.Module) -> None:
    """Until the stack closes, torch's attention calls its output projection as a module, as all others do."""
    if isinstance(module, nn.MultiheadAttention):
        stub(stack, module, lambda q, k, v, **options: (_attend(path, module, q, k, v, options), None))


def _attend(path: str, mha: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, options: Any) -> Tensor:
    plain = query is key and key is value and mha.bias_k is None and mha.in_proj_weight is not None
    if not plain or options.get("key_padding_mask") is not None or options.get("need_weights", True):
        raise UnknownFamily(f"{path}: attention across sequences, or with padding, is not decomposed.")
    x = query if mha.batch_first else query.transpose(0, 1)  # (images, tokens, d)
    q, k, v = (
        projected.unflatten(-1, (mha.num_heads, -1)).transpose(1, 2)
        for projected in functional.linear(x, mha.in_proj_weight, mha.in_proj_bias).chunk(3, dim=-1)
    )
    out = functional.scaled_dot_product_attention(q, k, v, attn_mask=options.get("attn_mask"))
    heads = out.transpose(1, 2).flatten(2)
    return mha.out_proj(heads if mha.batch_first else heads.transpose(0, 1))


def as_given(out: Tensor, x: Tensor) -> Tensor:
    """What an output projection gives, in the shape in which an attention module that took `x` gives it.

    The same, but for a module that takes and gives maps, and tokens in between (SAM).
    """
    return out if out.ndim == x.ndim else out.reshape(x.shape)


def channel_axis(projection: nn.Module) -> int:
    """The axis of channels in what an output projection takes and gives."""
    return 1 if isinstance(projection, nn.Conv2d) else -1


def _image_axis(module: nn.Module) -> int:
    return 1 if getattr(module, "batch_first", True) is False else 0


def per_head(module: nn.Module, heads: Tensor, images: int, count: int) -> Tensor:
    """(images, positions, heads, head_dim) of a tensor shaped as the input of a module's output projection.

    Windows, folded into the axis of images behind each, count on.
    """
    heads = heads.movedim(channel_axis(output_projection(module)), -1).movedim(_image_axis(module), 0)
    return heads.reshape(images, -1, count, heads.shape[-1] // count)


def like_heads(module: nn.Module, rows: Tensor, heads: Tensor) -> Tensor:
    """The way back of `per_head`: (images, positions, channels) shaped as `heads`."""
    channels, images = channel_axis(output_projection(module)), _image_axis(module)
    moved = heads.movedim(channels, -1).movedim(images, 0)
    return rows.reshape(moved.shape).movedim(0, images).movedim(-1, channels)
