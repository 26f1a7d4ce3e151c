"""The log of a run: in a folder one file, on an object store files that are each written once; read back in order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobs.run_log
from atlas_schema.errors import NothingThere
from atlas_schema.store import Store
from jobs.cli import call
from jobs.run_log import LOGS, SEGMENT_CHARACTERS, SEGMENT_SECONDS, RunLog, logged_runs, read_log
from tests.atlas_schema.conftest import FaultyS3


class Counting(Store):
    """A store that remembers every write, and allows none over a file that is there."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.written: dict[str, int] = {}

    def create(self, path: str, data: bytes) -> bool:
        assert path not in self.written, "each file is written once"
        self.written[path] = len(data)
        return super().create(path, data)

    def replace(self, path: str, data: bytes) -> None:
        raise AssertionError(f"{path} was written anew")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the log believes in: a list of one."""
    now = [0.0]
    monkeypatch.setattr(jobs.run_log.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(params=["memory", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URLs of empty object stores: fsspec's own, and a server that speaks S3."""
    if request.param == "memory":
        yield f"memory://{tmp_path.name}/atlas"
        return
    with pytest.MonkeyPatch.context() as environment:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = FaultyS3()
        environment.setenv("AWS_ENDPOINT_URL", server.url)
        yield f"s3://{server.new_bucket()}/atlas"


def numbers(store: Store, run: str) -> list[int]:
    return [line["number"] for line in read_log(store, run)]


def test_an_object_store_gets_a_file_a_minute_each_written_once(objects: str, clock: list[float]):
    store = Counting(objects)
    log = RunLog(store, "20260101t000000z-abc")
    for number in range(26):
        clock[0] = number * SEGMENT_SECONDS / 2
        log("tick", number=number)
    log.close()
    log.close()
    assert list(store.written) == [f"{LOGS}/20260101t000000z-abc/{number:05d}.jsonl" for number in range(13)]
    assert max(store.written.values()) <= 3 * min(store.written.values()), "no file holds what an earlier one does"
    assert numbers(Store(objects), "20260101t000000z-abc") == list(range(26))


def test_many_lines_at_once_are_a_file_before_the_minute_is_over(clock: list[float]):
    store = Counting("memory://many/atlas")
    log = RunLog(store, "run")
    for number in range(3):
        log("long", number=number, text="x" * (SEGMENT_CHARACTERS // 2))
    assert len(store.written) == 1, "the third line waits"
    log.close()
    assert numbers(store, "run") == [0, 1, 2]


def test_a_log_that_goes_on_after_its_own_files_takes_the_next_number(clock: list[float]):
    for number in (1, 2):
        log = RunLog(Store("memory://again/atlas"), "run")
        log("tick", number=number)
        log.close()
    assert numbers(Store("memory://again/atlas"), "run") == [1, 2]


def test_more_files_than_five_digits_have_are_in_order():
    store = Store("memory://digits/atlas")
    for number in (99_999, 100_000, 2):
        store.create(f"{LOGS}/run/{number:05d}.jsonl", json.dumps({"number": number}).encode())
    assert numbers(store, "run") == [2, 99_999, 100_000]


def test_logs_of_earlier_releases_and_ones_that_were_cut_off_are_read():
    """One growing file on an object store; and a last line whose writer was killed."""
    store = Store("memory://earlier/atlas")
    store.replace(f"{LOGS}/old.jsonl", b'{"number": 1}\n{"number": 2}\n{"numb')
    store.create(f"{LOGS}/new/00000.jsonl", b'{"number": 3}\n')
    assert logged_runs(store) == ["new", "old"]
    assert numbers(store, "old") == [1, 2]
    assert numbers(store, "new") == [3]


def test_a_folder_has_one_file_with_each_line_at_once(tmp_path: Path):
    log = RunLog(Store(tmp_path), "run")
    log("tick", number=1)
    assert numbers(Store(tmp_path), "run") == [1]
    log("tick", number=2)
    log.close()
    assert [path.name for path in (tmp_path / LOGS).iterdir()] == ["run.jsonl"]
    assert numbers(Store(tmp_path), "run") == [1, 2]


def test_status_prints_a_log_from_wherever_it_lies(capsys: pytest.CaptureFixture[str]):
    for run in ("20260101t000000z-a", "20260102t000000z-b"):
        log = RunLog(Store("memory://told/atlas"), run)
        log("start", run=run)
        log.close()
    for asked, run in (("last", "20260102t000000z-b"), ("20260101t000000z-a", "20260101t000000z-a")):
        assert call(["status", "memory://told/atlas", "--log", asked]) == 0
        assert json.loads(capsys.readouterr().out)["run"] == run
    with pytest.raises(NothingThere, match=r"no log of a run 20260102t000000z-c; nearest: 20260102t000000z-b"):
        list(read_log(Store("memory://told/atlas"), "20260102t000000z-c"))
    assert call(["status", "memory://nothing/atlas", "--log", "last"]) == 2
    assert "there are logs of no run" in capsys.readouterr().err
