"""Section: excited. Which neurons a probe image excites most: the examples of all neurons, by image.

x/{probe set}-HASH/00/00000.json.gz   packs of a few images: of each the neurons that keep it among their strongest

A neuron keeps its strongest images one by one, so an image has the neurons of whose strongest it is one, by how many
images excite them more (`rank`: 0 for none); of equal ones first those that it excites furthest beyond the weakest
image that they keep (`lead`, a share of their strongest). Of neurons that it excites less the dataset does not tell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.tables import NEURON_EXAMPLES
from site_builder.folders import content_name, write_folder
from site_builder.outline import Layer, Neuron, Outline
from site_builder.packs import columnar, dump
from site_builder.reading import content_of, ends_of, footer_of, layer_footer
from site_builder.section import Section, Size, Work, Written
from site_builder.sections.probes import set_shards

#: Raise it when these files change for the same dataset.
FORMAT = b"1"
#: Images of a pack, and neurons of an image at most: those that come first.
IMAGE_PACK, MOST = 16, 256
#: Digits of `lead`: what differs by less is equal, whatever the machine.
LEAD_DIGITS = 4
#: Packs of one folder: some hosts allow no more than 10,000 entries.
FOLDER = 1000
#: Bytes that an example adds to the packs (gzip, the neuron's label among them; measured 3.7), and of a pack beside.
ROW_BYTES, PACK_BYTES = 5, 200
#: What a folder says of itself.
ABOUT = "about.json"
_COLUMNS = ["unit", "kind", "rank", "activation", "probe_set", "image_index"]


@dataclass(frozen=True)
class ExcitedLayer:
    """The examples of a layer in the dataset."""

    layer: Layer
    shard: str  # path in the dataset
    rows: int
    probe_sets: frozenset[str]  # that its footer names: the first and the last by name


@dataclass(frozen=True)
class Excited:
    """All examples of an atlas, and how many images each probe set has that it lists."""

    layers: tuple[ExcitedLayer, ...] = ()
    images: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Places:
    """Strongest images of neurons, an entry each, as arrays of one length."""

    image: np.ndarray  # int32, index in the probe set
    model: np.ndarray  # int16, index in the manifest
    layer: np.ndarray  # int16
    unit: np.ndarray  # int32
    rank: np.ndarray  # int16, images that excite the neuron more
    lead: np.ndarray  # float32

    @classmethod
    def joined(cls, parts: Sequence[Places]) -> Places:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def ordered(self) -> Places:
        """By image, and for each image the neurons that come first, first."""
        keys = (self.unit, self.layer, self.model, -self.lead, self.rank, self.image)
        order = np.lexsort(keys)
        return Places(*(getattr(self, name)[order] for name in self.__dataclass_fields__))


def survey(outline: Outline) -> Excited:
    """Of each layer that has examples, and of the probe sets, from footers."""
    layers = []
    for layer in outline.layers:
        path, footer = layer_footer(outline.atlas, NEURON_EXAMPLES, layer.slug, layer.layer, layer.layers)
        if path is not None and footer is not None:
            layers.append(ExcitedLayer(layer, path, footer.num_rows, frozenset(ends_of(footer, "probe_set"))))
    names = sorted(outline.probe_sets) if layers else ()
    shards = {name: set_shards(outline.atlas, name) for name in names}
    return Excited(
        tuple(layers),
        {name: sum(footer_of(outline.atlas, path).num_rows for path in paths) for name, paths in shards.items()},
    )


def size(held: Excited, images: str) -> Size:
    """File counts are exact, unless probe sets that no neuron names are listed."""
    sets = held.images or {}
    packs = [-(-count // IMAGE_PACK) for count in sets.values()]
    rows = {name: sum(one.rows for one in held.layers if name in one.probe_sets) for name in sets}
    entries = sum(min(rows[name], MOST * count) for name, count in sets.items())
    largest = min(FOLDER, max(packs, default=0))
    return Size(sum(packs) + len(packs), ROW_BYTES * entries + PACK_BYTES * sum(packs), largest)


def write(work: Work, held: Excited) -> Written:
    """The packs of every probe set that neurons name, in a folder that is named by all that they follow from."""
    if not held.layers or not held.images:
        return Written(manifest={"excited": {}})
    outline = work.outline
    settings = [IMAGE_PACK, MOST, LEAD_DIGITS]
    about = [FORMAT, json.dumps([settings, outline.slugs, dict(held.images)]).encode()]
    contents = [*about, *(content_of(outline.atlas, one.shard) for one in held.layers), *outline.label_digests.values()]
    folders = {name: content_name(f"x/{name}", *contents) for name in held.images}
    if not all((work.folder / folder / ABOUT).is_file() for folder in folders.values()):
        found = read_places(outline, held)
        for name, folder in folders.items():
            write_folder(work.folder, folder, partial(_files, outline, found.get(name), held.images[name]))
    told = {name: json.loads((work.folder / folder / ABOUT).read_text()) for name, folder in folders.items()}
    return Written(
        paths=set(folders.values()),
        manifest={"excited": {name: told[name] | {"folder": folder} for name, folder in folders.items() if told[name]}},
    )


def read_places(outline: Outline, held: Excited) -> dict[str, Places]:
    """Strongest images of all neurons by probe set, ordered."""
    parts: dict[str, list[Places]] = {}
    numbers = {slug: number for number, slug in enumerate(outline.slugs)}
    for one in held.layers:
        rows = outline.atlas.examples(one.layer.slug, one.layer.layer, _COLUMNS)
        if rows is None:
            continue
        top = rows.filter(pc.equal(rows["kind"], "top"))
        for name in top["probe_set"].unique().to_pylist():
            own = top.filter(pc.equal(top["probe_set"], name))
            parts.setdefault(name, []).append(places_of(own, numbers[one.layer.slug], one.layer.layer))
    return {name: Places.joined(own).ordered() for name, own in parts.items()}


def places_of(rows: pa.Table, model: int, layer: int) -> Places:
    """rows: strongest examples of neurons of a layer: unit, rank, activation, image_index."""
    unit, rank, image = (rows[name].to_numpy() for name in ("unit", "rank", "image_index"))
    activation = rows["activation"].to_numpy().astype(np.float64)
    _, of = np.unique(unit, return_inverse=True)
    best, least = np.full(of.max(initial=-1) + 1, -np.inf), np.full(of.max(initial=-1) + 1, np.inf)
    np.maximum.at(best, of, activation)
    np.minimum.at(least, of, activation)
    lead = np.round((activation - least[of]) / np.maximum(np.abs(best[of]), 1e-12), LEAD_DIGITS)
    count = len(unit)
    return Places(
        image.astype(np.int32),
        np.full(count, model, np.int16),
        np.full(count, layer, np.int16),
        unit.astype(np.int32),
        rank.astype(np.int16),
        lead.astype(np.float32),
    )


def _files(outline: Outline, found: Places | None, images: int) -> dict[str, bytes]:
    """Path -> bytes of the packs of a probe set; found: ordered. Without any only what says so."""
    if found is None:
        return {ABOUT: b"{}"}
    kept = int(found.rank.max(initial=-1)) + 1
    files = {ABOUT: json.dumps({"images": images, "pack": IMAGE_PACK, "kept": kept, "most": MOST}).encode()}
    starts = np.searchsorted(found.image, np.arange(images + 1))
    for number in range(-(-images // IMAGE_PACK)):
        own = range(number * IMAGE_PACK, min(images, (number + 1) * IMAGE_PACK))
        chosen = np.concatenate([np.arange(starts[at], min(starts[at + 1], starts[at] + MOST)) for at in own])
        counts = [int(starts[at + 1] - starts[at]) for at in own]
        pack = {"counts": counts, **columnar(_columns(outline, found, chosen))}
        files[f"{number // FOLDER:02d}/{number:05d}.json.gz"] = dump(pack)
    return files


def _columns(outline: Outline, found: Places, chosen: np.ndarray) -> dict[str, list[Any]]:
    """The entries as a pack has them; `unit` is the image, as in other packs what is asked for."""
    model, layer, unit = (values[chosen].tolist() for values in (found.model, found.layer, found.unit))
    neurons: Iterator[Neuron] = ((outline.slugs[m], own, u) for m, own, u in zip(model, layer, unit, strict=True))
    return {
        "unit": found.image[chosen].tolist(),
        "model": model,
        "layer": layer,
        "neuron": unit,
        "rank": found.rank[chosen].tolist(),
        "label": [outline.labels.get(neuron) for neuron in neurons],
    }


SECTION: Section[Excited] = Section(
    name="excited",
    tables=(NEURON_EXAMPLES,),
    entered="p/{set}/{number}",
    folders=("x/*",),
    survey=survey,
    size=size,
    write=write,
)
