"""A publication loses nothing: what stands at the destination and would be gone, or be less, stops it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow.parquet as pq

from atlas_schema.errors import ForeignAtlas, ShardCorrupt
from atlas_schema.file_faults import some
from atlas_schema.parquet import footer_metadata, read_footer
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import RUNS
from jobs.publishing.selection import is_shard


def left_behind(there: Iterable[str], ours: Mapping[str, object]) -> list[str]:
    """Shards that the destination holds and the atlas does not; rows of runs by others are no matter."""
    return sorted(
        path for path in there if is_shard(path) and path not in ours and not path.startswith(f"{RUNS.name}/")
    )


def require_all(url: str, left: list[str], atlas: str) -> None:
    """ForeignAtlas where the destination holds shards that the atlas does not."""
    if left:
        models = sorted({place[1] for place in map(parse_shard_path, left) if place})
        raise ForeignAtlas(
            f"{url}: holds {len(left)} tables that {atlas} does not ({some(left)}), of {', '.join(models)}; its card "
            f"would leave them out. Nothing was changed. Bring them here first (`neuron-atlas pull {url} --out "
            f"{atlas}`), publish somewhere else, or give --replace: then they go, and earlier revisions keep them"
        )


def require_no_less(source: Store, target: Store, changed: Iterable[str], remedy: str) -> None:
    """ForeignAtlas where a shard of `target` holds more than the one of `source` that would replace it, or another's.

    From the footers of both: weights and settings, stages, and the number of rows.
    """
    for path in filter(is_shard, changed):
        try:
            there = read_footer(target, path)
        except ShardCorrupt:  # there is nothing to lose
            continue
        lost = list(_lost(there, read_footer(source, path)))
        if lost:
            raise ForeignAtlas(f"{target.url}/{path}: {'; '.join(lost)}. It was left as it is. {remedy}")


def _lost(there: pq.FileMetaData, ours: pq.FileMetaData) -> Iterator[str]:
    old, new = footer_metadata(there), footer_metadata(ours)
    for name in sorted(old):
        if (name == "fingerprint" or name.endswith("_settings")) and new.get(name, old[name]) != old[name]:
            yield f"holds rows of another {name} ({old[name]}, not {new[name]})"
    stages = set(filter(None, old.get("stage", "").split(","))) - set(new.get("stage", "").split(","))
    if stages:
        yield f"holds columns of {', '.join(sorted(stages))}, which the new one lacks"
    if there.num_rows > ours.num_rows:
        yield f"holds {there.num_rows:,} rows, the new one {ours.num_rows:,}"
