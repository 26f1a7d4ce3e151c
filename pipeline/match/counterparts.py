"""Counterparts of neurons: which neurons of two models, or of one, fire on the same places of the same images.

After *Rosetta Neurons* (Dravid et al., 2306.09346): the maps of all neurons are brought to one grid, two neurons
are as alike as their maps correlate over all places of all probe images, and a pair in which each is the other's best
is a Rosetta pair. Correlations are signed: a neuron that fires where another falls silent is no counterpart.

Nothing is stored but cross-moments, which add up over images in any order (`CrossMoments`). They are the largest
thing there is (two ViT-B: 36,864 x 36,864 numbers), so the first model is taken in blocks of layers (`match_layers`),
and the blocks' results, a few numbers a neuron, are joined (`join`).

The null: the same computation with the images of the second model exchanged by a derangement (`derangement`), so that
every pair sees different images. What places alone explain (neurons that fire at a border in any image) stays in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.hooks.activations import stream_ffn_activations
from pipeline.match.cross_moments import CrossMoments
from pipeline.models import LoadedModel, ModelDescription

CHUNK = 1 << 26
"""Correlations held at a time while the best are sought: memory alone, no result, depends on it."""


@dataclass(frozen=True)
class MatchSettings:
    """How neurons of two models are compared, and how many counterparts of each are kept."""

    grid: tuple[int, int] = (7, 7)  # cells that the maps of all neurons are brought to, (rows, columns)
    partners: int = 5  # kept of each neuron
    null_quantile: float = 0.99  # of the neurons' best correlations with shuffled images: above it one is significant
    shuffle_seed: int = 0  # of the order in which images are exchanged


@dataclass(frozen=True)
class PairedImages:
    """Some probe images as two models take them: (images, 3, height, width) in [0, 1], at each model's own size.

    Row i of `first` and of `second` is the same image; row i of `shuffled` is its partner under `derangement`, as the
    second model takes it.
    """

    first: Tensor
    second: Tensor
    shuffled: Tensor


@dataclass(frozen=True)
class Counterparts:
    """The best partners of each neuron of one model among those of another; n neurons in order of layer, unit.

    A neuron that is constant on the probe set has no partners. Where there is none, `partner` is -1 and the
    correlation 0.

    partner: int32 (n, k), indices over all neurons of the other model, the most alike first
    correlation: float32 (n, k)
    mutual: bool (n,), whether the first partner's best partner is this neuron
    null_best: float32 (n,), the best correlation with any neuron of the other model when images are shuffled
    null_threshold: what `MatchSettings.null_quantile` of the neurons stay below when images are shuffled
    """

    partner: NDArray[np.int32]
    correlation: NDArray[np.float32]
    mutual: NDArray[np.bool_]
    null_best: NDArray[np.float32]
    null_threshold: float

    @property
    def significant(self) -> NDArray[np.bool_]:
        """(n, k): there is a partner, and it is more alike than nearly all neurons find any among shuffled images."""
        return (self.partner >= 0) & (self.correlation > self.null_threshold)


@dataclass(frozen=True)
class MatchResult:
    """Both directions of one pair of models, from one pass; `samples`: places times images."""

    first: Counterparts  # of the first model's neurons, in the second
    second: Counterparts  # of the second model's neurons, in the first
    samples: int


# ---------------------------------------------------------------------------------------------- maps on one grid


def neuron_index(description: ModelDescription, layer: int, unit: int) -> int:
    """Index of a neuron among all of its model, as everywhere in this module."""
    return sum(site.width for site in description.ffn_sites[:layer]) + unit


def neuron_at(description: ModelDescription, index: int) -> tuple[int, int]:
    """(layer, unit) of an index over all neurons of a model."""
    left = index
    for site in description.ffn_sites:
        if 0 <= left < site.width:
            return site.layer, left
        left -= site.width
    raise BadConfig(f"{description.slug} has no neuron {index}: expected 0 to {description.neurons - 1}.")


def common_maps(
    model: LoadedModel, x: Tensor, grid: tuple[int, int] = MatchSettings.grid, layers: Sequence[int] | None = None
) -> Tensor:
    """(images * cells, neurons): the activation maps of all neurons on one grid, cells row by row, image by image.

    x: (images, 3, height, width), normalised. layers: those to take, default all. Maps that are finer than the grid
    are averaged over the area of its cells, coarser ones interpolated bilinearly; several scales of one neuron are
    averaged after that.
    """
    sites = model.description.ffn_sites
    maps: dict[int, Tensor] = {}

    def take(layer: int, calls: list[Tensor]) -> None:
        if layers is None or layer in layers:
            shapes = sites[layer].grids
            maps[layer] = torch.stack([_on_grid(c, s, grid) for c, s in zip(calls, shapes, strict=True)]).mean(0)

    stream_ffn_activations(model, x, take)
    return torch.cat([maps[layer] for layer in sorted(maps)], dim=2).flatten(0, 1)


def _on_grid(call: Tensor, shape: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """(images, tokens, neurons) -> (images, cells, neurons)."""
    return call if shape == grid else torch.einsum("ct,btn->bcn", resampling(shape, grid).to(call), call)


def resampling(shape: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """float32 (cells, tokens): the linear map from a token grid to another, each axis by itself."""
    return torch.kron(_axis(shape[0], grid[0]), _axis(shape[1], grid[1]))


def _axis(tokens: int, cells: int) -> Tensor:
    """(cells, tokens): area means where there are more tokens than cells, else linear interpolation."""
    if tokens < cells:
        unit = torch.eye(tokens)[:, None]  # (tokens, 1, tokens)
        return functional.interpolate(unit, size=cells, mode="linear", align_corners=False)[:, 0].T.contiguous()
    left = torch.arange(cells)[:, None] * tokens / cells
    token = torch.arange(tokens)[None]
    overlap = torch.minimum(left + tokens / cells, token + 1.0) - torch.maximum(left, token)
    return overlap.clamp(min=0) * cells / tokens


def derangement(ids: Sequence[str], seed: int = 0) -> NDArray[np.int64]:
    """Another image for every image: a function of the set of ids, whatever their order; every image serves once.

    Images stand in a circle in the order of a hash of their ids, and each takes the next. BadConfig under two.
    """
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise BadConfig(
            f"{len(ids)} images, {len(set(ids))} of them different: shuffling takes at least two, all named."
        )
    order = sorted(range(len(ids)), key=lambda i: hashlib.sha256(f"{seed}\0{ids[i]}".encode()).digest())
    partner = np.empty(len(ids), dtype=np.int64)
    partner[order] = order[1:] + order[:1]
    return partner


# ------------------------------------------------------------------------------------------------ best partners


@dataclass(frozen=True)
class MatchPart:
    """What a block of the first model's layers gives; joined by `join`. Arrays as in Counterparts."""

    start: int  # index of the block's first neuron
    row_partner: Tensor
    row_correlation: Tensor
    row_null: Tensor  # (rows,)
    column_partner: Tensor  # (n_y, k), over the block only
    column_correlation: Tensor
    column_null: Tensor
    samples: int


def match_models(
    first: LoadedModel,
    second: LoadedModel,
    images: Iterable[PairedImages],
    settings: MatchSettings = MatchSettings(),
    *,
    memory: int = 16 << 30,
) -> MatchResult:
    """Both directions between two models on one device. `images` is gone through once a block of layers.

    memory: bytes for the cross-moments; the first model is taken in as many blocks as that needs. BadConfig without
    images, or where several blocks are needed and `images` can be gone through only once.
    """
    blocks = layer_blocks(first.description, second.description, memory)
    if len(blocks) > 1 and iter(images) is images:
        raise BadConfig(
            f"the images are needed {len(blocks)} times: give a sequence, or more memory than {memory} bytes."
        )
    return join([match_layers(first, second, images, layers, settings) for layers in blocks], settings)


def layer_blocks(first: ModelDescription, second: ModelDescription, memory: int) -> list[list[int]]:
    """Layers of the first model in runs whose moments (true and shuffled) fit into `memory` bytes; one at least."""
    blocks: list[list[int]] = []
    room = 0
    for site in first.ffn_sites:
        cost = 2 * 4 * site.width * second.neurons
        if not blocks or cost > room:
            blocks.append([])
            room = memory
        blocks[-1].append(site.layer)
        room -= cost
    return blocks


def match_layers(
    first: LoadedModel,
    second: LoadedModel,
    images: Iterable[PairedImages],
    layers: Sequence[int],
    settings: MatchSettings = MatchSettings(),
) -> MatchPart:
    """The neurons of some consecutive layers of the first model against all of the second.

    Where both are one object, a neuron is no partner of its own, and `second` of the images is not read.
    """
    true, null = pair_moments(first, second, images, layers, settings)
    start = neuron_index(first.description, layers[0], 0)
    return best_partners(true, null, start, same=first is second, partners=settings.partners)


def pair_moments(
    first: LoadedModel,
    second: LoadedModel,
    images: Iterable[PairedImages],
    layers: Sequence[int] | None = None,
    settings: MatchSettings = MatchSettings(),
) -> tuple[CrossMoments, CrossMoments]:
    """Cross-moments of true pairs of images and of shuffled ones; in whatever batches the images come."""
    sites, grid = first.description.ffn_sites, settings.grid
    chosen = list(range(len(sites))) if layers is None else list(layers)
    rows = sum(sites[layer].width for layer in chosen)
    true = CrossMoments(rows, second.description.neurons, second.device)
    null = CrossMoments(rows, second.description.neurons, second.device)
    with torch.inference_mode():
        for batch in images:
            y = _maps(second, batch.first if first is second else batch.second, grid, None)
            x = _columns(y, first, chosen) if first is second else _maps(first, batch.first, grid, chosen)
            true.update(x, y)
            del y
            null.update(x, _maps(second, batch.shuffled, grid, None))
    if not true.samples:
        raise BadConfig("no images to compare neurons on: the probe set is empty.")
    return true, null


def _maps(model: LoadedModel, x01: Tensor, grid: tuple[int, int], layers: Sequence[int] | None) -> Tensor:
    dtype = next(p.dtype for p in model.module.parameters() if p.is_floating_point())
    return common_maps(model, model.normalise(x01.to(model.device, dtype)), grid, layers)


def _columns(maps: Tensor, model: LoadedModel, layers: Sequence[int]) -> Tensor:
    """The columns of consecutive layers out of the maps of all."""
    start = neuron_index(model.description, layers[0], 0)
    return maps[:, start : start + sum(model.description.ffn_sites[layer].width for layer in layers)]


def best_partners(
    true: CrossMoments,
    null: CrossMoments,
    start: int = 0,
    *,
    same: bool = False,
    partners: int = MatchSettings.partners,
) -> MatchPart:
    """The best of every row and every column of the correlations, a few rows at a time.

    start: index of the first row's neuron. same: rows and columns are neurons of one model, and a neuron is no
    partner of its own.
    """
    n_x, n_y = true.cross.shape
    device = true.cross.device
    rows_best: list[tuple[Tensor, Tensor]] = []
    rows_null: list[Tensor] = []
    best = torch.full((partners, n_y), -torch.inf, device=device)
    index = torch.full((partners, n_y), -1, device=device)
    null_best = torch.full((n_y,), -torch.inf, device=device)
    step = max(1, CHUNK // n_y)
    for begin in range(0, n_x, step):
        rows = slice(begin, min(begin + step, n_x))
        correlations, shuffled = (_without_self(m.correlations(rows), start + begin, same) for m in (true, null))
        rows_best.append(_best(correlations, partners, dim=1))
        rows_null.append(shuffled.amax(1))
        null_best = torch.maximum(null_best, shuffled.amax(0))
        value, row = _best(correlations, partners, dim=0)
        best, kept = torch.cat([best, value]).topk(partners, dim=0)
        index = torch.cat([index, torch.where(row < 0, -1, row + start + begin)]).gather(0, kept)
    return MatchPart(
        start=start,
        row_partner=torch.cat([index for _, index in rows_best]).cpu(),
        row_correlation=torch.cat([value for value, _ in rows_best]).cpu(),
        row_null=torch.cat(rows_null).cpu(),
        column_partner=index.T.cpu(),
        column_correlation=best.T.cpu(),
        column_null=null_best.cpu(),
        samples=true.samples,
    )


def _without_self(correlations: Tensor, first_row: int, same: bool) -> Tensor:
    if same:
        correlations.diagonal(first_row).fill_(-torch.inf)
    return correlations


def _best(correlations: Tensor, count: int, dim: int) -> tuple[Tensor, Tensor]:
    """The `count` highest and where they are, -inf and -1 where there are fewer."""
    value, index = correlations.topk(min(count, correlations.shape[dim]), dim=dim)
    index = torch.where(torch.isfinite(value), index, -1)
    missing = count - value.shape[dim]
    after = (0, missing) if dim == 1 else (0, 0, 0, missing)
    return functional.pad(value, after, value=-torch.inf), functional.pad(index, after, value=-1)


def join(parts: Sequence[MatchPart], settings: MatchSettings = MatchSettings()) -> MatchResult:
    """The result of all blocks of the first model, in any order; they must be of the same images."""
    parts = sorted(parts, key=lambda part: part.start)
    if not parts or len({part.samples for part in parts}) > 1 or any(_gaps(parts)):
        raise BadConfig("the parts of a match must cover the first model without gaps, on the same images.")
    partners = parts[0].column_partner.shape[1]
    value, kept = torch.cat([part.column_correlation for part in parts], 1).topk(partners, dim=1)
    columns = torch.cat([part.column_partner for part in parts], 1).gather(1, kept)
    column_null = torch.stack([part.column_null for part in parts]).amax(0)
    rows = torch.cat([part.row_partner for part in parts])
    forward, backward = rows[:, 0], columns[:, 0]
    return MatchResult(
        first=_counterparts(
            rows,
            torch.cat([part.row_correlation for part in parts]),
            backward,
            torch.cat([part.row_null for part in parts]),
            settings.null_quantile,
        ),
        second=_counterparts(columns, value, forward, column_null, settings.null_quantile),
        samples=parts[0].samples,
    )


def _gaps(parts: Sequence[MatchPart]) -> Iterator[bool]:
    reached = 0
    for part in parts:
        yield part.start != reached
        reached = part.start + len(part.row_null)


def _counterparts(
    partner: Tensor, correlation: Tensor, back: Tensor, null_best: Tensor, null_quantile: float
) -> Counterparts:
    best = partner[:, 0]
    mutual = (best >= 0) & (back[best.clamp(min=0)] == torch.arange(len(best)))
    varies = torch.isfinite(null_best)
    threshold = float(torch.quantile(null_best[varies].double(), null_quantile)) if bool(varies.any()) else 1.0
    return Counterparts(
        partner=partner.numpy().astype(np.int32),
        correlation=torch.where(partner < 0, 0.0, correlation).numpy(),
        mutual=mutual.numpy(),
        null_best=torch.where(varies, null_best, 0.0).numpy(),
        null_threshold=threshold,
    )
