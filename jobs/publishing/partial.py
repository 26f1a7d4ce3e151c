"""The rows of `models` and `sites` that are true of a part of an atlas: they claim what is there, and no more.

A stage of a model is claimed where every table that it fills came; a neuron is planned where the tables of its layer
came. So `validate` misses nothing, and a run does what did not come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from atlas_schema.errors import ForeignAtlas
from atlas_schema.shards import shard_path
from atlas_schema.store import Store
from atlas_schema.tables import LAYER_TABLES, tables_filled_by
from jobs.claim import claimed, planned_before, planned_ranges, planned_with
from jobs.ranges import Range, union
from jobs.stages import place_of

Row = Mapping[str, Any]
There = Callable[[str], bool]  # whether a shard is there, by its path


def part_of(
    model: Row, sites: Sequence[Row], there: There, target: Store
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The rows for `target`, of what is there of a model, and of what `target` claims of it already.

    ForeignAtlas where that is of other weights, or of other settings of a stage.
    """
    slug = model["slug"]
    kept = {site["layer"]: _kept(site, model, there) for site in sites if site["kind"] == "ffn"}
    claims = {
        one["stage"]: dict(one) for one in model["stages"] if _is_claimed(one["stage"], model, kept, sites, there)
    }
    row = {**model, "stages": list(claims.values())}
    before = claimed(target, slug)
    if before is not None:
        row = _joined(target, row, before)
        for layer, spans in planned_before(target, slug).items():
            own = kept.setdefault(layer, {})
            for stage, ranges in spans.items():
                own[stage] = union(own.get(stage, ()), ranges)
    planned, by_stage = planned_with(kept, [])
    return row, [_site(site, planned, by_stage) for site in sites]


def _kept(site: Row, model: Row, there: There) -> dict[str, tuple[Range, ...]]:
    """Of an FFN layer, the neurons that each stage described whose tables are there; under "" those of any stage."""
    kept: dict[str, tuple[Range, ...]] = {}
    spans = site["planned_stages"] or ()
    for span in spans:
        if all(there(path) for path in _layer_paths(span["stage"], model, site["layer"])):
            kept[span["stage"]] = union(kept.get(span["stage"], ()), [(span["start"], span["stop"])])
    whole = len(kept) == len({span["stage"] for span in spans})
    any_stage = planned_ranges(site) if whole else union(*kept.values())
    return {"": any_stage, **kept} if any_stage else kept


def _layer_paths(stage: str, model: Row, layer: int) -> list[str]:
    tables = [table for table in tables_filled_by(stage) if table.name in LAYER_TABLES]
    return [shard_path(table, model["slug"], layer, model["ffn_sites"]) for table in tables]


def _is_claimed(stage: str, model: Row, kept: Mapping[int, Row], sites: Sequence[Row], there: There) -> bool:
    tables = tables_filled_by(stage)
    owned = [shard_path(table, model["slug"]) for table in tables if table.name not in LAYER_TABLES]
    if not all(there(path) for path in owned):
        return False
    if len(owned) == len(tables):  # none of layers; a stage without tables leaves nothing that could lack
        return True
    layers = [site["layer"] for site in sites if site["kind"] == "ffn"]
    return any(stage in own for own in kept.values()) or any(
        all(there(path) for path in _layer_paths(stage, model, layer)) for layer in layers
    )


def _joined(target: Store, row: Row, before: Row) -> dict[str, Any]:
    """What came, with what the atlas claims of the model already."""
    own = {one["stage"]: dict(one) for one in before["stages"]}
    differs = ["fingerprint"] if before["fingerprint"] != row["fingerprint"] else []
    differs += [one["stage"] for one in row["stages"] if own.get(one["stage"], one)["settings"] != one["settings"]]
    if differs:
        raise ForeignAtlas(
            f"{target.url}: holds {row['slug']} with another {', another '.join(differs)} than what is pulled. Nothing "
            "of it was changed. Give another folder with --out"
        )
    stages = {one["stage"]: own.get(one["stage"], one) for one in row["stages"]}
    if own.keys() - stages.keys():
        stages = dict(sorted((stages | own).items(), key=lambda item: place_of(item[0])))
    told = {name: value for name, value in before.items() if value is not None}
    return {**row, **told, "stages": list(stages.values())}


def _site(site: Row, planned: Mapping[int, Any], by_stage: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    if site["kind"] != "ffn":
        return dict(site)
    layer = site["layer"]
    named = [(span["stage"], (span["start"], span["stop"])) for span in site["planned_stages"] or ()]
    before = {stage: union(*([span] for name, span in named if name == stage)) for stage, _ in named}
    if before == by_stage.get(layer, {}) and planned_ranges(site) == planned.get(layer, ()):
        return dict(site)  # as it is, in its own order
    spans = [
        {"stage": stage, "start": start, "stop": stop}
        for stage, ranges in by_stage.get(layer, {}).items()
        for start, stop in ranges
    ]
    whole = [{"start": start, "stop": stop} for start, stop in planned.get(layer, ())]
    return {**site, "planned": whole, "planned_stages": spans}
