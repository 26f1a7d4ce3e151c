"""The card is true, and `datasets` loads what it promises, offline."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from atlas_schema.card import card_text, write_card
from atlas_schema.citing import bibtex
from atlas_schema.docs import page
from atlas_schema.errors import NothingThere
from atlas_schema.parquet import IMAGE_ROWS_PER_GROUP, ROWS_PER_GROUP, read_footer
from atlas_schema.read import Atlas
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import INVERSIONS, NEURONS, TABLES
from atlas_schema.validate import validate
from tests.atlas_schema.made_atlas import PROVENANCE, SLUG, make_atlas, model_row, neuron_row, webp

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = make_atlas(Store(tmp_path_factory.mktemp("card") / "atlas"))
    return make_atlas(store, slug="zoo-deit", widths=(16,))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """load_dataset that cannot reach a network and keeps its cache to itself."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_HUB_OFFLINE", "1")
        environment.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        datasets = pytest.importorskip("datasets")
        environment.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        datasets.disable_progress_bars()
        yield datasets.load_dataset


@pytest.mark.parametrize("streaming", [False, True])
def test_neurons_load_with_their_pictures(made: Store, load: Any, streaming: bool) -> None:
    rows = list(load(made.url, "neurons", split="train", streaming=streaming))
    order = [*(f"zoo-deit/mlp/0/{u}" for u in range(16)), *(f"zoo-vit/mlp/0/{u}" for u in range(40))]
    assert [row["address"] for row in rows] == [*order, *(f"zoo-vit/mlp/1/{u}" for u in range(24))]
    for row in rows:
        wanted = Image.open(io.BytesIO(webp(row["unit"])))
        assert row["image"].format == "WEBP"
        assert row["image"].tobytes() == wanted.tobytes()
        given = neuron_row(row["unit"])
        assert all(row[name] == given[name] for name in given if name != "image")


def test_every_table_loads_with_declared_types(made: Store, load: Any) -> None:
    counts = {"neurons": 80, "models": 2, "sites": 5, "runs": 1, "probe_images": 12}
    counts |= {
        "neuron_examples": 158,
        "neuron_matches": 158,
        "neuron_pictures": 2 * 158,
        "inversions": 2 * 4,
        "inversion_readings": 2 * 3,
    }
    counts |= dict.fromkeys(("heads", "head_texts", "head_features", "head_examples"), 6) | {"head_reads": 8}
    for name, table in TABLES.items():
        rows = load(made.url, name, split="train")
        assert len(rows) == counts[name]
        assert rows.column_names == table.names
        assert rows.features.arrow_schema.equals(table.schema())
    assert len(load(made.url, split="train")) == counts["neurons"]  # the default config


def test_some_columns_stream_alone(made: Store, load: Any) -> None:
    rows = load(made.url, "neurons", split="train", streaming=True, columns=["address", "activation"])
    assert next(iter(rows)) == {"address": "zoo-deit/mlp/0/0", "activation": 1.5}


def test_what_datasets_keeps_of_one_atlas_is_not_taken_for_another(tmp_path: Path, load: Any) -> None:
    """It keeps what it read by the folder's name and the card's metadata: an atlas of the same name elsewhere, or one
    whose neurons were made anew in the same place, was answered with the rows of the first."""
    first, second = (make_atlas(Store(tmp_path / where / "atlas"), widths=(3,)) for where in ("one", "other"))
    write_card(first)
    activate_anew(tmp_path / "other" / "atlas")
    write_card(second)
    assert set(load(first.url, "neurons", split="train")["activation"]) == {1.5, 2.5, 3.5}
    assert set(load(second.url, "neurons", split="train")["activation"]) == {7.25, 7.5, 7.75}
    activate_anew(tmp_path / "one" / "atlas")
    write_card(first)
    assert set(load(first.url, "neurons", split="train")["activation"]) == {7.25, 7.5, 7.75}


def activate_anew(atlas: Path) -> None:
    """Other activations of the three neurons of an atlas."""
    (shard,) = (atlas / "neurons").rglob("*.parquet")
    rows = pq.read_table(shard)
    at = rows.schema.get_field_index("activation")
    pq.write_table(rows.set_column(at, rows.schema.field(at), [pa.array([7.25, 7.5, 7.75], pa.float32())]), shard)


def test_the_front_matter_is_what_datasets_reads(made: Store) -> None:
    datasets = pytest.importorskip("datasets")
    from huggingface_hub import DatasetCard

    card = DatasetCard(made.read("README.md").decode())
    data = card.data.to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["size_categories"] == "n<1K"
    assert [config["config_name"] for config in data["configs"]] == list(TABLES)
    assert [config for config in data["configs"] if config.get("default")] == data["configs"][:1]
    for info in data["dataset_info"]:
        features = datasets.Features._from_yaml_list(info["features"])
        assert features.arrow_schema.equals(TABLES[info["config_name"]].schema())


def test_the_front_matter_keeps_the_rules_of_the_hub(folder: Store) -> None:
    """Those that its validator is documented to hold; the validator itself is a page of the Hub."""
    from huggingface_hub import DatasetCard

    make_atlas(folder)
    said = []
    for licence in ("mit", "cc-by-nc-4.0"):
        write_rows(folder, "models", SLUG, [model_row((40, 24), licence=licence)], provenance=PROVENANCE)
        said.append(DatasetCard(card_text(folder), ignore_metadata_errors=False).data.to_dict())
    folder.replace("LICENSE", b"terms")
    said.append(DatasetCard(card_text(folder), ignore_metadata_errors=False).data.to_dict())
    assert [one["license"] for one in said] == ["cc-by-4.0", "other", "other"]
    assert [one.get("license_name") for one in said] == [None, "see-licences", "see-licences"]
    assert [one.get("license_link") for one in said] == [None, None, "LICENSE"]  # a file of this name, or a URL
    for one in said:
        assert len(one["configs"]) == len({config["config_name"] for config in one["configs"]})
        assert all(config["data_files"][0]["split"] == "train" for config in one["configs"])
        assert [info["config_name"] for info in one["dataset_info"]] == [c["config_name"] for c in one["configs"]]


def test_row_groups_are_far_under_what_the_viewer_scans(sound: Store) -> None:
    """At most a quarter of 286 MiB: the group a row of the shards here would make, pictures as large as they may be."""
    picture = 224 * 224 * 3  # bytes, as if WebP saved nothing
    for name, table in TABLES.items():
        for path in sound.list(name):
            parquet = read_footer(sound, path)
            groups = [parquet.row_group(index) for index in range(parquet.num_row_groups)]
            a_row = sum(group.total_byte_size for group in groups) / max(1, parquet.num_rows)
            rows = IMAGE_ROWS_PER_GROUP if table.image_columns else ROWS_PER_GROUP
            assert rows * (a_row + picture * len(table.image_columns)) < (286 << 20) / 4, path


def test_inversions_are_counted_by_recipe(made: Store) -> None:
    text = made.read("README.md").decode()
    rows = Atlas(made).inversions("zoo-vit").to_pylist()
    own = [row for row in rows if row["recipe"] == "fast" and row["kind"] == "class" and row["status"] == "made"]
    first = sum(row["rank"] == 1 for row in own) / len(own)
    assert f"| `zoo-vit` | `fast` | class | {len(own)} | {first:.0%} |" in text


def test_inversions_of_texts_have_no_place(folder: Store) -> None:
    make_atlas(folder)
    rows = Atlas(folder).inversions(SLUG, INVERSIONS.names).to_pylist()
    for row in rows:
        text = {"kind": "text", "index": None, "rank": None, "rivals": None, "natural_right": None}
        row |= {**text, "address": row["address"].replace("/class/", "/text/")}
    write_rows(folder, INVERSIONS.name, SLUG, rows, provenance=PROVENANCE)
    assert f"| `zoo-vit` | `fast` | text | {len(rows)} | - | - | 0 | - |" in card_text(folder)


def test_a_citation_names_the_commit_where_it_is_known(made: Store) -> None:
    assert Atlas(made).citation() in made.read("README.md").decode().replace("PATH-OR-URL", made.url)
    cited = bibtex("hf://datasets/my-org/my-atlas@" + "c" * 40)
    assert "https://huggingface.co/datasets/my-org/my-atlas}" in cited
    assert f"revision {'c' * 40}, schema version" in cited
    assert "revision" not in bibtex("s3://bucket/atlas")


def test_the_datasheet_says_what_a_reader_asks(made: Store) -> None:
    text = made.read("README.md").decode()
    for column in NEURONS.columns:
        assert f"| `{column.name}` |" in text
    for fact in (
        "80 FFN neurons of 2 models",
        "| `zoo-vit` | 64 of 64 | 6 |",
        '"steps": 20',
        model_row((8,))["fingerprint"],
        "timm 1.0.20",
        "## For what",
        "## What the numbers mean",
        "## Inversions",
        "## Limits",
        "## Licences",
        "2212.06727",
        'atlas.neuron("zoo-deit/mlp/0/0")',
    ):
        assert fact in text
    assert "$" not in text.partition("## Cite")[0]


def test_the_code_of_the_card_runs(made: Store, load: Any) -> None:
    blocks = made.read("README.md").decode().split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        code = block.partition("```")[0]
        for name in ("PATH-OR-REPOSITORY", "PATH-OR-URL"):
            code = code.replace(name, made.url)
        exec(compile(code, "README.md", "exec"), {})


def test_other_licences_are_passed_on(folder: Store) -> None:
    make_atlas(folder)
    for licence in ("cc-by-nc-4.0", None):
        write_rows(folder, "models", SLUG, [model_row((40, 24), licence=licence)], provenance=PROVENANCE)
        text = card_text(folder)
        assert "\nlicense: other\n" in text
        assert f"| `zoo-vit` | zoo/vit | {licence or 'not stated'} |" in text


def test_names_from_outside_are_taken_literally(folder: Store) -> None:
    make_atlas(folder)
    row = model_row((40, 24), model_id="timm/<script>|x`", recipe_json='{"name": "```\\n# heading"}')
    write_rows(folder, "models", SLUG, [row], provenance=PROVENANCE)
    text = card_text(folder).partition("\n---\n")[2]
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert text.count("```") % 2 == 0
    assert "\n# heading" not in text


def test_an_atlas_before_its_first_shard_has_a_card(folder: Store) -> None:
    write_rows(folder, "models", SLUG, [model_row((40, 24))], provenance=PROVENANCE)
    write_card(folder)
    assert "| `zoo-vit` | 0 of 64 | 0 | - |" in folder.read("README.md").decode()


def test_no_card_about_nothing(folder: Store) -> None:
    with pytest.raises(NothingThere, match="no model to write a card about"):
        write_card(folder)


def test_the_docs_page_is_not_stale() -> None:
    assert (REPO / "docs" / "tables.md").read_text() == page(), (
        "docs/tables.md is stale; run: python -m atlas_schema.docs docs/tables.md"
    )


def test_a_card_of_an_atlas_without_pictures(folder: Store, load: Any) -> None:
    make_atlas(folder, stages=("evidence", "examples"))
    text = folder.read("README.md").decode()
    assert "| `zoo-vit` | 64 of 64 | 0 | - |" in text
    assert next(iter(load(folder.url, "neurons", split="train", streaming=True)))["image"] is None
    assert validate(folder) == []
