"""How far an atlas is, read from its committed files alone: no driver is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atlas_schema.errors import NothingThere
from atlas_schema.parts import committed_units
from atlas_schema.read import Atlas
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import tables_filled_by, tables_of
from atlas_schema.units import Images, Neurons, WorkUnit
from jobs import stages
from jobs.claim import claimed_identities, planned_ranges
from jobs.lock import living, read_holder, surely_dead
from jobs.ranges import Range, length, subtract, union
from jobs.records import failures
from jobs.standing import read_by


def status_of(store: Store) -> dict[str, Any]:
    """Per model what each stage set out to do and has committed, and what is assembled; who holds the lock.

    Raises NothingThere where there is no atlas.
    """
    atlas = Atlas(store)
    rows = atlas.models()
    if not rows:
        raise NothingThere(f"{store.url}: no atlas here. `neuron-atlas run --out {store.url}` begins one.")
    holder = read_holder(store) or next(iter(living(store)), None)
    return {
        "atlas": store.url,
        "models": [_model_status(store, atlas, row) for row in rows],
        "failed": [{"unit": one["name"], "error": one["error"], "run_id": one["run_id"]} for one in failures(store)],
        "running": None
        if holder is None or surely_dead(holder)
        else {"run_id": holder.run_id, "host": holder.host.split()[0], "pid": holder.pid},
        "runs": [{"run_id": row["run_id"], "status": row["status"]} for row in atlas.runs()],
    }


def _model_status(store: Store, atlas: Atlas, row: dict[str, Any]) -> dict[str, Any]:
    slug = row["slug"]
    sites = [site for site in atlas.sites(slug) if site["kind"] == "ffn"]
    planned = {site["layer"]: planned_ranges(site) for site in sites}
    told = _without_spent_sums([_stage_status(store, row, name, sites) for name in claimed_identities(row)])
    pictures = next((one for one in told if one["stage"] == "visualize"), None)
    return {
        "slug": slug,
        "recipe": row["recipe"],
        "neurons": row["neurons"],
        "planned": sum(length(ranges) for ranges in planned.values()),
        "committed": pictures["committed"] if pictures else 0,
        "layers": sum(bool(ranges) for ranges in planned.values()),
        "layers_assembled": len(atlas.layers(slug)),
        "stages": told,
        "missing": [gap for one in told for gap in one["missing"]],
    }


def _without_spent_sums(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums that are gone are not missing where all that is made of them is there: `clean` may have removed them."""
    lacking = {one["stage"] for one in told if one["missing"]}
    there = {one["stage"] for one in told} - lacking
    spent = {
        name
        for name in lacking
        if not tables_filled_by(name)
        and (readers := {stage.name for stage in read_by(name)}) & there
        and not readers & lacking
    }
    return [{**one, "missing": []} if one["stage"] in spent else one for one in told]


def _stage_status(store: Store, row: dict[str, Any], name: str, sites: list[dict[str, Any]]) -> dict[str, Any]:
    """What a stage set out to do, what parts hold of it, and which of its shards are there."""
    slug = row["slug"]
    units = committed_units(store, name, slug, claimed_identities(row)[name])
    tables = [table.name for table in tables_of(name)]
    shards = sum(parse_shard_path(path) is not None for table in tables for path in store.list(f"{table}/{slug}"))
    stage = next((one for one in stages.STAGES if one.name == name), None)
    found = {"stage": name, "along": stage.cut if stage else "", "committed": _held(units), "planned": None}
    gaps: list[str] = []
    if stage is not None and stage.cut == "neurons":
        planned = {site["layer"]: _planned(site, name) for site in sites}
        found["planned"] = sum(length(ranges) for ranges in planned.values())
        gaps = [
            f"{slug}/mlp/{layer} units {start} to {stop - 1}" + ("" if name == "visualize" else f" ({name})")
            for layer, ranges in planned.items()
            for start, stop in _gaps(ranges, units, layer)
        ]
    elif not units:
        gaps = [f"{slug} ({name})"]
    return {**found, "shards": shards, "missing": gaps}


def _held(units: list[WorkUnit]) -> int:
    """Neurons, images, targets, models or pairs that parts hold, each counted once."""
    layers: dict[int | None, list[Range]] = {}
    others = 0
    for unit in units:
        if isinstance(unit.cut, Neurons | Images):
            layers.setdefault(unit.layer, []).append((unit.start, unit.stop))
        else:
            others += unit.size
    return others + sum(length(union(ranges)) for ranges in layers.values())


def _planned(site: Mapping[str, Any], stage: str) -> tuple[Range, ...]:
    return union((one["start"], one["stop"]) for one in site["planned_stages"] or () if one["stage"] == stage)


def _gaps(ranges: tuple[Range, ...], units: list[WorkUnit], layer: int) -> list[Range]:
    held = [(unit.start, unit.stop) for unit in units if unit.layer == layer]
    return [gap for one in ranges for gap in subtract(one, held)]


def status_text(state: dict[str, Any]) -> str:
    """The same for people: a line a model, then a line for its stages."""
    lines = [f"{'model':40} {'recipe':10} {'planned':>9} {'pictures':>9} {'layers':>8}"]
    lines += [
        f"{one['slug']:40} {one['recipe'] or '-':10} {one['planned']:9,} {one['committed']:9,} "
        f"{one['layers_assembled']:>3} of {one['layers']}"
        for one in state["models"]
    ]
    lines += [
        f"{one['slug']:40} stages: " + ", ".join(f"{stage['stage']} {stage['committed']:,}" for stage in one["stages"])
        for one in state["models"]
        if one["stages"]
    ]
    missing = [gap for one in state["models"] for gap in one["missing"]]
    if missing:
        lines.append(f"Missing ({len(missing)}): " + "; ".join(missing[:8]) + ("; ..." if len(missing) > 8 else ""))
    lines += [f"Given up: {one['unit']}: {one['error']}" for one in state["failed"]]
    running = state["running"]
    lines.append(
        f"Run {running['run_id']} is at work (process {running['pid']} on {running['host']})."
        if running
        else "No run is at work."
    )
    return "\n".join(lines)
