"""croissant.json says of every table and column what the declarations say, and `mlcroissant` reads the rows by it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atlas_schema.card import limits
from atlas_schema.columns import IMAGE
from atlas_schema.croissant import VERSION, croissant, croissant_text
from atlas_schema.errors import NothingThere
from atlas_schema.parquet import leaves
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import NEURONS, TABLES
from atlas_schema.validate import validate
from tests.atlas_schema.made_atlas import PROVENANCE, SLUG, make_atlas, model_row, neuron_row, webp

HUB = "hf://datasets/my-org/my-atlas@" + "a" * 40


def leaf_fields(fields: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for field in fields:
        yield from leaf_fields(field["subField"]) if "subField" in field else [field]


def test_every_table_is_a_record_set_and_every_column_a_field_with_its_sentence(sound: Store) -> None:
    told = json.loads(croissant_text(sound))
    assert told["conformsTo"] == VERSION
    assert [one["@id"] for one in told["recordSet"]] == list(TABLES)
    for record_set, file_set in zip(told["recordSet"], told["distribution"], strict=True):
        table = TABLES[record_set["@id"]]
        assert [field["name"] for field in record_set["field"]] == table.names
        for field, column in zip(record_set["field"], table.columns, strict=True):
            assert field["description"].startswith(column.means)
            assert column.unit in field["description"]
            assert column.absent in field["description"]
        assert [one["@id"] for one in record_set["key"]] == [f"{table.name}/{name}" for name in table.key]
        paths = sound.list(table.name)
        assert paths
        assert all(Path(path).match(file_set["includes"]) for path in paths)
        assert "containedIn" not in file_set


def test_every_leaf_of_a_column_has_a_type_and_a_source(sound: Store) -> None:
    for record_set in croissant(sound)["recordSet"]:
        table = TABLES[record_set["@id"]]
        found = list(leaf_fields(record_set["field"]))
        pictures = [field for field in found if field["dataType"] == "sc:ImageObject"]
        assert [field["name"] for field in pictures] == [c.name for c in table.columns if c.type == IMAGE]
        wanted = [path.replace(".list.element", "") for path, _ in leaves(table.schema()) if not path.endswith(".path")]
        said = [field["@id"].partition("/")[2].replace("/", ".") for field in found]
        assert said == [path.removesuffix(".bytes") for path in wanted]
        assert {field["source"]["fileSet"]["@id"] for field in found} == {f"{table.name}-files"}


def test_where_it_is_published_is_named_with_its_revision(sound: Store) -> None:
    told = croissant(sound, HUB)
    repository, *file_sets = told["distribution"]
    assert repository["contentUrl"] == "https://huggingface.co/datasets/my-org/my-atlas/tree/" + "a" * 40
    assert {one["containedIn"]["@id"] for one in file_sets} == {repository["@id"]}
    assert told["creator"]["name"] == "my-org"
    assert f"revision {'a' * 40}" in told["citeAs"]


def test_licences_that_ask_for_more_are_named(folder: Store) -> None:
    make_atlas(folder)
    assert croissant(folder)["license"] == ["https://creativecommons.org/licenses/by/4.0/"]
    for licence, words in (("cc-by-nc-4.0", "cc-by-nc-4.0"), (None, "licence not stated")):
        write_rows(folder, "models", SLUG, [model_row((40, 24), licence=licence)], provenance=PROVENANCE)
        assert croissant(folder)["license"][1:] == [f"weights of {SLUG}: {words}"]


def test_limits_are_those_of_the_card(sound: Store) -> None:
    text = " ".join(sound.read("README.md").decode().split())
    assert croissant(sound)["rai:dataLimitations"] == limits()
    assert len(limits()) > 5
    assert all(limit in text for limit in limits())


def test_beside_the_card_it_is_no_stray_and_equal_atlases_give_equal_text(atlas: Store, sound: Store) -> None:
    atlas.replace("croissant.json", croissant_text(atlas).encode())
    assert validate(atlas) == []
    assert croissant_text(atlas) == croissant_text(sound)


def test_nothing_is_told_of_no_model(folder: Store) -> None:
    with pytest.raises(NothingThere, match="no model to describe"):
        croissant(folder)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["", HUB])
def test_mlcroissant_finds_no_fault(atlas: Store, url: str) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed: croissant.json was not validated")
    atlas.replace("croissant.json", croissant_text(atlas, url).encode())
    issues = mlc.Dataset(jsonld=f"{atlas.url}/croissant.json").metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings


@pytest.mark.slow
def test_mlcroissant_reads_the_rows(atlas: Store) -> None:
    mlc = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed: no row was read by croissant.json")
    atlas.replace("croissant.json", croissant_text(atlas).encode())
    dataset = mlc.Dataset(jsonld=f"{atlas.url}/croissant.json")
    rows = {row["neurons/address"].decode(): row for row in dataset.records(NEURONS.name)}
    assert len(rows) == 64
    for address, row in rows.items():
        unit = int(address.rpartition("/")[2])
        given = neuron_row(unit)
        assert row["neurons/image"].tobytes() == Image.open(io.BytesIO(webp(unit))).tobytes()
        assert row["neurons/activation"] == pytest.approx(given["activation"])
        curve = [
            {name: point[f"neurons/loss_curve/{name}"] for name in ("step", "objective", "activation")}
            for point in row["neurons/loss_curve"]
        ]
        assert curve == given["loss_curve"]
    for name in ("models", "sites", "head_texts", "inversion_readings"):
        assert len(list(dataset.records(name))) > 0
