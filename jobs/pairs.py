"""Counterparts across models: a worker's part in a pair, and the table that pairs become.

One partial a pair of models, a few numbers a neuron. The table `neuron_matches` of a layer is a function of all
committed pairs that its model is in, of this run or an earlier one, so that a model that joins an atlas later
finds its counterparts without anything being done again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import damage, footer_metadata
from atlas_schema.partials import read_or_remove
from atlas_schema.parts import PARTS, PartReceipt, WorkUnit, unit_of
from atlas_schema.read import Atlas
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_MATCHES
from jobs.claim import planned_ranges

if TYPE_CHECKING:
    from jobs.tasks import Surroundings
    from pipeline.match.counterparts import Counterparts, PairedImages

CPU_MEMORY, GPU_MEMORY = 4 << 30, 48 << 30  # bytes of cross-moments that a worker may hold
FIELDS = ("partner", "correlation", "mutual", "null_best")


def compare(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """Compute and commit one pair."""
    from pipeline.match.counterparts import match_models

    pair = next(one for one in at.measuring.pairs if (one.first, one.settings) == (unit.slug, unit.recipe_hash))
    first, second = at.model(unit.slug), at.model(pair.second)
    images = _Paired(at, first, second)
    memory = GPU_MEMORY if at.device.startswith("cuda") else CPU_MEMORY
    result = match_models(first, second, images, memory=memory)
    arrays: dict[str, np.ndarray] = {}
    for name, side in (("first", result.first), ("second", result.second)):
        arrays |= {f"{name}/{field}": np.asarray(getattr(side, field)) for field in FIELDS}
        arrays[f"{name}/null_threshold"] = np.array(side.null_threshold)
    told = {
        "first": pair.first,
        "second": pair.second,
        "second_fingerprint": second.fingerprint,
        "probe_set": at.measuring.probe_set.identity,
    }
    return at.commit_arrays(unit, arrays, **told)


class _Paired:
    """The images of a comparison, batch by batch, as often as they are asked for."""

    def __init__(self, at: Surroundings, first: Any, second: Any) -> None:
        self.at, self.first, self.second = at, first, second

    def __iter__(self) -> Iterator[PairedImages]:
        from pipeline.images.probe_set import batches
        from pipeline.match.counterparts import MatchSettings, PairedImages, derangement

        probe_set, chosen = self.at.measuring.probe_set, self.at.measuring.match_panel
        order = derangement([probe_set.images[index].id for index in chosen], MatchSettings.shuffle_seed)
        shuffled = [chosen[place] for place in order]
        same = self.first.description.input_size == self.second.description.input_size
        one = batches(probe_set, chosen, self.first.description, 32)
        two = None if same else batches(probe_set, chosen, self.second.description, 32)
        other = batches(probe_set, shuffled, self.second.description, 32)
        for _, pixels in one:
            self.at.step()
            paired = pixels if two is None else next(two)[1]
            yield PairedImages(pixels, paired, next(other)[1])


def write_matches(store: Store, probe_set: str, slugs: Sequence[str], provenance: Mapping[str, str]) -> None:
    """Write neuron_matches of these models from every committed pair that they are in."""
    from pipeline.match.rows import match_rows

    atlas = Atlas(store)
    models = {row["slug"]: row for row in atlas.models()}
    widths = {slug: _widths(atlas, slug) for slug in models}
    sides: dict[str, list[tuple[str, Counterparts]]] = {slug: [] for slug in models}
    for unit, first, second in _committed(store, probe_set, models):
        arrays = read_or_remove(store, unit)
        sides[first].append((second, _side(arrays, "first")))
        if second != first:
            sides[second].append((first, _side(arrays, "second")))
    for slug in slugs:
        found = sorted(sides[slug], key=lambda side: side[0])
        facts = {**provenance, "fingerprint": models[slug]["fingerprint"]}
        for layer, planned in sorted(_planned(atlas, slug).items()):
            rows = [
                row
                for other, side in found
                for row in match_rows(slug, widths[slug], other, widths[other], side, probe_set, [layer])
                if row["unit"] in planned
            ]
            if planned:
                write_rows(store, NEURON_MATCHES, slug, rows, provenance=facts, layer=layer, layers=len(widths[slug]))


def _widths(atlas: Atlas, slug: str) -> list[int]:
    return [site["width"] for site in atlas.sites(slug) if site["kind"] == "ffn"]


def _planned(atlas: Atlas, slug: str) -> dict[int, set[int]]:
    """By layer, the units that the atlas sets out to describe."""
    sites = [site for site in atlas.sites(slug) if site["kind"] == "ffn"]
    return {site["layer"]: {unit for span in planned_ranges(site) for unit in range(*span)} for site in sites}


def _committed(store: Store, probe_set: str, models: Mapping[str, Any]) -> Iterator[tuple[WorkUnit, str, str]]:
    """Committed pairs of models as they are now, measured on this probe set; of several, the last by name."""
    latest: dict[tuple[str, str], WorkUnit] = {}
    for path in store.list(f"{PARTS}/pairs"):
        try:
            with store.open(path) as file, damage(path):
                footer = footer_metadata(pq.read_metadata(file))
        except ShardCorrupt as error:
            store.delete(path)
            raise ShardCorrupt(
                f"{path}: this comparison was damaged and was removed; run the same command again", path
            ) from error
        unit, first, second = unit_of(footer, path), footer["first"], footer["second"]
        prints = {first: unit.fingerprint, second: footer["second_fingerprint"]}
        current = all(slug in models and models[slug]["fingerprint"] == found for slug, found in prints.items())
        if current and footer["probe_set"] == probe_set:
            latest[first, second] = unit
    for (first, second), unit in sorted(latest.items()):
        yield unit, first, second


def _side(arrays: Mapping[str, np.ndarray], name: str) -> Counterparts:
    from pipeline.match.counterparts import Counterparts

    fields = {field: arrays[f"{name}/{field}"] for field in FIELDS}
    return Counterparts(**fields, null_threshold=float(arrays[f"{name}/null_threshold"]))
