"""Which heads read a neuron: what it passes through the values of each head, one hop.

A neuron writes along one direction into the residual stream; a later head takes what lies there into its values and
passes it on. With the head's attention weights and the norms' statistics held, and with all other attention and FFNs
held between the neuron and the head, that is linear in the neuron's activation: activation times the derivative, by
it, of the head's contribution along a direction. After the second-order effects of Gandelsman et al. (2406.04341,
section 3), here in every family and for a head by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.decompose.activation_cache import ActivationCache, cache_activations
from pipeline.decompose.attention import FrozenMap, per_head
from pipeline.decompose.components import Level, check_linear
from pipeline.decompose.maps import check_reproduced, value_map
from pipeline.decompose.replay import Calls, Replay, Written, replay, written_values
from pipeline.hooks.activations import sequence
from pipeline.models import AttentionSite, LoadedModel


@dataclass(frozen=True)
class Passed:
    """What a head contributes along its direction, and how much of it each neuron passes through it.

    own: (images,), the head's contribution; neurons: (images, neurons), of all FFNs in their order.
    """

    own: Tensor
    neurons: Tensor


@dataclass(frozen=True)
class Reader:
    """A head that reads a neuron, and how much.

    share: standard deviation over images of what the neuron passes through the head's
    values, over that of the head's contribution; both along the head's direction.
    """

    layer: int  # of the neuron's FFN
    unit: int
    rank: int
    reader_layer: int
    reader_head: int
    share: float
    level: Level


class ReadSums:
    """Means and squared deviations, over images, of what neurons pass through heads; sums that merge (Chan et al.).

    images: how many. mean, scatter: (heads, neurons). own_mean, own_scatter: (heads,), of the heads' contributions.
    Float64: 16 bytes a head and neuron.
    """

    FIELDS = ("images", "mean", "scatter", "own_mean", "own_scatter")

    def __init__(self, heads: int, neurons: int) -> None:
        self.images = torch.zeros((), dtype=torch.float64)
        self.mean, self.scatter = torch.zeros(2, heads, neurons, dtype=torch.float64)
        self.own_mean, self.own_scatter = torch.zeros(2, heads, dtype=torch.float64)

    def update(self, heads: Iterable[Passed]) -> None:
        """Take in some images: all heads, in their order."""
        batch = ReadSums(*self.mean.shape)
        for head, passed in enumerate(heads):
            neurons, own = passed.neurons.to("cpu", torch.float64), passed.own.to("cpu", torch.float64)
            batch.images = torch.tensor(float(len(own)), dtype=torch.float64)
            batch.mean[head], batch.own_mean[head] = neurons.mean(0), own.mean()
            batch.scatter[head] = (neurons - batch.mean[head]).square().sum(0)
            batch.own_scatter[head] = (own - batch.own_mean[head]).square().sum()
        self.merge(batch)

    def merge(self, other: ReadSums) -> None:
        total = self.images + other.images
        if float(total) == 0:
            return
        weight, part = self.images * other.images / total, other.images / total
        for mean, scatter in (("mean", "scatter"), ("own_mean", "own_scatter")):
            between = getattr(other, mean) - getattr(self, mean)
            setattr(self, scatter, getattr(self, scatter) + getattr(other, scatter) + weight * between.square())
            setattr(self, mean, getattr(self, mean) + part * between)
        self.images = total

    def shares(self) -> Tensor:
        """How much each head reads each neuron, (heads, neurons): the ratio of standard deviations over images; 0 for a
        head whose contribution does not change.
        """
        own = self.own_scatter[:, None]
        changes = own > 1e-20 * self.images * self.own_mean.square()[:, None]
        return torch.where(changes & (own > 0), self.scatter / own.clamp_min(torch.finfo(own.dtype).tiny), 0.0).sqrt()

    def readers(self, model: LoadedModel, levels: Sequence[Level], count: int = 3) -> Iterator[Reader]:
        """For each neuron the heads that read it most, at most `count`; a head that reads nothing of it is none.

        levels: of each head, as given to `reads`.
        """
        heads = [(site.layer, head) for site in model.description.attention_sites for head in range(site.heads)]
        most, strongest = self.shares().topk(min(count, len(heads)), dim=0)  # (count, neurons)
        first = 0
        for ffn in model.description.ffn_sites:
            own = slice(first, first + ffn.width)
            first += ffn.width
            rows = zip(most[:, own].T.tolist(), strongest[:, own].T.tolist(), strict=True)
            for unit, (shares, heads_of_unit) in enumerate(rows):
                for rank, (share, head) in enumerate(zip(shares, heads_of_unit, strict=True)):
                    if share > 0:
                        layer, own_head = heads[head]
                        yield Reader(ffn.layer, unit, rank, layer, own_head, share, levels[head])


def reads(model: LoadedModel, batches: Iterable[Tensor], axes: Tensor, levels: Sequence[Level]) -> ReadSums:
    """What every neuron passes through every head, over some images; a few dozen are enough.

    batches: (images, 3, height, width), normalised. axes: (heads, d), a direction for each head in the order of sites.
    levels: of each head, that at which it contributes. Two vector-Jacobian products a head and batch. Raises what
    `passed_to_heads` raises.
    """
    sums = ReadSums(model.description.heads, model.description.neurons)
    for number, x in enumerate(batches):
        sums.update(passed_to_heads(model, x, axes, levels, certify=number == 0))
    return sums


def passed_to_heads(
    model: LoadedModel, x: Tensor, axes: Tensor, levels: Sequence[Level], *, certify: bool = True
) -> Iterator[Passed]:
    """For each head, in the order of sites, what it contributes along its axis and what neurons pass through it.

    Arguments as in `reads`; certify: as in `decompose`. BadConfig where axes or levels are not one a head, or for the
    level gated; UnknownFamily as `decompose`.
    """
    heads = [(site, head) for site in model.description.attention_sites for head in range(site.heads)]
    _check(model, axes, levels, len(heads))
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone()
        cache = cache_activations(model, x, attention=True, gates=False)
        if certify:
            check_linear(model, x, cache)
        traced = {level: _traced(model, x, cache, level) for level in sorted(set(levels))}
        written = written_values(model, cache, x)
    for (site, head), axis, level in zip(heads, axes, levels, strict=True):
        yield _passed(model, site, head, axis, traced[level], written)


def _check(model: LoadedModel, axes: Tensor, levels: Sequence[Level], heads: int) -> None:
    if len(axes) != heads or len(levels) != heads:
        raise BadConfig(
            f"{model.description.slug} has {heads} heads: expected a direction and a level for each, not "
            f"{len(axes)} and {len(levels)}."
        )
    if Level.GATED in levels:
        raise BadConfig(f"{model.description.slug}: at the level {Level.GATED.value!r} heads read through FFNs too.")


def _traced(model: LoadedModel, x: Tensor, cache: ActivationCache, level: Level) -> Replay:
    traced = replay(model, cache, x, cache.convolutions, None, cache.ffns, cut=level == Level.DIRECT)
    check_reproduced(model, cache, traced)
    return traced


def _passed(
    model: LoadedModel, site: AttentionSite, head: int, axis: Tensor, traced: Replay, written: Written
) -> Passed:
    z, made = traced.representation, value_map(model, site)
    module = model.module.get_submodule(site.path)
    values, heads = traced.values[made.path], traced.heads[site.path]
    seed = axis.to(z).expand_as(z)
    grads = torch.autograd.grad(z, [*values, *heads], seed, retain_graph=True, allow_unused=True)
    own = z.new_zeros(len(z))
    for output, gradient in zip(heads, grads[len(values) :], strict=True):
        if gradient is not None:
            own += per_head(module, output.detach() * gradient, len(z), site.heads)[:, :, head].sum((1, 2))
    pulled = grads[: len(values)]
    seeds = [None if gradient is None else _only(gradient, made, site.heads, head) for gradient in pulled]
    return Passed(own, _neurons(model, written, written.values[made.path], seeds, z))


def _only(values: Tensor, made: FrozenMap, heads: int, head: int) -> Tensor:
    """The values of one head; those of all others zero."""
    flat = values.flatten(-2) if made.axis < 0 else values.flatten(1, 2)
    width = flat.shape[made.axis] // heads
    alone = torch.zeros_like(flat)
    part = flat.narrow(made.axis, head * width, width)
    alone.narrow(made.axis, head * width, width).copy_(part)
    return alone.reshape(values.shape)


def _neurons(
    model: LoadedModel, written: Written, values: Sequence[Tensor], seeds: Sequence[Tensor | None], z: Tensor
) -> Tensor:
    """(images, neurons): hidden vectors times their gradients, summed over tokens and calls."""
    pairs = [
        (value, seed)
        for value, seed in zip(values, seeds, strict=True)
        if seed is not None and value.grad_fn is not None
    ]
    hidden: Calls = written.hidden
    leaves = [value for calls in hidden.values() for value in calls]
    grads: Sequence[Tensor | None] = [None] * len(leaves)
    if pairs:
        outputs, of = zip(*pairs, strict=True)
        grads = torch.autograd.grad(outputs, leaves, of, retain_graph=True, allow_unused=True)
    by_id = {id(leaf): grad for leaf, grad in zip(leaves, grads, strict=True)}
    totals = []
    for ffn in model.description.ffn_sites:
        total = z.new_zeros(len(z), ffn.width)
        for leaf in hidden[ffn.path]:
            gradient = by_id[id(leaf)]
            if gradient is not None:
                total += sequence(leaf.detach() * gradient, ffn).sum(1)
        totals.append(total)
    return torch.cat(totals, dim=1)
