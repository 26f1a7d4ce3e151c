"""WebDataset: tar files in which members of one name, but for the suffix, are one sample."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atlas_schema.errors import BadConfig
from atlas_schema.store import Store
from pipeline.images.entry import Entry, Source, address, is_hidden, known, stamps_in
from pipeline.images.folder import is_image

READ_AHEAD = 1 << 20
"""Bytes fetched at a time while the members are listed: one request a member would take minutes on a URL."""


@dataclass(frozen=True)
class Archives(Source):
    """Image members of tar files. A locator is (file, offset, size): later reads touch those bytes alone.

    Of a sample, `.cls` is its class, `.txt` its caption, and `.json` may have the keys of a metadata file.
    """

    store: Store
    files: tuple[str, ...]

    def entries(self) -> Iterator[Entry]:
        for file in self.files:
            images, told = self._members(file)
            for member in images:
                id = f"{file}/{member.name}"
                facts = known(told.get(_sample(member.name)[0], {}))
                facts["source"] = facts["source"] or address(self.store, id)
                yield Entry(id=id, locator=(file, member.offset_data, member.size), **facts)

    @property
    def place(self) -> tuple[str, ...]:
        return ("archives", self.store.url, *self.files)

    def stamps(self, entries: Sequence[Entry]) -> list[str]:
        return stamps_in(self.store, self.files, entries)

    def read(self, locator: tuple[str, int, int]) -> bytes:
        return self.store.read_range(*locator)

    def _members(self, file: str) -> tuple[list[tarfile.TarInfo], dict[str, dict[str, Any]]]:
        """Image members, and what is told of each sample by its name."""
        where = f"{self.store.url}/{file}"
        images: list[tarfile.TarInfo] = []
        told: dict[str, dict[str, Any]] = {}
        try:
            with (
                self.store.open(file) as opened,
                io.BufferedReader(opened, READ_AHEAD) as ahead,  # type: ignore[type-var]
                tarfile.open(fileobj=ahead, mode="r:") as archive,
            ):
                for member in archive:
                    if not member.isreg() or is_hidden(member.name):
                        continue
                    sample, suffix = _sample(member.name)
                    if is_image(member.name):
                        images.append(member)
                    elif suffix in ("cls", "txt", "json"):
                        data = archive.extractfile(member).read()  # type: ignore[union-attr]
                        told.setdefault(sample, {}).update(_told(data, suffix, f"{where}/{member.name}"))
        except (tarfile.TarError, OSError, ValueError) as error:
            raise BadConfig(
                f"{where} cannot be read as tar: {str(error).rstrip('.')}. "
                "Expected a whole, uncompressed file; fetch or pack it again."
            ) from error
        return images, told


def _sample(member: str) -> tuple[str, str]:
    """(name of the sample, suffix): WebDataset splits at the first dot of the file's own name."""
    folder, _, name = member.rpartition("/")
    stem, _, suffix = name.partition(".")
    return f"{folder}/{stem}", suffix.casefold()


def _told(data: bytes, suffix: str, where: str) -> dict[str, Any]:
    try:
        text = data.decode()
        values = json.loads(text) if suffix == "json" else {suffix: text.strip()}
    except ValueError as error:
        raise BadConfig(f"{where} cannot be read: {error}. Expected UTF-8 text, or JSON in a .json member.") from error
    return values if isinstance(values, dict) else {}
