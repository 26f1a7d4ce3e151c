"""The files of a folder or URL, and what in it cannot be one of them: links in circles, closed folders, odd names."""

import heapq
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atlas_schema.errors import BadConfig
from atlas_schema.store import Store, folder_of
from pipeline.images.entry import Remark, Skipped
from pipeline.images.naming import counted, is_hidden, is_image, is_text, printable, some


@dataclass(frozen=True)
class Listing:
    """Paths in a store, sorted, without hidden files; and what is not among them, and why."""

    files: tuple[str, ...]
    aside: Sequence[Skipped | Remark] = ()


def listing_of(store: Store) -> Listing:
    """All files of a store, however deep. BadConfig where its folder cannot be looked into at all.

    Links to folders are followed, each folder is listed once: under its own name where it lies in the store, else
    under the first link to it. A link to a folder above it, or above the store, is not followed.
    """
    folder = folder_of(store.url)
    if folder is None:
        return Listing(*_sound(path for path in store.list() if not is_hidden(path)))
    walk = _Walk(folder)
    walk.all()
    files, skipped = _sound(walk.files)
    return Listing(files, (*skipped, *walk.skipped, *walk.remarks()))


def _sound(paths: Iterable[str]) -> tuple[tuple[str, ...], list[Skipped]]:
    """The paths that a store can be asked for and a table can hold; the images among the others, skipped."""
    files, skipped = [], []
    for path in paths:
        if not is_text(path):
            reason = "its name is not UTF-8: rename it"
        elif ".." in path.split("/") or str(PurePosixPath(path)) != path or path.startswith("/"):
            reason = "its name is no plain path: rename it"
        else:
            files.append(path)
            continue
        if is_image(path):
            skipped.append(Skipped(printable(path), reason))
    return tuple(sorted(files)), skipped


class _Walk:
    """One look through a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.files: list[str] = []
        self.skipped: list[Skipped] = []
        self.links: list[tuple[str, str, str]] = []  # a heap of links to folders: path, real place, target
        self.seen: set[str] = set()  # real places of the folders that were listed
        self.closed: list[str] = []
        self.circular: list[str] = []
        self.again: list[str] = []
        self.nowhere: list[str] = []

    def all(self) -> None:
        """List the folder, then what links in it lead to: a folder of its own wins over a link to it."""
        real_root = os.path.realpath(self.root)
        self._tree("", real_root)
        while self.links:
            path, place, target = heapq.heappop(self.links)
            if _holds(target, place) or _holds(target, real_root):
                self.circular.append(path)
            elif target in self.seen:
                self.again.append(path)
            else:
                self._tree(path, target)

    def remarks(self) -> list[Remark]:
        """What is said of folders that were not listed."""
        told = (
            ("folder", "", self.closed, "may not be looked into, and what lies there is left out"),
            ("link", " to a folder", self.circular, "leads in a circle and is not followed"),
            ("link", " to a folder", self.again, "leads to what is in the set already and is not followed"),
            ("link", "", self.nowhere, "leads nowhere"),
        )
        return [
            Remark(f"{counted(len(names), what, rest)}: {said}: {some(sorted(map(printable, names)))}")
            for what, rest, names, said in told
            if names
        ]

    def _tree(self, top: str, real_top: str) -> None:
        waiting = [(top, real_top)]
        while waiting:
            path, place = waiting.pop()
            if place in self.seen:
                continue
            self.seen.add(place)
            for entry in self._entries(path):
                inside = f"{path}/{entry.name}" if path else entry.name
                if is_hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((inside, os.path.join(place, entry.name)))
                elif entry.is_file(follow_symlinks=False):  # known from the listing: nothing is asked of the disk
                    self.files.append(inside)
                else:
                    self._leaf(inside, os.path.join(place, entry.name))

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(os.path.join(self.root, path)) as entries:
                return list(entries)
        except OSError as error:
            if not path:
                raise BadConfig(
                    f"{self.root} may not be looked into: {error.strerror}. Expected a folder that can be read."
                ) from error
            self.closed.append(f"{path}/")
            return []

    def _leaf(self, path: str, place: str) -> None:
        """A link, or what only looks like a file."""
        try:
            mode = os.stat(place).st_mode
        except OSError as error:
            if is_image(path):
                self.skipped.append(Skipped(printable(path), f"a link that leads nowhere: {error.strerror}"))
            else:
                self.nowhere.append(path)
            return
        if stat.S_ISDIR(mode):
            heapq.heappush(self.links, (path, place, os.path.realpath(place)))
        elif stat.S_ISREG(mode):
            self.files.append(path)
        elif is_image(path):
            self.skipped.append(Skipped(printable(path), "not a file but a pipe, a socket or a device"))


def _holds(folder: str, place: str) -> bool:
    """Whether a place is a folder or lies in it; both real."""
    return place == folder or place.startswith(folder.rstrip("/") + "/")
