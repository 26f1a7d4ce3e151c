"""Images in Parquet files, as the hub keeps them: a column of structs of bytes and path, or of bytes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from atlas_schema.errors import BadConfig
from atlas_schema.store import Store
from pipeline.images.columns import bytes_of, image_column, known_columns, known_of
from pipeline.images.entry import Entry, Source, address, stamps_in

_READING = threading.Lock()
"""Held while a row group is read, so that threads that want the same one wait for it instead of reading it too."""


@dataclass(frozen=True)
class Tables(Source):
    """Rows of Parquet files. A locator is (file, column, row group, row in it).

    The last two row groups stay in memory: read in the order of the ids, each is read once.
    """

    store: Store
    files: tuple[str, ...]

    def entries(self) -> Iterator[Entry]:
        for file in self.files:
            where = f"{self.store.url}/{file}"
            with _opened(self.store, file) as table:
                features = Features.from_arrow_schema(table.schema_arrow)
                column = image_column(features, "", where)
                first = 0
                for group in range(table.num_row_groups):
                    rows = table.read_row_group(group, columns=known_columns(features))
                    for row, told in enumerate(rows.to_pylist() or [{}] * rows.num_rows):
                        id = f"{file}/{first + row:08d}"
                        facts = known_of(features, told)
                        facts["source"] = facts["source"] or address(self.store, id)
                        yield Entry(id=id, locator=(file, column, group, row), **facts)
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


@lru_cache(maxsize=2)
def _cells(url: str, file: str, column: str, group: int) -> pa.ChunkedArray:
    with _opened(Store(url), file) as table:
        return table.read_row_group(group, columns=[column]).column(column)


@contextmanager
def _opened(store: Store, file: str) -> Iterator[pq.ParquetFile]:
    with store.open(file) as opened:
        try:
            yield pq.ParquetFile(opened)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise BadConfig(
                f"{store.url}/{file} cannot be read as Parquet: {str(error).rstrip('.')}. "
                "Expected a whole Parquet file; fetch it again."
            ) from error
