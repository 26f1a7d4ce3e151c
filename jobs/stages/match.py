"""The stage that finds counterparts: neurons, of two models or of one, that fire on the same places of images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jobs.stages.stage import Cost, Sizes, Stage

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.match.counterparts import PairedImages
    from pipeline.models import LoadedModel

CPU_MEMORY, GPU_MEMORY = 4 << 30, 48 << 30  # bytes of cross-moments that a worker may hold
BATCH = 32  # images in a forward of two models


def compare(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """The counterparts of all neurons of both models of a pair."""
    from atlas_schema.units import Pair
    from pipeline.match.counterparts import match_models

    assert isinstance(unit.cut, Pair)
    first, second = work.model(unit.slug), work.model(unit.cut.partner)
    memory = GPU_MEMORY if work.device.startswith("cuda") else CPU_MEMORY
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
        ours = batches(images, chosen, self.first.description, BATCH)
        theirs = None if same else batches(images, chosen, self.second.description, BATCH)
        other = batches(images, shuffled, self.second.description, BATCH)
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


PAIRS = Stage(
    name="pairs",
    does="Finds the neurons of two models that fire on the same places of the same images",
    group="match",
    cut="pair",
    facts=("images", "match images", "match settings"),
    compute=compare,
    cost=cost,
)
