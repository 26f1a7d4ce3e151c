"""Which committed units stand in the shards: every row and column of their parts, read and compared.

The one ground on which something is removed: a part whose rows the shards hold, sums of which all that is made stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from atlas_schema.errors import ShardCorrupt
from atlas_schema.kept import Kept, Shelf, counts, part_in_shards, read_kept, rows_in_shards
from atlas_schema.parts import Listing, PartPlace, committed_units, parse_part_path, part_path, read_file
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import MODELS, tables_filled_by, tables_of
from atlas_schema.units import Identity, Neurons, WorkUnit
from jobs import stages
from jobs.claim import claimed, claimed_identities, planned_before
from jobs.ranges import subtract
from jobs.stages import Stage


def read_by(name: str) -> list[Stage]:
    """The stages that fill tables with what is made of the results of a stage, by way of others too, but not of those
    that fill tables: whoever reads these finds their rows in the shards."""
    found: dict[str, Stage] = {}
    todo = [name]
    while todo:
        one = todo.pop()
        for stage in stages.STAGES:
            if stage.name not in found and one in (*stage.reads, *stage.reads_if_there):
                found[stage.name] = stage
                todo += [] if tables_filled_by(stage.name) else [stage.name]
    return [stage for stage in found.values() if tables_filled_by(stage.name)]


@dataclass
class Files:
    """All files of parts, from one listing: by stage and model, and by the key that says of which unit they are."""

    store: Store
    places: dict[str, PartPlace] = field(init=False)

    def __post_init__(self) -> None:
        self._listing = Listing(self.store)
        found = ((path, parse_part_path(path)) for path in self._listing.paths)
        self.places = {path: place for path, place in found if place}

    def of(self, stage: str, slug: str) -> dict[str, PartPlace]:
        """The files of a stage of a model."""
        return self._by_owner.get((stage, slug), {})

    def of_key(self, place: PartPlace) -> list[str]:
        """All files of the part that a file belongs to."""
        return self._by_key[place.stage, place.slug, place.key]

    def units(self, stage: str, slug: str, identity: Identity) -> set[WorkUnit]:
        """The committed units of an identity, from names alone."""
        return set(committed_units(self._listing, stage, slug, identity))

    def paths(self, unit: WorkUnit) -> list[str]:
        """The files of the part of a unit, without the record of one that was cleaned away."""
        of = self.of(unit.stage, unit.slug)
        return [path for path, place in of.items() if place.is_of(unit) and place.table]

    @cached_property
    def _by_owner(self) -> dict[tuple[str, str], dict[str, PartPlace]]:
        found: dict[tuple[str, str], dict[str, PartPlace]] = {}
        for path, place in self.places.items():
            found.setdefault((place.stage, place.slug), {})[path] = place
        return found

    @cached_property
    def _by_key(self) -> dict[tuple[str, str, str], list[str]]:
        found: dict[tuple[str, str, str], list[str]] = {}
        for path, place in self.places.items():
            found.setdefault((place.stage, place.slug, place.key), []).append(path)
        return found


class Standing:
    """What of each model's stages stands in shards. Reads all parts that hold rows, and the shards, a layer at a time.

    held: the units whose every row stands, with what a record of them would say.
    """

    def __init__(self, store: Store, files: Files) -> None:
        self.store, self.files = store, files
        places = map(parse_shard_path, store.list(MODELS.name))
        self.claims: dict[str, dict[str, Identity]] = {}
        self.unknown: list[str] = []  # models whose row is damaged: nothing is known of theirs
        for slug in sorted({place[1] for place in places if place}):
            row = claimed(store, slug)
            if row is None:
                self.unknown.append(slug)
            else:
                self.claims[slug] = claimed_identities(row)
        self.committed: dict[tuple[str, str], set[WorkUnit]] = {
            (stage, slug): files.units(stage, slug, identity)
            for slug, claims in self.claims.items()
            for stage, identity in claims.items()
        }
        self.held: dict[WorkUnit, Kept] = {}
        for units in self._groups():
            shelf = Shelf(store)
            for unit in units:
                kept = _held(store, shelf, unit)
                if kept is not None:
                    self.held[unit] = kept

    def _groups(self) -> Iterator[list[WorkUnit]]:
        """Units that are read together, as the same shards hold their rows: of a layer, or one by one."""
        layers: dict[tuple[str, str, int], list[WorkUnit]] = {}
        for (stage, slug), units in self.committed.items():
            for unit in sorted(units, key=lambda unit: unit.cut.name) if tables_filled_by(stage) else ():
                if isinstance(unit.cut, Neurons):
                    layers.setdefault((tables_of(stage)[0].name, slug, unit.cut.layer), []).append(unit)
                else:
                    yield [unit]
        yield from layers.values()

    @cached_property
    def _planned(self) -> Mapping[str, Mapping[int, Mapping[str, tuple[tuple[int, int], ...]]]]:
        return {slug: planned_before(self.store, slug) for slug in self.claims}

    def is_complete(self, stage: Stage, slug: str) -> bool:
        """Whether all that a stage set out to say of a model stands in shards."""
        units = self.committed.get((stage.name, slug), set())
        if not units or any(unit not in self.held for unit in units):
            return False
        if stage.cut != "neurons":
            return True
        for layer, spans in self._planned[slug].items():
            own = [(unit.start, unit.stop) for unit in units if unit.layer == layer]
            if any(subtract(one, own) for one in spans.get(stage.name, ())):
                return False
        return True

    def waiting(self, name: str, slugs: Iterable[str]) -> list[str]:
        """What has yet to be made of the results of a stage, of some models: `label of zoo-vit`. What an option of its
        own asks for, such as `--head-pictures`, only where it was asked for.
        """
        slugs = list(slugs)
        return [
            f"{stage.name} of {slug}"
            for stage in read_by(name)
            for slug in slugs
            if (stage.group or stage.name in self.claims.get(slug, ())) and not self.is_complete(stage, slug)
        ]


def _held(store: Store, shelf: Shelf, unit: WorkUnit) -> Kept | None:
    """What a record of a unit says whose every row stands in shards, or the record that is there; else None."""
    footers: dict[str, Mapping[str, str]] = {}
    rows: dict[str, Mapping[str, int]] = {}
    try:
        for table in tables_of(unit.stage):
            try:
                part, _, footer = read_file(store, part_path(unit, table))
            except FileNotFoundError:
                kept = read_kept(store, unit)
                if kept is None:
                    return None
                part_in_shards(shelf, unit, table, kept)
                footers[table.name], rows[table.name] = kept.footers[table.name], kept.rows[table.name]
                continue
            if not rows_in_shards(shelf, unit, table).equals(part):
                return None
            footers[table.name], rows[table.name] = footer, counts(part, unit.slug)
    except ShardCorrupt:  # a damaged part is no ground to remove anything: the next run does it again
        return None
    return Kept(footers, rows)
