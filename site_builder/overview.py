"""What spans layers: a model's facts, its strip of depth, the wall of the home page, the manifest."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas_schema.read import Atlas
from atlas_schema.tables import NEURONS, SCHEMA_VERSION, TABLES
from site_builder.evidence import Evidence
from site_builder.head_pages import HeadPages
from site_builder.layers import LayerSummary
from site_builder.packs import PACK, dump
from site_builder.sprites import BUNDLE, sheet, thumbnail
from site_builder.survey import Survey

#: Rows of the home page's wall, from early layers to late ones, and how many columns it aims at.
WALL_ROWS, WALL_COLUMNS, WALL_NARROW = 6, 14, 8
#: Side of a picture in a model's strip of depth: shown at half of it.
DEPTH_SIDE = 80

#: (folder below d/, summary) of each layer that has neurons, by slug and layer.
Layers = Mapping[tuple[str, int], tuple[str, LayerSummary]]


@dataclass(frozen=True)
class Overview:
    manifest: dict[str, Any]
    files: set[str]  # paths in the site that the manifest names


def write(atlas: Atlas, folder: Path, held: Survey, layers: Layers, evidence: Evidence, heads: HeadPages) -> Overview:
    """Write these files into the site at `folder`, except those that are there already, and list them."""
    runs, entries, files = atlas.runs(), [], set()
    for model in held.models:
        entry = _model_entry(atlas, folder, model, held, layers, runs)
        _add_evidence(entry, evidence, heads)
        entries.append(entry)
        files |= {name for name in (entry["file"], entry["depth"]) if name}
    wall = _wall(atlas, folder, entries, layers)
    if wall:
        files.add(wall["file"])
    manifest = {
        "schema": SCHEMA_VERSION,
        "pack": PACK,
        "bundle": BUNDLE,
        "columns": {table.name: _explanations(table.columns) for table in TABLES.values()},
        "models": entries,
        "wall": wall,
        **evidence.manifest,
        **heads.manifest,
    }
    return Overview(manifest, files)


def _explanations(columns: Sequence[Any]) -> dict[str, dict[str, str]]:
    return {column.name: {"means": column.means, "unit": column.unit, "absent": column.absent} for column in columns}


def _model_entry(
    atlas: Atlas,
    folder: Path,
    model: dict[str, Any],
    held: Survey,
    layers: Layers,
    runs: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    slug = model["slug"]
    sites = held.sites[slug]
    own = [layers.get((slug, site["layer"])) for site in sites]
    summaries = [made and made[1] for made in own]
    facts = {
        "model": model,
        "sites": sites,
        "attention": held.attention.get(slug, []),
        "layers": [summary and summary.as_json() for summary in summaries],
        "runs": [run for run in runs if _worked_on(run, model)],
    }
    present = [summary for summary in summaries if summary]
    return {
        "slug": slug,
        "model_id": model["model_id"],
        "family": model["family"],
        "source": model["source"],
        "neurons": model["neurons"],
        "described": sum(summary.described for summary in present),
        "inactive": sum(summary.inactive for summary in present),
        "labelled": sum(summary.labelled for summary in present),
        "stages": [stage for stage in NEURONS.stages if any(stage in summary.stages for summary in present)],
        "file": _write_by_content(folder, f"d/{slug}/model-", ".json.gz", dump(facts)),
        "depth": _depth(atlas, folder, slug, own),
        "layers": [_layer_entry(site, made) for site, made in zip(sites, own, strict=True)],
    }


def _layer_entry(site: Mapping[str, Any], made: tuple[str, LayerSummary] | None) -> dict[str, Any]:
    if made is None:
        return {"width": site["width"], "folder": None, "ranges": []}
    return {"width": site["width"], "folder": f"d/{made[0]}", "ranges": made[1].ranges}


def _add_evidence(entry: dict[str, Any], evidence: Evidence, heads: HeadPages) -> None:
    """Say in a model's entry where its examples, its counterparts and its heads are."""
    for layer, place in enumerate(entry["layers"]):
        for stage, folders in (("examples", evidence.examples), ("matches", evidence.matches)):
            if (entry["slug"], layer) in folders:
                place[stage] = folders[entry["slug"], layer]
                if stage not in entry["stages"]:
                    entry["stages"].append(stage)
    entry["heads"] = heads.entries.get(entry["slug"])
    if entry["heads"]:
        entry["stages"].append("heads")


def _worked_on(run: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether a run's configuration or command names the model; the text is searched for its names."""
    said = f"{run['config']} {run['command']}"
    return model["slug"] in said or model["model_id"] in said or model["model_id"].rpartition("/")[2] in said


def _depth(atlas: Atlas, folder: Path, slug: str, layers: Sequence[tuple[str, LayerSummary] | None]) -> str | None:
    """One picture a described layer, side by side: the layer's best."""
    chosen = [(made[1].layer, made[1].best[0], made[0]) for made in layers if made and made[1].best]
    if not chosen:
        return None
    name = f"d/{slug}/depth-{_digest(chosen, DEPTH_SIDE)}.webp"
    if not (folder / name).exists():
        pictures = [atlas.picture(f"{slug}/mlp/{layer}/{unit}") for layer, unit, _ in chosen]
        thumbs = [thumbnail(picture, DEPTH_SIDE) for picture in pictures]
        (folder / name).write_bytes(sheet(thumbs, len(chosen), DEPTH_SIDE))
    return name


def _wall(atlas: Atlas, folder: Path, entries: Sequence[dict[str, Any]], layers: Layers) -> dict[str, Any] | None:
    """Pictures by depth, a column a model; then the models come round again, with other pictures."""
    shown = [index for index, entry in enumerate(entries) if entry["depth"]]
    if not shown:
        return None
    shown = [shown[i * len(shown) // WALL_COLUMNS] for i in range(WALL_COLUMNS)] if len(shown) > WALL_COLUMNS else shown
    columns = len(shown) * max(1, round(WALL_COLUMNS / len(shown)))
    narrow = len(shown) * (WALL_NARROW // len(shown)) if len(shown) <= WALL_NARROW else WALL_NARROW
    used: Counter[tuple[str, int]] = Counter()
    tiles: list[tuple[int, int, int] | None] = [None] * (WALL_ROWS * columns)
    for column in range(columns):
        index = shown[column % len(shown)]
        slug = entries[index]["slug"]
        depths = [
            layer
            for layer, entry in enumerate(entries[index]["layers"])
            if entry["folder"] and layers[slug, layer][1].best
        ]
        for row in range(WALL_ROWS):
            layer = depths[round(row * (len(depths) - 1) / (WALL_ROWS - 1))]
            best = _best(layers, slug, layer)
            if used[slug, layer] < len(best):
                tiles[row * columns + column] = (index, layer, best[used[slug, layer]])
                used[slug, layer] += 1
    name = f"d/wall-{_digest(tiles, sorted(made[0] for made in layers.values()))}.webp"
    if not (folder / name).exists():
        addresses = [tile and f"{entries[tile[0]]['slug']}/mlp/{tile[1]}/{tile[2]}" for tile in tiles]
        thumbs = [thumbnail(atlas.picture(address)) if address else None for address in addresses]
        (folder / name).write_bytes(sheet(thumbs, columns))
    return {"file": name, "columns": columns, "rows": WALL_ROWS, "narrow": narrow, "tiles": tiles}


def _best(layers: Layers, slug: str, layer: int) -> list[int]:
    """Units of a layer whose pictures hold best; none where the layer has no pictures."""
    return layers[slug, layer][1].best if (slug, layer) in layers else []


def _digest(*inputs: Any) -> str:
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]


def _write_by_content(folder: Path, prefix: str, suffix: str, data: bytes) -> str:
    name = f"{prefix}{hashlib.sha256(data).hexdigest()[:12]}{suffix}"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(data)
    return name
