"""What a run survives, on real Ray workers and a real model: kills, faults, hangs, damage. Rows stay equal."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.errors import BadConfig, ForeignAtlas, StoreFailed
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.validate import validate
from tests.jobs.conftest import Runner, neurons, parts, snapshot
from tests.jobs.tiny import UNITS

pytestmark = pytest.mark.timeout(900)  # a run takes seconds, on a machine that is busy with other things minutes

FIRST = "visualize zoo-vit--random/mlp/0 units 0 to 15"


def sound(folder: Path) -> None:
    assert validate(Store(str(folder))) == []


def equal(folder: Path, other: Path) -> None:
    assert neurons(folder).num_rows == 128
    assert neurons(folder).equals(neurons(other))


def timeless(models: list[dict]) -> list[dict]:
    """Rows of `models` without the time at which each stage began."""
    return [{**row, "stages": [{**one, "started": None} for one in row["stages"]]} for row in models]


def log_of(folder: Path, run_id: str) -> list[dict]:
    return [json.loads(line) for line in (folder / ".atlas/logs" / f"{run_id}.jsonl").read_text().splitlines()]


def test_an_undisturbed_run_is_a_valid_atlas(clean: Path):
    sound(clean)
    atlas = Atlas(str(clean))
    assert len(parts(clean)) == UNITS
    assert {row["slug"] for row in atlas.models()} == {"zoo-vit--random"}
    assert atlas.runs()[0]["status"] == "done"
    planned = {site["layer"]: site["planned"] for site in atlas.sites("zoo-vit--random") if site["kind"] == "ffn"}
    assert planned == {0: [{"start": 0, "stop": 64}], 1: [{"start": 0, "stop": 64}], 2: [], 3: []}
    assert not (clean / ".atlas/lock.json").exists()


def test_killed_workers_cost_their_units_and_no_row(run_into: Runner, clean: Path, tmp_path: Path):
    """SIGKILL in the middle of a unit, before its commit, and after it but before the answer."""
    folder = tmp_path / "atlas"
    second, third = FIRST.replace("0 to 15", "16 to 31"), FIRST.replace("mlp/0", "mlp/1")
    report = run_into(folder, f"step@{FIRST}#1=kill;before_commit@{second}#1=kill;after_commit@{third}#1=kill")
    assert (report.exit_code, report.workers_lost, report.units_done) == (0, 3, UNITS)
    log = log_of(folder, report.run_id)
    started = [line["unit"] for line in log if line["event"] == "started"]
    assert sorted(started) == sorted([*set(started), FIRST, second, third]), "only these were done twice"
    assert [line["unit"] for line in log if line.get("adopted")] == [third], "a late commit stands"
    sound(folder)
    equal(folder, clean)


def test_a_unit_that_always_fails_is_named_and_the_next_run_does_it(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    report = run_into(folder, f"start@{FIRST}=raise!", retries=1)
    assert (report.status, report.exit_code, report.units_failed, report.units_done) == ("failed", 1, 1, UNITS - 1)
    assert report.missing == ["zoo-vit--random/mlp/0 units 0 to 15"]
    record = json.loads(next(folder.glob(".atlas/failed/**/*.json")).read_text())
    assert record["name"] == FIRST
    assert "RuntimeError: failpoint" in record["error"]
    assert "Traceback" in record["trace"]
    attempts = [line["attempt"] for line in log_of(folder, report.run_id)
                if line["event"] == "started" and line["unit"] == FIRST]  # fmt: skip
    assert attempts == [1, 2]
    assert Atlas(str(folder)).runs()[-1]["failures"][0]["unit"] == FIRST
    assert neurons(folder).num_rows == 128 - 16, "the rest can be read"
    (gap,) = validate(Store(str(folder)))
    assert (gap.path, gap.kind) == ("neurons/zoo-vit--random/train-00000-of-00004.parquet", "missing")
    assert gap.message.startswith("16 of 64 planned units: 0, 1, 2")

    before = parts(folder)
    report = run_into(folder)
    assert (report.exit_code, report.units_done) == (0, 1)
    assert before.items() <= parts(folder).items(), "nothing else was touched"
    assert not list(folder.glob(".atlas/failed/**/*.json"))
    sound(folder)
    equal(folder, clean)


def test_a_hung_worker_is_replaced(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    # a worker that is well may be without a step for seconds where others use the machine
    report = run_into(folder, f"step@{FIRST}#1=sleep:600", hang_seconds=12)
    assert (report.exit_code, report.workers_lost) == (0, 1)
    assert "no step for 12 s" in next(
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


def test_damaged_parts_are_done_again_alone(run_into: Runner, clean: Path, tmp_path: Path):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    before = parts(folder)
    a, b, c, d, *others = sorted(folder.glob(".atlas/parts/**/*.parquet"))
    good = a.read_bytes()
    a.write_bytes(good[: len(good) // 2])
    b.write_bytes(b.read_bytes()[:300] + b"?" + b.read_bytes()[301:])
    c.write_bytes(b"")
    d.write_bytes(others[0].read_bytes())
    assert {one.path for one in validate(Store(str(folder)))} >= {str(p.relative_to(folder)) for p in (a, b, c, d)}
    for shard in folder.glob("neurons/*/*.parquet"):
        shard.unlink()  # else nothing of these parts is read
    report = run_into(folder)
    assert (report.exit_code, report.units_done) == (0, 4)
    said = [line["unit"] for line in log_of(folder, report.run_id) if line["event"] == "damaged part put aside"]
    assert len(said) == len(set(said)) == 4, "found by the workers that assembled the two layers"
    after = parts(folder)
    assert [name for name in before if before[name] != after[name]] == [p.name for p in (a, b, c, d)]
    sound(folder)
    equal(folder, clean)


def test_damaged_or_missing_shards_are_built_again(run_into: Runner, clean: Path, tmp_path: Path):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    before = parts(folder)
    shards = [path for path in sorted(folder.rglob("train-*.parquet")) if "runs" not in path.parts]
    models, first, second, sites = shards
    good = {path: path.read_bytes() for path in shards if path != models}
    said = Atlas(str(folder)).models()
    for path in (models, first, sites):
        path.write_bytes(path.read_bytes()[:-20])
    second.unlink()
    report = run_into(folder)
    assert (report.exit_code, report.units_done, report.units_reused) == (0, 0, UNITS)
    assembled = [line["unit"] for line in log_of(folder, report.run_id) if line["event"] == "assembled"]
    assert sorted(assembled) == [f"assemble neurons/zoo-vit--random layer {layer}" for layer in (0, 1)], "by workers"
    assert {path: path.read_bytes() for path in good} == good
    assert timeless(Atlas(str(folder)).models()) == timeless(said)
    assert parts(folder) == before
    sound(folder)


def test_a_worker_lost_while_it_assembles_costs_a_worker_and_nothing_else(
    run_into: Runner, clean: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    good = {path: path.read_bytes() for path in folder.glob("neurons/*/*.parquet")}
    for path in good:
        path.unlink()
    report = run_into(folder, "step@assemble neurons/*layer 0#1=kill;after_commit@assemble neurons/*layer 1#1=kill")
    assert (report.exit_code, report.workers_lost, report.units_done) == (0, 2, 0)
    assert {path: path.read_bytes() for path in good} == good
    sound(folder)


@pytest.mark.slow
def test_shards_that_cannot_be_assembled_are_named_and_units_are_not_blamed(
    run_into: Runner, clean: Path, tmp_path: Path
):
    folder = tmp_path / "atlas"
    report = run_into(folder, "start@assemble neurons/*layer 1=raise!", retries=1)
    assert (report.status, report.exit_code, report.units_failed, report.units_done) == ("failed", 1, 0, UNITS)
    assert report.missing == ["neurons/zoo-vit--random layer 1 (assemble)"]
    assert not list(folder.glob(".atlas/failed/**/*.json"))
    assert run_into(folder).exit_code == 0, "the next run writes them"
    equal(folder, clean)


@pytest.mark.slow
def test_a_wider_selection_adds_to_the_atlas(run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    run_into(folder, units="16:48", workers=1)
    report = run_into(folder)
    assert (report.exit_code, report.units_done) == (0, UNITS - 4)
    sound(folder)
    equal(folder, clean)


def test_a_narrower_selection_takes_nothing_away(run_into: Runner, clean: Path, tmp_path: Path):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    report = run_into(folder, layers="0", units="0:8")
    assert (report.exit_code, report.units_done) == (0, 0)
    sound(folder)
    equal(folder, clean)


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({"seed": 7}, "seed (found 0", "expected 7"),
        ({"recipe": "reference"}, "recipe (found tiny", "expected reference"),
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
    run_into(folder, layers="0", units="0:2", name="mine", workers=1)
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


def test_a_file_where_the_atlas_should_be_is_refused(run_into: Runner, tmp_path: Path):
    (tmp_path / "atlas").write_text("x")
    with pytest.raises(BadConfig, match="this is a file"):
        run_into(tmp_path / "atlas")


def test_memory_is_refused_as_workers_would_not_see_it(run_into: Runner):
    with pytest.raises(BadConfig, match="a memory store lives in one process"):
        run_into(Path("x"), out="memory://atlas")


@pytest.mark.slow
def test_a_failure_is_forgotten_when_another_cut_does_its_neurons(run_into: Runner, clean: Path, tmp_path: Path):
    """The record names units 0 to 15; the next run has one worker and cuts the layer otherwise."""
    folder = tmp_path / "atlas"
    assert run_into(folder, f"start@{FIRST}=raise!", retries=0).exit_code == 1
    assert len(list(folder.glob(".atlas/failed/**/*.json"))) == 1
    assert run_into(folder, unit_seconds=10.0, workers=1).exit_code == 0
    assert not list(folder.glob(".atlas/failed/**/*.json"))
    equal(folder, clean)


def test_an_unreadable_failure_record_stops_nobody(run_into: Runner, clean: Path, tmp_path: Path):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    record = folder / ".atlas/failed/visualize/zoo-vit--random/layer-00000-000000-000016-0123456789abcdef.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"name": "cut o')
    from jobs.status import status_of

    assert "cannot be read" in status_of(Store(str(folder)))["failed"][0]["error"]
    assert run_into(folder).exit_code == 0
    assert not record.exists()


def test_a_first_rerun_changes_no_table(run_into: Runner, clean: Path, tmp_path: Path):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("train-*.parquet")}
    assert run_into(folder).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_with_nothing_to_do_reads_no_part_and_writes_its_own_record_alone(
    run_into: Runner, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    assert run_into(folder).exit_code == 0, "it remembers what the card says of the shards"
    before = snapshot(folder)
    asked: list[tuple[str, str]] = []

    def heard(name: str) -> None:
        call = getattr(Store, name)

        def told(self: Store, path: str, *rest: object) -> object:
            asked.append((name, path))
            return call(self, path, *rest)

        monkeypatch.setattr(Store, name, told)

    for name in ("read", "read_range", "open", "create", "replace", "delete"):
        heard(name)
    report = run_into(folder)
    assert (report.exit_code, report.units_done, report.units_reused) == (0, 0, UNITS)
    assert not [path for name, path in asked if ".atlas/parts" in path], "no part is looked into"
    assert {name for name, path in asked if path.startswith("neurons/")} == {"read_range"}, "of shards their tails"
    written = {path for name, path in asked if name in ("create", "replace", "delete")}
    assert {path.partition("/")[0] for path in written - {".atlas/lock.json"}} == {"runs"}
    after = snapshot(folder)
    changed = {path for path in after if before.get(path) != after[path]}
    own = {f"runs/{report.run_id}/train-00000-of-00001.parquet", f".atlas/logs/{report.run_id}.jsonl"}
    assert changed == own
    assert before.keys() <= after.keys()


def test_an_atlas_of_another_layout_is_refused_by_name(
    run_into: Runner, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    before = snapshot(folder)
    monkeypatch.setattr("atlas_schema.parquet.SCHEMA_VERSION", "1.0.0")  # this code; the atlas is of a newer one
    written = re.escape(SCHEMA_VERSION)
    with pytest.raises(ForeignAtlas, match=rf"schema.*{written}"):
        run_into(folder)
    with pytest.raises(ForeignAtlas, match=rf"schema version {written}; this code reads"):
        Atlas(str(folder)).models()
    assert snapshot(folder) == before


def test_a_run_is_done_when_everything_is_written(
    run_into: Runner, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The card is written while the run's row still says running; where that fails, the row never says done."""
    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    seen: list[str] = []

    def fail(store: Store) -> None:
        seen.append(Atlas(store).runs()[-1]["status"])
        raise StoreFailed("the card cannot be written")

    monkeypatch.setattr("jobs.driver.write_card", fail)
    report = run_into(folder)
    assert seen == ["running"]
    assert (report.status, report.exit_code) == ("failed", 1)
    assert Atlas(str(folder)).runs()[-1]["status"] == "failed"
