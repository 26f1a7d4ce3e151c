"""A shard is a function of its parts, byte for byte, laid out so that pictures can be fetched by offset."""

from __future__ import annotations

import os
import random
from itertools import count, pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.errors import BadRow, ForeignAtlas, NothingThere, ShardCorrupt
from atlas_schema.parquet import IMAGE_ROWS_PER_GROUP, decode, footer_metadata, layout_faults, leaves
from atlas_schema.parts import part_path
from atlas_schema.read import Atlas
from atlas_schema.shards import ShardPlace, assemble, parse_shard_path, shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_MATCHES, NEURONS, TABLES
from atlas_schema.units import Neurons, Pair, WorkUnit
from tests.atlas_schema.made_atlas import (
    FINGERPRINT,
    PROVENANCE,
    SETTINGS,
    SLUG,
    commit,
    made_rows,
    model_row,
    reduce_layer,
    site_rows,
    units_of,
    webp,
)

STORES = count()


def rows_of(store: Store, path: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = decode(store.read(path), path)[0].to_pylist()
    return found


def test_parts_become_a_shard(store: Store) -> None:
    units = units_of(0, 40, 16)
    for unit in units:
        commit(store, unit)
    path = reduce_layer(store, SLUG, 0, 12, units)
    assert path == "neurons/zoo-vit/train-00000-of-00012.parquet"
    rows = rows_of(store, path)
    assert [row["address"] for row in rows] == [f"zoo-vit/mlp/0/{unit}" for unit in range(40)]
    assert [row["image"]["bytes"] for row in rows] == [webp(unit) for unit in range(40)]
    metadata = decode(store.read(path), path)[1]
    assert metadata["fingerprint"] == FINGERPRINT
    assert metadata["visualize_settings"] == SETTINGS
    assert metadata["parts"].split(",") == [unit.key for unit in units]
    assert metadata.items() >= {**PROVENANCE, "slug": SLUG, "layer": "0", "schema_version": SCHEMA_VERSION}.items()


def test_assembling_again_changes_nothing(folder: Store) -> None:
    units = units_of(0, 40, 16)
    for unit in units:
        commit(folder, unit)
    path = reduce_layer(folder, SLUG, 0, 1, units)
    before, file = folder.read(path), Path(folder.url, path)
    os.utime(file, (1, 1))
    assert reduce_layer(folder, SLUG, 0, 1, random.Random(0).sample(units, len(units))) == path
    assert folder.read(path) == before
    assert file.stat().st_mtime == 1  # not even touched


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_cutting_into_parts_gives_the_same_rows(data: st.DataObject) -> None:
    """Ranges may overlap, repeat and come in any order; only the record of the parts may differ."""
    width = data.draw(st.integers(1, 24), label="width")
    spans = data.draw(st.lists(st.tuples(st.integers(0, width - 1), st.integers(1, width)), max_size=4), label="spans")
    spans = [(a, min(a + n, width)) for a, n in spans] + [(0, max(1, width // 2)), (width // 2, width)]
    cuts = [Neurons(0, *span) for span in dict.fromkeys(spans)]
    units = [WorkUnit("visualize", SLUG, cut, FINGERPRINT, SETTINGS) for cut in cuts]
    seconds = {unit: float(place) for place, unit in enumerate(units)}
    shards = []
    for order in (units, data.draw(st.permutations(units), label="order")):
        store = Store(f"memory://cut-{next(STORES)}")
        for unit in order:
            commit(store, unit, seconds=seconds[unit])
        shards.append(store.read(reduce_layer(store, SLUG, 0, 1, order)))
    assert shards[0] == shards[1]
    rows = decode(shards[0], "shard")[0].to_pylist()
    assert [row["unit"] for row in rows] == list(range(width))
    first = sorted(units, key=lambda unit: (unit.start, unit.stop))
    for row in rows:
        source = next(unit for unit in first if unit.start <= row["unit"] < unit.stop)
        assert row["seconds"] == seconds[source]


def test_neurons_of_an_earlier_run_are_kept(store: Store) -> None:
    early, late = units_of(0, 16, 16), units_of(0, 32, 8)
    for unit in [*early, *late]:
        commit(store, unit)
    reduce_layer(store, SLUG, 0, 1, early)
    path = reduce_layer(store, SLUG, 0, 1, [*early, *late[2:]])
    assert [row["unit"] for row in rows_of(store, path)] == list(range(32))


def test_a_missing_part_is_named_and_the_shard_stays(store: Store) -> None:
    units = units_of(0, 32, 16)
    commit(store, units[0])
    path = reduce_layer(store, SLUG, 0, 1, units[:1])
    before = store.read(path)
    with pytest.raises(NothingThere, match="units 16 to 31: not committed"):
        reduce_layer(store, SLUG, 0, 1, units)
    assert store.read(path) == before


def test_a_damaged_part_is_named_and_the_shard_stays(folder: Store) -> None:
    units = units_of(0, 32, 16)
    for unit in units:
        commit(folder, unit)
    path = reduce_layer(folder, SLUG, 0, 1, units)
    before = folder.read(path)
    spoilt = bytearray(folder.read(part_path(units[1])))
    spoilt[1000] ^= 1
    folder.replace(part_path(units[1]), bytes(spoilt))
    with pytest.raises(ShardCorrupt) as told:
        reduce_layer(folder, SLUG, 0, 1, units)
    assert told.value.path == part_path(units[1])
    assert folder.read(path) == before


@pytest.mark.parametrize("change", [{"fingerprint": "0" * 64}, {"settings": "1" * 16}])
def test_nothing_is_mixed(store: Store, change: dict[str, str]) -> None:
    ours, theirs = units_of(0, 32, 16), units_of(0, 32, 16, **change)
    for unit in [*ours, *theirs]:
        commit(store, unit)
    with pytest.raises(ForeignAtlas, match=f"cannot mix them; .*{next(iter(change))} is"):
        reduce_layer(store, SLUG, 0, 1, [ours[0], theirs[1]])
    path = reduce_layer(store, SLUG, 0, 1, ours)
    before = store.read(path)
    with pytest.raises(ForeignAtlas, match=f"another [a-z_]*{next(iter(change))}.*left as it is.*--as NAME"):
        reduce_layer(store, SLUG, 0, 1, theirs)
    assert store.read(path) == before


def test_a_damaged_shard_is_written_anew(folder: Store) -> None:
    units = units_of(0, 16, 16)
    commit(folder, units[0])
    path = reduce_layer(folder, SLUG, 0, 1, units)
    before = folder.read(path)
    for damage in (b"", before[:-1], b"x" + before[1:]):
        folder.replace(path, damage)
        reduce_layer(folder, SLUG, 0, 1, units)
        assert folder.read(path) == before


def test_there_must_be_units(folder: Store) -> None:
    with pytest.raises(NothingThere):
        reduce_layer(folder, SLUG, 0, 1, [])


def test_counterparts_of_both_models_come_from_the_parts_of_their_pairs(folder: Store) -> None:
    """A pair's part holds rows of both models; each model's shard takes its own, of the planned neurons."""
    ours, theirs = "zoo-vit", "zoo-swin"
    pairs = [(ours, ours), (theirs, ours), (theirs, theirs)]
    units = [WorkUnit("pairs", a, Pair(b, "0" * 16), a, SETTINGS if a == ours else "b" * 16) for a, b in pairs]
    for unit, (first, second) in zip(units, pairs, strict=True):
        rows = [
            {**row, "slug": slug, "layer": 0, "address": f"{slug}/mlp/0/{neuron}", "partner_slug": partner}
            for slug, partner in dict.fromkeys([(first, second), (second, first)])
            for neuron in range(6)
            for row in made_rows(NEURON_MATCHES, "pairs", neuron)
        ]
        commit(folder, unit, rows)
    for slug in (ours, theirs):
        own = [unit for unit, pair in zip(units, pairs, strict=True) if slug in pair]
        (path,) = assemble(folder, [ShardPlace(NEURON_MATCHES, slug, 0, 1)], own, {0: [(0, 4)]})
        rows = rows_of(folder, path)
        assert {row["slug"] for row in rows} == {slug}
        assert {(row["unit"], row["partner_slug"]) for row in rows} == {
            (n, p) for n in range(4) for p in (ours, theirs)
        }
        keys = [tuple(row[name] for name in NEURON_MATCHES.key) for row in rows]
        assert keys == sorted(set(keys))
        assert decode(folder.read(path), path)[1]["fingerprint"] == slug


# --- the bytes


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A layer of 600 neurons: three row groups."""
    store = Store(tmp_path_factory.mktemp("large"))
    units = units_of(0, 600, 200)
    for unit in units:
        commit(store, unit)
    reduce_layer(store, SLUG, 0, 1, units)
    return store


def test_every_picture_lies_verbatim_at_its_place(large: Store) -> None:
    path = shard_path(NEURONS, SLUG)
    places = Atlas(large).picture_locations(SLUG, 0)
    assert [unit for unit, _, _ in places] == list(range(600))
    for unit, offset, length in places:
        assert large.read_range(path, offset, length) == webp(unit)


def test_neighbouring_pictures_are_adjacent(large: Store) -> None:
    """One Range request gets a page of the gallery: only a new page or row group stands between two pictures."""
    places = Atlas(large).picture_locations(SLUG, 0)
    gaps = [after[1] - sum(before[1:]) for before, after in pairwise(places)]
    within_pages = [gap for unit, gap in enumerate(gaps) if (unit + 1) % 16]
    at_pages = [gap for unit, gap in enumerate(gaps) if not (unit + 1) % 16 and (unit + 1) % IMAGE_ROWS_PER_GROUP]
    assert set(within_pages) == {4}
    assert 4 < min(at_pages) <= max(at_pages) < 64  # a page every 16 rows


def test_the_layout_is_the_declared_one(large: Store) -> None:
    path = Path(large.url, shard_path(NEURONS, SLUG))
    footer = pq.read_metadata(path)
    assert [footer.row_group(g).num_rows for g in range(footer.num_row_groups)] == [256, 256, 88]
    paths = dict(leaves(NEURONS.schema()))
    for group in range(footer.num_row_groups):
        row_group = footer.row_group(group)
        keys = [column.column_index for column in row_group.sorting_columns]
        assert [row_group.column(index).path_in_schema for index in keys] == list(NEURONS.key)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            assert chunk.path_in_schema in paths
            assert chunk.has_offset_index
            if chunk.path_in_schema == "image.bytes":
                assert chunk.compression == "UNCOMPRESSED"
                assert set(chunk.encodings) == {"PLAIN", "RLE"}
                assert not chunk.has_dictionary_page
                assert not chunk.is_stats_set
            else:
                assert chunk.compression == "ZSTD"
    assert footer_metadata(footer)["table"] == "neurons"


def test_layout_faults_are_seen(large: Store, tmp_path: Path) -> None:
    """What pyarrow writes by default would hide the pictures: the check must notice."""
    table = pq.read_table(Path(large.url, shard_path(NEURONS, SLUG)))
    pq.write_table(table, tmp_path / "default.parquet")
    faults = layout_faults(pq.read_metadata(tmp_path / "default.parquet"), NEURONS.schema())
    told = " / ".join(faults)
    for fault in (
        "image.bytes is SNAPPY, not UNCOMPRESSED",
        "image.bytes is not PLAIN",
        "unit is SNAPPY, not ZSTD",
        "600 rows, not at most 256",
        "no sorting columns",
        "no page index",
    ):
        assert fault in told


# --- small tables


def test_small_tables_are_sorted_and_replaced(store: Store) -> None:
    rows = site_rows((40, 24))
    path = write_rows(store, "sites", SLUG, rows, provenance=PROVENANCE)
    assert path == "sites/zoo-vit/train-00000-of-00001.parquet"
    assert [(row["kind"], row["layer"]) for row in rows_of(store, path)] == [
        ("attention", 0),
        ("ffn", 0),
        ("ffn", 1),
    ]
    before = store.read(path)
    write_rows(store, TABLES["sites"], SLUG, rows[::-1], provenance=PROVENANCE)
    assert store.read(path) == before
    write_rows(store, "sites", SLUG, rows[:1], provenance=PROVENANCE)
    assert len(rows_of(store, path)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"parameters": 0}, "parameters: values from 0"), ({"source": "hub"}, "'hub' is none of")],
)
def test_a_wrong_small_row_is_refused(folder: Store, change: dict[str, object], message: str) -> None:
    with pytest.raises(BadRow, match=message):
        write_rows(folder, "models", SLUG, [model_row((8,), **change)], provenance=PROVENANCE)
    assert folder.list() == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("neurons/zoo-vit/train-00003-of-00012.parquet", ("neurons", "zoo-vit", 3, 12)),
        ("neurons/zoo-vit/train-3-of-12.parquet", None),
        ("neurons/train-00003-of-00012.parquet", None),
        ("neurons/zoo-vit/train-00003-of-00012.parquet.gz", None),
    ],
)
def test_shard_paths(path: str, expected: tuple[str, str, int, int] | None) -> None:
    assert parse_shard_path(path) == expected
    if expected:
        assert shard_path(*expected) == path


def test_stages_of_one_table_are_joined(folder: Store) -> None:
    seen = units_of(0, 32, 16)
    measured = units_of(0, 32, 32, stage="evidence", settings="e" * 16)
    for unit in [*seen, *measured]:
        commit(folder, unit)
    path = reduce_layer(folder, SLUG, 0, 1, seen)
    assert decode(folder.read(path), path)[0]["probe_set"].null_count == 32
    assert reduce_layer(folder, SLUG, 0, 1, [*seen, *measured]) == path
    rows, metadata = decode(folder.read(path), path)
    assert rows["probe_set"].null_count == 0
    assert rows["activation"].to_pylist() == [1.5 + unit for unit in range(32)]
    assert metadata["visualize_settings"] == SETTINGS
    assert metadata["evidence_settings"] == "e" * 16
    other = units_of(0, 32, 32, stage="evidence", settings="f" * 16)
    commit(folder, other[0])
    with pytest.raises(ForeignAtlas, match="evidence_settings"):
        reduce_layer(folder, SLUG, 0, 1, [*seen, *other])


def test_a_table_with_several_rows_a_neuron(folder: Store) -> None:
    units = units_of(0, 30, 10, stage="examples")
    for unit in units:
        commit(folder, unit)
    path = reduce_layer(folder, SLUG, 0, 1, units[::-1])
    rows = decode(folder.read(path), path)[0]
    held = rows["unit"].to_pylist()
    assert [held.count(unit) for unit in range(30)] == [1 + unit % 3 for unit in range(30)]
    keys = list(zip(*(rows[name].to_pylist() for name in ("unit", "kind", "rank")), strict=True))
    assert keys == sorted(keys)


# --- a shard never loses rows, or columns of a stage


def test_a_wider_run_on_a_copy_without_parts_loses_nothing(folder: Store) -> None:
    """A downloaded dataset is exactly that: shards and no parts. 128 rows must not become 80."""
    first = units_of(0, 64, 16)
    evidence = units_of(0, 64, 64, stage="evidence", settings="e" * 16)
    for unit in [*first, *evidence]:
        commit(folder, unit)
    path = reduce_layer(folder, SLUG, 0, 1, [*first, *evidence])
    before = rows_of(folder, path)
    for unit in [*first, *evidence]:
        folder.delete(part_path(unit))
    wider = [unit for unit in units_of(0, 96, 16) if unit.start >= 48]  # one of them again, two new ones
    for unit in wider:
        commit(folder, unit, seconds=9.0)
    assert reduce_layer(folder, SLUG, 0, 1, wider) == path
    after = rows_of(folder, path)
    assert [row["unit"] for row in after] == list(range(96))
    assert after[:48] == before[:48]
    assert [row["seconds"] for row in after[48:]] == [9.0] * 48, "what parts say goes before what stood there"
    assert [row["probe_set"] is None for row in after] == [False] * 64 + [True] * 32, "nor a column of a stage"
    metadata = decode(folder.read(path), path)[1]
    assert metadata["evidence_settings"] == "e" * 16
    assert {unit.key for unit in [*wider, *first[:3], *evidence]} <= set(metadata["parts"].split(","))
    encoded = folder.read(path)
    reduce_layer(folder, SLUG, 0, 1, wider)
    assert folder.read(path) == encoded, "and doing it again changes nothing"


def test_examples_and_counterparts_are_kept_as_neurons_are(folder: Store) -> None:
    first, second = units_of(0, 20, 10, stage="examples")
    commit(folder, first)
    path = reduce_layer(folder, SLUG, 0, 1, [first])
    before = rows_of(folder, path)
    folder.delete(part_path(first))
    commit(folder, second)
    reduce_layer(folder, SLUG, 0, 1, [second])
    assert [row for row in rows_of(folder, path) if row["unit"] < 10] == before
    assert {row["unit"] for row in rows_of(folder, path)} == set(range(20))

    paths = []
    for partner in ("zoo-pit", "zoo-swin"):
        unit = WorkUnit("pairs", SLUG, Pair(partner, "0" * 16), FINGERPRINT, SETTINGS)
        facts = {"slug": SLUG, "layer": 0, "partner_slug": partner}
        rows = [
            row | facts | {"address": f"{SLUG}/mlp/0/{n}"}
            for n in range(4)
            for row in made_rows(NEURON_MATCHES, "pairs", n)
        ]
        commit(folder, unit, rows)
        paths += assemble(folder, [ShardPlace(NEURON_MATCHES, SLUG, 0, 1)], [unit])
        folder.delete(part_path(unit))
    rows = rows_of(folder, paths[0])
    assert {(row["unit"], row["partner_slug"]) for row in rows} == {
        (n, p) for n in range(4) for p in ("zoo-pit", "zoo-swin")
    }
    keys = [tuple(row[name] for name in NEURON_MATCHES.key) for row in rows]
    assert keys == sorted(set(keys))
