"""What of an atlas is no longer needed, and why; then its removal. Nothing goes before what stands in its place.

Deciding changes nothing. Carrying it out writes the records that take the place of parts before a part goes, so that a
process killed at any moment has lost nothing, and doing it again ends what was begun.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pyarrow.parquet as pq

from atlas_schema.errors import AtlasLocked, NothingThere, ShardCorrupt
from atlas_schema.kept import Kept, write_kept
from atlas_schema.parquet import check_whole, damage, decode, footer_metadata, tried_twice
from atlas_schema.parts import PartPlace, parse_part_path
from atlas_schema.quarantine import QUARANTINE, origin, put_aside
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import CLOCKS, Store
from atlas_schema.tables import TABLES, tables_filled_by, tables_of
from atlas_schema.units import Images, Neurons, WorkUnit, unit_of
from jobs import stages
from jobs.damage import is_sound
from jobs.lock import Lock
from jobs.ranges import subtract
from jobs.records import FAILED
from jobs.standing import Files, Standing

DAY = 86_400.0  # a writer that has not ended its file by then is dead
AT_ONCE = 8  # files that are removed side by side

#: Each kind of file that may go, and why it may.
KINDS = {
    "partials": "sums over images, of which all that is made stands in shards",
    "slices": "sums over some images, whose merge stands",
    "parts": "rows that all stand in shards; small records of them stay",
    "unfinished": "hidden files of writers that died more than a day ago",
    "torn": "files of parts whose main file was never written, older than a day",
    "failures": "records of units that were given up and are done, or that nobody can read",
    "damaged": "parts, sums and shards that cannot be read: put aside, and made anew by the next run where needed",
    "quarantine": "damaged files that were put aside and whose replacement stands",
}


@dataclass(frozen=True)
class Removal:
    """One file that may go."""

    path: str
    kind: str  # of KINDS
    bytes: int


@dataclass(frozen=True)
class Cleaning:
    """What may go; the records to be written before; what stays though it might be looked for; what would be redone."""

    removals: tuple[Removal, ...]
    records: Mapping[WorkUnit, Kept]
    stays: tuple[str, ...]
    again: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.removals)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Number of files and bytes, of each kind of which there is any."""
        found = {kind: [one.bytes for one in self.removals if one.kind == kind] for kind in KINDS}
        return {kind: (len(sizes), sum(sizes)) for kind, sizes in found.items() if sizes}


def decide(store: Store, *, parts: bool = False) -> Cleaning:
    """What may be removed; parts: those too whose rows all stand in shards. Nothing is changed.

    Raises NothingThere where there is no atlas, ForeignAtlas where it follows another schema.
    """
    files = Files(store)
    standing = Standing(store, files)
    if not standing.claims and not standing.unknown:
        raise NothingThere(f"{store.url}: no atlas here: expected a folder with models/ and sites/ in it")
    return _Decision(store, files, standing).made(parts)


class _Decision:
    """The decision on one atlas; `gone` grows with each kind, so that no file is named twice."""

    def __init__(self, store: Store, files: Files, standing: Standing) -> None:
        self.store, self.files, self.standing = store, files, standing
        self.gone: dict[str, str] = {}  # path -> kind
        self.stays = [
            f"everything of {slug}: its row of `models` is damaged. Run the command that made it again first"
            for slug in standing.unknown
        ]
        self.again: list[str] = []
        self.unread: set[tuple[str, str]] = set()  # stage and slug of sums that nothing reads any more

    def made(self, parts: bool) -> Cleaning:
        self._add("partials", self._partials())
        self._add("slices", self._slices())
        held = {unit: kept for unit, kept in self.standing.held.items() if parts and self.files.paths(unit)}
        self._add("parts", (path for unit in held for path in self.files.paths(unit)))
        if parts:
            self._say_parts_that_stay()
        self._add("unfinished", self.store.leftovers(DAY))
        self._add("torn", self._old(self._torn()))
        self._add("unfinished", self._old(self.store.list(CLOCKS)))
        self._add("failures", self._failures())
        self._add("quarantine", self._quarantine())
        self._add("damaged", self._damaged())
        with ThreadPoolExecutor(AT_ONCE) as threads:
            sizes = list(threads.map(self._size, self.gone))
        removals = tuple(Removal(path, kind, size) for (path, kind), size in zip(self.gone.items(), sizes, strict=True))
        return Cleaning(removals, held, tuple(self.stays), tuple(self.again))

    def _add(self, kind: str, paths: Iterable[str]) -> None:
        for path in paths:
            self.gone.setdefault(path, kind)

    def _size(self, path: str) -> int:
        try:
            return self.store.size(path)
        except FileNotFoundError:
            return 0

    def _old(self, paths: Iterable[str]) -> list[str]:
        """Those that were written more than a day ago by the store's own clock."""
        paths = list(paths)
        now = self.store.now() if paths else 0.0
        return [path for path in paths if now - self.store.modified(path) > DAY]

    # Sums that nothing reads any more.

    def _partials(self) -> Iterator[str]:
        for stage, slug in dict.fromkeys((place.stage, place.slug) for place in self.files.places.values()):
            known = next((one for one in stages.STAGES if one.name == stage), None)
            if known is None or tables_filled_by(stage):
                continue
            of_embedder = known.owner == "embedder"
            if not of_embedder and (slug not in self.standing.claims or slug in self.standing.unknown):
                self.stays.append(f"{stage} of {slug}: no model of the atlas has it")
                continue
            readers = sorted(self.standing.claims) if of_embedder else [slug]
            waiting = self.standing.waiting(stage, readers) + [f"{stage} of {one}" for one in self.standing.unknown]
            if waiting:
                self.stays.append(f"{stage} of {slug}: read by {_some(waiting)}, not yet in shards")
                continue
            mine = list(self._own(stage, slug, of_embedder))
            if mine:
                self.unread.add((stage, slug))
            yield from mine
        self.again += self._sums_again()

    def _sums_again(self) -> Iterator[str]:
        """Sums that are gone, by the models that need them: those of the same stages in one line."""
        stages_of: dict[str, list[str]] = {}
        for stage, slug in sorted(self.unread):
            stages_of.setdefault(slug, []).append(stage)
        slugs_of: dict[tuple[str, ...], list[str]] = {}
        for slug, own in stages_of.items():
            slugs_of.setdefault(tuple(own), []).append(slug)
        for names, slugs in slugs_of.items():
            yield f"{', '.join(names)} of {', '.join(slugs)}, by a run that adds neurons, stages or models"

    def _own(self, stage: str, slug: str, of_embedder: bool) -> Iterator[str]:
        """Files of a stage; of a model's own those with its weights and settings as the atlas has them."""
        identity = self.standing.claims.get(slug, {}).get(stage)
        for path, place in self.files.of(stage, slug).items():
            if of_embedder or (identity is not None and place.is_of(identity.unit(stage, slug, place.cut))):
                yield path

    # Sums that a merge holds.

    def _slices(self) -> Iterator[str]:
        for (stage, slug), wholes in self._by_owner().items():
            taken: set[str] = set()
            for path, place in wholes:
                inside = [other for other, one in wholes if other not in taken and _is_inside(one, place)]
                unit = _unit_of(self.store, path, place) if inside and path not in self.gone else None
                if unit is None:
                    continue
                cuts = {other: one for other, one in wholes if other in inside}
                mine = [other for other, one in cuts.items() if one.is_of(unit.identity.unit(stage, slug, one.cut))]
                if mine and is_sound(self.store, unit):
                    taken.update(mine)
                    yield from mine

    def _by_owner(self) -> dict[tuple[str, str], list[tuple[str, PartPlace]]]:
        """Files of sums over images that do not go anyway, the longest first."""
        found: dict[tuple[str, str], list[tuple[str, PartPlace]]] = {}
        for path, place in self.files.places.items():
            if isinstance(place.cut, Images) and place.table and path not in self.gone:
                found.setdefault((place.stage, place.slug), []).append((path, place))
        for own in found.values():
            own.sort(key=lambda one: one[1].cut.start - one[1].cut.stop)
        return found

    # What attempts, failures and damage left.

    def _damaged(self) -> list[str]:
        """Files that cannot be read, tried twice: a run reads none that it does not need."""
        paths = [path for path, place in self.files.places.items() if place.table]
        for table in TABLES.values():
            if table.stages:
                paths += [path for path in self.store.list(table.name) if parse_shard_path(path)]
        left = [path for path in paths if path not in self.gone]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            whole = list(threads.map(self._is_whole, left))
        found = [path for path, sound in zip(left, whole, strict=True) if not sound]
        if found:
            self.again.append(f"what {_some(found)} held, where a run needs it and nothing else holds it")
        return found

    def _is_whole(self, path: str) -> bool:
        try:
            tried_twice(lambda: check_whole(self.store.read(path), path))
        except ShardCorrupt:
            return False
        except FileNotFoundError:  # gone since the listing
            pass
        return True

    def _torn(self) -> Iterator[str]:
        for path, place in self.files.places.items():
            tables = {self.files.places[other].table for other in self.files.of_key(place)}
            if not tables & {tables_of(place.stage)[0].name, ""}:
                yield path

    def _failures(self) -> Iterator[str]:
        for path in self.store.list(FAILED):
            try:
                unit = unit_of(json.loads(self.store.read(path))["unit"])
            except (ValueError, KeyError, TypeError):
                yield path
                continue
            if self._is_done(unit) or (unit.stage, unit.slug) in self.unread:
                yield path

    def _is_done(self, unit: WorkUnit) -> bool:
        units = self.files.units(unit.stage, unit.slug, unit.identity)
        if isinstance(unit.cut, Neurons | Images):
            own = [(one.start, one.stop) for one in units if one.layer == unit.layer]
            return not subtract((unit.start, unit.stop), own)
        return unit in units

    def _quarantine(self) -> Iterator[str]:
        for path in self.store.list(QUARANTINE):
            if self._is_replaced(origin(path)):
                yield path
            else:
                self.stays.append(f"{path}: damaged, and nothing stands in its place yet. Run again")

    def _is_replaced(self, path: str) -> bool:
        part, shard = parse_part_path(path), parse_shard_path(path)
        if part is not None and not tables_filled_by(part.stage):
            return (part.stage, part.slug) in self.unread or self._sums_stand(part)
        if part is not None:
            return any(part.is_of(unit) for unit in self.standing.held)
        if shard is None or shard[0] not in TABLES:
            return False
        own = [stages.stage_named(name) for name in TABLES[shard[0]].stages]
        claimed = [stage for stage in own if stage.name in self.standing.claims.get(shard[1], {})]
        return _decodes(self.store, path) and all(self.standing.is_complete(one, shard[1]) for one in claimed)

    def _sums_stand(self, place: PartPlace) -> bool:
        """Whether sound sums, of this cut or a merge of it, are there."""
        for path, other in self.files.of(place.stage, place.slug).items():
            if other.cut == place.cut or (isinstance(place.cut, Images) and _is_inside(place, other)):
                unit = _unit_of(self.store, path, other)
                if unit and place.is_of(unit.identity.unit(unit.stage, unit.slug, place.cut)):
                    return is_sound(self.store, unit)
        return False

    def _say_parts_that_stay(self) -> None:
        for (stage, slug), units in self.standing.committed.items():
            others = [unit for unit in units if unit not in self.standing.held] if tables_filled_by(stage) else []
            if others:
                self.stays.append(f"{len(others)} parts of {stage} of {slug}: shards do not hold all their rows")


def carry_out(store: Store, cleaning: Cleaning, lock: Lock) -> None:
    """Write the records, then remove. Raises AtlasLocked where another driver took the lock over meanwhile."""
    for unit, kept in cleaning.records.items():
        _require(lock, store)
        write_kept(store, unit, kept)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for start in range(0, len(cleaning.removals), 32 * AT_ONCE):
            _require(lock, store)
            some = cleaning.removals[start : start + 32 * AT_ONCE]
            list(threads.map(partial(_remove, store), some))


def _remove(store: Store, one: Removal) -> None:
    if one.kind == "damaged":
        put_aside(store, one.path)
    else:
        store.delete(one.path)


def _require(lock: Lock, store: Store) -> None:
    if lock.lost:
        raise AtlasLocked(f"{store.url}: another driver took over this atlas's lock. What was removed was not needed")


def _is_inside(slice_: PartPlace, whole: PartPlace) -> bool:
    return whole.cut != slice_.cut and whole.cut.start <= slice_.cut.start and slice_.cut.stop <= whole.cut.stop


def _unit_of(store: Store, path: str, place: PartPlace) -> WorkUnit | None:
    """The unit that a file's footer names; None where it is damaged, gone, or not what its name says."""
    try:
        with store.open(path) as file, damage(path):
            unit = unit_of(footer_metadata(pq.read_metadata(file)))
    except (FileNotFoundError, ShardCorrupt, KeyError, ValueError):
        return None
    return unit if place.is_of(unit) else None


def _decodes(store: Store, path: str) -> bool:
    try:
        decode(store.read(path), path)
    except (FileNotFoundError, ShardCorrupt):
        return False
    return True


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
