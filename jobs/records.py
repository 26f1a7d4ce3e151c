"""What a run leaves beside the data and its log: its row in `runs`, a record per unit given up."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import decode
from atlas_schema.parts import is_committed
from atlas_schema.quarantine import put_aside
from atlas_schema.shards import parse_shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import RUNS
from atlas_schema.units import WorkUnit, unit_of
from jobs.events import Fault
from jobs.version import code_version

FAILED = ".atlas/failed"


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
