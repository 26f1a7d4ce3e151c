"""What was seen of images when a set was opened before, so that a set of a million is not decoded at every start.

A file on this machine for each source. An image is known again where its id and the stamp of its file are the same; a
stamp changes when the bytes do. Nothing rests on it: an image is compared with its SHA-256 whenever it is used.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.images.entry import Entry, Source

Seen = tuple[int, int, str]
"""Width, height and SHA-256 of an image that could be decoded."""

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("stamp", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("sha256", pa.string()),
    ]
)


class Manifest:
    """The images of one source: `known` before, and `keep` for the next time. folder: None to remember nothing."""

    def __init__(self, source: Source, entries: Sequence[Entry], folder: Path | None) -> None:
        stamps = source.stamps(entries) if folder is not None else []
        self.stamps = {entry.id: stamp for entry, stamp in zip(entries, stamps, strict=False) if stamp}
        name = hashlib.sha256(repr(source.place).encode()).hexdigest()[:16]
        self.path = folder / f"{name}.parquet" if folder is not None and self.stamps else None
        self.known = self._read()

    def _read(self) -> dict[str, Seen]:
        if self.path is None:
            return {}
        try:
            columns = pq.read_table(self.path, schema=_SCHEMA, page_checksum_verification=True).to_pydict()
        except (OSError, pa.ArrowException):  # none, or damaged: all images are looked at
            return {}
        rows = zip(*(columns[name] for name in _SCHEMA.names), strict=True)
        return {id: (*seen,) for id, stamp, *seen in rows if self.stamps.get(id) == stamp}  # type: ignore[misc]

    def keep(self, seen: Mapping[str, Seen]) -> None:
        """Remember images, by id, where more or others are known now than before."""
        kept = {id: one for id, one in seen.items() if id in self.stamps}
        if self.path is None or kept == self.known:
            return
        rows = [(id, self.stamps[id], *one) for id, one in sorted(kept.items())]
        columns = list(zip(*rows, strict=True)) or [()] * len(_SCHEMA)
        table = pa.Table.from_arrays(
            [pa.array(column, one.type) for column, one in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
        )
        with suppress(OSError):  # a home that cannot be written, a full disk: the next start looks again
            self.path.parent.mkdir(parents=True, exist_ok=True)
            hidden = self.path.with_name(f".{self.path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
            pq.write_table(table, hidden, compression="zstd", write_page_checksum=True)
            os.replace(hidden, self.path)
