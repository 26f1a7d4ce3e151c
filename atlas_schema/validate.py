"""Whether a folder is a sound atlas: every fault is named, with the file it is in; nothing is changed.

The models table says which models there are and which stages ran on them, the sites table which neurons each stage
set out to describe, and the tables' own declarations which stage fills what, and what a row may say: a table that a
stage fills and that is not there is missing. There are three depths, each with all of the one before:

| depth | reads |
| --- | --- |
| QUICK | footers and small columns: what is missing is found, but not every damaged byte |
| BYTES | every byte of shards and parts: digests are compared, images of shards decoded |
| DEEP | what is under `.atlas` as its readers do: arrays and rows of parts, records of failures and of cleaned parts |
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.columns import SCHEMA_VERSION, Table
from atlas_schema.errors import AtlasError, ForeignAtlas, NothingThere, ShardCorrupt
from atlas_schema.file_faults import Violation, file_faults, image_faults, reached, some, value_faults
from atlas_schema.head_faults import head_faults
from atlas_schema.kept import Shelf, part_in_shards, read_kept
from atlas_schema.lookup import FOLDER as LOOKUPS
from atlas_schema.lookup import lookup_faults
from atlas_schema.parquet import THREADS, check_whole, damage, footer_metadata, read_footer, versions_agree
from atlas_schema.parquet_columns import read_columns
from atlas_schema.partials import read_partial
from atlas_schema.parts import KEPT, PARTS, is_part_path, kept_path, parse_part_path, read_file
from atlas_schema.shards import parse_shard_path, shard_path
from atlas_schema.store import Store
from atlas_schema.tables import HEAD_TABLES, MODELS, NEURONS, PARTIALS, PROBE_IMAGES, RUNS, SITES, TABLES, tables_of
from atlas_schema.units import Neurons, WorkUnit, unit_of

#: What else may lie at the top: the card, licences, and whatever begins with a dot (a clone's .git, the Hub's
#: .gitattributes, the run's .atlas).
_BESIDE = re.compile(r"README\.md|croissant\.json|LICEN[CS]E.*|CITATION\.cff|\..*")

FAILED = ".atlas/failed"  # records of units that were given up

__all__ = ["Depth", "Report", "Violation", "check", "validate", "what_to_do"]

Rows = list[dict[str, Any]]
Thing = TypeVar("Thing")


#: Files that are read side by side: most of the time is spent in code that other threads need not wait for.
MOST_AT_ONCE = 8


class Depth(IntEnum):
    """How much is read."""

    QUICK = 0
    BYTES = 1
    DEEP = 2


@dataclass(frozen=True)
class Report:
    """What was found, by path, and how many files were looked at."""

    violations: list[Violation]
    files: int


def validate(store: Store, *, deep: bool = True) -> list[Violation]:
    """Every fault of the atlas in `store` that its bytes show, by path; none: it is sound. As `check`."""
    return check(store, Depth.BYTES if deep else Depth.QUICK).violations


def check(store: Store, depth: Depth = Depth.BYTES, *, memory: bool = True) -> Report:
    """Every fault of the atlas in `store`, by path. memory: of the run's own files under .atlas too.

    NothingThere if there is no atlas.
    """
    paths, deep = store.list(), depth >= Depth.BYTES
    if not memory:
        paths = [path for path in paths if not path.startswith(".atlas/")]
    shards = {path: place for path in paths if (place := parse_shard_path(path)) and place[0] in TABLES}
    if not shards and not any(path.startswith(".atlas/") for path in paths):
        raise NothingThere(f"{store.url}: no atlas here: expected a folder with models/, sites/ and neurons/ in it")
    found = list(_strays(paths, shards))
    rows: dict[str, dict[str, Rows]] = {name: {} for name in TABLES}
    for path, (table, slug, _, _) in shards.items():
        if TABLES[table].shard != "layer":
            read = _small_shard(store, path, TABLES[table], slug, deep, found)
            rows[table].setdefault(slug, []).extend(read)
    models = {slug: read[0] for slug, read in rows[MODELS.name].items() if read}
    for slug, model in models.items():
        found += _model_counts(model, rows[SITES.name].get(slug, []))
    found += _missing_images(models, rows[PROBE_IMAGES.name])
    found += _missing_shards(models, rows[SITES.name], shards)
    for table, by_slug in rows.items():
        for slug, read in by_slug.items() if table in HEAD_TABLES else ():
            found += head_faults(shard_path(table, slug), table, slug, rows[SITES.name].get(slug, []), read)

    def of_layer(path: str) -> Iterator[Violation]:
        table, slug, layer, layers = shards[path]
        site = _ffn_site(rows[SITES.name].get(slug, []), layer)
        return _layer_shard(store, path, TABLES[table], (slug, layer, layers), models.get(slug), site, deep)

    found += _each([path for path in shards if TABLES[shards[path][0]].shard == "layer"], of_layer)
    parts = [path for path in paths if path.startswith(f"{PARTS}/")]
    records = [path for path in parts if path.endswith(KEPT)]
    found += _each([path for path in parts if path not in set(records)], lambda path: _part(store, path, models, depth))
    found += _each(_together(records), lambda some: _records(store, some, depth))
    if depth is Depth.DEEP:
        found += _each([path for path in paths if path.startswith(f"{FAILED}/")], lambda path: _failure(store, path))
    if deep:
        found += _each([path for path in paths if path.startswith(f"{LOOKUPS}/")], lambda path: _lookup(store, path))
    if "README.md" not in paths:
        found.append(Violation("README.md", "card", "there is no card; write it with `neuron-atlas card`"))
    ordered = sorted(found, key=lambda violation: (violation.path, violation.kind, violation.message))
    return Report(ordered, len(paths))


def _each(things: Sequence[Thing], faults: Callable[[Thing], Iterable[Violation]]) -> list[Violation]:
    """The faults of many files, several of which are read at once."""
    with ThreadPoolExecutor(min(MOST_AT_ONCE, os.cpu_count() or 1)) as threads:
        return [fault for some in threads.map(lambda thing: list(faults(thing)), things) for fault in some]


def _strays(paths: Sequence[str], shards: Mapping[str, Any]) -> Iterator[Violation]:
    for path in paths:
        top, _, rest = path.partition("/")
        if path not in shards and not (_BESIDE.fullmatch(top) and (not rest or top.startswith("."))):
            expected = "train-LLLLL-of-NNNNN.parquet in the folder of its model" if top in TABLES else "the card"
            yield Violation(path, "stray", f"not a file of an atlas; expected {expected}, or nothing")


def _small_shard(store: Store, path: str, table: Table, slug: str, deep: bool, found: list[Violation]) -> Rows:
    """The rows of a shard of models, sites or runs; what is wrong with it goes to `found`."""
    try:
        data, metadata = _read(store, path, None, deep)
    except (ShardCorrupt, ForeignAtlas) as error:
        found.append(_violation(path, error))
        return []
    faults = [*file_faults(path, table, metadata, data.schema), *value_faults(path, table, data)]
    found += faults
    if any(fault.kind in ("schema", "version") for fault in faults):
        return []
    if deep:
        found += image_faults(path, table, data)
    owner = table.key[0]
    others = sorted({row for row in data[owner].to_pylist() if row != slug})
    if others:
        found.append(Violation(path, "key", f"holds rows of {', '.join(map(str, others))} in the folder of {slug}"))
    read: Rows = data.to_pylist()
    return read


def _model_counts(model: Mapping[str, Any], sites: Rows) -> Iterator[Violation]:
    """The sites table against what the model's row says of it."""
    path = shard_path(SITES, model["slug"])
    counts = {"ffn_sites": 0, "neurons": 0, "attention_sites": 0, "heads": 0}
    for kind, sites_of, parts in (("ffn", "ffn_sites", "width"), ("attention", "attention_sites", "heads")):
        layers = [site["layer"] for site in sites if site["kind"] == kind]
        counts[sites_of] = len(layers)
        counts["neurons" if kind == "ffn" else "heads"] = sum(s[parts] or 0 for s in sites if s["kind"] == kind)
        if layers != list(range(len(layers))):
            yield Violation(path, "key", f"{kind} layers are {layers}; expected 0, 1, 2, ... without gaps")
        for site in sites:
            if site["kind"] == kind and site[parts] is None:
                yield Violation(path, "value", f"{kind} site {site['layer']} has no {parts}")
    for name, count in counts.items():
        if count != model[name]:
            yield Violation(path, "count", f"{name}: the sites make {count}, the models table says {model[name]}")
    for site in sites:
        for planned in site["planned"] or []:
            if not 0 <= planned["start"] < planned["stop"] <= (site["width"] or 0):
                message = f"layer {site['layer']}: planned {planned} is not within its {site['width']} units"
                yield Violation(path, "value", message)


def _ffn_site(sites: Rows, layer: int) -> dict[str, Any] | None:
    return next((site for site in sites if site["kind"] == "ffn" and site["layer"] == layer), None)


def _missing_images(models: Mapping[str, Mapping[str, Any]], images: Mapping[str, Rows]) -> Iterator[Violation]:
    """Every probe set that a model was measured on must be there."""
    for slug, model in models.items():
        if model["probe_set"] and model["probe_set"] not in images:
            path = shard_path(PROBE_IMAGES, model["probe_set"])
            yield Violation(path, "missing", f"model {slug} was measured on this probe set")


def _layer_shard(
    store: Store,
    path: str,
    table: Table,
    place: tuple[str, int, int],
    model: Mapping[str, Any] | None,
    site: Mapping[str, Any] | None,
    deep: bool,
) -> Iterator[Violation]:
    slug, layer, layers = place
    if model is None or site is None:
        lacking = f"model {slug}" if model is None else f"FFN site {layer} of {slug}"
        yield Violation(path, "stray", f"there is no {lacking} in the {'models' if model is None else 'sites'} table")
    elif layers != model["ffn_sites"]:
        yield Violation(path, "count", f"named as one of {layers} layers; the model has {model['ffn_sites']}")
    try:
        names = None if deep else [name for name in table.names if name not in table.image_columns]
        data, metadata = _read(store, path, names, deep)
    except (ShardCorrupt, ForeignAtlas) as error:
        yield _violation(path, error)
        return
    faults = list(file_faults(path, table, metadata, data.schema))
    yield from faults
    if any(fault.kind in ("schema", "version") for fault in faults):
        return
    yield from value_faults(path, table, data)
    yield from _address_faults(path, slug, layer, data)
    yield from _identity_faults(path, table, metadata[1], model, data)
    if site is not None:
        yield from _plan_faults(path, table, site, data)
    if deep:
        yield from image_faults(path, table, data)


def _read(
    store: Store, path: str, columns: list[str] | None, deep: bool
) -> tuple[pa.Table, tuple[pq.FileMetaData, dict[str, str]]]:
    """Rows, footer and this project's metadata; `deep` also compares the file's digest."""
    if deep:
        encoded = store.read(path)
        own, footer = check_whole(encoded, path), pq.read_metadata(pa.BufferReader(encoded))
    else:
        footer = read_footer(store, path)
        own = footer_metadata(footer)
    if not versions_agree(own.get("schema_version", "")):
        raise ForeignAtlas(f"schema version {own.get('schema_version', 'unknown')}; this code reads {SCHEMA_VERSION}")
    if not deep:
        return read_columns(store, path, footer, columns), (footer, own)
    with damage(path):
        whole = pq.ParquetFile(pa.BufferReader(encoded), page_checksum_verification=True)
        return whole.read(columns=columns, use_threads=THREADS), (footer, own)


def _address_faults(path: str, slug: str, layer: int, data: pa.Table) -> Iterator[Violation]:
    rows = zip(*(data[name].to_pylist() for name in ("address", "slug", "layer", "unit")), strict=True)
    wrong = [row[0] for row in rows if row != (f"{slug}/mlp/{layer}/{row[3]}", slug, layer, row[3])]
    if wrong:
        yield Violation(path, "key", f"{len(wrong)} rows are not of {slug}/mlp/{layer}: {some(wrong)}")


def _identity_faults(
    path: str, table: Table, own: Mapping[str, str], model: Mapping[str, Any] | None, data: pa.Table
) -> Iterator[Violation]:
    """Footer, models row and rows must tell of the same weights, settings, recipe and seed."""
    if model is None:
        return
    expected = {"fingerprint": model["fingerprint"]}
    expected |= {f"{stage}_settings": settings for stage, settings in _settings(model).items()}
    for name, value in expected.items():
        if name in own and own[name] != value:
            yield Violation(path, "metadata", f"{name} is {own[name]} in the footer, {value} in the models table")
    for name in ("recipe_hash", "seed"):
        if name in data.column_names and table is NEURONS:  # further pictures are of other recipes
            others = {str(value) for value in data[name].to_pylist() if value is not None} - {str(model[name])}
            if others:
                message = f"{name} is {model[name]} in the models table, {some(sorted(others))} in rows"
                yield Violation(path, "metadata", message)


def _settings(model: Mapping[str, Any]) -> dict[str, str]:
    """The settings of each stage that a model's row claims."""
    return {one["stage"]: one["settings"] for one in model["stages"]}


def _plan_faults(path: str, table: Table, site: Mapping[str, Any], data: pa.Table) -> Iterator[Violation]:
    """Rows against the plan: each stage must have filled its columns for the units that it set out to describe."""
    units = data["unit"].to_pylist()
    planned = _spans(site["planned"])
    extra = sorted(set(units) - planned)
    if extra:
        yield Violation(path, "unplanned", f"{len(extra)} units that sites.planned does not name: {some(extra)}")
    if table is not NEURONS:  # other tables have as many rows a neuron as there is to say
        return
    by_stage = {stage: _planned(site, [stage]) for stage in table.stages}
    own = set().union(*by_stage.values()) or planned  # of stages that fill this table: others may go further
    missing = sorted(own.difference(units))
    if missing:
        yield Violation(path, "missing", f"{len(missing)} of {len(own)} planned units: {some(missing)}")
    failed = [unit for unit, status in zip(units, data["status"].to_pylist(), strict=True) if status == "failed"]
    for stage in ("judge", "verdict"):
        by_stage[stage] = by_stage.get(stage, set()).difference(failed)  # no picture, nothing to judge
    for stage, wanted in by_stage.items():
        if wanted:
            filled = {unit for unit, there in zip(units, reached(table, stage, data).to_pylist(), strict=True) if there}
            gaps = sorted((wanted & set(units)) - filled)
            if gaps:
                yield Violation(path, "missing", f"{stage}: {len(gaps)} of {len(wanted)} planned units: {some(gaps)}")


def _planned(site: Mapping[str, Any], stages: Collection[str]) -> set[int]:
    """The units of a layer that any of these stages set out to describe."""
    return _spans([span for span in site["planned_stages"] or [] if span["stage"] in stages])


def _spans(spans: Sequence[Mapping[str, Any]] | None) -> set[int]:
    return {unit for span in spans or [] for unit in range(span["start"], span["stop"])}


def _missing_shards(
    models: Mapping[str, Mapping[str, Any]], sites: Mapping[str, Rows], shards: Mapping[str, Any]
) -> Iterator[Violation]:
    """Every table that a model's stages fill must be there, for each layer that was planned."""
    for slug, model in models.items():
        if slug not in sites:
            yield Violation(shard_path(SITES, slug), "missing", f"model {slug} has no sites table")
        tables = {table.name: table for stage in _settings(model) for table in tables_of(stage) if table.name in TABLES}
        for table in tables.values():
            for path, what in _expected(table, slug, model, sites.get(slug, [])):
                if path not in shards:
                    yield Violation(path, "missing", f"no shard; {what}")
    for slug in sites.keys() - models.keys():
        yield Violation(shard_path(MODELS, slug), "missing", f"sites of {slug} but no row of it in the models table")


def _expected(
    table: Table, slug: str, model: Mapping[str, Any], sites: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """(path, what was planned for it) of each shard of a table that some stage of the model fills."""
    if table.shard != "layer":
        yield shard_path(table, slug), f"the stages {', '.join(table.stages)} of {slug} fill it"
        return
    for site in sites:
        planned = _planned(site, table.stages)
        if planned:
            path = shard_path(table, slug, site["layer"], model["ffn_sites"])
            yield path, f"{len(planned)} neurons were planned"


def _part(store: Store, path: str, models: Mapping[str, Mapping[str, Any]], depth: Depth) -> Iterator[Violation]:
    """A file of a part by its name and, unless QUICK, by every byte; and whether it belongs to the model."""
    if not is_part_path(path):
        yield Violation(path, "stray", "not the name of a part")
        return
    if depth is Depth.QUICK:
        return
    try:
        rows, unit, footer = read_file(store, path)
        if depth is Depth.DEEP:
            yield from _content_faults(store, path, rows, unit, footer["table"])
    except (ShardCorrupt, ForeignAtlas) as error:
        yield _violation(path, error)
        return
    model = models.get(unit.slug)
    if model is None:
        return
    if unit.fingerprint != model["fingerprint"]:
        yield Violation(path, "metadata", f"fingerprint is not that of {unit.slug} in the models table")
    elif unit.settings != _settings(model).get(unit.stage, unit.settings):
        yield Violation(path, "metadata", f"settings of {unit.stage} are not those of {unit.slug} in the models table")


def _content_faults(store: Store, path: str, rows: pa.Table, unit: WorkUnit, table: str) -> Iterator[Violation]:
    """What a part says, as its readers take it: named arrays, or rows with pictures."""
    if table == PARTIALS.name:
        read_partial(store, unit)  # ShardCorrupt where an array is not of its type and shape
        return
    own = next(one for one in tables_of(unit.stage) if one.name == table)
    yield from value_faults(path, own, rows)
    if set(own.image_columns) <= set(rows.column_names):
        yield from image_faults(path, own, rows)


def _together(records: Iterable[str]) -> list[list[str]]:
    """Records whose rows lie in the same shards."""
    groups: dict[Any, list[str]] = {}
    for path in records:
        place = parse_part_path(path)
        layer = place.cut.layer if place is not None and isinstance(place.cut, Neurons) else path
        groups.setdefault((path.rpartition("/")[0], layer), []).append(path)
    return list(groups.values())


def _records(store: Store, paths: Iterable[str], depth: Depth) -> Iterator[Violation]:
    """Records of parts that were cleaned away: by their names, what they say, and if DEEP whether the rows stand."""
    shelf = Shelf(store)
    for path in paths:
        if not is_part_path(path):
            yield Violation(path, "stray", "not the name of a part")
        elif depth is not Depth.QUICK:
            try:
                unit = unit_of(json.loads(store.read(path))["unit"])
                if kept_path(unit) != path:
                    raise ValueError(f"it is the record of {unit}")
                if (kept := read_kept(store, unit)) and depth is Depth.DEEP:
                    for table in tables_of(unit.stage):
                        part_in_shards(shelf, unit, table, kept)
            except ShardCorrupt as error:
                yield _violation(path, error)
            except (ValueError, KeyError, TypeError) as error:
                yield Violation(path, "corrupt", f"a record that cannot be read: {error}")


def _failure(store: Store, path: str) -> Iterator[Violation]:
    """The record of a unit that was given up."""
    try:
        unit = unit_of(json.loads(store.read(path))["unit"])
    except (ValueError, KeyError, TypeError):
        yield Violation(path, "corrupt", "the record of a unit that was given up; it cannot be read")
        return
    if not path.endswith(f"/{unit.stage}/{unit.slug}/{unit.cut.name}-{unit.key}.json"):
        yield Violation(path, "corrupt", f"the record of another unit, {unit}")


def _lookup(store: Store, path: str) -> Iterator[Violation]:
    yield from (Violation(path, "metadata", message) for message in lookup_faults(store, path))


def _violation(path: str, error: AtlasError) -> Violation:
    kind = "corrupt" if isinstance(error, ShardCorrupt) else "version"
    return Violation(path, kind, str(error).removeprefix(f"{path}: "))


def what_to_do(fault: Violation) -> str:
    """The next step, for people."""
    place = parse_shard_path(fault.path)
    if fault.kind == "stray":
        return "Move it out of the atlas, or delete it."
    if fault.kind in ("card", "version"):
        return "Write the card again." if fault.kind == "card" else "Use the release of neuron-atlas that wrote it."
    if fault.kind in ("missing", "unplanned", "count") or (place and place[0] in (MODELS.name, SITES.name)):
        return "Run the command that made it again: it does what is missing."
    if fault.path.startswith(f"{LOOKUPS}/"):
        return "Delete the file; `neuron-atlas push` makes it anew."
    if fault.path.startswith(f"{FAILED}/"):
        return "`neuron-atlas clean --yes` removes it; so does the next run."
    if fault.path.startswith(f"{PARTS}/"):
        return (
            "`neuron-atlas clean --yes` puts it aside; then run the command that made it again: its unit is done anew, "
            "where anything needs it."
        )
    if place and place[0] == RUNS.name:
        return "The next run puts it aside; the log of that run under .atlas/logs stays."
    if fault.kind == "corrupt":
        return (
            "`neuron-atlas clean --yes` puts it aside; then run the command that made it again: it is written anew, "
            "from what is committed."
        )
    return "Delete the file and run the command that made it again: it is written anew. If it comes back, report it."
