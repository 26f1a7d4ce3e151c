"""Section: the map. All neurons of a model, and of all models together, on a plane by what they fire on.

map/{slug}-layout-HASH/   places of all its neurons, kept so that what changes beside them lays nothing out again
map/{slug}-HASH/          what a browser reads: index.json.gz, nodes of neurons, sheets of small pictures
map/_all-...              the same of all models together, where there are several

A site has it where it is asked for (`site build --map`): a layout takes minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from atlas_schema.shards import shard_path
from atlas_schema.tables import NEURON_EXAMPLES, NEURONS, PROBE_IMAGES
from site_builder.folders import content_name, write_folder
from site_builder.neuron_map import features, layout
from site_builder.neuron_map.nodes import (
    COLUMNS,
    NO_LABEL,
    NO_VERDICT,
    POINT_BYTES,
    SHEET,
    TILE,
    Node,
    Numbers,
    node_count,
    node_files,
    nodes_of,
    region_names,
    sheet_count,
    sheets_of,
)
from site_builder.neuron_map.pictures import sheet_files, tiles_of
from site_builder.outline import Layer, Outline
from site_builder.packs import VERDICTS, dump
from site_builder.reading import content_of, layer_footer
from site_builder.section import Section, Size, Work, Written

#: Raise it when these files change for the same dataset.
FORMAT = 1
#: Bytes of a small picture (measured: 0.7 kB), of an index beside its texts, and of a text in it.
PICTURE_BYTES, INDEX_BYTES, TEXT_BYTES = 900, 8_000, 30
#: Most names of regions that a map is told of.
NAMES = 60
#: Stands for all models; no slug has such a sign.
ALL = "_all"

Places = npt.NDArray[np.uint16]  # (neurons, 2)


@dataclass(frozen=True)
class Scope:
    """Whose neurons a map shows."""

    name: str  # of its folders: a slug, or ALL
    layers: tuple[Layer, ...]  # that have examples, by model, from the input on

    @cached_property
    def neurons(self) -> int:
        return sum(len(layer.units) for layer in self.layers)


@dataclass(frozen=True)
class Maps:
    """The maps that there will be."""

    scopes: tuple[Scope, ...]
    texts: int  # different labels of the atlas


def survey(outline: Outline) -> Maps:
    """One map a model whose neurons have exciting images, and one of all where these are several. Raises BadConfig."""
    layout.require_library()
    layers = [layer for layer in outline.layers if _examples(outline, layer)]
    by_model = [Scope(slug, tuple(layer for layer in layers if layer.slug == slug)) for slug in outline.slugs]
    scopes = [scope for scope in by_model if scope.neurons >= layout.LEAST]
    if len(scopes) > 1:
        scopes.append(Scope(ALL, tuple(layer for scope in scopes for layer in scope.layers)))
    return Maps(tuple(scopes), len(set(outline.labels.values())))


def _examples(outline: Outline, layer: Layer) -> bool:
    path, footer = layer_footer(outline.atlas, NEURON_EXAMPLES, layer.slug, layer.layer, layer.layers)
    return path is not None and footer is not None and footer.num_rows > 0


def size(held: Maps, images: str) -> Size:
    """From above: neurons that no image fires have no place, and not every one has a picture."""
    return sum((_size(scope, held.texts) for scope in held.scopes), Size())


def _size(scope: Scope, texts: int) -> Size:
    nodes, sheets = node_count(scope.neurons), sheet_count(scope.neurons)
    pictures = sheets * SHEET * PICTURE_BYTES
    kept = 4 * scope.neurons  # places in the folder of the layout
    size = POINT_BYTES * scope.neurons + kept + pictures + INDEX_BYTES + TEXT_BYTES * min(texts, scope.neurons)
    return Size(nodes + sheets + 3, size, nodes + sheets + 1)


def write(work: Work, held: Maps) -> Written:
    """The maps of all models, then that of all together."""
    written = {scope.name: _write(work, scope) for scope in held.scopes}
    whole = written.get(ALL)
    entries = {name: entry for name, (_, entry) in written.items() if entry}
    return Written(
        paths={path for paths, _ in written.values() for path in paths},
        manifest={"map": whole[1] if whole else None},
        models={slug: {"map": entry} for slug, entry in entries.items() if slug != ALL},
        said=f"{len(entries)} map{'' if len(entries) == 1 else 's'}" if entries else "",
    )


def _write(work: Work, scope: Scope) -> tuple[set[str], dict[str, object] | None]:
    """The folders of a map, and its entry in the manifest; none where too few neurons have a place."""
    laid = _write_layout(work, scope)
    places = np.fromfile(work.folder / laid / "places.bin", "<u2").reshape(-1, 2)
    there = np.flatnonzero(places[:, 0] != layout.NOWHERE)
    if len(there) < layout.LEAST:
        return {laid}, None
    shown = [layer.shard for layer in scope.layers]
    told = f"{FORMAT} {TILE} {SHEET} {scope.name}".encode()
    contents = [content_of(work.outline.atlas, shard) for shard in shown]
    name = content_name(f"map/{scope.name}", told, places.tobytes(), *contents)

    def files() -> dict[str, bytes]:
        measures = json.loads((work.folder / laid / "measures.json").read_text())
        return _files(work, scope, places, there, measures)

    write_folder(work.folder, name, files)
    return {laid, name}, {"folder": name, "neurons": len(there)}


def _write_layout(work: Work, scope: Scope) -> str:
    """The folder of a layout: places.bin, uint16 (neurons, 2) of all neurons, and measures.json."""
    outline = work.outline
    shards = [shard_path(NEURON_EXAMPLES, layer.slug, layer.layer, layer.layers) for layer in scope.layers]
    sets = [shard_path(PROBE_IMAGES, probe_set) for probe_set in sorted(outline.probe_sets)]
    contents = [content_of(outline.atlas, path) for path in (*shards, *sets)]
    units = b"".join(np.asarray(layer.units, np.int64).tobytes() for layer in scope.layers)
    decides = f"{layout.settings()} {features.COMPONENTS} {features.KINDS}".encode()
    name = content_name(f"map/{scope.name}-layout", decides, units, *contents)

    def files() -> dict[str, bytes]:
        fires = features.fired(outline.atlas, scope.layers)
        rows, there = features.features(fires, features.kinds_of(outline.atlas, fires.images), layout.SEED)
        if there.sum() < layout.LEAST:
            there[:] = False
        placed = rows[there]
        laid = layout.lay_out(placed) if len(placed) else np.empty((0, 2), np.float32)
        measures = layout.kept(placed, laid) if len(placed) else {}
        whole = layout.quantized(laid, there).astype("<u2")
        return {"places.bin": whole.tobytes(), "measures.json": json.dumps(measures).encode()}

    write_folder(work.folder, name, files)
    return name


def _files(
    work: Work, scope: Scope, places: Places, there: npt.NDArray[np.int64], measures: Mapping[str, float]
) -> dict[str, bytes]:
    """All files of a map. places: of all neurons of the scope; there: numbers of those that have one."""
    outline, own = work.outline, places[there]
    named = [outline.labels.get((layer.slug, layer.layer, unit)) for layer in scope.layers for unit in layer.units]
    texts = sorted({text for text in named if text})[:NO_LABEL]
    number = {text: at for at, text in enumerate(texts)}
    labels = np.array([number.get(text or "", -1) for text in named])[there]
    counts = [len(layer.units) for layer in scope.layers]
    units = np.concatenate([np.asarray(layer.units) for layer in scope.layers])
    columns: dict[str, npt.NDArray[Any]] = {
        "x": own[:, 0].astype("<u2"),
        "y": own[:, 1].astype("<u2"),
        "layer": np.repeat(np.arange(len(counts)), counts)[there].astype("<u2"),
        "unit": units[there].astype("<u2"),
        "label": np.where(labels < 0, NO_LABEL, labels).astype("<u2"),
        "verdict": np.concatenate([_verdicts(outline, layer) for layer in scope.layers])[there],
    }
    nodes = nodes_of(own)
    sheets, pictures = _pictures(work, scope, there, nodes)
    index = {
        "neurons": len(there),
        "absent": len(places) - len(there),
        "layers": [[layer.slug, layer.layer] for layer in scope.layers],
        "texts": texts,
        "nodes": [[*node.box, len(node.members), node.parent, len(of)] for node, of in zip(nodes, sheets, strict=True)],
        "sheet": {"size": SHEET, "columns": COLUMNS},
        "names": region_names(own, labels)[:NAMES],
        "kept": measures,
        "alike": layout.alike(own.astype(np.float32), labels),
    }
    return {"index.json.gz": dump(index), **dict(node_files(nodes, columns)), **pictures}


def _verdicts(outline: Outline, layer: Layer) -> npt.NDArray[np.uint8]:
    rows = outline.atlas.neurons(layer.slug, layer.layer, ["verdict"])
    told = rows["verdict"].to_pylist() if rows is not None else [None] * len(layer.units)
    return np.array([NO_VERDICT if one is None else VERDICTS.index(one) for one in told], np.uint8)


def _pictures(
    work: Work, scope: Scope, there: npt.NDArray[np.int64], nodes: Sequence[Node]
) -> tuple[list[list[Numbers]], dict[str, bytes]]:
    """Of each node its sheets, and their files; none where no neuron has a picture."""
    sheets = sheets_of(nodes)
    wanted = np.sort(np.concatenate([np.empty(0, np.int64), *(members for own in sheets for members in own)]))
    tiles = tiles_of(work.outline.atlas, scope.layers, there[wanted], work.pool)
    if tiles is None:
        return [[] for _ in nodes], {}
    place = np.zeros(len(there), np.int64)
    place[wanted] = np.arange(len(wanted))
    return sheets, dict(sheet_files(sheets, tiles, place))


SECTION: Section[Maps] = Section(
    name="maps",
    tables=(NEURON_EXAMPLES, NEURONS),
    entered="map/{slug}",
    folders=("map/*",),
    survey=survey,
    size=size,
    write=write,
)
