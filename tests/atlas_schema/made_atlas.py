"""A small atlas, made through the same calls as the pipeline's: two FFN sites and one attention site."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from atlas_schema.card import write_card
from atlas_schema.columns import Column, Table
from atlas_schema.head_tables import HEAD_READS
from atlas_schema.parquet import decode, encode
from atlas_schema.parts import commit_part
from atlas_schema.shards import ShardPlace, assemble, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import (
    HEAD_TABLES,
    INVERSION_READINGS,
    INVERSIONS,
    LAYER_TABLES,
    NEURON_MATCHES,
    PROBE_IMAGES,
    TABLES,
    VERDICT_COLUMNS,
    tables_of,
)
from atlas_schema.units import Neurons, Pair, Readings, Targets, Whole, WorkUnit

SLUG = "zoo-vit"
FINGERPRINT = hashlib.sha256(b"weights").hexdigest()
RECIPE_HASH = "0123456789abcdef"
SETTINGS = "a" * 16  # of the stage visualize
PROBE_SET = "fedcba9876543210"
ADDRESS = ("address", "slug", "layer", "unit")
ALL = ("visualize", "verdict", "evidence", "judge", "label", "effect", "examples", "pictures-peak", "pictures-maco")
INVERTED = ("invert-fast", "transfer-fast")
PROVENANCE = {"code_version": "0.1.0", "precision": "float32", "recipe": "fast"}


@lru_cache(maxsize=4096)
def webp(seed: int, side: int = 24) -> bytes:
    """A picture that depends on `seed` alone."""
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "WEBP", quality=75)
    return sink.getvalue()


def neuron_row(unit: int, **changes: Any) -> dict[str, Any]:
    """A row as the visualization stage hands it to commit_part, without the keys of the address."""
    row = {
        "unit": unit,
        "image": {"bytes": webp(unit), "path": None},
        "status": "inactive" if unit % 10 == 9 else "active",
        "activation": 1.5 + unit,
        "activation_peak": 2.0 + unit,
        "activation_stored": 1.25 + unit,
        "activation_start": 0.25,
        "activation_start_peak": 0.5,
        "robust_mean": 1.0,
        "robust_std": 0.125,
        "robust_peak": 2.0,
        "robust_draws": 8,
        "loss_curve": [{"step": step, "objective": -float(step), "activation": 0.5 * step} for step in (0, 20)],
        "rescue": None if unit % 3 else "before the activation function",
        "start": "noise",
        "steps": 20,
        "image_steps": 20,
        "seconds": 0.5,
        "recipe": "fast",
        "recipe_hash": RECIPE_HASH,
        "precision": "float32",
        "seed": 0,
    }
    return {**row, **changes}


def stage_rows(stage: str, unit: int) -> list[dict[str, Any]]:
    """Rows as any other stage hands them in: a plain value of its type in every column."""
    return made_rows(tables_of(stage)[0], stage, unit)


def made_rows(table: Table, stage: str, unit: int) -> list[dict[str, Any]]:
    columns = [column for column in table.part_columns(stage) if column.name not in ADDRESS]
    row = {column.name: made_value(column, unit) for column in columns}
    row |= {name: {"bytes": webp(unit), "path": None} for name in table.image_columns if name in row}
    row |= {table.row_stage_by: dict(table.row_stages)[stage]} if table.row_stages else {}
    row |= {"kind": dict(table.row_stage_kinds)[stage][0]} if table.row_stage_kinds else {}
    last = table.key[-1]
    several = 1 if last == "unit" else 1 + unit % 3  # as many as the unit says
    return [
        {**row, "unit": unit, **({last: number} if several > 1 or last == "variant" else {})}
        for number in range(several)
    ]


def made_value(column: Column, number: int) -> Any:
    """A value that the column's declaration allows."""
    if column.choices:
        return column.choices[0]
    low, high = column.bounds or (0, 1000)
    return _made(column.type, min(max(number, low), high))


def _made(arrow: pa.DataType, number: float) -> Any:
    if pa.types.is_struct(arrow):
        return {field.name: _made(field.type, number) for field in arrow}
    if pa.types.is_list(arrow):
        return [_made(arrow.value_type, number)] * 2
    if pa.types.is_floating(arrow):
        return float(number)
    if pa.types.is_integer(arrow):
        return int(number)
    if pa.types.is_boolean(arrow):
        return number % 2 == 0
    return f"{number:g}" if pa.types.is_string(arrow) else bytes([int(number) % 256] * 4)


def units_of(
    layer: int, width: int, size: int, slug: str = SLUG, stage: str = "visualize", **changes: str
) -> list[WorkUnit]:
    """The work units of a layer, `size` neurons each."""
    facts = {"fingerprint": FINGERPRINT, "settings": SETTINGS, **changes}
    cuts = [Neurons(layer, start, min(start + size, width)) for start in range(0, width, size)]
    return [WorkUnit(stage, slug, cut, **facts) for cut in cuts]


def reduce_layer(store: Store, slug: str, layer: int, layers: int, units: Sequence[WorkUnit]) -> str:
    """Assemble the shard of one layer of the table that these units fill; its path."""
    table = tables_of(units[0].stage)[0] if units else LAYER_TABLES["neurons"]
    return assemble(store, [ShardPlace(table, slug, layer, layers)], units)[0]


def commit(store: Store, unit: WorkUnit, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Any:
    """Commit `unit` with made rows, or with those given."""
    if rows is not None:
        return commit_part(store, unit, rows, provenance=PROVENANCE)
    if unit.stage != "visualize":
        rows = [row for neuron in range(unit.start, unit.stop) for row in stage_rows(unit.stage, neuron)]
        return commit_part(store, unit, rows, provenance=PROVENANCE)
    rows = [neuron_row(neuron, **changes) for neuron in range(unit.start, unit.stop)]
    return commit_part(store, unit, rows, provenance=PROVENANCE)


def settings_of(stage: str) -> str:
    """The settings of a stage in the atlas that `make_atlas` makes."""
    return SETTINGS if stage == "visualize" else hashlib.sha256(stage.encode()).hexdigest()[:16]


def stage_claim(stage: str, **changes: Any) -> dict[str, Any]:
    """What a model's row says of a stage that ran."""
    claim = {
        "stage": stage,
        "settings": settings_of(stage),
        "facts": "{}",
        "precision": "float32",
        "code_version": "0.1.0",
        "software": [{"name": "timm", "version": "1.0.20"}],
        "started": dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC),
    }
    return claim | changes


def model_row(widths: tuple[int, ...], slug: str = SLUG, **changes: Any) -> dict[str, Any]:
    row = {
        "slug": slug,
        "model_id": "zoo/vit",
        "family": "vit",
        "source": "zoo",
        "licence": "apache-2.0",
        "fingerprint": FINGERPRINT,
        "notes": ["float16 widened to float32"],
        "parameters": 123_456,
        "input_height": 64,
        "input_width": 64,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "representation_dim": 32,
        "ffn_sites": len(widths),
        "neurons": sum(widths),
        "attention_sites": 1,
        "heads": 3,
        "recipe": "fast",
        "recipe_hash": RECIPE_HASH,
        "recipe_json": json.dumps({"name": "fast", "steps": 20}),
        "seed": 0,
        "probe_set": PROBE_SET,
        "probe_name": "made",
        "stages": [stage_claim("visualize")],
    }
    return {**row, **changes}


def site_rows(
    widths: tuple[int, ...], slug: str = SLUG, stages: Sequence[str] = ("visualize",)
) -> list[dict[str, Any]]:
    shared = {"slug": slug, "grids": [{"height": 8, "width": 8}], "prefix_tokens": ["class"], "calls": 1}
    ffn = [
        {
            **shared,
            "kind": "ffn",
            "layer": layer,
            "path": f"blocks.{layer}.mlp",
            "depth": (layer + 1) / len(widths),
            "width": width,
            "heads": None,
            "head_dim": None,
            "attention_kind": None,
            "activation_function": "GELU",
            "planned": [{"start": 0, "stop": width}],
            "planned_stages": [{"stage": stage, "start": 0, "stop": width} for stage in stages],
        }
        for layer, width in enumerate(widths)
    ]
    attention = {
        **shared,
        "kind": "attention",
        "layer": 0,
        "path": "blocks.0.attn",
        "depth": 0.25,
        "width": None,
        "heads": 3,
        "head_dim": 16,
        "attention_kind": "global",
        "activation_function": None,
        "planned": None,
        "planned_stages": None,
    }
    return [*ffn, attention]


def run_row(run_id: str = "2026-11-21-a1b2", **changes: Any) -> dict[str, Any]:
    row = {
        "run_id": run_id,
        "command": "neuron-atlas run --model zoo/vit",
        "config": "{}",
        "code_version": "0.1.0",
        "machine": "{}",
        "started": dt.datetime(2026, 11, 21, 10, tzinfo=dt.UTC),
        "finished": dt.datetime(2026, 11, 21, 11, tzinfo=dt.UTC),
        "status": "done",
        "units_done": 4,
        "units_failed": 0,
        "units_reused": 0,
        "failures": [],
    }
    return {**row, **changes}


def image_rows(count: int = 12) -> list[dict[str, Any]]:
    """Rows of probe_images."""
    made = [{column.name: made_value(column, index) for column in PROBE_IMAGES.columns} for index in range(count)]
    thumbnails = [{"bytes": webp(index), "path": None} for index in range(count)]
    facts = {"probe_set": PROBE_SET, "licence": "CC0-1.0"}
    return [{**row, **facts, "thumbnail": one} for row, one in zip(made, thumbnails, strict=True)]


def head_rows(table: Table, heads: int, slug: str = SLUG, neurons: int = 4) -> list[dict[str, Any]]:
    """Rows of one of the tables of heads: of the only attention site, or of some neurons of the first layer."""
    made = []
    for number in range(neurons if table is HEAD_READS else heads):
        row = {column.name: made_value(column, number) for column in table.columns} | {"slug": slug, "layer": 0}
        if table is HEAD_READS:
            row |= {"address": f"{slug}/mlp/0/{number}", "unit": number, "reader": f"{slug}/head/0/0"}
            made.append(row | {"reader_layer": 0, "reader_head": 0})
            continue
        row |= {"head": number, "address": f"{slug}/head/0/{number}", "component": f"head/0/{number}", "kind": "head"}
        made.append({name: row[name] for name in table.names})
    return made


def make_atlas(
    store: Store,
    widths: tuple[int, ...] = (40, 24),
    size: int = 16,
    slug: str = SLUG,
    stages: Sequence[str] = ALL,
) -> Store:
    """A whole, sound atlas with every neuron described by every stage; with `examples`, counterparts and heads too."""
    whole = (*stages, "pairs", "heads", *INVERTED) if "examples" in stages else tuple(stages)
    claims = [stage_claim(stage) for stage in whole]
    write_rows(store, "models", slug, [model_row(widths, slug, stages=claims)], provenance=PROVENANCE)
    planned = [stage for stage in whole if stage not in ("heads", *INVERTED)]
    write_rows(store, "sites", slug, site_rows(widths, slug, planned), provenance=PROVENANCE)
    for layer, width in enumerate(widths):
        for table in LAYER_TABLES.values():
            own = [stage for stage in stages if stage in table.stages]
            units = [u for stage in own for u in units_of(layer, width, size, slug, stage, settings=settings_of(stage))]
            for unit in units:
                commit(store, unit)
            if units:
                reduce_layer(store, slug, layer, len(widths), units)
    if "examples" in stages:
        _make_matches(store, widths, slug)
        _make_heads(store, widths, slug)
        _make_inversions(store, slug)
        write_rows(store, "probe_images", PROBE_SET, image_rows(), provenance=PROVENANCE)
    write_rows(store, "runs", "2026-11-21-a1b2", [run_row()], provenance=PROVENANCE)
    write_card(store)
    return store


def _make_matches(store: Store, widths: tuple[int, ...], slug: str) -> None:
    unit = WorkUnit("pairs", slug, Pair(slug, "b" * 16), FINGERPRINT, settings_of("pairs"))
    rows = [
        {**row, "slug": slug, "layer": layer, "address": f"{slug}/mlp/{layer}/{neuron}", "partner_slug": slug}
        for layer, width in enumerate(widths)
        for neuron in range(width)
        for row in made_rows(NEURON_MATCHES, "pairs", neuron)
    ]
    commit_part(store, unit, rows, provenance=PROVENANCE)
    places = [ShardPlace(NEURON_MATCHES, slug, layer, len(widths)) for layer in range(len(widths))]
    assemble(store, places, [unit])


def _make_heads(store: Store, widths: tuple[int, ...], slug: str) -> None:
    heads = next(row["heads"] for row in site_rows(widths, slug) if row["kind"] == "attention")
    unit = WorkUnit("heads", slug, Whole(), FINGERPRINT, settings_of("heads"))
    rows = {table.name: head_rows(table, heads, slug) for table in HEAD_TABLES.values()}
    commit_part(store, unit, rows, provenance=PROVENANCE)
    for table in HEAD_TABLES.values():
        assemble(store, [ShardPlace(table, slug)], [unit])


def inversion_rows(slug: str, digest: str, indices: Sequence[int], recipe: str = "fast") -> list[dict[str, Any]]:
    """Rows of inversions of some classes."""
    rows = []
    for index in indices:
        row = {column.name: made_value(column, index) for column in INVERSIONS.columns}
        row |= {"address": f"{slug}/class/{index}", "slug": slug, "recipe": recipe, "variant": 0, "index": index}
        row |= {"target": f"class {index}", "status": "made", "status_reason": None, "together": digest}
        row |= dict.fromkeys(("head", "direction", "projection", "deviations", "natural_deviations"))
        rows.append(row | {"image": {"bytes": webp(index), "path": None}})
    return rows


def reading_rows(slug: str, digest: str, indices: Sequence[int], reader: str) -> list[dict[str, Any]]:
    """Rows of what a model reads off inversions of some classes."""
    told = {"slug": slug, "recipe": "fast", "variant": 0, "reader": reader, "rivals": 8, "together": digest}
    return [{**told, "address": f"{slug}/class/{one}", "score": 0.25, "rank": 1 + one % 3} for one in indices]


def inversion_unit(slug: str, digest: str, count: int, recipe: str = "fast") -> WorkUnit:
    """The unit of a list of so many targets."""
    stage = f"invert-{recipe}"
    return WorkUnit(stage, slug, Targets(count, digest), FINGERPRINT, settings_of(stage))


def _make_inversions(store: Store, slug: str) -> None:
    """Four classes in two units, and what another model reads off three of them."""
    units = []
    for digest, indices in (("c" * 16, (0, 10, 2)), ("d" * 16, (5,))):
        units.append(inversion_unit(slug, digest, len(indices)))
        commit_part(store, units[-1], inversion_rows(slug, digest, indices), provenance=PROVENANCE)
    assemble(store, [ShardPlace(INVERSIONS, slug)], units)
    cut = Readings(3, "c" * 16, "zoo-swin", "e" * 16)
    reading = WorkUnit("transfer-fast", slug, cut, FINGERPRINT, settings_of("transfer-fast"))
    commit_part(store, reading, reading_rows(slug, "c" * 16, (0, 10, 2), "zoo-swin"), provenance=PROVENANCE)
    assemble(store, [ShardPlace(INVERSION_READINGS, slug)], [reading])


#: Columns that came after schema 2.0.0, by table.
LATER = {
    "models": ("notes",),
    "neurons": ("status_reason", *(column.name for column in VERDICT_COLUMNS)),
    "neuron_matches": ("threshold",),
}


def as_of_2_0_0(store: Store) -> None:
    """Turn the shards of an atlas into what schema 2.0.0 would have written: without later columns."""
    for name, later in LATER.items():
        table = TABLES[name]
        for path in store.list(name):
            rows, metadata = decode(store.read(path), path)
            kept = [column for column in rows.column_names if column not in later]
            told = {key: value for key, value in metadata.items() if key not in ("sha256", "table", "schema_version")}
            then = dataclasses.replace(table, columns=tuple(table.column(column) for column in kept), version="2.0.0")
            store.replace(path, encode(then, rows.select(kept), told))
