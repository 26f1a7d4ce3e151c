"""Where a pull reads from: an atlas in a repository of the Hub at one commit, on a web server, or in another store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from atlas_schema.errors import NothingThere, ShardCorrupt
from atlas_schema.kept import kept_record
from atlas_schema.parquet import check_whole, digest_of, read_footer, tried_twice
from atlas_schema.parts import is_part_path, kept_path
from atlas_schema.published import with_revision
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import MODELS
from jobs.publishing.hub import Hub
from jobs.publishing.records import records_of
from jobs.publishing.selection import is_record, is_shard


@dataclass(frozen=True)
class Listed:
    """A file of the origin, with the digests of its bytes that a listing gave ("": not told)."""

    size: int
    sha256: str = ""
    blob: str = ""  # Git's

    @property
    def is_told(self) -> bool:
        return bool(self.sha256 or self.blob)

    def is_of(self, data: bytes) -> bool:
        """Whether these are the bytes that the listing tells of."""
        if len(data) != self.size:
            return False
        if self.sha256:
            return hashlib.sha256(data).hexdigest() == self.sha256
        return not self.blob or hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == self.blob


@dataclass(frozen=True)
class Origin:
    """An atlas to pull from. made: records of committed units that are made of its parts, by path."""

    store: Store
    files: Mapping[str, Listed]
    revision: str | None
    made: Mapping[str, bytes]

    def read(self, path: str) -> bytes:
        """The bytes of a file, compared with its digests; read twice before ShardCorrupt."""
        return self.made[path] if path in self.made else tried_twice(lambda: self._checked(path))

    def _checked(self, path: str) -> bytes:
        data = self.store.read(path)
        if is_shard(path):
            check_whole(data, path)
        if not self.files[path].is_of(data):
            raise ShardCorrupt(
                f"{self.store.url}/{path}: other bytes than the listing there tells of. Pull again", path
            )
        return data

    def is_held(self, path: str, by: Store) -> bool:
        """Whether another store has the same bytes there."""
        listed = self.files.get(path)
        try:
            if path in self.made:
                return by.read(path) == self.made[path]
            if listed is None or by.size(path) != listed.size:
                return False
            if listed.is_told or not is_shard(path):
                return listed.is_of(by.read(path)) if listed.is_told else by.read(path) == self.store.read(path)
            return digest_of(read_footer(by, path)) == digest_of(read_footer(self.store, path))
        except (FileNotFoundError, ShardCorrupt):
            return False


def origin_of(source: str, revision: str | None, say: Callable[[str], None]) -> Origin:
    """The atlas at a URL. NothingThere where there is none, BadConfig for a revision of a store that has none."""
    url = with_revision(source, revision)
    if url is not None:
        at = url.commit()
        held = Hub(url).state(at).files
        files = {
            path: Listed(one.size, one.digest if one.large else "", "" if one.large else one.digest)
            for path, one in held.items()
        }
        return _required(Origin(Store(str(url.at(at))), files, at, {}), source)
    store = Store(source)
    if source.startswith(("http://", "https://")):
        stamps = store.stamps()  # of a web server, the digests that its listing gives
        files = {path: Listed(size, stamps[path]) for path, size in store.sizes().items()}
        return _required(Origin(store, files, None, {}), source)
    files = {path: Listed(size) for path, size in store.sizes().items()}
    origin = _required(Origin(store, files, None, {}), source)
    if not any(is_part_path(path) and not is_record(path) for path in files):
        return origin
    say("Comparing the parts with the tables, for the records of what is done")
    made = {kept_path(unit): kept_record(unit, kept) for unit, kept in records_of(store)}
    return Origin(store, files, None, made)


def _required(origin: Origin, source: str) -> Origin:
    places = map(parse_shard_path, origin.files)
    if not any(place and place[0] == MODELS.name for place in places):
        raise NothingThere(f"{source}: no atlas here: expected models/ and sites/ in it, as `neuron-atlas push` leaves")
    return origin
