"""Any other destination of a push: a folder, or a URL that fsspec writes to. One writer at a time, by the lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parquet import digest_of, read_footer
from atlas_schema.store import Store
from jobs.lock import locked
from jobs.publishing.limits import batches
from jobs.publishing.loss import left_behind, require_all, require_no_less
from jobs.publishing.selection import Item, Selection, is_made
from jobs.records import new_run_id

AT_ONCE = 8  # files that are compared or sent side by side


def push_to_store(
    selection: Selection, target: Store, *, replace: bool, dry_run: bool, say: Callable[[str], None]
) -> tuple[int, int, int]:
    """Write what is missing there; (files, bytes) that were or would be sent, and files removed.

    Tables first, the card and the listing last. Raises AtlasLocked where somebody else writes there, ForeignAtlas where
    something would be lost, StoreFailed, StoreFull.
    """
    if dry_run:
        missing, gone = _difference(selection, target, replace)
        return len(missing), sum(item.size for item in missing), len(gone)
    with locked(target, f"push-{new_run_id()}"):
        missing, gone = _difference(selection, target, replace)
        say(f"Sending {len(missing)} files, {sum(item.size for item in missing) / 1e6:,.1f} MB, to {target.url}")
        for batch in batches(missing):
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(lambda item: target.replace(item.path, selection.read(item)), batch))
        for path in gone:
            target.delete(path)
    return len(missing), sum(item.size for item in missing), len(gone)


def _difference(selection: Selection, target: Store, replace: bool) -> tuple[list[Item], list[str]]:
    """What is missing there, and what is to go."""
    sizes = target.sizes()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        items = list(selection.items.values())
        same = list(threads.map(lambda item: is_same(selection, item, target, sizes.get(item.path)), items))
    missing = [item for item, there in zip(items, same, strict=True) if not there]
    left = left_behind(sizes, selection.items)
    if not replace:
        require_all(target.url, left, selection.store.url)
        remedy = (
            f"Bring it here first (`neuron-atlas pull {target.url} --out {selection.store.url}`), or give --replace"
        )
        changed = [item.path for item in missing if item.path in sizes]
        require_no_less(selection.store, target, changed, remedy)
        return missing, []
    return missing, left + [path for path in sizes if is_made(path) and path not in selection.items]


def is_same(selection: Selection, item: Item, target: Store, size: int | None) -> bool:
    """Whether the destination holds these bytes: a shard by the digest in its footer, a small file by itself."""
    if size != item.size:
        return False
    if not item.is_shard:
        return target.read(item.path) == selection.read(item)
    try:
        return digest_of(read_footer(target, item.path)) == digest_of(read_footer(selection.store, item.path))
    except ShardCorrupt:
        return False
