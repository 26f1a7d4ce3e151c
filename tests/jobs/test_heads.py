"""The stages behind the tables of heads, run for real: whole, killed, resumed, damaged; and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from atlas_schema.errors import BadConfig, ForeignAtlas
from atlas_schema.read import Atlas
from atlas_schema.searching import words_of
from atlas_schema.store import Store
from atlas_schema.tables import HEAD_TABLES
from atlas_schema.validate import validate
from jobs.cli import call
from jobs.commands.comparing import alignment_of
from jobs.config import load_config
from jobs.driver import run as carry_out
from tests.jobs.conftest import Runner, committed, parts
from tests.jobs.tiny import HEADS, OPTIONS, flags

pytestmark = pytest.mark.timeout(900)
REPO = Path(__file__).parents[2]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def clean_heads(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "heads"
    config = load_config(None, {**OPTIONS, **HEADS, "out": str(folder)})
    assert carry_out(config, command="test", say=lambda text: None).exit_code == 0
    return folder


def tables(folder: Path) -> dict[str, Rows]:
    shards = {name: sorted((folder / name).glob("*/*.parquet")) for name in HEAD_TABLES}
    return {name: [row for path in paths for row in pq.read_table(path).to_pylist()] for name, paths in shards.items()}


def alike(found: dict[str, Rows], expected: dict[str, Rows]) -> None:
    """The same rows; numbers to rounding, as the merge order of slices is that of their completion."""
    for name, rows in expected.items():
        assert len(found[name]) == len(rows)
        for one, other in zip(found[name], rows, strict=True):
            for column in other:
                if column != "map":
                    near(one[column], other[column], f"{name}.{column}")


def near(found: Any, expected: Any, place: str) -> None:
    if isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4), place
    elif isinstance(expected, list | dict):
        assert len(found) == len(expected), place
        for key in expected if isinstance(expected, dict) else range(len(expected)):
            near(found[key], expected[key], place)
    else:
        assert found == expected, place


def test_every_table_is_filled(clean_heads: Path) -> None:
    assert validate(Store(str(clean_heads))) == []
    found = tables(clean_heads)
    heads = {row["address"]: row for row in found["heads"]}
    assert len(heads) == 16 + 20
    silent = [row for row in heads.values() if row["level"] == "through attention"]
    assert {(row["slug"], row["layer"]) for row in silent} == {("zoo-convit", layer) for layer in range(3)}
    for row in heads.values():
        assert (row["variance_share"] is None) == (row["level"] != "direct")
        assert row["probe_images"] == 48
        assert 0 < row["norm_share"] < 2
        if row["level"] == "direct":
            assert sum(row["spectrum"]) == pytest.approx(1, abs=1e-3), "a head of these writes along 16 axes at most"
        texts = [text for text in found["head_texts"] if text["address"] == row["address"]]
        assert [text["rank"] for text in texts] == list(range(len(texts)))
        assert texts[-1]["cumulative"] == pytest.approx(row["texts_explain"], abs=1e-4)
    clip = [row for row in heads.values() if row["slug"] == "zoo-clip"]
    assert all(row["alignment_cosine"] == row["alignment_keeps"] == 1 for row in clip), "it is its own space"
    assert {row["answered_by"] for row in clip} == {"texts"}
    assert {row["answered_by"] for row in heads.values() if row["slug"] == "zoo-convit"} == {"classifier"}
    for slug in ("zoo-clip", "zoo-convit"):
        for feature in ("shape", "colour", "texture", "size", "position", "background"):
            own = [row for row in found["head_features"] if (row["slug"], row["feature"]) == (slug, feature)]
            assert sorted(row["rank"] for row in own) == list(range(len(own)))
            ranked = sorted(own, key=lambda row: row["rank"])
            assert [row["score"] for row in ranked] == sorted((row["score"] for row in own), reverse=True)


def test_maps_of_examples_add_up_to_what_the_head_contributes(clean_heads: Path) -> None:
    """Map and rest, summed, are the contribution; the projection is that less a mean, the same for all images."""
    means: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in tables(clean_heads)["head_examples"]:
        cells = row["map_height"] * row["map_width"]
        assert len(row["map"]) == cells
        total = sum((byte - 128) / 127 * row["map_scale"] for byte in row["map"]) + row["elsewhere"]
        mean, rounding = total - row["projection"], cells * row["map_scale"] / 254 + 1e-3
        means.setdefault((row["address"], row["direction"]), []).append((mean - rounding, mean + rounding))
    for spans in means.values():
        assert max(low for low, _ in spans) <= min(high for _, high in spans)


def test_neurons_name_the_heads_that_read_them(clean_heads: Path) -> None:
    for row in tables(clean_heads)["head_reads"]:
        assert row["reader"] == f"{row['slug']}/head/{row['reader_layer']}/{row['reader_head']}"
        assert row["reader_layer"] > row["layer"], "a head reads what was written before it"
        assert row["share"] > 0


def test_heads_alone_plan_no_neuron(clean_heads: Path) -> None:
    assert not (clean_heads / "neurons").exists()
    assert not any(site["planned"] for site in Atlas(str(clean_heads)).sites("zoo-clip"))


def test_a_head_is_shown_and_read(clean_heads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = Atlas(str(clean_heads)).head("zoo-clip/head/1/1")
    assert head["texts"][0]["rank"] == 0
    assert [row["score"] for row in head["features"]] == sorted(
        (row["score"] for row in head["features"]), reverse=True
    )
    assert call(["show", "zoo-clip/head/1/1", "--atlas", str(clean_heads)]) == 0
    shown = capsys.readouterr().out
    assert head["texts"][0]["text"] in shown
    assert "background" in shown
    assert call(["show", "zoo-clip/head/1/1", "--atlas", str(clean_heads), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["address"] == "zoo-clip/head/1/1"
    assert call(["search", "background", "--atlas", str(clean_heads), "--limit", "1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    texts = Atlas(str(clean_heads)).head_texts("zoo-clip")
    told = [row for row in texts if row["explained"] >= 0.01 and "background" in words_of(row["text"])]
    mine = [(row["address"], row["text"]) for row in found if row.get("address", "").startswith("zoo-clip/")]
    assert sorted(mine) == sorted((row["address"], row["text"]) for row in told)
    for text in {row["text"] for row in told}:
        explained = [row["explained"] for row in found if row.get("text") == text]
        assert explained == sorted(explained, reverse=True)
    assert call(["search", "colour", "--atlas", str(clean_heads)]) == 0
    assert "feature colour: " in capsys.readouterr().out
    assert call(["show", "zoo-clip/head/9/1", "--atlas", str(clean_heads)]) == 2
    assert "layers 0-3" in capsys.readouterr().err
    assert call(["show", "zoo-clip/head/1/1", "--atlas", str(clean_heads), "--open"]) == 2
    assert "no picture" in capsys.readouterr().err


def test_the_alignment_can_be_read_back(clean_heads: Path) -> None:
    own, other = (alignment_of(Store(str(clean_heads)), slug) for slug in ("zoo-clip", "zoo-convit"))
    assert own.maps is None
    assert other.maps is not None
    assert other.map(0).shape == (64, 64)
    assert other.components == 20 + 5 + 2
    assert other.cosine > other.cosine_chance


@pytest.mark.slow
def test_killed_workers_cost_their_units_and_no_row(run_into: Runner, clean_heads: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    align, project = "align zoo-convit", "project zoo-clip images 0 to *"
    first = "decompose zoo-convit images 0 to *"
    points = f"step@{first}#1=kill;before_commit@{align}#1=kill;after_commit@{project}#1=kill"
    report = run_into(folder, points, **HEADS)
    assert (report.exit_code, report.workers_lost) == (0, 3)
    assert validate(Store(str(folder))) == []
    alike(tables(folder), tables(clean_heads))


@pytest.mark.slow
def test_a_killed_driver_is_resumed(run_into: Runner, clean_heads: Path, tmp_path: Path) -> None:
    folder, marks = tmp_path / "atlas", tmp_path / "marks"
    marks.mkdir()
    environment = {
        **os.environ,
        "ATLAS_FAILPOINTS": "receipt#9=kill",
        "ATLAS_FAILPOINT_MARKS": str(marks),
        "PYTHONPATH": str(REPO),
    }
    command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(**HEADS, out=str(folder))]
    killed = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    before, done = parts(folder), committed(folder)
    assert len(done) >= 8
    report = run_into(folder, **HEADS)
    assert report.exit_code == 0
    after = parts(folder)
    assert {name: after[name] for name in before if name in after}.items() <= before.items()
    again = committed(folder)
    assert len(set(again)) == len(again) > len(done), "what was committed was not done again"
    assert validate(Store(str(folder))) == []
    alike(tables(folder), tables(clean_heads))


def test_nothing_is_done_twice(run_into: Runner, clean_heads: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(clean_heads, folder)
    report = run_into(folder, **HEADS)
    assert (report.exit_code, report.units_done) == (0, 0)
    assert tables(folder) == tables(clean_heads)


@pytest.mark.slow
def test_a_damaged_partial_sends_its_stage_back_to_work(run_into: Runner, clean_heads: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(clean_heads, folder)
    (root,) = folder.glob(".atlas/parts/decompose/zoo-clip/images-000000000-000000048-*")
    damaged = bytearray(root.read_bytes())
    for place in range(100, len(damaged) - 20_000, 997):
        damaged[place] ^= 0xFF
    root.write_bytes(damaged)
    for stage in ("spans", "project", "heads"):
        for part in folder.glob(f".atlas/parts/{stage}/zoo-clip/*"):
            part.unlink()
    report = run_into(folder, **HEADS, retries=0)
    assert report.exit_code == 0
    assert validate(Store(str(folder))) == []
    alike(tables(folder), tables(clean_heads))


@pytest.mark.slow
def test_heads_join_an_atlas_of_another_recipe(run_into: Runner, tmp_path: Path) -> None:
    """What the site proposes for a model with pictures alone; its default recipe is not the one they were made with."""
    folder = tmp_path / "atlas"
    alone = {**HEADS, "models": ["zoo/clip"]}
    assert run_into(folder, **{**alone, "stages": "visualize", "layers": "0", "units": "0:4"}).exit_code == 0
    assert run_into(folder, **{**alone, "recipe": "reference"}).exit_code == 0
    assert validate(Store(str(folder))) == []
    (model,) = Atlas(str(folder)).models()
    assert model["recipe"] == "tiny"
    assert {one["stage"] for one in model["stages"]} >= {"visualize", "decompose", "heads"}
    assert len(Atlas(str(folder)).heads("zoo-clip")) == 16


def test_a_lost_table_of_heads_is_named_and_built_again(run_into: Runner, clean_heads: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(clean_heads, folder)
    shards = sorted(folder.glob("head*/zoo-clip/*.parquet"))
    assert len(shards) == len(HEAD_TABLES)
    good = {path: path.read_bytes() for path in shards}
    shards[0].unlink()
    shards[1].write_bytes(shards[1].read_bytes()[:-20])
    assert {one.kind for one in validate(Store(str(folder)))} == {"missing", "corrupt"}
    report = run_into(folder, **HEADS)
    assert (report.exit_code, report.units_done) == (0, 0), "from parts: nothing is computed again"
    assert {path: path.read_bytes() for path in shards} == good


@pytest.mark.slow
def test_fewer_images_than_a_head_is_wide(run_into: Runner, tmp_path: Path) -> None:
    """Twelve images, heads of 16 numbers: what they vary along is told, and no more."""
    folder = tmp_path / "atlas"
    assert run_into(folder, **{**HEADS, "models": ["zoo/clip"], "probe": "zoo:12"}).exit_code == 0
    assert validate(Store(str(folder))) == []
    found = tables(folder)
    assert all(len([one for one in row["spectrum"] if one > 1e-6]) <= 11 for row in found["heads"])
    assert all(row["rank"] < 12 for row in found["head_texts"])


def test_other_texts_are_refused_where_heads_are_described(run_into: Runner, clean_heads: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a red object\na blue object\n")
    folder = tmp_path / "atlas"
    shutil.copytree(clean_heads, folder)
    with pytest.raises(ForeignAtlas, match=r"another texts of heads \(found"):
        run_into(folder, **HEADS, texts=str(texts))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "texts.txt"),
        (b"a red object\na red object\n", "texts.txt"),
        (b"a red object\n" + b"red " * 2500, "texts.txt"),
        (b"a red object\n\xff\xfe\x00", "UTF-8"),
        (b"a red object\na photo of a zebra\n", "photo"),
    ],
    ids=["empty", "twice", "10,000 characters", "not UTF-8", "unknown word"],
)
def test_bad_texts(run_into: Runner, tmp_path: Path, content: bytes, told: str) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_bytes(content)
    with pytest.raises(BadConfig, match=told) as caught:
        run_into(tmp_path / "atlas", **HEADS, texts=str(texts))
    assert len(str(caught.value)) < 600, "a long line is not repeated whole"
    assert not (tmp_path / "atlas" / "models").exists(), "nothing was written"


def test_a_model_whose_pooling_is_not_linear_is_left_out(ray_here: None, tmp_path: Path) -> None:
    said: list[str] = []
    options = {**OPTIONS, **HEADS, "models": ["timm/test_vit3"], "random_weights": True, "out": str(tmp_path / "atlas")}
    report = carry_out(load_config(None, options), command="test", say=said.append)
    assert report.exit_code == 0
    assert any("test-vit3" in line and "left out" in line for line in said)
    assert not (tmp_path / "atlas" / "heads").exists()
