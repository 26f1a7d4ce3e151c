"""Shards: what people read, one file per table and layer (`neurons/zoo-vit/train-00003-of-00012.parquet`).

A shard of neurons is assembled from parts and is a function of them, byte for byte; the small tables (models,
sites, runs) are written whole. Either way it is replaced in one step, and a shard of another recipe,
checkpoint or seed is never overwritten.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.columns import Table
from atlas_schema.errors import ForeignAtlas, NothingThere, ShardCorrupt
from atlas_schema.parquet import check_whole, encode
from atlas_schema.parts import WorkUnit, alike, decode_part
from atlas_schema.rows import rows_to_table
from atlas_schema.store import Store
from atlas_schema.tables import TABLES, stage_table

_PATH = re.compile(r"([a-z_]+)/([^/]+)/train-(\d{5,})-of-(\d{5,})\.parquet")
#: What must agree between everything that one shard of neurons is made of, and with the shard it replaces.
IDENTITY = ("fingerprint", "recipe_hash", "seed")


def shard_path(table: Table | str, slug: str, layer: int = 0, layers: int = 1) -> str:
    """Where a shard lies, in the form that `datasets` knows; for runs, `slug` is the run's id."""
    name = table if isinstance(table, str) else table.name
    return f"{name}/{slug}/train-{layer:05d}-of-{layers:05d}.parquet"


def parse_shard_path(path: str) -> tuple[str, str, int, int] | None:
    """(table, slug, layer, layers) of a shard's path; None for any other path."""
    match = _PATH.fullmatch(path)
    return (match[1], match[2], int(match[3]), int(match[4])) if match else None


def write_rows(
    store: Store,
    table: Table | str,
    slug: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    provenance: Mapping[str, str],
    layer: int = 0,
    layers: int = 1,
) -> str:
    """Write a shard that no parts are assembled into (models, sites, runs, probe_images; one layer of
    neuron_matches) whole, in place of the one that was there; its path.

    Rows are sorted by the table's key. Raises BadRow, NotFinite, StoreFull, StoreFailed.
    """
    table = TABLES[table] if isinstance(table, str) else table
    key = table.key
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in key))
    data = rows_to_table(table.columns, table.schema(), ordered)
    path = shard_path(table, slug, layer, layers)
    place = {"slug": slug, "layer": str(layer), "layers": str(layers)} if layers > 1 else {"slug": slug}
    _write_if_new(store, path, encode(table, data, {**provenance, **place}))
    return path


def reduce_layer(store: Store, slug: str, layer: int, layers: int, units: Sequence[WorkUnit]) -> str:
    """Assemble the shard of one layer's neurons from its committed parts; the shard's path.

    `units` are those that must be there; parts of the same recipe, checkpoint and seed in other ranges (an
    earlier run's) are taken in as well, so that a shard never loses neurons. A neuron that several parts
    describe comes from the part that sorts first by (start, stop, key). Doing it again changes nothing.

    `units` may be of several stages, if these fill one table: their columns are joined.

    Raises NothingThere where a unit's part is missing, ShardCorrupt naming a damaged part, ForeignAtlas where
    the units, or the shard that stands there, follow another recipe, checkpoint or seed.
    """
    _require_one_identity(slug, layer, units)
    table = stage_table(units[0].stage)
    parts: dict[str, dict[str, tuple[pa.Table, dict[str, str]]]] = {}
    for stage in (stage for stage in table.stages if any(unit.stage == stage for unit in units)):
        parts[stage] = _parts(store, layer, [unit for unit in units if unit.stage == stage])
    data = _joined(table, {stage: _stacked(list(found.values())) for stage, found in parts.items()})
    path = shard_path(table, slug, layer, layers)
    identity = shard_identity(units)
    encoded = encode(table, data, _shard_metadata(slug, layer, layers, parts, identity))
    _require_same_identity(store, path, identity)
    _write_if_new(store, path, encoded)
    return path


def shard_identity(units: Sequence[WorkUnit]) -> dict[str, str]:
    """What the units of a shard stand for: weights, recipe and seed, and the settings of each further stage."""
    own: dict[str, str] = {"fingerprint": units[0].fingerprint}
    for unit in units:
        if unit.stage == "visualize":
            own |= {"recipe_hash": unit.recipe_hash, "seed": str(unit.seed)}
        else:
            own[f"{unit.stage}_settings"] = unit.recipe_hash
    return own


def _parts(store: Store, layer: int, units: Sequence[WorkUnit]) -> dict[str, tuple[pa.Table, dict[str, str]]]:
    """Path -> (rows, footer metadata) of the parts of one stage, in the order in which they are preferred."""
    required = {unit.path for unit in units}
    covered = {neuron for unit in units for neuron in range(unit.start, unit.stop)}
    everything = {unit.path: unit for unit in [*units, *alike(store, units[0], layer)]}
    found = {}
    for path, unit in sorted(everything.items(), key=lambda item: (item[1].start, item[1].stop, item[1].key)):
        try:
            rows, _, metadata = decode_part(store.read(path), path)
        except FileNotFoundError:
            raise NothingThere(f"{unit}: not committed (no {path}); run it before its layer is assembled") from None
        except ShardCorrupt:
            # An earlier run's part that is not needed must not stand in the way of this one.
            if path in required or not covered.issuperset(range(unit.start, unit.stop)):
                raise
            continue
        found[path] = rows, metadata
    return found


def _stacked(parts: Sequence[tuple[pa.Table, dict[str, str]]]) -> pa.Table:
    """All rows by key; where several parts describe a unit, those of the first."""
    kept: list[pa.Table] = []
    seen: set[int] = set()
    for rows, _ in parts:
        units = rows["unit"].to_pylist()
        kept.append(rows.filter(pa.array([unit not in seen for unit in units], pa.bool_())))
        seen.update(units)
    rows = pa.concat_tables(kept)
    return rows if len(kept) == 1 else rows.take(pa.array(_order(rows), pa.int64()))


def _order(rows: pa.Table) -> list[int]:
    """Where each row goes: by unit, and as they stand within a unit (a part is sorted by its table's key)."""
    units = rows["unit"].to_pylist()
    return sorted(range(len(units)), key=units.__getitem__)


def _joined(table: Table, stages: Mapping[str, pa.Table]) -> pa.Table:
    """The columns of all stages side by side, for every unit that any describes; null where one does not."""
    if len(table.stages) == 1:  # the only stage; it may have several rows a unit
        (rows,) = stages.values()
        return rows.select(table.names).replace_schema_metadata(table.schema().metadata)
    keys = _stacked([(rows.select([c.name for c in table.columns if not c.stage]), {}) for rows in stages.values()])
    arrays = []
    for column in table.columns:
        rows = keys if not column.stage else stages.get(column.stage)
        if rows is None:
            arrays.append(pa.nulls(keys.num_rows, column.type))
        else:
            arrays.append(rows[column.name].take(pc.index_in(keys["unit"], rows["unit"].combine_chunks())))
    return pa.Table.from_arrays(arrays, schema=table.schema())


def _shard_metadata(
    slug: str,
    layer: int,
    layers: int,
    parts: Mapping[str, Mapping[str, tuple[pa.Table, dict[str, str]]]],
    identity: Mapping[str, str],
) -> dict[str, str]:
    """What the parts agree in, and for the rest the sorted list of what they say."""
    footers = [metadata for found in parts.values() for _, metadata in found.values()]
    own = {"table", "schema_version", "start", "stop", "key", "layer", "slug", "stage", "recipe_hash", "seed"}
    said = {
        name: sorted({footer[name] for footer in footers if name in footer}) for footer in footers for name in footer
    }
    merged = {name: ",".join(values) for name, values in said.items() if name not in own}
    keys = ",".join(footer["key"] for footer in footers)
    place = {"slug": slug, "layer": str(layer), "layers": str(layers), "stage": ",".join(parts)}
    return {**merged, **identity, **place, "parts": keys}


def _require_one_identity(slug: str, layer: int, units: Sequence[WorkUnit]) -> None:
    if not units:
        raise NothingThere(f"{slug}/mlp/{layer}: no work units to assemble a shard from")
    first: dict[str, WorkUnit] = {}
    for unit in units:
        if (unit.slug, unit.layer) != (slug, layer):
            raise ForeignAtlas(f"{unit}: not of {slug}/mlp/{layer}, whose shard is being assembled")
        other = first.setdefault(unit.stage, unit)  # each stage has settings of its own
        differs = [name for name in IDENTITY if getattr(unit, name) != getattr(other, name)]
        if unit.fingerprint != units[0].fingerprint:
            differs, other = ["fingerprint"], units[0]
        if differs:
            raise ForeignAtlas(f"{unit} and {other}: one shard cannot mix them; they differ in {', '.join(differs)}")


def _require_same_identity(store: Store, path: str, identity: Mapping[str, str]) -> None:
    """Refuse to overwrite a sound shard of other weights, recipe, seed or settings; a damaged one may go."""
    try:
        found = check_whole(store.read(path), path)
    except (FileNotFoundError, ShardCorrupt):
        return
    differs = [name for name, value in identity.items() if found.get(name, value) != value]
    if differs:
        raise ForeignAtlas(
            f"{path}: holds neurons of another "
            + " and ".join(f"{name} ({found.get(name)}, not {identity[name]})" for name in differs)
            + "; it is left as it is. Use another folder, or another name for the model (--as NAME)"
        )


def _write_if_new(store: Store, path: str, encoded: bytes) -> None:
    """Leave an equal file alone: its time stamp then says when it last changed, and uploads skip it."""
    try:
        if store.size(path) == len(encoded) and store.read(path) == encoded:
            return
    except FileNotFoundError:
        pass
    store.replace(path, encoded)
