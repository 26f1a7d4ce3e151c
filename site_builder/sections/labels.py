"""Section: labels. Search by what neurons are called, in small files that a browser reads without a server.

s/index-HASH/   words -> labels -> neurons (site_builder/search_index.py)
"""

from __future__ import annotations

from dataclasses import dataclass

from atlas_schema.tables import NEURONS
from site_builder.folders import write_by_content
from site_builder.outline import Layer, Outline
from site_builder.search_index import Labelled, index_files, search_index
from site_builder.section import Section, Size, Work, Written

#: Bytes that a labelled neuron adds to the index. Measured.
LABEL_BYTES = 24


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
    files = index_files(held.texts)
    return Size(files, LABEL_BYTES * held.neurons, files)


def write(work: Work, held: Labels) -> Written:
    """The index of all labels, the most certain neurons of each first."""
    layers = [layer for layer in work.outline.layers if held.neurons]
    labelled = [one for found in work.pool.map(lambda layer: _labelled(work.outline, layer), layers) for one in found]
    files, about = search_index(labelled, work.outline.slugs)
    if not about["neurons"]:
        return Written(manifest={"search": None})
    folder = write_by_content(work.folder, "s/index", files)
    return Written(paths={folder}, manifest={"search": about | {"folder": folder}})


def _labelled(outline: Outline, layer: Layer) -> list[Labelled]:
    rows = outline.atlas.neurons(layer.slug, layer.layer, ["unit", "label", "label_z", "label_auroc"])
    return [
        Labelled((layer.slug, layer.layer, row["unit"]), row["label"], row["label_z"], row["label_auroc"])
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
