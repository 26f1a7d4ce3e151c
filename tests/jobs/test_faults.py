"""What a run survives, on real Ray workers and a real model: kills, faults, hangs, damage. Rows stay equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlas_schema.errors import BadConfig, ForeignAtlas
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.validate import validate
from tests.jobs.conftest import Runner, neurons, parts, snapshot
from tests.jobs.tiny import UNITS

FIRST = "visualize zoo-vit--random/mlp/0 units 0 to 15"


def sound(folder: Path) -> None:
    assert validate(Store(str(folder))) == []


def equal(folder: Path, other: Path) -> None:
    assert neurons(folder).num_rows == 128
    assert neurons(folder).equals(neurons(other))


def log_of(folder: Path, run_id: str) -> list[dict]:
    return [json.loads(line) for line in (folder / ".atlas/logs" / f"{run_id}.jsonl").read_text().splitlines()]


def test_an_undisturbed_run_is_a_valid_atlas(clean: Path):
    sound(clean)
    atlas = Atlas(str(clean))
    assert len(parts(clean)) == UNITS
    assert {row["slug"] for row in atlas.models()} == {"zoo-vit--random"}
    assert atlas.runs()[0]["status"] == "done"
    planned = {site["layer"]: site["planned"] for site in atlas.sites("zoo-vit--random") if site["kind"] == "ffn"}
    assert planned == {0: [{"start": 0, "stop": 64}], 1: [], 2: [{"start": 0, "stop": 64}], 3: []}
    assert not (clean / ".atlas/lock.json").exists()


@pytest.mark.parametrize("place", ["step", "before_commit"])
def test_a_killed_worker_costs_its_unit_and_no_row(run_into: Runner, clean: Path, tmp_path: Path, place: str):
    folder = tmp_path / "atlas"
    report = run_into(folder, f"{place}@{FIRST}#1=kill")
    assert (report.exit_code, report.workers_lost, report.units_done) == (0, 1, UNITS)
    started = [line["unit"] for line in log_of(folder, report.run_id) if line["event"] == "started"]
    assert sorted(started) == sorted([*set(started), FIRST]), "only that unit was done twice"
    sound(folder)
    equal(folder, clean)


def test_a_part_committed_before_its_worker_died_is_adopted(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    report = run_into(folder, f"after_commit@{FIRST}#1=kill")
    assert (report.exit_code, report.workers_lost) == (0, 1)
    adopted = [line for line in log_of(folder, report.run_id) if line.get("adopted")]
    assert [line["unit"] for line in adopted] == [FIRST]
    equal(folder, clean)


def test_a_unit_that_always_fails_is_named_and_the_next_run_does_it(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    report = run_into(folder, f"start@{FIRST}=raise!", retries=1)
    assert (report.status, report.exit_code, report.units_failed, report.units_done) == ("failed", 1, 1, UNITS - 1)
    assert report.missing == ["zoo-vit--random/mlp/0 units 0 to 15"]
    record = json.loads(next(folder.glob(".atlas/failed/**/*.json")).read_text())
    assert record["unit"] == FIRST
    assert "RuntimeError: failpoint" in record["error"]
    assert "Traceback" in record["trace"]
    attempts = [line["attempt"] for line in log_of(folder, report.run_id)
                if line["event"] == "started" and line["unit"] == FIRST]  # fmt: skip
    assert attempts == [1, 2]
    assert Atlas(str(folder)).runs()[-1]["failures"][0]["unit"] == FIRST
    assert neurons(folder).num_rows == 128 - 16, "the rest can be read"
    assert {one.kind for one in validate(Store(str(folder)))} != set(), "and the gap is a violation"

    before = parts(folder)
    report = run_into(folder)
    assert (report.exit_code, report.units_done) == (0, 1)
    assert before.items() <= parts(folder).items(), "nothing else was touched"
    assert not list(folder.glob(".atlas/failed/**/*.json"))
    sound(folder)
    equal(folder, clean)


def test_a_hung_worker_is_replaced(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    report = run_into(folder, f"step@{FIRST}#1=sleep:600", hang_seconds=4)
    assert (report.exit_code, report.workers_lost) == (0, 1)
    assert "no step for 4 s" in next(
        line["reason"] for line in log_of(folder, report.run_id) if line["event"] == "worker lost"
    )
    equal(folder, clean)


def test_a_full_disk_ends_the_run_and_keeps_what_is_committed(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    report = run_into(folder, "before_commit@*units 16 to 31=full!")
    assert (report.status, report.exit_code) == ("failed", 1)
    assert "no space left" in report.error.lower()
    assert report.units_failed == 0, "no unit is to blame"
    assert run_into(folder).exit_code == 0
    equal(folder, clean)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "foreign"])
def test_a_damaged_part_is_done_again_alone(run_into: Runner, clean: Path, tmp_path: Path, damage: str):
    folder = tmp_path / "atlas"
    run_into(folder, layers="0")
    before = parts(folder)
    first, second = sorted(folder.glob(".atlas/parts/**/*.parquet"))[:2]
    good = first.read_bytes()
    broken = {
        "truncate": good[: len(good) // 2],
        "flip": good[:300] + bytes([good[300] ^ 255]) + good[301:],
        "empty": b"",
        "foreign": second.read_bytes(),
    }[damage]
    first.write_bytes(broken)
    assert validate(Store(str(folder))) != []
    report = run_into(folder, layers="0")
    assert (report.exit_code, report.units_done) == (0, 1)
    after = parts(folder)
    assert [name for name in before if before[name] != after[name]] == [first.name]
    sound(folder)
    assert neurons(folder).equals(neurons(clean).slice(0, 64))


def test_a_damaged_shard_is_built_again_from_its_parts(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    run_into(folder, layers="0")
    before = parts(folder)
    shard = next(folder.glob("neurons/**/*.parquet"))
    good = shard.read_bytes()
    shard.write_bytes(good[:-20])
    report = run_into(folder, layers="0")
    assert (report.exit_code, report.units_done) == (0, 0)
    assert shard.read_bytes() == good
    assert parts(folder) == before


def test_a_wider_selection_adds_to_the_atlas(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    run_into(folder, units="16:48")
    report = run_into(folder)
    assert (report.exit_code, report.units_done) == (0, UNITS - 4)
    sound(folder)
    equal(folder, clean)


def test_a_narrower_selection_takes_nothing_away(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    run_into(folder, layers="0")
    report = run_into(folder, layers="0", units="0:8")
    assert (report.exit_code, report.units_done) == (0, 0)
    assert neurons(folder).num_rows == 64
    sound(folder)


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({"seed": 7}, "seed: found 0", "expected 7"),
        ({"recipe": "reference"}, "recipe: found tiny", "expected reference"),
    ],
)
def test_another_runs_atlas_is_refused_and_left_as_it_is(run_into: Runner, clean: Path, change, found, expected):
    before = snapshot(clean)
    with pytest.raises(ForeignAtlas) as caught:
        run_into(clean, **change)
    message = str(caught.value)
    assert "zoo-vit--random" in message
    assert found in message
    assert expected in message
    assert "--out" in message
    assert snapshot(clean) == before


def test_other_weights_under_the_same_name_are_refused(run_into: Runner, tmp_path: Path):
    folder = tmp_path / "atlas"
    run_into(folder, layers="0", units="0:2", name="mine")
    before = snapshot(folder)
    with pytest.raises(ForeignAtlas, match="another weights"):
        run_into(folder, models=["zoo/pit"], layers="0", units="0:2", name="mine")
    assert snapshot(folder) == before


def test_a_folder_of_other_files_is_refused(run_into: Runner, tmp_path: Path):
    (tmp_path / "README.md").write_text("my thesis")
    before = snapshot(tmp_path)
    with pytest.raises(ForeignAtlas, match="holds other files"):
        run_into(tmp_path)
    assert snapshot(tmp_path) == before


def test_memory_is_refused_as_workers_would_not_see_it(run_into: Runner):
    with pytest.raises(BadConfig, match="a memory store lives in one process"):
        run_into(Path("x"), out="memory://atlas")
