"""Metadata files of a folder: `metadata.csv`, `metadata.jsonl` or `metadata.parquet`, a row an image."""

import csv
import io
import json
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.errors import BadConfig
from atlas_schema.parquet import THREADS
from atlas_schema.store import Store
from pipeline.images.entry import FIELDS, Remark
from pipeline.images.naming import counted, decoded_text, some

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

_EXPECTED = {
    ".csv": "UTF-8, a header and one line",
    ".jsonl": "UTF-8, one JSON object a line",
    ".parquet": "a whole Parquet file with one row",
}
_COLUMNS = {"file_name"} | {column for columns in FIELDS.values() for column in columns}

Row = dict[str, Any]


def is_metadata(path: str) -> bool:
    """Whether a file is a metadata file, by its name."""
    return PurePosixPath(path).name in METADATA


def metadata_of(store: Store, files: Sequence[str], images: Collection[str]) -> tuple[dict[str, Row], list[Remark]]:
    """Rows of all metadata files by the id of the image, and what is to be said of them.

    images: ids. `file_name` is seen from the metadata's folder; where it names no image, backslashes in it are taken
    for slashes. BadConfig where a file cannot be read, or a row names no file.
    """
    rows: dict[str, Row] = {}
    remarks, twice = [], []
    for path in filter(is_metadata, files):
        found, encoding = _read(store.read(path), f"{store.url}/{path}")
        if encoding != "UTF-8":
            remarks.append(Remark(f"{path} is not UTF-8: read as {encoding}; save it as UTF-8 if captions look wrong"))
        for row in found:
            id = _id(path, row["file_name"], images)
            if id in rows:
                twice.append(id)
            rows[id] = row
    if twice:
        named = f"{counted(len(twice), 'row')} of metadata for an image that has one: the last counts: {some(twice)}"
        remarks.append(Remark(named))
    return rows, remarks


def id_of(path: str) -> str:
    """A path as the id of an image: composed letters (NFC), because some systems store names decomposed."""
    return path if unicodedata.is_normalized("NFC", path) else unicodedata.normalize("NFC", path)


def _id(metadata: str, file_name: str, images: Collection[str]) -> str:
    folder = PurePosixPath(metadata).parent
    names = (file_name, file_name.replace("\\", "/"))
    ids = [id_of(str(folder / name)) for name in names]
    return next((id for id in ids if id in images), ids[0])


def _read(data: bytes, where: str) -> tuple[list[Row], str]:
    """(rows, encoding of the file)."""
    suffix = PurePosixPath(where).suffix
    try:
        if suffix == ".parquet":
            rows, encoding = _table(data), "UTF-8"
        else:
            text, encoding = decoded_text(data)
            rows = _csv(text) if suffix == ".csv" else [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, csv.Error, RecursionError, OSError, pa.ArrowException) as error:
        raise BadConfig(f"{where} cannot be read: {error}. Expected {_expected(suffix)}.") from error
    for number, row in enumerate(rows, 1):
        name = row.get("file_name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name.strip():
            raise BadConfig(f"{where}: row {number} has no file_name. Expected {_expected(suffix)}.")
        row["file_name"] = name.encode(errors="surrogatepass").decode(errors="replace")
    return rows, encoding


def _csv(text: str) -> list[Row]:
    """Rows of a CSV file; spreadsheets also separate by semicolons and tabs."""
    header = text.partition("\n")[0]
    separators = [sign for sign in ",;\t" if "file_name" in [name.strip('" \r') for name in header.split(sign)]]
    return list(csv.DictReader(io.StringIO(text), delimiter=separators[0] if separators else ","))


def _table(data: bytes) -> list[Row]:
    table = pq.ParquetFile(pa.BufferReader(data))
    names = [name for name in table.schema_arrow.names if name in _COLUMNS]
    return table.read(columns=names, use_threads=THREADS).to_pylist()


def _expected(suffix: str) -> str:
    return (
        f"{_EXPECTED[suffix]} for each image with file_name (seen from the folder of this file) and any of caption, "
        "label, licence, source"
    )
