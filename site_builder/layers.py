"""One layer of the atlas -> the files of its folder in the site, and a summary for the other pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from atlas_schema.tables import NEURONS
from site_builder.packs import FIRST, PACK, VERDICTS, first_table, layer_table, pack_columns, packs, plain
from site_builder.sprites import SHEET, SHEET_COLUMNS, bundle, mean_color, sheet, thumbnail
from site_builder.start import candidates

#: Raise it when the files of a layer change for the same dataset: folders are named by it and by the content.
FORMAT = 6
#: Pictures of a layer on its model's page.
STRIP = 8
#: Neurons remembered as the layer's best, for sheets that mix layers.
BEST = 48
#: Mean colour of a picture that is not there.
EMPTY_COLOR = "808080"


@dataclass(frozen=True)
class LayerSummary:
    """What a model's page and the home page say about a layer."""

    layer: int
    described: int
    active: int
    inactive: int
    ranges: list[list[int]]  # [start, stop) of the units described
    quantiles: list[float | None]  # 5, 25, 50, 75, 95 % of the activations
    best: list[int]  # units whose pictures hold best, best first
    strip: list[int]  # the first of them, in strip.webp
    colors: list[str]  # their mean colours
    picture: list[int] | None  # height and width of a picture, pixels; None: no neuron has one
    stages: list[str]  # stages of the neurons table that have filled anything
    labelled: int
    unlabelled: int  # a label stage has run and found none that holds
    silent: int  # those of them that are inactive as well
    compared: int  # neurons whose picture was measured against the probe images
    beats_all: int  # those of them whose picture holds at least in part and activates more than every probe image
    judged: int  # neurons whose picture has a verdict
    holds: int  # those of them whose picture holds
    start: dict[str, tuple[int, float]]  # the best of each kind that a reader may start with (start.py)

    def as_json(self) -> dict[str, Any]:
        values: dict[str, Any] = plain(asdict(self))
        return values


def build_layer(
    rows: pa.Table, shard: str, mode: str, bundled: int, places: Sequence[tuple[int, int, int]] = ()
) -> tuple[Iterator[tuple[str, bytes]], LayerSummary]:
    """Files of one layer with their name in its folder, made as they are asked for, and its summary.

    rows: all columns of the neurons table, image included, one row a unit, ascending. `mode` says where large
    pictures come from: `sprite` (bundles of so many, `bundled`), `files`, or `range`, which needs `places` (unit,
    offset, length).
    """
    units = rows.column("unit").to_pylist()
    webps = [(image or {}).get("bytes") for image in rows.column("image").to_pylist()]
    columns = pack_columns(rows)
    thumbs = [webp and thumbnail(webp) for webp in webps]
    colors = [mean_color(thumb) if thumb else EMPTY_COLOR for thumb in thumbs]
    order = trust_order(columns)
    columns |= {"rank": activation_ranks(columns["activation"]), "color": colors}
    if mode == "range":
        found = {unit: (offset, length) for unit, offset, length in places}
        columns |= {
            "offset": [found.get(unit, (0, 0))[0] for unit in units],
            "length": [found.get(unit, (0, 0))[1] for unit in units],
        }

    files = {f"{number:05d}.json.gz": data for number, data in packs(units, columns, shard).items()}
    files["layer.json.gz"] = layer_table(columns, order, colors)
    if len(units) > FIRST:
        files["first.json.gz"] = first_table(columns, order, colors)
    strip = [thumbs[i] for i in order[:STRIP] if thumbs[i]]
    if strip:
        files["strip.webp"] = sheet(strip, columns=len(strip))
    sheets = _sheets([thumbs[i] for i in order])
    made = chain(files.items(), sheets, _originals(units, webps, mode, bundled))
    return made, _summary(rows, columns, order, webps)


def trust_order(columns: dict[str, list[Any]]) -> list[int]:
    """Positions, most trustworthy picture first: those that hold, in part, do not, are inactive, and are not there.

    Among equals by the activation that is left under natural changes; where nobody has judged, under fresh transforms;
    where the recipe draws none, by that of the clean picture.
    """
    none = [None] * len(columns["activation"])
    measures = (columns.get("natural_mean", none), columns["robust_mean"], columns["activation"])
    held = [next((value for value in values if value is not None), 0) for values in zip(*measures, strict=True)]
    statuses = {"active": 0, "inactive": len(VERDICTS)}
    verdicts = columns.get("verdict", none)
    rank = [
        statuses.get(status, len(VERDICTS) + 1) if status != "active" or verdict is None else VERDICTS.index(verdict)
        for status, verdict in zip(columns["status"], verdicts, strict=True)
    ]
    return sorted(range(len(held)), key=lambda i: (rank[i], -held[i], i))


def activation_ranks(activation: Sequence[float | None]) -> list[int | None]:
    """1 for the highest; equal activations share the better rank; None for none."""
    values = np.asarray([np.nan if value is None else -value for value in activation], dtype=np.float64)
    ranks = np.searchsorted(np.sort(values), values, side="left") + 1  # nan sorts last
    return [None if np.isnan(value) else int(rank) for value, rank in zip(values, ranks, strict=True)]


def ranges_of(units: Sequence[int]) -> list[list[int]]:
    """0, 1, 2, 5 -> [[0, 3], [5, 6]]."""
    breaks = np.flatnonzero(np.diff(units) != 1) + 1
    return [[int(run[0]), int(run[-1]) + 1] for run in np.split(np.asarray(units), breaks)]


def _sheets(thumbs: Sequence[Image.Image | None]) -> Iterator[tuple[str, bytes]]:
    for number in range(-(-len(thumbs) // SHEET)):
        chosen: list[Image.Image | None] = list(thumbs[number * SHEET : (number + 1) * SHEET])
        # Whole rows: the page places tiles by row and column, so a last row is filled up with empty ones.
        chosen += [None] * (-len(chosen) % SHEET_COLUMNS)
        yield f"{number:05d}.webp", sheet(chosen, SHEET_COLUMNS)


def _originals(
    units: Sequence[int], webps: Sequence[bytes | None], mode: str, size: int
) -> Iterator[tuple[str, bytes]]:
    if mode == "files":
        for unit, webp in zip(units, webps, strict=True):
            if webp:
                yield f"{unit // PACK:05d}/{unit}.webp", webp
    elif mode == "sprite":
        by_unit = dict(zip(units, webps, strict=True))
        for number in sorted({unit // size for unit in units}):
            slots = [by_unit.get(number * size + slot) for slot in range(size)]
            yield f"{number:05d}.pictures", bundle(slots)


def _summary(
    rows: pa.Table, columns: dict[str, list[Any]], order: Sequence[int], webps: Sequence[bytes | None]
) -> LayerSummary:
    units, colors = columns["unit"], columns["color"]
    seen = [i for i in order if webps[i]]
    reached = [value for value in columns["activation"] if value is not None]
    spread = np.quantile(np.asarray(reached or [np.nan], dtype=np.float64), [0.05, 0.25, 0.5, 0.75, 0.95])
    size = thumbnail(webps[seen[0]] or b"", limit=1 << 20).size if seen else None
    against = [at for at, percentile in enumerate(columns["percentile"]) if percentile is not None]
    return LayerSummary(
        layer=rows.column("layer")[0].as_py(),
        described=len(units),
        active=columns["status"].count("active"),
        inactive=columns["status"].count("inactive") + columns["status"].count("failed"),
        ranges=ranges_of(units),
        quantiles=[plain(float(value)) for value in spread],
        best=[units[i] for i in seen[:BEST]],
        strip=[units[i] for i in seen[:STRIP]],
        colors=[colors[i] for i in seen[:STRIP]],
        picture=size and [size[1], size[0]],
        stages=filled_stages(columns),
        labelled=columns["label_status"].count("labelled"),
        unlabelled=columns["label_status"].count("unlabelled"),
        silent=list(zip(columns["label_status"], columns["status"], strict=True)).count(("unlabelled", "inactive")),
        compared=len(against),
        beats_all=sum(beats_all(columns, at) for at in against),
        judged=sum(verdict is not None for verdict in columns["verdict"]),
        holds=columns["verdict"].count("holds"),
        start=candidates(columns),
    )


def filled_stages(columns: dict[str, list[Any]]) -> list[str]:
    """Stages of the neurons table that have filled a column of any neuron."""
    filled = {
        column.stage
        for column in NEURONS.columns
        if column.stage and any(value not in (None, []) for value in columns.get(column.name, ()))
    }
    return [stage for stage in NEURONS.stages if stage in filled]


def beats_all(columns: dict[str, list[Any]], at: int) -> bool:
    """Whether the picture activates the neuron more than every probe image does, by the mean over patch tokens and at
    the strongest patch. One that does not hold never does: static/trust.js says the same of a page.
    """
    if columns["verdict"][at] in ("does not", "inactive") or columns["status"][at] == "inactive":
        return False
    ratios = columns["ratio_to_best"][at], columns["peak_ratio"][at]
    mean = columns["percentile"][at] >= 100 if ratios[0] is None else ratios[0] > 1
    return bool(mean and (ratios[1] is None or ratios[1] > 1))
