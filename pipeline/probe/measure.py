"""From a batch of hidden activations to what the accumulators take: a few numbers per image and neuron.

Two aggregations over the patch tokens of an image, used throughout: its *peak*, the strongest token, and its
*mean*. Where a module serves several scales (CoaT), the peak is that of the strongest scale, and the mean is the
mean over scales of each scale's mean over tokens, as in visualization.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from pipeline.windows import COLUMNS, ROWS, windows_of_grid

POWERS = 4

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Measured:
    """One batch at one FFN site."""

    images: Tensor  # (batch,) int64: indices in the probe set
    hidden: Sequence[Tensor]  # a call each: (batch, tokens, width), patch tokens only
    peak: Tensor  # (batch, width)
    mean: Tensor  # (batch, width)
    window: Tensor  # (batch, width) uint8: the window that the peak's token belongs to
    powers: Tensor  # (POWERS, width) float64: sums over all tokens of the 1st to 4th power
    active: Tensor  # (width,) float64: tokens over 0
    tokens: int  # tokens summed over, of one neuron

    @property
    def width(self) -> int:
        return self.peak.shape[1]


def measure(images: Tensor, hidden: Sequence[Tensor], grids: Sequence[Grid]) -> Measured:
    """Measure a batch. images: (batch,); hidden: a call each, (batch, tokens, width); grids: a call each.

    On a CPU image by image, so that what is read again is still in the cache: some ten times quicker than on the
    whole batch. Sums of an image are float32, those over images float64.
    """
    batch, _, width = hidden[0].shape
    device = hidden[0].device
    chunk = 1 if device.type == "cpu" else batch
    peaks, means, windows = [], [], []
    powers = torch.zeros(POWERS, width, dtype=torch.float64, device=device)
    active = torch.zeros(width, dtype=torch.float64, device=device)
    for call, grid in zip(hidden, grids, strict=True):
        scratch = torch.empty(2, chunk, *call.shape[1:], device=device)
        of_call = []
        for begin in range(0, batch, chunk):
            x = call[begin : begin + chunk].float().contiguous()  # (chunk, tokens, width)
            one, two = scratch[:, : len(x)]
            first = x.sum(1)
            active += torch.gt(x, 0, out=one).sum(1).sum(0)
            torch.mul(x, x, out=one)
            second, third = one.sum(1), torch.mul(one, x, out=two).sum(1)
            fourth = torch.mul(one, one, out=two).sum(1)
            powers += torch.stack([first, second, third, fourth]).double().sum(1)
            of_call.append((first / x.shape[1], *_strongest_window(x, grid)))
        means.append(torch.cat([one[0] for one in of_call]))
        peaks.append(torch.cat([one[1] for one in of_call]))
        windows.append(torch.cat([one[2] for one in of_call]))
    peak, scale = torch.stack(peaks).max(0)
    window = torch.stack(windows).gather(0, scale[None])[0]
    tokens = batch * sum(call.shape[1] for call in hidden)
    mean = torch.stack(means).mean(0)
    return Measured(images.to(device), hidden, peak, mean, window.to(torch.uint8), powers, active, tokens)


def _strongest_window(x: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """(chunk, tokens, width) -> highest value, and the window it is in: (chunk, width) each.

    The tokens of a window are a block of the grid, so that maxima of blocks give both without an arg max over
    tokens, which is several times slower.
    """
    rows, columns = _bands(grid)
    places = x.unflatten(1, grid)
    blocks, names = [], []
    for row, (top, bottom) in rows:
        band = places[:, top:bottom].amax(1)  # (chunk, columns, width)
        for column, (left, right) in columns:
            blocks.append(band[:, left:right].amax(1))
            names.append(COLUMNS * row + column)
    peak, block = torch.stack(blocks).max(0)
    return peak, torch.tensor(names, device=x.device)[block]


def _bands(grid: Grid) -> tuple[list[tuple[int, Grid]], list[tuple[int, Grid]]]:
    """Which rows, and which columns, of a grid belong to each row (column) of windows; empty ones left out."""
    windows = windows_of_grid(grid).reshape(grid)
    row_of, column_of = (windows[:, 0] // COLUMNS).tolist(), (windows[0] % COLUMNS).tolist()
    return _runs(row_of, ROWS), _runs(column_of, COLUMNS)


def _runs(bands: Sequence[int], count: int) -> list[tuple[int, Grid]]:
    edges = [sum(band < index for band in bands) for index in range(count + 1)]
    return [(index, (low, high)) for index, (low, high) in enumerate(pairwise(edges)) if low < high]
