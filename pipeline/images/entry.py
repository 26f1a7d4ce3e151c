"""What a source says of one image before it is read, and what a source is."""

import errno
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from atlas_schema.errors import BadImage, StoreFailed
from atlas_schema.store import Store
from pipeline.images.decoding import decoded
from pipeline.images.naming import decoded_text

_OF_THE_FILE = {errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO}
"""What the system says of one file; any other refusal is the store's, and ends the command."""

FIELDS = {
    "label": ("label", "class", "cls"),
    "caption": ("caption", "text", "txt"),
    "licence": ("licence", "license"),
    "source": ("source", "url"),
}
"""What is known of an image, and the columns it is taken from: the first that is there and not empty."""


@dataclass(frozen=True)
class Entry:
    """One image of a source. `locator` is what the source needs to read it again."""

    id: str
    locator: Any
    label: str = ""
    caption: str = ""
    licence: str = ""
    source: str = ""
    attributes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Skipped:
    """An image that is not in the set, and why, in plain words."""

    id: str
    reason: str


@dataclass(frozen=True)
class Remark:
    """What a user should know of a set as a whole: what was left out, or not understood, and why."""

    text: str


class Source(ABC):
    """Where images lie. Small and picklable: workers read images through a copy."""

    threads = 8
    """Images to fetch at a time: files wait for the disk or the network, and Pillow releases the GIL."""

    @abstractmethod
    def entries(self) -> Iterator[Entry | Skipped | Remark]:
        """All images, unread; those of which it is plain already that they cannot be read, as Skipped; remarks.

        NothingThere or BadConfig where the source itself is not what its name says.
        """

    @property
    def place(self) -> tuple[str, ...]:
        """What tells this source from others on this machine."""
        return (type(self).__name__,)

    def stamps(self, entries: Sequence[Entry]) -> list[str]:
        """For each entry what changes when the bytes of its image do, from a listing; "" where nothing tells."""
        return [""] * len(entries)

    @abstractmethod
    def read(self, locator: Any) -> bytes:
        """The bytes of one image file. FileNotFoundError or StoreFailed."""

    def fetch(self, locator: Any) -> tuple[Image.Image, str]:
        """One image, RGB, and the SHA-256 of its bytes. BadImage, with the reason alone, where it cannot be."""
        try:
            data = self.read(locator)
        except FileNotFoundError as error:
            raise BadImage("there is no such file") from error
        except StoreFailed as error:
            if isinstance(error.__cause__, PermissionError):
                raise BadImage("the file may not be read: permission denied") from error
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _OF_THE_FILE:
                raise BadImage(f"the file cannot be read: {error.__cause__.strerror}") from error
            raise
        return decoded(data), hashlib.sha256(data).hexdigest()

    def examine(self, locator: Any) -> tuple[int, int, str]:
        """Width, height and SHA-256 of an image that can be decoded; BadImage otherwise."""
        picture, sha256 = self.fetch(locator)
        return picture.width, picture.height, sha256


def known(row: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of an Entry that a row of metadata gives."""
    facts = {}
    for keyword, columns in FIELDS.items():
        values = (_text(row.get(column)) for column in columns)
        facts[keyword] = next((value for value in values if value), "")
    return facts


def _text(value: Any) -> str:
    """A cell as text; of several captions the first. Lone surrogates, which no table can hold, become U+FFFD."""
    if isinstance(value, (list, tuple)):
        value = value[0] if value else None
    if isinstance(value, bytes):
        value = decoded_text(value)[0]
    return "" if value is None else str(value).strip().encode(errors="surrogatepass").decode(errors="replace")


def stamp_of(path: str) -> str:
    """Size and time of the last change of a file of this machine; "" where there is none."""
    with suppress(OSError):
        told = os.stat(path)
        return f"{told.st_size} {told.st_mtime_ns}"
    return ""


def stamps_in(store: Store, files: Sequence[str], entries: Sequence[Entry]) -> list[str]:
    """The stamps of images that lie in some files, by locators that begin with the file: its own, and their place."""
    found = {file: store.stamps(file).get(file, "") for file in files}
    return [found[file] and f"{found[file]} {place}" for file, *place in (entry.locator for entry in entries)]


def address(store: Store, path: str) -> str:
    """Where others find a file: its URL; "" for files of this machine, and where the URL holds a password."""
    if store.is_local or urlsplit(store.url).password:
        return ""
    return f"{store.url.rstrip('/')}/{path}"
