"""What of an atlas is published: its tables, its card, and what a copy needs so that a run extends it.

That is, of a sound atlas: every shard; the card and the same for machines (Croissant), with the address it is
published at; licences and citation; for every
committed unit whose rows stand in the shards the small record that `clean --parts` would leave, so that a run on a copy
knows what is done; a look-up for each layer's neurons, and a listing. Parts, sums, logs and locks stay where they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from atlas_schema.card import CARD, card_text
from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.croissant import CROISSANT, croissant_text
from atlas_schema.errors import NothingThere, NotValid
from atlas_schema.kept import kept_record
from atlas_schema.listed import FILES
from atlas_schema.lookup import FOLDER as LOOKUPS
from atlas_schema.lookup import encode_lookup, lookup_path
from atlas_schema.parts import PARTS, kept_path
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import MODELS, NEURONS, TABLES
from atlas_schema.validate import Depth, check
from jobs.publishing.records import records_of

_BESIDE = re.compile(r"LICEN[CS]E[^/]*|CITATION\.cff")
_PLACEHOLDERS = ("PATH-OR-REPOSITORY", "PATH-OR-URL")  # of card.md


@dataclass(frozen=True)
class Item:
    """A file to publish. data: its bytes, or file: where they are, of what is made for the publication; neither where
    the atlas holds it.
    """

    path: str
    size: int
    sha256: str
    blob: str  # Git's name of these bytes: the SHA-1 of a header and of them
    data: bytes | None = None
    file: Path | None = None

    @property
    def is_shard(self) -> bool:
        return is_shard(self.path)


@dataclass(frozen=True)
class Selection:
    """All files of a publication, by path, and the atlas that most of them lie in."""

    store: Store
    items: Mapping[str, Item]

    @property
    def total(self) -> int:
        return sum(item.size for item in self.items.values())

    def read(self, item: Item) -> bytes:
        """The bytes of one; FileNotFoundError, StoreFailed as `Store.read`."""
        if item.file is not None:
            return item.file.read_bytes()
        return self.store.read(item.path) if item.data is None else item.data


def is_shard(path: str) -> bool:
    """Whether a path is that of a shard of one of the tables."""
    place = parse_shard_path(path)
    return place is not None and place[0] in TABLES


def is_record(path: str) -> bool:
    """Whether a path is that of a record of a committed unit."""
    return path.startswith(f"{PARTS}/") and path.endswith(".kept.json")


def is_made(path: str) -> bool:
    """Whether a path is that of something that `push` makes of a shard or a part: a record or a look-up."""
    return is_record(path) or path.startswith(f"{LOOKUPS}/")


def select(store: Store, repository: str, url: str, folder: Path) -> Selection:
    """What of the atlas in `store` is published as `repository` (for `load_dataset`) at `url` (for `Atlas`).

    Every byte of it is read: by `validate`, and for its digests. folder: an empty one, for the look-ups. Raises
    NothingThere where there is no atlas, NotValid where `validate` finds fault with a table or the card.
    """
    if not store.list(MODELS.name):
        raise NothingThere(f"{store.url}: no atlas here: expected a folder or URL with models/ and sites/ in it")
    _require_valid(store)
    paths = [path for path in store.list() if is_shard(path) or _BESIDE.fullmatch(path)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        items = [item for some in threads.map(lambda path: _items(store, path, folder), paths) for item in some]
    card = card_text(store)
    for placeholder, told in zip(_PLACEHOLDERS, (repository, url), strict=True):
        card = card.replace(placeholder, told)
    items += [_item(CARD, card.encode()), _item(CROISSANT, croissant_text(store, url).encode()), *_records(store)]
    items.append(_item(FILES, _listing(items)))
    return Selection(store, {item.path: item for item in sorted(items, key=lambda item: item.path)})


def _items(store: Store, path: str, folder: Path) -> list[Item]:
    """A file of the atlas, and of a shard of neurons its look-up."""
    data = store.read(path)
    items = [_item(path, data, kept=False)]
    if path.startswith(f"{NEURONS.name}/"):
        made = _item(lookup_path(path), encode_lookup(data, path), kept=True)
        place = folder / made.sha256
        place.write_bytes(made.data or b"")
        items.append(replace(made, data=None, file=place))
    return items


def _require_valid(store: Store) -> None:
    # A card is made for the publication; what the run keeps for itself is not published.
    faults = [one for one in check(store, Depth.BYTES, memory=False).violations if one.kind != "card"]
    if faults:
        more = f" and {len(faults) - 1} more" if faults[1:] else ""
        raise NotValid(
            f"{store.url}: not published, as it is not valid: {faults[0]}{more}. "
            f"`neuron-atlas validate {store.url}` lists every fault with what to do about it"
        )


def _records(store: Store) -> Iterator[Item]:
    for unit, kept in records_of(store):
        yield _item(kept_path(unit), kept_record(unit, kept))


def _listing(items: list[Item]) -> bytes:
    """The listing that stands in for one where a host gives none (https://): every file with its size and digest."""
    files = {item.path: {"bytes": item.size, "sha256": item.sha256} for item in sorted(items, key=lambda one: one.path)}
    return json.dumps({"schema_version": SCHEMA_VERSION, "files": files}, indent=0).encode()


def _item(path: str, data: bytes, *, kept: bool = True) -> Item:
    blob = hashlib.sha1(b"blob %d\0" % len(data))
    blob.update(data)
    return Item(path, len(data), hashlib.sha256(data).hexdigest(), blob.hexdigest(), data if kept else None)
