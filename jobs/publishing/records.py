"""The records of what is done that go with a published atlas, made without reading a picture.

They are those that `clean --parts` leaves, of every committed unit of which the shards name the part and hold as many
rows as it has. `clean` compares values too, since it deletes; here nothing is deleted, and a record is held against the
shards again by whoever uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow.compute as pc

from atlas_schema.columns import Table
from atlas_schema.errors import ShardCorrupt
from atlas_schema.kept import Kept, read_kept
from atlas_schema.parquet import damage, footer_metadata, read_footer
from atlas_schema.parquet_columns import read_columns
from atlas_schema.parts import part_path
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import MODELS, tables_filled_by
from atlas_schema.units import Neurons, Pair, Readings, Targets, WorkUnit, unit_of
from jobs.claim import claimed, claimed_identities
from jobs.standing import Files


@dataclass(frozen=True)
class _Shard:
    """What a shard says of its rows: which parts they came from, their units, and how many are of which partner, or of
    which list of targets.
    """

    parts: frozenset[str]
    rows: int
    units: np.ndarray
    partners: Mapping[str, int]


def records_of(store: Store) -> Iterator[tuple[WorkUnit, Kept]]:
    """Every committed unit of the models as the atlas claims them whose rows stand, with what its record says."""
    files, count = Files(store), _Counting(store)
    slugs = sorted({place[1] for place in map(parse_shard_path, store.list(MODELS.name)) if place})
    for slug in slugs:
        for stage, identity in claimed_identities(claimed(store, slug)).items():
            for unit in sorted(files.units(stage, slug, identity), key=lambda unit: unit.cut.name):
                kept = _kept(store, count, unit) if tables_filled_by(stage) else None
                if kept is not None:
                    yield unit, kept


def _kept(store: Store, count: _Counting, unit: WorkUnit) -> Kept | None:
    """What a record of a unit says; None where the shards do not hold all its rows, or its part cannot be read."""
    footers: dict[str, Mapping[str, str]] = {}
    rows: dict[str, Mapping[str, int]] = {}
    try:
        for table in tables_filled_by(unit.stage):
            footers[table.name], rows[table.name] = _of_part(store, unit, table)
            if count.rows(unit, table) != rows[table.name]:
                return None
    except (ShardCorrupt, FileNotFoundError):  # a run on this atlas does it again; so does one on a copy
        return None
    return Kept(footers, rows)


def _of_part(store: Store, unit: WorkUnit, table: Table) -> tuple[Mapping[str, str], dict[str, int]]:
    """Footer of a part, and how many of its rows are of which model; from its record where it was cleaned away."""
    path = part_path(unit, table)
    try:
        parquet = read_footer(store, path)
    except FileNotFoundError:
        kept = read_kept(store, unit)
        if kept is None:
            raise
        return kept.footers[table.name], dict(kept.rows[table.name])
    footer = footer_metadata(parquet)
    with damage(path):
        if unit_of(footer) != unit:
            raise ValueError("its footer names another unit")
        if not isinstance(unit.cut, Pair):
            return footer, {unit.slug: parquet.num_rows} if parquet.num_rows else {}
        slugs = read_columns(store, path, parquet, ["slug"])["slug"]
    counted = {one["values"]: one["counts"] for one in slugs.value_counts().to_pylist()}
    return footer, dict(sorted(counted.items()))


class _Counting:
    """How many rows of a unit the shards hold that name its part."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._paths = lru_cache(None)(self._listed)
        self._shard = lru_cache(256)(self._read)

    def rows(self, unit: WorkUnit, table: Table) -> dict[str, int]:
        """By model, its own rows. ShardCorrupt where a shard cannot be read."""
        slugs = [unit.slug, unit.cut.partner] if isinstance(unit.cut, Pair) else [unit.slug]
        found: dict[str, int] = {}
        for slug in sorted(set(slugs)):
            shards = [self._shard(path, table) for path in self._paths(table.name, slug, unit.layer)]
            held = sum(_own(unit, slug, shard) for shard in shards if unit.key in shard.parts)
            if held:
                found[slug] = held
        return found

    def _listed(self, table: str, slug: str, layer: int | None) -> list[str]:
        places = {path: parse_shard_path(path) for path in self.store.list(f"{table}/{slug}")}
        return [path for path, place in places.items() if place and layer in (None, place[2])]

    def _read(self, path: str, table: Table) -> _Shard:
        names = [name for name in ("unit", "partner_slug", "together", "reader") if name in table.names]
        footer = read_footer(self.store, path)
        rows = read_columns(self.store, path, footer, names)
        parts = frozenset(footer_metadata(footer).get("parts", "").split(","))
        units = rows["unit"].to_numpy() if "unit" in names else np.zeros(0, np.int32)
        others = [rows[name].combine_chunks() for name in names if name != "unit"]
        if len(others) > 1:
            others = [pc.binary_join_element_wise(*others, "/")]
        counted = pc.value_counts(others[0]).to_pylist() if others else []
        partners = {one["values"]: one["counts"] for one in counted}
        return _Shard(parts, footer.num_rows, units, partners)


def _own(unit: WorkUnit, slug: str, shard: _Shard) -> int:
    """How many rows of a shard of `slug` are of the unit's neurons, of its pair, or of its targets."""
    if isinstance(unit.cut, Targets):
        return shard.partners.get(unit.cut.digest, 0)
    if isinstance(unit.cut, Readings):
        return shard.partners.get(f"{unit.cut.digest}/{unit.cut.partner}", 0)
    if isinstance(unit.cut, Neurons):
        return int(((shard.units >= unit.start) & (shard.units < unit.stop)).sum())
    if isinstance(unit.cut, Pair):
        return shard.partners.get(unit.cut.partner if slug == unit.slug else unit.slug, 0)
    return shard.rows
