"""Pictures that span layers: a model's strip of depth, and the wall of the home page."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from site_builder.folders import replace
from site_builder.layers import LayerSummary
from site_builder.section import Work
from site_builder.sprites import sheet, thumbnail

#: Rows of the home page's wall, from early layers to late ones, and how many columns it aims at.
WALL_ROWS, WALL_COLUMNS, WALL_NARROW = 6, 14, 8
#: Side of a picture on that wall: as wide as a column of a page of 1,152 pixels.
WALL_SIDE = 80
#: Side of a picture in a model's strip of depth: shown at half of it.
DEPTH_SIDE = 80

#: (folder below d/, summary) of each layer that has neurons, by slug and layer.
Layers = Mapping[tuple[str, int], tuple[str, LayerSummary]]
#: (index of the model in the manifest, layer, unit), or an empty place.
Tile = tuple[int, int, int] | None


def write_depth(work: Work, layers: Layers, slug: str) -> str | None:
    """Write one picture a layer, the layer's best, side by side; its path, or None where the model has no picture."""
    made = [layers[key] for key in sorted(layers) if key[0] == slug]
    chosen = [(summary.layer, summary.best[0], folder) for folder, summary in made if summary.best]
    if not chosen:
        return None
    name = f"d/{slug}/depth-{_digest(chosen, DEPTH_SIDE)}.webp"
    if not (work.folder / name).exists():
        pictures = [work.outline.atlas.picture(f"{slug}/mlp/{layer}/{unit}") for layer, unit, _ in chosen]
        thumbs = [thumbnail(picture, DEPTH_SIDE) for picture in pictures]
        replace(work.folder / name, sheet(thumbs, len(chosen), DEPTH_SIDE))
    return name


def write_wall(work: Work, layers: Layers, slugs: Sequence[str]) -> dict[str, Any] | None:
    """Write the wall of the models `slugs`, which have pictures; what the manifest says of it, None without any."""
    if not slugs:
        return None
    if len(slugs) > WALL_COLUMNS:
        slugs = [slugs[i * len(slugs) // WALL_COLUMNS] for i in range(WALL_COLUMNS)]
    columns = len(slugs) * max(1, round(WALL_COLUMNS / len(slugs)))
    narrow = len(slugs) * (WALL_NARROW // len(slugs)) if len(slugs) <= WALL_NARROW else WALL_NARROW
    order = work.outline.slugs
    tiles = wall_tiles(layers, [(order.index(slug), slug) for slug in slugs], columns)
    name = f"d/wall-{_digest(tiles, sorted(folder for folder, _ in layers.values()), WALL_SIDE)}.webp"
    if not (work.folder / name).exists():
        addresses = [tile and f"{order[tile[0]]}/mlp/{tile[1]}/{tile[2]}" for tile in tiles]
        thumbs = [thumbnail(work.outline.atlas.picture(one), WALL_SIDE) if one else None for one in addresses]
        replace(work.folder / name, sheet(thumbs, columns, WALL_SIDE))
    return {"file": name, "columns": columns, "rows": WALL_ROWS, "narrow": narrow, "tiles": tiles}


def wall_tiles(layers: Layers, models: Sequence[tuple[int, str]], columns: int) -> list[Tile]:
    """Places row by row: early layers on top, a column a model; then the models come round, with other pictures.

    models: (index in the manifest, slug) of those that have pictures.
    """
    used: Counter[tuple[str, int]] = Counter()
    tiles: list[Tile] = [None] * (WALL_ROWS * columns)
    for column in range(columns):
        index, slug = models[column % len(models)]
        depths = sorted(layer for own, layer in layers if own == slug and layers[own, layer][1].best)
        for row in range(WALL_ROWS):
            layer = depths[round(row * (len(depths) - 1) / (WALL_ROWS - 1))]
            best = layers[slug, layer][1].best
            if used[slug, layer] < len(best):
                tiles[row * columns + column] = (index, layer, best[used[slug, layer]])
                used[slug, layer] += 1
    return tiles


def _digest(*inputs: Any) -> str:
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]
