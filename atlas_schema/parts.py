"""Parts: what one work unit commits. They are the run's memory.

A part is one file for each table that its stage fills: rows of neurons, heads or counterparts, or named arrays that
later stages read (`partials`). Its name is a function of its work unit, and its footer says again all that the name
stands for. So what is done can be read from one listing, two workers that do the same unit agree on the files, and a
file that was renamed, copied from elsewhere or damaged is found out when it is read.

A part whose rows all stand in shards may be cleaned away: a small record takes its place (`kept`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from atlas_schema.address import NeuronAddress, is_slug
from atlas_schema.columns import SCHEMA_VERSION, Table
from atlas_schema.errors import BadRow, ForeignAtlas, ShardCorrupt
from atlas_schema.parquet import conformed, decode, encode, is_newer, tried_twice, versions_agree
from atlas_schema.rows import rows_to_table
from atlas_schema.store import Store
from atlas_schema.tables import tables_of
from atlas_schema.units import Cut, Identity, Neurons, Pair, WorkUnit, cut_named, unit_of

PARTS = ".atlas/parts"  # outside every config of the card; `datasets` skips dot folders
KEPT = "kept.json"
ROWS_PER_PAGE = 8192  # parts are read whole: pages as small as those of shards would cost ten times the time
_NAME = re.compile(rf"(?P<cut>.+)-(?P<key>[0-9a-f]{{16}})\.(?:(?P<table>[a-z_]+)\.parquet|{re.escape(KEPT)})")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class PartReceipt:
    """A committed part; `created` is False where another writer was first and ours was dropped."""

    unit: WorkUnit
    path: str  # of the file that is written last
    rows: int
    bytes: int
    created: bool


def part_folder(stage: str, slug: str = "") -> str:
    """The folder that holds the parts of one stage, of one model or of all."""
    return f"{PARTS}/{stage}/{slug}" if slug else f"{PARTS}/{stage}"


def part_path(unit: WorkUnit, table: Table | None = None) -> str:
    """Where the part of `unit` holds rows of `table`; of the main table, which is written last, where none is named."""
    name = (table or tables_of(unit.stage)[0]).name
    return f"{part_folder(unit.stage, unit.slug)}/{unit.cut.name}-{unit.key}.{name}.parquet"


def kept_path(unit: WorkUnit) -> str:
    """Where it is recorded that the shards hold all rows of `unit`, once its part was cleaned away."""
    return f"{part_folder(unit.stage, unit.slug)}/{unit.cut.name}-{unit.key}.{KEPT}"


def is_committed(store: Store, unit: WorkUnit) -> bool:
    """Whether the part of `unit` is there, whole, or the record of one that was cleaned away."""
    return is_whole(store, unit) or store.exists(kept_path(unit))


def is_whole(store: Store, unit: WorkUnit) -> bool:
    """Whether the part of `unit` is there: the file of its main table is written last."""
    return store.exists(part_path(unit))


def adopted(store: Store, unit: WorkUnit) -> PartReceipt | None:
    """The receipt of a part that is there already, another writer's; None where there is none."""
    if not is_whole(store, unit):
        return None
    return PartReceipt(unit, part_path(unit), unit.size, store.size(part_path(unit)), created=False)


def commit_part(
    store: Store, unit: WorkUnit, rows: Sequence[Row] | Mapping[str, Sequence[Row]], *, provenance: Mapping[str, str]
) -> PartReceipt:
    """Commit the rows of `unit`, in any order, with or without address keys.

    rows: by table where the stage fills several. Where a table has one row a neuron, one for each of the unit's.

    `provenance` (code_version, precision, recipe, ...: facts that hold wherever the unit ran) goes to the
    footer. Where a sound part is there already it stays and is adopted; a damaged one is replaced.

    Raises BadRow or NotFinite for rows the table does not allow, StoreFull, StoreFailed.
    """
    tables = tables_of(unit.stage)
    by_table = rows if isinstance(rows, Mapping) else {tables[0].name: rows}
    if by_table.keys() != {table.name for table in tables}:
        expected = ", ".join(table.name for table in tables)
        raise BadRow(f"{unit}: rows of {', '.join(by_table) or 'no table'}; expected rows of {expected}")
    encoded = {table: encode_part(unit, table, by_table[table.name], provenance) for table in tables}
    return commit_encoded(store, unit, encoded, sum(map(len, by_table.values())))


def commit_encoded(store: Store, unit: WorkUnit, encoded: Mapping[Table, bytes], count: int) -> PartReceipt:
    """Put the encoded files of `unit` in their places, the main table's last: it says that the part is whole.

    A sound main file that is there already stays; files of an attempt that ended before its main file are replaced, so
    that a part holds the rows of one attempt.
    """
    main, *others = tables_of(unit.stage)
    if not is_whole(store, unit):
        for table in others:
            store.replace(part_path(unit, table), encoded[table])
    else:
        for table in others:
            _put(store, part_path(unit, table), encoded[table])
    created = _put(store, part_path(unit), encoded[main])
    size = sum(store.size(part_path(unit, table)) for table in encoded)
    return PartReceipt(unit, part_path(unit), count, size, created)


def _put(store: Store, path: str, encoded: bytes) -> bool:
    """Whether these bytes are what stands at `path` now; False where another writer's sound part was there."""
    if store.create(path, encoded):
        return True
    try:
        decode_part(store.read(path), path)
    except ShardCorrupt:
        store.replace(path, encoded)
        return True
    return False


def encode_part(unit: WorkUnit, table: Table, rows: Sequence[Row], provenance: Mapping[str, str]) -> bytes:
    """The bytes of the file in which the part of `unit` holds rows of `table`."""
    if isinstance(unit.cut, Neurons):
        rows = [_with_address(unit, unit.cut, row) for row in rows]
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in table.key))
    data = rows_to_table(table.part_columns(unit.stage), table.part_schema(unit.stage), ordered)
    _require_own(unit, table, data)
    return encode(table, data, part_footer(unit, provenance), rows_per_page=ROWS_PER_PAGE)


def _require_own(unit: WorkUnit, table: Table, data: pa.Table) -> None:
    """BadRow where rows are not of the unit's model and neurons, or one of its neurons has none."""
    if isinstance(unit.cut, Neurons):
        held = data["unit"].to_pylist()
        if table.key[-1] == "unit" and held != list(range(unit.start, unit.stop)):
            raise BadRow(f"{unit}: expected one row for each unit, found units {held[:8]}{'...' if held[8:] else ''}")
        if any(not unit.start <= one < unit.stop for one in held):
            raise BadRow(f"{unit}: rows of units {min(held)} to {max(held)}")
    if "slug" in data.column_names:
        own = {unit.slug, unit.cut.partner} if isinstance(unit.cut, Pair) else {unit.slug}
        others = set(data["slug"].to_pylist()) - own
        if others:
            raise BadRow(f"{unit}: rows of {', '.join(sorted(map(str, others)))}")


def part_footer(unit: WorkUnit, provenance: Mapping[str, str]) -> dict[str, str]:
    """The footer metadata of the part of `unit`: what the unit says, and `provenance`."""
    clash = provenance.keys() & unit.metadata().keys()
    if clash:
        raise BadRow(f"{unit}: provenance repeats what the unit says: {sorted(clash)}")
    return {**provenance, **unit.metadata(), "key": unit.key}


def read_part(store: Store, unit_or_path: WorkUnit | str, table: Table | None = None) -> pa.Table:
    """The rows of a part, sorted by the table's key; every byte is checked. `table`: the main one where none is named.

    Raises ShardCorrupt where the file is damaged or is not what its name says, FileNotFoundError where it is
    absent, ForeignAtlas where it follows another major version of the schema.
    """
    path = unit_or_path if isinstance(unit_or_path, str) else part_path(unit_or_path, table)
    return read_file(store, path)[0]


def read_file(store: Store, path: str) -> tuple[pa.Table, WorkUnit, dict[str, str]]:
    """`decode_part` of a file in the store, read once more where it seems damaged: a read may fail in passing."""
    return tried_twice(lambda: decode_part(store.read(path), path))


def decode_part(encoded: bytes, path: str) -> tuple[pa.Table, WorkUnit, dict[str, str]]:
    """Rows, work unit and all footer metadata of a file of a part; `path` is the name it must have."""
    data, metadata = decode(encoded, path)
    if not versions_agree(metadata.get("schema_version", "")):
        raise ForeignAtlas(
            f"{path}: schema version {metadata.get('schema_version')}, expected {SCHEMA_VERSION}; read it"
            " with the release of neuron-atlas that wrote it, or run into another folder"
        )
    if is_newer(metadata["schema_version"]):
        raise ForeignAtlas(
            f"{path}: schema version {metadata['schema_version']} is newer than {SCHEMA_VERSION}; use the release of"
            " neuron-atlas that wrote it, or a later one"
        )
    try:
        unit = unit_of(metadata)
    except (KeyError, ValueError):
        raise ShardCorrupt(f"{path}: its footer names no work unit. Run again: it is put aside", path) from None
    table = next((one for one in tables_of(unit.stage) if one.name == metadata.get("table")), None)
    if table is None or part_path(unit, table) != path or metadata.get("key") != unit.key:
        own = part_path(unit, table) if table else f"of table {metadata.get('table')}"
        raise ShardCorrupt(f"{path}: a foreign part: by its footer it is {own}. Run again: it is put aside", path)
    if metadata["schema_version"] != SCHEMA_VERSION and set(data.column_names) < set(
        table.part_schema(unit.stage).names
    ):
        data = conformed(data, table.part_schema(unit.stage))  # a difference of minor versions is no damage
    if not data.schema.equals(table.part_schema(unit.stage)):
        raise ShardCorrupt(f"{path}: its columns are not those of stage {unit.stage}. Run again: it is put aside", path)
    try:
        _require_own(unit, table, data)
    except BadRow:
        raise ShardCorrupt(f"{path}: does not hold what it names. Run again: it is put aside", path) from None
    return data, unit, metadata


class Listing:
    """The names of all parts of an atlas as one listing gave them: `list` answers as the store did then."""

    def __init__(self, store: Store) -> None:
        self._folders: dict[str, list[str]] = {}
        for path in store.list(PARTS):
            self._folders.setdefault(path.rpartition("/")[0], []).append(path)

    @property
    def paths(self) -> Iterator[str]:
        """All of them."""
        return (path for paths in self._folders.values() for path in paths)

    def list(self, prefix: str) -> Sequence[str]:
        """The parts in a folder of one stage of one model."""
        return self._folders.get(prefix, ())


def committed_units(
    store: Store | Listing, stage: str, slug: str, identity: Identity | Callable[[Cut], Identity | None]
) -> list[WorkUnit]:
    """The committed units of one stage of a model that have this identity, in whatever cuts, from one listing.

    From names alone: the key in a name matches exactly when weights and settings do.
    """
    main = tables_of(stage)[0].name
    units = set()
    for place in filter(None, map(parse_part_path, store.list(part_folder(stage, slug)))):
        own = identity if isinstance(identity, Identity) else identity(place.cut)
        if (
            place.table in (main, "")
            and own is not None
            and (unit := own.unit(stage, slug, place.cut)).key == place.key
        ):
            units.add(unit)
    return sorted(units, key=lambda unit: (unit.cut.name, unit.key))


@dataclass(frozen=True)
class PartPlace:
    """What the name of a file of a part says; table: "" of the record of one that was cleaned away."""

    stage: str
    slug: str
    cut: Cut
    key: str
    table: str

    def is_of(self, unit: WorkUnit) -> bool:
        """Whether the file is of this unit: equal keys, equal units."""
        return unit.key == self.key


def parse_part_path(path: str) -> PartPlace | None:
    """What the path of a file of a part says; None for every other path."""
    folder, _, name = path.rpartition("/")
    stage, _, slug = folder.removeprefix(f"{PARTS}/").partition("/")
    match = _NAME.fullmatch(name)
    cut = cut_named(match["cut"]) if match else None
    if not match or cut is None or not folder.startswith(f"{PARTS}/") or not is_slug(slug):
        return None
    return PartPlace(stage, slug, cut, match["key"], match["table"] or "")


def is_part_path(path: str) -> bool:
    """Whether a path is where some part, or the record of one, may lie."""
    place = parse_part_path(path)
    return place is not None and place.table in {"", *(table.name for table in tables_of(place.stage))}


def _with_address(unit: WorkUnit, cut: Neurons, row: Row) -> Row:
    if not isinstance(row.get("unit"), int):
        raise BadRow(f"{unit}: a row without its unit, an integer")
    address = NeuronAddress(unit.slug, cut.layer, row["unit"])
    keys = {"address": str(address), "slug": unit.slug, "layer": cut.layer}
    for name, value in keys.items():
        if row.get(name, value) != value:
            raise BadRow(f"{unit}: a row has {name} {row[name]!r}, expected {value!r}")
    return {**row, **keys}
