"""Parts: what one work unit commits. They are the run's memory.

A part's name is a function of its work unit, and its footer says again all that the name stands for. So what
is done can be read from one listing, two workers that do the same unit agree on the file, and a file that was
renamed, copied from elsewhere or damaged is found out when it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from atlas_schema.address import NeuronAddress, is_slug
from atlas_schema.columns import SCHEMA_VERSION, Table
from atlas_schema.errors import BadRow, ForeignAtlas, ShardCorrupt
from atlas_schema.parquet import decode, encode, versions_agree
from atlas_schema.rows import rows_to_table
from atlas_schema.store import Store
from atlas_schema.tables import PARTIAL_STAGES, STAGE_TABLES, stage_table

PARTS = ".atlas/parts"  # outside every config of the card; `datasets` skips dot folders
_NAME = re.compile(r"(\d{5,})-(\d{6,})-(\d{6,})-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True)
class WorkUnit:
    """What one task does and one part holds: units [start, stop) of one FFN site under one recipe.

    For a stage that passes over the probe set (PARTIAL_STAGES), start and stop count images. `recipe_hash` is the
    hash of whatever settings decide the stage's result: a recipe, or a probe set and how it is measured.
    """

    stage: str
    slug: str
    layer: int
    start: int
    stop: int
    fingerprint: str  # of the checkpoint
    recipe_hash: str
    seed: int

    @property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of all that decides the rows: equal keys, interchangeable parts."""
        facts = {field.name: getattr(self, field.name) for field in fields(self)}
        facts["schema"] = int(SCHEMA_VERSION.split(".")[0])
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    @property
    def path(self) -> str:
        """Where the part lies in the store."""
        name = f"{self.layer:05d}-{self.start:06d}-{self.stop:06d}-{self.key}.parquet"
        return f"{part_folder(self.stage, self.slug)}/{name}"

    @property
    def is_partial(self) -> bool:
        """Whether its part holds sums over the probe images [start, stop), not rows of neurons."""
        return self.stage in PARTIAL_STAGES

    def __str__(self) -> str:
        if self.is_partial and (self.start, self.stop) == (0, 1):  # a step that sees no slice of images
            return f"{self.stage} {self.slug}"
        if self.is_partial:
            return f"{self.stage} {self.slug} images {self.start} to {self.stop - 1}"
        return f"{self.stage} {self.slug}/mlp/{self.layer} units {self.start} to {self.stop - 1}"

    def metadata(self) -> dict[str, str]:
        """The unit as footer metadata; `unit_of` is the way back."""
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True)
class PartReceipt:
    """A committed part; `created` is False where another writer was first and ours was dropped."""

    unit: WorkUnit
    path: str
    rows: int
    bytes: int
    created: bool


def part_folder(stage: str, slug: str) -> str:
    """The folder that holds the parts of one stage of one model."""
    return f"{PARTS}/{stage}/{slug}"


def commit_part(
    store: Store, unit: WorkUnit, rows: Sequence[Mapping[str, Any]], *, provenance: Mapping[str, str]
) -> PartReceipt:
    """Commit the rows of `unit`, in any order, with or without address keys: one for each of its units where the
    table has one row a neuron, any number where it has more.

    `provenance` (code_version, precision, recipe, ...: facts that hold wherever the unit ran) goes to the
    footer. Where a sound part is there already it stays and is adopted; a damaged one is replaced.

    Raises BadRow or NotFinite for rows the table does not allow, StoreFull, StoreFailed.
    """
    return commit_encoded(store, unit, encode_part(unit, rows, provenance), len(rows))


def commit_encoded(store: Store, unit: WorkUnit, encoded: bytes, count: int) -> PartReceipt:
    """Put the encoded part of `unit` in its place: created once; a damaged one that stands there is replaced."""
    if store.create(unit.path, encoded):
        return PartReceipt(unit, unit.path, count, len(encoded), created=True)
    try:
        read_part(store, unit)
    except ShardCorrupt:
        store.replace(unit.path, encoded)
        return PartReceipt(unit, unit.path, count, len(encoded), created=True)
    return PartReceipt(unit, unit.path, count, store.size(unit.path), created=False)


def encode_part(unit: WorkUnit, rows: Sequence[Mapping[str, Any]], provenance: Mapping[str, str]) -> bytes:
    """The bytes of the part of `unit`."""
    table = stage_table(unit.stage)
    named = sorted((_with_address(unit, row) for row in rows), key=lambda row: tuple(row[name] for name in table.key))
    held = [row["unit"] for row in named]
    _require_units(unit, table, held)
    data = rows_to_table(table.part_columns(unit.stage), table.part_schema(unit.stage), named)
    return encode(table, data, part_footer(unit, provenance))


def _require_units(unit: WorkUnit, table: Table, held: Sequence[int]) -> None:
    """One row for each unit; where the table has several rows a neuron, none outside the unit's range."""
    if table.key[-1] == "unit":
        if list(held) != list(range(unit.start, unit.stop)):
            raise BadRow(f"{unit}: expected one row for each unit, found units {held[:8]}{'...' if held[8:] else ''}")
    elif any(not unit.start <= one < unit.stop for one in held):
        raise BadRow(f"{unit}: rows of units {min(held)} to {max(held)}")


def part_footer(unit: WorkUnit, provenance: Mapping[str, str]) -> dict[str, str]:
    """The footer metadata of the part of `unit`: what the unit says, and `provenance`."""
    clash = provenance.keys() & unit.metadata().keys()
    if clash:
        raise BadRow(f"{unit}: provenance repeats what the unit says: {sorted(clash)}")
    return {**provenance, **unit.metadata(), "key": unit.key}


def read_part(store: Store, unit_or_path: WorkUnit | str) -> pa.Table:
    """The rows of a part, sorted by unit; every byte is checked.

    Raises ShardCorrupt where the file is damaged or is not what its name says, FileNotFoundError where it is
    absent, ForeignAtlas where it follows another major version of the schema.
    """
    path = unit_or_path if isinstance(unit_or_path, str) else unit_or_path.path
    return decode_part(store.read(path), path)[0]


def decode_part(encoded: bytes, path: str) -> tuple[pa.Table, WorkUnit, dict[str, str]]:
    """Rows, work unit and all footer metadata of a part; `path` is the name it must have."""
    data, metadata = decode(encoded, path)
    if not versions_agree(metadata.get("schema_version", "")):
        raise ForeignAtlas(
            f"{path}: schema version {metadata.get('schema_version')}, expected {SCHEMA_VERSION}; read it"
            " with the release of neuron-atlas that wrote it, or run into another folder"
        )
    unit = unit_of(metadata, path)
    if unit.path != path or metadata.get("key") != unit.key:
        raise ShardCorrupt(f"{path}: a foreign part: by its footer it is {unit.path}. Delete it and run again", path)
    expected = stage_table(unit.stage).part_schema(unit.stage)
    if not data.schema.equals(expected):
        raise ShardCorrupt(f"{path}: its columns are not those of stage {unit.stage}. Delete it and run again", path)
    if not unit.is_partial:
        try:
            _require_units(unit, stage_table(unit.stage), data["unit"].to_pylist())
        except BadRow:
            raise ShardCorrupt(f"{path}: does not hold the units it names. Delete it and run again", path) from None
    return data, unit, metadata


def unit_of(metadata: Mapping[str, str], path: str) -> WorkUnit:
    """The work unit that a part's footer names."""
    try:
        values = {field.name: metadata[field.name] for field in fields(WorkUnit)}
        numbers = {name: int(values[name]) for name in ("layer", "start", "stop", "seed")}
        stage_table(values["stage"])
    except (KeyError, ValueError):
        raise ShardCorrupt(f"{path}: its footer names no work unit. Delete it and run again", path) from None
    return WorkUnit(**{**values, **numbers})  # type: ignore[arg-type]


def committed(store: Store, stage: str, slug: str) -> list[tuple[int, int, int, str]]:
    """(layer, start, stop, key) of every part of one stage of one model, sorted, from one listing."""
    found = (_place(path.rpartition("/")[2]) for path in store.list(part_folder(stage, slug)))
    return sorted(place for place in found if place)


def is_part_path(path: str) -> bool:
    """Whether a path is where some part may lie."""
    folder, _, name = path.rpartition("/")
    stage, _, slug = folder.removeprefix(f"{PARTS}/").partition("/")
    return _place(name) is not None and stage in STAGE_TABLES and is_slug(slug)


def _place(name: str) -> tuple[int, int, int, str] | None:
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2]), int(match[3]), match[4]) if match else None


def alike(store: Store, unit: WorkUnit, layer: int | None = None) -> list[WorkUnit]:
    """The committed units that share stage, model, weights, recipe and seed with `unit`, in whatever ranges.

    From names alone: a name's key matches exactly when these facts do. With `layer`, those of one layer.
    """
    units = []
    for at, start, stop, key in committed(store, unit.stage, unit.slug):
        candidate = WorkUnit(unit.stage, unit.slug, at, start, stop, unit.fingerprint, unit.recipe_hash, unit.seed)
        if candidate.key == key and layer in (None, at):
            units.append(candidate)
    return units


def _with_address(unit: WorkUnit, row: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(row.get("unit"), int):
        raise BadRow(f"{unit}: a row without its unit, an integer")
    address = NeuronAddress(unit.slug, unit.layer, row["unit"])
    keys = {"address": str(address), "slug": unit.slug, "layer": unit.layer}
    for name, value in keys.items():
        if row.get(name, value) != value:
            raise BadRow(f"{unit}: a row has {name} {row[name]!r}, expected {value!r}")
    return {**row, **keys}
