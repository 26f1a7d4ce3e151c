"""The stage that finds counterparts: neurons, of two models or of one, that fire on the same places of images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.stages.stage import FLOAT, Cost, Sizes, Stage

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.match.counterparts import PairedImages
    from pipeline.models import LoadedModel

COPIES = 4.0  # times the maps of both models, what a batch of them takes on the way to its moments
CPU_MEMORY, GPU_MEMORY = 4 << 30, 48 << 30  # bytes of cross-moments that a worker may hold, at most
LEAST_MEMORY = 1 << 28  # ... and where memory is short
BATCH = 32  # images in a forward of two models, at most


def compare(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """The counterparts of all neurons of both models of a pair."""
    from atlas_schema.units import Pair
    from pipeline.match.counterparts import match_models

    assert isinstance(unit.cut, Pair)
    first, second = work.model(unit.slug), work.model(unit.cut.partner)
    free = work.room - beside_moments(work.sizes, work.batch)
    most = GPU_MEMORY if work.device.startswith("cuda") else CPU_MEMORY
    memory = int(max(LEAST_MEMORY, min(free, most)))  # in how many blocks moments are summed up changes no number
    result = match_models(first, second, _Paired(work, first, second), work.inputs.settings.match, memory=memory)
    images, sides = work.inputs.images.identity, [(first, second, result.first)]
    if unit.slug != unit.cut.partner:
        sides.append((second, first, result.second))
    return [row for own, other, counterparts in sides for row in _rows(own, other, counterparts, images)]


def _rows(own: LoadedModel, other: LoadedModel, counterparts: Any, images: str) -> Iterator[dict[str, Any]]:
    from pipeline.match.rows import match_rows

    ours, theirs = own.description, other.description
    own_widths = [site.width for site in ours.ffn_sites]
    other_widths = [site.width for site in theirs.ffn_sites]
    return match_rows(ours.slug, own_widths, theirs.slug, other_widths, counterparts, images)


class _Paired:
    """The images of a comparison, batch by batch, as often as they are asked for."""

    def __init__(self, work: Work, first: LoadedModel, second: LoadedModel) -> None:
        self.work, self.first, self.second = work, first, second

    def __iter__(self) -> Iterator[PairedImages]:
        from pipeline.images.probe_set import batches
        from pipeline.match.counterparts import PairedImages, derangement

        images, chosen = self.work.inputs.images, self.work.inputs.match_panel
        seed = self.work.inputs.settings.match.shuffle_seed
        order = derangement([images.images[index].id for index in chosen], seed)
        shuffled = [chosen[place] for place in order]
        same = self.first.description.input_size == self.second.description.input_size
        batch = min(self.work.batch, BATCH)
        ours = batches(images, chosen, self.first.description, batch)
        theirs = None if same else batches(images, chosen, self.second.description, batch)
        other = batches(images, shuffled, self.second.description, batch)
        for _, pixels in ours:
            self.work.step()
            paired = pixels if theirs is None else next(theirs)[1]
            yield PairedImages(pixels, paired, next(other)[1])


def cost(sizes: Sizes) -> Cost:
    """Three forwards of each image, and two products of all neurons of one model with all of the other."""
    from pipeline.match.counterparts import MatchSettings

    assert sizes.partner is not None
    one, two, settings = sizes.description, sizes.partner, MatchSettings()
    forwards = sizes.match_images * (sizes.forward + 2 * max(two.forward_flops, 1.0))
    products = 2 * 2 * one.neurons * two.neurons * math.prod(settings.grid) * sizes.match_images
    rows = settings.partners * (one.neurons + (two.neurons if two.slug != one.slug else 0))
    return Cost(each=forwards + products, bytes=78 * rows)


def beside_moments(sizes: Sizes, batch: int) -> float:
    """Bytes of a comparison beside its moments: both models, a forward, and the maps of all neurons in some copies."""
    from pipeline.match.counterparts import MatchSettings

    assert sizes.partner is not None
    together, other = min(batch, BATCH), replace(sizes, description=sizes.partner)
    neurons = sizes.description.neurons + other.description.neurons
    maps = together * math.prod(MatchSettings().grid) * neurons * FLOAT
    weights = sizes.weights + (0 if other.description.slug == sizes.description.slug else other.weights)
    return weights + COPIES * maps + max(one.forward_bytes(together) for one in (sizes, other))


def memory(sizes: Sizes, batch: int) -> float:
    """The least: moments of true and of shuffled pairs are summed up in as many blocks as memory asks for."""
    assert sizes.partner is not None
    all_moments = 2 * FLOAT * sizes.description.neurons * sizes.partner.neurons
    widest = 2 * FLOAT * max(site.width for site in sizes.description.ffn_sites) * sizes.partner.neurons
    moments = min(all_moments, max(widest, LEAST_MEMORY if batch <= 1 else CPU_MEMORY))
    return beside_moments(sizes, batch) + moments


PAIRS = Stage(
    name="pairs",
    does="Finds the neurons of two models that fire on the same places of the same images",
    group="match",
    cut="pair",
    facts=("images", "match images", "match settings"),
    compute=compare,
    cost=cost,
    memory=memory,
)
