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

from pipeline.images.windows import COLUMNS, ROWS, windows_of_grid

POWERS = 4

Grid = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Measured:
    """What one batch of images shows at one FFN site."""

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
    """The few numbers per image and neuron that accumulators take. images: (batch,); hidden: a call each, (batch,
    tokens, width); grids: a call each.

    On a CPU image by image, so that what is read again is still in the cache: some ten times quicker than on the
    whole batch. Sums of an image are float32, those over images float64.
    """
    batch, _, width = hidden[0].shape
    device = hidden[0].device
    peaks, means, windows = [], [], []
    sums = torch.zeros(1 + POWERS, width, dtype=torch.float64, device=device)
    for call, grid in zip(hidden, grids, strict=True):
        per_image, blocks, names = _reduced(call, grid)
        sums += per_image.double().sum(1)
        means.append(per_image[1] / call.shape[1])
        peak, block = blocks.max(0)
        peaks.append(peak)
        windows.append(names[block])
    peak, scale = torch.stack(peaks).max(0)
    window = torch.stack(windows).gather(0, scale[None])[0]
    tokens = batch * sum(call.shape[1] for call in hidden)
    mean = torch.stack(means).mean(0)
    return Measured(images.to(device), hidden, peak, mean, window, sums[1:], sums[0], tokens)


def _reduced(call: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """(batch, tokens, width) -> sums per image (1 + POWERS, batch, width): tokens over 0, and powers 1 to 4; highest
    value of each block of the grid (blocks, batch, width); the window of each block, uint8 (blocks,).

    The tokens of a window are a block of the grid, so that maxima of blocks tell where the peak is without an arg max
    over tokens, which is several times slower.
    """
    batch, tokens, width = call.shape
    rows, columns = _bands(grid)
    chunk = 1 if call.device.type == "cpu" else batch
    sums = torch.empty(1 + POWERS, batch, width, device=call.device)
    blocks = torch.empty(len(rows) * len(columns), batch, width, device=call.device)
    square, product = torch.empty(2, chunk, tokens, width, device=call.device)
    for begin in range(0, batch, chunk):
        own = slice(begin, begin + chunk)
        x = call[own].float()
        torch.sum(torch.gt(x, 0, out=product), 1, out=sums[0, own])
        torch.sum(x, 1, out=sums[1, own])
        torch.sum(torch.mul(x, x, out=square), 1, out=sums[2, own])
        torch.sum(torch.mul(square, x, out=product), 1, out=sums[3, own])
        torch.sum(torch.mul(square, square, out=product), 1, out=sums[4, own])
        cells = x.unflatten(1, grid)
        for i, (_, (top, bottom)) in enumerate(rows):
            band = cells[:, top:bottom].amax(1)  # (chunk, columns, width)
            for j, (_, (left, right)) in enumerate(columns):
                torch.amax(band[:, left:right], 1, out=blocks[i * len(columns) + j, own])
    names = [COLUMNS * row + column for row, _ in rows for column, _ in columns]
    return sums, blocks, torch.tensor(names, dtype=torch.uint8, device=call.device)


def _bands(grid: Grid) -> tuple[list[tuple[int, Grid]], list[tuple[int, Grid]]]:
    """Which rows, and which columns, of a grid belong to each row (column) of windows; empty ones left out."""
    windows = windows_of_grid(grid).reshape(grid)
    row_of, column_of = (windows[:, 0] // COLUMNS).tolist(), (windows[0] % COLUMNS).tolist()
    return _runs(row_of, ROWS), _runs(column_of, COLUMNS)


def _runs(bands: Sequence[int], count: int) -> list[tuple[int, Grid]]:
    edges = [sum(band < index for band in bands) for index in range(count + 1)]
    return [(index, (low, high)) for index, (low, high) in enumerate(pairwise(edges)) if low < high]
