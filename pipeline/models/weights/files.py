"""From a file, folder or URL to its content, without running code; or what it is instead of weights, and what to do."""

from __future__ import annotations

import io
import json
import os
import posixpath
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from torch import Tensor

from atlas_schema.errors import AtlasError, WeightsUnreadable
from pipeline.models.weights.folders import CONFIG, chosen_file, shards_of
from pipeline.models.weights.foreign import known_as, zip_known_as
from pipeline.models.weights.kept import kept
from pipeline.models.weights.torchscript import is_torchscript, read_torchscript
from pipeline.models.weights.unpickle import read_torch

FORMATS = "Expected .safetensors, or .pth/.pt/.bin as torch.save writes them."
HEAD = 512  # bytes that tell what a file is
_TORCH_BEGINS = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before its zip format
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: nested dicts with tensors at their ends. `config`: the config.json beside it, if any."""

    location: str
    form: str
    content: Any
    config: dict[str, Any] = field(default_factory=dict)


def read_file(location: str) -> Checkpoint:
    """The content of a file or folder of weights; nothing in it is ever executed.

    WeightsUnreadable, saying what it is and what to do, where it is missing, truncated, of a foreign format, or needs
    code to be run to load.
    """
    place = _Place(location)
    if place.is_folder():
        names = place.names()
        inner = place.inside(chosen_file(location, names))
        config = place.inside(CONFIG).json() if CONFIG in names else {}
    else:
        inner, config = place, place.config_beside()
    form, content = _content(inner)
    return Checkpoint(location, form, content, config)


def _content(place: _Place) -> tuple[str, Any]:
    with place.opened() as file:
        try:
            return _parsed(file, place)
        except AtlasError:
            raise
        except Exception as error:  # damaged bytes end in any of a dozen errors of four libraries
            raise WeightsUnreadable(
                f"{place.location} is truncated or damaged: {first_line(error)}. Fetch it again and compare its size."
            ) from error


def _parsed(file: IO[bytes], place: _Place) -> tuple[str, Any]:
    """Told apart by their first bytes: names of checkpoint files are not to be relied on."""
    head = file.read(HEAD)
    file.seek(0)
    if head[8:9] == b"{" and not any(head[5:8]):  # eight bytes of length come first, and may look like anything
        return "safetensors", _safetensors(file, place)
    known = known_as(head)
    if known:
        raise WeightsUnreadable(f"{place.location} is {known[0]}. {known[1]}")
    if head[:2] == b"PK":
        return _zip(file, place.location)
    if head[:1] == b"\x80":
        if not head.startswith(_TORCH_BEGINS):
            raise WeightsUnreadable(_plain_pickle(place.location))
        return "torch.save, before torch 1.6", read_torch(file, place.location)
    if head[:1] == b"{":
        return _index(place)
    size = "It is empty." if not head else "It does not begin like one of these."
    raise WeightsUnreadable(f"{place.location} is no weights file. {size} {FORMATS}")


def _safetensors(file: IO[bytes], place: _Place) -> dict[str, Tensor]:
    from safetensors.torch import load, load_file

    return load_file(place.file) if place.file else load(file.read())


def _zip(file: IO[bytes], location: str) -> tuple[str, Any]:
    with ZipFile(file) as archive:
        names = archive.namelist()
        _check_sums(archive)
    if is_torchscript(names):
        return "TorchScript", read_torchscript(file)
    if any(posixpath.basename(name) == "data.pkl" for name in names):
        return "torch.save", read_torch(file, location)
    what, advice = zip_known_as(names, location)
    raise WeightsUnreadable(f"{location} is {what}. {advice}")


def _check_sums(archive: ZipFile) -> None:
    """BadZipFile where an entry is not what was written; torch itself does not look. Writers may leave sums out (0)."""
    for entry in archive.infolist():
        if entry.CRC:
            with archive.open(entry) as stream:
                while stream.read(_CHUNK):
                    pass


def _index(place: _Place) -> tuple[str, Any]:
    """The shards that an index file (model.safetensors.index.json) lists, as one."""
    index = place.json()
    content: dict[str, Any] = {}
    for name in shards_of(place.location, index):
        content.update(_content(place.beside(name))[1])
    lacking = [key for key in index["weight_map"] if key not in content]
    if lacking:
        raise WeightsUnreadable(
            f"{place.location} lists {len(lacking)} tensors that its shards do not hold: {listed(lacking)}. "
            "Fetch the shards again."
        )
    return "sharded safetensors", content


def _plain_pickle(location: str) -> str:
    code = (
        "import pickle, torch; w = lambda x: {str(k): w(v) for k, v in x.items()} if isinstance(x, dict) else "
        f"torch.as_tensor(x) if hasattr(x, 'dtype') else x; torch.save(w(pickle.load(open({location!r}, 'rb'))), "
        "'tensors.pth')"
    )
    return (
        f"{location} is a pickle that torch.save did not write, and loading it would run code: refused. Where you "
        f'trust the file, convert it:\n  python -c "{code}"'
    )


class _Place:
    """A path or fsspec URL. Every failure of a store becomes WeightsUnreadable."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.is_local = os.path.exists(location)

    def inside(self, name: str) -> _Place:
        return _Place(f"{self.location.rstrip('/')}/{name}")

    def beside(self, name: str) -> _Place:
        folder, _, _ = self.location.rpartition("/")
        return _Place(f"{folder}/{name}" if folder else name)

    def is_folder(self) -> bool:
        if self.is_local:
            return os.path.isdir(self.location)
        if posixpath.splitext(self.location)[1] or "://" not in self.location:
            return False
        files, path = self._store()
        return bool(self._asked(lambda: files.isdir(path)))

    def names(self) -> list[str]:
        if self.is_local:
            return sorted(os.listdir(self.location))
        files, path = self._store()
        listing = self._asked(lambda: files.ls(path, detail=False))
        return sorted(posixpath.basename(str(name).rstrip("/")) for name in listing)

    def json(self) -> dict[str, Any]:
        with self.opened() as file:
            try:
                found = json.loads(file.read())
            except ValueError as error:
                raise WeightsUnreadable(f"{self.location}: not valid JSON: {first_line(error)}.") from error
        if not isinstance(found, dict):
            raise WeightsUnreadable(f"{self.location}: expected a JSON object, found {type(found).__name__}.")
        return found

    def config_beside(self) -> dict[str, Any]:
        """The config.json in the folder of a local file: a Hugging Face folder, of which one file was named."""
        if not self.is_local or not os.path.isfile(self.beside(CONFIG).location):
            return {}
        try:
            return self.beside(CONFIG).json()
        except WeightsUnreadable:  # some other program's
            return {}

    @cached_property
    def file(self) -> str | None:
        """Where its bytes are on this machine, None where they have to be asked for."""
        if self.is_local:
            return self.location
        found = kept(*self._store(), self.location)
        return str(found) if found else None

    def opened(self) -> IO[bytes]:
        if self.file:
            try:
                return open(self.file, "rb")
            except OSError as error:
                raise self._closed(error) from error
        files, path = self._store()
        # torch and safetensors seek back and forth: fetch a remote file once, whole
        return io.BytesIO(self._asked(lambda: files.cat_file(path)))

    def _store(self) -> tuple[Any, str]:
        import fsspec

        found: tuple[Any, str] = self._asked(lambda: fsspec.core.url_to_fs(self.location))
        return found

    def _asked(self, ask: Any) -> Any:
        try:
            return ask()
        except FileNotFoundError as error:
            raise WeightsUnreadable(
                f"{self.location}: no such file. Give a path or an fsspec URL (s3://, https://)."
            ) from error
        except Exception as error:  # every store has errors of its own
            raise self._closed(error) from error

    def _closed(self, error: BaseException) -> WeightsUnreadable:
        return WeightsUnreadable(
            f"{self.location} cannot be opened: {first_line(error)}. Give a path, or a URL that this machine may read."
        )


def listed(names: Any, n: int = 4) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    return ", ".join(map(str, names[:n])) + (f" and {len(names) - n} more" if len(names) > n else "")


def first_line(error: BaseException) -> str:
    """What an error says, in one line without a full stop."""
    if isinstance(error, BadZipFile):
        return f"zip archive: {error}"
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]
