"""Where shards lie, in the form that `datasets` knows."""

from __future__ import annotations

import re

from atlas_schema.columns import Table

_PATH = re.compile(r"([a-z_]+)/([^/]+)/train-(\d{5,})-of-(\d{5,})\.parquet")


def shard_path(table: Table | str, slug: str, layer: int = 0, layers: int = 1) -> str:
    """Where a shard lies; for runs, `slug` is the run's id."""
    name = table if isinstance(table, str) else table.name
    return f"{name}/{slug}/train-{layer:05d}-of-{layers:05d}.parquet"


def parse_shard_path(path: str) -> tuple[str, str, int, int] | None:
    """(table, slug, layer, layers) of a shard's path; None for any other path."""
    match = _PATH.fullmatch(path)
    return (match[1], match[2], int(match[3]), int(match[4])) if match else None
