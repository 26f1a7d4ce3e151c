"""After `clean`, with parts or without, every kind of run goes on from the shards, and gives what it always gave."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.parts import PARTS
from atlas_schema.quarantine import QUARANTINE
from atlas_schema.store import Store
from atlas_schema.validate import Depth, check
from jobs.cleaning import decide
from jobs.cli import call
from jobs.config import load_config
from jobs.driver import run as carry_out
from tests.jobs.conftest import Runner, committed, evidence
from tests.jobs.tiny import EVIDENCE, OPTIONS

pytestmark = pytest.mark.timeout(900)

ALL: dict[str, Any] = {**EVIDENCE, "models": ["zoo/vit"], "probe": "zoo:64", "panel": 64, "units": "0:8", "workers": 1}


def made(folder: Path, **options: Any) -> Path:
    config = load_config(None, {**OPTIONS, **ALL, **options, "out": str(folder)})
    assert carry_out(config, command="test", say=lambda text: None).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def one(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is said of 8 neurons of one model, counterparts in itself too."""
    return made(tmp_path_factory.mktemp("one") / "atlas")


@pytest.fixture(params=["--parts", pytest.param(None, marks=pytest.mark.slow)], ids=["with parts", "without"])
def cleaned(one: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The same, cleaned."""
    return clean(Path(shutil.copytree(one, tmp_path / "atlas")), request.param)


def clean(folder: Path, *flags: str | None) -> Path:
    assert call(["clean", str(folder), "--yes", *filter(None, flags)]) == 0
    return folder


def tables(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("train-*.parquet")
        if path.relative_to(folder).parts[0] not in ("runs", "models")
    }


def done_since(folder: Path, before: list[str]) -> list[str]:
    now = committed(folder)
    assert now[: len(before)] == before
    return now[len(before) :]


def sound(folder: Path) -> None:
    assert check(Store(str(folder)), Depth.DEEP).violations == []


def test_the_same_command_again_does_nothing(run_into: Runner, cleaned: Path):
    sound(cleaned)
    before = tables(cleaned)
    report = run_into(cleaned, **ALL)
    assert (report.exit_code, report.units_done, report.missing) == (0, 0, [])
    assert tables(cleaned) == before
    assert decide(Store(str(cleaned))).removals == ()


@pytest.mark.slow
def test_another_layer_makes_the_sums_again_and_no_row_of_the_first(run_into: Runner, cleaned: Path, tmp_path: Path):
    before, log = tables(cleaned), committed(cleaned)
    assert run_into(cleaned, **{**ALL, "layers": "0,1"}).exit_code == 0
    done = done_since(cleaned, log)
    assert {unit.partition(" ")[0] for unit in done} >= {"probe", "texts", "writes", "evidence", "label"}
    assert [unit for unit in done if "/mlp/0 " in unit] == []
    assert [unit for unit in done if unit.startswith("pairs")] == [], "of all layers, committed before"
    first = {path: data for path, data in before.items() if "train-00000" in path and "sites" not in path}
    assert {path: data for path, data in tables(cleaned).items() if path in first} == first
    sound(cleaned)
    assert evidence(cleaned) == evidence(made(tmp_path / "fresh", layers="0,1"))


@pytest.mark.slow
def test_another_model_is_compared_with_the_first(run_into: Runner, cleaned: Path, tmp_path: Path):
    log, both = committed(cleaned), ["zoo/vit", "zoo/swin"]
    assert run_into(cleaned, **{**ALL, "models": both}).exit_code == 0
    own = [unit for unit in done_since(cleaned, log) if " zoo-vit" in unit]
    assert {unit.partition(" ")[0] for unit in own} <= {"pairs"}
    sound(cleaned)
    assert evidence(cleaned) == evidence(made(tmp_path / "fresh", models=both))


@pytest.mark.parametrize("flag", ["--parts", pytest.param(None, marks=pytest.mark.slow)])
def test_another_stage_reads_pictures_from_the_shards(run_into: Runner, one: Path, tmp_path: Path, flag: str | None):
    folder = clean(made(tmp_path / "atlas", stages="visualize"), flag)
    log = committed(folder)
    assert run_into(folder, **ALL).exit_code == 0
    assert not [unit for unit in done_since(folder, log) if unit.startswith("visualize")]
    assert evidence(folder) == evidence(one)
    sound(folder)


def test_more_neurons_of_a_layer_join_those_that_only_the_shard_holds(run_into: Runner, cleaned: Path, tmp_path: Path):
    log = committed(cleaned)
    assert run_into(cleaned, **{**ALL, "units": "0:12", "stages": "visualize,probe"}).exit_code == 0
    pictures = [unit for unit in done_since(cleaned, log) if unit.startswith(("visualize", "examples"))]
    assert {unit.partition(" ")[2] for unit in pictures} == {"zoo-vit/mlp/0 units 8 to 11"}
    sound(cleaned)


@pytest.mark.parametrize("harm", [pytest.param("damaged", marks=pytest.mark.slow), "gone"])
def test_a_shard_that_is_lost_after_its_parts_were_cleaned_away_is_made_again(
    run_into: Runner, one: Path, tmp_path: Path, harm: str
):
    folder = clean(Path(shutil.copytree(one, tmp_path / "atlas")), "--parts")
    (shard,) = folder.glob("neurons/**/*.parquet")
    good = shard.read_bytes()
    bad = good[:-30]
    shard.write_bytes(bad)
    if harm == "gone":
        shard.unlink()
    records = [str(path.relative_to(folder)) for path in (folder / PARTS).rglob("*.json")]
    faults = {fault.path for fault in check(Store(str(folder)), Depth.DEEP).violations}
    assert {path for path in records if "/examples/" not in path} <= faults, "their rows are nowhere"
    report = run_into(folder, **ALL)
    assert report.exit_code == 0
    assert evidence(folder) == evidence(one)
    kept = [path.read_bytes() for path in (folder / QUARANTINE).rglob("train-*")]
    assert kept == ([bad] if harm == "damaged" else []), "what was there is kept"
    sound(folder)
    clean(folder)
    assert not [path for path in (folder / QUARANTINE).rglob("*") if path.is_file()], "until its successor stands"


def test_a_lost_shard_is_not_replaced_by_less_while_it_cannot_be_made_again(
    run_into: Runner, one: Path, tmp_path: Path
):
    """One stage fails for good: the bytes of the shard that held its rows stay, and the run says what is missing."""
    folder = clean(Path(shutil.copytree(one, tmp_path / "atlas")), "--parts")
    (shard,) = folder.glob("neurons/**/*.parquet")
    bad = shard.read_bytes()[:-30]
    shard.write_bytes(bad)
    report = run_into(folder, "start@visualize*=raise!", retries=0, **ALL)
    assert report.exit_code == 1
    assert "zoo-vit/mlp/0 units 0 to 7" in report.missing
    assert bad in [path.read_bytes() for path in (folder / QUARANTINE).rglob("train-*")]
    clean(folder)
    assert bad in [path.read_bytes() for path in (folder / QUARANTINE).rglob("train-*")], "nothing replaces it yet"
    assert run_into(folder, **ALL).exit_code == 0
    assert evidence(folder) == evidence(one)
