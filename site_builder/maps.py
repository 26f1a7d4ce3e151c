"""Maps of patch tokens as text, one digit a token: how strongly each fires, or what each passes for and against.

A map is drawn over a small picture, where few levels with bilinear interpolation look like 256; as a digit a token,
gzip brings it to about a third of a byte a token (signed: two thirds). The dataset keeps the full map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Maps of more tokens a side are reduced to blocks: a picture of them has some 112 pixels.
MAP_SIDE = 28
#: Levels at each side of nothing, in a signed map.
LEVELS = 15
_HEXADECIMAL = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_BASE_31 = np.frombuffer(b"0123456789abcdefghijklmnopqrstu", dtype=np.uint8)


def map_texts(maps: Sequence[bytes], heights: Sequence[int], widths: Sequence[int]) -> list[str]:
    """Each map (uint8, row by row) as hexadecimal digits, row by row, of its block maxima."""
    texts = [""] * len(maps)
    for height, width in set(zip(heights, widths, strict=True)):
        chosen = [i for i, grid in enumerate(zip(heights, widths, strict=True)) if grid == (height, width)]
        stacked = np.frombuffer(b"".join(maps[i] for i in chosen), dtype=np.uint8).reshape(-1, height, width)
        levels = (block_maxima(stacked).astype(np.uint16) * 15 + 127) // 255
        for i, digits in zip(chosen, _HEXADECIMAL[levels].reshape(len(chosen), -1), strict=True):
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


def signed_texts(maps: Sequence[bytes], heights: Sequence[int], widths: Sequence[int]) -> list[str]:
    """Each signed map (uint8, row by row, 128 for nothing) as digits of base 31 of the means of its blocks.

    `f` is nothing, `0` and `u` are the ends.
    """
    texts = []
    for data, height, width in zip(maps, heights, widths, strict=True):
        values = np.frombuffer(data, dtype=np.uint8).reshape(height, width).astype(np.float64) - 128
        levels = np.clip(np.rint(block_means(values) * (LEVELS / 127)), -LEVELS, LEVELS).astype(int)
        texts.append(_BASE_31[levels + LEVELS].tobytes().decode())
    return texts


def block_means(field: np.ndarray) -> np.ndarray:
    """(rows, columns) -> the same with at most MAP_SIDE rows and columns: means of square blocks.

    Blocks have ceil(longer side / MAP_SIDE) tokens a side, as in `block_maxima`; one that reaches over the edge is
    the mean of what lies inside. Means, since what tokens pass adds up.
    """
    block = -(-max(field.shape) // MAP_SIDE)
    if block == 1:
        return field
    starts = [np.arange(0, side, block) for side in field.shape]
    sums = np.add.reduceat(np.add.reduceat(field, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff(np.append(start, side)) for start, side in zip(starts, field.shape, strict=True)]
    means: np.ndarray = sums / np.outer(*sizes)
    return means
