"""Columns of a Parquet file, by the bytes that they lie in: of a remote store a few requests, not one a column.

Arrow is handed bytes that are there already, and decodes them in the thread that asks. Threads of its own, which read
any file that Python opened, more so those that read ahead (`pre_buffer`) and those that decode, may still hold what
Python gave them when the interpreter ends, and abort the process then (apache/arrow#50482): of short commands that read
ahead about one in twenty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.parquet import THREADS, damage
from atlas_schema.store import Store

MOST_GAP = 32 << 10  # bytes between two wanted places that are read along: less than what another request costs
AT_ONCE = 8  # requests


def read_columns(
    store: Store,
    path: str,
    footer: pq.FileMetaData,
    columns: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
) -> pa.Table:
    """Columns of row groups of a shard or part, all where None, by a footer read before.

    columns: names, or paths of leaves (`thumbnail.path`); what the file lacks is left out. Every page is checked
    against its checksum. Raises ShardCorrupt, FileNotFoundError.
    """
    with damage(path):
        return columns_at(store, path, footer, columns, groups)


def columns_at(
    store: Store,
    path: str,
    footer: pq.FileMetaData,
    columns: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
) -> pa.Table:
    """The same of anyone's Parquet file: damage is raised as Arrow raises it, OSError and ValueError among it."""
    wanted = range(footer.num_row_groups) if groups is None else groups
    held = pa.BufferReader(_fetched(store, path, _joined(_spans(footer, columns, wanted))))
    return pq.ParquetFile(held, metadata=footer, page_checksum_verification=True).read_row_groups(
        list(wanted), columns=None if columns is None else list(columns), use_threads=THREADS
    )


def read_rows(store: Store, path: str, footer: pq.FileMetaData, wanted: Mapping[str, Any]) -> pa.Table:
    """Rows of the row groups that may hold `wanted` values, by the statistics of a footer read before.

    Only the bytes of these are read, each page with its checksum. Other rows of the same groups are among them.
    """
    groups = [group for group in range(footer.num_row_groups) if _may_hold(footer.row_group(group), wanted)]
    if not groups:
        return footer.schema.to_arrow_schema().empty_table()
    return read_columns(store, path, footer, groups=groups)


def _may_hold(group: pq.RowGroupMetaData, wanted: Mapping[str, Any]) -> bool:
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema in wanted and column.is_stats_set and column.statistics.has_min_max:
            value = wanted[column.path_in_schema]
            if not column.statistics.min <= value <= column.statistics.max:
                return False
    return True


def _fetched(store: Store, path: str, spans: Sequence[tuple[int, int]]) -> pa.Buffer:
    """A file up to the end of its last span, of which these spans are read and the rest is zeros.

    ValueError where the file ends before one does.
    """
    if not spans:
        return pa.py_buffer(b"")
    held = mmap(-1, spans[-1][1])  # pages of zeros, of which those take memory that something is written to

    def fetch(span: tuple[int, int]) -> None:
        begin, end = span
        some = store.read_range(path, begin, end - begin)
        if len(some) != end - begin:
            raise ValueError(f"the file ends at byte {begin + len(some)}, expected a column's bytes up to {end}")
        held[begin:end] = some

    if store.is_local or len(spans) == 1:
        for span in spans:
            fetch(span)
    else:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(fetch, spans))
    return pa.py_buffer(held)


def _spans(footer: pq.FileMetaData, columns: Sequence[str] | None, groups: Sequence[int]) -> list[tuple[int, int]]:
    """Begin and end of every wanted column chunk."""
    found = []
    for number in groups:
        group = footer.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            path = chunk.path_in_schema
            if columns is None or any(path == name or path.startswith(f"{name}.") for name in columns):
                first = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
                begin = min(first or chunk.data_page_offset, chunk.data_page_offset)  # some writers say 0 for none
                found.append((begin, begin + chunk.total_compressed_size))
    return sorted(found)


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans, sorted by where they begin, with those in one that lie no further apart than MOST_GAP."""
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined and begin - joined[-1][1] <= MOST_GAP:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return joined
