"""What each source token passes through each head to the final representation, along a direction.

With attention weights held, a head is linear in its values: v_i, that of token i, contributes <v_i, d<u, z>/dv_i> along
u. One vector-Jacobian product gives this for all heads, layers and tokens at once (Gandelsman et al., 2310.05916, for
the class token of CLIP; here for every family, by the replay of docs/decomposition.md).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig, UnknownFamily
from pipeline.decompose.activation_cache import ActivationCache, cache_activations
from pipeline.decompose.attention import FrozenMap, frozen_maps, per_head
from pipeline.decompose.components import REPRODUCED, Level, check_linear, relative
from pipeline.decompose.replay import Calls, Replay, replay
from pipeline.decompose.token_positions import TokenPositions, token_positions_of
from pipeline.models import AttentionSite, LoadedModel


@dataclass(frozen=True)
class SiteMaps:
    """What the source tokens of one attention site pass through its heads along a direction.

    patches: one (images, heads, height, width) a call of the site, on the patch grid of its values (coarser than the
    site's own where keys and values are pooled). tokens: (images, heads), of prefix tokens and padding. constant:
    (images, heads), what passes no value of the head (in CoaT the bias of the position convolution; in EVA-02 what the
    norm between heads and projection shifts, and what it mixes of other heads). All add up to the heads' contributions.
    """

    layer: int
    patches: tuple[Tensor, ...]
    tokens: Tensor
    constant: Tensor

    @property
    def elsewhere(self) -> Tensor:
        """What no patch passes through each head: (images, heads)."""
        return self.tokens + self.constant

    @property
    def total(self) -> Tensor:
        """The heads' contributions along the direction: (images, heads)."""
        return self.elsewhere + torch.stack([patches.sum((2, 3)) for patches in self.patches]).sum(0)

    def joined(self) -> Tensor:
        """The maps of all calls on the finest of their grids: (images, heads, height, width)."""
        finest = max((tuple(patches.shape[2:]) for patches in self.patches), key=lambda grid: grid[0] * grid[1])
        return torch.stack([spread(patches, (finest[0], finest[1])) for patches in self.patches]).sum(0)


@dataclass(frozen=True)
class SourceMaps:
    """What source tokens pass through the heads of all attention sites, in their order, at a level."""

    level: Level
    sites: tuple[SiteMaps, ...]


def source_maps(
    model: LoadedModel, x: Tensor, direction: Tensor, level: Level = Level.DIRECT, *, certify: bool = True
) -> SourceMaps:
    """The contribution of every source token through every head, from one vector-Jacobian product.

    x: (images, 3, height, width), normalised, float32 or float64. direction: (d,), or (images, d), one an image, in the
    model's own space. certify: as in `decompose`. At the level direct all other heads are held at their values; at
    others later attention passes on what a head writes. Raises what `decompose` raises; BadConfig for a direction of
    another size; UnknownFamily where tokens have no place on a patch grid.
    """
    level = Level(level)
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone()
        cache = cache_activations(model, x, attention=True, gates=level == Level.GATED)
        if certify:
            check_linear(model, x, cache)
        ffns = None if level == Level.GATED else cache.ffns
        traced = replay(model, cache, x, cache.convolutions, None, ffns, cut=level == Level.DIRECT)
        check_reproduced(model, cache, traced)
        pulled = pull_back(traced, seed_of(traced.representation, direction))
        positions = token_positions_of(model)
        return SourceMaps(
            level,
            tuple(site_maps(model, site, traced, pulled, positions) for site in model.description.attention_sites),
        )


def example_maps(
    model: LoadedModel,
    x: Tensor,
    layers: Tensor,
    heads: Tensor,
    directions: Tensor,
    level: Level = Level.DIRECT,
    *,
    certify: bool = True,
) -> tuple[list[Tensor], Tensor]:
    """For each image one head's map along a direction of its own, from one vector-Jacobian product for all.

    x: (n, 3, height, width), normalised. layers, heads: int64 (n,), of the attention site and of the head in it.
    directions: (n, d). Returns n maps, each (height, width) on the site's grid of values, and (n,) what all else passes
    through the head; map and rest add up to the head's contribution. Raises what `source_maps` raises.
    """
    sites = source_maps(model, x, directions, level, certify=certify).sites
    joined = {layer: sites[layer].joined() for layer in set(layers.tolist())}
    chosen = list(enumerate(zip(layers.tolist(), heads.tolist(), strict=True)))
    maps = [joined[layer][image, head] for image, (layer, head) in chosen]
    return maps, torch.stack([sites[layer].elsewhere[image, head] for image, (layer, head) in chosen])


def heatmap(
    model: LoadedModel, x: Tensor, direction: Tensor, level: Level = Level.DIRECT, *, certify: bool = True
) -> Tensor:
    """Heatmaps in pixels, (images, height, width): what each place passes through all heads along a direction.

    Summed over pixels it is what patches pass in all. At the level direct, where heads are summands, that is the heads'
    part of the representation; elsewhere heads in series count again. Arguments as in `source_maps`.
    """
    maps = source_maps(model, x, direction, level, certify=certify)
    return summed(maps, (int(x.shape[-2]), int(x.shape[-1])))


def summed(maps: SourceMaps, size: tuple[int, int]) -> Tensor:
    """The maps of all sites and heads, spread over pixels and summed: (images, *size)."""
    by_grid: dict[tuple[int, int], Tensor] = {}
    for site in maps.sites:
        for patches in site.patches:
            grid = (int(patches.shape[2]), int(patches.shape[3]))
            whole = patches.sum(1, keepdim=True)
            by_grid[grid] = by_grid[grid] + whole if grid in by_grid else whole
    return torch.stack([spread(patches, size)[:, 0] for patches in by_grid.values()]).sum(0)


def spread(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps resized bilinearly to (images, channels, *size), each with the sum that it had."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    wide = functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    share = functional.interpolate(torch.ones_like(maps[:1, :1]), size=size, mode="bilinear", align_corners=False)
    return wide * (maps.shape[2] * maps.shape[3] / share.sum())


# ------------------------------------------------------------------------------------------------- the linear map


@dataclass(frozen=True)
class Pulled:
    """Gradients of <u, z> by what passes attention, None where nothing reaches: by path and call, as in `Replay`."""

    values: dict[str, list[Tensor | None]]
    heads: dict[str, list[Tensor | None]]


def seed_of(representation: Tensor, direction: Tensor) -> Tensor:
    """The direction of each image, (images, d), from one for all or one an image. BadConfig where it is of another
    size.
    """
    if direction.shape not in (representation.shape, representation.shape[1:]):
        raise BadConfig(
            f"A direction of the shape {tuple(direction.shape)}: the representation of these images is "
            f"{tuple(representation.shape)}; expected one direction for all, or one an image."
        )
    return direction.to(representation).expand_as(representation)


def pull_back(traced: Replay, seed: Tensor, sites: Collection[str] | None = None) -> Pulled:
    """One vector-Jacobian product, from the representation to all values and heads, or to those of some sites."""
    live = [
        tensor
        for calls in (traced.values, traced.heads)
        for path, tensors in calls.items()
        if sites is None or path in sites or path.rpartition(".")[0] in sites
        for tensor in tensors
        if tensor.requires_grad
    ]
    grads = torch.autograd.grad(traced.representation, live, seed, retain_graph=True, allow_unused=True)
    by_id = {id(tensor): grad for tensor, grad in zip(live, grads, strict=True)}

    def gradients(calls: Calls) -> dict[str, list[Tensor | None]]:
        return {path: [by_id.get(id(tensor)) for tensor in tensors] for path, tensors in calls.items()}

    return Pulled(gradients(traced.values), gradients(traced.heads))


def value_map(model: LoadedModel, site: AttentionSite) -> FrozenMap:
    """The linear map that makes the values of an attention site; a `Replay` keeps them under its path."""
    maps = frozen_maps(site.path, model.module.get_submodule(site.path))
    return next(candidate for candidate in maps.values() if candidate.makes_values)


def channels_last(values: Tensor, axis: int) -> Tensor:
    """The values of a call with channels on the last axis: `FrozenMap.split` left them as (groups, own) at
    another.
    """
    return values.flatten(-2) if axis < 0 else values.flatten(1, 2).movedim(1, -1)


def site_maps(
    model: LoadedModel, site: AttentionSite, traced: Replay, pulled: Pulled, positions: dict[str, list[TokenPositions]]
) -> SiteMaps:
    """What the source tokens of one site pass, from what was pulled back to its values and heads."""
    made = value_map(model, site)
    images = len(traced.representation)
    patches: list[Tensor] = []
    tokens = traced.representation.new_zeros(images, site.heads)
    passed = torch.zeros_like(tokens)
    calls = zip(traced.values[made.path], pulled.values[made.path], positions[site.path], strict=True)
    for values, gradient, call_positions in calls:
        each = values.detach() * gradient if gradient is not None else torch.zeros_like(values)
        rows = call_positions.by_image(channels_last(each, made.axis), images)  # (images, positions, channels)
        scores = rows.unflatten(2, (site.heads, -1)).sum(3)
        on_grid, rest = call_positions.on_grid(scores)
        patches.append(on_grid)
        tokens = tokens + rest
        passed = passed + scores.sum(1)
    return SiteMaps(site.layer, tuple(patches), tokens, contributions_of(model, site, traced, pulled) - passed)


def contributions_of(model: LoadedModel, site: AttentionSite, traced: Replay, pulled: Pulled) -> Tensor:
    """(images, heads): the heads' outputs times their gradients."""
    module, images = model.module.get_submodule(site.path), len(traced.representation)
    total = traced.representation.new_zeros(images, site.heads)
    for heads, gradient in zip(traced.heads[site.path], pulled.heads[site.path], strict=True):
        if gradient is not None:
            total += per_head(module, heads.detach() * gradient, images, site.heads).sum((1, 3))
    return total


def check_reproduced(model: LoadedModel, cache: ActivationCache, traced: Replay) -> None:
    """Raise UnknownFamily where no head reaches the representation, or the replay gives another one."""
    if traced.representation.grad_fn is None:
        raise UnknownFamily(f"{model.description.slug}: no head reaches the representation.")
    error = float(relative(traced.representation.detach() - cache.representation, cache.representation).max())
    if not error < REPRODUCED[traced.representation.dtype]:
        raise UnknownFamily(
            f"{model.description.slug}: replayed with its attention weights held, the model gives another "
            f"representation (relative difference {error:.1e}): its form is not what the replay assumes."
        )
