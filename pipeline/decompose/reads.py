"""Which heads read a neuron: what it passes through the values of each head, one hop.

A neuron writes along one direction into the residual stream; a later head takes what lies there into its values and
passes it on. With the head's attention weights and the norms' statistics held, and with all other attention and FFNs
held between the neuron and the head, that is linear in the neuron's activation: activation times the derivative, by
it, of the head's contribution along a direction. After the second-order effects of Gandelsman et al. (2406.04341,
section 3), here in every family and for a head by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.decompose.attention import FrozenMap
from pipeline.decompose.components import Level
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.head_maps import Recorded
from pipeline.decompose.maps import Pulled, contributions_of, pull_back, value_map
from pipeline.decompose.replay import Replay, Written, written_values
from pipeline.heap import Heap
from pipeline.hooks.activations import sequence
from pipeline.models import AttentionSite, FfnSite, LoadedModel, ModelDescription

FEW = (2, 6, 18, 40)  # columns with which the factors of a derivative are looked for
EXACT = {torch.float32: 1e-6, torch.float64: 1e-13}

OnStep = Callable[[], None]


def do_nothing() -> None:
    """No one listens."""


@dataclass(frozen=True)
class Passed:
    """What a head contributes along its direction, and how much of it each neuron passes through it.

    head: its number, counted over all sites; own: (images,), its contribution; neurons: (images, neurons), of all FFNs
    in their order.
    """

    head: int
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
    """Means and squared deviations, over images, of what neurons pass through heads, batch by batch (Chan et al.).

    images: (heads,), how many. mean, scatter: (heads, neurons). own_mean, own_scatter: (heads,), of the heads'
    contributions. Float64: 16 bytes a head and neuron.
    """

    def __init__(self, heads: int, neurons: int) -> None:
        self.images = torch.zeros(heads, dtype=torch.float64)
        self.mean, self.scatter = torch.zeros(2, heads, neurons, dtype=torch.float64)
        self.own_mean, self.own_scatter = torch.zeros(2, heads, dtype=torch.float64)

    def update(self, heads: Iterable[Passed]) -> None:
        """Take in some images, of all heads or of some. One head's neurons are held at a time."""
        for passed in heads:
            head = passed.head
            neurons, own = passed.neurons.to("cpu", torch.float64), passed.own.to("cpu", torch.float64)
            before, new = self.images[head].clone(), float(len(own))
            for mean, scatter, values in (
                (self.mean, self.scatter, neurons),
                (self.own_mean, self.own_scatter, own),
            ):
                centre = values.mean(0)
                squares = (values - centre).square().sum(0)
                between = centre - mean[head]
                scatter[head] += squares + before * new / (before + new) * between.square()
                mean[head] += new / (before + new) * between
            self.images[head] += new

    def shares(self, neurons: slice = slice(None)) -> Tensor:
        """How much each head reads each of some neurons, (heads, neurons): the ratio of standard deviations over
        images; 0 for a head whose contribution does not change.
        """
        own = self.own_scatter[:, None]
        changes = (own > 1e-20 * (self.images * self.own_mean.square())[:, None]) & (own > 0)
        tiny = torch.finfo(own.dtype).tiny
        return torch.where(changes, self.scatter[:, neurons] / own.clamp_min(tiny), 0.0).sqrt()

    def readers(self, model: LoadedModel, count: int = 3) -> Readers:
        """For each neuron the heads that read it most, at most `count`."""
        shares, heads, first = [], [], 0
        for ffn in model.description.ffn_sites:
            own = self.shares(slice(first, first + ffn.width))
            first += ffn.width
            most = own.topk(min(count, len(own)), dim=0)
            shares.append(most.values)
            heads.append(most.indices.int())
        return Readers(torch.cat(heads, 1), torch.cat(shares, 1))


@dataclass(frozen=True)
class Readers:
    """The heads that read each neuron most: head, int32 (count, neurons), and share, float64; neurons of all FFNs in
    their order.
    """

    head: Tensor
    share: Tensor

    def rows(self, description: ModelDescription, levels: Sequence[Level]) -> Iterator[Reader]:
        """Each neuron's readers; a head that reads nothing of it is none. levels: of each head."""
        heads = [(site.layer, head) for site in description.attention_sites for head in range(site.heads)]
        first = 0
        for ffn in description.ffn_sites:
            own = slice(first, first + ffn.width)
            first += ffn.width
            rows = zip(self.share[:, own].T.tolist(), self.head[:, own].T.tolist(), strict=True)
            for unit, (shares, heads_of_unit) in enumerate(rows):
                for rank, (share, head) in enumerate(zip(shares, heads_of_unit, strict=True)):
                    if share > 0:
                        layer, own_head = heads[head]
                        yield Reader(ffn.layer, unit, rank, layer, own_head, share, levels[head])

    def arrays(self) -> dict[str, np.ndarray]:
        return {"head": self.head.numpy(), "share": self.share.numpy()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Readers:
        return cls(torch.from_numpy(np.array(arrays["head"])), torch.from_numpy(np.array(arrays["share"])))


def reads(
    contributing: Contributing,
    batches: Iterable[Tensor],
    axes: Tensor,
    levels: Sequence[Level] | None = None,
    *,
    without_path: int | None = None,
    on_step: OnStep = do_nothing,
) -> ReadSums:
    """What every neuron passes through every head, over some images; a few dozen are enough.

    batches: (images, 3, height, width), normalised. axes: (heads, d), a direction for each head in the order of sites.
    levels: as in `passed_to_heads`. A vector-Jacobian product a head and batch; where the head has no path one more,
    through the network, and therefore on no more than the first `without_path` images, if that is given. on_step:
    called after each head. Raises what `passed_to_heads` raises.
    """
    description = contributing.model.description
    sums = ReadSums(description.heads, description.neurons)

    def take(x: Tensor, heads: Collection[int] | None) -> None:
        if len(x) and (heads is None or heads):
            sums.update(_stepping(passed_to_heads(contributing, x, axes, levels, heads), on_step))

    left = without_path
    for x in batches:
        contributing.look_at(x)
        few = len(x) if left is None else min(left, len(x))
        take(x[:few], None)
        take(x[few:], contributing.heads_with_path(levels))
        left = None if left is None else left - few
    return sums


def _stepping(passed: Iterable[Passed], on_step: OnStep) -> Iterator[Passed]:
    for one in passed:
        yield one
        on_step()


def passed_to_heads(
    contributing: Contributing,
    x: Tensor,
    axes: Tensor,
    levels: Sequence[Level] | None = None,
    chosen: Collection[int] | None = None,
) -> Iterator[Passed]:
    """For each head, in the order of sites, what it contributes along its axis and what neurons pass through it.

    Arguments as in `reads`; levels: of each head, those at which it contributes where None. chosen: numbers of heads,
    all where None. BadConfig where axes or levels are not one a head, or for the level gated; UnknownFamily as
    `decompose`.
    """
    contributing.look_at(x)
    model, closed = contributing.model, contributing.paths.closed
    heads = [(site, head) for site in model.description.attention_sites for head in range(site.heads)]
    levels = contributing.levels[: len(heads)] if levels is None else levels
    _check(model, axes, levels, len(heads))
    with torch.inference_mode(False), torch.enable_grad():
        recorded = Recorded(contributing, x)
        written = written_values(model, recorded.cache, recorded.x)
        along = recorded.pulled_along(axes.to(x)) if closed and Level.DIRECT in levels else None
        own = {} if along is None else _own(model, recorded.traced(Level.DIRECT), along, len(x))
        writing, heap = _Writing(model, written), Heap()
        first = 0
        for site in model.description.attention_sites:
            numbers = range(first, first + site.heads)
            first += site.heads
            made, contributed, seeds = value_map(model, site), [], []
            of_site = [number for number in numbers if chosen is None or number in chosen]
            for number in of_site:
                head, level = number - numbers.start, levels[number]
                if level == Level.DIRECT and along is not None and site.path in along.heads:
                    contribution, pulled = own[site.path][:, head], along.values[made.path]
                else:
                    traced = recorded.traced(level)
                    contribution, pulled = _through_the_network(model, site, head, axes[number], traced)
                contributed.append(contribution)
                seeds.append([None if one is None else _only(one, made, site.heads, head) for one in pulled])
                heap.keep_small()
            neurons = writing.neurons(site, made.path, seeds, len(x))
            yield from (Passed(*passed) for passed in zip(of_site, contributed, neurons, strict=True))


def _check(model: LoadedModel, axes: Tensor, levels: Sequence[Level], heads: int) -> None:
    if len(axes) != heads or len(levels) != heads:
        raise BadConfig(
            f"{model.description.slug} has {heads} heads: expected a direction and a level for each, not "
            f"{len(axes)} and {len(levels)}."
        )
    if Level.GATED in levels:
        raise BadConfig(f"{model.description.slug}: at the level {Level.GATED.value!r} heads read through FFNs too.")


def _own(model: LoadedModel, traced: Replay, pulled: Pulled, images: int) -> dict[str, Tensor]:
    """What heads contribute along their axes, (images, heads) a site."""
    sites = [site for site in model.description.attention_sites if site.path in pulled.heads]
    return {site.path: contributions_of(model, site, traced, pulled) for site in sites}


def _through_the_network(
    model: LoadedModel, site: AttentionSite, head: int, axis: Tensor, traced: Replay
) -> tuple[Tensor, list[Tensor | None]]:
    """What a head contributes along its axis, (images,), and the derivative of that by the values of its site."""
    pulled = pull_back(traced, axis.to(traced.representation).expand_as(traced.representation), {site.path})
    made = value_map(model, site)
    return contributions_of(model, site, traced, pulled)[:, head], pulled.values[made.path]


def _only(values: Tensor, made: FrozenMap, heads: int, head: int) -> Tensor:
    """The values of one head; those of all others zero."""
    flat = values.flatten(-2) if made.axis < 0 else values.flatten(1, 2)
    width = flat.shape[made.axis] // heads
    alone = torch.zeros_like(flat)
    part = flat.narrow(made.axis, head * width, width)
    alone.narrow(made.axis, head * width, width).copy_(part)
    return alone.reshape(values.shape)


class _Writing:
    """Carries derivatives by values back to neurons.

    The derivative by what an FFN writes, (images, tokens, channels), has few dimensions: those of the head's values;
    one where the head passes its tokens on along one direction, and a few where patches are merged behind it. Where
    they are merged between the FFN and the head, that holds for the tokens of one place within a merged patch: places
    are taken apart. Hidden vectors are summed over tokens with the factors, of all heads of a site at a time, and only
    these sums meet the FFN's output map: the product with this map for every token is not made.
    """

    def __init__(self, model: LoadedModel, written: Written) -> None:
        self.model, self.written = model, written
        self.calls = [
            (ffn, leaf, hidden)
            for ffn in model.description.ffn_sites
            for leaf, hidden in zip(written.outputs[ffn.path], written.hidden[ffn.path], strict=True)
        ]
        self.grids = [grid for ffn in model.description.ffn_sites for grid in ffn.grids]
        offsets, first = {}, 0
        for ffn in model.description.ffn_sites:
            offsets[ffn.path] = slice(first, first + ffn.width)
            first += ffn.width
        self.places, self.width = offsets, first

    def neurons(
        self, site: AttentionSite, path: str, seeds: Sequence[Sequence[Tensor | None]], images: int
    ) -> list[Tensor]:
        """(images, neurons) of each head: hidden vectors times their derivatives, summed over tokens and calls.

        path: of the map that makes the values; seeds: of each head, and each call of the map.
        """
        like = self.calls[0][1].detach()
        totals = [like.new_zeros(images, self.width) for _ in seeds]
        factored: dict[int, list[tuple[int, _Factors]]] = {}  # by call of an FFN: heads and their factors
        for head, of_calls in enumerate(seeds):
            known: dict[tuple[int, torch.Size], _Factors | None] = {}
            for call, gradient in enumerate(self._pulled(path, of_calls)):
                if gradient is None:
                    continue
                ffn, _, hidden = self.calls[call]
                # where nothing scales channels, all FFNs of a stage have the same derivative
                key = (gradient.data_ptr(), gradient.shape)
                if key not in known:
                    known[key] = _factors(self._placed(sequence(gradient, ffn), call, site))
                factors = known[key]
                if factors is None:
                    back = sequence(gradient, ffn) @ self._weight(ffn)
                    totals[head][:, self.places[ffn.path]] += (sequence(hidden, ffn) * back).sum(1)
                else:
                    factored.setdefault(call, []).append((head, factors))
        for call, of_heads in factored.items():
            ffn, _, hidden = self.calls[call]
            by_token = torch.cat([factors[0] for _, factors in of_heads], 3)  # (places, images, tokens, sum of r)
            by_channel = torch.cat([factors[1] for _, factors in of_heads], 1) @ self._weight(ffn)
            placed = self._placed(sequence(hidden, ffn), call, site)  # (places, images, tokens, width)
            total = like.new_zeros(images, placed.shape[3], by_channel.shape[1])
            for own, tokens, channels in zip(placed, by_token, by_channel, strict=True):
                total += own.mT @ tokens * channels.mT  # (images, width, sum of r)
            parts = total.split([factors[1].shape[1] for _, factors in of_heads], 2)
            for (head, _), part in zip(of_heads, parts, strict=True):
                totals[head][:, self.places[ffn.path]] += part.sum(2)
        return totals

    def _placed(self, rows: Tensor, call: int, site: AttentionSite) -> Tensor:
        """Tokens of a call (images, tokens, d) by their place within the patch that is one token where the head is:
        (places, images, tokens of a place, d). One place where the grids do not say.
        """
        ffn, (height, width) = self.calls[call][0], self.grids[call]
        merged, across = height // site.grids[0][0], width // site.grids[0][1]
        fits = (merged * site.grids[0][0], across * site.grids[0][1]) == (height, width)
        if ffn.prefix_tokens or site.prefix_tokens or not fits or merged * across == 1:
            return rows[None]
        apart = rows.unflatten(1, (height // merged, merged, width // across, across))
        return apart.permute(2, 4, 0, 1, 3, 5).flatten(3, 4).flatten(0, 1)

    def _pulled(self, path: str, seeds: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Derivatives by what every call of an FFN writes, None where nothing of it is read."""
        pairs = [
            (value, seed)
            for value, seed in zip(self.written.values[path], seeds, strict=True)
            if seed is not None and value.grad_fn is not None
        ]
        leaves = [leaf for _, leaf, _ in self.calls]
        if not pairs:
            return [None] * len(leaves)
        values, of = zip(*pairs, strict=True)
        grads = torch.autograd.grad(values, leaves, of, retain_graph=True, allow_unused=True)
        return [None if grad is None else grad.detach() for grad in grads]

    def _weight(self, ffn: FfnSite) -> Tensor:
        """An FFN's output map: (channels, width)."""
        weight = self.model.module.get_submodule(ffn.post).weight
        assert isinstance(weight, Tensor)
        return weight.detach().flatten(1)


_Factors = tuple[Tensor, Tensor]  # (places, images, tokens, r) and (places, r, channels)


def _factors(gradient: Tensor) -> _Factors | None:
    """Factors of few columns whose product is `gradient`, (places, images, tokens, channels), to rounding; None where
    there are none (Halko, Martinsson and Tropp 2011).
    """
    rows = gradient.flatten(1, 2)
    size, tolerance = float(rows.norm()), EXACT[rows.dtype]
    for columns in FEW:
        if 2 * columns > min(rows.shape[1:]):
            return None
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(rows.shape[2], columns, generator=generator, dtype=torch.float64).to(rows)
        range_of = torch.linalg.qr(rows @ drawn).Q
        left, values, right = torch.linalg.svd(range_of.mT @ rows, full_matrices=False)
        kept = max(1, int((values > tolerance * values.max()).sum(1).max()))
        if kept == columns:
            continue
        first, second = range_of @ left[:, :, :kept] * values[:, None, :kept], right[:, :kept]
        if float((rows - first @ second).norm()) <= 4 * tolerance * size:
            return first.unflatten(1, gradient.shape[1:3]), second
    return None
