"""Section: pictures. The further pictures of a neuron, by other recipes and in several variants.

d/{slug}/{layer}-pictures-HASH/   bundles of a few neurons, beside the layer's folder
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from atlas_schema.tables import NEURON_PICTURES
from site_builder.folders import content_name, write_folder
from site_builder.outline import Layer, Outline
from site_builder.packs import plain, rounded
from site_builder.reading import bytes_of, content_of, layer_footer
from site_builder.section import Section, Size, Work, Written
from site_builder.sprites import bundle_size, told_bundle

#: Raise it when these files change for the same dataset.
FORMAT = "2"
#: Bytes of a picture's entry beside its WebP. Measured.
ENTRY_BYTES = 420
#: Columns of neuron_pictures that a page shows, beside the picture.
SAID: tuple[str, ...] = ("unit", "recipe", "variant", "status", "status_reason")
SAID += ("activation", "activation_peak", "activation_start")
SAID += ("verdict", "verdict_reason", "natural_mean", "natural_peak", "likeness", "start_image")


@dataclass(frozen=True)
class Pictures:
    """The further pictures of a layer in the dataset."""

    layer: Layer
    shard: str  # path in the dataset
    rows: int
    picture_bytes: int  # of all of them

    @property
    def bundle(self) -> int:
        """Neurons whose further pictures are fetched together."""
        return bundle_size(self.picture_bytes / len(self.layer.units))


def survey(outline: Outline) -> list[Pictures]:
    """The layers that have further pictures, from their shards' footers."""
    found = []
    for layer in outline.layers:
        path, footer = layer_footer(outline.atlas, NEURON_PICTURES, layer.slug, layer.layer, layer.layers)
        if path is not None and footer is not None:
            found.append(Pictures(layer, path, footer.num_rows, bytes_of(footer, "image.bytes")))
    return found


def size(held: Sequence[Pictures], images: str) -> Size:
    """File counts are exact."""
    return sum((_layer_size(one) for one in held), Size())


def _layer_size(own: Pictures) -> Size:
    bundles = len({unit // own.bundle for unit in own.layer.units})
    return Size(bundles, own.picture_bytes + ENTRY_BYTES * own.rows + 8 * bundles, bundles)


def write(work: Work, held: Sequence[Pictures]) -> Written:
    """The bundles of every layer."""
    folders = dict(
        zip((one.layer.key for one in held), work.pool.map(lambda one: _write(work, one), held), strict=True)
    )
    pictures = sum(one.rows for one in held)
    return Written(
        paths=set(folders.values()),
        layers={one.layer.key: {"pictures": folders[one.layer.key], "further": one.bundle} for one in held},
        said=f"{pictures:,} further pictures" if pictures else "",
    )


def _write(work: Work, own: Pictures) -> str:
    atlas, layer = work.outline.atlas, own.layer
    settings = f"{FORMAT} {own.bundle}".encode()
    name = content_name(f"d/{layer.slug}/{layer.layer:05d}-pictures", settings, content_of(atlas, own.shard))

    def files() -> dict[str, bytes]:
        rows = atlas.pictures(layer.slug, layer.layer, [*SAID, "image"])
        return dict(picture_bundles(rows, layer.units, own.bundle)) if rows is not None else {}

    write_folder(work.folder, name, files)
    return name


def picture_bundles(rows: pa.Table, units: Sequence[int], size: int) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of the bundles of a layer: of `size` neurons each, from size k on in bundle k, also where none
    has any. Bundles are laid out as `told_bundle` says.
    """
    by_bundle: dict[int, list[dict[str, Any]]] = {unit // size: [] for unit in units}
    for row in rows.to_pylist():
        if row["unit"] // size in by_bundle:
            by_bundle[row["unit"] // size].append(row)
    for number, own in sorted(by_bundle.items()):
        webps = [(row["image"] or {}).get("bytes") or b"" for row in own]
        said = [{name: rounded(plain(row[name]), 5) for name in SAID if row[name] is not None} for row in own]
        yield f"{number:05d}.images", told_bundle(said, webps)


SECTION: Section[list[Pictures]] = Section(
    name="pictures",
    tables=(NEURON_PICTURES,),
    entered="n/{slug}/{layer}/{unit}",
    folders=("d/*/*",),
    survey=survey,
    size=size,
    write=write,
)
