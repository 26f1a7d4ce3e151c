"""Maps of what each token passes, for and against, as text: one digit of base 32 a token, `f` for nothing.

The dataset has a byte a token, 128 for nothing. Over a small picture, 31 levels with bilinear interpolation look
like 255, and take half the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from site_builder.examples import MAP_SIDE

#: Levels at each side of nothing.
LEVELS = 15
_DIGITS = np.frombuffer(b"0123456789abcdefghijklmnopqrstu", dtype=np.uint8)


def signed_texts(maps: Sequence[bytes], heights: Sequence[int], widths: Sequence[int]) -> list[str]:
    """Each map (uint8, row by row) as digits, row by row, of the means of its blocks."""
    texts = []
    for data, height, width in zip(maps, heights, widths, strict=True):
        values = np.frombuffer(data, dtype=np.uint8).reshape(height, width).astype(np.float64) - 128
        levels = np.clip(np.rint(block_means(values) * (LEVELS / 127)), -LEVELS, LEVELS).astype(int)
        texts.append(_DIGITS[levels + LEVELS].tobytes().decode())
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
