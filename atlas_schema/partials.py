"""Parts that hold named arrays instead of rows: what later stages read.

They lie where parts lie, are named and committed as parts are, and are read array by array: whoever needs one
layer of a model reads the bytes of that layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from atlas_schema.errors import NothingThere
from atlas_schema.parquet import damage, encode
from atlas_schema.parts import PartReceipt, commit_encoded, part_footer, part_path
from atlas_schema.rows import rows_to_table
from atlas_schema.store import Store
from atlas_schema.tables import PARTIALS
from atlas_schema.units import WorkUnit

PIECE_BYTES = 16 << 20  # of an array in one cell


def commit_partial(
    store: Store, unit: WorkUnit, arrays: Mapping[str, np.ndarray], *, provenance: Mapping[str, str]
) -> PartReceipt:
    """Commit named arrays as the part of `unit`, a unit of a stage that fills no table; otherwise as `commit_part`."""
    rows = [row for name in sorted(arrays) for row in _pieces(name, arrays[name])]
    data = rows_to_table(PARTIALS.columns, PARTIALS.schema(), rows)
    encoded = encode(PARTIALS, data, part_footer(unit, provenance), rows_per_group=1)
    return commit_encoded(store, unit, {PARTIALS: encoded}, len(rows))


def read_partial(store: Store, unit: WorkUnit, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a committed partial: `names`, or all. Only their bytes are read, each page with its checksum.

    Raises ShardCorrupt where it is damaged, NothingThere where it is absent or has no such array.
    """
    path = part_path(unit)
    try:
        with store.open(path) as file, damage(path):
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            listed = [parquet.metadata.row_group(g).column(0).statistics.min for g in range(parquet.num_row_groups)]
            wanted = sorted(set(listed)) if names is None else list(names)
            groups = [group for group, name in enumerate(listed) if name in set(wanted)]
            rows = parquet.read_row_groups(groups).to_pylist() if groups else []
    except FileNotFoundError:
        raise NothingThere(f"{unit}: not committed (no {path}); run the stage {unit.stage} first") from None
    pieces: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        pieces.setdefault(row["array"], []).append(row)
    lacking = [name for name in wanted if name not in pieces]
    if lacking:
        raise NothingThere(f"{path}: holds no array {lacking[0]!r}; it holds {', '.join(sorted(set(listed)))}")
    return {name: _assembled(pieces[name]) for name in wanted}


def _pieces(name: str, array: np.ndarray) -> Iterator[dict[str, Any]]:
    """Rows of PARTIALS that hold one array; `_assembled` is the way back."""
    flat = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    encoded = flat.tobytes()
    for piece, begin in enumerate(range(0, max(len(encoded), 1), PIECE_BYTES)):
        yield {
            "array": name,
            "piece": piece,
            "dtype": flat.dtype.str,
            "shape": list(array.shape),
            "data": encoded[begin : begin + PIECE_BYTES],
        }


def _assembled(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    encoded = b"".join(row["data"] for row in sorted(rows, key=lambda row: row["piece"]))
    return np.frombuffer(encoded, dtype=rows[0]["dtype"]).reshape(rows[0]["shape"])
