"""One layer of the atlas -> the files of its folder in the site, and a summary for the other pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from site_builder.packs import LAYER_COLUMNS, PACK, layer_table, pack_columns, packs, plain
from site_builder.sprites import BUNDLE, SHEET, SHEET_COLUMNS, bundle, mean_color, sheet, thumbnail

#: Raise it when the files of a layer change for the same dataset: folders are named by it and by the content.
FORMAT = 1
#: Pictures of a layer on its model's page.
STRIP = 8
#: Neurons remembered as the layer's best, for sheets that mix layers.
BEST = 48


@dataclass(frozen=True)
class LayerSummary:
    """What a model's page and the home page say about a layer."""

    layer: int
    described: int
    active: int
    inactive: int
    ranges: list[list[int]]  # [start, stop) of the units described
    quantiles: list[float | None]  # 5, 25, 50, 75, 95 % of the activations
    best: list[int]  # units whose pictures hold best under fresh transforms, best first
    strip: list[int]  # the first of them, in strip.webp
    colors: list[str]  # their mean colours
    picture: list[int]  # height and width of a picture, pixels

    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = plain(asdict(self))
        return values


def build_layer(
    rows: pa.Table, shard: str, mode: str, places: Sequence[tuple[int, int, int]] = ()
) -> tuple[dict[str, bytes], LayerSummary]:
    """Files of one layer by their name in its folder, and its summary.

    rows: all columns of the neurons table, image included, one row a unit, ascending. `mode` says where large
    pictures come from: `sprite` (bundles), `files`, or `range`, which needs `places` (unit, offset, length).
    """
    units = rows.column("unit").to_pylist()
    webps = [image["bytes"] for image in rows.column("image").to_pylist()]
    columns = pack_columns(rows)
    thumbs = [thumbnail(webp) for webp in webps]
    colors = [mean_color(thumb) for thumb in thumbs]
    order = trust_order(columns)
    columns |= {"rank": activation_ranks(columns["activation"]), "color": colors}
    if mode == "range":
        found = {unit: (offset, length) for unit, offset, length in places}
        columns |= {
            "offset": [found[unit][0] for unit in units],
            "length": [found[unit][1] for unit in units],
        }

    files = {f"{number:05d}.json.gz": data for number, data in packs(units, columns, shard).items()}
    files["layer.json.gz"] = layer_table(columns, order, colors)
    files |= dict(_sheets([thumbs[i] for i in order]))
    files["strip.webp"] = sheet([thumbs[i] for i in order[:STRIP]], columns=min(STRIP, len(order)))
    files |= dict(_originals(units, webps, mode))
    return files, _summary(rows, columns, order, webps)


def trust_order(columns: dict[str, list[Any]]) -> list[int]:
    """Positions, most trustworthy picture first: active ones by what they hold under fresh transforms.

    Where the recipe draws none, the activation of the clean picture stands in; inactive neurons come last.
    """
    robust, clean = columns["robust_mean"], columns["activation"]
    held = [clean[i] if value is None else value for i, value in enumerate(robust)]
    inactive = [status == "inactive" for status in columns["status"]]
    return sorted(range(len(held)), key=lambda i: (inactive[i], -held[i], i))


def activation_ranks(activation: Sequence[float]) -> list[int]:
    """1 for the highest; equal activations share the better rank."""
    values = -np.asarray(activation, dtype=np.float64)
    return [int(rank) for rank in np.searchsorted(np.sort(values), values, side="left") + 1]


def ranges_of(units: Sequence[int]) -> list[list[int]]:
    """0, 1, 2, 5 -> [[0, 3], [5, 6]]."""
    breaks = np.flatnonzero(np.diff(units) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(np.asarray(units), breaks)]


def _sheets(thumbs: Sequence[Image.Image]) -> Iterator[tuple[str, bytes]]:
    for number in range(-(-len(thumbs) // SHEET)):
        chosen: list[Image.Image | None] = list(thumbs[number * SHEET : (number + 1) * SHEET])
        # Whole rows: the page places tiles by row and column, so a last row is filled up with empty ones.
        chosen += [None] * (-len(chosen) % SHEET_COLUMNS)
        yield f"{number:05d}.webp", sheet(chosen, SHEET_COLUMNS)


def _originals(units: Sequence[int], webps: Sequence[bytes], mode: str) -> Iterator[tuple[str, bytes]]:
    if mode == "files":
        for unit, webp in zip(units, webps, strict=True):
            yield f"{unit // PACK:05d}/{unit}.webp", webp
    elif mode == "sprite":
        by_unit = dict(zip(units, webps, strict=True))
        for number in sorted({unit // BUNDLE for unit in units}):
            slots = [by_unit.get(number * BUNDLE + slot) for slot in range(BUNDLE)]
            yield f"{number:05d}.pictures", bundle(slots)


def _summary(
    rows: pa.Table, columns: dict[str, list[Any]], order: Sequence[int], webps: Sequence[bytes]
) -> LayerSummary:
    units, colors = columns["unit"], columns["color"]
    inactive = columns["status"].count("inactive")
    quantiles = np.quantile(np.asarray(columns[LAYER_COLUMNS[0]], dtype=np.float64), [0.05, 0.25, 0.5, 0.75, 0.95])
    width, height = thumbnail(webps[0], limit=1 << 20).size
    strip = list(order[:STRIP])
    return LayerSummary(
        layer=rows.column("layer")[0].as_py(),
        described=len(units),
        active=len(units) - inactive,
        inactive=inactive,
        ranges=ranges_of(units),
        quantiles=[plain(float(value)) for value in quantiles],
        best=[units[i] for i in order[:BEST]],
        strip=[units[i] for i in strip],
        colors=[colors[i] for i in strip],
        picture=[height, width],
    )
