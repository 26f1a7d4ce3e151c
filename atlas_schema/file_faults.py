"""What can be wrong with one file, by itself: its types, its layout, its values, its images.

All of it follows from the table's declaration in `tables.py`; what several files must agree in is in
`validate.py`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atlas_schema.columns import Column, Table
from atlas_schema.parquet import layout_faults
from atlas_schema.rows import column_faults

MOST_NAMED = 5  # things of one kind that one message names


@dataclass(frozen=True)
class Violation:
    """One fault: the file, its kind, and a sentence that says what is wrong.

    Kinds: corrupt (bytes differ from what was written), version, schema, layout (Parquet settings), metadata
    (the footer disagrees), key (order, duplicates, addresses), value (null, bounds, choices, not finite),
    count, missing, unplanned, image, stray, card.
    """

    path: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.kind}: {self.message}"


def file_faults(
    path: str, table: Table, metadata: tuple[pq.FileMetaData, dict[str, str]], read: pa.Schema
) -> Iterator[Violation]:
    """Table, types and layout, from the footer."""
    footer, own = metadata
    if own.get("table") != table.name:
        yield Violation(path, "metadata", f"its footer says table {own.get('table')!r}, its folder {table.name!r}")
    schema = footer.schema.to_arrow_schema()
    # A minor version may bring columns that may be empty; a file of our own version has exactly ours.
    same = own.get("schema_version") == table.version
    for column in table.columns:
        index = schema.get_field_index(column.name)
        if index < 0:
            if same or not column.absent:
                yield Violation(path, "schema", f"no column {column.name}")
        elif schema.field(index).type != column.type:
            message = f"column {column.name} is {schema.field(index).type}, expected {column.type}"
            yield Violation(path, "schema", message)
    for name in schema.names:
        if name not in table.names and same:
            yield Violation(path, "schema", f"unknown column {name}")
    if same and (schema.metadata or {}).get(b"huggingface") != table.schema().metadata[b"huggingface"]:
        yield Violation(path, "schema", "the huggingface metadata, which lets datasets decode images, differs")
    for fault in layout_faults(footer, table.schema()):
        yield Violation(path, "layout", fault)


def value_faults(path: str, table: Table, data: pa.Table) -> Iterator[Violation]:
    """What the columns' declarations do not allow, and keys that are not sorted and unique.

    The columns of a stage may be empty in the rows that the stage has not reached: there all of them are.
    """
    rows_of = {stage: reached(table, stage, data) for stage in table.stages if len(table.stages) > 1}
    for column in table.columns:
        if column.name in data.column_names:
            values = data[column.name]
            if column.stage in rows_of:
                values = values.filter(rows_of[column.stage])
            for message in column_faults(column, values):
                yield Violation(path, "value", f"{column.name}: {message}")
            bad = _unreasoned(column, data)
            if bad:
                yield Violation(path, "value", f"{column.name}: {bad} cells are null, and {column.absent_if} is not so")
    if all(name in data.column_names for name in table.key):
        keys = list(zip(*(data[name].to_pylist() for name in table.key), strict=True))
        for before, after in pairwise(keys):
            if None not in before + after and before >= after:
                fault = "twice" if before == after else f"after {before}"
                yield Violation(path, "key", f"{after} comes {fault}; rows are sorted by {', '.join(table.key)}")


def _unreasoned(column: Column, data: pa.Table) -> int:
    """In how many rows a column is null though another says that it is not."""
    if column.absent_if is None or column.absent_if[0] not in data.column_names:
        return 0
    name, values = column.absent_if
    empty = pc.and_(pc.is_null(data[column.name]), pc.is_valid(data[name]))
    told = pc.is_in(data[name], value_set=pa.array(values, data[name].type))
    return pc.sum(pc.and_(empty, pc.invert(told))).as_py() or 0


def reached(table: Table, stage: str, data: pa.Table) -> pa.ChunkedArray:
    """Row by row, whether any column of the stage is filled."""
    held = [column.name for column in table.columns if column.stage == stage and column.name in data.column_names]
    filled = [pc.is_valid(data[name]) for name in held]
    return reduce(pc.or_, filled) if filled else pa.chunked_array([pa.array([True] * data.num_rows)])


def image_faults(path: str, table: Table, data: pa.Table) -> Iterator[Violation]:
    """Images that do not decode, or are no WebP."""
    from PIL import Image

    for name in table.image_columns:
        for row, image in enumerate(data[name].to_pylist()):
            if image is None:
                continue  # value_faults has said so where it may not be
            try:
                with Image.open(io.BytesIO(image["bytes"] or b"")) as picture:
                    picture.load()
                    form = picture.format
            except Exception as error:  # Pillow's decoders raise many kinds
                yield Violation(path, "image", f"{_named(table, data, row)}: does not decode: {error}")
                continue
            if form != "WEBP":
                yield Violation(path, "image", f"{_named(table, data, row)}: is {form}, expected WEBP")


def _named(table: Table, data: pa.Table, row: int) -> str:
    names = ("address",) if "address" in table.names else table.key
    return " ".join(str(data[name][row].as_py()) for name in names)


def some(names: Sequence[Any]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(str, names[:MOST_NAMED])) + more
