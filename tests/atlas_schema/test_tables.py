"""The declarations themselves: complete sentences, sound types, features that `datasets` takes as they are."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from atlas_schema.columns import IMAGE, Column, Table
from atlas_schema.parquet import leaves
from atlas_schema.tables import HEAD_TABLES, NEURONS, PARTIALS, SCHEMA_VERSION, TABLES, tables_of

COLUMNS = [(table, column) for table in TABLES.values() for column in table.columns]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[f"{t.name}.{c.name}" for t, c in COLUMNS])
def test_a_column_explains_itself(table: Table, column: Column) -> None:
    assert len(column.means) > 10
    assert not column.means.endswith(".")
    assert "\n" not in column.means + column.absent
    assert column.name == column.name.lower()
    assert not pa.types.is_map(column.type), "datasets has no map type"
    assert not pa.types.is_large_binary(column.type)
    assert column.field().nullable, "datasets loses features of fields that are not nullable"
    if column.name in table.key:
        assert not column.absent
        assert not column.volatile
        assert not column.stage
    if column.bounds:
        assert column.bounds[0] <= column.bounds[1]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_a_table_is_whole(table: Table) -> None:
    assert len(set(table.names)) == len(table.names)
    assert set(table.key) <= set(table.names)
    assert table.version == SCHEMA_VERSION
    assert table.names[: len(table.key)] == list(table.key) or table.names[0] == "address"


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_features_are_those_that_datasets_makes_of_the_schema(table: Table) -> None:
    datasets = pytest.importorskip("datasets")
    schema = table.schema()
    info = json.loads(schema.metadata[b"huggingface"])["info"]
    ours = datasets.Features.from_dict(info["features"])
    assert ours.arrow_schema.equals(schema)  # equal fields, or the Image feature is lost
    bare = datasets.Features.from_arrow_schema(schema.remove_metadata())
    for name, found in datasets.Features.from_arrow_schema(schema).items():
        assert found == ours[name]
        assert found == (datasets.Image() if name in table.image_columns else bare[name])


def test_stages() -> None:
    assert set(NEURONS.stages) == {"visualize", "verdict", "evidence", "judge", "label", "effect"}
    assert [table.name for table in tables_of("examples")] == ["neuron_examples"]
    assert tables_of("heads") == tuple(HEAD_TABLES.values())
    assert tables_of("visualize") == (NEURONS,)
    assert tables_of("probe") == (PARTIALS,)
    with pytest.raises(KeyError, match="visualize"):
        NEURONS.part_schema("probe")
    part = NEURONS.part_schema("visualize")
    assert set(NEURONS.key) <= set(part.names)
    assert part.field("image").type == IMAGE
    assert NEURONS.column("image").is_image
    assert NEURONS.image_columns == ["image"]


def test_leaves_are_named_as_parquet_names_them(tmp_path) -> None:
    import pyarrow.parquet as pq

    for table in TABLES.values():
        path = tmp_path / table.name
        pq.write_table(table.schema().empty_table(), path)
        written = pq.read_schema(path)
        parquet = pq.ParquetFile(path).schema
        assert [name for name, _ in leaves(written)] == [parquet.column(i).path for i in range(len(parquet))]
