"""Decoded images kept on a node for the length of a run, so that each is decoded once, not once a stage and model.

One file for each way in which images are made ready (set, size, resampling): records of equal size, an image each;
and beside it a file of marks, a byte each. Processes of a node share the files. Who decoded an image writes its record,
then its mark; two who do it at once write the same bytes. Nothing here can fail a run: what cannot be kept, for want of
room or rights, is decoded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PREFIX = "atlas-pixels-"
MOST_BYTES = 16 << 30
DISK_SHARE = 0.25  # of what is free where the files lie, at most
_LOCK, _MARK = "lock", b"\1"


@dataclass(frozen=True)
class _Records:
    """The open files of one way of making images ready."""

    pixels: int  # file descriptors
    marks: int
    shape: tuple[int, ...]
    capacity: int  # images that have a place: the first ones of the set

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def read(self, index: int) -> np.ndarray | None:
        if os.pread(self.marks, 1, index) != _MARK:
            return None
        data = os.pread(self.pixels, self.size, index * self.size)
        return np.frombuffer(data, np.uint8).reshape(self.shape) if len(data) == self.size else None

    def write(self, index: int, image: np.ndarray) -> None:
        if os.pwrite(self.pixels, image.tobytes(), index * self.size) == self.size:  # less where the disk is full
            os.pwrite(self.marks, _MARK, index)


class PixelCache:
    """Images of a run, uint8, in a folder of this node that all its workers name alike.

    most: bytes that all files together may take. Workers hold a lock on the folder while they live; `sweep` removes
    what no worker holds.
    """

    def __init__(self, name: str, most: int = MOST_BYTES, parent: Path | None = None) -> None:
        self.folder = (parent or Path(tempfile.gettempdir())) / f"{PREFIX}{name}"
        self.most = most
        self._records: dict[str, _Records | None] = {}  # None: cannot be kept
        self._opening = threading.Lock()  # images are decoded by several threads
        self._held: int | None = None

    def image(
        self, way: str, count: int, index: int, shape: tuple[int, ...], decode: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """uint8 of `shape`: image `index` of a set of `count`, as it was kept, else as `decode` gives it.

        way: names the set and all that decides its pixels; letters that file names may have.
        """
        records = self._open(way, count, shape)
        if records is None or index >= records.capacity:
            return decode()
        with contextlib.suppress(OSError):
            kept = records.read(index)
            if kept is not None:
                return kept
        image = decode()
        with contextlib.suppress(OSError):
            records.write(index, image)
        return image

    def _open(self, way: str, count: int, shape: tuple[int, ...]) -> _Records | None:
        with self._opening:
            if way not in self._records:
                self._records[way] = None
                with contextlib.suppress(OSError):
                    self._records[way] = self._opened(way, count, shape)
            return self._records[way]

    def _opened(self, way: str, count: int, shape: tuple[int, ...]) -> _Records:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if self.folder.is_symlink() or self.folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.folder} is somebody else's")
        if self._held is None:
            self._held = _opened_file(self.folder / _LOCK)
            fcntl.flock(self._held, fcntl.LOCK_SH)
        pixels, marks = _opened_file(self.folder / f"{way}.pixels"), _opened_file(self.folder / f"{way}.marks")
        fcntl.flock(pixels, fcntl.LOCK_EX)  # one process says how many images have a place
        try:
            size = int(np.prod(shape))
            if not os.fstat(pixels).st_size:
                # the file is sparse, so that what it will take at most can be told from its length
                os.ftruncate(pixels, max(1, size * min(count, self._room() // size)))
            return _Records(pixels, marks, shape, os.fstat(pixels).st_size // size)
        finally:
            fcntl.flock(pixels, fcntl.LOCK_UN)

    def _room(self) -> int:
        taken = sum(path.stat().st_size for path in self.folder.glob("*.pixels"))
        return max(0, min(self.most - taken, int(DISK_SHARE * shutil.disk_usage(self.folder).free)))

    def remove(self) -> None:
        """Delete all files; processes that have them open go on with what they have."""
        shutil.rmtree(self.folder, ignore_errors=True)


def sweep(parent: Path | None = None, keep: str = "") -> None:
    """Remove the folders of runs that were killed: those whose lock no process holds. keep: the name of a cache that
    stays, as its run goes on though no worker of it is on this node.
    """
    for folder in (parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}*"):
        if folder.name == f"{PREFIX}{keep}":
            continue
        with contextlib.suppress(OSError), _alone(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """OSError where a process holds the folder's lock, or there is none."""
    lock = os.open(folder / _LOCK, os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _opened_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
