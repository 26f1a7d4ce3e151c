"""Weights behind a URL, fetched once a node: its workers, and later runs, read the same file of this machine.

The file's name follows from the URL and from what the store says that changes with the bytes (size with an ETag, a
hash, a generation or a time), asked anew each time; a store that tells nothing of the kind is read each time. One
process fetches while the others wait for its lock. Nothing here can fail a run: where nothing can be kept, for want of
room or rights, the URL itself is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atlas_schema.published import cache_folder

FREE_SHARE = 0.5  # of what is free where the files lie, that one may take at most
_TELLS = ("ETag", "etag", "Content-MD5", "md5Hash", "md5", "blob_id", "generation", "LastModified", "Last-Modified")
_TELLS_TIME = ("last_modified", "mtime", "updated", "modified")


def folder() -> Path:
    """Where files are kept."""
    return cache_folder("weights")


def kept(files: Any, path: str, location: str) -> Path | None:
    """The file of this machine that holds what lies at an fsspec path, fetched unless it is there; None: read it there.

    location: the URL, which names it.
    """
    with contextlib.suppress(Exception):  # every store has errors of its own; who reads it there is told
        return _kept(files, path, location)
    return None


def _kept(files: Any, path: str, location: str) -> Path | None:
    files.invalidate_cache()
    told = files.info(path)
    stamp = stamp_of(told)
    if stamp is None:
        return None
    name = f"{_short(location)}-{_short(stamp)}{Path(path).suffix}"
    with _alone(folder() / f"{_short(location)}.lock") as here:
        found: Path = here / name
        if found.exists() and found.stat().st_size == told["size"]:
            return found
        if told["size"] > FREE_SHARE * shutil.disk_usage(here).free:
            return None
        unfinished = here / f".{name}.{secrets.token_hex(4)}.tmp"
        try:
            _fetch(files, path, unfinished)
            if unfinished.stat().st_size != told["size"]:  # it changed meanwhile
                return None
            os.replace(unfinished, found)
        finally:
            unfinished.unlink(missing_ok=True)
        _forget_others(here, found, location)
        return found


def stamp_of(told: Mapping[str, Any]) -> str | None:
    """What changes when a file's bytes do, as its store tells it; None where it does not."""
    marks = [f"{name}={told[name]}" for name in (*_TELLS, *_TELLS_TIME) if told.get(name)]
    size = told.get("size")
    return f"{size} {' '.join(marks)}" if marks and isinstance(size, int) else None


def _fetch(files: Any, path: str, to: Path) -> None:
    """Copy a file of a store to this disk, and make sure that it is there."""
    files.get_file(path, str(to))
    with open(to, "rb") as written:
        os.fsync(written.fileno())


def _forget_others(here: Path, found: Path, location: str) -> None:
    """Remove earlier contents of the same URL, and what killed processes left; who has one open goes on with it."""
    for other in (*here.glob(f"{_short(location)}-*"), *here.glob(f".{_short(location)}-*")):
        if other != found:
            other.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[Path]:
    """The folder, while no other process of this machine fetches the same URL."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield lock.parent
    finally:
        os.close(handle)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
