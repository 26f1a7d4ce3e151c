"""Several drivers of one atlas, each its share of the models: dealt out for good, never in each other's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.errors import AtlasLocked, BadConfig
from atlas_schema.parquet import decode
from atlas_schema.read import Atlas
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import RUNS
from atlas_schema.validate import Depth, check
from jobs.config import config_from_mapping
from jobs.lock import LOCK_PATH, living, lock_path, locked
from jobs.prepare import expand
from jobs.records import RunRow, close_dead_runs
from jobs.status import status_of
from tests.atlas_schema.conftest import FaultyS3
from tests.atlas_schema.made_atlas import make_atlas
from tests.jobs.tiny import flags

REPO = Path(__file__).resolve().parents[2]
SHARED: dict[str, Any] = {
    "models": ["zoo/vit", "zoo/deit"],
    "random_weights": None,
    "layers": "0",
    "units": "0:16",
    "probe": "zoo:64",
    "panel": 64,
    "match_images": 16,
    "stages": "visualize,probe,match",
    "workers": 1,
    "unit_seconds": 60.0,
}


def models_of(names: list[str], shard: str | None) -> list[str]:
    return [entry.model for entry in expand(config_from_mapping({"models": names, "shard": shard})).models]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_model_is_dealt_to_one_driver(count: int):
    given = models_of(["zoo/*"], None)
    shares = [models_of(["zoo/*"], f"{place}/{count}") for place in range(1, count + 1)]
    assert sorted(name for own in shares for name in own) == sorted(given)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    backwards = [models_of(given[::-1], f"{place}/{count}") for place in range(1, count + 1)]
    assert list(map(sorted, backwards)) == list(map(sorted, shares)), "whatever the order they are named in"


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3"])
def test_what_is_no_share_is_named(shard: str):
    with pytest.raises(BadConfig, match="is no share; give I/N"):
        config_from_mapping({"models": ["zoo/vit"], "shard": shard})


def test_more_drivers_than_models_is_told():
    with pytest.raises(BadConfig, match="2 models are dealt out, and none is left"):
        models_of(["zoo/vit", "zoo/pit"], "3/3")


def test_drivers_of_other_shares_hold_their_locks_side_by_side(tmp_path: Path):
    store = Store(tmp_path)
    with locked(store, "one", shard="1/2"), locked(store, "two", shard="2/2"):
        assert {holder.run_id for holder in living(store)} == {"one", "two"}
        for shard in ("1/2", "1/3", None):  # the same share, another deal, and a run of all models
            with (
                pytest.raises(AtlasLocked, match=r"(one|two) .*is writing to this atlas"),
                locked(store, "three", shard=shard),
            ):
                pass
            assert {holder.run_id for holder in living(store)} == {"one", "two"}, "a refused driver leaves no lock"
    assert living(store) == []
    with locked(store, "all"), pytest.raises(AtlasLocked, match=r"all .*is writing"), locked(store, "one", shard="1/2"):
        pass
    assert not store.exists(lock_path("1/2"))
    assert not store.exists(LOCK_PATH)


def test_the_lock_of_a_dead_driver_is_in_nobodys_way(tmp_path: Path):
    store = Store(tmp_path)
    with locked(store, "dead", shard="2/3") as lock:
        dead = lock.me.to_bytes().replace(b'"pid": ', b'"pid": 99')
    store.replace(lock_path("2/3"), dead)
    with locked(store, "next"):
        assert not store.exists(lock_path("2/3"))


def test_a_driver_does_not_close_the_run_of_another_that_lives(tmp_path: Path):
    store = make_atlas(Store(tmp_path / "atlas"), widths=(8,), size=8, stages=("visualize",))
    for name in ("lives", "died"):
        RunRow(name, "neuron-atlas run", "{}", "{}").write(store)
    with locked(store, "lives", shard="1/2"):
        close_dead_runs(store, {holder.run_id for holder in living(store)})
        assert status_of(store)["running"]["run_id"] == "lives"
    told = {row["run_id"]: row["status"] for row in Atlas(store).runs()}
    assert (told["lives"], told["died"]) == ("running", "interrupted")


@pytest.fixture
def s3() -> Iterator[FaultyS3]:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = FaultyS3()
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        yield server


def tables(store: Store) -> dict[str, Any]:
    """Rows of every shard but those of runs, without what a clock wrote."""
    found = {}
    for path in store.list():
        place = parse_shard_path(path)
        if place and place[0] != RUNS.name:
            rows = decode(store.read(path), path)[0]
            found[path] = [
                {name: value for name, value in row.items() if name not in ("seconds", "stages")}
                for row in rows.to_pylist()
            ]
    return found


def driver(out: str, **options: Any) -> subprocess.Popen[str]:
    """A run of the command line in a process of its own."""
    words = flags(**{**SHARED, "out": out, **options})
    code = "import tests.jobs.tiny; from jobs.cli import main; main()"
    variables = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.Popen(
        [sys.executable, "-c", code, "run", "--json", *words],
        cwd=REPO,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=800)
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    return report


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_drivers_on_one_s3_store_leave_what_one_would(s3: FaultyS3):
    """Both at once, then one for counterparts between their models: rows, runs, a valid atlas, no lock left."""
    shared, alone = f"s3://{s3.new_bucket()}/atlas", f"s3://{s3.new_bucket()}/atlas"
    for process in [driver(shared, shard=shard) for shard in ("1/2", "2/2")]:
        assert report_of(process)["missing"] == []
    assert [row["status"] for row in Atlas(shared).runs()] == ["done", "done"]
    card = Store(shared).read("README.md").decode()
    assert "zoo-vit" in card
    assert "zoo-deit" in card, "whoever ends last makes the card of both"
    assert report_of(driver(shared))["units_done"] == 1, "the counterparts of the two"
    report_of(driver(alone))
    assert tables(Store(shared)) == tables(Store(alone))
    assert list(check(Store(shared), Depth.DEEP).violations) == []
    assert Store(shared).list(".atlas/locks") == []
