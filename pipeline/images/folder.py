"""Image files in a folder, or below an fsspec URL, with classes from sub-folders and metadata files."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from atlas_schema.errors import BadConfig
from atlas_schema.store import Store
from pipeline.images.entry import Entry, Skipped, Source, address, known

_NAMES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff ppm pgm pbm pnm jp2 j2k avif heic heif"
SUFFIXES = tuple(f".{name}" for name in _NAMES.split())
"""A file with one of these is meant to be an image: it is used, or skipped and named. Others are no images."""

METADATA = ("metadata.csv", "metadata.jsonl")


@dataclass(frozen=True)
class Folder(Source):
    """All image files of a store, however deep. A locator is the file's path in the store."""

    store: Store
    files: tuple[str, ...]  # what is listed there, without hidden files

    def entries(self) -> Iterator[Entry | Skipped]:
        images = [path for path in self.files if is_image(path)]
        rows = self._metadata()
        labels = _folders(images)
        for path in images:
            row = known(rows.get(path, {}))
            row["label"] = row["label"] or labels.get(path, "")
            row["source"] = row["source"] or address(self.store, path)
            yield Entry(id=path, locator=path, **row)
        for path in sorted(rows.keys() - set(images)):
            yield Skipped(path, "named in the metadata file, but there is no such image file")

    @property
    def place(self) -> tuple[str, ...]:
        return ("folder", self.store.url)

    def stamps(self, entries: Sequence[Entry]) -> list[str]:
        found = self.store.stamps()
        return [found.get(entry.locator, "") for entry in entries]

    def read(self, locator: str) -> bytes:
        return self.store.read(locator)

    def _metadata(self) -> dict[str, dict[str, Any]]:
        """Rows of all metadata files by the path of the image: `file_name` is seen from the metadata's folder."""
        rows = {}
        for path in self.files:
            if PurePosixPath(path).name in METADATA:
                for row in _rows(self.store.read(path), f"{self.store.url}/{path}"):
                    rows[str(PurePosixPath(path).parent / row["file_name"])] = row
        return rows


def is_image(path: str) -> bool:
    """Whether a file is meant to be an image, by its suffix."""
    return PurePosixPath(path).suffix.casefold() in SUFFIXES


def _folders(images: list[str]) -> dict[str, str]:
    """The class of each image: its folder, where all images lie in folders and these are at least two."""
    labels = {path: PurePosixPath(path).parent.name for path in images}
    names = set(labels.values())
    return labels if len(names) > 1 and "" not in names else {}


def _rows(data: bytes, path: str) -> list[dict[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
        if path.endswith(".csv"):
            rows: list[Any] = list(csv.DictReader(io.StringIO(text)))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, csv.Error) as error:
        raise BadConfig(f"{path} cannot be read: {error}. Expected UTF-8, {_expected(path)}.") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not row.get("file_name"):
            raise BadConfig(f"{path}: row {number} has no file_name. Expected {_expected(path)}.")
    return rows


def _expected(path: str) -> str:
    kind = "a header and one line" if path.endswith(".csv") else "one JSON object a line"
    return (
        f"{kind} for each image with file_name (seen from the folder of this file) and any of caption, label, "
        "licence, source"
    )
