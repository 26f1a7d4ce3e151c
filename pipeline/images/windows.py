"""The nine fixed windows of a picture: where a neuron's crop of an image can lie.

A crop of its own for every neuron and image would need an embedding for each pair. These nine are shared by all
neurons, so that ten embeddings an image (the whole picture and its windows) serve every one of them.

Windows count row by row from the top left, 0 to 8. Each spans half the side; the next begins a quarter further.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ViewSettings:
    """What a view of an image is. There is one way: the fields are facts of this code, for the keys of results."""

    rows: int = field(default=3, init=False)  # windows down
    columns: int = field(default=3, init=False)  # and across
    span: float = field(default=0.5, init=False)  # side of a window, as a share of the image's

    def windows(self) -> tuple[tuple[float, float, float, float], ...]:
        """(top, left, bottom, right) of each window, as shares of the height and width of the model's input."""
        down, across = (1 - self.span) / (self.rows - 1), (1 - self.span) / (self.columns - 1)
        corners = [(row * down, column * across) for row in range(self.rows) for column in range(self.columns)]
        return tuple((top, left, top + self.span, left + self.span) for top, left in corners)


ROWS, COLUMNS, WINDOWS = ViewSettings().rows, ViewSettings().columns, ViewSettings().windows()

VIEWS = 1 + len(WINDOWS)
"""Views of an image that are embedded: view 0 is the whole picture, view 1 + w is window w."""


def window_of(row: Any, column: Any, grid: tuple[int, int]) -> Any:
    """The window whose centre is nearest the centre of a patch token, 0 to 8; ties go to the middle.

    row, column: place in the token grid, from the top left; numbers, numpy arrays or torch tensors alike.
    grid: (rows, columns) of tokens. Exact: integers only.
    """
    return COLUMNS * _band(row, grid[0]) + _band(column, grid[1])


def windows_of_grid(grid: tuple[int, int]) -> NDArray[np.uint8]:
    """(rows * columns,): the window of every patch token of a grid, tokens row by row: a table to look up in."""
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    windows: NDArray[np.uint8] = window_of(row, column, grid).astype(np.uint8)
    return windows


def _band(position: Any, count: int) -> Any:
    """0, 1 or 2: which of 1/4, 1/2, 3/4 is nearest (position + 1/2) / count; the borders are 3/8 and 5/8."""
    eighths = 4 * (2 * position + 1)  # of 8 * count
    return 1 * (eighths >= 3 * count) + 1 * (eighths > 5 * count)  # 1 *: truth values of arrays do not add up
