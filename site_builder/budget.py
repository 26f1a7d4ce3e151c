"""What hosts allow, and the size of a site before a byte of it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atlas_schema.errors import AtlasError
from site_builder.packs import PACK
from site_builder.sprites import BUNDLE, SHEET

#: Bytes of a neuron in its pack and its layer's table (gzip), and of a thumbnail of 96 px: measured.
RECORD_BYTES = 420
THUMB_BYTES = 2400
#: Shell, scripts, style, licences; strips, depth sheets and lists of a layer.
APP_FILES, APP_BYTES = 40, 250_000
LAYER_FILES, LAYER_BYTES = 3, 30_000


class SiteTooLarge(AtlasError):
    """The site would break a limit of its host. Nothing was written."""


@dataclass(frozen=True)
class Host:
    """A place for static files. Limits of None are none that matter."""

    name: str
    bytes: int | None = None
    files: int | None = None
    per_folder: int | None = None
    serves_ranges: bool = False  # whether pictures may be read from the dataset beside it
    source: str = ""


HOSTS = {
    host.name: host
    for host in (
        Host("local"),
        Host("github-pages", bytes=1_000_000_000, source="GitHub Pages limits a published site to 1 GB"),
        Host(
            "hf-space",
            files=100_000,
            per_folder=10_000,
            serves_ranges=True,
            source="Hugging Face repositories hold up to 100,000 files and 10,000 entries a folder",
        ),
        Host("s3", serves_ranges=True),
    )
}


@dataclass(frozen=True)
class Size:
    files: int
    bytes: int
    largest_folder: int = 0

    def __str__(self) -> str:
        return f"{self.files:,} files, {megabytes(self.bytes)}"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.2f} GB"


def estimate(layers: Iterable[Mapping[str, int]], mode: str) -> Size:
    """Size of a site. Of each layer: `neurons`, `picture_bytes` (all), `thumb_side`, `packs`, `bundles`."""
    files, size, largest = APP_FILES, APP_BYTES, 0
    for layer in layers:
        neurons = layer["neurons"]
        tile = (layer["thumb_side"] / 96) ** 2
        sheets = -(-neurons // SHEET)
        in_folder = LAYER_FILES + layer["packs"] + sheets
        size += LAYER_BYTES + neurons * RECORD_BYTES + round(neurons * THUMB_BYTES * tile)
        files += in_folder
        if mode == "sprite":
            in_folder += layer["bundles"]
            files += layer["bundles"]
            size += layer["picture_bytes"] + layer["bundles"] * 4 * BUNDLE
        elif mode == "files":
            in_folder += layer["packs"]  # a folder for each 64 pictures
            files += neurons
            size += layer["picture_bytes"]
        largest = max(largest, in_folder, PACK if mode == "files" else 0)
    return Size(files, size, largest)


def check(host: Host, size: Size, mode: str) -> None:
    """SiteTooLarge where `host` cannot hold a site of `size`, saying which limit breaks and what to do."""
    broken = [
        f"{what} would be {found}, allowed are {allowed}"
        for what, found, allowed, over in (
            ("its size", megabytes(size.bytes), megabytes(host.bytes or 0), _over(size.bytes, host.bytes)),
            ("its files", f"{size.files:,}", f"{host.files or 0:,}", _over(size.files, host.files)),
            (
                "files of one folder",
                size.largest_folder,
                host.per_folder,
                _over(size.largest_folder, host.per_folder),
            ),
        )
        if over
    ]
    if broken:
        raise SiteTooLarge(
            f"A site for {host.name} with --images {mode} does not fit: {'; '.join(broken)} ({host.source}). "
            f"{_way_out(host, mode)}"
        )


def _over(found: int, allowed: int | None) -> bool:
    return allowed is not None and found > allowed


def _way_out(host: Host, mode: str) -> str:
    if mode == "files":
        return "Use --images sprite, which needs about a tenth of the files."
    if mode == "sprite" and host.serves_ranges:
        return "Publish the dataset and use --images range with its URL, so that large pictures stay there."
    return "Build it for another host (--target s3 or hf-space, --images range), or from a smaller atlas."
