"""Rows of a layer -> the JSON that the browser reads: packs of 64 neurons, and a table of the layer."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from atlas_schema.tables import NEURONS

#: Neurons of one pack: units [64 k, 64 k + 64) of a layer lie in pack k.
PACK = 64
#: Neurons of a layer's first table: what a wall 1,280 pixels wide shows before it scrolls, two sheets of thumbnails.
FIRST = 128
#: Columns a pack leaves out: the address says them, or (the image) they are served apart.
IMPLIED = ("address", "slug", "layer", "image")
#: Columns of the layer's table, by which the layer page sorts and filters.
LAYER_COLUMNS: tuple[str, ...] = ("activation", "robust_mean", "natural_kept", "activation_start")
LAYER_COLUMNS += ("fires_on", "percentile", "ratio_to_best", "peak_ratio", "label_z", "label_auroc")
#: What the layer's table says of a picture's verdict: an index into these, -1 where there is none.
VERDICTS = next(column.choices for column in NEURONS.columns if column.name == "verdict")
#: Columns whose figures a page shows with three digits: five are kept.
_FIVE_DIGITS = {column.name for column in NEURONS.columns if column.stage not in ("", "visualize")}


def plain(value: Any) -> Any:
    """A value of Arrow as JSON has it: floats to 7 digits (all of a float32), instants as ISO text.

    A float that is not finite becomes null: JSON has no such number, and validate() has already named it.
    """
    if isinstance(value, float):
        return float(f"{value:.7g}") if np.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def rounded(value: Any, digits: int) -> Any:
    """Floats of a value, however deep, to so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {name: rounded(inner, digits) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner, digits) for inner in value]
    return value


def dump(value: Any, level: int = 9) -> bytes:
    """Compact JSON, gzip, the same bytes for the same value (no time stamp in the gzip header)."""
    text = json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return gzip.compress(text.encode(), compresslevel=level, mtime=0)


def load(path: Path) -> Any:
    """What `dump` wrote into a file."""
    return json.loads(gzip.decompress(path.read_bytes()))


def pack_columns(rows: pa.Table) -> dict[str, list[Any]]:
    """Every column of the neurons table that a page may show, in the schema's order."""
    names = [name for name in NEURONS.names if name not in IMPLIED and name in rows.column_names]
    columns = {name: rows.column(name).to_pylist() for name in names}
    columns |= {name: rounded(values, 5) for name, values in columns.items() if name in _FIVE_DIGITS}
    if "loss_curve" in columns:
        columns["loss_curve"] = [_points(curve) for curve in columns["loss_curve"]]
    return columns


def _points(curve: list[dict[str, Any]] | None) -> list[list[Any]]:
    return [[point["step"], point["objective"], point["activation"]] for point in curve or []]


def packs(units: Sequence[int], columns: Mapping[str, Sequence[Any]], shard: str, level: int = 9) -> dict[int, bytes]:
    """Pack number -> gzip JSON of its neurons. Columns whose value all neurons of a pack share stand once.

    units: (rows,) ascending; columns: name -> (rows,) values in the same order; level: of gzip.
    """
    numbers = np.asarray(units) // PACK
    made = {}
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number).tolist()
        chosen = {name: [values[i] for i in members] for name, values in columns.items()}
        made[int(number)] = dump({"shard": shard, **columnar(chosen)}, level)
    return made


def columnar(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Columns with those apart (`unit` never) whose value all rows share: it stands once."""
    shared = {name: values[0] for name, values in columns.items() if name != "unit" and values and _constant(values)}
    return {"shared": shared, "columns": {name: values for name, values in columns.items() if name not in shared}}


def packs_of(units: Sequence[int]) -> list[int]:
    """Numbers of the packs that hold these units, ascending."""
    return sorted({unit // PACK for unit in units})


def with_empty_packs(made: Mapping[int, bytes], units: Sequence[int]) -> dict[str, bytes]:
    """File name -> pack, with an empty one for those of `units` of which none has a row: a page asks for all."""
    empty = dump({"shard": "", "shared": {}, "columns": {"unit": []}})
    return {f"{number:05d}.json.gz": made.get(number, empty) for number in packs_of(units)}


def _constant(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values[1:])


def first_table(columns: Mapping[str, Sequence[Any]], order: Sequence[int], colors: Sequence[str]) -> bytes:
    """The layer table of the first FIRST neurons in the order of the thumbnails, and `of`, how many the layer has.

    What the wall of a wide layer shows before it scrolls: of 3,072 neurons a twentieth of the bytes.
    """
    some = list(order[:FIRST])
    few = {name: [values[place] for place in some] for name, values in columns.items()}
    table = _layer_table(few, range(len(some)), [colors[place] for place in some])
    return dump(table | {"of": len(order)})


def layer_table(columns: Mapping[str, Sequence[Any]], order: Sequence[int], colors: Sequence[str]) -> bytes:
    """What the layer page needs of every neuron: figures, status, label, mean colour, place among the thumbnails.

    order: (neurons,) positions in the order of the thumbnails; colors: (neurons,) six hex digits each. A figure
    that no neuron has is left out; labels are indices into `texts`, verdicts into VERDICTS, -1 for none.
    """
    return dump(_layer_table(columns, order, colors))


def _layer_table(columns: Mapping[str, Sequence[Any]], order: Sequence[int], colors: Sequence[str]) -> dict[str, Any]:
    place = np.empty(len(order), dtype=int)
    place[np.asarray(order, dtype=int)] = np.arange(len(order))
    table: dict[str, Any] = {"unit": list(columns["unit"])}
    figures = {name: list(columns[name]) for name in LAYER_COLUMNS if name in columns}
    table |= {name: values for name, values in figures.items() if any(value is not None for value in values)}
    table["inactive"] = [i for i, status in enumerate(columns["status"]) if status in ("inactive", "failed")]
    verdicts = columns.get("verdict", [])
    if any(verdict is not None for verdict in verdicts):
        table["verdict"] = [-1 if verdict is None else VERDICTS.index(verdict) for verdict in verdicts]
    labels = columns.get("label", [])
    if any(status is not None for status in columns.get("label_status", [])):
        table["texts"] = sorted({text for text in labels if text is not None})
        number = {text: i for i, text in enumerate(table["texts"])}
        table["label"] = [number.get(text, -1) for text in labels]
    return table | {"thumb": place.tolist(), "color": "".join(colors)}
