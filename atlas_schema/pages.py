"""Reads one picture out of a Parquet file, by its page index.

pyarrow writes the page index and does not offer it for reading, so the few structures on the way are read here:
footer -> column chunk -> offset index -> page header -> value, in Thrift's compact protocol
(parquet-format, parquet.thrift; numbers below are its field ids).
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from atlas_schema.store import Store

TAIL = 65536  # holds footer and page index of a shard of some 3,000 neurons

_FOOTER_ROW_GROUPS = 4
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_CHUNK_META, _CHUNK_OFFSET_INDEX, _CHUNK_OFFSET_INDEX_LENGTH = 3, 4, 5
_META_PATH, _META_STATISTICS = 3, 12
_STATISTICS_MAX, _STATISTICS_MIN = 5, 6
_INDEX_PAGES = 1
_PAGE_OFFSET, _PAGE_SIZE, _PAGE_FIRST_ROW = 1, 2, 3
_HEADER_COMPRESSED_SIZE, _HEADER_CRC, _HEADER_DATA_PAGE = 3, 4, 5
_DATA_PAGE_VALUES = 1


def picture_in_page(store: Store, path: str, unit: int) -> bytes | None:
    """The picture of `unit` in a shard of neurons.

    None where the way is not open: the unit is not there, units have gaps, some picture of its page is null, or
    the checksum fails. The caller then reads the row group, which tells these apart.
    """
    try:
        return _picture(_Tail(store, path), unit)
    except (KeyError, IndexError, ValueError, struct.error, TypeError):
        return None


class _Tail:
    """A remote file of which the end is at hand."""

    def __init__(self, store: Store, path: str) -> None:
        self.store, self.path = store, path
        self.size = store.size(path)
        self.start = max(0, self.size - TAIL)
        self.tail = store.read_range(path, self.start, self.size - self.start)

    def read(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= offset + length <= self.size:
            raise ValueError("outside the file")
        if offset >= self.start:
            return self.tail[offset - self.start :][:length]
        return self.store.read_range(self.path, offset, length)


def _picture(file: _Tail, unit: int) -> bytes | None:
    (length,) = struct.unpack("<I", file.tail[-8:-4])
    footer = _Thrift(file.read(file.size - 8 - length, length)).structure()
    for group in footer[_FOOTER_ROW_GROUPS]:
        chunks = {b".".join(c[_CHUNK_META][_META_PATH]): c for c in group[_GROUP_COLUMNS]}
        statistics = chunks[b"unit"][_CHUNK_META][_META_STATISTICS]
        first, last = (struct.unpack("<i", statistics[key])[0] for key in (_STATISTICS_MIN, _STATISTICS_MAX))
        if first <= unit <= last:
            # Units are sorted and differ, so without gaps a unit's row follows from its number.
            gaps = last - first + 1 != group[_GROUP_ROWS]
            return None if gaps else _value(file, chunks[b"image.bytes"], unit - first)
    return None


def _value(file: _Tail, chunk: dict[int, Any], row: int) -> bytes | None:
    """The value of `row` (counted in its row group) of the image leaf."""
    index = file.read(chunk[_CHUNK_OFFSET_INDEX], chunk[_CHUNK_OFFSET_INDEX_LENGTH])
    pages = _Thrift(index).structure()[_INDEX_PAGES]
    page = max((p for p in pages if p[_PAGE_FIRST_ROW] <= row), key=lambda p: p[_PAGE_FIRST_ROW])
    encoded = file.read(page[_PAGE_OFFSET], page[_PAGE_SIZE])
    reader = _Thrift(encoded)
    header = reader.structure()
    body = encoded[reader.position :][: header[_HEADER_COMPRESSED_SIZE]]
    if zlib.crc32(body) != header[_HEADER_CRC] & 0xFFFFFFFF:
        return None
    values = header[_HEADER_DATA_PAGE][_DATA_PAGE_VALUES]
    (levels,) = struct.unpack_from("<I", body)
    # Definition levels of a page without nulls: one run of `values` times 2 (struct and bytes both present).
    if _Thrift(body[4 : 4 + levels]).varint() != values << 1 or body[3 + levels] != 2:
        return None
    position = 4 + levels
    for _ in range(row - page[_PAGE_FIRST_ROW]):
        position += 4 + struct.unpack_from("<I", body, position)[0]
    (length,) = struct.unpack_from("<I", body, position)
    return body[position + 4 :][:length]


class _Thrift:
    """Reads Thrift's compact protocol: a structure becomes a dictionary from field id to value."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def structure(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.zigzag()
            fields[field] = self.value(head & 15)
        return fields

    def value(self, kind: int, *, in_list: bool = False) -> Any:
        if kind in (1, 2):  # a field's type is its truth; in a list it takes a byte
            return self.byte() == 1 if in_list else kind == 1
        if kind == 3:
            return self.byte()
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            return struct.unpack("<d", self.bytes(8))[0]
        if kind == 8:
            return self.bytes(self.varint())
        if kind in (9, 10):
            head = self.byte()
            count = self.varint() if head >> 4 == 15 else head >> 4
            return [self.value(head & 15, in_list=True) for _ in range(count)]
        if kind == 12:
            return self.structure()
        raise ValueError(f"Thrift type {kind}, which Parquet's metadata does not use")

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def bytes(self, count: int) -> bytes:
        self.position += count
        if self.position > len(self.data):
            raise ValueError("cut off")
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    def zigzag(self) -> int:
        number = self.varint()
        return (number >> 1) ^ -(number & 1)
