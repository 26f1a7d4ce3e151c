"""merge: atlases made by different people with the same probe set become one, or the reason why not is told.

What the other atlas holds and the first does not comes; what both hold stays as the first has it. A model that only one
of them has comes file by file. Of a model that both have, with the same weights and settings, the other's units come as
parts, and shards are assembled from the parts of both. The rows that claim what is there come last, so that a merge
that broke off is ended by the same command, and a run goes on with what is missing of the whole.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from atlas_schema.card import write_card
from atlas_schema.columns import Table
from atlas_schema.errors import AtlasLocked, BadConfig, ForeignAtlas, NothingThere, NotValid, ShardCorrupt
from atlas_schema.file_faults import reached
from atlas_schema.kept import Kept, Shelf, part_in_shards, read_kept, write_kept
from atlas_schema.parquet import check_whole, decode, encode, footer_metadata, read_footer, tried_twice
from atlas_schema.parquet_columns import read_columns
from atlas_schema.parts import (
    ROWS_PER_PAGE,
    Listing,
    commit_encoded,
    committed_units,
    decode_part,
    is_committed,
    part_path,
    read_file,
)
from atlas_schema.shards import ShardPlace, assemble, parse_shard_path, shard_path, stands, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import (
    LAYER_TABLES,
    MODELS,
    PARTIALS,
    PROBE_IMAGES,
    SITES,
    TABLES,
    tables_filled_by,
)
from atlas_schema.units import Neurons, Pair, WorkUnit
from atlas_schema.validate import Depth, check
from jobs.claim import SHARED, claimed, claimed_identities, refuse_other_folder
from jobs.facts import differences
from jobs.lock import living, locked
from jobs.publishing.partial import part_of
from jobs.publishing.records import records_of
from jobs.ranges import Range, subtract, union
from jobs.records import new_run_id

Say = Callable[[str], None]
_BESIDE = re.compile(r"LICEN[CS]E[^/]*|CITATION\.cff")


@dataclass
class Merged:
    """What a merge did."""

    out: str
    models: list[str] = field(default_factory=list)  # of the merged atlas
    copied_files: int = 0
    copied_bytes: int = 0
    units: int = 0  # of models that were there already, that came as parts
    assembled: int = 0  # shards that hold rows of both
    left: list[str] = field(default_factory=list)  # rows that no committed unit stands for, and that did not come
    violations: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def merge(first: str, second: str, out: str | None = None, *, say: Say = lambda text: None) -> Merged:
    """Make one atlas of two, at `out`, or in the first. Neither source is changed where `out` is another place.

    Raises NothingThere where there is no atlas, NotValid where one has gaps or damage, AtlasLocked while somebody
    writes to one, ForeignAtlas where they do not fit together: nothing was changed then.
    """
    out = out or first
    if out.startswith(("hf://", "http://", "https://")):
        raise BadConfig(f"--out {out}: cannot be written to; expected a folder, or s3://, gs://, az://")
    target = Store(out)
    sources = [Store(url) for url in dict.fromkeys((first, second)) if Store(url).url != target.url]
    refuse_other_folder(target)
    for store in sources:  # of the target the lock and the check at the end tell: a merge may have broken off there
        _require_sound(store)
    _require_there(Store(first))
    require_alike(Store(first), Store(second))
    with locked(target, f"merge-{new_run_id()}"):
        for source in sources:  # once more, now that nobody else writes: there may be more than was looked at
            if _slugs(target):
                require_alike(target, source)
        done = Merged(out)
        for source in sources:
            say(f"Bringing what {out} lacks of {source.url}")
            _Bringing(source, target, done).carry_out()
        write_card(target)
        done.models = _slugs(target)
        done.violations = [str(fault) for fault in check(target, Depth.QUICK).violations]
    return done


def _slugs(store: Store) -> list[str]:
    return sorted({place[1] for place in map(parse_shard_path, store.list(MODELS.name)) if place})


def _require_there(store: Store) -> None:
    if not _slugs(store):
        raise NothingThere(f"{store.url}: no atlas here: expected a folder or URL with models/ and sites/ in it")


def _require_sound(store: Store) -> None:
    """An atlas that nobody writes to, and in which nothing is missing that it claims or damaged."""
    _require_there(store)
    for holder in living(store):
        raise AtlasLocked(
            f"{store.url}: {holder.run_id} is writing to it, or was killed on another machine. Nothing was changed. "
            "Merge when it has ended; a run on that atlas takes the lock over and tidies up"
        )
    damaged = [one for one in check(store, Depth.QUICK).violations if one.kind != "card"]
    if damaged:
        raise NotValid(
            f"{store.url}: not merged, as it is not valid: {damaged[0]}"
            + (f" and {len(damaged) - 1} more" if damaged[1:] else "")
            + f". `neuron-atlas validate {store.url}` lists every fault with what to do about it"
        )


def require_alike(first: Store, second: Store) -> None:
    """ForeignAtlas, by name, where two atlases do not fit together; a model that only one has is no obstacle."""
    ours, theirs = ({slug: claimed(store, slug) for slug in _slugs(store)} for store in (first, second))
    sets = [
        {row["probe_set"]: row["probe_name"] for row in rows.values() if row and row["probe_set"]}
        for rows in (ours, theirs)
    ]
    if sets[0] and sets[1] and sets[0].keys() != sets[1].keys():
        told = [", ".join(f"{name} ({key})" for key, name in sorted(own.items())) for own in sets]
        raise _unlike(first, second, f"other probe images: {told[0]} in the first, {told[1]} in the second")
    for key in sorted(sets[0].keys() & sets[1].keys()):
        said = [_said_of_images(store, key) for store in (first, second)]
        if None not in said and said[0] != said[1]:
            raise _unlike(first, second, f"other classes, captions or licences of the same probe images ({key})")
    for slug in sorted(ours.keys() & theirs.keys()):
        one, other = ours[slug], theirs[slug]
        if one is None or other is None:
            raise _unlike(first, second, f"the row of {slug} in `models` cannot be read")
        for column, name in SHARED.items():
            if one[column] != other[column]:
                raise _unlike(first, second, f"{slug} has other {name}: {one[column]}, and {other[column]}")
        settings = {stage["stage"]: stage for stage in one["stages"]}
        for stage in other["stages"]:
            mine = settings.get(stage["stage"], stage)
            if mine["settings"] != stage["settings"]:
                other_facts = "; ".join(differences(mine["facts"], stage["facts"])) or "versions of its algorithm"
                raise _unlike(first, second, f"the stage {stage['stage']} of {slug} ran with other {other_facts}")


def _unlike(first: Store, second: Store, reason: str) -> ForeignAtlas:
    return ForeignAtlas(
        f"{first.url} and {second.url} cannot become one atlas: {reason}. Nothing was changed. Atlases are merged that "
        "were made with the same probe images, and models that both hold with the same weights and settings; a model "
        "of other weights needs another name (--as)"
    )


def _said_of_images(store: Store, probe_set: str) -> str | None:
    try:
        return footer_metadata(read_footer(store, shard_path(PROBE_IMAGES, probe_set))).get("images_said")
    except (FileNotFoundError, ShardCorrupt):
        return None


def _whole_at(path: str) -> Callable[[bytes], object]:
    """What a shard's bytes are checked by."""
    return lambda data: check_whole(data, path)


def _part_at(path: str) -> Callable[[bytes], object]:
    """What a part's bytes are checked by."""
    return lambda data: decode_part(data, path)


def _said_by(store: Store, path: str, table: Table, stage: str) -> set[tuple[Any, ...]]:
    """Keys of the rows of a shard of which a stage filled something; none where the shard is not there."""
    columns = [column for column in table.part_columns(stage) if column.name in table.key or not column.is_image]
    try:
        rows = read_columns(store, path, read_footer(store, path), [one.name for one in columns])
    except FileNotFoundError:
        return set()
    rows = table.rows_of(stage, rows)
    if len(table.stages) > 1 and not table.row_stages:
        rows = rows.filter(reached(table, stage, rows))
    return set(zip(*(rows[name].to_pylist() for name in table.key), strict=True))


class _Bringing:
    """What one atlas has and the target lacks."""

    def __init__(self, source: Store, target: Store, done: Merged) -> None:
        self.source, self.target, self.done = source, target, done
        self.there = set(target.list())
        self.slugs = _slugs(source)
        self.shared = {slug for slug in self.slugs if claimed(target, slug) is not None}
        self.shelf = Shelf(source)
        self.touched: dict[str, set[str]] = defaultdict(set)  # tables of which rows came, by slug

    def carry_out(self) -> None:
        """Files and parts first, then the shards of both, records, and the rows that claim it all."""
        self._copy_files()
        records: list[tuple[WorkUnit, Kept]] = []
        for unit, kept in records_of(self.source):
            if self._owners(unit) & self.shared:
                self._bring_unit(unit, kept)
            else:
                records.append((unit, kept))
        rows = {slug: self._rows(slug) for slug in self.slugs}
        for slug in sorted(self.touched):
            if slug in rows:
                self._assemble(slug, rows[slug][1])
        for unit, kept in records:
            if not is_committed(self.target, unit):
                write_kept(self.target, unit, kept)
        for slug, (model, sites) in rows.items():
            self._claim(slug, model, sites)
        self.done.left += self._left()

    def _left(self) -> Iterator[str]:
        """Of shards of models that both have, the rows that only the source holds after all."""
        for path in self.source.list():
            place = parse_shard_path(path)
            if place is None or place[0] not in TABLES or place[1] not in self.shared:
                continue
            table = TABLES[place[0]]
            for stage in table.stages:
                lost = _said_by(self.source, path, table, stage) - _said_by(self.target, path, table, stage)
                if lost:
                    yield (
                        f"{len(lost):,} rows of {path} ({stage}): {self.source.url} has no record of the units that "
                        "made them; run that stage there once more, and merge again"
                    )

    @staticmethod
    def _owners(unit: WorkUnit) -> set[str]:
        return {unit.slug, unit.cut.partner} if isinstance(unit.cut, Pair) else {unit.slug}

    def _copy_files(self) -> None:
        """Shards, runs, probe images, sums, licences that the target lacks; never over what is there."""
        for path in self.source.list():
            place = parse_shard_path(path)
            if place and place[0] in TABLES:
                if place[0] not in (MODELS.name, SITES.name) and path not in self.there:
                    self._copy(path, _whole_at(path))
            elif path.endswith(f".{PARTIALS.name}.parquet"):
                if path not in self.there:
                    self._copy(path, _part_at(path))
            elif _BESIDE.fullmatch(path) and path not in self.there:
                self._copy(path, lambda data: None)

    def _copy(self, path: str, checked: Callable[[bytes], object]) -> None:
        """A file that the target does not have; ShardCorrupt where it is damaged, when read a second time too."""

        def read() -> bytes:
            data = self.source.read(path)
            checked(data)
            return data

        data = tried_twice(read)
        self.target.replace(path, data)
        self.there.add(path)
        self.done.copied_files += 1
        self.done.copied_bytes += len(data)

    def _bring_unit(self, unit: WorkUnit, kept: Kept) -> None:
        """A unit of a model that both have comes as a part, unless all its neurons are described there."""
        tables = tables_filled_by(unit.stage)
        if not self._is_described(unit):
            if not is_committed(self.target, unit):
                encoded = {table: self._encoded(unit, table, kept) for table in tables}
                commit_encoded(self.target, unit, encoded, 0)
                self.done.units += 1
            for slug in self._owners(unit):
                self.touched[slug].update(table.name for table in tables)

    def _is_described(self, unit: WorkUnit) -> bool:
        """Whether other units of the target hold all that this one does: its rows stay as they are there."""
        if not isinstance(unit.cut, Neurons):
            return False
        held = committed_units(self.target, unit.stage, unit.slug, unit.identity)
        spans = [(one.start, one.stop) for one in held if one.layer == unit.layer and one != unit]
        return not subtract((unit.start, unit.stop), union(spans))

    def _encoded(self, unit: WorkUnit, table: Any, kept: Kept) -> bytes:
        """The file of a part, byte for byte; made of the rows of the shards where the part was cleaned away."""
        path = part_path(unit, table)
        try:
            read_file(self.source, path)
            return self.source.read(path)
        except FileNotFoundError:
            told = read_kept(self.source, unit) or kept
            rows = part_in_shards(self.shelf, unit, table, told)
            footer = {name: value for name, value in told.footers[table.name].items() if name != "table"}
            return encode(table, rows, footer, rows_per_page=ROWS_PER_PAGE)

    def _rows(self, slug: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The rows of `models` and `sites` that are true of what is there once the shards stand."""
        model = claimed(self.source, slug)
        assert model is not None  # _require_sound
        path = shard_path(SITES, slug)
        sites = decode(self.source.read(path), path)[0].to_pylist()
        coming = {path for path in self.source.list() if (place := parse_shard_path(path)) and place[1] == slug}
        return part_of(model, sites, (self.there | coming).__contains__, self.target)

    def _assemble(self, slug: str, sites: Iterable[Mapping[str, Any]]) -> None:
        """The shards of a model of which units came, from the parts of both."""
        parts, depth = Listing(self.target), sum(site["kind"] == "ffn" for site in sites)
        claims = self._identities()
        planned: dict[int, tuple[Range, ...]] = {
            site["layer"]: tuple((one["start"], one["stop"]) for one in site["planned"] or ())
            for site in sites
            if site["kind"] == "ffn"
        }
        for name in sorted(self.touched[slug]):
            table = TABLES[name]
            units = [
                unit
                for (stage, owner), identity in claims.items()
                if stage in table.stages
                for unit in committed_units(parts, stage, owner, identity)
                if slug in self._owners(unit)
            ]
            layers = [layer for layer, spans in planned.items() if spans] if table.name in LAYER_TABLES else [0]
            within = planned if "partner_slug" in table.key else None  # units of neurons hold no others
            for layer in layers:
                own = [unit for unit in units if unit.layer in (None, layer)]
                place = ShardPlace(table, slug, layer, depth if table.name in LAYER_TABLES else 1)
                if own and not stands(self.target, [place], own, within):
                    assemble(self.target, [place], own, within)
                    self.done.assembled += 1

    def _identities(self) -> dict[tuple[str, str], Any]:
        """Of every stage of every model that either atlas claims, by stage and slug."""
        found: dict[tuple[str, str], Any] = {}
        for store in (self.target, self.source):
            for slug in _slugs(store):
                found |= {(stage, slug): own for stage, own in claimed_identities(claimed(store, slug)).items()}
        return found

    def _claim(self, slug: str, model: dict[str, Any], sites: list[dict[str, Any]]) -> None:
        for table, rows in ((SITES, sites), (MODELS, [model])):
            path = shard_path(table, slug)
            theirs, footer = decode(self.source.read(path), path)
            if path not in self.there and rows == theirs.to_pylist():
                self._copy(path, _whole_at(path))
                continue
            provenance = {k: v for k, v in footer.items() if k not in ("table", "schema_version", "slug")}
            write_rows(self.target, table, slug, rows, provenance=provenance)
