"""Parts that hold named arrays instead of rows: what later stages read.

They lie where parts lie, are named and committed as parts are, and are read array by array: whoever needs one
layer of a model reads the bytes of that layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.errors import NothingThere
from atlas_schema.parquet import damage, encode, read_footer
from atlas_schema.parquet_columns import columns_at
from atlas_schema.parts import PartReceipt, commit_encoded, part_footer, part_path
from atlas_schema.rows import rows_to_table
from atlas_schema.store import Store
from atlas_schema.tables import PARTIALS
from atlas_schema.units import WorkUnit

PIECE_BYTES = 16 << 20  # of an array in one cell

NamedArrays = Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]
"""Arrays by name, or as they are made, in the order of their names: then one is held at a time."""


def commit_partial(store: Store, unit: WorkUnit, arrays: NamedArrays, *, provenance: Mapping[str, str]) -> PartReceipt:
    """Commit named arrays, at least one, as the part of `unit`, a unit of a stage that fills no table; otherwise as
    `commit_part`. ValueError for arrays that do not come in the order of their names.
    """
    count, last = 0, ""

    def pieces() -> Iterator[pa.Table]:
        nonlocal count, last
        for name, array in sorted(arrays.items()) if isinstance(arrays, Mapping) else arrays:
            if count and name <= last:
                raise ValueError(f"{unit}: the array {name!r} comes after {last!r}; expected the order of their names")
            last = name
            for piece in _pieces(name, array):
                count += 1
                yield piece

    encoded = encode(PARTIALS, pieces(), part_footer(unit, provenance), rows_per_group=1)
    return commit_encoded(store, unit, {PARTIALS: encoded}, count)


def partial_sizes(store: Store, unit: WorkUnit) -> dict[str, int]:
    """The arrays of a committed partial, and the bytes of each, by its footer. Raises as `read_partial`."""
    sizes: dict[str, int] = {}
    footer = _footer(store, unit)
    for group in range(footer.num_row_groups):
        stored = footer.row_group(group)
        name = stored.column(0).statistics.min
        sizes[name] = sizes.get(name, 0) + stored.total_byte_size
    return sizes


def read_partial(store: Store, unit: WorkUnit, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a committed partial: `names`, or all. Only their bytes are read, each page with its checksum.

    Raises ShardCorrupt where it is damaged, NothingThere where it is absent or has no such array.
    """
    footer = _footer(store, unit)
    listed = [footer.row_group(g).column(0).statistics.min for g in range(footer.num_row_groups)]
    wanted = sorted(set(listed)) if names is None else list(names)
    groups: dict[str, list[int]] = {name: [] for name in wanted if name in listed}
    for group, name in enumerate(listed):
        if name in groups:
            groups[name].append(group)
    arrays = {name: _assembled(store, part_path(unit), footer, of) for name, of in groups.items()}
    lacking = [name for name in wanted if name not in arrays]
    if lacking:
        held = ", ".join(sorted(set(listed)))
        raise NothingThere(f"{part_path(unit)}: holds no array {lacking[0]!r}; it holds {held}")
    return arrays


def _footer(store: Store, unit: WorkUnit) -> pq.FileMetaData:
    """The footer of a committed partial. Raises as `read_partial`."""
    path = part_path(unit)
    try:
        return read_footer(store, path)
    except FileNotFoundError:
        raise NothingThere(f"{unit}: not committed (no {path}); run the stage {unit.stage} first") from None


def _pieces(name: str, array: np.ndarray) -> Iterator[pa.Table]:
    """Rows of PARTIALS that hold one array, a table each, its bytes not copied; `_assembled` is the way back.

    One Arrow array would end at 2 GB.
    """
    flat = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    raw = flat.reshape(-1).view(np.uint8)
    schema = PARTIALS.schema()
    for piece, begin in enumerate(range(0, max(len(raw), 1), PIECE_BYTES)):
        some = raw[begin : begin + PIECE_BYTES]
        row = {"array": name, "piece": piece, "dtype": flat.dtype.str, "shape": list(array.shape), "data": b""}
        offsets = pa.py_buffer(np.array([0, len(some)], dtype=np.int32))
        data = pa.Array.from_buffers(pa.binary(), 1, [None, offsets, pa.py_buffer(some)])
        table = rows_to_table(PARTIALS.columns, schema, [row])
        yield table.set_column(schema.get_field_index("data"), schema.field("data"), data)


def _assembled(store: Store, path: str, footer: pq.FileMetaData, groups: Sequence[int]) -> np.ndarray:
    """The array whose pieces lie in some row groups, in their order; one of them is held beside it at a time."""
    array: np.ndarray | None = None
    filled = 0
    with damage(path):
        for group in groups:
            table = columns_at(store, path, footer, groups=[group])
            for index in range(table.num_rows):
                row = {name: table[name][index] for name in table.column_names}
                if array is None:
                    array = np.empty(row["shape"].as_py(), dtype=row["dtype"].as_py())
                raw = array.reshape(-1).view(np.uint8)
                some = np.frombuffer(row["data"].as_buffer(), np.uint8)
                raw[filled : filled + len(some)] = some  # ValueError, as damage is, where it is longer than its place
                filled += len(some)
        if array is None or filled != array.nbytes:
            raise ValueError(f"{filled} bytes of an array of {0 if array is None else array.nbytes}")
    return array
