"""The stages behind `visualize`, run for real: whole, killed and resumed, damaged, and grown by a second model."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.errors import BadConfig, ForeignAtlas, NothingThere
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.validate import validate
from tests.jobs.conftest import Runner, committed, evidence, parts, snapshot
from tests.jobs.tiny import EVIDENCE, flags

pytestmark = pytest.mark.timeout(900)
REPO = Path(__file__).parents[2]
SLICE = "probe zoo-vit images 0 to *"


def committed_slices(folder: Path, stage: str) -> list[tuple[int, int]]:
    """(first image, one behind the last) of the slices that a run committed, in their order."""
    units = [unit.split() for unit in committed(folder) if unit.startswith(stage)]
    return [(int(words[-3]), int(words[-1]) + 1) for words in units]


def sound(folder: Path) -> None:
    assert validate(Store(str(folder))) == []


def test_every_table_is_filled(clean_evidence: Path) -> None:
    sound(clean_evidence)
    found = evidence(clean_evidence)
    assert [len(found[name]) for name in ("neurons", "examples", "images")] == [32, 32 * 14, 200]
    for row in found["neurons"]:
        assert row["probe_images"] == 200
        assert 0 <= row["percentile"] <= 100
        assert row["label_status"] in ("labelled", "unlabelled")
        assert len(row["label_candidates"]) == 5
    partners = {(row["slug"], row["partner_slug"]) for row in found["matches"]}
    assert partners == {(a, b) for a in ("zoo-vit", "zoo-swin") for b in ("zoo-vit", "zoo-swin")}
    assert all(row["thumbnail"]["bytes"] for row in found["images"]), "the zoo's pictures are free"
    slices = committed_slices(clean_evidence, "probe zoo-vit")
    assert len(slices) > 2, "the pass was cut into slices,"
    assert slices[-1] == (0, 200), "these were merged"
    assert [start for start, _ in sorted(slices[:-1])] == [0, *(stop for _, stop in sorted(slices[:-1])[:-1])]
    kept = list(clean_evidence.glob(".atlas/parts/probe/zoo-vit/images-*"))
    assert [path.name.split("-")[1:3] for path in kept] == [["000000000", "000000200"]], "and the merge alone is kept"
    models = {row["slug"]: row for row in Atlas(str(clean_evidence)).models()}
    assert models["zoo-vit"]["probe_name"] == "zoo"
    assert {one["stage"] for one in models["zoo-vit"]["stages"]} >= {"visualize", "evidence", "judge", "label"}


@pytest.mark.slow
def test_killed_workers_cost_their_units_and_no_row(run_into: Runner, clean_evidence: Path, tmp_path: Path) -> None:
    """SIGKILL in a slice of the probe, before the commit of labels, after that of examples."""
    folder = tmp_path / "atlas"
    label, examples = "label zoo-swin/mlp/0 units 0 to 15", "examples zoo-vit/mlp/0 units 0 to 15"
    report = run_into(
        folder, f"step@{SLICE}#1=kill;before_commit@{label}#1=kill;after_commit@{examples}#1=kill", **EVIDENCE
    )
    assert (report.exit_code, report.workers_lost) == (0, 3)
    sound(folder)
    assert evidence(folder) == evidence(clean_evidence)


@pytest.mark.slow
def test_a_killed_driver_is_resumed(run_into: Runner, clean_evidence: Path, tmp_path: Path) -> None:
    folder, marks = tmp_path / "atlas", tmp_path / "marks"
    marks.mkdir()
    environment = {
        **os.environ,
        "ATLAS_FAILPOINTS": "receipt#9=kill",
        "ATLAS_FAILPOINT_MARKS": str(marks),
        "PYTHONPATH": str(REPO),
    }
    command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(**EVIDENCE, out=str(folder))]
    killed = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    before, done = parts(folder), committed(folder)
    assert len(done) >= 8
    report = run_into(folder, **EVIDENCE)
    assert report.exit_code == 0
    after = parts(folder)
    assert {name: after[name] for name in before if name in after}.items() <= before.items()
    again = committed(folder)
    assert len(set(again)) == len(again) > len(done), "what was committed was not done again"
    sound(folder)
    assert evidence(folder) == evidence(clean_evidence)


def test_nothing_is_done_twice(run_into: Runner, clean_evidence: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(clean_evidence, folder)
    report = run_into(folder, **EVIDENCE)
    assert (report.exit_code, report.units_done) == (0, 0)
    assert evidence(folder) == evidence(clean_evidence)


def test_a_damaged_partial_sends_its_stage_back_to_work_in_the_same_run(
    run_into: Runner, clean_evidence: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(clean_evidence, folder)
    (root,) = folder.glob(".atlas/parts/probe/zoo-vit/images-000000000-000000200-*")
    damaged = bytearray(root.read_bytes())
    for place in range(100, len(damaged) - 20_000, 997):  # in the pages of every array
        damaged[place] ^= 0xFF
    root.write_bytes(damaged)
    for part in folder.glob(".atlas/parts/evidence/zoo-vit/*"):
        part.unlink()
    report = run_into(folder, **EVIDENCE, retries=0)
    assert report.exit_code == 0, "no unit is to blame for what it could not read"
    passes = committed_slices(clean_evidence, "probe zoo-vit")
    readers = [*folder.glob(".atlas/parts/evidence/zoo-vit/*")]
    assert report.units_done == len(passes) + len(readers), "its slices, their merge, and its readers"
    sound(folder)
    assert evidence(folder) == evidence(clean_evidence)


@pytest.mark.slow
def test_a_damaged_comparison_is_made_anew_in_the_same_run(
    run_into: Runner, clean_evidence: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(clean_evidence, folder)
    pair = sorted(folder.glob(".atlas/parts/pairs/*/*"))[0]
    damaged = bytearray(pair.read_bytes())
    for place in range(100, len(damaged) - 12_000, 97):
        damaged[place] ^= 0xFF
    pair.write_bytes(damaged)
    for shard in folder.glob("neuron_matches/*/*.parquet"):
        shard.unlink()  # else nothing of this part is read
    report = run_into(folder, **EVIDENCE)
    assert (report.exit_code, report.units_done) == (0, 1)
    sound(folder)
    assert evidence(folder) == evidence(clean_evidence)


def test_a_model_that_joins_later_finds_its_counterparts(
    run_into: Runner, clean_evidence: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "atlas"
    assert run_into(folder, **{**EVIDENCE, "models": ["zoo/vit"]}).exit_code == 0
    alone = parts(folder)
    assert run_into(folder, **EVIDENCE).exit_code == 0
    after = parts(folder)
    assert {name: after[name] for name in alone} == alone
    sound(folder)
    assert evidence(folder) == evidence(clean_evidence)


@pytest.mark.slow
def test_pictures_that_come_later_are_judged(run_into: Runner, clean_evidence: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    first = {**EVIDENCE, "stages": "probe"}
    assert run_into(folder, **first).exit_code == 0
    sound(folder)
    rows = evidence(folder)["neurons"]
    assert {row["image"] for row in rows} == {None}
    assert {row["percentile"] for row in rows} == {None}
    assert run_into(folder, **EVIDENCE).exit_code == 0
    sound(folder)
    assert evidence(folder) == evidence(clean_evidence)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"probe": "zoo:150"}, ForeignAtlas, r"another images \(found"),
        ({"panel": 100}, ForeignAtlas, r"another probe settings panel \(found 128, expected 100\)"),
        ({"probe": "nowhere/images"}, NothingThere, "nowhere/images"),
        ({"probe": None, "stages": "visualize,probe"}, BadConfig, "--probe"),
        ({"embedder": "zoo/vit"}, BadConfig, "no text tower"),
        ({"concepts": "general"}, BadConfig, "knows"),
        ({"probe": "zoo:30"}, BadConfig, "to check them; expected at least 20 each"),
        ({"stages": "label"}, BadConfig, "label reads what probe measures"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_touched(
    run_into: Runner, clean_evidence: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = snapshot(clean_evidence)
    with pytest.raises(error, match=words):
        run_into(clean_evidence, **{**EVIDENCE, **changes})
    assert snapshot(clean_evidence) == before


def test_bad_images_are_named_and_the_others_used(run_into: Runner, tmp_path: Path) -> None:
    from PIL import Image

    images, folder = tmp_path / "images", tmp_path / "atlas"
    images.mkdir()
    for index in range(40):
        Image.effect_noise((48, 40), 5 * index + 10).convert("RGB").save(images / f"{index:02}.png")
    whole = (images / "00.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "text.png").write_text("no picture")
    said: list[str] = []
    from jobs.config import load_config
    from jobs.driver import run as carry_out
    from tests.jobs.tiny import OPTIONS

    options = {**OPTIONS, **EVIDENCE, "models": ["zoo/vit"], "stages": "probe", "probe": str(images)}
    report = carry_out(load_config(None, {**options, "out": str(folder)}), command="test", say=said.append)
    assert report.exit_code == 0
    told = "\n".join(said)
    assert "40 probe images" in told
    assert "2 images cannot be used" in told
    assert "cut.png" in told
    assert "text.png" in told
    sound(folder)
    rows = evidence(folder)
    assert {row["probe_images"] for row in rows["neurons"]} == {40}
    assert {row["thumbnail"] for row in rows["images"]} == {None}, "no licence is known: images are named, not copied"


@pytest.mark.slow
def test_a_stage_is_refused_only_for_what_it_computes(run_into: Runner, tmp_path: Path) -> None:
    """Pictures by one recipe; evidence later, with another recipe named and never used; then judged as they are."""
    folder = tmp_path / "atlas"
    alone = {**EVIDENCE, "models": ["zoo/vit"]}
    assert run_into(folder, **{**alone, "stages": "visualize", "seed": 3, "precision": "float64"}).exit_code == 0
    assert run_into(folder, **{**alone, "stages": "probe", "recipe": "reference"}).exit_code == 0
    sound(folder)
    (model,) = Atlas(str(folder)).models()
    assert (model["recipe"], model["seed"]) == ("tiny", 3), "recipe and seed belong to the pictures"
    precisions = {one["stage"]: one["precision"] for one in model["stages"]}
    assert (precisions["visualize"], precisions["evidence"]) == ("float64", "float32"), "each stage has its own"
    assert all(row["percentile"] is not None for row in evidence(folder)["neurons"]), "pictures were judged as they are"
    with pytest.raises(ForeignAtlas, match=r"the stage visualize of zoo-vit ran with another .*seed \(found 3"):
        run_into(folder, **{**alone, "stages": "visualize,probe"})


@pytest.mark.slow
def test_a_pictureless_atlas_takes_any_recipe(run_into: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    alone = {**EVIDENCE, "models": ["zoo/vit"]}
    assert run_into(folder, **{**alone, "stages": "probe", "recipe": "reference"}).exit_code == 0
    (model,) = Atlas(str(folder)).models()
    assert (model["recipe"], model["recipe_hash"], model["seed"]) == (None, None, None)
    assert run_into(folder, **{**alone, "stages": "visualize"}).exit_code == 0
    (model,) = Atlas(str(folder)).models()
    assert model["recipe"] == "tiny"
    sound(folder)


def test_a_later_wish_about_the_probe_images_is_heeded(run_into: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    alone = {**EVIDENCE, "models": ["zoo/vit"], "stages": "probe"}
    assert run_into(folder, **alone, probe_images="reference").exit_code == 0
    assert {row["thumbnail"] for row in evidence(folder)["images"]} == {None}
    assert run_into(folder, **alone, probe_images="embed").exit_code == 0
    assert all(row["thumbnail"]["bytes"] for row in evidence(folder)["images"])
    assert run_into(folder, **alone).exit_code == 0
    assert all(row["thumbnail"]["bytes"] for row in evidence(folder)["images"]), "nobody asked: it stays"


def test_corrected_classes_are_not_mixed_with_old_ones(run_into: Runner, tmp_path: Path) -> None:
    """The same bytes under corrected labels: what was summed by class is refused, not reused."""
    from PIL import Image

    images, folder = tmp_path / "images", tmp_path / "atlas"
    images.mkdir()
    for index in range(40):
        Image.effect_noise((48, 40), 5 * index + 10).convert("RGB").save(images / f"{index:02}.png")

    def label(names: list[str]) -> None:
        lines = "".join(f"{index:02}.png,{names[index % len(names)]}\n" for index in range(40))
        (images / "metadata.csv").write_text("file_name,label\n" + lines)

    label(["cat", "dog"])
    alone = {**EVIDENCE, "models": ["zoo/vit"], "stages": "probe", "probe": str(images)}
    assert run_into(folder, **alone).exit_code == 0
    assert {row["class"] for row in evidence(folder)["images"]} == {"cat", "dog"}
    label(["cat", "fox"])
    before = snapshot(folder)
    with pytest.raises(ForeignAtlas, match=r"another class: of 01\.png it has 'dog', now it is 'fox'"):
        run_into(folder, **alone)
    assert snapshot(folder) == before


def matches(folder: Path) -> list[dict[str, Any]]:
    atlas = Atlas(str(folder))
    tables = [atlas.matches(row["slug"], layer) for row in atlas.models() for layer in range(row["ffn_sites"])]
    return [row for table in tables if table is not None for row in table.to_pylist()]


@pytest.mark.slow
def test_counterparts_alone_are_written_for_what_is_selected(
    run_into: Runner, clean_evidence: Path, tmp_path: Path
) -> None:
    """A run of `match` alone in a new atlas: the neurons that it names have rows, the same as in a run of all stages;
    and a later run that describes neurons takes none of them away."""
    folder = tmp_path / "atlas"
    assert run_into(folder, **{**EVIDENCE, "stages": "match"}).exit_code == 0
    sound(folder)
    whole = matches(clean_evidence)
    assert matches(folder) == whole
    assert run_into(folder, **{**EVIDENCE, "stages": "visualize", "units": "8:24"}).exit_code == 0
    sound(folder)
    assert [row for row in matches(folder) if row["unit"] < 16] == whole
