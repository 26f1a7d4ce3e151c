"""The table of the probe images: written once, and again where a run asks for more or less of them to be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import check_whole
from atlas_schema.shards import shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import PROBE_IMAGES
from jobs.version import code_version

if TYPE_CHECKING:
    from pipeline.images.probe_set import ProbeSet


def write_probe_images(store: Store, probe_set: ProbeSet | None, mode: str) -> None:
    """Write the table of a set. mode: embed (thumbnails), reference, none; auto: what the licence allows.

    A table that is there stays where nobody asks (auto): an explicit mode of a later run is heeded, and replaces it. A
    damaged one is written again.
    """
    from pipeline.images.probe_set import default_mode, rows

    if probe_set is None:
        return
    if mode == "auto" and _stands(store, shard_path(PROBE_IMAGES, probe_set.identity)):
        return
    shown = rows(probe_set, default_mode(probe_set) if mode == "auto" else mode)
    write_rows(store, PROBE_IMAGES, probe_set.identity, shown, provenance={"code_version": code_version()})


def _stands(store: Store, path: str) -> bool:
    """Whether the table is there and sound."""
    try:
        check_whole(store.read(path), path)
    except (FileNotFoundError, ShardCorrupt):
        return False
    return True
