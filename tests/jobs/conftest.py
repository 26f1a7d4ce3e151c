"""One Ray for all tests of a process; atlases to run into and to compare."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from atlas_schema.read import Atlas
from atlas_schema.tables import NEURONS
from jobs.config import load_config
from jobs.driver import run as carry_out
from jobs.plan import Machine
from jobs.report import RunReport
from tests.jobs.tiny import EVIDENCE, OPTIONS


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray with two CPU workers' room, started once; runs in this process use it."""
    os.environ.setdefault("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0")
    from jobs.ray_run import ray_session

    with ray_session(None, Machine("cpu", 2, 1)):
        yield


Runner = Callable[..., RunReport]


@pytest.fixture
def run_into(ray_here: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    """run_into(folder, failpoints="", **options): one run in this process."""

    def run(folder: Path, failpoints: str = "", **options: Any) -> RunReport:
        marks = tmp_path / "marks"
        marks.mkdir(exist_ok=True)
        monkeypatch.setenv("ATLAS_FAILPOINT_MARKS", str(marks))
        monkeypatch.setenv("ATLAS_FAILPOINTS", failpoints)
        config = load_config(None, {**OPTIONS, "out": str(folder), **options})
        return carry_out(config, command="test", say=lambda text: None)

    return run


@pytest.fixture(scope="session")
def clean(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that an undisturbed run made."""
    folder = tmp_path_factory.mktemp("clean") / "atlas"
    report = carry_out(load_config(None, {**OPTIONS, "out": str(folder)}), command="test", say=lambda text: None)
    assert report.exit_code == 0
    return folder


def neurons(folder: Path) -> pa.Table:
    """All neurons of all models, pictures included, without the columns that depend on the clock."""
    atlas = Atlas(str(folder))
    stable = [column.name for column in NEURONS.columns if not column.volatile]
    tables = [
        atlas.neurons(row["slug"], layer, stable) for row in atlas.models() for layer in atlas.layers(row["slug"])
    ]
    return pa.concat_tables([table for table in tables if table is not None]).replace_schema_metadata(None)


@pytest.fixture(scope="session")
def clean_evidence(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas that an undisturbed run of all stages made."""
    folder = tmp_path_factory.mktemp("clean") / "evidence"
    config = load_config(None, {**OPTIONS, **EVIDENCE, "out": str(folder)})
    assert carry_out(config, command="test", say=lambda text: None).exit_code == 0
    return folder


def evidence(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of all tables that stages fill, pictures included, without what depends on the clock."""
    atlas = Atlas(str(folder))
    found: dict[str, list[dict[str, Any]]] = {"neurons": neurons(folder).to_pylist()}
    for name, read in (("examples", atlas.examples), ("matches", atlas.matches)):
        tables = [read(row["slug"], layer) for row in atlas.models() for layer in atlas.layers(row["slug"])]
        found[name] = [row for table in tables if table is not None for row in table.to_pylist()]
    found["images"] = [row for probe_set in atlas.probe_sets() for row in atlas.probe_images(probe_set).to_pylist()]
    return found


def committed(folder: Path) -> list[str]:
    """The units that runs into a folder committed, as their logs tell it."""
    lines = [json.loads(line) for log in sorted(folder.glob(".atlas/logs/*.jsonl")) for line in log.open()]
    return [line["unit"] for line in lines if line["event"] == "committed" and not line["adopted"]]


def parts(folder: Path) -> dict[str, tuple[int, str]]:
    """Part name -> (time of its last change in ns, digest)."""
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.glob(".atlas/parts/**/*.parquet"))
    }


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
