"""`neuron-atlas diff` on atlases of which it is known what differs, and what it refuses."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from atlas_schema.read import Atlas
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from jobs.cli import call
from jobs.diffing.table import COLUMNS
from tests.atlas_schema.made_atlas import PROVENANCE, model_row, site_rows
from tests.jobs.diff_atlas import HEAD_COUNT, WIDTHS, Made, made, orders, write_matches, write_model

NEURONS = sum(WIDTHS)
SILENT = {"fires_on": None, "token_std": 0.0}


def atlas(folder: Path, models: dict[str, Made], *, matched: bool = False, **options: Any) -> str:
    store = Store(str(folder))
    for slug, model in models.items():
        write_model(store, slug, model, **options)
    if matched:
        write_matches(store, models)
    return str(folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One atlas of a model, its permutation and a stranger, all matched."""
    models = {"one": made(0), "permuted": made(0).permuted(orders()), "other": made(9)}
    return atlas(tmp_path_factory.mktemp("diff") / "atlas", models, matched=True)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert call(["diff", *words, "--json"]) == 0, capsys.readouterr().err
    (found,) = json.loads(capsys.readouterr().out)
    return found


def fates(found: dict[str, Any], side: str) -> Counter[str]:
    return Counter(row["fate"] for row in found["rows"] if row["side"] == side and row["kind"] == "neuron")


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert call(["diff", *words]) == 2
    return capsys.readouterr().err


def test_an_atlas_and_itself(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, kept, kept, "--models", "one")
    assert (found["measure"], found["notes"][0]) == ("overlap", "Both have the same weights (fingerprint).")
    assert fates(found, "a") == fates(found, "b") == {"kept": NEURONS}
    assert [row["fate"] for row in found["rows"] if row["kind"] == "head"] == ["kept"] * HEAD_COUNT
    assert sum(one["labels_same"] for one in found["layers"]) == NEURONS


@pytest.mark.parametrize("measure", ["correlation", "overlap"])
def test_a_permuted_model_has_moved_as_the_permutation_says(
    kept: str, measure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = told(capsys, kept, "--models", "one", "permuted", "--by", measure)
    assert fates(found, "a") == fates(found, "b") == {"moved": NEURONS}
    for row in found["rows"]:
        if row["kind"] == "neuron":
            order = orders()[row["layer"]]
            there, slug = (np.argsort(order), "permuted") if row["side"] == "a" else (order, "one")
            assert row["partner"] == f"{slug}/mlp/{row['layer']}/{there[row['unit']]}"
            assert row["partner_likeness"] == pytest.approx(1)


def test_correlations_are_taken_where_they_are(kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, kept, "--models", "one", "permuted")["measure"] == "correlation"


@pytest.mark.parametrize("measure", ["correlation", "overlap"])
def test_a_stranger_has_nothing_in_common(kept: str, measure: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, kept, "--models", "one", "other", "--by", measure, "--least", "0")
    assert fates(found, "a") == {"died": NEURONS}
    assert fates(found, "b") == {"appeared": NEURONS}


def changed(tmp_path: Path) -> tuple[str, str]:
    """Two versions of a model: other meanings, places, labels, and neurons that fall silent."""
    before = made(0)
    before.neurons[1, 3] = SILENT
    after = made(0)
    after.images[0][:4] = made(5).images[0][:4]  # other meanings
    after.images[1][[6, 7]] = after.images[1][[7, 6]]
    after.neurons.update(
        {
            (1, 3): SILENT,
            (1, 4): SILENT,
            (0, 10): {"label": "stripes & <b>"},
            (0, 11): {"label": None, "label_status": "unlabelled"},
            (0, 12): {"status": "inactive"},
        }
    )
    after.texts[2] = [*after.texts[2][:2], "a red thing", "a blue thing", "a dot"]
    return atlas(tmp_path / "a", {"m": before}), atlas(tmp_path / "b", {"m": after})


def test_what_changed_is_told_to_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = changed(tmp_path)
    assert call(["diff", a, b]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == (
        "Of 64 neurons of A: 56 kept (87.5%), 2 moved (3.1%), 5 died (7.8%), 1 silent (1.6%); in B 4 appeared. "
        "1 of 55 labels of kept neurons changed. The texts of 1 of 3 heads changed."
    )
    assert "  m/mlp/0/10: label 0 10 -> stripes & <b>" in text
    assert "  m/head/0/2: text 20; text 21 -> text 20; text 21" in text
    assert "By the share of strongest probe images in common, at least 0.33, at a false discovery rate of 0.05" in text
    found = told(capsys, a, b)
    rows = {(row["side"], row["layer"], row["unit"]): row for row in found["rows"] if row["kind"] == "neuron"}
    assert [rows["a", 0, unit]["fate"] for unit in range(5)] == ["died"] * 4 + ["kept"]
    assert [rows["b", 0, unit]["fate"] for unit in range(5)] == ["appeared"] * 4 + ["kept"]
    assert (rows["a", 1, 6]["fate"], rows["a", 1, 6]["partner"]) == ("moved", "m/mlp/1/7")
    assert (rows["a", 1, 4]["fate"], rows["a", 1, 4]["silent_there"]) == ("died", True)
    assert (rows["b", 1, 4]["fate"], rows["b", 1, 4]["silent_there"]) == ("silent", False)
    assert (rows["a", 0, 11]["label_change"], rows["b", 0, 11]["label_change"]) == ("lost", "gained")
    assert [one["status_changed"] for one in found["layers"]] == [1, 0]
    assert [one["labels_lost"] for one in found["layers"]] == [1, 0]
    (head,) = [row for row in found["rows"] if row["fate"] == "changed"]
    assert (head["address"], head["same_likeness"]) == ("m/head/0/2", 0.4)


def test_the_table_is_written(kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {kind: tmp_path / f"diffs.{kind}" for kind in ("parquet", "csv", "json")}
    for file in files.values():
        assert call(["diff", kept, "--models", "one", "permuted", "--out", str(file)]) == 0
    names = [name for name, _, _ in COLUMNS]
    table = pq.read_table(files["parquet"])
    assert table.column_names == names
    assert len(table) == 2 * NEURONS + HEAD_COUNT
    assert json.loads(table.schema.metadata[b"rules"])[0] == {
        "measure": "correlation",
        "least": 0.5,
        "discovery_rate": 0.05,
    }
    with files["csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["partner"] or None for row in rows] == table["partner"].to_pylist()
    assert rows[-1]["texts"] == " | ".join(table["texts"].to_pylist()[-1])
    (found,) = json.loads(files["json"].read_text())
    assert [row["address"] for row in found["rows"]] == table["address"].to_pylist()


def test_a_page_shows_pairs_of_pictures_and_stands_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = changed(tmp_path)
    assert call(["diff", a, b, "--out", str(tmp_path / "diff.html")]) == 0
    page = (tmp_path / "diff.html").read_text()
    shown = re.split("<h2>", page)[1:]
    pairs = {part.partition("</h2>")[0]: re.findall(r"<figure>.*?</figure>", part, re.S) for part in shown}
    assert {title: len(found) for title, found in pairs.items() if found} == {
        "Neurons that moved": 2,
        "Neurons that died": 5,
        "Neurons that appeared": 4,
        "Kept neurons with another label": 1,
    }
    moved = next(one for one in pairs["Neurons that moved"] if "A <code>m/mlp/1/6</code>" in one)
    assert "B <code>m/mlp/1/7</code>" in moved
    pictures = [base64.b64decode(data) for data in re.findall(r"data:image/webp;base64,([^\"]+)", moved)]
    assert pictures == [Atlas(a).picture("m/mlp/1/6"), Atlas(b).picture("m/mlp/1/7")]
    assert "silent in B" in "".join(pairs["Neurons that died"])
    assert "<b>stripes &amp; &lt;b&gt;</b>" in pairs["Kept neurons with another label"][0]
    assert "<td><code>m/head/0/2</code></td>" in page
    assert str(tmp_path) not in page, "a page that goes to others says nothing of this machine"
    assert not re.search(r"<script|https?://", page)


def test_all_shared_models_of_two_atlases(kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = atlas(tmp_path / "b", {"one": made(0), "other": made(9), "more": made(4)})
    assert call(["diff", kept, other]) == 0
    assert capsys.readouterr().out.count("64 kept (100.0%)") == 2


def test_units_of_one_atlas_alone_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = made(0)
    part = replace(whole, neurons={(1, unit): None for unit in range(12, 24)})
    found = told(capsys, atlas(tmp_path / "a", {"m": whole}), atlas(tmp_path / "b", {"m": part}))
    assert fates(found, "a") == {"kept": NEURONS - 12}
    assert "Neurons of one atlas alone, not compared: 12 of A, 0 of B." in found["notes"]


def test_labels_and_heads_of_other_texts_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = replace(made(0), neurons={(0, 0): {"concept_set": "another"}}, heads={"text_pool": "another"})
    found = told(capsys, atlas(tmp_path / "a", {"m": made(0)}), atlas(tmp_path / "b", {"m": other}))
    assert any(note.startswith("The labels of 1 neurons are of other texts") for note in found["notes"])
    assert found["notes"][-1].startswith("Heads were not compared: they are described by another texts")
    assert not [row for row in found["rows"] if row["kind"] == "head"]


def test_heads_that_are_not_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = atlas(tmp_path / "a", {"m": made(0)}, tables=("examples",))
    assert "are not described (stage decompose)" in told(capsys, a, a, "--models", "m")["notes"][-1]


def test_other_probe_sets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = atlas(tmp_path / "a", {"m": made(0)})
    b = atlas(tmp_path / "b", {"m": replace(made(0), model={"probe_set": "0" * 16, "probe_name": "mine"})})
    error = refusal(capsys, a, b)
    assert "measured on the probe set fedcba9876543210 (made)" in error
    assert "0000000000000000 (mine)" in error
    assert "Run one of them again" in error


@pytest.mark.parametrize(
    ("model", "widths", "said"),
    [
        ({"family": "swin"}, WIDTHS, "of the family vit"),
        ({}, (40, 32), "differ in their FFN layers: 2 of 40, 24 neurons against 2 of 40, 32 neurons"),
        ({"probe_set": None, "probe_name": None}, WIDTHS, "--probe SET --stages probe"),
    ],
    ids=["family", "widths", "unmeasured"],
)
def test_what_cannot_be_compared(
    model: dict[str, Any], widths: tuple[int, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(atlas(tmp_path / "a", {"x": made(0)}))
    write_rows(store, "models", "y", [model_row(widths, "y", **model)], provenance=PROVENANCE)
    write_rows(store, "sites", "y", site_rows(widths, "y"), provenance=PROVENANCE)
    assert said in refusal(capsys, str(tmp_path / "a"), "--models", "x", "y")


@pytest.mark.parametrize(
    ("table", "words", "said"),
    [
        ("neuron_examples", (), "the strongest images of layer 0 are not there (neuron_examples)"),
        ("neurons", (), "the neurons of layer 0 were not measured on images"),
        ("neuron_matches", ("--by", "correlation"), "with both models and --stages match"),
    ],
)
def test_missing_tables_are_named(
    table: str, words: tuple[str, ...], said: str, kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(kept, copy)
    shutil.rmtree(copy / table / "one")
    by = words or ("--by", "overlap")
    assert said in refusal(capsys, str(copy), "--models", "one", "other", *by)
    if words:
        found = told(capsys, str(copy), "--models", "one", "other")
        assert found["measure"] == "overlap"
        assert found["notes"][0].startswith("By strongest images, since layer 0 of one in ")


def test_misuse(kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected one atlas and --models X Y" in refusal(capsys, kept)
    assert "nearest: other" in refusal(capsys, kept, "--models", "one", "othre")
    assert "ends in .parquet, .csv, .json or .html" in refusal(capsys, kept, kept, "--out", "x.txt")
    assert "there is no folder" in refusal(capsys, kept, kept, "--out", str(tmp_path / "no" / "x.csv"))
    assert "--discovery-rate 2.0" in refusal(capsys, kept, kept, "--discovery-rate", "2")
    assert "--least 2.0" in refusal(capsys, kept, kept, "--least", "2")
    other = atlas(tmp_path / "b", {"m": made(0)})
    assert "share no model: one, other, permuted; m. Name one of each" in refusal(capsys, kept, other)
    assert f"{tmp_path / 'no'}: no atlas here" in refusal(capsys, kept, str(tmp_path / "no"))
    assert "no atlas here" in refusal(capsys, str(tmp_path / "no"), "--models", "x", "y")
