"""Small pictures of neurons on a map, in sheets of neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from atlas_schema.read import Atlas
from site_builder.neuron_map.nodes import COLUMNS, TILE, Numbers
from site_builder.outline import Layer
from site_builder.sprites import sheet, thumbnail


def tiles_of(atlas: Atlas, layers: Sequence[Layer], wanted: Numbers, pool: Executor) -> npt.NDArray[np.uint8] | None:
    """uint8 (wanted, TILE, TILE, 3): the pictures of the neurons `wanted`, grey where there is none; None where none
    has one. wanted: ascending numbers of neurons, layer by layer and unit by unit.
    """
    tiles = np.full((len(wanted), TILE, TILE, 3), 128, np.uint8)
    ends = np.cumsum([len(layer.units) for layer in layers])
    cuts = np.searchsorted(wanted, [0, *ends])

    def fill(at: int) -> bool:
        own = wanted[cuts[at] : cuts[at + 1]] - (ends[at] - len(layers[at].units))
        return bool(len(own)) and _fill(atlas, layers[at], own, tiles[cuts[at] : cuts[at + 1]])

    return tiles if any(list(pool.map(fill, range(len(layers))))) else None


def _fill(atlas: Atlas, layer: Layer, members: Numbers, tiles: npt.NDArray[np.uint8]) -> bool:
    rows = atlas.neurons(layer.slug, layer.layer, ["unit", "image"])
    if rows is None:
        return False
    images, found = rows.take(pa.array(members))["image"], False
    for at, image in enumerate(images):
        data = image.as_py() and image.as_py()["bytes"]
        if data:
            tiles[at] = np.asarray(thumbnail(data, TILE).resize((TILE, TILE)))
            found = True
    return found


def sheet_files(
    sheets: Sequence[Sequence[Numbers]], tiles: npt.NDArray[np.uint8], place: Numbers
) -> Iterator[tuple[str, bytes]]:
    """File name -> WebP of a sheet. sheets: of each node (`sheets_of`); place: (neurons,), the neuron's tile."""
    for node, own in enumerate(sheets):
        for at, members in enumerate(own):
            pictures = [Image.fromarray(tiles[place[member]]) for member in members]
            yield f"{node:05d}-{at:03d}.webp", sheet(pictures, COLUMNS, TILE)
