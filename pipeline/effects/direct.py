"""What a neuron's output direction writes to: the model's outputs, through all that is linear behind it.

With attention and all other FFNs held at their values, and the statistics of norms (and of a CLIP the length of the
embedding) held too, the outputs depend by a linear map on what an FFN adds to the residual stream. Its derivative is
the *direct* effect: what one unit of activation, on every token at once, adds to each output. It is taken at each of
some images and averaged; a norm thereby enters with the mean of its reciprocal deviations.

No family is described here. The model runs as its library wrote it, hooks cut the gradient before and behind attention
and FFNs, and the gradient that is left is the map: patch merging, pooling convolutions and layer scale are linear, and
part of it. The gradient's own graph shows whether all that it passed is linear; where it is not, there is no number,
but a reason.

The derivative of o outputs by d channels takes no o backward passes where it has factors. Of the norm that the readout
stands on, with input z, an output o takes weight[p] R[o] at position p (an image's token), and so of z

    weight[p] / deviation[p] * Rz[o],    Rz[o] = (I - 11^T / D) (gain * R[o])

(without the mean in RMSNorm): all outputs send their gradient into z with one weight a position, and differ by a vector
of channels alone. With v for Rz[o], what arrives at a site, summed over tokens and images, is a linear map of v. On the
residual stream it is a diagonal e * v (the identity, layer scale, a positional convolution), and behind a norm of the
FFN's own output (I - 11^T / d) (e * v). Both are read off a backward pass of v = 1 and of a random v, and certified by
another random v: a linear map that differs from its form differs on almost every v. Three passes then stand for all
outputs. In front of patch merging the map is the product of those in between (`pipeline.effects.chain`). Elsewhere it
is taken channel by channel, or output by output if these are fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.effects.chain import chained
from pipeline.effects.readout import Readout, columns, obstacles
from pipeline.effects.residual_path import Norm, ResidualPath, last_norms, residual_path
from pipeline.models import FfnSite, LoadedModel

MEMORY = 1 << 30  # bytes that graphs and gradients may take, beyond one image's and the result

_MOST_MAPS = 4  # read by one call of a norm; a distilled model has two, of its class and its distillation token
_ROUNDINGS = 8  # the error that passes for rounding, in units of the number format
_AT_MOST = 1e-6  # ... and whatever the format; half precision shows no form
_MAP_BYTES = 1 << 26  # of a norm's gradients at a time, one an output
_GRAPH_COPIES = 6  # what an image takes at most, in bytes of the inputs of all norms behind the first FFN


@dataclass(frozen=True)
class SiteEffect:
    """The direct effect of all neurons of a site on all outputs: `effect` (names, width), output per unit of
    activation; or None, and why.
    """

    layer: int
    effect: Tensor | None
    reason: str = ""


def direct_effects(
    model: LoadedModel,
    readout: Readout,
    images: Iterable[Tensor],
    *,
    memory: int = MEMORY,
    on_step: Callable[[], None] = lambda: None,
) -> list[SiteEffect]:
    """Direct effects of all neurons of all sites on all outputs, averaged over images.

    images: batches (images, 3, height, width) in [0, 1]; some dozens of images are enough for the mean of the norms.
    memory: bytes that the computation may take, beyond one image's forward and the result. on_step: called every few
    backward passes. BadConfig without images.
    """
    return list(site_effects(model, readout, images, memory=memory, on_step=on_step))


def site_effects(
    model: LoadedModel,
    readout: Readout,
    images: Iterable[Tensor],
    *,
    memory: int = MEMORY,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[SiteEffect]:
    """As `direct_effects`, one site's (names, width) made at a time."""
    sites = model.description.ffn_sites
    if readout.reason:
        yield from (SiteEffect(site.layer, None, readout.reason) for site in sites)
        return
    dtype = next(p.dtype for p in model.module.parameters() if p.is_floating_point())
    sums = _Sums(model, readout, memory, on_step)
    count, at_once = 0, 1  # one image first: it shows the model's form, and what an image costs
    for x01 in images:
        rest = x01
        while len(rest):
            some, rest = rest[:at_once], rest[at_once:]
            sums.add(model.normalise(some.to(model.device, dtype)))
            count += len(some)
            at_once = max(1, memory // max(1, _GRAPH_COPIES * sums.bytes_an_image))
    if not count:
        raise BadConfig("no images to freeze the norms at: the probe set is empty.")
    for index, site in enumerate(sites):
        yield _site_effect(model, site, sums.reasons[index], sums.gradient, index, count)
        on_step()


def _site_effect(
    model: LoadedModel, site: FfnSite, reason: str, gradient: Callable[[int], Tensor | None], index: int, count: int
) -> SiteEffect:
    if reason:
        return SiteEffect(site.layer, None, reason)
    total = gradient(index)
    if total is None or not bool(total.any()):
        return SiteEffect(site.layer, None, "the tokens it writes to do not reach the readout along the residual path")
    return SiteEffect(site.layer, (total / count).float() @ columns(model, site).float())


# ------------------------------------------------------------------------------------------------- sums over images


@dataclass
class _SiteSums:
    """The derivative of all outputs by what one FFN adds everywhere, summed over images, in parts that add up."""

    diagonal: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # by map: (d,), e
    centred: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # by map: (d,), e before the mean goes
    channels: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # by map: (D, d)
    outputs: Tensor | None = None  # (names, d)


class _Sums:
    """Sums over images of the derivatives of all sites, graph by graph.

    A map is what the outputs take of the positions of one norm that are read alike: (names, D). Its key is the number
    of the norm's call among the last, and its own number there.
    """

    def __init__(self, model: LoadedModel, readout: Readout, memory: int, on_step: Callable[[], None]) -> None:
        self.model, self.readout, self.memory, self.on_step = model, readout, memory, on_step
        self.sites = [_SiteSums() for _ in model.description.ffn_sites]
        self.reasons = ["" for _ in self.sites]
        self.bytes_an_image = 0
        self.read: dict[tuple[int, int], Tensor] = {}  # float64 (names, D), of the norm's output
        self.through: dict[tuple[int, int], Tensor] = {}  # ... and of its input, but for the reciprocal deviation

    def gradient(self, index: int) -> Tensor | None:
        """(names, d) of one site."""
        parts = self.sites[index]
        total = parts.outputs
        for key, diagonal in parts.diagonal.items():
            total = _plus(total, self.through[key] * diagonal)
        for key, diagonal in parts.centred.items():
            turned = self.through[key] * diagonal
            total = _plus(total, turned - turned.mean(1, keepdim=True))
        for key, channels in parts.channels.items():
            total = _plus(total, self.through[key] @ channels)
        return total

    def add(self, x: Tensor) -> None:
        """Some images more, by one graph. x: normalised (images, 3, height, width)."""
        with torch.inference_mode(False), torch.enable_grad():
            sites = self.model.description.ffn_sites
            added = [torch.zeros(len(columns(self.model, site)), dtype=x.dtype, device=x.device) for site in sites]
            for vector in added:
                vector.requires_grad_()
            with residual_path(self.model, added) as path:
                total = self.readout.outputs(self.model, x, frozen=True).sum(0)  # (names,)
        self.bytes_an_image = sum(norm.z.numel() * norm.z.element_size() for norm in path.norms()) // len(x)
        if total.grad_fn is None:
            return
        new = obstacles(total, added)
        self.reasons = [reason or other for reason, other in zip(self.reasons, new, strict=True)]
        last = last_norms(total, added, path.norms())
        wanted = [index for index, reason in enumerate(self.reasons) if not reason]
        if not wanted:
            return
        weights = self._weights(total, last)
        rest = wanted if not weights else self._by_factors(path, last, weights, added, wanted)
        if rest:
            self._by_outputs(total, added, rest)
        self.on_step()

    # ...................................................................................... what outputs read of a norm

    def _weights(self, total: Tensor, last: Sequence[Norm]) -> dict[tuple[int, int], Tensor]:
        """By map, the weight (positions,) of each position of its norm; {} where what is read has no such factors."""
        found: dict[tuple[int, int], Tensor] = {}
        if not last:
            return found
        mixes = _random((2, len(total)), total)
        # the rounding of a sum over outputs grows with the root of their number
        allowed = _rounding(total) * max(1.0, (len(total) / 1000) ** 0.5)
        outs = [call.y for call in last]
        mixed = [torch.autograd.grad(total, outs, mix, retain_graph=True) for mix in mixes]
        for number, call in enumerate(last):
            # (positions, 2 D): what two random mixtures of outputs take
            rows = torch.cat([call.out_of(gradients[number]) for gradients in mixed], 1).double()
            left = rows.norm(dim=1)
            own = 0
            while bool(left.any()):
                key = (number, own)
                if own == _MOST_MAPS:
                    return {}
                if key not in self.read:
                    self.read[key] = self._map(total, call, int(left.argmax()))
                    self.through[key] = call.through(self.read[key])
                pattern = (mixes.double() @ self.read[key]).flatten()  # (2 D,)
                weight = rows @ pattern / pattern.square().sum()
                off = (rows - weight[:, None] * pattern).norm(dim=1)
                alike = (left > 0) & (off <= allowed * rows.norm(dim=1))
                found[key] = weight * alike
                left = left * ~alike
                own += 1
        return found

    def _map(self, total: Tensor, call: Norm, position: int) -> Tensor:
        """float64 (names, D): what each output takes of one position of a norm."""
        read = torch.empty(len(total), call.out_of(call.y).shape[1], dtype=torch.float64, device=total.device)
        size = call.y.numel() * call.y.element_size()
        for some in torch.arange(len(total), device=total.device).split(max(1, min(256, _MAP_BYTES // size))):
            ones = torch.zeros(len(some), len(total), dtype=total.dtype, device=total.device)
            ones[torch.arange(len(some)), some] = 1
            gradients = torch.autograd.grad(total, call.y, ones, retain_graph=True, is_grads_batched=True)[0]
            for output, gradient in zip(some.tolist(), gradients, strict=True):
                read[output] = call.out_of(gradient)[position]
        return read

    # ............................................................................................. from a norm to sites

    def _by_factors(
        self,
        path: ResidualPath,
        last: Sequence[Norm],
        weights: dict[tuple[int, int], Tensor],
        added: Sequence[Tensor],
        wanted: Sequence[int],
    ) -> list[int]:
        """Adds what follows from the maps; gives the sites that are better taken output by output."""
        seeds: dict[tuple[int, int], Tensor] = {}
        forms: dict[tuple[int, int], dict[int, tuple[str, Tensor]]] = {}
        leaves = [added[index] for index in wanted]
        lacking: dict[tuple[int, int], list[int]] = {}
        chains: dict[tuple[int, int], dict[int, Tensor]] = {}
        for key, weight in weights.items():
            call = last[key[0]]
            seeds[key] = (weight[:, None] * call.scale()).to(call.z)  # (positions, 1)
            forms[key] = dict(zip(wanted, _forms(call, seeds[key], leaves), strict=True))
            others = [index for index in wanted if forms[key][index][0] == "other"]
            chains[key] = self._in_front(path, call, seeds[key], added, others)
            lacking[key] = [index for index in others if index not in chains[key]]
        # what has no closed form is taken channel by channel, if these are fewer than the outputs
        passes = sum(self.read[key].shape[1] for key, some in lacking.items() if some)
        rest = sorted({i for some in lacking.values() for i in some}) if passes >= len(self.readout.names) else []
        for key in forms:
            for index in wanted:
                kind, diagonal = forms[key][index]
                if index in rest or kind == "none":
                    continue
                if kind == "other":
                    if index in chains[key]:
                        _add_to(self.sites[index].channels, key, chains[key][index])
                    continue
                own = self.sites[index].diagonal if kind == "diagonal" else self.sites[index].centred
                _add_to(own, key, diagonal)
            some = [index for index in lacking[key] if index not in rest]
            if some:
                self._by_channels(last[key[0]], key, seeds[key], added, some)
        return rest

    def _in_front(
        self, path: ResidualPath, call: Norm, seed: Tensor, added: Sequence[Tensor], some: Sequence[int]
    ) -> dict[int, Tensor]:
        """The maps (D, d) from v to those of some sites that have one through the gates in between."""
        if not some:
            return {}
        self.on_step()
        probes = _random((2, call.into(call.z).shape[1]), torch.zeros((), dtype=torch.float64, device=seed.device))
        found = chained(path, call, seed, [added[index] for index in some], probes, _rounding(seed))
        self.on_step()
        return {index: channels for index, channels in zip(some, found, strict=True) if channels is not None}

    def _by_channels(
        self, call: Norm, key: tuple[int, int], seed: Tensor, added: Sequence[Tensor], some: Sequence[int]
    ) -> None:
        size = self.read[key].shape[1]
        into = []
        for index in some:
            own = self.sites[index].channels
            own.setdefault(key, seed.new_zeros(size, len(added[index]), dtype=torch.float64))
            into.append(own[key])

        def seeded(channel: int) -> Tensor:
            rows = seed.new_zeros(len(seed), size)
            rows[:, channel] = seed[:, 0]
            return call.shaped(rows)

        self._pull(call.z, [added[index] for index in some], seeded, into)

    def _by_outputs(self, total: Tensor, added: Sequence[Tensor], some: Sequence[int]) -> None:
        into = []
        for index in some:
            if self.sites[index].outputs is None:
                self.sites[index].outputs = total.new_zeros(len(total), len(added[index]))
            into.append(self.sites[index].outputs)

        def seeded(output: int) -> Tensor:
            one = torch.zeros_like(total)
            one[output] = 1
            return one

        self._pull(total, [added[index] for index in some], seeded, into)

    def _pull(
        self, target: Tensor, leaves: Sequence[Tensor], seeded: Callable[[int], Tensor], into: Sequence[Any]
    ) -> None:
        """into[site][i] += the gradient of `target` by the site's leaf, with seed i."""
        for number in range(len(into[0])):
            gradients = torch.autograd.grad(target, leaves, seeded(number), retain_graph=True, allow_unused=True)
            for sums, gradient in zip(into, gradients, strict=True):
                if gradient is not None:
                    sums[number] += gradient
            if number % 16 == 0:
                self.on_step()


def _forms(call: Norm, seed: Tensor, leaves: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    """How the norm's input depends on each leaf: "diagonal" or "centred", with e (d,), "none" or "other".

    seed: (positions, 1), the weight of each position.
    """
    size = call.into(call.z).shape[1]
    ones = torch.ones(1, size, dtype=torch.float64, device=seed.device)
    probes = torch.cat([ones, _random((2, size), ones)])  # (3, D)
    pulled = []
    for probe in probes:
        rows = seed * probe.to(seed)
        gradients = torch.autograd.grad(call.z, leaves, call.shaped(rows), retain_graph=True, allow_unused=True)
        pulled.append([None if gradient is None else gradient.double() for gradient in gradients])
    allowed = _rounding(seed)
    forms = []
    for index, leaf in enumerate(leaves):
        given = [gradients[index] for gradients in pulled]
        if len(leaf) != size:
            reached = any(gradient is not None and bool(gradient.any()) for gradient in given)
            forms.append(("other" if reached else "none", leaf))
            continue
        at_one, at_first, at_second = (torch.zeros_like(ones[0]) if g is None else g for g in given)
        forms.append(_form(at_one, (probes[1], at_first), (probes[2], at_second), allowed))
    return forms


def _form(
    at_one: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], allowed: float
) -> tuple[str, Tensor]:
    """The form of a linear map of (d,) that gives `at_one` for ones, and of each pair the second for the first."""

    def holds(function: Callable[[Tensor], Tensor]) -> bool:
        return all(bool((value - function(v)).norm() <= allowed * value.norm()) for v, value in (first, second))

    if holds(lambda v: at_one * v):
        return "diagonal", at_one
    # (I - 11^T / d) (e * v): ones give e less its mean, the first v gives the mean, the second certifies
    v, value = first
    line = v - v.mean()
    mean = (value - _less_mean(at_one * v)) @ line / line.square().sum()
    diagonal = at_one + mean
    if holds(lambda v: _less_mean(diagonal * v)):
        return "centred", diagonal
    return "other", at_one


def _less_mean(x: Tensor) -> Tensor:
    return x - x.mean()


def _add_to(sums: dict[tuple[int, int], Tensor], key: tuple[int, int], part: Tensor) -> None:
    sums[key] = sums[key] + part if key in sums else part


def _plus(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total + part


def _random(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """The same numbers each time, in the format and on the device of `like`."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(like)


def _rounding(like: Tensor) -> float:
    return min(_ROUNDINGS * torch.finfo(like.dtype).eps, _AT_MOST)
