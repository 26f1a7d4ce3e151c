"""From what a user writes to the source it names."""

import os
from fnmatch import fnmatchcase
from pathlib import Path

from atlas_schema.errors import BadConfig, NothingThere
from atlas_schema.store import Store
from pipeline.images.archives import Archives
from pipeline.images.entry import Source, is_hidden
from pipeline.images.folder import Folder, is_image
from pipeline.images.world import IMAGES, World

FORMS = (
    "zoo or zoo:N; a folder or URL of images, of .parquet or of WebDataset .tar files, or one such file; "
    "hf:NAME[:SPLIT[:IMAGE_COLUMN]]"
)


def source_of(spec: str) -> Source:
    """The source a spec names, not yet read. BadConfig or NothingThere, which say what is expected."""
    if not spec.strip():
        raise BadConfig(f"the probe set has no name. Expected {FORMS}.")
    if spec == "zoo" or spec.startswith("zoo:"):
        return World(_count(spec))
    if spec.startswith("hf:") and not spec.startswith("hf://"):
        from pipeline.images.hub import hub_source  # here: `datasets` takes a second to import

        return hub_source(spec)
    return _stored(spec)


def name_of(spec: str) -> str:
    """A short name for people: zoo, the folder's or file's own name, the dataset's."""
    if spec == "zoo" or spec.startswith("zoo:"):
        return "zoo"
    if spec.startswith("hf:") and not spec.startswith("hf://"):
        spec = spec.split(":")[1]
    return spec.rstrip("/").rpartition("/")[2] or spec


def _count(spec: str) -> int:
    count = str(IMAGES) if spec == "zoo" else spec.removeprefix("zoo:")
    if not count.isdecimal() or not 1 <= int(count) <= 10**6:
        raise BadConfig(f"{spec}: expected zoo, or zoo:N with N from 1 to 1000000 scenes, such as zoo:500.")
    return int(count)


def _stored(spec: str) -> Source:
    """A folder, a file or a glob of files, here or behind a URL."""
    folder, pattern = _split(spec)
    store = Store(folder)
    if store.is_local and not Path(folder).is_dir():
        raise NothingThere(f"{spec}: there is no such folder. Expected {FORMS}.")
    files = _listed(store, pattern)
    if not files and pattern:
        raise NothingThere(f"{spec}: there is no such file. Expected {FORMS}.")
    if any(is_image(path) for path in files):
        return Folder(store, files)
    if tables := tuple(path for path in files if path.endswith(".parquet")):
        from pipeline.images.tables import Tables

        return Tables(store, tables)
    if archives := tuple(path for path in files if path.endswith(".tar")):
        return Archives(store, archives)
    raise NothingThere(f"{spec}: there is no image in it ({_found(files)}). Expected {FORMS}.")


def _listed(store: Store, pattern: str) -> tuple[str, ...]:
    if not pattern:
        return tuple(path for path in store.list() if not is_hidden(path))
    if "*" not in pattern:  # not listed: a URL need not know what lies beside the file
        return (pattern,) if store.exists(pattern) else ()
    return tuple(path for path in store.list() if "/" not in path and fnmatchcase(path, pattern))


def _split(spec: str) -> tuple[str, str]:
    """(folder, pattern of files in it or ""). Local folders absolute: a worker may stand elsewhere."""
    scheme, separator, rest = spec.partition("://")
    local = not separator or scheme in ("file", "local")
    if local:
        spec = os.path.abspath(os.path.expanduser(rest if separator else spec))
    if local and os.path.isdir(spec):
        return spec, ""
    folder, _, last = spec.rstrip("/").rpartition("/")
    if "*" in last or last.endswith((".parquet", ".tar")) or (local and os.path.isfile(spec)):
        return folder or "/", last
    return spec, ""


def _found(files: tuple[str, ...]) -> str:
    return "it is empty" if not files else f"{len(files)} other files, such as {files[0]}"
