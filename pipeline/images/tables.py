"""Images in Parquet files, as the hub keeps them: a column of structs of bytes and path, or of bytes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from atlas_schema.errors import BadConfig
from atlas_schema.parquet_columns import columns_at
from atlas_schema.store import Store
from pipeline.images.choice import Choice
from pipeline.images.columns import bytes_of, columns_of, image_columns
from pipeline.images.entry import Entry, Remark, Source, address, stamps_in
from pipeline.images.kinds import HEAD, PARQUET, what_is
from pipeline.images.naming import counted, some

_READING = threading.Lock()
"""Held while a row group is read, so that threads that want the same one wait for it instead of reading it too."""


@dataclass(frozen=True)
class Tables(Source):
    """Rows of Parquet files. A locator is (file, column, row group, row in it).

    Of several files those without a column of images are left out. The last two row groups stay in memory: read in
    the order of the ids, each is read once.
    """

    store: Store
    files: tuple[str, ...]
    choice: Choice = field(default_factory=Choice)

    def entries(self) -> Iterator[Entry | Remark]:
        without: list[str] = []
        for file in self.files:
            with _opened(self.store, file) as table:
                features = _features(table)
                last = len(without) == len(self.files) - 1
                if image_columns(features) or last:  # the last one says what is missing in all of them
                    yield from self._rows(file, table, features)
                else:
                    without.append(file)
        if without:
            files = counted(len(without), "Parquet file")
            yield Remark(f"{files} without a column of images, left out: {some(without)}")

    def _rows(self, file: str, table: pq.ParquetFile, features: Features) -> Iterator[Entry]:
        columns = columns_of(features, self.choice, f"{self.store.url}/{file}")
        first = 0
        for group in range(table.num_row_groups):
            rows = columns_at(self.store, file, table.metadata, list(columns.known), [group])
            for row, told in enumerate(rows.to_pylist() or [{}] * rows.num_rows):
                id = f"{file}/{first + row:08d}"
                facts = columns.facts(told)
                facts["source"] = facts["source"] or address(self.store, id)
                yield Entry(id=id, locator=(file, columns.image, group, row), **facts)
            first += rows.num_rows

    @property
    def place(self) -> tuple[str, ...]:
        return ("tables", self.store.url, *self.files)

    def stamps(self, entries: Sequence[Entry]) -> list[str]:
        return stamps_in(self.store, self.files, entries)

    def read(self, locator: tuple[str, str, int, int]) -> bytes:
        file, column, group, row = locator
        with _READING:
            cells = _cells(self.store.url, file, column, group)
        return bytes_of(cells[row].as_py())


def rows_with_images(store: Store, file: str) -> int:
    """How many rows with a column of images a Parquet file has; BadConfig where it is none."""
    with _opened(store, file) as table:
        return table.metadata.num_rows if image_columns(_features(table)) else 0


@lru_cache(maxsize=2)
def _cells(url: str, file: str, column: str, group: int) -> pa.ChunkedArray:
    store = Store(url)
    with _opened(store, file) as table:
        return columns_at(store, file, table.metadata, [column], [group]).column(column)


def _features(table: pq.ParquetFile) -> Features:
    """The columns; ValueError where `datasets` has no such types, or what it wrote beside them is damaged."""
    try:
        return Features.from_arrow_schema(table.schema_arrow)
    except Exception as error:  # it passes on whatever its parsing meets
        raise ValueError(f"its columns are not understood: {error}") from error


@contextmanager
def _opened(store: Store, file: str) -> Iterator[pq.ParquetFile]:
    with store.open(file) as opened:
        try:
            yield pq.ParquetFile(opened)
        except (pa.ArrowException, OSError, ValueError) as error:
            what = what_is(store.read_range(file, 0, HEAD))
            really = f" It is {what}." if what not in ("", PARQUET) else ""
            raise BadConfig(
                f"{store.url}/{file} cannot be read as Parquet: {str(error).rstrip('.')}.{really} "
                "Expected a whole Parquet file; fetch it again."
            ) from error
