"""A sound atlas has no violations; each way to spoil one is named with its file and kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from atlas_schema.errors import NothingThere
from atlas_schema.parquet import decode, encode
from atlas_schema.parts import part_path
from atlas_schema.shards import shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import HEAD_TABLES, NEURONS, SITES, TABLES
from atlas_schema.units import Neurons
from atlas_schema.validate import validate
from tests.atlas_schema.conftest import FaultyS3
from tests.atlas_schema.made_atlas import (
    PROVENANCE,
    SETTINGS,
    SLUG,
    commit,
    make_atlas,
    model_row,
    neuron_row,
    reduce_layer,
    run_row,
    site_rows,
    units_of,
    webp,
)

SHARD = shard_path(NEURONS, SLUG, 0, 2)


def kinds(store: Store, **options: bool) -> set[tuple[str, str]]:
    return {(violation.path, violation.kind) for violation in validate(store, **options)}


@pytest.mark.parametrize("deep", [True, False])
def test_a_sound_atlas_is_sound(store: Store, deep: bool) -> None:
    assert validate(make_atlas(store), deep=deep) == []


def test_two_models_and_layers_that_were_not_planned(folder: Store) -> None:
    make_atlas(folder)
    make_atlas(folder, slug="zoo-deit", widths=(16,))
    sites = site_rows((16, 16), "zoo-pit")
    sites[1]["planned"] = []
    sites[0]["planned"] = [{"start": 0, "stop": 4}, {"start": 8, "stop": 12}]
    write_rows(folder, "models", "zoo-pit", [model_row((16, 16), "zoo-pit")], provenance=PROVENANCE)
    sites[0]["planned_stages"] = [{"stage": "visualize", "start": a, "stop": a + 4} for a in (0, 8)]
    sites[1]["planned_stages"] = []
    write_rows(folder, "sites", "zoo-pit", sites, provenance=PROVENANCE)
    units = [dataclasses.replace(units_of(0, 4, 4, "zoo-pit")[0], cut=Neurons(0, a, a + 4)) for a in (0, 8)]
    for unit in units:
        commit(folder, unit)
    reduce_layer(folder, "zoo-pit", 0, 2, units)
    assert validate(folder) == []


def test_nothing_there(folder: Store) -> None:
    with pytest.raises(NothingThere, match="no atlas here"):
        validate(folder)


def test_a_published_atlas_has_no_parts(atlas: Store) -> None:
    for path in atlas.list(".atlas"):
        atlas.delete(path)
    for path in (".gitattributes", "LICENSE", ".cache/huggingface/x"):
        atlas.replace(path, b"")
    assert validate(atlas) == []


# --- damage


@pytest.mark.parametrize("path", [SHARD, shard_path("models", SLUG), shard_path("sites", SLUG), "part"])
@pytest.mark.parametrize("spoil", ["cut", "empty", "flip", "other"])
def test_a_damaged_file_is_named(atlas: Store, path: str, spoil: str) -> None:
    path = part_path(units_of(0, 40, 16)[1]) if path == "part" else path
    sound = atlas.read(path)
    flip = bytearray(sound)
    flip[len(sound) // 3] ^= 4
    atlas.replace(path, {"cut": sound[:-5], "empty": b"", "flip": bytes(flip), "other": b"PAR1"}[spoil])
    assert (path, "corrupt") in kinds(atlas)


def test_an_incomplete_layer_is_told(atlas: Store) -> None:
    units = units_of(0, 40, 16)
    atlas.delete(SHARD)
    assert kinds(atlas) == {(SHARD, "missing")}
    for unit in units[1:]:
        atlas.delete(part_path(unit))
    reduce_layer(atlas, SLUG, 0, 2, units[:1])
    found = validate(atlas)
    assert {(violation.path, violation.kind) for violation in found} == {(SHARD, "missing")}
    told = [violation.message for violation in found]
    assert "24 of 40 planned units: 16, 17, 18, 19, 20 and 19 more" in told
    assert "evidence: 16 of 40 planned units: 0, 1, 2, 3, 4 and 11 more" in told  # the shard lost their columns too


@pytest.mark.parametrize(
    "lost",
    [
        shard_path("neuron_examples", SLUG, 1, 2),
        shard_path("neuron_matches", SLUG, 0, 2),
        *(shard_path(table, SLUG) for table in HEAD_TABLES),
    ],
)
def test_a_lost_table_of_any_stage_is_missing(atlas: Store, lost: str) -> None:
    """Whatever a stage of the model fills must be there: rows of examples, counterparts and heads as of neurons."""
    atlas.delete(lost)
    assert kinds(atlas) == {(lost, "missing")}


def test_columns_of_a_stage_that_are_empty_are_missing(atlas: Store) -> None:
    """A stage set out to describe these neurons, and in some rows all its columns are null."""
    columns = [column.name for column in NEURONS.columns if column.stage == "label"]

    def forget(rows: pa.Table) -> pa.Table:
        for name in columns:
            values = [None if unit in (3, 5) else v for unit, v in enumerate(rows[name].to_pylist())]
            place = rows.column_names.index(name)
            rows = rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))
        return rows

    rewrite(atlas, SHARD, forget)
    assert [one.message for one in validate(atlas)] == ["label: 2 of 40 planned units: 3, 5"]


# --- rows


def rewrite(store: Store, path: str, change: Callable[[pa.Table], pa.Table], **metadata: str) -> None:
    """The shard with other rows or footer, its digest right: as if a buggy writer had made it."""
    table = TABLES[path.split("/")[0]]
    rows, footer = decode(store.read(path), path)
    store.replace(path, encode(table, change(rows), {**footer, **metadata}))


def with_cell(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    cells = table[name].to_pylist()
    cells[row] = value
    index = table.column_names.index(name)
    return table.set_column(index, table.schema.field(name), pa.array(cells, table.schema.field(name).type))


@pytest.mark.parametrize(
    ("column", "value", "kind", "message"),
    [
        ("activation", None, "value", "activation: 1 cells are null"),
        ("status", "failed", "value", "status_reason: 1 cells are null"),
        ("activation", float("nan"), "value", "1 values of activation are not finite"),
        ("steps", -3, "value", "leave the bounds 0 to inf"),
        ("status", "asleep", "value", "'asleep' is none of active, inactive"),
        (
            "loss_curve",
            [{"step": 1, "objective": float("inf"), "activation": 0.0}],
            "value",
            "loss_curve.objective",
        ),
        ("unit", 3, "key", "comes twice"),
        ("unit", 0, "key", "comes after"),
        ("unit", 3, "missing", "1 of 40 planned units: 4"),
        ("unit", 77, "unplanned", "77"),
        ("address", "zoo-vit/mlp/0/5", "key", "1 rows are not of zoo-vit/mlp/0: zoo-vit/mlp/0/5"),
        ("layer", 1, "key", "1 rows are not of zoo-vit/mlp/0"),
        ("recipe_hash", "other", "metadata", "recipe_hash is 0123456789abcdef in the models table, other in rows"),
        ("seed", 9, "metadata", "seed is 0 in the models table, 9 in rows"),
        ("image", {"bytes": b"RIFF no picture", "path": None}, "image", "zoo-vit/mlp/0/4: does not decode"),
        ("image", {"bytes": None, "path": None}, "image", "zoo-vit/mlp/0/4: does not decode"),
        ("image", None, "value", "image: 1 cells are null"),
    ],
)
def test_a_wrong_neuron_is_named(atlas: Store, column: str, value: Any, kind: str, message: str) -> None:
    rewrite(atlas, SHARD, lambda rows: with_cell(rows, column, 4, value))
    found = [violation for violation in validate(atlas) if violation.kind == kind]
    assert any(message in violation.message and violation.path == SHARD for violation in found), found


def test_a_picture_of_another_format_is_named(atlas: Store) -> None:
    png = (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU"
        b"\0\0\0\nIDATx\x9cc`\0\0\0\x02\0\x01H\xaf\xa4q\0\0\0\0IEND\xaeB`\x82"
    )
    rewrite(atlas, SHARD, lambda rows: with_cell(rows, "image", 4, {"bytes": png, "path": None}))
    assert [str(fault) for fault in validate(atlas)] == [f"{SHARD}: image: zoo-vit/mlp/0/4: is PNG, expected WEBP"]


def test_gaps_are_found(atlas: Store) -> None:
    rewrite(atlas, SHARD, lambda rows: pa.concat_tables([rows.slice(0, 7), rows.slice(9)]))
    assert [violation.message for violation in validate(atlas)] == ["2 of 40 planned units: 7, 8"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"fingerprint": "0" * 64}, f"fingerprint is {'0' * 64} in the footer"),
        (
            {"visualize_settings": "other"},
            f"visualize_settings is other in the footer, {SETTINGS} in the models table",
        ),
        ({"table": "models"}, "its footer says table 'models', its folder 'neurons'"),
    ],
)
def test_a_footer_that_disagrees_is_named(atlas: Store, metadata: dict[str, str], message: str) -> None:
    rewrite(atlas, SHARD, lambda rows: rows, **metadata)
    found = [violation for violation in validate(atlas) if violation.kind == "metadata"]
    assert any(message in violation.message for violation in found)


def test_another_major_version_is_told(atlas: Store) -> None:
    rewrite(atlas, SHARD, lambda rows: rows, schema_version="3.0.0")
    assert (SHARD, "version") in kinds(atlas)
    assert (SHARD, "version") in kinds(atlas, deep=False)


def test_another_schema_is_told(atlas: Store) -> None:
    def change(rows: pa.Table) -> pa.Table:
        as_double = rows["activation"].cast(pa.float64())
        return rows.drop(["status"]).set_column(6, "activation", as_double).append_column("extra", rows["unit"])

    rows, footer = decode(atlas.read(SHARD), SHARD)
    table = dataclasses.replace(NEURONS, key=NEURONS.key)
    atlas.replace(SHARD, encode(table, change(rows), footer))
    told = {violation.message for violation in validate(atlas) if violation.kind == "schema"}
    assert "no column status" in told
    assert "column activation is double, expected float" in told
    assert "unknown column extra" in told


def test_shards_of_an_older_minor_version_are_sound_without_the_columns_that_came_since(atlas: Store) -> None:
    rows, footer = decode(atlas.read(SHARD), SHARD)
    then = tuple(column for column in NEURONS.columns if column.name != "status_reason")
    older = dataclasses.replace(NEURONS, columns=then, version="2.0.0")
    kept = rows.drop(["status_reason"]).replace_schema_metadata(older.schema().metadata)
    atlas.replace(SHARD, encode(older, kept, {**footer, "schema_version": "2.0.0"}))
    assert validate(atlas) == []


# --- tables against each other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neurons": 63}, "neurons: the sites make 64, the models table says 63"),
        ({"heads": 4}, "heads: the sites make 3, the models table says 4"),
        ({"attention_sites": 2}, "attention_sites: the sites make 1"),
    ],
)
def test_counts_must_agree(atlas: Store, change: dict[str, int], message: str) -> None:
    write_rows(atlas, "models", SLUG, [model_row((40, 24), **change)], provenance=PROVENANCE)
    found = validate(atlas)
    assert [(fault.path, fault.kind) for fault in found] == [(shard_path(SITES, SLUG), "count")]
    assert message in found[0].message


def test_a_missing_site_is_told(atlas: Store) -> None:
    write_rows(atlas, "sites", SLUG, site_rows((40, 24))[1:], provenance=PROVENANCE)
    found = kinds(atlas)
    assert {(shard_path(SITES, SLUG), "key"), (shard_path(SITES, SLUG), "count"), (SHARD, "stray")} <= found


def test_another_checkpoint_under_the_same_name_is_told(atlas: Store) -> None:
    row = model_row((40, 24), fingerprint="0" * 64)
    write_rows(atlas, "models", SLUG, [row], provenance=PROVENANCE)
    found = kinds(atlas)
    assert (SHARD, "metadata") in found
    assert (part_path(units_of(0, 40, 16)[0]), "metadata") in found


def test_tables_without_their_model_are_told(atlas: Store) -> None:
    atlas.delete(shard_path("models", SLUG))
    assert {(shard_path("models", SLUG), "missing"), (SHARD, "stray")} <= kinds(atlas)
    make_atlas(atlas)
    atlas.delete(shard_path("sites", SLUG))
    assert (shard_path("sites", SLUG), "missing") in kinds(atlas)


def test_rows_in_the_wrong_folder_are_told(atlas: Store) -> None:
    write_rows(atlas, "runs", "another-run", [run_row()], provenance=PROVENANCE)
    assert (shard_path("runs", "another-run"), "key") in kinds(atlas)


@pytest.mark.parametrize("planned", [{"start": 0, "stop": 41}, {"start": 5, "stop": 5}, {"start": -1, "stop": 4}])
def test_an_impossible_plan_is_told(atlas: Store, planned: dict[str, int]) -> None:
    sites = site_rows((40, 24))
    sites[0]["planned"] = [planned]
    write_rows(atlas, "sites", SLUG, sites, provenance=PROVENANCE)
    assert (shard_path(SITES, SLUG), "value") in kinds(atlas)


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        "neurons/zoo-vit/train-00000-of-00002.parquet.tmp",
        "neurons/stray.parquet",
        "labels/zoo-vit/train-00000-of-00001.parquet",
        ".atlas/parts/visualize/zoo-vit/readme",
        ".atlas/parts/elsewhere/zoo-vit/00000-000000-000016-0123456789abcdef.parquet",
    ],
)
def test_strays_are_told(atlas: Store, path: str) -> None:
    atlas.replace(path, b"?")
    assert kinds(atlas) == {(path, "stray")}


def test_a_shard_of_another_number_of_layers_is_told(atlas: Store) -> None:
    atlas.replace(shard_path(NEURONS, SLUG, 0, 5), atlas.read(SHARD))
    assert (shard_path(NEURONS, SLUG, 0, 5), "count") in kinds(atlas)


def test_no_card_is_told(atlas: Store) -> None:
    atlas.delete("README.md")
    assert kinds(atlas) == {("README.md", "card")}


def test_a_part_under_another_name_is_told(atlas: Store) -> None:
    one, two = units_of(0, 40, 16)[:2]
    atlas.replace(part_path(two), atlas.read(part_path(one)))
    assert kinds(atlas) == {(part_path(two), "corrupt")}


def test_without_depth_small_columns_only_are_read(s3: FaultyS3) -> None:
    store = make_atlas(Store(f"s3://{s3.new_bucket()}/atlas"), widths=(256,), size=256)
    s3.requests.clear()
    assert validate(store, deep=False) == []
    read = sum(length for method, path, length in s3.requests if method == "GET" and "neurons" in path)
    pictures = sum(len(webp(unit)) for unit in range(256))
    assert read < store.size(shard_path(NEURONS, SLUG)) - 0.9 * pictures


def test_validation_changes_nothing(atlas: Store) -> None:
    before = {path: Path(atlas.url, path).stat().st_mtime_ns for path in atlas.list()}
    atlas.replace("stray", b"")
    validate(atlas)
    after = {path: Path(atlas.url, path).stat().st_mtime_ns for path in atlas.list()}
    assert {path: time for path, time in after.items() if path != "stray"} == before
    assert neuron_row(0)["unit"] == 0


# --- heads


@pytest.mark.parametrize("table", list(HEAD_TABLES))
def test_rows_of_heads_that_the_model_lacks_are_told(atlas: Store, table: str) -> None:
    path = shard_path(table, SLUG)
    name = "component" if table == "head_features" else "address"
    rewrite(atlas, path, lambda rows: with_cell(rows, name, 0, "zoo-vit/head/9/9"))
    told = [violation.message for violation in validate(atlas) if violation.path == path]
    assert any("1 rows are of no head or neuron of zoo-vit: zoo-vit/head/9/9" in message for message in told)


def test_a_missing_head_is_told(atlas: Store) -> None:
    path = shard_path("heads", SLUG)
    rewrite(atlas, path, lambda rows: rows.slice(1))
    assert [(violation.kind, violation.message) for violation in validate(atlas)] == [
        ("missing", "1 of 3 heads: zoo-vit/head/0/0")
    ]
