"""How the outputs depend on FFNs in front of patch merging: gate by gate, without a backward pass a channel.

Behind the last norm every output sends one vector v of channels into the residual stream, with one weight a position
(`pipeline.effects.direct`). At a gate further in front (a norm, a linear map of tokens or patches) there arrives again
a weight a position times T v, with one matrix T or a few: each of the four tokens of a patch has its own. A gate's map
turns T into that of its input. So only weights are read off backward passes; the matrices are products of the maps.

Which matrix a position takes is not known but seen: two random v are pulled back to every gate, and at each position
compared with T v for the matrices that lead there. Where some position takes none, the gate is left out; it is then
passed like any other operation. A site's sum over tokens is linear in what is taken by the gates in front of which it
lies, and mostly sum_q e_q * v_q, v_q being the part of v that belongs to the q-th token of a patch. The e_q are read
off as many passes, and certified by two random v. Where that fails, there is no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.effects.residual_path import Gate, Norm, ResidualPath, closed, leaves_of, reached

_MOST_MAPS = 64  # of a gate: its positions in a patch, of a patch, of a patch


@dataclass(eq=False)
class _Map:
    """What some positions of a gate take of v: `weight[p] T v` of its input, D numbers each."""

    gate: Gate
    weight: Tensor  # (positions, 1), 0 at those that take another
    pattern: Tensor  # float64 (2, D): T v of the two random v
    parent: _Map | None = None  # whose T this one's follows from; None: T = 1
    block: slice = field(default_factory=lambda: slice(None))  # which of the parent's channels this gate's output takes
    kept: Tensor | None = None

    def matrix(self, size: int) -> Tensor:
        """T transposed, float64 (size, D), size being that of v."""
        if self.parent is None:
            return torch.eye(size, dtype=torch.float64, device=self.pattern.device)
        if self.parent.kept is None:  # others follow from it too
            self.parent.kept = self.parent.matrix(size)
        return self.gate.through(self.parent.kept[:, self.block])


def chained(
    path: ResidualPath, base: Norm, seed: Tensor, leaves: Sequence[Tensor], probes: Tensor, allowed: float
) -> list[Tensor | None]:
    """Of each leaf the linear map from v to the gradient by it, transposed, float64 (D, d); None where it has not this
    form.

    base: the norm into whose input all outputs send v (D,), with the weight `seed` (positions, 1). probes: float64
    (2, D), two random v. allowed: the relative error that passes for rounding.
    """
    maps: dict[Gate, list[_Map]] = {base: [_Map(base, seed, probes)]}
    nodes = reached(base.z, ())[1]
    gates = [gate for gate in path.gates if gate.y.grad_fn in nodes]
    pulled = _pulled(base, seed, list(probes), [gate.y for gate in gates])
    for gate, gradients in reversed(list(zip(gates, pulled, strict=True))):
        given = [gradient for gradient in gradients if gradient is not None]
        if len(given) == len(probes) and any(bool(gradient.any()) for gradient in given):
            rows = torch.stack([gate.out_of(gradient).double() for gradient in given], 1)  # (positions, 2, D')
            found = _explained(gate, rows, _leading_to(gate, maps), allowed)
            if found:
                maps[gate] = found
    return _leaves(maps, leaves, len(probes[0]), allowed)


def _pulled(gate: Gate, weight: Tensor, vectors: Sequence[Tensor], into: Sequence[Tensor]) -> list[list[Tensor | None]]:
    """Of each tensor the gradients of the gate's input by it, with each vector (D,) as often as a position weighs."""
    if not into:
        return []
    each = []
    for vector in vectors:
        seed = gate.shaped(weight * vector.to(weight))
        each.append(torch.autograd.grad(gate.z, into, seed, retain_graph=True, allow_unused=True))
    return [list(gradients) for gradients in zip(*each, strict=True)]


def _leading_to(gate: Gate, maps: dict[Gate, list[_Map]]) -> list[_Map]:
    """The maps of the gates that this one leads to without another in between."""
    leading = []
    for behind, some in maps.items():
        if gate.y.grad_fn in reached(behind.z, [other for other in maps if other is not behind])[1]:
            leading += some
    return leading


def _explained(gate: Gate, rows: Tensor, parents: Sequence[_Map], allowed: float) -> list[_Map]:
    """The maps of a gate, which together explain all its positions; [] where none do. rows: (positions, 2, D')."""
    size = rows.shape[2]
    choices = [
        (parent, slice(first, first + size))
        for parent in parents
        if parent.pattern.shape[1] % size == 0
        for first in range(0, parent.pattern.shape[1], size)
    ]
    if not choices:
        return []
    flat = rows.flatten(1)
    patterns = torch.stack([parent.pattern[:, block].flatten() for parent, block in choices])  # (choices, 2 D')
    squares = patterns.square().sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    weights = flat @ patterns.T / squares  # (positions, choices)
    best = (weights.square() * squares).argmax(1)  # what is left is least
    weight = weights.gather(1, best[:, None])
    if bool(((flat - weight * patterns[best]).norm(dim=1) > allowed * flat.norm(dim=1)).any()):
        return []
    taken = [int(choice) for choice in best[weight[:, 0] != 0].unique()]
    if len(taken) > _MOST_MAPS:
        return []
    scale = gate.scale()
    found = []
    for choice in taken:
        parent, block = choices[choice]
        own = weight * (best == choice)[:, None]
        own = own if scale is None else own * scale
        found.append(_Map(gate, own.to(gate.z), gate.through(parent.pattern[:, block]), parent, block))
    return found


def _leaves(maps: dict[Gate, list[_Map]], leaves: Sequence[Tensor], size: int, allowed: float) -> list[Tensor | None]:
    totals: list[Tensor | None] = [leaf.new_zeros(size, len(leaf), dtype=torch.float64) for leaf in leaves]
    for gate, some in maps.items():
        nodes = reached(gate.z, [other for other in maps if other is not gate])[1]
        direct = [index for index, leads in enumerate(leaves_of(nodes, leaves)) if leads and totals[index] is not None]
        for length in sorted({len(leaves[index]) for index in direct}):
            alike = [index for index in direct if len(leaves[index]) == length]
            with closed(maps.keys()):  # what passes another of them is that one's part
                for one in some:
                    found = _blocks(one, [leaves[index] for index in alike], length, allowed)
                    _add(totals, alike, found, one, size)
    return totals


def _add(
    totals: list[Tensor | None], alike: Sequence[int], found: Sequence[Tensor | None], one: _Map, size: int
) -> None:
    """Adds what the leaves `alike` take by one map; found: of each, (blocks, d), or None where it has not the form."""
    matrix: Tensor | None = None
    for index, blocks in zip(alike, found, strict=True):
        total = totals[index]
        if blocks is None or total is None:
            totals[index] = None
        elif bool(blocks.any()):
            matrix = one.matrix(size).unflatten(1, blocks.shape) if matrix is None else matrix
            totals[index] = total + torch.einsum("vqd,qd->vd", matrix, blocks)


def _blocks(one: _Map, leaves: Sequence[Tensor], length: int, allowed: float) -> list[Tensor | None]:
    """Of each leaf, all of one length d, what sum_q e_q * v_q it takes of the map: e, float64 (blocks, d)."""
    size = one.pattern.shape[1]
    count = size // length if size % length == 0 else 0
    ones = torch.eye(count, dtype=torch.float64).repeat_interleave(length, 1)  # (blocks, D)
    checks = torch.randn(2, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    vectors = [vector.to(one.weight.device) for vector in (*ones, *checks)]
    found: list[Tensor | None] = []
    for gradients in _pulled(one.gate, one.weight, vectors, leaves):
        given = torch.stack([leaves[0].new_zeros(length) if g is None else g for g in gradients]).double()
        read, checked = given[:count], given[count:]
        holds = _holds(read, vectors[count:], checked, allowed) if count else not bool(checked.any())
        found.append((read if count else given.new_zeros(0, length)) if holds else None)
    return found


def _holds(read: Tensor, vectors: Sequence[Tensor], checked: Tensor, allowed: float) -> bool:
    """Whether each vector v gives its gradient in `checked` as sum_q e_q * v_q. read: e, (blocks, d)."""
    off = [value - (read * vector.view(read.shape)).sum(0) for vector, value in zip(vectors, checked, strict=True)]
    return all(bool(one.norm() <= allowed * value.norm()) for one, value in zip(off, checked, strict=True))
