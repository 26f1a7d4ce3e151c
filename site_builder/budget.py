"""What hosts allow, and the size of a site before a byte of it is written."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_schema.errors import AtlasError
from site_builder.app import app_files
from site_builder.clusters import CLUSTER_PACK
from site_builder.clusters import MODELS as CLUSTER_MODELS
from site_builder.packs import PACK
from site_builder.probes import FOLDER, PROBE_BUNDLE
from site_builder.search_index import index_files
from site_builder.sprites import BUNDLE, SHEET
from site_builder.survey import Survey

#: Bytes of a neuron in its pack and its layer's table (gzip), and of a thumbnail of 96 px: measured.
RECORD_BYTES, THUMB_BYTES = 420, 2400
#: What a probe set adds to the record of a neuron: statistics, label, texts that came next, classes. Measured.
EVIDENCE_BYTES = 450
#: Bytes of an example beside its map, of a token of the map (16 levels, gzip), of a counterpart, of a probe image
#: beside its thumbnail, of a labelled neuron in the search index. Measured on incompressible maps.
EXAMPLE_BYTES, TOKEN_BYTES, MATCH_BYTES, PROBE_BYTES, LABEL_BYTES = 34, 0.55, 24, 240, 24
#: Bytes of a row of each head table (gzip), of a token of a signed map (31 levels), and of what a text adds to search.
HEAD_ROW_BYTES = {"heads": 300, "head_texts": 30, "head_features": 50, "head_examples": 24, "head_reads": 9}
SIGNED_BYTES, SAID_BYTES = 0.7, 12
#: Beside its packs, sheets and pictures a layer has its table, its summary and its strip.
LAYER_FILES, LAYER_BYTES = 3, 30_000
#: A model has its facts and its strip of depth; the site its page, mark, card, .nojekyll and wall.
MODEL_FILES, MODEL_BYTES = 2, 40_000
SITE_FILES, SITE_BYTES = 5, 300_000


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


def estimate(held: Survey, mode: str) -> Size:
    """Size of the site of a survey, from above; file counts are exact but for Rosetta clusters."""
    app = app_files()
    files = SITE_FILES + len(app) + MODEL_FILES * len(held.models)
    size = SITE_BYTES + sum(path.stat().st_size for path in app) + MODEL_BYTES * len(held.models)
    largest = 0
    for layer in held.layers:
        packs = len({unit // PACK for unit in layer.units})
        neurons, sheets = len(layer.units), -(-len(layer.units) // SHEET)
        entries = LAYER_FILES + packs + sheets
        size += LAYER_BYTES + neurons * RECORD_BYTES
        if layer.picture_bytes > 20 * neurons:  # absent pictures cost some bits each
            size += neurons * round(THUMB_BYTES * (layer.thumb_side / 96) ** 2)
        if mode != "range":
            bundles = len({unit // BUNDLE for unit in layer.units})
            size += layer.picture_bytes + bundles * 4 * BUNDLE
            entries += bundles if mode == "sprite" else packs  # in `files` mode a folder for each pack's pictures
            files += neurons - packs if mode == "files" else 0
        files += entries
        largest = max(largest, entries)
    for more in (_evidence(held), _heads(held)):
        files, size, largest = files + more.files, size + more.bytes, max(largest, more.largest_folder)
    return Size(files, size, largest)


def _evidence(held: Survey) -> Size:
    """Size of what a probe set says of the neurons; the number of Rosetta clusters is taken from above."""
    files = size = matched = 0
    for layer in held.layers:
        packs = len({unit // PACK for unit in layer.units})
        if layer.examples:
            files += packs
            tokens = min(layer.examples.map_bytes, layer.examples.rows * layer.examples.map_tokens)
            size += EXAMPLE_BYTES * layer.examples.rows + round(TOKEN_BYTES * tokens)
        if layer.examples or layer.texts:
            size += EVIDENCE_BYTES * len(layer.units)
        if layer.matches:
            files += packs
            size += MATCH_BYTES * layer.matches.rows
            matched += len(layer.units)
        size += LABEL_BYTES * layer.labels
    probes = [-(-source.images // PROBE_BUNDLE) for source in held.probes]
    size += sum(source.thumbnail_bytes + PROBE_BYTES * source.images for source in held.probes)
    clusters = -(-matched // (CLUSTER_MODELS * CLUSTER_PACK))
    size += 60 * matched // CLUSTER_MODELS
    texts = set().union(*(layer.texts for layer in held.layers))
    return Size(files + sum(probes) + clusters + index_files(texts), size, min(FOLDER, max(probes, default=0)))


def _heads(held: Survey) -> Size:
    """Size of what is said of heads; file counts are exact."""
    files = size = largest = 0
    for source in held.heads:
        files += 1 + len(source.layers) + sum(source.read_packs)
        largest = max(largest, 2 + len(source.layers), sum(source.read_packs))
        size += sum(HEAD_ROW_BYTES[table] * rows for table, rows in source.rows.items())
        size += round(SIGNED_BYTES * source.map_bytes) + SAID_BYTES * len(source.texts)
    features = set().union(*(source.features for source in held.heads))
    texts = {text for source in held.heads for text in source.texts}
    return Size(files + len(features) + index_files(texts), size, largest)


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
