"""How far an atlas is, read from its committed files alone: no driver is asked."""

from __future__ import annotations

from typing import Any

from atlas_schema.errors import NothingThere
from atlas_schema.parts import WorkUnit, alike
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from jobs.claim import planned_ranges
from jobs.layers import neurons_in
from jobs.lock import read_holder, surely_dead
from jobs.plan import subtract, union
from jobs.prepare import seed_of
from jobs.records import failures


def status_of(store: Store) -> dict[str, Any]:
    """Per model what is planned, committed and assembled; units given up; who holds the lock.

    Raises NothingThere where there is no atlas.
    """
    atlas = Atlas(store)
    rows = atlas.models()
    if not rows:
        raise NothingThere(f"{store.url}: no atlas here. `neuron-atlas run --out {store.url}` begins one.")
    holder = read_holder(store)
    return {
        "atlas": store.url,
        "models": [_model_status(store, atlas, row) for row in rows],
        "failed": [{"unit": one["unit"], "error": one["error"], "run_id": one["run_id"]} for one in failures(store)],
        "running": None
        if holder is None or surely_dead(holder)
        else {"run_id": holder.run_id, "host": holder.host.split()[0], "pid": holder.pid},
        "runs": [{"run_id": row["run_id"], "status": row["status"]} for row in atlas.runs()],
    }


def _model_status(store: Store, atlas: Atlas, row: dict[str, Any]) -> dict[str, Any]:
    slug = row["slug"]
    planned = {site["layer"]: planned_ranges(site) for site in atlas.sites(slug) if site["kind"] == "ffn"}
    any_unit = WorkUnit("visualize", slug, 0, 0, 1, row["fingerprint"], row["recipe_hash"], row["seed"])
    committed: dict[int, list[tuple[int, int]]] = {}
    for unit in alike(store, any_unit):
        committed.setdefault(unit.layer, []).append((unit.start, unit.stop))
    left = {
        layer: [gap for one in ranges for gap in subtract(one, committed.get(layer, ()))]
        for layer, ranges in planned.items()
    }
    return {
        "slug": slug,
        "recipe": row["recipe"],
        "neurons": row["neurons"],
        "planned": sum(neurons_in(ranges) for ranges in planned.values()),
        "committed": sum(neurons_in(union(ranges)) for ranges in committed.values()),
        "layers": sum(bool(ranges) for ranges in planned.values()),
        "layers_assembled": len(atlas.layers(slug)),
        "stages": {one["stage"]: _committed(store, row, one) for one in row["stages"]},
        "missing": [
            f"{slug}/mlp/{layer} units {start} to {stop - 1}" for layer, gaps in left.items() for start, stop in gaps
        ],
    }


def _committed(store: Store, row: dict[str, Any], stage: dict[str, str]) -> int:
    """Neurons that parts of a stage describe."""
    seed = seed_of(stage["stage"], row)
    any_unit = WorkUnit(stage["stage"], row["slug"], 0, 0, 1, row["fingerprint"], stage["settings"], seed)
    by_layer: dict[int, list[tuple[int, int]]] = {}
    for unit in alike(store, any_unit):
        by_layer.setdefault(unit.layer, []).append((unit.start, unit.stop))
    return sum(neurons_in(union(ranges)) for ranges in by_layer.values())


def status_text(state: dict[str, Any]) -> str:
    lines = [f"{'model':40} {'recipe':10} {'planned':>9} {'committed':>9} {'layers':>8}"]
    lines += [
        f"{one['slug']:40} {one['recipe']:10} {one['planned']:9,} {one['committed']:9,} "
        f"{one['layers_assembled']:>3} of {one['layers']}"
        for one in state["models"]
    ]
    lines += [
        f"{one['slug']:40} further stages: " + ", ".join(f"{stage} {count:,}" for stage, count in further.items())
        for one in state["models"]
        if (further := {stage: count for stage, count in one["stages"].items() if stage != "visualize"})
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
