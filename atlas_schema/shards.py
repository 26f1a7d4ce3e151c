"""Shards: what people read, one file per table and layer (`neurons/zoo-vit/train-00003-of-00012.parquet`).

A shard is assembled from parts and is a function of them, byte for byte; the small tables (models, sites, runs,
probe_images) are written whole. Either way it is replaced in one step, and a shard of other weights or settings is
never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas_schema.columns import SCHEMA_VERSION, Table
from atlas_schema.errors import AtlasError, ForeignAtlas, NothingThere, ShardCorrupt
from atlas_schema.file_faults import reached
from atlas_schema.kept import Shelf, part_in_shards, read_kept
from atlas_schema.lookup import lookup_path
from atlas_schema.parquet import (
    conformed,
    decode,
    encode,
    footer_metadata,
    read_footer,
    tried_twice,
    versions_agree,
)
from atlas_schema.parquet_columns import read_rows
from atlas_schema.parts import is_whole, part_path, read_file
from atlas_schema.quarantine import keep_copy
from atlas_schema.rows import rows_to_table
from atlas_schema.shard_paths import parse_shard_path, shard_path
from atlas_schema.store import Store
from atlas_schema.tables import INVERSION_READINGS, INVERSIONS, NEURONS, TABLES
from atlas_schema.units import Cut, Neurons, Pair, Readings, Targets, WorkUnit

__all__ = ["ShardPlace", "assemble", "parse_shard_path", "shard_identity", "shard_path", "stands", "write_rows"]

HELD_BYTES = 256 << 20
"""Rows of pairs that are held for all shards of a model; of pairs beyond it the rows are read again for each shard."""


def write_rows(
    store: Store,
    table: Table | str,
    slug: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    provenance: Mapping[str, str],
) -> str:
    """Write a shard that no parts are assembled into (models, sites, runs, probe_images) whole, in place of the one
    that was there; its path.

    Rows are sorted by the table's key. Raises BadRow, NotFinite, StoreFull, StoreFailed.
    """
    table = TABLES[table] if isinstance(table, str) else table
    key = table.key
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in key))
    data = rows_to_table(table.columns, table.schema(), ordered)
    path = shard_path(table, slug)
    _write_if_new(store, path, encode(table, data, {**provenance, "slug": slug}))
    return path


@dataclass(frozen=True)
class ShardPlace:
    """One file that people read: of `table`, a model, and where the table has a shard a layer, one of its layers."""

    table: Table
    slug: str
    layer: int = 0
    layers: int = 1

    @property
    def path(self) -> str:
        return shard_path(self.table, self.slug, self.layer, self.layers)


Planned = Mapping[int, Sequence[tuple[int, int]]]
"""By FFN layer, ranges of units."""


def assemble(
    store: Store,
    places: Sequence[ShardPlace],
    units: Sequence[WorkUnit],
    planned: Planned | None = None,
    step: Callable[[], None] = lambda: None,
) -> list[str]:
    """Assemble shards of one table of one model from committed parts; their paths. Doing it again changes nothing.

    `units` are all whose parts hold rows of these shards, of one stage or of several that fill the table: the columns
    of several stages are joined. A neuron that several parts describe comes from the part that sorts first by its cut
    and key. planned: by layer the ranges of units whose rows are kept, all where None. step: called after each file.

    A shard never loses rows, or columns of a stage: what the one that stands there says and no part does (the parts
    were not downloaded with it, or were cleaned away) stays.

    Held at a time are one part, the rows of one shard, and where parts hold rows of several shards (pairs) HELD_BYTES
    of these: memory does not grow with the number of pairs.

    Raises NothingThere where a unit's part is missing, ShardCorrupt naming a damaged part, ForeignAtlas where
    the units, or a shard that stands there, follow other weights or settings.
    """
    table, slug = places[0].table, places[0].slug
    identity = shard_identity(slug, units)
    sources: dict[str, list[_Source]] = {}
    shelf = Shelf(store)
    for stage in (stage for stage in table.stages if any(unit.stage == stage for unit in units)):
        sources[stage] = list(_sources(shelf, places, [unit for unit in units if unit.stage == stage], step))
    keys = {unit.key for unit in units}
    for place in places:
        own = {stage: [source.of(store, place, planned) for source in held] for stage, held in sources.items()}
        standing = _standing(store, place, identity, keys, _spans(place, planned))
        if standing is not None:
            for part in _lacking(place, own, *standing):
                own.setdefault(part.unit.stage, []).append(part)
            own = {stage: own[stage] for stage in table.stages if stage in own}
        data = _joined(table, {stage: _stacked(held) for stage, held in own.items()})
        known = identity if standing is None else _settings_of(own, standing[1]) | identity
        footer = _shard_metadata(place, own, known) | _spans(place, planned)
        _write_if_new(store, place.path, encode(table, data, footer))
        step()
    return [place.path for place in places]


def stands(
    store: Store, places: Sequence[ShardPlace], units: Sequence[WorkUnit], planned: Planned | None = None
) -> bool:
    """Whether the shards are there that `assemble` would write, by the tail of each file: no part is read.

    A footer must name every part, the place, today's schema, and the ranges that are planned. What lies before a
    footer is not looked at: `validate` does that. ForeignAtlas as in `assemble`.
    """
    identity, keys = shard_identity(places[0].slug, units), {unit.key for unit in units}
    return all(_says(store, place, identity, keys, _spans(place, planned)) for place in places)


def _says(
    store: Store, place: ShardPlace, identity: Mapping[str, str], keys: set[str], spans: Mapping[str, str]
) -> bool:
    try:
        parquet = read_footer(store, place.path)
    except (FileNotFoundError, ShardCorrupt):
        return False
    footer = footer_metadata(parquet)
    _require_own(place.path, footer, identity)
    expected = {"table": place.table.name, "schema_version": SCHEMA_VERSION, **_where(place), **identity, **spans}
    return expected.items() <= footer.items() and keys <= _parts_said(footer)


def _parts_said(footer: Mapping[str, str]) -> set[str]:
    """Keys of the parts that the rows of a shard came from."""
    return set(footer.get("parts", "").split(","))


def _spans(place: ShardPlace, planned: Planned | None) -> dict[str, str]:
    """What a footer says of the ranges of units whose rows were kept; nothing where all are."""
    if planned is None or place.table.shard != "layer":
        return {}
    return {"planned": ",".join(f"{start}-{stop}" for start, stop in planned.get(place.layer, ()))}


def _standing(
    store: Store, place: ShardPlace, identity: Mapping[str, str], keys: set[str], spans: Mapping[str, str]
) -> tuple[pa.Table, dict[str, str]] | None:
    """Rows and footer of the shard that is there; None where there is none, or nothing in it that the parts do not say.

    One that is damaged may be replaced, and its bytes are kept in the quarantine. ForeignAtlas where it is of other
    weights, settings or another schema.
    """
    try:
        footer = footer_metadata(read_footer(store, place.path))
        _require_own(place.path, footer, identity)
        if _parts_said(footer) <= keys and spans.items() <= footer.items():
            return None
        return tried_twice(lambda: decode(store.read(place.path), place.path))
    except FileNotFoundError:
        return None
    except ShardCorrupt:
        keep_copy(store, place.path, store.read(place.path))
        return None


def _require_own(path: str, footer: Mapping[str, str], identity: Mapping[str, str]) -> None:
    """ForeignAtlas where a shard is of other weights, settings or another schema."""
    differs = [name for name, value in identity.items() if footer.get(name, value) != value]
    if not versions_agree(footer.get("schema_version", "")):
        differs = ["schema_version"]
    if differs:
        raise ForeignAtlas(
            f"{path}: holds rows of another "
            + " and ".join(f"{name} ({footer.get(name)}, not {identity.get(name, SCHEMA_VERSION)})" for name in differs)
            + "; it is left as it is. Use another folder, or another name for the model (--as NAME)"
        )


def _lacking(
    place: ShardPlace, own: Mapping[str, Sequence[_Part]], rows: pa.Table, footer: Mapping[str, str]
) -> Iterator[_Part]:
    """What a standing shard says and no part does: a part a stage, which comes after all others."""
    table = place.table
    if table in (INVERSIONS, INVERSION_READINGS):
        yield from _targets_lacking(place, own, rows, footer)
    if table.shard != "layer":  # one part fills it whole
        return
    keys = {part.footer["key"] for parts in own.values() for part in parts}
    others = [key for key in footer.get("parts", "").split(",") if key not in keys]  # those that the rows came from
    for stage in table.stages:
        parts = own.get(stage, [])
        whole = len(table.stages) == 1 or bool(table.row_stages)
        kept = table.rows_of(stage, rows) if whole else rows.filter(reached(table, stage, rows))
        names = ("unit", "partner_slug") if "partner_slug" in table.key else ("unit",)
        held = {key for part in parts for key in zip(*(part.rows[name].to_pylist() for name in names), strict=True)}
        there = zip(*(kept[name].to_pylist() for name in names), strict=True)
        kept = kept.filter(pa.array([key not in held for key in there], pa.bool_()))
        if kept.num_rows:
            schema = table.part_schema(stage)
            cut = Pair(place.slug, "0" * 16) if "partner_slug" in table.key else Neurons(place.layer, 0, 0)
            told, others = {"key": ",".join(others)} if others else {}, []
            yield _Part(WorkUnit(stage, place.slug, cut, "", ""), conformed(kept, schema), told)


def _targets_lacking(
    place: ShardPlace, own: Mapping[str, Sequence[_Part]], rows: pa.Table, footer: Mapping[str, str]
) -> Iterator[_Part]:
    """The same of inversions: pictures of targets that no part holds."""
    names = [name for name in place.table.key if name != "slug"]
    held = {key for parts in own.values() for part in parts for key in _keys_of(part.rows, names)}
    keys = {part.footer["key"] for parts in own.values() for part in parts}
    others = [key for key in footer.get("parts", "").split(",") if key not in keys]
    for stage in place.table.stages:
        kept = place.table.rows_of(stage, rows)
        kept = kept.filter(pa.array([key not in held for key in _keys_of(kept, names)], pa.bool_()))
        if kept.num_rows:
            told, others = {"key": ",".join(others)} if others else {}, []
            none = "0" * 16
            cut = Targets(0, none) if place.table is INVERSIONS else Readings(0, none, place.slug, none)
            yield _Part(WorkUnit(stage, place.slug, cut, "", ""), conformed(kept, place.table.part_schema(stage)), told)


def _keys_of(rows: pa.Table, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in names), strict=True)


def _settings_of(own: Mapping[str, Sequence[_Part]], footer: Mapping[str, str]) -> dict[str, str]:
    """What a standing footer says of weights and settings of the stages of which rows are there."""
    names = ["fingerprint", *(f"{stage}_settings" for stage in own)]
    return {name: footer[name] for name in names if name in footer}


def shard_identity(slug: str, units: Sequence[WorkUnit]) -> dict[str, str]:
    """What the rows of a shard stand for: the weights of `slug` and the settings of each stage.

    ForeignAtlas where two units of a stage differ in these, NothingThere where there is no unit.
    """
    if not units:
        raise NothingThere(f"{slug}: no work units to assemble a shard from")
    own: dict[str, str] = {}
    for unit in units:
        if unit.slug != slug:  # a pair that another model makes with this one: its settings are of that model
            continue
        for name, value in {"fingerprint": unit.fingerprint, f"{unit.stage}_settings": unit.settings}.items():
            if own.setdefault(name, value) != value:
                other = f"{name} is {value} here and {own[name]} elsewhere"
                raise ForeignAtlas(f"{unit}: one shard cannot mix them; {other}")
    return own


@dataclass(frozen=True)
class _Part:
    unit: WorkUnit
    rows: pa.Table
    footer: dict[str, str]


@dataclass(frozen=True)
class _Source:
    """A part that was found whole. rows: None where they are read for each shard, by the statistics of `parquet`."""

    unit: WorkUnit
    path: str
    footer: dict[str, str]
    parquet: pq.FileMetaData | None  # where there are no rows
    rows: pa.Table | None

    def of(self, store: Store, place: ShardPlace, planned: Planned | None) -> _Part:
        """The rows that belong to one shard."""
        rows = self.rows
        if rows is None:
            assert self.parquet is not None
            wanted = {"slug": place.slug, "layer": place.layer}
            rows = conformed(
                read_rows(store, self.path, self.parquet, wanted), place.table.part_schema(self.unit.stage)
            )
        if isinstance(self.unit.cut, Pair):
            rows = rows.filter(pc.equal(rows["slug"], place.slug))
        if place.table.shard == "layer":
            rows = rows.filter(pc.equal(rows["layer"], place.layer))
            if planned is not None:
                units = [unit for span in planned.get(place.layer, ()) for unit in range(*span)]
                rows = rows.filter(pc.is_in(rows["unit"], value_set=pa.array(units, rows["unit"].type)))
        return _Part(self.unit, rows, self.footer)


def _sources(
    shelf: Shelf, places: Sequence[ShardPlace], units: Sequence[WorkUnit], step: Callable[[], None]
) -> Iterator[_Source]:
    """The parts of one stage, in the order in which they are preferred; of pairs as many rows as may be held. Of parts
    that were cleaned away, the rows that the shards hold.
    """
    table, slug, held, store = places[0].table, places[0].slug, 0, shelf.store
    for unit in sorted(set(units), key=lambda unit: (unit.cut.name, unit.slug, unit.key)):
        path = part_path(unit, table)
        try:
            rows, _, footer = read_file(store, path)
        except FileNotFoundError:
            kept = read_kept(store, unit)
            if kept is None:
                raise _absent(store, unit, path) from None
            rows, footer = part_in_shards(shelf, unit, table, kept, slug), dict(kept.footers[table.name])
            yield _Source(unit, path, footer, None, rows)
            step()
            continue
        if isinstance(unit.cut, Pair):
            rows = rows.filter(pc.equal(rows["slug"], slug))
            held += rows.nbytes
        if len(places) == 1 or held <= HELD_BYTES:
            yield _Source(unit, path, footer, None, rows)
        else:
            yield _Source(unit, path, footer, read_footer(store, path), None)
        step()


def _absent(store: Store, unit: WorkUnit, path: str) -> AtlasError:
    """What to say of a file of a part that is not there: damage, where the rest of the part is."""
    if is_whole(store, unit):
        return ShardCorrupt(f"{path}: gone, though the rest of its part is there. Run again: it is made anew", path)
    return NothingThere(f"{unit}: not committed (no {path}); run it before its shard is assembled")


def _stacked(parts: Sequence[_Part]) -> pa.Table:
    """All rows by key; where several parts describe a neuron or a target, those of the first."""
    kept: list[pa.Table] = []
    seen: set[Any] = set()
    for part in parts:
        rows = part.rows
        if isinstance(part.unit.cut, Neurons | Targets | Readings):
            told = list(_keys_of(rows, _names(part.unit.cut)))
            rows = rows.filter(pa.array([one not in seen for one in told], pa.bool_()))
            seen.update(told)
        kept.append(rows)
    rows = pa.concat_tables(kept)
    return rows if len(kept) == 1 else rows.take(_order(parts[0], rows))


def _order(part: _Part, rows: pa.Table) -> pa.Array:
    """Where each row goes: by the key columns that tell parts apart, and as they stand in a part within these."""
    return pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in _names(part.unit.cut)])  # a stable sort


def _names(cut: Cut) -> tuple[str, ...]:
    """The key columns that tell parts of a stage apart."""
    names = {Pair: ("unit", "partner_slug"), Targets: ("address",), Readings: ("address", "reader")}
    return names.get(type(cut), ("unit",))


def _joined(table: Table, stages: Mapping[str, pa.Table]) -> pa.Table:
    """The columns of all stages side by side, for every unit that any describes; null where one does not. Where stages
    make whole rows each, all of these.
    """
    if len(table.stages) == 1:  # the only stage; it may have several rows a unit
        (rows,) = stages.values()
        return rows.select(table.names).replace_schema_metadata(table.schema().metadata)
    if table.row_stages:  # rows of several stages, under one another
        rows = pa.concat_tables([one.select(table.names) for one in stages.values()])
        rows = rows.sort_by([(name, "ascending") for name in table.key])
        return rows.replace_schema_metadata(table.schema().metadata)
    keys = _keys(table, list(stages.values()))
    arrays = []
    for column in table.columns:
        rows = keys if not column.stage else stages.get(column.stage)
        if rows is None:
            arrays.append(pa.nulls(keys.num_rows, column.type))
        else:
            arrays.append(rows[column.name].take(pc.index_in(keys["unit"], rows["unit"].combine_chunks())))
    return pa.Table.from_arrays(arrays, schema=table.schema())


def _keys(table: Table, stages: Sequence[pa.Table]) -> pa.Table:
    """The address columns of every unit that any stage describes, each once, by unit."""
    rows = pa.concat_tables([one.select([c.name for c in table.columns if not c.stage]) for one in stages])
    first: dict[int, int] = {}
    for index, unit in enumerate(rows["unit"].to_pylist()):
        first.setdefault(unit, index)
    return rows.take(pa.array([first[unit] for unit in sorted(first)], pa.int64()))


def _shard_metadata(
    place: ShardPlace, parts: Mapping[str, Sequence[_Part]], identity: Mapping[str, str]
) -> dict[str, str]:
    """What the parts agree in, and for the rest the sorted list of what they say."""
    footers = [part.footer for held in parts.values() for part in held]
    own = {"table", "schema_version", "cut", "key", "slug", "stage", "settings", "fingerprint"}
    said = {
        name: sorted({footer[name] for footer in footers if name in footer}) for footer in footers for name in footer
    }
    merged = {name: ",".join(values) for name, values in said.items() if name not in own}
    keys = ",".join(footer["key"] for footer in footers if "key" in footer)
    return {**merged, **identity, **_where(place), "stage": ",".join(parts), "parts": keys}


def _where(place: ShardPlace) -> dict[str, str]:
    """What a footer says of its place."""
    of_layer = {"layer": str(place.layer), "layers": str(place.layers)} if place.table.shard == "layer" else {}
    return {"slug": place.slug, **of_layer}


def _write_if_new(store: Store, path: str, encoded: bytes) -> None:
    """Leave an equal file alone: its time stamp then says when it last changed, and uploads skip it."""
    try:
        if store.size(path) == len(encoded) and store.read(path) == encoded:
            return
    except FileNotFoundError:
        pass
    if path.startswith(f"{NEURONS.name}/") and store.exists(lookup_path(path)):
        store.delete(lookup_path(path))  # it tells where things lie in the shard that was
    store.replace(path, encoded)
