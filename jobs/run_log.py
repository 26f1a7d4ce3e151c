"""The log of a run: JSON lines of what happened, appended; in a folder one file, on an object store one file a minute.

| store | where |
| --- | --- |
| a folder | `.atlas/logs/RUN.jsonl`, each line at once |
| an object store, which cannot append | `.atlas/logs/RUN/00000.jsonl`, `00001.jsonl`, ...: each written once |

Earlier releases wrote one growing file to object stores too; `read_log` reads whatever is there.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import time
from collections.abc import Iterator
from typing import IO, Any

from atlas_schema.errors import NothingThere, nearest
from atlas_schema.store import Store, folder_of

LOGS = ".atlas/logs"
SEGMENT_SECONDS = 60.0  # lines wait no longer than that for their file
SEGMENT_CHARACTERS = 1 << 20  # ... and no more of them


class RunLog:
    """One JSON object a line with time, event and the unit's name.

    A process that is killed loses, on an object store, the lines since the last file: at most a minute's.
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.file = _appending(store, run_id)
        self._lines: list[str] = []
        self._waiting = 0  # characters
        self._segment = 0
        self._written = time.monotonic()

    def __call__(self, event: str, **facts: Any) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **facts}, default=str) + "\n"
        if self.file is not None:
            with contextlib.suppress(OSError):  # a full disk ends the run where it cannot commit, not where it says so
                self.file.write(line)
            return
        self._lines.append(line)
        self._waiting += len(line)
        if time.monotonic() - self._written >= SEGMENT_SECONDS or self._waiting >= SEGMENT_CHARACTERS:
            self._write()

    def _write(self) -> None:
        """Put the waiting lines into a file of their own."""
        self._written = time.monotonic()
        if not self._lines:
            return
        data = "".join(self._lines).encode()
        while not self.store.create(_segment(self.run_id, self._segment), data):
            self._segment += 1
        self._segment += 1
        self._lines, self._waiting = [], 0

    def close(self) -> None:
        """Write what waits; nothing is logged after that."""
        if self.file is not None:
            self.file.close()
        else:
            self._write()


def _segment(run_id: str, number: int) -> str:
    return f"{LOGS}/{run_id}/{number:05d}.jsonl"


def _appending(store: Store, run_id: str) -> IO[str] | None:
    folder = folder_of(store.url)
    if folder is None:
        return None
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    return open(folder / LOGS / f"{run_id}.jsonl", "a", encoding="utf-8", buffering=1)


def logged_runs(store: Store) -> list[str]:
    """The runs whose log is there, the latest last."""
    inside = (path.removeprefix(f"{LOGS}/") for path in store.list(LOGS) if path.endswith(".jsonl"))
    return sorted({name.partition("/")[0].removesuffix(".jsonl") for name in inside})


def read_log(store: Store, run_id: str) -> Iterator[dict[str, Any]]:
    """The lines of a run's log in order, from however many files; a last one that was cut off is left out.

    NothingThere where the atlas has no log of that run.
    """
    files = [path for path in store.list(LOGS) if _of(path, run_id)]
    if not files:
        runs = logged_runs(store)
        close = nearest(run_id, runs, 1)
        known = f"nearest: {close[0]}" if close else f"there are logs of {', '.join(runs) or 'no run'}"
        raise NothingThere(f"{store.url}: no log of a run {run_id}; {known}.")
    for path in sorted(files, key=_number):
        for line in store.read(path).decode(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _of(path: str, run_id: str) -> bool:
    return path == f"{LOGS}/{run_id}.jsonl" or (path.startswith(f"{LOGS}/{run_id}/") and path.endswith(".jsonl"))


def _number(path: str) -> int:
    """-1 of a single file, which is older than segments."""
    name = path.rpartition("/")[2].removesuffix(".jsonl")
    return int(name) if name.isdigit() else -1


class Overheard(io.TextIOBase):
    """A stream that writes what a library prints into the log: standard output is for our own results."""

    def __init__(self, log: RunLog) -> None:
        self.log = log

    def write(self, text: str) -> int:
        if text.strip():
            self.log("printed", text=text.strip())
        return len(text)
