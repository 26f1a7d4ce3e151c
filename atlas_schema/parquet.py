"""The bytes of a part or shard: rows in, one self-describing Parquet file out, and back.

The layout serves two readers. `datasets` and the Hub's viewer get plain Parquet with their Image feature.
The site gets each image with one Range request: the image leaf is PLAIN, uncompressed and without dictionary,
so every WebP lies verbatim in the file. All settings follow from the table's schema and are asserted on the
footer of what was written, because pyarrow ignores a misspelt leaf path without a word.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.columns import IMAGE, SCHEMA_VERSION, Table
from atlas_schema.errors import ForeignAtlas, ShardCorrupt
from atlas_schema.store import Store

#: Prefix of this project's keys in the Parquet key-value metadata.
PREFIX = "atlas."
ROWS_PER_PAGE = 16  # one page of images is some 200 kB: what a reader with the page index fetches
IMAGE_ROWS_PER_GROUP, ROWS_PER_GROUP = 256, 8192
TAIL_BYTES = 64 << 10  # read to find a footer; of large shards, whose footers are half as long again, the rest after it
#: Whether what Python opened or holds is decoded by Arrow's threads. One that still holds it when the interpreter ends
#: aborts or hangs the process (apache/arrow#50482): about one command in fifteen on a busy machine. The same do those
#: that read ahead (`pre_buffer`, which `pq.read_table` turns on by itself): see parquet_columns.
THREADS = False
_DIGEST = b"atlas.sha256"
_UNKNOWN_DIGEST = b"0" * 64

_Read = TypeVar("_Read")


def encode(
    table: Table,
    data: pa.Table | Iterable[pa.Table],
    metadata: Mapping[str, str],
    *,
    rows_per_group: int = 0,
    rows_per_page: int = ROWS_PER_PAGE,
) -> bytes:
    """One Parquet file of `data` (sorted by the table's key) with `metadata` in its footer.

    data: whole, or in pieces, at least one, each of which is encoded and let go before the next is asked for.
    rows_per_group: 0 for what the table's readers want. rows_per_page: at most. Equal input gives equal bytes.
    The footer also carries `atlas.sha256`: the digest of the whole file with
    the 64 digits of the digest itself set to zero, so that any byte that changes later is found.
    """
    entries = {"table": table.name, "schema_version": table.version, **metadata}
    sink = io.BytesIO()
    pieces = iter([data] if isinstance(data, pa.Table) else data)
    piece = next(pieces)
    schema = piece.schema
    groups = rows_per_group or (IMAGE_ROWS_PER_GROUP if _image_leaves(schema) else ROWS_PER_GROUP)
    with pq.ParquetWriter(sink, schema, **_settings(table, schema, rows_per_page)) as writer:
        while piece is not None:
            if piece.num_rows:
                writer.write_table(piece, row_group_size=groups)
            piece = None  # let go before the next is made
            piece = next(pieces, None)
        keyed = {PREFIX + key: entries[key] for key in sorted(entries)}
        writer.add_key_value_metadata({**keyed, _DIGEST.decode(): _UNKNOWN_DIGEST.decode()})
    place = _digest_place(sink.getvalue())
    digest = _digest(sink.getvalue(), place)
    sink.seek(place)
    sink.write(digest)
    encoded = sink.getvalue()  # the stream's own bytes, not a copy, as nothing is written after
    faults = layout_faults(pq.read_metadata(pa.BufferReader(encoded)), schema)
    if faults:
        raise AssertionError(f"{table.name}: written otherwise than intended: {'; '.join(faults)}")
    return encoded


def decode(encoded: bytes, path: str) -> tuple[pa.Table, dict[str, str]]:
    """Rows and footer metadata of a file of this project; ShardCorrupt where a byte has changed."""
    metadata = check_whole(encoded, path)
    with damage(path):
        table = pq.ParquetFile(pa.BufferReader(encoded), page_checksum_verification=True).read(use_threads=THREADS)
    return table, metadata


def check_whole(encoded: bytes, path: str) -> dict[str, str]:
    """The footer metadata of a file whose every byte is as it was written; ShardCorrupt otherwise."""
    if not encoded:
        raise ShardCorrupt(f"{path}: the file is empty. {_REDO}", path)
    with damage(path):
        metadata = footer_metadata(pq.read_metadata(pa.BufferReader(encoded)))
    try:
        place = _digest_place(encoded)
    except ValueError:
        raise ShardCorrupt(f"{path}: no digest in its footer: not a file this project wrote. {_REDO}", path) from None
    if encoded[place : place + len(_UNKNOWN_DIGEST)] != _digest(encoded, place):
        raise ShardCorrupt(f"{path}: damaged: the SHA-256 of its bytes is not the one in its footer. {_REDO}", path)
    return metadata


def tried_twice(read: Callable[[], _Read]) -> _Read:
    """What `read` gives; tried once more where that seems damaged, as a read may fail in passing."""
    try:
        return read()
    except ShardCorrupt:
        return read()


def read_footer(store: Store, path: str) -> pq.FileMetaData:
    """The footer of a file, from its tail alone. ShardCorrupt where it does not end as a Parquet file does.

    What lies before the footer is not looked at.
    """
    size = store.size(path)
    begin = max(0, size - TAIL_BYTES)
    tail = store.read_range(path, begin, size - begin)
    with damage(path):
        if tail[-4:] != b"PAR1":
            raise ValueError("it does not end as a Parquet file does")
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if length > len(tail):
            tail = store.read_range(path, max(0, size - length), length - len(tail)) + tail
        return pq.read_metadata(pa.BufferReader(tail[-length:]))


def digest_of(parquet: pq.FileMetaData) -> str:
    """The SHA-256 that a footer names of its whole file; "" where it names none."""
    return str((parquet.metadata or {}).get(_DIGEST, b"").decode())


def footer_metadata(parquet: pq.FileMetaData) -> dict[str, str]:
    """This project's key-value metadata of a Parquet footer, without the prefix and without the digest."""
    pairs = {key.decode(): value.decode() for key, value in (parquet.metadata or {}).items()}
    return {
        key[len(PREFIX) :]: value
        for key, value in sorted(pairs.items())
        if key.startswith(PREFIX) and key != _DIGEST.decode()
    }


def layout_faults(parquet: pq.FileMetaData, schema: pa.Schema) -> list[str]:
    """Where a file's layout differs from the one this project writes; empty where it does not."""
    faults = []
    images = _image_leaves(schema)
    most = IMAGE_ROWS_PER_GROUP if images else ROWS_PER_GROUP
    for group in range(parquet.num_row_groups):
        row_group = parquet.row_group(group)
        if row_group.num_rows > most:
            faults.append(f"row group {group} has {row_group.num_rows} rows, not at most {most}")
        if not row_group.sorting_columns:
            faults.append(f"row group {group} names no sorting columns")
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            wanted = "UNCOMPRESSED" if chunk.path_in_schema in images else "ZSTD"
            if chunk.compression != wanted:
                faults.append(f"{chunk.path_in_schema} is {chunk.compression}, not {wanted}")
            if chunk.path_in_schema in images:
                if chunk.has_dictionary_page or "PLAIN" not in chunk.encodings or chunk.is_stats_set:
                    faults.append(f"{chunk.path_in_schema} is not PLAIN without dictionary and statistics")
            elif not chunk.has_offset_index:
                faults.append(f"{chunk.path_in_schema} has no page index")
    return sorted(set(faults))


class damage:
    """Context: whatever pyarrow raises on damaged bytes becomes one ShardCorrupt that names the path."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Truncated or empty files raise ArrowInvalid (a ValueError), bad footers and checksums OSError.
        if isinstance(error, (pa.ArrowException, OSError, ValueError, KeyError)) and not isinstance(
            error, FileNotFoundError
        ):
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ShardCorrupt(f"{self.path}: damaged: {cause}. {_REDO}", self.path) from error


_REDO = "`neuron-atlas clean --yes` puts it aside; then run again: what is needed of it is made anew"


def leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    """Path and type of every leaf as Parquet names it: `image.bytes`, `grids.list.element.height`."""
    for field in schema:
        yield from _leaves(field.name, field.type)


def _leaves(path: str, arrow: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    if pa.types.is_struct(arrow):
        for inner in arrow:
            yield from _leaves(f"{path}.{inner.name}", inner.type)
    elif pa.types.is_list(arrow):
        yield from _leaves(f"{path}.list.element", arrow.value_type)
    else:
        yield path, arrow


def _image_leaves(schema: pa.Schema) -> set[str]:
    return {f"{field.name}.bytes" for field in schema if field.type == IMAGE}


def _settings(table: Table, schema: pa.Schema, rows_per_page: int) -> dict[str, Any]:
    images = _image_leaves(schema)
    paths = dict(leaves(schema))
    # Names that repeat from row to row gain from a dictionary; addresses and numbers do not.
    repeated = [path for path, leaf in paths.items() if pa.types.is_string(leaf) and path != "address"]
    return {
        "version": "2.6",
        "compression": {path: "NONE" if path in images else "ZSTD" for path in paths},
        "use_dictionary": repeated,
        "column_encoding": {path: "PLAIN" for path in paths if path not in repeated},
        "write_statistics": [path for path in paths if path not in images],
        "write_page_index": True,
        "write_page_checksum": True,
        "max_rows_per_page": rows_per_page,
        "sorting_columns": pq.SortingColumn.from_ordering(schema, [(name, "ascending") for name in table.key]),
    }


def _digest_place(encoded: bytes) -> int:
    """Where the digest's 64 digits begin: Thrift puts two bytes between key and value."""
    key = encoded.rindex(_DIGEST)
    place = key + len(_DIGEST) + 2
    if place + len(_UNKNOWN_DIGEST) > len(encoded):
        raise ValueError("digest cut off")
    return place


def _digest(encoded: bytes, place: int) -> bytes:
    view = memoryview(encoded)
    digest = hashlib.sha256(view[:place])
    digest.update(_UNKNOWN_DIGEST)
    digest.update(view[place + len(_UNKNOWN_DIGEST) :])
    return digest.hexdigest().encode()


def is_newer(version: str) -> bool:
    """Whether a file's version, of our major, has columns that this code does not know."""
    return [int(number) for number in version.split(".")] > [int(number) for number in SCHEMA_VERSION.split(".")]


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of an older minor version in today's columns: those that came since are empty."""
    arrays = [
        rows[field.name] if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type) for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def versions_agree(version: str) -> bool:
    """Whether this code reads files of `version`: the same major."""
    return version.split(".")[0] == SCHEMA_VERSION.split(".")[0]


def require_version(parquet: pq.FileMetaData, path: str) -> None:
    """ForeignAtlas where a file follows another major version of the schema: its columns may mean something else."""
    version = footer_metadata(parquet).get("schema_version", "")
    if version and not versions_agree(version):
        raise ForeignAtlas(
            f"{path}: this atlas follows schema version {version}; this code reads {SCHEMA_VERSION}. Read it with the "
            "release of neuron-atlas that wrote it, or run into another folder."
        )
