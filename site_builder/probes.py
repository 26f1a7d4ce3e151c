"""Probe images -> bundles of a few, shared by all neurons: what is known of each, and its thumbnail untouched."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import pyarrow as pa

#: Images of one bundle. A neuron shows 14 images from all over the set, so bundles are small.
PROBE_BUNDLE = 4
#: Bundles of one folder: some hosts allow no more than 10,000 entries.
FOLDER = 1000
#: Columns of probe_images that a page shows, beside the thumbnail.
SAID = ("image", "class", "caption", "licence", "source")


def probe_bundles(rows: pa.Table) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of the bundles of one probe set; rows: its probe_images, index ascending.

    A bundle is the length of its JSON (uint32, little-endian), a JSON list with what is known of each image and
    the length of its WebP (0: none), then the WebP files one after the other.
    """
    by_index = dict(zip(rows.column("index").to_pylist(), rows.to_pylist(), strict=True))
    for number in sorted({index // PROBE_BUNDLE for index in by_index}):
        images = [by_index.get(number * PROBE_BUNDLE + slot, {}) for slot in range(PROBE_BUNDLE)]
        webps = [(image.get("thumbnail") or {}).get("bytes") or b"" for image in images]
        said = [
            {name: image[name] for name in SAID if image.get(name)} | {"length": len(webp)}
            for image, webp in zip(images, webps, strict=True)
        ]
        head = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
        yield bundle_path(number), struct.pack("<I", len(head)) + head + b"".join(webps)


def bundle_path(number: int) -> str:
    return f"{number // FOLDER:02d}/{number:05d}.images"
