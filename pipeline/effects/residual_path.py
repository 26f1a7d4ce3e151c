"""The residual path of a network: a forward with all its values, whose gradient runs along that path alone.

Hooks cut the gradient before and behind attention and FFNs and replace that of norms. What the path then passes by
name, its *gates*, is recorded: norms, and linear maps of tokens (patch merging, patch embeddings). Each takes its input
token by token, so that what the outputs take of a gate's output tells what they take of its input, without a backward
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.hooks.frozen import centred, channels_first, gain, is_norm, reciprocal_deviation
from pipeline.models import LoadedModel


@dataclass
class Switch:
    """What the hook at a gate's output asks. It knows no tensor: a graph that led to itself would never be let go."""

    shut: bool = False


@dataclass(eq=False)
class Gate:
    """One call of a module on the residual path. Positions are the tokens of all images, one after the other."""

    module: Any
    z: Tensor  # its input
    y: Tensor  # its output
    switch: Switch = field(default_factory=Switch)  # shut: a gradient ends at the output

    def into(self, like: Tensor) -> Tensor:
        """(positions, D) of a tensor shaped as the input."""
        raise NotImplementedError

    def shaped(self, rows: Tensor) -> Tensor:
        """The way back, of (positions, D)."""
        raise NotImplementedError

    def out_of(self, like: Tensor) -> Tensor:
        """(positions, D') of a tensor shaped as the output."""
        raise NotImplementedError

    def through(self, read: Tensor) -> Tensor:
        """What takes `read` (names, D') of the output takes this (names, D) of the input, but for `scale`."""
        raise NotImplementedError

    def scale(self) -> Tensor | None:
        """(positions, 1), by which factor more; None: by none."""
        return None


class Norm(Gate):
    """A norm, its deviations held. Input and output have one shape."""

    def into(self, like: Tensor) -> Tensor:
        """Also (positions, 1) of one number a position."""
        moved = like.movedim(1, -1) if channels_first(self.module) else like
        return moved.reshape(-1, moved.shape[-1])

    out_of = into

    def shaped(self, rows: Tensor) -> Tensor:
        if not channels_first(self.module):
            return rows.view(self.z.shape)
        images, channels, *grid = self.z.shape
        return rows.view(images, *grid, channels).movedim(-1, 1)

    def through(self, read: Tensor) -> Tensor:
        weight = getattr(self.module, "weight", None)
        scaled = read if weight is None else read * weight.to(read)
        return scaled - scaled.mean(-1, keepdim=True) if isinstance(self.module, nn.LayerNorm) else scaled

    def scale(self) -> Tensor:
        """The reciprocal deviation of each position."""
        return self.into(reciprocal_deviation(self.module, centred(self.module, self.z.detach())))


class TokenMap(Gate):
    """A linear map of each token by itself."""

    def into(self, like: Tensor) -> Tensor:
        return like.reshape(-1, like.shape[-1])

    out_of = into

    def shaped(self, rows: Tensor) -> Tensor:
        return rows.view(self.z.shape)

    def through(self, read: Tensor) -> Tensor:
        return read @ self.module.weight.to(read)


class PatchMap(Gate):
    """A convolution whose patches do not overlap. A position is a patch; its input has the patch's pixels one after the
    other, each with all channels.
    """

    def into(self, like: Tensor) -> Tensor:
        images, channels, height, width = like.shape
        high, wide = self.module.kernel_size
        cells = like.reshape(images, channels, height // high, high, width // wide, wide)
        return cells.permute(0, 2, 4, 3, 5, 1).reshape(-1, high * wide * channels)

    def shaped(self, rows: Tensor) -> Tensor:
        images, channels, height, width = self.z.shape
        high, wide = self.module.kernel_size
        cells = rows.view(images, height // high, width // wide, high, wide, channels)
        return cells.permute(0, 5, 1, 3, 2, 4).reshape(self.z.shape)

    def out_of(self, like: Tensor) -> Tensor:
        moved = like.movedim(1, -1)
        return moved.reshape(-1, moved.shape[-1])

    def through(self, read: Tensor) -> Tensor:
        return read @ self.module.weight.to(read).permute(0, 2, 3, 1).flatten(1)


@dataclass(eq=False)
class ResidualPath:
    """The gates of one forward, in its order."""

    gates: list[Gate] = field(default_factory=list)

    def norms(self) -> list[Norm]:
        return [gate for gate in self.gates if isinstance(gate, Norm)]

    def passed(self, gate: Gate) -> Tensor:
        """The gate's output, recorded."""
        switch = gate.switch
        gate.y.register_hook(lambda gradient: torch.zeros_like(gradient) if switch.shut else None)
        self.gates.append(gate)
        return gate.y


@contextmanager
def closed(gates: Collection[Gate]) -> Iterator[None]:
    """In here no gradient passes these gates."""
    for gate in gates:
        gate.switch.shut = True
    try:
        yield
    finally:
        for gate in gates:
            gate.switch.shut = False


@contextmanager
def residual_path(model: LoadedModel, added: Sequence[Tensor]) -> Iterator[ResidualPath]:
    """A forward in here has all its values, but a gradient along the residual path only, with frozen norms.

    added: one vector (d,) a site, added to its FFN's output at every token of every call.
    """
    module = model.module
    path = ResidualPath()

    def frozen(part: Any, args: Any, out: Tensor) -> Tensor:
        """The norm's value, with the gradient that it has when its deviation is a constant."""
        x = args[0]
        if not x.requires_grad:
            return out
        centre = centred(part, x)
        moving = centre * (reciprocal_deviation(part, centre.detach()) * gain(part))
        return path.passed(Norm(part, x, out.detach() + (moving - moving.detach())))

    def mapped(kind: type[Gate]) -> Callable[[Any, Any, Tensor], Tensor | None]:
        def hook(part: Any, args: Any, out: Tensor) -> Tensor | None:
            fits = kind is TokenMap or not any(
                side % patch for side, patch in zip(args[0].shape[2:], part.kernel_size, strict=True)
            )
            return path.passed(kind(part, args[0], out)) if args[0].requires_grad and fits else None

        return hook

    with ExitStack() as hooks:
        for part in module.modules():
            if is_norm(part):
                hooks.callback(part.register_forward_hook(frozen).remove)
            elif type(part) is nn.Linear:
                hooks.callback(part.register_forward_hook(mapped(TokenMap)).remove)
            elif _is_patchwise(part):
                hooks.callback(part.register_forward_hook(mapped(PatchMap)).remove)
        for attention in model.description.attention_sites:
            held = module.get_submodule(attention.path)
            hooks.callback(held.register_forward_pre_hook(_cut_input, with_kwargs=True).remove)
            hooks.callback(held.register_forward_hook(lambda m, a, out: _cut(out)).remove)
        for site, vector in zip(model.description.ffn_sites, added, strict=True):
            held = module.get_submodule(site.path)
            shaped = vector[:, None, None] if site.layout == "NCHW" else vector
            hooks.callback(held.register_forward_pre_hook(_cut_input, with_kwargs=True).remove)
            hooks.callback(held.register_forward_hook(lambda m, a, out, v=shaped: out.detach() + v).remove)
        yield path


def _is_patchwise(part: nn.Module) -> bool:
    return (
        type(part) is nn.Conv2d
        and part.kernel_size == part.stride
        and part.padding == (0, 0)
        and part.dilation == (1, 1)
        and part.groups == 1
    )


def _cut_input(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What is held keeps no graph of its own inside."""
    return _cut(args), {name: _cut(value) for name, value in kwargs.items()}


def _cut(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_cut(one) for one in value)
    return value.detach() if isinstance(value, Tensor) else value


def last_norms(total: Tensor, added: Sequence[Tensor], norms: Sequence[Norm]) -> list[Norm]:
    """The norms that the outputs stand on, none behind another; [] where something passes none of them."""
    found, nodes = reached(total, norms)
    if any(leaves_of(nodes, added)):
        return []
    ends = {norm.y.grad_fn for norm in found}
    if any(ends & reached(norm.z, ())[1] for norm in found):
        return []
    return [norm for norm in norms if norm in found] if all(_of_channels(norm) for norm in found) else []


def _of_channels(norm: Norm) -> bool:
    return len(getattr(norm.module, "normalized_shape", (0,))) == 1


def reached(start: Tensor, stop: Collection[Gate]) -> tuple[list[Any], set[Any]]:
    """The gates at whose output a walk from a tensor back along autograd's graph stops, and all nodes it passes."""
    ends = {gate.y.grad_fn: gate for gate in stop}
    found: list[Any] = []
    seen: set[Any] = set()
    passed: set[Any] = set()
    stack: list[Any] = [start.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in ends:
            found.append(ends[node])
            continue
        passed.add(node)
        stack += [child for child, _ in node.next_functions]
    return found, passed


def leaves_of(nodes: Collection[Any], leaves: Sequence[Tensor]) -> list[bool]:
    """Which leaves are among the nodes of a walk."""
    known = {id(getattr(node, "variable", None)) for node in nodes}
    return [id(leaf) in known for leaf in leaves]
