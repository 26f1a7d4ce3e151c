"""What a run leaves beside the data: its row in `runs`, a log of JSON lines, a record per unit given up."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import decode
from atlas_schema.parts import is_committed
from atlas_schema.quarantine import put_aside
from atlas_schema.shards import parse_shard_path, write_rows
from atlas_schema.store import Store, folder_of
from atlas_schema.tables import RUNS
from atlas_schema.units import WorkUnit, unit_of
from jobs.loop import Fault
from jobs.version import code_version

FAILED = ".atlas/failed"
LOGS = ".atlas/logs"
UPLOAD_SECONDS = 60.0


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def new_run_id() -> str:
    """Sorts by time, and no two runs share one."""
    return f"{now():%Y%m%dt%H%M%Sz}-{secrets.token_hex(3)}"


@dataclass
class RunRow:
    """The run's row of the `runs` table; `write` at the start, and again at the end."""

    run_id: str
    command: str
    config: str
    machine: str
    started: datetime.datetime = field(default_factory=now)
    finished: datetime.datetime | None = None
    status: str = "running"
    units_done: int = 0
    units_failed: int = 0
    units_reused: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    code_version: str = field(default_factory=code_version)

    def write(self, store: Store) -> None:
        write_rows(store, RUNS, self.run_id, [asdict(self)], provenance={"code_version": self.code_version})


def close_dead_runs(store: Store, alive: Collection[str] = ()) -> list[str]:
    """Rows that say `running` while this process holds the lock belong to runs that were killed; alive: to others.

    A damaged row is put aside: nothing can write it again, and the table must be readable. Gives where these lay.
    """
    damaged = []
    for path in store.list(RUNS.name):
        if parse_shard_path(path) is None:
            continue
        row = _run_row(store, path)
        if row is None:
            put_aside(store, path)
            damaged.append(path)
        elif row["status"] == "running" and row["run_id"] not in alive:
            closed = [dict(row) | {"status": "interrupted"}]
            write_rows(store, RUNS, row["run_id"], closed, provenance={"code_version": row["code_version"]})
    return damaged


def _run_row(store: Store, path: str) -> Mapping[str, Any] | None:
    """The row of a run; None where it is damaged, when read a second time too."""
    for _ in range(2):
        try:
            (row,) = decode(store.read(path), path)[0].to_pylist()
        except (ShardCorrupt, ValueError):
            continue
        found: Mapping[str, Any] = row
        return found
    return None


def failed_path(unit: WorkUnit) -> str:
    """Where the record of a unit lies that was given up."""
    return f"{FAILED}/{unit.stage}/{unit.slug}/{unit.cut.name}-{unit.key}.json"


def record_failure(store: Store, unit: WorkUnit, fault: Fault, run_id: str) -> None:
    """Write that a unit was given up, and why."""
    record = {
        "name": str(unit),
        "error": str(fault),
        "trace": fault.trace,
        "run_id": run_id,
        "time": now().isoformat(timespec="seconds"),
        "unit": unit.metadata(),
    }
    store.replace(failed_path(unit), json.dumps(record, indent=1).encode())


def failures(store: Store) -> Iterator[Mapping[str, Any]]:
    """Records of units given up and not done since, as earlier runs left them; one that cannot be read says so."""
    for path in store.list(FAILED):
        try:
            record = json.loads(store.read(path))
            yield {"name": record["name"], "error": record["error"], "run_id": record["run_id"], "unit": record["unit"]}
        except (ValueError, KeyError, TypeError):
            yield {"name": path, "error": "this record cannot be read", "run_id": "", "unit": {}}


def forget_failures(store: Store, covers: Callable[[WorkUnit], bool]) -> None:
    """Remove the records of units that were done after all, in this cut or another, and those that nobody can read."""
    for path in store.list(FAILED):
        try:
            unit = unit_of(json.loads(store.read(path))["unit"])
        except (ValueError, KeyError, TypeError):
            store.delete(path)
            continue
        if covers(unit) or is_committed(store, unit):
            store.delete(path)


class RunLog:
    """`.atlas/logs/{run_id}.jsonl`: one JSON object a line with time, event and the unit's name.

    A folder gets each line at once; an object store, which cannot append, the whole file once a minute.
    """

    def __init__(self, store: Store, run_id: str):
        self.store, self.path = store, f"{LOGS}/{run_id}.jsonl"
        self.file = _appending(store, self.path)
        self.lines: list[str] = []
        self.written = time.monotonic()

    def __call__(self, event: str, **facts: Any) -> None:
        line = json.dumps({"time": now().isoformat(timespec="milliseconds"), "event": event, **facts}, default=str)
        if self.file is not None:
            with contextlib.suppress(OSError):  # a full disk ends the run where it cannot commit, not where it says so
                self.file.write(line + "\n")
            return
        self.lines.append(line)
        if time.monotonic() - self.written >= UPLOAD_SECONDS:
            self._upload()

    def _upload(self) -> None:
        self.written = time.monotonic()
        if self.lines:
            self.store.replace(self.path, ("\n".join(self.lines) + "\n").encode())

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
        else:
            self._upload()


def _appending(store: Store, path: str) -> IO[str] | None:
    folder = local_folder(store)
    if folder is None:
        return None
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    return open(folder / path, "a", encoding="utf-8", buffering=1)


def local_folder(store: Store) -> Path | None:
    """The store's folder, None where it is an object store."""
    return folder_of(store.url)


class Overheard(io.TextIOBase):
    """A stream that writes what a library prints into the log: standard output is for our own results."""

    def __init__(self, log: RunLog):
        self.log = log

    def write(self, text: str) -> int:
        if text.strip():
            self.log("printed", text=text.strip())
        return len(text)
