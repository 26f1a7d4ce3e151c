"""The table of the probe images: written once, and again where a run asks for more or less of them to be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import check_whole, footer_metadata, read_footer
from atlas_schema.shards import shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import PROBE_IMAGES
from jobs.version import code_version

READ_WHOLE = 32 << 20  # bytes of the table, at each start

if TYPE_CHECKING:
    from pipeline.images.probe_set import ProbeSet


def write_probe_images(store: Store, probe_set: ProbeSet | None, mode: str) -> None:
    """Write the table of a set. mode: embed (thumbnails), reference, none; auto: what the licence allows.

    A table that is there stays where nobody asks (auto): an explicit mode of a later run is heeded, and replaces it,
    unless its footer says that it shows the same of the same images. A damaged one is written again.
    """
    from pipeline.images.probe_set import default_mode, rows

    if probe_set is None:
        return
    there = _stands(store, shard_path(PROBE_IMAGES, probe_set.identity))
    if there and mode == "auto":
        return
    mode = default_mode(probe_set) if mode == "auto" else mode
    told = {"code_version": code_version(), "images_shown": mode, "images_said": probe_set.said}
    if there and told.items() <= footer_of(store, probe_set.identity).items():
        return
    write_rows(store, PROBE_IMAGES, probe_set.identity, rows(probe_set, mode), provenance=told)


def footer_of(store: Store, probe_set: str) -> dict[str, str]:
    """What the footer of a set's table says; nothing where it is damaged or not there."""
    try:
        return footer_metadata(read_footer(store, shard_path(PROBE_IMAGES, probe_set)))
    except (FileNotFoundError, ShardCorrupt):
        return {}


def _stands(store: Store, path: str) -> bool:
    """Whether the table is there and sound; of a large one only the footer is read."""
    try:
        if store.size(path) > READ_WHOLE:
            read_footer(store, path)
        else:
            check_whole(store.read(path), path)
    except (FileNotFoundError, ShardCorrupt):
        return False
    return True
