"""pull: an atlas, or some models, layers or tables of one, comes to a folder or URL, where a run extends it.

Every file is checked by its digest and put in place in one step, the rows that claim what is there last, so that a pull
that broke off is ended by the same command. What is there already and the same is not fetched again; what is there and
more stays, and stops the pull.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from atlas_schema.card import write_card
from atlas_schema.columns import Table
from atlas_schema.errors import BadConfig, NothingThere, nearest
from atlas_schema.lookup import lookup_path
from atlas_schema.parquet import decode
from atlas_schema.parts import PartPlace, parse_part_path
from atlas_schema.shards import parse_shard_path, shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import LAYER_TABLES, MODELS, NEURONS, PROBE_IMAGES, RUNS, SITES, TABLES, tables_filled_by
from atlas_schema.units import Neurons, Pair
from atlas_schema.validate import Depth, check
from jobs.claim import refuse_other_folder
from jobs.config import select
from jobs.lock import locked
from jobs.publishing.loss import require_no_less
from jobs.publishing.origin import Origin, origin_of
from jobs.publishing.partial import part_of
from jobs.publishing.selection import is_record
from jobs.records import new_run_id

AT_ONCE = 8  # files that are compared or fetched side by side
_BESIDE = re.compile(r"LICEN[CS]E[^/]*|CITATION\.cff")
_LAYERS = re.compile(r"all|-?\d+|-?\d*:-?\d*")
_OWN = (MODELS.name, SITES.name)  # written for what came


@dataclass(frozen=True)
class Wanted:
    """What of an atlas is to come; () or "all": everything."""

    models: tuple[str, ...] = ()
    layers: str = "all"
    tables: tuple[str, ...] = ()

    def has(self, table: str) -> bool:
        return not self.tables or table in self.tables


def wanted_of(models: Sequence[str] | None, layers: str | None, tables: str | None) -> Wanted:
    """The options of the command. BadConfig for a table that there is none of, or a list of layers that cannot be read.

    The tables that one stage fills come together: one of them alone could not be extended.
    """
    text = (layers or "all").replace(" ", "")
    wrong = [item for item in text.split(",") if not _LAYERS.fullmatch(item)]
    if wrong:
        raise BadConfig(
            f"--layers {layers}: {wrong[0]!r} is neither 'all', an index such as 5, nor a range such as 0:4"
        )
    named = [name.strip() for name in tables.split(",")] if tables else []
    for name in named:
        if name not in TABLES:
            close = nearest(name, TABLES) or list(TABLES)
            raise BadConfig(f"--tables {tables}: no table {name!r}; expected one of {', '.join(close)}")
    stages = {stage for name in named for stage in TABLES[name].stages}
    together = {table.name for stage in stages for table in tables_filled_by(stage)}
    return Wanted(tuple(models or ()), text, tuple(name for name in TABLES if name in {*named, *together}))


@dataclass(frozen=True)
class Pulled:
    """What a pull did."""

    source: str
    out: str
    revision: str | None
    models: list[str]
    files: int
    bytes: int
    fetched_files: int
    fetched_bytes: int
    violations: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def pull(
    source: str,
    out: str,
    *,
    revision: str | None = None,
    wanted: Wanted | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Pulled:
    """Fetch what is wanted of the atlas at `source`. Raises what this package raises.

    NothingThere for a model or layer that the source does not hold, ForeignAtlas where something that stands at `out`
    would be lost, AtlasLocked while a run is at work there, ShardCorrupt where a file stays damaged.
    """
    if out.startswith(("hf://", "http://", "https://")):
        raise BadConfig(f"--out {out}: cannot be written to; expected a folder, or s3://, gs://, az://")
    wanted, target = wanted or Wanted(), Store(out)
    refuse_other_folder(target)
    part = _Part(origin_of(source, revision, say), source, wanted)
    paths = list(part.paths())
    with locked(target, f"pull-{new_run_id()}"):
        fetched = _fetch(part.origin, target, paths, source, say)
        for slug in part.slugs:
            part.write_rows(slug, target)
        write_card(target)
        faults = [str(fault) for fault in check(target, Depth.QUICK).violations]
    sizes = [_size(part.origin, path) for path in fetched]
    total = sum(_size(part.origin, path) for path in paths)
    return Pulled(source, out, part.origin.revision, part.slugs, len(paths), total, len(sizes), sum(sizes), faults)


def _size(origin: Origin, path: str) -> int:
    return len(origin.made[path]) if path in origin.made else origin.files[path].size


def _fetch(origin: Origin, target: Store, paths: Sequence[str], source: str, say: Callable[[str], None]) -> list[str]:
    """Bring what is not there; what was brought. Tables before records, so that no record is without its rows."""
    there = set(target.list()) if paths else set()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        held = list(threads.map(lambda path: path in there and origin.is_held(path, target), paths))
        missing = [path for path, same in zip(paths, held, strict=True) if not same]
        changed = [path for path in missing if path in there]
        require_no_less(origin.store, target, changed, f"It is more than {source} has; pull to another folder")
        size = sum(_size(origin, path) for path in missing)
        say(f"Fetching {len(missing):,} of {len(paths):,} files, {size / 1e6:,.1f} MB")
        for path in there & {lookup_path(path) for path in changed if path.startswith(f"{NEURONS.name}/")}:
            target.delete(path)  # of an earlier push to this place: it tells of the shard that goes
        for some in ([p for p in missing if not is_record(p)], [p for p in missing if is_record(p)]):
            list(threads.map(lambda path: target.replace(path, origin.read(path)), some))
    return missing


class _Part:
    """What is wanted of an origin, as paths, and the rows that are true of it."""

    def __init__(self, origin: Origin, source: str, wanted: Wanted) -> None:
        self.origin, self.wanted = origin, wanted
        found = ((path, parse_shard_path(path)) for path in origin.files)
        self.places = {path: place for path, place in found if place and place[0] in TABLES}
        held = sorted(place[1] for place in self.places.values() if place[0] == MODELS.name)
        for slug in wanted.models:
            if slug not in held:
                close = nearest(slug, held)
                hint = f"nearest: {', '.join(close)}" if close else f"it holds {', '.join(held[:8])}"
                raise NothingThere(f"{source}: no model {slug} in it; {hint}")
        self.slugs = [slug for slug in held if not wanted.models or slug in wanted.models]
        layers = {place[2] for place in self.places.values() if place[1] in self.slugs and place[0] in LAYER_TABLES}
        if wanted.layers != "all" and not layers & set().union(*self.layers.values()):
            raise NothingThere(f"{source}: no table of the layers {wanted.layers} of {', '.join(self.slugs)} in it")

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """By slug the row of `models` at the origin."""
        return {slug: self._table(MODELS, slug)[0][0] for slug in self.slugs}

    @cached_property
    def layers(self) -> dict[str, set[int]]:
        """By slug the FFN layers that are wanted. BadConfig for one that a model does not have."""
        counts = {slug: row["ffn_sites"] for slug, row in self.rows.items()}
        return {slug: set(select(self.wanted.layers, n, f"FFN layer in {slug}")) for slug, n in counts.items()}

    def _table(self, table: Table, slug: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
        path = shard_path(table, slug)
        rows, footer = decode(self.origin.read(path), path)
        return rows.to_pylist(), footer

    def paths(self) -> Iterator[str]:
        """The files to fetch, but for the rows that say what is there."""
        probe_sets = {row["probe_set"] for row in self.rows.values()}
        for path, (table, owner, layer, _) in self.places.items():
            if (
                (table == PROBE_IMAGES.name and owner in probe_sets)
                or (table == RUNS.name and self.wanted.has(table))
                or (
                    owner in self.slugs
                    and table not in _OWN
                    and self.wanted.has(table)
                    and self._has(table, owner, layer)
                )
            ):
                yield path
        yield from (path for path in self.origin.files if _BESIDE.fullmatch(path))
        records = {*filter(is_record, self.origin.files), *self.origin.made}
        yield from sorted(path for path in records if (place := parse_part_path(path)) and self._stands(place))

    def _has(self, table: str, slug: str, layer: int) -> bool:
        return table not in LAYER_TABLES or layer in self.layers[slug]

    def _stands(self, place: PartPlace) -> bool:
        """Whether all rows of a committed unit come, so that its record may."""
        tables = [table.name for table in tables_filled_by(place.stage)]
        slugs = {place.slug, place.cut.partner} if isinstance(place.cut, Pair) else {place.slug}
        if not tables or not slugs <= set(self.slugs) or not all(map(self.wanted.has, tables)):
            return False
        if isinstance(place.cut, Neurons):
            return place.cut.layer in self.layers[place.slug]
        return self.wanted.layers == "all" or not any(table in LAYER_TABLES for table in tables)

    def write_rows(self, slug: str, target: Store) -> None:
        """The rows of `models` and `sites` of a model: byte for byte the origin's where all of it came."""
        there = set(target.list())
        (model, *_), told = self._table(MODELS, slug)
        sites, told_of_sites = self._table(SITES, slug)
        row, rows = part_of(model, sites, there.__contains__, target)
        for table, mine, theirs, footer in ((SITES, rows, sites, told_of_sites), (MODELS, [row], [model], told)):
            path = shard_path(table, slug)
            if mine == theirs:
                if not self.origin.is_held(path, target):
                    target.replace(path, self.origin.read(path))
            else:
                write_rows(target, table, slug, mine, provenance=_provenance(footer))


def _provenance(footer: Mapping[str, str]) -> dict[str, str]:
    own: Iterable[str] = ("table", "schema_version", "slug")
    return {name: value for name, value in footer.items() if name not in own}
