"""Object stores through fsspec: the operations that `Store` is built on, where it is no folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from atlas_schema.errors import StoreFailed

#: Seconds after which one call to a remote store counts as failed: a server may go silent without closing.
CALL_TIMEOUT = 300.0
_CREATE_ONCE = {"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}
#: What fsspec's stores tell of an object that changes when it is written, by the names they have for it.
_CHANGES = ("ETag", "etag", "md5Hash", "content_md5", "generation", "LastModified", "last_modified", "created", "mtime")


class Objects:
    """An object store through fsspec. A PUT is atomic there: a file is visible whole or not at all."""

    def __init__(self, url: str, scheme: str) -> None:
        import fsspec  # here, so that a local atlas starts without it

        self.creates_once = scheme in _CREATE_ONCE
        self.filesystem, root = fsspec.url_to_fs(url, use_listings_cache=False)
        self.root = root.rstrip("/")
        # fsspec ends an asynchronous call at this deadline, whatever the client library waits for.
        self.deadline: dict[str, Any] = {"timeout": CALL_TIMEOUT} if self.filesystem.async_impl else {}

    def read(self, path: str, offset: int, length: int | None) -> bytes:
        if length == 0:
            return b""
        span = {} if length is None else {"start": offset, "end": offset + length}
        return bytes(self.filesystem.cat_file(self._full(path), **span, **self.deadline))

    def open(self, path: str) -> BinaryIO:
        file: BinaryIO = self.filesystem.open(self._full(path), "rb", cache_type="none")
        return file

    def size(self, path: str) -> int | None:
        try:
            info = self.filesystem.info(self._full(path), **self.deadline)
        except FileNotFoundError:
            return None
        return int(info["size"]) if info["type"] == "file" else None

    def create(self, path: str, data: bytes) -> bool:
        self._require_create_once()
        try:
            self.filesystem.pipe_file(self._full(path), data, mode="create", **self.deadline)
        except FileExistsError:
            return self.filesystem.protocol != "memory" and self._holds(path, data)
        except Exception:
            # The outcome is unknown: the store may have kept the file and failed to say so.
            if self._holds(path, data):
                return True
            raise
        return True

    def replace(self, path: str, data: bytes) -> None:
        self._require_create_once()
        self.filesystem.pipe_file(self._full(path), data, **self.deadline)

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self.filesystem.rm_file(self._full(path), **self.deadline)

    def walk(self, prefix: str) -> Iterator[str]:
        start = f"{self.root}/{prefix}".rstrip("/")
        for name in self.filesystem.find(start, **self.deadline):
            yield name[len(self.root) :].lstrip("/")

    def move(self, path: str, to: str) -> None:
        self._require_create_once()
        self.filesystem.cp_file(self._full(path), self._full(to), **self.deadline)
        self.delete(path)

    def modified(self, path: str) -> float:
        return float(self.filesystem.modified(self._full(path)).timestamp())

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        start = f"{self.root}/{prefix}".rstrip("/")
        for name, info in self.filesystem.find(start, detail=True, **self.deadline).items():
            yield name[len(self.root) :].lstrip("/"), int(info["size"])

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        start = f"{self.root}/{prefix}".rstrip("/")
        for name, info in self.filesystem.find(start, detail=True, **self.deadline).items():
            told = next((info[fact] for fact in _CHANGES if info.get(fact)), "")
            yield name[len(self.root) :].lstrip("/"), f"{info['size']} {told}" if told else ""

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _holds(self, path: str, data: bytes) -> bool:
        try:
            return self.size(path) == len(data) and self.read(path, 0, None) == data
        except Exception:  # a store that fails while asked back leaves the first failure to be reported
            return False

    def _require_create_once(self) -> None:
        if not self.creates_once:
            raise StoreFailed(
                "this store has no way to create a file only if it is absent; run into a folder, s3://, gs://"
                " or az://, then push"
            )
