"""Look-ups: beside each published shard of neurons a small file by which one neuron is found in two short reads.

A shard is laid out for scanning: one of its rows lies in some seventy places, and a picture among fifteen others. Over
a network that costs half a megabyte. A look-up holds the same rows one by one (JSON, zlib), without the picture, and in
its head where each row lies in it and where each picture lies in the shard:

    a line of JSON: {"form": 1, "shard": its SHA-256, "units": how many, "index": bytes of what follows}
    the index, zlib: of each neuron its unit (int32), the size of its row (uint32), and of its picture the size, the
      CRC-32 (uint32) and the gap behind the one before (uint64); then the first row, which is the dictionary
    the rows, one behind the other, each compressed with that dictionary

It is a function of its shard: `push` makes it, and whoever replaces the shard removes it first.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import THREADS, damage, digest_of, read_footer, versions_agree
from atlas_schema.pictures import picture_places
from atlas_schema.store import Store

HEAD = 65_536  # bytes read to begin with: the head of a look-up of 3,072 neurons takes about half of it
FOLDER = ".atlas/lookup"
_FORM = 1  # of the file
_COLUMNS = (("unit", "i"), ("row_size", "I"), ("size", "I"), ("crc", "I"), ("gap", "Q"))


def lookup_path(shard: str) -> str:
    """Where the look-up of a shard of neurons lies."""
    return f"{FOLDER}/{shard.removesuffix('.parquet')}.rows"


def encode_lookup(encoded: bytes, path: str) -> bytes:
    """The look-up of a shard of neurons, whose bytes were checked. ShardCorrupt where they are no shard."""
    with damage(path):
        parquet = pq.ParquetFile(pa.BufferReader(encoded))
        names = [name for name in parquet.schema_arrow.names if name != "image"]
        found = parquet.read(columns=names, use_threads=THREADS).to_pylist()
    places = {unit: (offset, length) for unit, offset, length in picture_places(encoded, path)}
    texts = [json.dumps(row, separators=(",", ":"), allow_nan=False).encode() for row in found]
    dictionary = texts[0] if texts else b""
    rows = [_deflated(text, dictionary) for text in texts]
    pictures, end = [], 0
    for row in found:
        offset, length = places.get(row["unit"], (end, 0))
        pictures.append((length, zlib.crc32(encoded[offset : offset + length]), offset - end))
        end = offset + length
    columns = [[row["unit"] for row in found], map(len, rows), *zip(*pictures, strict=True)]
    arrays = [_packed(code, values) for (_, code), values in zip(_COLUMNS, columns, strict=False)]
    packed = zlib.compress(b"".join([*arrays, dictionary]), 9)
    told = {
        "form": _FORM,
        "schema_version": SCHEMA_VERSION,
        "shard": digest_of(parquet.metadata),
        "units": len(found),
        "index": len(packed),
    }
    line = json.dumps(told).encode() + b"\n"
    return b"".join([line, packed, *rows])


def _deflated(text: bytes, dictionary: bytes) -> bytes:
    deflate = zlib.compressobj(9, zdict=dictionary)
    return deflate.compress(text) + deflate.flush()


def _packed(code: str, values: Iterable[int]) -> bytes:
    made = array(code, values)
    if made.itemsize != {"i": 4, "I": 4, "Q": 8}[code]:
        raise AssertionError(f"array({code!r}) has items of {made.itemsize} bytes on this machine")
    return made.tobytes()


@dataclass(frozen=True)
class Lookup:
    """The head of a look-up: where the rows and pictures of a layer lie."""

    path: str
    shard: str  # path of the shard
    digest: str  # of the shard
    rows: Mapping[int, tuple[int, int]]  # by unit, place and size of its row in the look-up
    pictures: Mapping[int, tuple[int, int, int]]  # by unit, place in the shard, size (0: none) and CRC of its picture
    dictionary: bytes

    def row(self, store: Store, unit: int) -> dict[str, Any] | None:
        """All columns of a neuron but the picture; None where its bytes are not those that the index tells of.

        KeyError for a unit that is not there. One short read.
        """
        inflate = zlib.decompressobj(zdict=self.dictionary)
        try:
            row: dict[str, Any] = json.loads(inflate.decompress(store.read_range(self.path, *self.rows[unit])))
        except (zlib.error, ValueError):
            return None
        return row if inflate.eof and row["unit"] == unit else None

    def picture(self, store: Store, unit: int) -> bytes | None:
        """The picture of a neuron, read from the shard; None where it has none, or the shard has other bytes there."""
        place, size, crc = self.pictures[unit]
        data = store.read_range(self.shard, place, size) if size else b""
        return data if data and zlib.crc32(data) == crc else None


def lookup_faults(store: Store, path: str) -> Iterator[str]:
    """What is wrong with a look-up, by its head: that it tells of another shard than the one that is there."""
    shard = f"{path.removeprefix(FOLDER + '/').removesuffix('.rows')}.parquet"
    lookup = read_lookup(store, shard)
    if lookup is None:
        yield "it cannot be read"
        return
    try:
        if digest_of(read_footer(store, shard)) != lookup.digest:
            yield f"it tells of other bytes than {shard} has"
    except FileNotFoundError:
        yield f"there is no {shard}"
    except ShardCorrupt:  # told of the shard itself
        return


def read_lookup(store: Store, shard: str) -> Lookup | None:
    """The head of the look-up of a shard: one read, two of a layer with very many neurons.

    None where there is none, or it cannot be read or is of another major version: the shard itself tells.
    """
    path = lookup_path(shard)
    try:
        head = store.read_range(path, 0, HEAD)
        line, found, _ = head.partition(b"\n")
        told = json.loads(line) if found else {}
        if told.get("form") != _FORM or not versions_agree(told["schema_version"]):
            return None
        start = len(line) + 1 + told["index"]
        if start > len(head):
            head += store.read_range(path, len(head), start - len(head))
        packed = zlib.decompress(head[len(line) + 1 : start])
        columns, place = [], 0
        for _, code in _COLUMNS:
            values = array(code)
            size = values.itemsize * told["units"]
            values.frombytes(packed[place : place + size])
            columns.append(values)
            place += size
    except (FileNotFoundError, ValueError, KeyError, TypeError, zlib.error):
        return None
    rows, pictures, end = {}, {}, 0
    for unit, row_size, size, crc, gap in zip(*columns, strict=True):
        rows[unit], pictures[unit] = (start, row_size), (end + gap, size, crc)
        start, end = start + row_size, end + gap + size
    return Lookup(path, shard, told["shard"], rows, pictures, packed[place:])
