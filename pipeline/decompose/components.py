"""What each component adds to the final representation of some images, at one of three levels.

The replay of a forward is affine in its sources, so that its graph gives everything: contributions to a direction are
sources times one vector-Jacobian product; the vector of a component is this component alone pushed through the linear
part (the derivative, by the direction, of the vector-Jacobian product), which costs no more than the maps that lie
behind the component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, UnknownFamily
from pipeline.decompose.activation_cache import ActivationCache, cache_activations
from pipeline.decompose.attention import channel_axis, output_projection, per_head
from pipeline.decompose.paths import (
    NO_PATHS,
    Paths,
    TokenWeights,
    contributions_along,
    leaves_of,
    nothing,
    token_weights,
    written_nothing,
)
from pipeline.decompose.pruning import Outputs
from pipeline.decompose.replay import Calls, Replay, replay
from pipeline.effects.readout import obstacles
from pipeline.heap import Heap
from pipeline.models import AttentionSite, LoadedModel
from pipeline.models.families import convolution_maps

REPRODUCED = {torch.float32: 1e-4, torch.float64: 1e-10}
"""How far a replay of all sources may be from the representation, relative to its length, before it is refused."""


class Level(StrEnum):
    """Which parts of the network are held at their values for an image, so that the rest is linear.

    Norm statistics always are. DIRECT (0): attention and FFNs. THROUGH (1): attention weights and FFNs; values of
    attention are live. GATED (2): attention weights and the gates of activation functions.
    """

    DIRECT = "direct"
    THROUGH = "through attention"
    GATED = "gated"


@dataclass(frozen=True)
class Component:
    """One summand of a representation: a head, an FFN, a convolution block, the image or the constant.

    layer: index of the attention or FFN site or of the convolution block; head: index of the head; both from 0.
    """

    kind: str  # "head" | "ffn" | "convolution" | "image" | "constant"
    layer: int = -1
    head: int = -1

    @property
    def name(self) -> str:
        """`head/3/1`, `ffn/3`, `image` or `constant`."""
        return "/".join([self.kind, *(str(i) for i in (self.layer, self.head) if i >= 0)])


def components_of(model: LoadedModel) -> tuple[Component, ...]:
    """All components of a model: heads first, then FFNs, both in the order of sites, and what is left."""
    heads = [Component("head", site.layer, h) for site in model.description.attention_sites for h in range(site.heads)]
    ffns = [Component("ffn", site.layer) for site in model.description.ffn_sites]
    blocks = [Component("convolution", block) for block in range(len(convolution_maps(model.module)))]
    return (*heads, *ffns, *blocks, Component("image"), Component("constant"))


def decompose(
    model: LoadedModel,
    x: Tensor,
    level: Level = Level.DIRECT,
    *,
    certify: bool = True,
    idle: frozenset[int] | None = None,
    paths: Paths = NO_PATHS,
) -> Decomposition:
    """The representation of some images as a function of its components.

    x: (images, 3, height, width), normalised, float32 or float64. certify: check that the replay is affine; one batch
    of a model shows it for all. idle: what does not reach the representation, as `Decomposition.idle` of an earlier
    batch has it; found anew where it is None. paths: of the model, at the level direct, for `vectors` alone.
    UnknownFamily where the way to the representation is not linear (max
    pooling, an attention that mixes its heads), with the operation; BadConfig for other number formats.
    """
    level = Level(level)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone()  # a tensor of inference mode could be no part of a gradient
        cache = cache_activations(model, x, attention=level != Level.DIRECT, gates=level == Level.GATED)
        if certify:
            check_linear(model, x, cache)
        decomposition = Decomposition(model, level, x.requires_grad_(), cache, idle, paths)
        if certify and level != Level.DIRECT:
            decomposition.check_affine()
        return decomposition


def check_linear(model: LoadedModel, x: Tensor, cache: ActivationCache) -> None:
    """Raise UnknownFamily where anything outside attention and FFNs is not linear, by the graph of a replay."""
    image, blocks = x.detach().clone().requires_grad_(), _leaves(cache.convolutions)
    heads, ffns = _leaves(cache.heads), _leaves(cache.ffns)
    out = replay(model, cache, image, blocks, heads, ffns).representation
    reasons = obstacles(out, [image, *_flat(blocks), *_flat(heads), *_flat(ffns)]) if out.grad_fn is not None else []
    reason = next((obstacle for obstacle in reasons if obstacle), "")
    if reason:
        raise UnknownFamily(f"{model.description.slug}: the representation is no sum of components: {reason}.")


class Decomposition:
    """The components of the representation of some images at a level; made by `decompose`.

    level: names what all numbers are. components: as `components_of`. adds_up: those whose contributions sum to the
    representation: all at the level direct; elsewhere heads pass on what other components wrote, and are counted in
    series. idle: places of results that do not reach the representation, at the level direct (`pruning.Outputs`): a
    fact of the architecture. paths: at the level direct, of modules whose components come by their formula; in the
    replay these write nothing, so that only its derivatives say something.
    """

    def __init__(
        self,
        model: LoadedModel,
        level: Level,
        x: Tensor,
        cache: ActivationCache,
        idle: frozenset[int] | None = None,
        paths: Paths = NO_PATHS,
    ) -> None:
        self.model, self.level, self.idle, self.paths = model, level, idle, paths
        self.components = components_of(model)
        summands = {
            Level.DIRECT: ("head", "ffn", "convolution", "image", "constant"),
            Level.THROUGH: ("ffn", "convolution", "image", "constant"),
            Level.GATED: ("convolution", "image", "constant"),
        }[level]
        self.adds_up = tuple(component for component in self.components if component.kind in summands)
        self.representation = cache.representation  # (images, d)
        self._x, self._cache = x, cache
        closed = paths.closed
        heads = _leaves(cache.heads, without=closed) if level == Level.DIRECT else None
        ffns = _leaves(cache.ffns, without=closed) if level != Level.GATED else None
        if heads is not None and ffns is not None and closed:
            silent_heads, silent_ffns = leaves_of(model, cache, closed)
            heads = {path: heads.get(path, silent_heads[path]) for path in cache.heads}
            ffns = {path: ffns.get(path, silent_ffns[path]) for path in cache.ffns}
        self._blocks = _leaves(cache.convolutions)
        traced = self._traced(heads, ffns)
        self._z, self._heads, self._ffns = traced.representation, traced.heads, ffns
        if not closed:
            self._check_reproduced()

    def _traced(self, heads: Calls | None, ffns: Calls | None) -> Replay:
        """The replay with its graph; at the level direct without what does not reach the representation."""
        given = (self.model, self._cache, self._x, self._blocks, heads, ffns)
        if heads is None or self.idle == frozenset():
            return replay(*given, projected=self.paths.closed)
        if self.idle is None:
            with Outputs() as seen:
                whole = replay(*given, projected=self.paths.closed)
            if whole.representation.grad_fn is None:
                return whole
            self.idle = seen.without_gradient(whole.representation, _any_direction(whole.representation))
            if not self.idle:
                return whole
        with Outputs(self.idle):
            return replay(*given, projected=self.paths.closed)

    def _check_reproduced(self) -> None:
        error = float(relative(self._z.detach() - self.representation, self.representation).max())
        if not error < REPRODUCED[self._z.dtype]:
            raise UnknownFamily(
                f"{self.model.description.slug}: replayed with its parts held ({self.level.value}), the model gives "
                f"another representation (relative difference {error:.1e}): its form is not what the replay assumes."
            )

    def check_affine(self) -> None:
        """Raise UnknownFamily where sources of the other sign do not move the representation the other way."""
        with torch.no_grad():
            mirrored = self._replayed(-1.0)
        error = float(relative(mirrored + self._z.detach() - 2 * self.constant, self.representation).max())
        if not error < REPRODUCED[self._z.dtype]:
            raise UnknownFamily(
                f"{self.model.description.slug}: with its parts held ({self.level.value}) the model is not linear: "
                f"sources of the other sign leave a relative difference of {error:.1e}."
            )

    @cached_property
    def constant(self) -> Tensor:
        """The constant component (images, d): what is left where image, heads and FFNs are zero: biases, shifts of
        norms, embeddings.
        """
        with torch.inference_mode(False), torch.no_grad():
            return self._replayed(0.0)

    def _replayed(self, factor: float) -> Tensor:
        """(images, d): the replay of all sources times a factor."""
        cache, closed = self._cache, self.paths.closed
        heads = _times(cache.heads, factor) if self.level == Level.DIRECT else None
        ffns = _times(cache.ffns, factor) if self._ffns is not None else None
        blocks = _times(cache.convolutions, factor)
        projected = closed if heads is not None and factor == 0 else frozenset()
        if heads is not None and projected:
            heads |= written_nothing(self.model, cache, projected)
        return replay(
            self.model, cache, self._x.detach() * factor, blocks, heads, ffns, projected=projected
        ).representation

    def scores(self, direction: Tensor) -> Tensor:
        """The contribution of each component along a direction: (images, components).

        direction: (d,), or (images, d), one an image. One vector-Jacobian product for all components.
        """
        seed = direction.to(self._z).expand_as(self._z)
        pulled = self._pulled(seed)
        scores: dict[Component, Tensor] = {}
        for site in self.model.description.attention_sites:
            each = self._by_head(site, pulled.heads[site.path])
            scores |= {Component("head", site.layer, head): of_head for head, of_head in enumerate(each.unbind(1))}
        for ffn in self.model.description.ffn_sites:
            axis = 1 if ffn.layout == "LNC" else 0
            pairs = zip((self._ffns or {}).get(ffn.path, []), pulled.ffns.get(ffn.path, []), strict=True)
            parts = [_by_image(s.detach() * g, axis, len(seed)).sum(1) for s, g in pairs if g is not None]
            scores[Component("ffn", ffn.layer)] = sum(parts, torch.zeros_like(seed[:, 0]))
        for block, path in enumerate(self._blocks):
            pairs = zip(self._blocks[path], pulled.blocks[path], strict=True)
            parts = [_by_image(s.detach() * g, 0, len(seed)).sum(1) for s, g in pairs if g is not None]
            scores[Component("convolution", block)] = sum(parts, torch.zeros_like(seed[:, 0]))
        if pulled.image is not None:
            scores[Component("image")] = (self._x.detach() * pulled.image).flatten(1).sum(1)
        scores[Component("constant")] = (self.constant * seed).sum(1)
        nothing = torch.zeros_like(seed[:, 0])
        return torch.stack([scores.get(component, nothing) for component in self.components], dim=1)

    def head_gradients(self, direction: Tensor) -> dict[str, list[Tensor | None]]:
        """The derivative of the representation along a direction by what each attention's heads write.

        Shaped as `ActivationCache.heads`; None where a call does not reach it. direction: as in `scores`. Of a
        decomposition without paths.
        """
        return self._pulled(direction.to(self._z).expand_as(self._z)).heads

    def vectors(self, components: Sequence[Component] | None = None) -> Tensor:
        """The contributions of some components (default `adds_up`) as vectors: (images, components, d).

        A component that does not reach the representation has zeros. BadConfig for one that the level does not have.
        """
        chosen = self.adds_up if components is None else tuple(components)
        unknown = [component.name for component in chosen if component not in self._known]
        if unknown:
            raise BadConfig(f"No component {', '.join(unknown)} at the level {self.level.value!r}.")
        with torch.inference_mode(False), torch.enable_grad():
            by_path = self._along_paths()
            rest = [component for component in chosen if component not in by_path]
            direction = torch.zeros_like(self._z, requires_grad=True)
            pulled = self._pulled(direction, again=True)
            pushed, heap = {}, Heap()
            for component in rest:
                pushed[component] = self._pushed(component, pulled, direction)
                heap.keep_small()
            return torch.stack([(by_path | pushed)[component] for component in chosen], dim=1)

    @cached_property
    def weights(self) -> TokenWeights:
        """The factors with which what modules with a path write reaches the representation."""
        leaves = {
            (path, call): leaf
            for path, calls in (self._heads | (self._ffns or {})).items()
            if path in self.paths.closed
            for call, leaf in enumerate(calls)
        }
        with torch.inference_mode(False), torch.enable_grad():
            seed = _any_direction(self._z)
            grads = torch.autograd.grad(self._z, list(leaves.values()), seed, retain_graph=True, allow_unused=True)
        gradients = {
            key: torch.zeros_like(leaf) if grad is None else grad
            for (key, leaf), grad in zip(leaves.items(), grads, strict=True)
        }
        return token_weights(self.model, self.paths, gradients, seed)

    def _along_paths(self) -> dict[Component, Tensor]:
        """Contributions by their formula."""
        if not self.paths.closed:
            return {}
        with torch.no_grad():
            along = contributions_along(self.model, self.paths, self._cache, self.weights.of)
        found: dict[Component, Tensor] = {}
        for site in self.model.description.attention_sites:
            if site.path in along:
                of_heads = along[site.path].unbind(1)
                found |= {Component("head", site.layer, head): vector for head, vector in enumerate(of_heads)}
        ffns = [ffn for ffn in self.model.description.ffn_sites if ffn.path in along]
        return found | {Component("ffn", ffn.layer): along[ffn.path] for ffn in ffns}

    @cached_property
    def _known(self) -> frozenset[Component]:
        gone = "ffn" if self.level == Level.GATED else ""
        return frozenset(component for component in self.components if component.kind != gone)

    def reach(self) -> dict[int, tuple[bool, ...]]:
        """For each attention site by its layer, whether a head's output can change the representation at all."""
        seed = _any_direction(self._z)
        pulled = self._pulled(seed)
        reached = {}
        for site in self.model.description.attention_sites:
            touched = torch.zeros(site.heads, dtype=torch.bool, device=seed.device)
            for gradient in pulled.heads[site.path]:
                if gradient is not None:
                    touched |= self._split(site, gradient).ne(0).any(3).any(1).any(0)
            reached[site.layer] = tuple(touched.tolist())
        return reached

    # -------------------------------------------------------------------------------------------- the linear map

    def _pulled(self, seed: Tensor, *, again: bool = False) -> _Gradients:
        """Gradients of <seed, representation> by every source. again: they can be differentiated by the seed."""
        ffns, closed = self._ffns or {}, self.paths.closed
        heads = {path: calls for path, calls in self._heads.items() if path not in closed}
        ffns = {path: calls for path, calls in ffns.items() if path not in closed}
        sources = [self._x, *_flat(self._blocks), *_flat(heads), *_flat(ffns)]
        if self._z.grad_fn is None:
            raise UnknownFamily(f"{self.model.description.slug}: nothing of the image reaches the representation.")
        with torch.inference_mode(False), torch.enable_grad():
            live = [source for source in sources if source.requires_grad]
            grads = torch.autograd.grad(self._z, live, seed, retain_graph=True, create_graph=again, allow_unused=True)
        by_id = {id(source): grad for source, grad in zip(live, grads, strict=True)}

        def of(calls: Calls) -> dict[str, list[Tensor | None]]:
            return {path: [by_id.get(id(source)) for source in tensors] for path, tensors in calls.items()}

        return _Gradients(by_id.get(id(self._x)), of(self._blocks), of(heads), of(ffns))

    def _pushed(self, component: Component, pulled: _Gradients, direction: Tensor) -> Tensor:
        """(images, d): the linear part of the replay, of this component alone."""
        if component.kind == "constant":
            return self.constant
        outputs: list[Tensor] = []
        sources: list[Tensor] = []
        for source, gradient in self._alone(component, pulled):
            if gradient is not None and gradient.requires_grad:
                outputs.append(gradient)
                sources.append(source)
        if not outputs:
            return torch.zeros_like(self.representation)
        (vector,) = torch.autograd.grad(
            outputs, direction, sources, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return vector

    def _alone(self, component: Component, pulled: _Gradients) -> list[tuple[Tensor, Tensor | None]]:
        """The sources of one component, all others in them zero, with their gradients."""
        if component.kind == "image":
            return [(self._x.detach(), pulled.image)]
        if component.kind == "convolution":
            path = list(self._blocks)[component.layer]
            return [(s.detach(), g) for s, g in zip(self._blocks[path], pulled.blocks[path], strict=True)]
        if component.kind == "ffn":
            path = self.model.description.ffn_sites[component.layer].path
            return [(s.detach(), g) for s, g in zip((self._ffns or {})[path], pulled.ffns[path], strict=True)]
        site = self.model.description.attention_sites[component.layer]
        axis = channel_axis(output_projection(self.model.module.get_submodule(site.path)))
        alone_with_gradients = []
        for source, gradient in zip(self._heads[site.path], pulled.heads[site.path], strict=True):
            alone = torch.zeros_like(source)
            width = source.shape[axis] // site.heads
            own = source.detach().narrow(axis, component.head * width, width)
            alone.narrow(axis, component.head * width, width).copy_(own)
            alone_with_gradients.append((alone, gradient))
        return alone_with_gradients

    def _by_head(self, site: AttentionSite, gradients: list[Tensor | None]) -> Tensor:
        """(images, heads): sum over tokens and channels of a head's output times its gradient."""
        total = self.representation.new_zeros(len(self._x), site.heads)
        for source, gradient in zip(self._heads[site.path], gradients, strict=True):
            if gradient is not None:
                total += self._split(site, source.detach() * gradient).sum((1, 3))
        return total

    def _split(self, site: AttentionSite, tensor: Tensor) -> Tensor:
        """(images, positions, heads, head_dim) of a tensor shaped as an attention's heads; windows count on."""
        module = self.model.module.get_submodule(site.path)
        return per_head(module, tensor, len(self._x), site.heads)


@dataclass
class _Gradients:
    image: Tensor | None
    blocks: dict[str, list[Tensor | None]]
    heads: dict[str, list[Tensor | None]]
    ffns: dict[str, list[Tensor | None]]


def _any_direction(z: Tensor) -> Tensor:
    """A random direction an image: what is orthogonal to it does not reach the representation."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z)


def _leaves(calls: Calls, without: frozenset[str] = frozenset()) -> Calls:
    return {
        path: [tensor.detach().clone().requires_grad_() for tensor in tensors]
        for path, tensors in calls.items()
        if path not in without
    }


def _times(calls: Calls, factor: float) -> Calls:
    if factor == 0:
        return {path: [nothing(tensor) for tensor in tensors] for path, tensors in calls.items()}
    return {path: [tensor * factor for tensor in tensors] for path, tensors in calls.items()}


def _flat(calls: Calls) -> list[Tensor]:
    return [tensor for tensors in calls.values() for tensor in tensors]


def _by_image(tensor: Tensor, axis: int, images: int) -> Tensor:
    """(images, everything else); what is folded into the batch axis (windows) stands behind the images."""
    return tensor.movedim(axis, 0).reshape(images, -1)


def relative(difference: Tensor, whole: Tensor) -> Tensor:
    """The length of a difference over that of the whole, (images,)."""
    return difference.norm(dim=1) / whole.norm(dim=1)
