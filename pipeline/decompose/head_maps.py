"""Where in an image heads find what they contribute along directions of their own: all heads of an image at once.

`maps.source_maps` follows one direction through the whole network. Here every head has its own: with the paths of
`pipeline.decompose.paths` the derivative by a head's output is known for each head by itself, and heads do not mix
within attention, so that one vector-Jacobian product through the attention modules alone gives the maps of all heads of
all layers, each along its own direction, of all images of a batch. A head without a path takes a product through the
network of its own; a batch shares the forward.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipeline.decompose.activation_cache import cache_activations
from pipeline.decompose.attention import like_heads, per_head
from pipeline.decompose.components import Decomposition, Level
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.maps import Pulled, SiteMaps, check_reproduced, pull_back, site_maps
from pipeline.decompose.paths import FORM, TokenWeights, pulled_into_heads
from pipeline.decompose.replay import Replay, replay
from pipeline.heap import Heap
from pipeline.models import AttentionSite


@dataclass(frozen=True, order=True)
class Asked:
    """A map that is asked for: of an image, the head (counted over all sites) and which of its directions."""

    image: int
    head: int
    direction: int


@dataclass(frozen=True)
class HeadMap:
    """What each place of an image passes through a head along a direction, and what passes elsewhere.

    heat: float32 (height, width), on the patch grid of the head's values; map and rest add up to the contribution.
    """

    heat: np.ndarray
    elsewhere: float


class HeadMaps:
    """Maps of many images, as arrays that merge. cells: uint8, of which 128 is zero and 127 steps more are `scale`."""

    FIELDS = ("asked", "shape", "scale", "elsewhere", "cells")

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {
            "asked": np.zeros((0, 3), np.int32),  # image, head, direction
            "shape": np.zeros((0, 2), np.int16),
            "scale": np.zeros(0, np.float32),
            "elsewhere": np.zeros(0, np.float32),
            "cells": np.zeros(0, np.uint8),
        }

    def add(self, maps: Iterable[tuple[Asked, HeadMap]]) -> None:
        """Take in the maps of some images."""
        parts: list[Mapping[str, np.ndarray]] = [self._arrays]
        for asked, found in maps:
            scale = float(np.abs(found.heat).max())
            cells = (np.round(found.heat / (scale or 1.0) * 127) + 128).astype(np.uint8)
            own: dict[str, np.ndarray] = {
                "asked": np.array([[asked.image, asked.head, asked.direction]], np.int32),
                "shape": np.array([found.heat.shape], np.int16),
                "scale": np.array([scale], np.float32),
                "elsewhere": np.array([found.elsewhere], np.float32),
                "cells": cells.reshape(-1),
            }
            parts.append(own)
        self._join(parts)

    def _join(self, parts: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._arrays = {name: np.concatenate([part[name] for part in parts]) for name in self.FIELDS}

    def merge(self, other: HeadMaps) -> None:
        self._join([self._arrays, other.arrays()])

    def arrays(self) -> dict[str, np.ndarray]:
        return dict(self._arrays)

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> HeadMaps:
        made = cls()
        made._arrays = {name: np.array(arrays[name]) for name in cls.FIELDS}
        return made

    def found(self) -> Iterator[tuple[Asked, np.ndarray, float, float]]:
        """(asked, cells uint8 (height, width), scale, elsewhere) of each."""
        held = self._arrays
        ends = np.cumsum(held["shape"].astype(np.int64).prod(1))
        pieces = np.split(held["cells"], ends[:-1]) if len(ends) else []
        rows = zip(
            held["asked"].tolist(), pieces, held["shape"].tolist(), held["scale"], held["elsewhere"], strict=True
        )
        for asked, cells, shape, scale, elsewhere in rows:
            yield Asked(*asked), cells.reshape(shape), float(scale), float(elsewhere)


def maps_of_images(
    contributing: Contributing, x: Tensor, images: Sequence[int], asked: Sequence[Asked], directions: Tensor
) -> Iterator[tuple[Asked, HeadMap]]:
    """The maps that are asked for of some images.

    x: (n, 3, height, width), normalised; images: their numbers, as `asked` names them. directions: (heads, directions,
    d), of each head. Raises what `maps.source_maps` raises.
    """
    contributing.look_at(x)
    row = {image: place for place, image in enumerate(images)}
    heads = [(site, head) for site in contributing.model.description.attention_sites for head in range(site.heads)]
    by_level: dict[tuple[Level, bool], list[Asked]] = {}
    for one in asked:
        level, path = contributing.levels[one.head], heads[one.head][0].path
        closed = level == Level.DIRECT and path in contributing.paths.closed
        by_level.setdefault((level, closed), []).append(one)
    if not by_level:
        return
    with torch.inference_mode(False), torch.enable_grad():
        recorded = Recorded(contributing, x)
        for (level, closed), own in by_level.items():
            chosen = recorded.along_paths if closed else recorded.one_by_one
            for one, maps in chosen(level, own, row, directions.to(x)):
                site, head = heads[one.head]
                heat = maps[site.layer].joined()[row[one.image], head]
                elsewhere = maps[site.layer].elsewhere[row[one.image], head]
                yield one, HeadMap(heat.float().cpu().numpy(), float(elsewhere))


class Recorded:
    """One recorded forward of some images, and the replays in which values of attention are live."""

    def __init__(self, contributing: Contributing, x: Tensor) -> None:
        self.contributing, self.model = contributing, contributing.model
        self.x = x.detach().clone()
        self.cache = cache_activations(self.model, self.x, attention=True, gates=False)
        self.positions = contributing.token_positions
        self._traced: dict[Level, Replay] = {}

    def traced(self, level: Level) -> Replay:
        if level not in self._traced:
            self._traced.clear()  # one graph at a time
            cut = level == Level.DIRECT
            traced = replay(
                self.model, self.cache, self.x, self.cache.convolutions, None, self.cache.ffns, cut=cut, twice=False
            )
            check_reproduced(self.model, self.cache, traced)
            self._traced[level] = traced
        return self._traced[level]

    def pulled_along(self, directions: Tensor, heads: Collection[int] | None = None) -> Pulled | None:
        """The derivative of each head's contribution along its own direction by its values, for heads with a path, all
        in one product; None where the form that paths rest on does not hold for these images.

        directions: (heads, d). heads: the ones that matter, as their numbers; all where None.
        """
        if self.weights.off > FORM[self.x.dtype]:
            return None
        traced, first = self.traced(Level.DIRECT), 0
        seeds: dict[str, list[Tensor | None]] = {}
        for site in self.model.description.attention_sites:
            own = range(first, first + site.heads)
            first += site.heads
            wanted = heads is None or any(head in own for head in heads)
            if wanted and site.path in self.contributing.paths.closed:
                along = directions[own.start : own.stop]
                seeds[site.path] = [
                    self._seed(site, call, given, self.weights.of[site.path, call], along)
                    for call, given in enumerate(traced.heads[site.path])
                ]
        return _into_values(traced, seeds)

    @cached_property
    def weights(self) -> TokenWeights:
        """The factors with which tokens reach the representation."""
        x, paths = self.x.detach().clone().requires_grad_(), self.contributing.paths
        return Decomposition(self.model, Level.DIRECT, x, self.cache, frozenset(), paths).weights

    def along_paths(
        self, level: Level, asked: Sequence[Asked], row: Mapping[int, int], directions: Tensor
    ) -> Iterator[tuple[Asked, Mapping[int, SiteMaps]]]:
        """All heads with a path, one direction of each at a time."""
        for direction in sorted({one.direction for one in asked}):
            own = [one for one in asked if one.direction == direction]
            pulled = self.pulled_along(directions[:, direction], {one.head for one in own})
            if pulled is None:
                yield from self.one_by_one(level, own, row, directions)
                continue
            sites = [site for site in self.model.description.attention_sites if site.path in pulled.heads]
            traced = self.traced(Level.DIRECT)
            maps = {site.layer: site_maps(self.model, site, traced, pulled, self.positions) for site in sites}
            yield from ((one, maps) for one in own)

    def _seed(self, site: AttentionSite, call: int, heads: Tensor, weights: Tensor, along: Tensor) -> Tensor:
        """The derivative by the output of all heads of a call, each along its own direction; shaped as `heads`."""
        path = self.contributing.paths.of[site.path, call]
        pulled = pulled_into_heads(self.model, path, site, along)[path.group].flatten(1)  # (positions, heads * own)
        module = self.model.module.get_submodule(site.path)
        seed = torch.zeros_like(per_head(module, heads, len(self.x), 1)[:, :, 0])
        seed[:, path.positions] = weights[:, :, None] * pulled
        return like_heads(module, seed, heads)

    def one_by_one(
        self, level: Level, asked: Sequence[Asked], row: Mapping[int, int], directions: Tensor
    ) -> Iterator[tuple[Asked, Mapping[int, SiteMaps]]]:
        """A head and a direction of each image at a time, by a product through the network."""
        traced = self.traced(level)
        heads = [site for site in self.model.description.attention_sites for _ in range(site.heads)]
        waiting: dict[int, list[Asked]] = {}
        heap = Heap()
        for one in asked:
            waiting.setdefault(row[one.image], []).append(one)
        while waiting:
            now = {place: of_image.pop() for place, of_image in waiting.items()}
            waiting = {place: of_image for place, of_image in waiting.items() if of_image}
            seed = torch.zeros_like(traced.representation)
            for place, one in now.items():
                seed[place] = directions[one.head, one.direction]
            pulled = pull_back(traced, seed, {heads[one.head].path for one in now.values()})
            sites = {heads[one.head].layer: heads[one.head] for one in now.values()}
            maps = {layer: site_maps(self.model, site, traced, pulled, self.positions) for layer, site in sites.items()}
            yield from ((one, maps) for one in now.values())
            heap.keep_small()


def _into_values(traced: Replay, seeds: Mapping[str, list[Tensor | None]]) -> Pulled:
    """The seeds of heads, carried to the values that made them; `Pulled` as of one direction through the network."""
    outputs, given = [], []
    for path, of_calls in seeds.items():
        for heads, seed in zip(traced.heads[path], of_calls, strict=True):
            if seed is not None and heads.requires_grad:
                outputs.append(heads)
                given.append(seed)
    leaves = [value for calls in traced.values.values() for value in calls]
    grads = torch.autograd.grad(outputs, leaves, given, retain_graph=True, allow_unused=True)
    by_id = {id(leaf): grad for leaf, grad in zip(leaves, grads, strict=True)}
    values: dict[str, list[Tensor | None]] = {}
    for path, calls in traced.values.items():
        values[path] = [by_id[id(value)] for value in calls]
    return Pulled(values, dict(seeds))
