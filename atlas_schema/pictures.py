"""Where each picture lies in the bytes of a shard of neurons: PLAIN and uncompressed, one behind the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import THREADS, damage


def picture_places(encoded: bytes, path: str) -> list[tuple[int, int, int]]:
    """(unit, offset, length) of every picture, verified byte for byte. ShardCorrupt where one does not lie there."""
    found: list[tuple[int, int, int]] = []
    with damage(path):
        parquet = pq.ParquetFile(pa.BufferReader(encoded))
        for group in range(parquet.num_row_groups):
            start = _image_chunk(parquet.metadata.row_group(group)).data_page_offset
            rows = parquet.read_row_group(group, columns=["unit", "image"], use_threads=THREADS).combine_chunks()
            found += _locate(encoded, start, rows, path)
    return found


def _image_chunk(group: pq.RowGroupMetaData) -> pq.ColumnChunkMetaData:
    chunks: Iterator[pq.ColumnChunkMetaData] = (group.column(index) for index in range(group.num_columns))
    return next(chunk for chunk in chunks if chunk.path_in_schema == "image.bytes")


def _locate(encoded: bytes, start: int, rows: pa.Table, path: str) -> Iterable[tuple[int, int, int]]:
    """Walk one image column chunk: values follow each other, each after its length in four bytes."""
    position = start
    for unit, image in zip(rows["unit"].to_pylist(), rows["image"].to_pylist(), strict=True):
        picture = image and image["bytes"]
        if not picture:
            continue
        # The length and the first bytes find a value at once; the comparison in full then proves it.
        offset = encoded.find(len(picture).to_bytes(4, "little") + picture[:28], position) + 4
        if offset < 4 or encoded[offset : offset + len(picture)] != picture:
            raise ShardCorrupt(f"{path}: the picture of unit {unit} does not lie verbatim in the file", path)
        yield unit, offset, len(picture)
        position = offset + len(picture)
