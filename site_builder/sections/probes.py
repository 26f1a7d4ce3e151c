"""Section: probe images. What is known of each image that neurons and heads were measured on, and its thumbnail.

p/{probe set}-HASH/00/00000.images   bundles of a few, shared by all neurons; thumbnails as they are
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from atlas_schema.read import Atlas
from atlas_schema.shards import parse_shard_path
from atlas_schema.tables import PROBE_IMAGES
from site_builder.folders import content_name, write_folder
from site_builder.outline import Outline
from site_builder.reading import bytes_of, content_of, footer_of
from site_builder.section import Section, Size, Work, Written
from site_builder.sprites import told_bundle

#: Raise it when these files change for the same dataset.
FORMAT = b"1"
#: Images of one bundle. A neuron shows 14 images from all over the set, so bundles are small.
PROBE_BUNDLE = 4
#: Bundles of one folder: some hosts allow no more than 10,000 entries.
FOLDER = 1000
#: Bytes of an image beside its thumbnail. Measured.
PROBE_BYTES = 240
#: Columns of probe_images that a page shows, beside the thumbnail.
SAID = ("image", "class", "caption", "licence", "source")


@dataclass(frozen=True)
class ProbeSet:
    """A probe set of the dataset."""

    name: str  # its hash
    shards: tuple[str, ...]  # paths in the dataset
    images: int
    thumbnail_bytes: int  # 0: it comes without pictures


def survey(outline: Outline) -> list[ProbeSet]:
    """The probe sets that the atlas lists, from footers."""
    return [_probe_set(outline, name) for name in sorted(outline.probe_sets)]


def _probe_set(outline: Outline, name: str) -> ProbeSet:
    paths = set_shards(outline.atlas, name)
    footers = [footer_of(outline.atlas, path) for path in paths]
    # An absent thumbnail costs some bits in its page: what is less than a WebP file a row holds none.
    size = sum(bytes_of(footer, "thumbnail.bytes") for footer in footers)
    images = sum(footer.num_rows for footer in footers)
    return ProbeSet(name, tuple(paths), images, size if size > 20 * images else 0)


def set_shards(atlas: Atlas, name: str) -> list[str]:
    """Paths of the shards of a probe set in the dataset."""
    return sorted(path for path in atlas.store.list(f"{PROBE_IMAGES.name}/{name}") if parse_shard_path(path))


def size(held: Sequence[ProbeSet], images: str) -> Size:
    """File counts are exact."""
    bundles = [-(-one.images // PROBE_BUNDLE) for one in held]
    total = sum(one.thumbnail_bytes + PROBE_BYTES * one.images for one in held)
    return Size(sum(bundles), total, min(FOLDER, max(bundles, default=0)))


def write(work: Work, held: Sequence[ProbeSet]) -> Written:
    """The bundles of every probe set."""
    folders = list(work.pool.map(lambda one: _write(work, one), held))
    entries: dict[str, dict[str, Any]] = {
        one.name: {"folder": folder, "images": one.images, "thumbnails": one.thumbnail_bytes > 0}
        for one, folder in zip(held, folders, strict=True)
    }
    return Written(paths=set(folders), manifest={"probes": entries, "probe_bundle": PROBE_BUNDLE})


def _write(work: Work, own: ProbeSet) -> str:
    atlas = work.outline.atlas
    settings = str(PROBE_BUNDLE).encode()
    name = content_name(f"p/{own.name}", FORMAT, settings, *(content_of(atlas, path) for path in own.shards))
    columns = ["index", "thumbnail", *SAID]
    write_folder(work.folder, name, lambda: dict(probe_bundles(atlas.probe_images(own.name, columns))))
    return name


def probe_bundles(rows: pa.Table) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of the bundles of one probe set; rows: its probe_images, index ascending.

    Bundles are laid out as `told_bundle` says.
    """
    by_index = dict(zip(rows.column("index").to_pylist(), rows.to_pylist(), strict=True))
    for number in sorted({index // PROBE_BUNDLE for index in by_index}):
        images = [by_index.get(number * PROBE_BUNDLE + slot, {}) for slot in range(PROBE_BUNDLE)]
        webps = [(image.get("thumbnail") or {}).get("bytes") or b"" for image in images]
        said = [{name: image[name] for name in SAID if image.get(name)} for image in images]
        yield bundle_path(number), told_bundle(said, webps)


def bundle_path(number: int) -> str:
    """Where a bundle lies in its set's folder."""
    return f"{number // FOLDER:02d}/{number:05d}.images"


SECTION: Section[list[ProbeSet]] = Section(
    name="probe images",
    tables=(PROBE_IMAGES,),
    entered="n/{slug}/{layer}/{unit}",
    folders=("p/*",),
    survey=survey,
    size=size,
    write=write,
)
