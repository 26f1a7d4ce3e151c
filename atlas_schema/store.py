"""Where an atlas lies: one folder, or one fsspec URL, and the few operations that the rest is built on.

Every write is whole or absent: a file is created once or replaced in one step, and a process that dies at any
moment leaves nothing under a final name that a reader could take for a finished file.

| store | create once | replace |
| --- | --- | --- |
| folder | hidden temporary file, fsync, `os.link` | the same, `os.replace` |
| memory:// | fsspec's exclusive create; one process only | overwrite |
| s3://, gs://, az:// | one PUT that the store refuses when the key exists | one PUT |
| hf:// | not offered: the Hub has no such request; run elsewhere, then push | - |
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

from atlas_schema import objects
from atlas_schema.errors import AtlasError, BadConfig, StoreFailed, StoreFull
from atlas_schema.remote import objects_at

CLOCKS = ".atlas/clock"  # files that are written for the time at which the store says they were
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS}
_EXPIRED = ("expired", "too skewed", "skewed", "difference between the request time")
_Names = list[str]  # inside Store, `list` is the method
_Result = TypeVar("_Result")


class Store:
    """One folder or fsspec URL; paths inside it are relative and POSIX.

    Raises StoreFull where space ran out, StoreFailed where the store refuses or does not answer, and
    FileNotFoundError where something to be read is not there.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        folder = folder_of(self.url)
        self.is_local = folder is not None
        self._files: _Folder | objects.Objects
        if folder is not None:
            self._files = _Folder(folder)
        else:
            try:
                self._files = objects_at(self.url)
            except (ImportError, ValueError) as error:  # a package that is not installed, an unknown scheme
                raise BadConfig(
                    f"{self.url}: {error}. Expected a folder, or a URL of a store that fsspec knows and whose"
                    " package is installed, for example s3:// after `pip install 'neuron-atlas[s3]'`"
                ) from error

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.url,)

    def read(self, path: str) -> bytes:
        """The whole file; FileNotFoundError where there is none."""
        with _failures(self.url, "read", path):
            return self._files.read(_checked(path), 0, None)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer where the file ends before."""
        with _failures(self.url, "read", path):
            return self._files.read(_checked(path), offset, length)

    def open(self, path: str) -> BinaryIO:
        """The file opened for reading at places; nothing is read ahead: a remote read costs its bytes."""
        with _failures(self.url, "open", path):
            return self._files.open(_checked(path))

    def exists(self, path: str) -> bool:
        """Whether the file is there, asked anew each time."""
        with _failures(self.url, "look up", path):
            return self._files.size(_checked(path)) is not None

    def size(self, path: str) -> int:
        """Bytes of the file; FileNotFoundError where there is none."""
        with _failures(self.url, "look up", path):
            size = self._files.size(_checked(path))
            if size is None:
                raise FileNotFoundError(f"{self.url}: no file {path}")
            return size

    def create(self, path: str, data: bytes) -> bool:
        """Write a file that must not be there yet, whole or not at all.

        False: one was there, and it is as it was. True: what stands there is what was brought. On an object
        store that includes a file of exactly these bytes found in place, since a write looks like that whose
        acknowledgement was lost and which was sent again.
        """
        with _failures(self.url, "write", path):
            return self._files.create(_checked(path), data)

    def replace(self, path: str, data: bytes) -> None:
        """Write a file in one step, in place of any that is there: readers see the old or the new, whole."""
        with _failures(self.url, "write", path):
            self._files.replace(_checked(path), data)

    def delete(self, path: str) -> None:
        """Remove the file; one that is not there is no error."""
        with _failures(self.url, "delete", path):
            self._files.delete(_checked(path))

    def move(self, path: str, to: str) -> None:
        """Give a file another place, over any file there; FileNotFoundError where there is none at `path`.

        In one step in a folder. An object store copies, then deletes: a process killed between leaves both.
        """
        with _failures(self.url, "move", path):
            self._files.move(_checked(path), _checked(to))

    def modified(self, path: str) -> float:
        """When a file was written last, in seconds by the store's own clock; FileNotFoundError where there is none."""
        with _failures(self.url, "look up", path):
            return self._files.modified(_checked(path))

    def now(self) -> float:
        """The store's own clock, in seconds, as `modified` tells it: that of a small file written for it and removed.

        This host's clock may be hours from it.
        """
        path = f"{CLOCKS}/{secrets.token_hex(8)}"
        self.replace(path, b"what time is it?")
        try:
            return self.modified(path)
        finally:
            self.delete(path)

    def list(self, prefix: str = "") -> _Names:
        """All files in the folder `prefix` and below, sorted, asked anew each time; no unfinished ones."""
        with _failures(self.url, "list", prefix):
            names = self._files.walk(_checked(prefix.rstrip("/")) if prefix else "")
            return sorted(name for name in names if not _is_temporary(name))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Bytes of every file that `list` names, from one listing."""
        with _failures(self.url, "list", prefix):
            found = self._files.sizes(_checked(prefix.rstrip("/")) if prefix else "")
            return {name: size for name, size in sorted(found) if not _is_temporary(name)}

    def stamps(self, prefix: str = "") -> dict[str, str]:
        """For every file that `list` names, or for one file, what changes when its bytes do; "" where nothing tells.

        Size and time of change of a folder's file; size with the ETag, hash, generation or time of an object.
        """
        with _failures(self.url, "list", prefix):
            found = self._files.stamps(_checked(prefix.rstrip("/")) if prefix else "")
            return {name: stamp for name, stamp in sorted(found) if not _is_temporary(name)}

    def sweep(self, older_than: float = 86_400.0) -> _Names:
        """Remove the hidden files that killed writers left in a folder, and name them.

        Only those `older_than` so many seconds by the folder's own clock go, so that a writer at work loses
        nothing. Object stores keep nothing unfinished under any name (parts of a broken multipart upload go by
        a rule of the bucket).
        """
        old = self.leftovers(older_than)
        for path in old:
            self.delete(path)
        return old

    def leftovers(self, older_than: float = 86_400.0) -> _Names:
        """The hidden files that `sweep` would remove."""
        with _failures(self.url, "sweep", ""):
            hidden = sorted(path for path in self._files.walk("") if _is_temporary(path)) if self.is_local else []
        now = self.now() if hidden else 0.0
        return [path for path in hidden if now - self._modified_or(path, now) > older_than]

    def _modified_or(self, path: str, gone: float) -> float:
        try:
            return self.modified(path)
        except FileNotFoundError:  # its writer was at work, and is done with it
            return gone


def folder_of(url: str) -> Path | None:
    """The folder that a text stands for: a path, `file:path` or `file://path`; None for the URL of another store."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme in ("file", "local"):
        host = rest.startswith("//localhost/")
        return Path(rest[len("//localhost") :] if host else rest.removeprefix("//")).expanduser()
    return None if "://" in url else Path(url).expanduser()


class PatientStore(Store):
    """A store whose passing refusals are waited for: for one process on which a whole run depends.

    An operation that fails is tried again, with growing pauses, until it succeeds or `seconds` have passed; then what
    the store said is raised. A full disk, and a file that is not there, are told at once.
    """

    def __init__(
        self,
        url: str,
        seconds: float = 120.0,
        on_wait: Callable[[str], None] = lambda reason: None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """on_wait: called before each pause with the store's reason."""
        super().__init__(url)
        self._seconds, self._on_wait, self._clock, self._sleep = seconds, on_wait, clock, sleep

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.url,)  # another process has its own patience

    def _patiently(self, operation: Callable[[], _Result]) -> _Result:
        began, pause = self._clock(), 1.0
        while True:
            try:
                return operation()
            except StoreFailed as error:
                if self._clock() + pause - began > self._seconds:
                    raise
                self._on_wait(str(error))
            self._sleep(pause)
            pause *= 2

    def read(self, path: str) -> bytes:
        """As `Store.read`, patiently; so are all that follow."""
        return self._patiently(lambda: super(PatientStore, self).read(path))

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        return self._patiently(lambda: super(PatientStore, self).read_range(path, offset, length))

    def open(self, path: str) -> BinaryIO:
        return self._patiently(lambda: super(PatientStore, self).open(path))

    def exists(self, path: str) -> bool:
        return self._patiently(lambda: super(PatientStore, self).exists(path))

    def size(self, path: str) -> int:
        return self._patiently(lambda: super(PatientStore, self).size(path))

    def create(self, path: str, data: bytes) -> bool:
        return self._patiently(lambda: super(PatientStore, self).create(path, data))

    def replace(self, path: str, data: bytes) -> None:
        self._patiently(lambda: super(PatientStore, self).replace(path, data))

    def delete(self, path: str) -> None:
        self._patiently(lambda: super(PatientStore, self).delete(path))

    def move(self, path: str, to: str) -> None:
        self._patiently(lambda: super(PatientStore, self).move(path, to))

    def modified(self, path: str) -> float:
        return self._patiently(lambda: super(PatientStore, self).modified(path))

    def list(self, prefix: str = "") -> _Names:
        return self._patiently(lambda: super(PatientStore, self).list(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._patiently(lambda: super(PatientStore, self).sizes(prefix))

    def stamps(self, prefix: str = "") -> dict[str, str]:
        return self._patiently(lambda: super(PatientStore, self).stamps(prefix))


class _Folder:
    """A folder of this machine (or a file system it mounts)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str, offset: int, length: int | None) -> bytes:
        with open(self.root / path, "rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def open(self, path: str) -> BinaryIO:
        return open(self.root / path, "rb")

    def size(self, path: str) -> int | None:
        full = self.root / path
        return full.stat().st_size if full.is_file() else None

    def create(self, path: str, data: bytes) -> bool:
        with self._written(path, data) as (temporary, final):
            try:
                os.link(temporary, final)
            except FileExistsError:
                # NFS may carry out a link and lose the answer: then our file has its second name.
                return os.stat(temporary).st_nlink == 2
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if final.exists():
                    return False
                os.replace(temporary, final)  # no links here: of two writers at one moment, the later wins
        _fsync_folder(final.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        with self._written(path, data) as (temporary, final):
            os.replace(temporary, final)
        _fsync_folder(final.parent)

    def delete(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)

    def walk(self, prefix: str) -> Iterator[str]:
        for folder, _, files in os.walk(self.root / prefix):
            inside = Path(folder).relative_to(self.root)
            yield from (str(inside / name) for name in files)

    def move(self, path: str, to: str) -> None:
        final = self.root / to
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.root / path, final)
        _fsync_folder(final.parent)

    def modified(self, path: str) -> float:
        return (self.root / path).stat().st_mtime

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        for name in self.walk(prefix):
            with suppress(FileNotFoundError):  # removed since
                yield name, (self.root / name).stat().st_size

    def stamps(self, prefix: str) -> Iterator[tuple[str, str]]:
        for name in [prefix] if (self.root / prefix).is_file() else self.walk(prefix):
            with suppress(FileNotFoundError):
                told = (self.root / name).stat()
                yield name, f"{told.st_size} {told.st_mtime_ns}"

    @contextmanager
    def _written(self, path: str, data: bytes) -> Iterator[tuple[Path, Path]]:
        """The data on disk under a hidden name beside the final one; the hidden name always goes."""
        final = self.root / path
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{final.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary, final
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def _failures(url: str, action: str, path: str) -> Iterator[None]:
    """Turn whatever a store raises into StoreFull or StoreFailed; FileNotFoundError passes."""
    where = f"{url.rstrip('/')}/{path}"
    try:
        yield
    except StoreFailed as error:
        raise StoreFailed(f"cannot {action} {where}: {error}") from error
    except AtlasError:
        raise
    except FileNotFoundError as error:
        if action in ("write", "list"):
            raise StoreFailed(
                f"cannot {action} {where}: {error or 'no such bucket'}. Expected a bucket or folder that"
                " exists; create it or correct the URL"
            ) from error
        raise
    except PermissionError as error:
        said = f"{error} {error.__cause__ or ''}".lower()  # client libraries keep the store's own code in the cause
        if any(word in said for word in _EXPIRED):
            raise StoreFailed(
                f"cannot {action} {where}: the credentials have expired or this machine's clock is wrong ({error}). "
                "What is committed stands; renew the credentials or set the clock, then run the same command again"
            ) from error
        raise StoreFailed(
            f"cannot {action} {where}: permission denied ({error}). Expected read and write access; check the"
            " credentials or the folder's owner, then run the same command again"
        ) from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreFull(
                f"no space left to write {where}. Nothing of it was kept; what is committed is intact."
                " Free some space or move the atlas to a larger disk, then run the same command again"
            ) from error
        raise _failed(where, action, error) from error
    except (ValueError, TypeError):
        raise
    except Exception as error:  # each client library has exceptions of its own, botocore's are no OSErrors
        raise _failed(where, action, error) from error


def _failed(where: str, action: str, error: Exception) -> StoreFailed:
    cause = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        cause = f"no answer within {objects.CALL_TIMEOUT:g} s"
    return StoreFailed(
        f"cannot {action} {where}: {cause}. What is committed stands; run the same command again once the store answers"
    )


def _checked(path: str) -> str:
    """`path` itself; ValueError (a bug, not a user's mistake) where it could leave the store."""
    if not path or path.startswith("/") or ".." in path.split("/") or str(PurePosixPath(path)) != path:
        raise ValueError(f"not a relative POSIX path inside the store: {path!r}")
    return path


def _is_temporary(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")


def _fsync_folder(folder: Path) -> None:
    """Make a new name itself survive a power cut; file systems that cannot do it are left alone."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
