"""Pictures in bytes -> sheets of thumbnails, mean colours, and bundles of the untouched originals."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from PIL import Image, ImageOps

#: Side of a thumbnail in pixels; a smaller picture keeps its own size and the browser enlarges it.
THUMB = 96
#: Thumbnails of a sheet: 8 columns, 8 rows.
SHEET_COLUMNS = 8
SHEET = SHEET_COLUMNS * SHEET_COLUMNS
#: WebP quality of sheets: second-hand pictures for choosing by, about 2 kB each.
QUALITY = 64
#: Originals in one bundle, at most: next and previous come along, as long as they are not long to wait for.
BUNDLE, BUNDLE_BYTES = 8, 64_000


def thumbnail(webp: bytes, limit: int = THUMB) -> Image.Image:
    """The picture as RGB, at most `limit` pixels on its longer side, never enlarged."""
    picture = Image.open(io.BytesIO(webp)).convert("RGB")
    picture.thumbnail((limit, limit), Image.Resampling.LANCZOS)
    return picture


def mean_color(picture: Image.Image) -> str:
    """Mean colour as six hex digits: what stands in a picture's box before it loads."""
    red, green, blue = np.asarray(picture, dtype=np.float64).reshape(-1, 3).mean(axis=0).round().astype(int)
    return f"{red:02x}{green:02x}{blue:02x}"


def sheet(pictures: Sequence[Image.Image | None], columns: int, side: int = THUMB) -> bytes:
    """WebP of a grid of square tiles of one size, row by row; None leaves a tile empty.

    The tile is the largest picture's longer side, at most `side`: smaller ones are enlarged to it, and one
    that is not square is centred.
    """
    present = [picture for picture in pictures if picture is not None]
    tile = min(side, max((max(picture.size) for picture in present), default=side))
    grid = Image.new("RGB", (columns * tile, ceil(len(pictures) / columns) * tile), (128, 128, 128))
    for place, picture in enumerate(pictures):
        if picture is None:
            continue
        fitted = ImageOps.contain(picture, (tile, tile), Image.Resampling.LANCZOS)
        left, top = place % columns * tile, place // columns * tile
        grid.paste(fitted, (left + (tile - fitted.width) // 2, top + (tile - fitted.height) // 2))
    buffer = io.BytesIO()
    grid.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def told_bundle(said: Sequence[Mapping[str, Any]], pictures: Sequence[bytes]) -> bytes:
    """What is said of each picture, and the pictures (b"": none): the length of the JSON (uint32, little-endian), the
    JSON list with the length of each WebP beside what is said of it, then the WebP files one after the other.
    """
    listed = [{**one, "length": len(webp)} for one, webp in zip(said, pictures, strict=True)]
    head = json.dumps(listed, separators=(",", ":"), ensure_ascii=False).encode()
    return struct.pack("<I", len(head)) + head + b"".join(pictures)


def bundle_size(mean_bytes: float) -> int:
    """How many pictures of so many bytes go into a bundle: the largest of 8, 4, 2 that BUNDLE_BYTES hold, else 1."""
    return next((size for size in (BUNDLE, 4, 2) if size * mean_bytes <= BUNDLE_BYTES), 1)


def bundle(pictures: Sequence[bytes | None]) -> bytes:
    """Lengths of the pictures (uint32, little-endian; 0: none), then their bytes one after the other."""
    filled = [picture or b"" for picture in pictures]
    return struct.pack(f"<{len(filled)}I", *map(len, filled)) + b"".join(filled)
