"""Parts that were cleaned away: a record in their place says what they were, and the shards hold their rows.

A record is a few hundred bytes of JSON: the footer of each file of the part, and how many rows each table has of it. So
what is committed is still read from one listing, and whoever reads a part reads its rows out of the shards. Where these
do not hold them any more, the unit is not committed: it is found damaged as a part would be, and done again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.columns import Table
from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import conformed, decode, tried_twice
from atlas_schema.parts import kept_path, part_path, read_part
from atlas_schema.shard_paths import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import tables_of
from atlas_schema.units import Neurons, Pair, Readings, Targets, WorkUnit

Footer = Mapping[str, str]


@dataclass(frozen=True)
class Kept:
    """What is known of a part that was cleaned away, by table: its footer, and how many rows of which model it had."""

    footers: Mapping[str, Footer]
    rows: Mapping[str, Mapping[str, int]]


class Shelf:
    """Shards of one store, each read once; those that are damaged or gone hold nothing."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._read: dict[str, tuple[pa.Table, dict[str, str]] | None] = {}
        self._listed: dict[str, list[str]] = {}

    def paths(self, table: Table, slug: str, layer: int | None) -> list[str]:
        """The shards of a table of a model, of one layer or of all."""
        folder = f"{table.name}/{slug}"
        if folder not in self._listed:
            self._listed[folder] = self.store.list(folder)
        places = ((path, parse_shard_path(path)) for path in self._listed[folder])
        return [path for path, place in places if place and layer in (None, place[2])]

    def shard(self, path: str) -> tuple[pa.Table, dict[str, str]] | None:
        """Rows and footer; None where the shard is damaged, when read a second time too."""
        if path not in self._read:
            self._read[path] = self._decoded(path)
        return self._read[path]

    def _decoded(self, path: str) -> tuple[pa.Table, dict[str, str]] | None:
        try:
            return tried_twice(lambda: decode(self.store.read(path), path))
        except (FileNotFoundError, ShardCorrupt):
            return None


def rows_in_shards(shelf: Shelf, unit: WorkUnit, table: Table, only: str = "") -> pa.Table:
    """The rows that shards say came from the part of `unit`, as the part held them; only: of one model of a pair.

    Shards that do not name the part among those that they were assembled from give none.
    """
    schema, kept = table.part_schema(unit.stage), []
    for slug in dict.fromkeys([unit.slug, unit.cut.partner] if isinstance(unit.cut, Pair) else [unit.slug]):
        if only and slug != only:
            continue
        for path in shelf.paths(table, slug, unit.layer):
            shard = shelf.shard(path)
            if shard is not None and unit.key in shard[1].get("parts", "").split(","):
                kept.append(_in_columns(table.rows_of(unit.stage, _own(unit, slug, shard[0])), schema))
    rows = pa.concat_tables(kept) if kept else schema.empty_table()
    return rows.sort_by([(name, "ascending") for name in table.key]) if len(kept) > 1 else rows


def _in_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a part as it was read: its types spell the items of lists otherwise than its schema does."""
    if set(schema.names) <= set(rows.column_names):
        return rows.select(schema.names).replace_schema_metadata(schema.metadata)
    return conformed(rows, schema)


def _own(unit: WorkUnit, slug: str, rows: pa.Table) -> pa.Table:
    """The rows of a shard of `slug` that are of the unit's neurons, of its pair, or of its targets."""
    if isinstance(unit.cut, Neurons):
        units = rows["unit"]
        return rows.filter(pc.and_(pc.greater_equal(units, unit.start), pc.less(units, unit.stop)))
    if isinstance(unit.cut, Pair):
        other = unit.cut.partner if slug == unit.slug else unit.slug
        return rows.filter(pc.equal(rows["partner_slug"], other))
    if isinstance(unit.cut, Targets):
        return rows.filter(pc.equal(rows["together"], unit.cut.digest))
    if isinstance(unit.cut, Readings):
        own = pc.and_(pc.equal(rows["together"], unit.cut.digest), pc.equal(rows["reader"], unit.cut.partner))
        return rows.filter(own)
    return rows


def counts(rows: pa.Table, slug: str) -> dict[str, int]:
    """How many rows are of which model; of a table that names none, all are of `slug`."""
    if "slug" not in rows.column_names:
        return {slug: rows.num_rows} if rows.num_rows else {}
    counted = rows["slug"].value_counts().to_pylist()
    return dict(sorted((one["values"], one["counts"]) for one in counted))


def part_in_shards(shelf: Shelf, unit: WorkUnit, table: Table, kept: Kept, only: str = "") -> pa.Table:
    """The rows of a part that was cleaned away, of one model of a pair or of all.

    Raises ShardCorrupt, naming the file of the part, where the shards do not hold them all.
    """
    rows = rows_in_shards(shelf, unit, table, only)
    expected = {slug: count for slug, count in kept.rows[table.name].items() if only in ("", slug)}
    if counts(rows, unit.slug) != expected:
        raise ShardCorrupt(
            f"{part_path(unit, table)}: was cleaned away, and the {table.name} shards hold {rows.num_rows} of its "
            f"{sum(expected.values())} rows. Run again: the unit is done anew",
            part_path(unit, table),
        )
    return rows


def read_rows(store: Store, unit: WorkUnit, table: Table | None = None) -> pa.Table:
    """The rows of a part as `read_part` gives them, or those that shards hold of one that was cleaned away."""
    try:
        return read_part(store, unit, table)
    except FileNotFoundError:
        kept = read_kept(store, unit)
        if kept is None:
            raise
        return part_in_shards(Shelf(store), unit, table or tables_of(unit.stage)[0], kept)


def write_kept(store: Store, unit: WorkUnit, kept: Kept) -> None:
    """Record that shards hold what the part of `unit` held; only then may the part go."""
    store.replace(kept_path(unit), kept_record(unit, kept))


def kept_record(unit: WorkUnit, kept: Kept) -> bytes:
    """The bytes of such a record: equal for equal parts."""
    return json.dumps({"unit": unit.metadata(), **asdict(kept)}, sort_keys=True).encode()


def read_kept(store: Store, unit: WorkUnit) -> Kept | None:
    """The record of a part that was cleaned away; None where there is none.

    Raises ShardCorrupt, naming the main file of the part, where it is damaged or of another unit.
    """
    path = kept_path(unit)
    try:
        encoded = store.read(path)
    except FileNotFoundError:
        return None
    try:
        told = json.loads(encoded)
        if told["unit"] != unit.metadata():
            raise ValueError("of another unit")
        kept = Kept(told["footers"], told["rows"])
        if not kept.footers.keys() == kept.rows.keys() == {table.name for table in tables_of(unit.stage)}:
            raise ValueError("not of its stage's tables")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardCorrupt(f"{path}: damaged: {error}. Run again: the unit is done anew", part_path(unit)) from None
    return kept
