"""Section: examples. Which probe images excite a neuron, how strongly, and maps of where.

d/{slug}/{layer}-examples-HASH/   packs of 64 neurons, beside the layer's folder: its pictures stay as they are
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from atlas_schema.tables import NEURON_EXAMPLES
from site_builder.folders import content_name, write_folder
from site_builder.maps import MAP_SIDE, map_texts
from site_builder.outline import Layer, Outline
from site_builder.packs import PACK, packs, packs_of, rounded, with_empty_packs
from site_builder.reading import bytes_of, content_of, largest_of, layer_footer
from site_builder.section import Section, Size, Stage, Work, Written

#: Raise it when these files change for the same dataset.
FORMAT = b"1"
#: Level of gzip: 9 would take ten times as long for 3 percent.
GZIP = 7
#: Bytes of an example beside its map, and of a token of the map (16 levels, gzip). Measured on incompressible maps.
EXAMPLE_BYTES, TOKEN_BYTES = 34, 0.55
#: Column of the dataset -> its name in a pack.
_PLAIN = {"kind": "kind", "image_index": "image", "map_height": "rows", "map_width": "columns", "row": "row"}
_PLAIN |= {"column": "column", "scale": "scale"}
_ROUNDED = {"activation": "activation", "activation_mean": "mean", "quantile": "quantile"}
_ROUNDED |= {"map_low": "low", "map_high": "high"}


@dataclass(frozen=True)
class Examples:
    """The examples of a layer in the dataset."""

    layer: Layer
    shard: str  # path in the dataset
    rows: int
    map_bytes: int  # as they are stored
    map_tokens: int  # of the largest map, as the site keeps it
    probe_sets: frozenset[str]  # that they name


def survey(outline: Outline) -> list[Examples]:
    """Of each layer that has examples, from the footer and the names of probe sets."""
    found = []
    for layer in outline.layers:
        path, footer = layer_footer(outline.atlas, NEURON_EXAMPLES, layer.slug, layer.layer, layer.layers)
        if path is not None and footer is not None:
            named = outline.atlas.examples(layer.slug, layer.layer, ["probe_set"])
            sets = frozenset(named["probe_set"].unique().to_pylist()) if named is not None else frozenset()
            rows, columns = (min(MAP_SIDE, largest_of(footer, name)) for name in ("map_height", "map_width"))
            found.append(Examples(layer, path, footer.num_rows, bytes_of(footer, "map"), rows * columns, sets))
    return found


def size(held: Sequence[Examples], images: str) -> Size:
    """Packs are counted exactly, maps from above."""
    files = sum(len(packs_of(one.layer.units)) for one in held)
    tokens = sum(min(one.map_bytes, one.rows * one.map_tokens) for one in held)
    return Size(files, EXAMPLE_BYTES * sum(one.rows for one in held) + round(TOKEN_BYTES * tokens))


def write(work: Work, held: Sequence[Examples]) -> Written:
    """The packs of every layer."""
    folders = dict(
        zip((one.layer.key for one in held), work.pool.map(lambda one: _write(work, one), held), strict=True)
    )
    return Written(
        paths=set(folders.values()),
        layers={key: {"examples": folder} for key, folder in folders.items()},
        stages={slug: ["examples"] for slug, _ in folders},
    )


def _write(work: Work, own: Examples) -> str:
    atlas, layer = work.outline.atlas, own.layer
    names = not own.probe_sets <= work.outline.probe_sets
    content = content_of(atlas, own.shard)
    name = content_name(f"d/{layer.slug}/{layer.layer:05d}-examples", FORMAT, content, f"{PACK} {names}".encode())

    def files() -> dict[str, bytes]:
        rows = atlas.examples(layer.slug, layer.layer)
        return example_packs(rows, layer.units, names=names) if rows is not None else {}

    write_folder(work.folder, name, files)
    return name


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


SECTION: Section[list[Examples]] = Section(
    name="examples",
    tables=(NEURON_EXAMPLES,),
    entered="n/{slug}/{layer}/{unit}",
    folders=("d/*/*",),
    survey=survey,
    size=size,
    write=write,
    stages=(Stage("examples", "probe", "exciting images", "exciting images with the places that fire"),),
)
