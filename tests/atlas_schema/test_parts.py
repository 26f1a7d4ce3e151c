"""A part is committed once, says what it is, and is found out when it is not that."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import random
import re
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.errors import BadRow, ForeignAtlas, NotFinite, ShardCorrupt, StoreFull
from atlas_schema.head_tables import HEAD_TEXTS, HEADS
from atlas_schema.parquet import encode
from atlas_schema.parts import (
    commit_part,
    committed_units,
    decode_part,
    encode_part,
    is_committed,
    is_part_path,
    part_path,
    read_part,
)
from atlas_schema.rows import rows_to_table
from atlas_schema.store import Store
from atlas_schema.tables import HEAD_TABLES, NEURONS
from atlas_schema.units import Identity, Images, Neurons, Pair, Whole, WorkUnit, cut_named, unit_of
from tests.atlas_schema.conftest import FaultyS3, lose_answer
from tests.atlas_schema.made_atlas import FINGERPRINT, PROVENANCE, SETTINGS, commit, head_rows, neuron_row, units_of

UNIT = WorkUnit("visualize", "zoo-vit", Neurons(3, 16, 24), FINGERPRINT, SETTINGS)
PATH = part_path(UNIT)
ROWS = [neuron_row(unit) for unit in range(16, 24)]


def test_what_is_committed_reads_back(store: Store) -> None:
    receipt = commit_part(store, UNIT, ROWS[::-1], provenance=PROVENANCE)
    assert (receipt.rows, receipt.created, receipt.path) == (8, True, PATH)
    assert receipt.bytes == store.size(PATH)
    rows = read_part(store, UNIT).to_pylist()
    assert rows == read_part(store, PATH).to_pylist()
    for row, given_row in zip(rows, ROWS, strict=True):
        assert {name: row[name] for name in given_row} == given_row
        assert row["address"] == f"zoo-vit/mlp/3/{row['unit']}"
    assert committed_units(store, "visualize", "zoo-vit", UNIT.identity) == [UNIT]
    assert is_committed(store, UNIT)
    assert decode_part(store.read(PATH), PATH)[2].items() >= PROVENANCE.items()


def test_the_second_writer_adopts_the_first_ones_part(store: Store) -> None:
    commit(store, UNIT)
    before = store.read(PATH)
    receipt = commit(store, UNIT, seconds=9.0)  # what differs between equal runs
    assert not receipt.created
    assert receipt.bytes == len(before)
    assert store.read(PATH) == before


def test_of_many_workers_on_one_unit_one_commits(store: Store) -> None:
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda seconds: commit(store, UNIT, seconds=seconds), (1.0, 2.0, 3.0, 4.0)))
    assert [receipt.created for receipt in receipts].count(True) == 1
    assert read_part(store, UNIT).num_rows == 8


def test_a_damaged_part_is_replaced_by_a_new_commit(folder: Store) -> None:
    commit(folder, UNIT)
    sound = folder.read(PATH)
    folder.replace(PATH, sound[:-20])
    assert commit(folder, UNIT).created
    assert folder.read(PATH) == sound


def test_a_commit_whose_answer_was_lost_is_ours(s3: FaultyS3) -> None:
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    s3.faults.append(lose_answer)
    assert commit(store, UNIT).created
    assert read_part(store, UNIT).num_rows == 8


def test_a_full_disk_commits_nothing(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StoreFull):
            commit(folder, UNIT)
    assert committed_units(folder, "visualize", "zoo-vit", UNIT.identity) == []
    assert commit(folder, UNIT).created


def test_a_key_says_everything_that_decides_the_rows() -> None:
    changes = {
        "stage": "probe",
        "slug": "zoo-deit",
        "cut": Neurons(4, 16, 24),
        "fingerprint": "0" * 64,
        "settings": "1" * 16,
    }
    assert changes.keys() == {field.name for field in dataclasses.fields(UNIT)}
    cuts = [Neurons(3, 15, 24), Neurons(3, 16, 25), Images(16, 24), Whole(), Pair("zoo-deit", "0" * 16)]
    changed = [{name: value} for name, value in changes.items()] + [{"cut": cut} for cut in cuts]
    keys = {dataclasses.replace(UNIT, **change).key for change in changed}
    assert len(keys | {UNIT.key}) == len(changed) + 1


def test_names_do_not_change_between_releases() -> None:
    """The names of parts are the run's memory: a change would make every committed part invisible."""
    unit = WorkUnit("visualize", "zoo-vit", Neurons(3, 16, 24), "ff", "ab")
    facts = (
        b'{"cut":"layer-00003-000016-000024","fingerprint":"ff","schema":"2","settings":"ab","slug":"zoo-vit",'
        b'"stage":"visualize"}'
    )
    key = hashlib.sha256(facts).hexdigest()[:16]
    assert part_path(unit) == f".atlas/parts/visualize/zoo-vit/layer-00003-000016-000024-{key}.neurons.parquet"
    assert str(unit) == "visualize zoo-vit/mlp/3 units 16 to 23"


@pytest.mark.parametrize(
    ("cut", "name", "text"),
    [
        (Neurons(3, 16, 24), "layer-00003-000016-000024", "probe m/mlp/3 units 16 to 23"),
        (Images(0, 64), "images-000000000-000000064", "probe m images 0 to 63"),
        (Whole(), "whole", "probe m"),
        (Pair("zoo-swin--x1", "0a" * 8), "with-zoo-swin--x1-" + "0a" * 8, "probe m with zoo-swin--x1"),
    ],
)
def test_a_cut_says_its_axis_in_names_and_in_words(cut: object, name: str, text: str) -> None:
    unit = WorkUnit("probe", "m", cut, "ff", "ab")
    assert unit.cut.name == name
    assert str(unit) == text
    assert cut_named(name) == cut
    assert cut_named(name + "0") is None or cut_named(name + "0") != cut
    assert unit_of(unit.metadata()) == unit
    assert (unit.layer is None) == (not isinstance(cut, Neurons))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PATH, True),
        (PATH.replace("visualize", "elsewhere"), False),
        (PATH.replace("zoo-vit", "Zoo"), False),
        (PATH.replace("00003", "3"), False),
        (PATH.replace(".neurons.", ".heads."), False),
        (PATH + ".tmp", False),
    ],
)
def test_part_paths(path: str, expected: bool) -> None:
    assert is_part_path(path) is expected


def test_a_listing_takes_no_other_files(store: Store) -> None:
    folder = PATH.rpartition("/")[0]
    for name in ("notes.txt", "layer-00003-000016-000024-xyz.neurons.parquet", f".{UNIT.key}.tmp"):
        store.replace(f"{folder}/{name}", b"")
    assert committed_units(store, "visualize", "zoo-vit", UNIT.identity) == []


def test_units_alike_are_found_by_name(store: Store) -> None:
    wanted = [*units_of(0, 8, 4), *units_of(1, 8, 8)]
    for unit in [*wanted, *units_of(0, 8, 4, fingerprint="0" * 64), *units_of(0, 8, 4, settings="other")]:
        commit(store, unit)
    assert committed_units(store, "visualize", "zoo-vit", wanted[0].identity) == wanted
    others = committed_units(store, "visualize", "zoo-vit", Identity(FINGERPRINT, "other"))
    assert others == units_of(0, 8, 4, settings="other")


# --- parts that fill several tables


OF_HEADS = WorkUnit("heads", "zoo-vit", Whole(), FINGERPRINT, SETTINGS)


def rows_of_heads() -> dict[str, list[dict[str, object]]]:
    return {table.name: head_rows(table, 3) for table in HEAD_TABLES.values()}


def test_a_part_may_fill_several_tables(store: Store) -> None:
    receipt = commit_part(store, OF_HEADS, rows_of_heads(), provenance=PROVENANCE)
    paths = [part_path(OF_HEADS, table) for table in HEAD_TABLES.values()]
    assert receipt.path == part_path(OF_HEADS, HEADS) == paths[0]
    assert receipt.bytes == sum(store.size(path) for path in paths)
    assert sorted(store.list()) == sorted(paths)
    assert all(map(is_part_path, paths))
    for table in HEAD_TABLES.values():
        rows = read_part(store, OF_HEADS, table)
        assert rows.schema.equals(table.schema())
        assert rows.num_rows == len(rows_of_heads()[table.name])
    assert committed_units(store, "heads", "zoo-vit", OF_HEADS.identity) == [OF_HEADS]


def test_a_part_without_its_main_table_is_not_there_and_is_made_whole(store: Store) -> None:
    """A worker that died between two files leaves nothing that counts; the next attempt writes all of its own."""
    commit_part(store, OF_HEADS, rows_of_heads(), provenance={**PROVENANCE, "code_version": "earlier"})
    store.delete(part_path(OF_HEADS))
    assert not is_committed(store, OF_HEADS)
    assert committed_units(store, "heads", "zoo-vit", OF_HEADS.identity) == []
    assert commit_part(store, OF_HEADS, rows_of_heads(), provenance=PROVENANCE).created
    told = {decode_part(store.read(path), path)[2]["code_version"] for path in store.list()}
    assert told == {PROVENANCE["code_version"]}


def test_rows_of_every_table_must_be_given(store: Store) -> None:
    rows = rows_of_heads()
    del rows[HEAD_TEXTS.name]
    with pytest.raises(BadRow, match="expected rows of heads, head_texts"):
        commit_part(store, OF_HEADS, rows, provenance=PROVENANCE)
    foreign = rows_of_heads()
    foreign["heads"][0]["slug"] = "zoo-deit"
    with pytest.raises(BadRow, match="rows of zoo-deit"):
        commit_part(store, OF_HEADS, foreign, provenance=PROVENANCE)
    assert store.list() == []


# --- rows that a table does not allow


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": None}, r"row 2 \(zoo-vit/mlp/3/18\): activation is missing"),
        ({"image": None}, "image is missing"),
        ({"steps": "many"}, "column steps: expected int16"),
        ({"steps": 40_000}, "column steps: expected int16"),
        ({"activashun": 1.0}, "no column 'activashun'; nearest: activation"),
        ({"layer": 4}, "layer 4, expected 3"),
        ({"slug": "zoo-deit"}, "slug 'zoo-deit', expected 'zoo-vit'"),
        ({"unit": 17}, "expected one row for each unit"),
        ({"unit": None}, "a row without its unit"),
        ({"steps": -1}, "steps: values from -1 to 20 leave the bounds 0 to inf"),
        ({"status": "sleeping"}, "status: 'sleeping' is none of active, inactive"),
    ],
)
def test_a_wrong_row_is_named(change: dict[str, object], message: str) -> None:
    rows = [*ROWS[:2], {**ROWS[2], **change}, *ROWS[3:]]
    with pytest.raises(BadRow, match=message):
        encode_part(UNIT, NEURONS, rows, PROVENANCE)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", ["activation", "robust_std", "loss_curve"])
def test_a_number_that_is_not_finite_is_refused(number: float, column: str) -> None:
    bad = [{"step": 0, "objective": number, "activation": 0.0}] if column == "loss_curve" else number
    with pytest.raises(NotFinite, match=column):
        encode_part(UNIT, NEURONS, [{**ROWS[0], column: bad}, *ROWS[1:]], PROVENANCE)


def test_rows_must_cover_the_unit() -> None:
    with pytest.raises(BadRow, match=r"expected one row for each unit, found units \[16, 17\]"):
        encode_part(UNIT, NEURONS, ROWS[:2], PROVENANCE)


def test_provenance_cannot_contradict_the_unit() -> None:
    with pytest.raises(BadRow, match="settings"):
        encode_part(UNIT, NEURONS, ROWS, {"settings": "7"})


# --- damage


ENCODED = encode_part(UNIT, NEURONS, ROWS, PROVENANCE)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(ENCODED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    spoilt = bytearray(ENCODED)
    spoilt[place] ^= change
    with pytest.raises(ShardCorrupt) as told:
        decode_part(bytes(spoilt), PATH)
    assert told.value.path == PATH
    assert PATH in str(told.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(ENCODED) - 1))
def test_any_cut_is_found(length: int) -> None:
    with pytest.raises(ShardCorrupt):
        decode_part(ENCODED[:length], PATH)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"\0" * 1000, ENCODED + b"\0"])
def test_what_is_no_part(content: bytes) -> None:
    with pytest.raises(ShardCorrupt, match="puts it aside; then run again"):
        decode_part(content, PATH)


def test_parquet_of_others_is_no_part() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), sink)
    with pytest.raises(ShardCorrupt, match="not a file this project wrote"):
        decode_part(sink.getvalue(), PATH)


def test_a_part_under_another_name_is_foreign(folder: Store) -> None:
    cut = Neurons(4, 16, 24)
    for change in ({"cut": cut}, {"settings": "1" * 16}, {"slug": "zoo-deit"}, {"fingerprint": "0" * 64}):
        other = dataclasses.replace(UNIT, **change)
        folder.replace(part_path(other), ENCODED)
        with pytest.raises(ShardCorrupt, match=f"a foreign part: by its footer it is {PATH}"):
            read_part(folder, other)


def test_another_major_version_is_refused(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(folder, UNIT)
    monkeypatch.setattr("atlas_schema.parquet.SCHEMA_VERSION", "3.0.0")
    with pytest.raises(
        ForeignAtlas, match=rf"schema version {re.escape(SCHEMA_VERSION)}.*the release of neuron-atlas that wrote it"
    ):
        read_part(folder, UNIT)


def older(unit: WorkUnit, version: str, without: str) -> bytes:
    """The part of a unit as a release wrote it whose tables had not yet one of the columns."""
    columns = tuple(column for column in NEURONS.columns if column.name != without)
    then = dataclasses.replace(NEURONS, columns=columns, version=version)
    rows = rows_to_table(then.part_columns(unit.stage), then.part_schema(unit.stage), addressed(ROWS, without))
    return encode(then, rows, {**PROVENANCE, **unit.metadata(), "key": unit.key})


def addressed(rows: list[dict[str, object]], without: str) -> list[dict[str, object]]:
    keys = {"slug": "zoo-vit", "layer": 3}
    made = [{**row, **keys, "address": f"zoo-vit/mlp/3/{row['unit']}"} for row in rows]
    return [{name: value for name, value in row.items() if name != without} for row in made]


def test_a_part_of_an_older_minor_version_is_read_with_empty_new_columns(folder: Store) -> None:
    """A difference of schema is never damage: what is committed is not computed again."""
    folder.replace(PATH, older(UNIT, "2.0.0", "status_reason"))
    rows = read_part(folder, UNIT)
    assert rows.schema.equals(NEURONS.part_schema("visualize"))
    assert rows["status_reason"].null_count == 8
    assert rows["activation"].to_pylist() == [row["activation"] for row in ROWS]


def test_a_part_of_a_newer_minor_version_is_refused_and_left(folder: Store) -> None:
    folder.replace(PATH, older(UNIT, "2.99.0", "rescue"))
    with pytest.raises(ForeignAtlas, match=rf"2\.99\.0 is newer than {re.escape(SCHEMA_VERSION)}"):
        read_part(folder, UNIT)
    assert folder.exists(PATH)


def test_a_column_that_is_missing_in_our_own_version_is_damage(folder: Store) -> None:
    folder.replace(PATH, older(UNIT, SCHEMA_VERSION, "rescue"))
    with pytest.raises(ShardCorrupt, match="its columns are not those of stage visualize"):
        read_part(folder, UNIT)


# --- any rows


texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
rows = st.fixed_dictionaries(
    {
        "image": st.fixed_dictionaries({"bytes": st.binary(max_size=300), "path": st.none() | texts}),
        "activation": numbers,
        "rescue": st.none() | texts,
        "robust_mean": st.none() | numbers,
        "start": texts,
        "seed": st.integers(-(2**63), 2**63 - 1),
        "loss_curve": st.lists(
            st.fixed_dictionaries({"step": st.integers(0, 500), "objective": numbers, "activation": numbers}),
            max_size=3,
        ),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rows, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_any_rows_read_back(drawn: list[dict[str, object]], order: random.Random) -> None:
    unit = dataclasses.replace(UNIT, cut=Neurons(3, 5, 5 + len(drawn)))
    wanted = [neuron_row(5 + i, **row) for i, row in enumerate(drawn)]
    encoded = encode_part(unit, NEURONS, order.sample(wanted, len(wanted)), PROVENANCE)
    found = decode_part(encoded, part_path(unit))[0].to_pylist()
    assert [{name: row[name] for name in wanted[0]} for row in found] == wanted
    assert encoded == encode_part(unit, NEURONS, wanted, PROVENANCE)
