"""Section: labels. Search by what neurons are called, in small files that a browser reads without a server.

s/index-HASH/   words -> labels -> neurons (site_builder/search_index.py)
s/near-HASH/    labels of near meaning (site_builder/near_texts.py)
s/faces-HASH/   a small picture of each label's most certain neuron, for suggestions while somebody types
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass

from PIL import Image

from atlas_schema.tables import NEURONS
from site_builder.folders import content_name, write_folder
from site_builder.near_texts import near_file, near_labels
from site_builder.outline import Layer, Neuron, Outline
from site_builder.reading import content_of
from site_builder.search_index import TEXT_PACK, Labelled, index_files, most_certain, search_index
from site_builder.section import Section, Size, Work, Written
from site_builder.sprites import sheet, thumbnail

#: Raise it when these files change for the same dataset.
FORMAT = b"1"
#: What a folder of the index says of itself.
ABOUT = "about.json"
#: Bytes that a labelled neuron adds to the index. Measured.
LABEL_BYTES = 24
#: Bytes that a text adds by its words. Measured.
WORD_BYTES = 60
#: Bytes that a neuron adds to the labels of near meaning, and of all of them: lists of texts end.
NEAR_BYTES, MOST_NEAR_BYTES = 125, 2_000_000
#: Side in pixels of a label's small picture, columns of a sheet of them (a sheet a pack of labels), and their bytes.
FACE, FACE_COLUMNS, FACE_BYTES = 48, 8, 1400


@dataclass(frozen=True)
class Labels:
    """The labels of an atlas."""

    neurons: int  # that have one
    texts: frozenset[str]  # each once


def survey(outline: Outline) -> Labels:
    """The labels that stand: none where no label stage has run."""
    return Labels(len(outline.labels), frozenset(outline.labels.values()))


def size(held: Labels, images: str) -> Size:
    """File counts are exact."""
    index, sheets = index_files(held.texts), -(-len(held.texts) // TEXT_PACK)
    size = LABEL_BYTES * held.neurons + (FACE_BYTES + WORD_BYTES) * len(held.texts)
    near = min(NEAR_BYTES * held.neurons, MOST_NEAR_BYTES)
    return Size(index + sheets + 2 * bool(held.neurons), size + near, index)


def write(work: Work, held: Labels) -> Written:
    """The index of all labels, the most certain neurons of each first. Its files are named by what they follow from, so
    that no layer is read where nothing has changed.
    """
    layers = [layer for layer in work.outline.layers if held.neurons]
    if not layers:
        return Written(manifest={"search": None})
    contents = [
        FORMAT,
        json.dumps([work.outline.slugs, FACE, FACE_COLUMNS, TEXT_PACK]).encode(),
        *(content_of(work.outline.atlas, one.shard) for one in layers),
    ]
    folder, faces = (content_name(prefix, *contents) for prefix in ("s/index", "s/faces"))
    if not all((work.folder / name).exists() for name in (folder, faces)):
        labelled = [one for found in work.pool.map(lambda one: _labelled(work.outline, one), layers) for one in found]
        files, about = search_index(labelled, work.outline.slugs)
        write_folder(work.folder, folder, lambda: files | {ABOUT: json.dumps(about).encode()})
        _write_faces(work, faces, labelled)
    near = _write_near(work, layers)
    told = json.loads((work.folder / folder / ABOUT).read_text())
    told |= {"folder": folder, "faces": faces, "near": f"{near}/near.json.gz"}
    return Written(paths={folder, faces, near}, manifest={"search": told})


def _write_near(work: Work, layers: list[Layer]) -> str:
    """The folder of the labels of near meaning."""
    outline = work.outline
    name = content_name("s/near", b"1", *(content_of(outline.atlas, layer.shard) for layer in layers))

    def files() -> dict[str, bytes]:
        found = [one for own in work.pool.map(lambda layer: _candidates(outline, layer), layers) for one in own]
        return {"near.json.gz": near_file(near_labels(found, outline.labels.values()))}

    write_folder(work.folder, name, files)
    return name


def _candidates(outline: Outline, layer: Layer) -> list[list[tuple[str, float]]]:
    """Of each neuron of a layer its best texts with their z."""
    rows = outline.atlas.neurons(layer.slug, layer.layer, ["label_candidates"])
    listed = rows["label_candidates"].to_pylist() if rows is not None else ()
    return [[(one["text"], one["z"]) for one in own or () if one["z"] is not None] for own in listed]


def _write_faces(work: Work, name: str, labelled: list[Labelled]) -> None:
    """Sheets of small pictures, in the order of the labels' numbers: of each label's most certain neuron."""
    by_text = defaultdict[str, list[Labelled]](list)
    for one in labelled:
        by_text[one.text].append(one)
    chosen = [most_certain(by_text[text])[0].neuron for text in sorted(by_text)]

    def files() -> dict[str, bytes]:
        packs = [chosen[start : start + TEXT_PACK] for start in range(0, len(chosen), TEXT_PACK)]
        made = work.pool.map(lambda pack: sheet([_face(work.outline, one) for one in pack], FACE_COLUMNS, FACE), packs)
        return {f"{number:05d}.webp": data for number, data in enumerate(made)}

    write_folder(work.folder, name, files)


def _face(outline: Outline, neuron: Neuron) -> Image.Image | None:
    slug, layer, unit = neuron
    rows = outline.atlas.neuron(f"{slug}/mlp/{layer}/{unit}", ["unit", "image"])
    data = (rows["image"] or {}).get("bytes")
    return thumbnail(data, FACE) if data else None


def _labelled(outline: Outline, layer: Layer) -> list[Labelled]:
    rows = outline.atlas.neurons(layer.slug, layer.layer, ["unit", "label", "label_z", "label_auroc", "verdict"])
    return [
        Labelled(
            (layer.slug, layer.layer, row["unit"]), row["label"], row["label_z"], row["label_auroc"], row["verdict"]
        )
        for row in (rows.to_pylist() if rows is not None else ())
        if row["label"]
    ]


SECTION: Section[Labels] = Section(
    name="labels",
    tables=(NEURONS,),
    entered="s",
    folders=("s/*",),
    survey=survey,
    size=size,
    write=write,
)
