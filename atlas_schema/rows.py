"""Checks rows against the declaration of their table, where they are written and where they are validated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.columns import Column
from atlas_schema.errors import BadRow, NotFinite, nearest


def rows_to_table(columns: Sequence[Column], schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of `schema`.

    Raises BadRow for a column that is missing, unknown, of another type, out of its bounds or null without a
    declared reason, and NotFinite for NaN or infinity, also inside lists.
    """
    names = {column.name for column in columns}
    for index, row in enumerate(rows):
        for unknown in row.keys() - names:
            close = nearest(unknown, names, 1)
            raise BadRow(f"row {index}: no column {unknown!r}" + (f"; nearest: {close[0]}" if close else ""))
        for column in columns:
            if row.get(column.name) is None and not column.absent:
                raise BadRow(f"row {index} ({_name(row)}): {column.name} is missing, and may not be")
    arrays = [_array(column, [row.get(column.name) for row in rows]) for column in columns]
    for column, array in zip(columns, arrays, strict=True):
        for path, values in infinite_leaves(column.name, array):
            raise NotFinite(f"{path}: {values[0]} where a finite number was measured")
        for fault in column_faults(column, array):
            raise BadRow(f"{column.name}: {fault}")
    for index, row in enumerate(rows):
        for column in columns:
            if row.get(column.name) is None and not _may_lack(column, row):
                raise BadRow(f"row {index} ({_name(row)}): {column.name} is missing, and may not be")
    return pa.Table.from_arrays(arrays, schema=schema)


def _may_lack(column: Column, row: Mapping[str, Any]) -> bool:
    """Whether a row may have no value in a column."""
    if column.absent_if is not None:
        name, values = column.absent_if
        return row.get(name) in values
    return bool(column.absent)


def column_faults(column: Column, values: pa.ChunkedArray) -> Iterator[str]:
    """What the declaration of `column` does not allow."""
    if values.null_count and not column.absent:
        yield f"{values.null_count} cells are null, and no reason for that is declared"
    for path, numbers in infinite_leaves(column.name, values):
        yield f"{len(numbers)} values of {path} are not finite"
    if column.bounds and len(values) > values.null_count:
        (low, high), found = column.bounds, pc.min_max(values).as_py()
        if found["min"] < low or found["max"] > high:
            yield f"values from {found['min']} to {found['max']} leave the bounds {low:g} to {high:g}"
    if column.choices:
        others = sorted(set(values.unique().to_pylist()) - {*column.choices, None})
        if others:
            yield f"{', '.join(map(repr, others[:5]))} is none of {', '.join(column.choices)}"


def infinite_leaves(path: str, values: pa.ChunkedArray) -> Iterator[tuple[str, list[float]]]:
    """Every floating-point leaf of a column that holds NaN or infinity, with those values."""
    arrow = values.type
    if pa.types.is_floating(arrow):
        bad = values.filter(pc.invert(pc.is_finite(values))).to_pylist()
        if bad:
            yield path, bad
    elif pa.types.is_list(arrow):
        inside = [chunk.flatten() for chunk in values.chunks]
        yield from infinite_leaves(path, pa.chunked_array(inside, arrow.value_type))
    elif pa.types.is_struct(arrow):
        for index, field in enumerate(arrow):
            inside = [chunk.flatten()[index] for chunk in values.chunks]
            yield from infinite_leaves(f"{path}.{field.name}", pa.chunked_array(inside, field.type))


def _array(column: Column, cells: list[Any]) -> pa.ChunkedArray:
    try:
        return pa.chunked_array([pa.array(cells, type=column.type)])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BadRow(f"column {column.name}: expected {column.type}: {error}") from error


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("address") or row.get("path") or row.get("slug") or row.get("run_id") or "?")
