"""Reading by address gives the row, reads little, and says what is missing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from atlas_schema.address import NeuronAddress
from atlas_schema.errors import BadAddress, BadConfig, NothingThere, ShardCorrupt
from atlas_schema.pages import picture_in_page
from atlas_schema.read import Atlas
from atlas_schema.shards import shard_path
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_EXAMPLES, NEURONS
from atlas_schema.units import Neurons
from tests.atlas_schema.conftest import FaultyS3
from tests.atlas_schema.made_atlas import (
    ALL,
    INVERTED,
    LATER,
    PROBE_SET,
    SLUG,
    as_of_2_0_0,
    commit,
    make_atlas,
    model_row,
    neuron_row,
    reduce_layer,
    run_row,
    site_rows,
    stage_claim,
    units_of,
    webp,
)


def test_everything_that_was_written_is_read(store: Store) -> None:
    atlas = Atlas(make_atlas(store))
    stages = (*ALL, "pairs", "heads", *INVERTED)
    assert atlas.models() == [model_row((40, 24), stages=[stage_claim(stage) for stage in stages])]
    assert atlas.runs() == [run_row()]
    wanted = sorted(site_rows((40, 24), stages=stages[:-3]), key=lambda row: (row["kind"], row["layer"]))
    assert atlas.sites(SLUG) == wanted
    assert atlas.layers(SLUG) == [0, 1]
    for layer, width in ((0, 40), (1, 24)):
        rows = atlas.neurons(SLUG, layer)
        assert rows is not None
        assert rows.column_names == [name for name in NEURONS.names if name != "image"]
        for row in rows.to_pylist():
            one = atlas.neuron(row["address"])
            assert one == row
            given = neuron_row(row["unit"])
            assert {name: row[name] for name in given if name != "image"} == {
                name: value for name, value in given.items() if name != "image"
            }
        assert rows["unit"].to_pylist() == list(range(width))
        places = atlas.picture_locations(SLUG, layer)
        for unit, offset, length in places:
            assert store.read_range(shard_path(NEURONS, SLUG, layer, 2), offset, length) == webp(unit)
        assert [atlas.picture(f"{SLUG}/mlp/{layer}/{unit}") for unit in range(width)] == [
            webp(unit) for unit in range(width)
        ]
    assert atlas.neuron(NeuronAddress(SLUG, 1, 7), ["unit", "status"]) == {"unit": 7, "status": "active"}


def test_an_atlas_of_an_older_minor_version_is_read_with_empty_new_columns(folder: Store) -> None:
    before = Atlas(make_atlas(folder))
    now = {layer: before.neurons(SLUG, layer) for layer in (0, 1)}
    as_of_2_0_0(folder)
    atlas = Atlas(folder)
    for layer, rows in now.items():
        read, matches = atlas.neurons(SLUG, layer), atlas.matches(SLUG, layer)
        assert rows is not None
        assert read is not None
        assert matches is not None
        assert read.schema.names == rows.schema.names
        later = LATER["neurons"]
        assert all(read[name].null_count == read.num_rows for name in later)
        assert read.drop_columns(list(later)).equals(rows.drop_columns(list(later)))
        assert matches["threshold"].null_count == matches.num_rows > 0
    assert atlas.neuron(f"{SLUG}/mlp/1/7", ["unit", "verdict"]) == {"unit": 7, "verdict": None}
    assert atlas.neuron(f"{SLUG}/mlp/1/7")["status_reason"] is None


@pytest.fixture
def held(sound: Store) -> Atlas:
    return Atlas(sound)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("zoo-vti/mlp/0/0", "zoo-vti: no such model.*nearest: zoo-vit"),
        ("resnet/mlp/0/0", "resnet: no such model.*it holds zoo-vit"),
        ("zoo-vit/mlp/7/0", "zoo-vit/mlp/7/0: the atlas holds layers 0-1 of zoo-vit"),
        ("zoo-vit/mlp/1/24", "zoo-vit/mlp/1/24: .*holds 24 units between 0 and 23"),
    ],
)
def test_what_the_atlas_does_not_hold_is_named(held: Atlas, address: str, message: str) -> None:
    with pytest.raises(NothingThere, match=message):
        held.neuron(address)
    with pytest.raises(NothingThere, match=message):
        held.picture(address)


def test_bad_questions(held: Atlas, tmp_path: Any) -> None:
    with pytest.raises(BadAddress):
        held.neuron("zoo-vit/mlp/0")
    with pytest.raises(BadConfig, match="no column 'activaton'; expected one of activation"):
        held.neuron("zoo-vit/mlp/0/0", ["activaton"])
    with pytest.raises(NothingThere, match="no such model"):
        held.sites("zoo-vti")
    assert held.neurons("zoo-vit", 9) is None
    assert held.neurons("nowhere", 0) is None
    assert held.picture_locations("zoo-vit", 9) == []
    empty = Atlas(str(tmp_path / "nothing"))
    assert empty.models() == []
    assert empty.runs() == []
    with pytest.raises(NothingThere, match="no atlas here"):
        empty.neuron("zoo-vit/mlp/0/0")


def test_a_growing_atlas_is_seen(folder: Store) -> None:
    atlas = Atlas(make_atlas(folder, widths=(16,)))
    with pytest.raises(NothingThere):
        atlas.neuron("zoo-deit/mlp/0/0")
    make_atlas(folder, widths=(16,), slug="zoo-deit")
    for path in list(folder.list("neurons/zoo-deit")):
        folder.delete(path)
    with pytest.raises(NothingThere, match=r"^zoo-deit: .* has the model, but no neurons of it, or none so far$"):
        atlas.neuron("zoo-deit/mlp/0/0")
    make_atlas(folder, widths=(16,), slug="zoo-deit")
    assert atlas.neuron("zoo-deit/mlp/0/0")["slug"] == "zoo-deit"
    assert [row["slug"] for row in atlas.models()] == ["zoo-deit", "zoo-vit"]


def test_a_gap_between_units_is_told(folder: Store) -> None:
    units = [units_of(0, 48, 16)[0], units_of(0, 48, 16)[2]]
    for unit in units:
        commit(folder, unit)
    reduce_layer(folder, SLUG, 0, 1, units)
    atlas = Atlas(folder)
    assert atlas.neuron(f"{SLUG}/mlp/0/40")["unit"] == 40
    with pytest.raises(NothingThere, match="holds 32 units between 0 and 47"):
        atlas.neuron(f"{SLUG}/mlp/0/20")


def test_pictures_come_by_page_and_where_that_fails_by_row_group(folder: Store) -> None:
    """Every unit of a shard with three row groups; then one with gaps, for which no page is looked for."""
    units = units_of(0, 600, 200)
    for unit in units:
        commit(folder, unit)
    path = reduce_layer(folder, SLUG, 0, 2, units)
    atlas = Atlas(folder)
    edges = {edge + near for edge in (0, 16, 240, 256, 512, 592, 599) for near in (-1, 0, 1)}
    for unit in sorted(edges & set(range(600))):
        assert picture_in_page(folder, path, unit) == webp(unit)
    assert picture_in_page(folder, path, 600) is None
    others = [dataclasses.replace(unit, cut=Neurons(1, unit.start, unit.stop)) for unit in (units[0], units[2])]
    for unit in others:
        commit(folder, unit)
    gaps = reduce_layer(folder, SLUG, 1, 2, others)
    assert picture_in_page(folder, gaps, 0) is None  # the first row group: 0 to 199, then 400 to 455
    assert picture_in_page(folder, gaps, 599) == webp(599)
    assert [atlas.picture(f"{SLUG}/mlp/1/{unit}") for unit in (0, 199, 400, 599)] == [
        webp(unit) for unit in (0, 199, 400, 599)
    ]


@pytest.mark.parametrize("spoil", ["cut", "empty", "flip"])
def test_a_damaged_shard_is_named(atlas: Store, spoil: str) -> None:
    path = shard_path(NEURONS, SLUG, 0, 2)
    sound = atlas.read(path)
    unit, offset, _ = Atlas(atlas).picture_locations(SLUG, 0)[5]
    flipped = sound[: offset + 50] + bytes([sound[offset + 50] ^ 1]) + sound[offset + 51 :]
    atlas.replace(path, {"cut": sound[:-9], "empty": b"", "flip": flipped}[spoil])
    reader = Atlas(atlas)
    for read in (lambda: reader.picture(f"{SLUG}/mlp/0/{unit}"), lambda: reader.picture_locations(SLUG, 0)):
        with pytest.raises(ShardCorrupt) as told:
            read()
        assert told.value.path == path
        assert path in str(told.value)


def test_one_neuron_over_s3_costs_little(s3: FaultyS3) -> None:
    """Footer and one page (picture) or row group (row): far less than the shard, in few requests."""
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    units = units_of(0, 1024, 512)
    for unit in units:
        commit(store, unit, image={"bytes": webp(0, side=64), "path": None})
    path = reduce_layer(store, SLUG, 0, 1, units)
    atlas = Atlas(store)
    size = store.size(path)
    for read, share in ((atlas.neuron, 0.05), (atlas.picture, 0.05)):
        s3.requests.clear()
        read(f"{SLUG}/mlp/0/700")
        gets = [length for method, name, length in s3.requests if method == "GET" and name.endswith(".parquet")]
        assert 0 < sum(gets) < share * size
        assert len(gets) <= 3


def test_the_tables_of_the_evidence(folder: Store) -> None:
    atlas = Atlas(make_atlas(folder))
    examples, matches = atlas.examples(SLUG, 1), atlas.matches(SLUG, 1, ["unit", "correlation"])
    assert examples is not None
    assert examples.column_names == NEURON_EXAMPLES.names
    assert matches is not None
    assert matches.column_names == ["unit", "correlation"]
    assert set(matches["unit"].to_pylist()) == set(range(24))
    assert atlas.examples(SLUG, 7) is None
    assert atlas.probe_sets() == [PROBE_SET]
    assert atlas.probe_images(PROBE_SET)["thumbnail"].to_pylist()[3]["bytes"] == webp(3)
    with pytest.raises(NothingThere, match=PROBE_SET):
        atlas.probe_images("0" * 16)
    with pytest.raises(BadConfig, match="caption"):
        atlas.probe_images(PROBE_SET, ["captions"])
