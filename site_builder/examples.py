"""Examples of a layer -> packs of 64 neurons: which probe images, how strong, and maps of 16 levels as text.

A map is drawn over a small picture, where 16 levels with bilinear interpolation look like 256; as one hexadecimal
digit a token, gzip brings it to about a third of a byte a token. The dataset keeps the full map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from site_builder.packs import packs, rounded, with_empty_packs

#: Maps of more tokens a side are reduced to block maxima: a picture of them has some 112 pixels.
MAP_SIDE = 28
#: Level of gzip: 9 would take ten times as long for 3 percent.
GZIP = 7
_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
#: Column of the dataset -> its name in a pack.
_PLAIN = {"kind": "kind", "image_index": "image", "map_height": "rows", "map_width": "columns", "row": "row"}
_PLAIN |= {"column": "column", "scale": "scale"}
_ROUNDED = {"activation": "activation", "activation_mean": "mean", "quantile": "quantile"}
_ROUNDED |= {"map_low": "low", "map_high": "high"}


def example_packs(rows: pa.Table, units: Sequence[int], *, names: bool) -> dict[str, bytes]:
    """File name -> gzip JSON of the examples of 64 neurons, one entry a row of the dataset, in its order.

    rows: the neuron_examples of one layer; units: its neurons that the atlas has. names: keep the images' names,
    where no probe_images table has them.
    """
    columns: dict[str, list[Any]] = {"unit": rows.column("unit").to_pylist()}
    columns |= {short: rows.column(name).to_pylist() for name, short in _PLAIN.items()}
    columns |= {short: [rounded(v, 4) for v in rows.column(name).to_pylist()] for name, short in _ROUNDED.items()}
    columns["probe"] = rows.column("probe_set").to_pylist()
    columns["box"] = _boxes(rows)
    columns["map"] = map_texts(rows.column("map").to_pylist(), columns["rows"], columns["columns"])
    if names:
        columns["name"] = rows.column("image").to_pylist()
    return with_empty_packs(packs(columns["unit"], columns, "", GZIP), units)


def map_texts(maps: Sequence[bytes], heights: Sequence[int], widths: Sequence[int]) -> list[str]:
    """Each map (uint8, row by row) as hexadecimal digits, row by row, of its block maxima."""
    texts = [""] * len(maps)
    for height, width in set(zip(heights, widths, strict=True)):
        chosen = [i for i, grid in enumerate(zip(heights, widths, strict=True)) if grid == (height, width)]
        stacked = np.frombuffer(b"".join(maps[i] for i in chosen), dtype=np.uint8).reshape(-1, height, width)
        levels = (block_maxima(stacked).astype(np.uint16) * 15 + 127) // 255
        for i, digits in zip(chosen, _DIGITS[levels].reshape(len(chosen), -1), strict=True):
            texts[i] = digits.tobytes().decode()
    return texts


def block_maxima(maps: np.ndarray) -> np.ndarray:
    """(maps, rows, columns) -> the same with at most MAP_SIDE rows and columns, each the maximum of a square block.

    Blocks have ceil(longer side / MAP_SIDE) tokens a side; the last row and column of blocks may reach over the edge.
    """
    block = -(-max(maps.shape[1:]) // MAP_SIDE)
    if block == 1:
        return maps
    padded = np.pad(maps, [(0, 0), *((0, -side % block) for side in maps.shape[1:])])
    count, height, width = padded.shape
    blocks = padded.reshape(count, height // block, block, width // block, block)
    maxima: np.ndarray = blocks.max(axis=(2, 4))
    return maxima


def _boxes(rows: pa.Table) -> list[list[float] | None]:
    """Left, top, right, bottom of each strongest patch, or None where it is just its cell of the grid."""
    boxes = rows.column("box").combine_chunks()
    sides = ("left", "top", "right", "bottom")
    found = np.stack([boxes.field(side).to_numpy(zero_copy_only=False) for side in sides], axis=1)  # (rows, 4)
    column, width, row, height = (
        rows.column(name).to_numpy().astype(np.float64) for name in ("column", "map_width", "row", "map_height")
    )
    cell = np.stack([column / width, row / height, (column + 1) / width, (row + 1) / height], axis=1)
    is_cell = np.isclose(found, cell, atol=1e-3).all(axis=1) | np.isnan(found).any(axis=1)
    return [None if plain else rounded(box, 4) for plain, box in zip(is_cell, found.tolist(), strict=True)]
