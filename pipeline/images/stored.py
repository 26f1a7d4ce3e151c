"""A folder, a file or a URL: which form of a probe set lies there, and what beside it is left out."""

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from atlas_schema.errors import BadConfig, NothingThere
from atlas_schema.store import Store, folder_of
from pipeline.images.archives import Archives, count_of_images
from pipeline.images.choice import Choice, refuse_choice
from pipeline.images.entry import Remark, Skipped, Source
from pipeline.images.folder import Folder
from pipeline.images.kinds import HEAD, PACKED, PARQUET, TAR, is_packed, what_is
from pipeline.images.listing import Listing, listing_of
from pipeline.images.metadata import is_metadata
from pipeline.images.naming import counted, is_image, some

FORMS = (
    "zoo or zoo:N; a folder or URL of images, of .parquet or of WebDataset .tar files, or one such file; a folder that "
    "save_to_disk wrote; hf:NAME[:SPLIT[:IMAGE_COLUMN]]"
)

Found = tuple[Source, Sequence[Skipped | Remark]]
"""A source, not yet read, and what lies beside it and is not read."""

_IMAGES, _TABLES, _ARCHIVES = "image file", "Parquet file", "tar file"


def stored_source(spec: str, choice: Choice) -> Found:
    """The source in a folder, a file or a glob of files, here or behind a URL. NothingThere or BadConfig."""
    folder, pattern = _split(spec)
    store = Store(folder)
    if store.is_local and not Path(folder).is_dir():
        raise NothingThere(f"{spec}: there is no such folder. Expected {FORMS}.")
    listing = _listed(store, pattern)
    if not listing.files and pattern:
        raise NothingThere(f"{spec}: there is no such file. Expected {FORMS}.")
    if not pattern and (saved := _saved(spec, store, listing, choice)):
        return saved, listing.aside
    source, beside = _of_files(spec, store, listing, choice, one=bool(pattern) and "*" not in pattern)
    if isinstance(source, Folder):
        refuse_choice(choice, spec, "a folder of images")
    return source, (*listing.aside, *beside)


def _split(spec: str) -> tuple[str, str]:
    """(folder, pattern of files in it or ""). Local folders absolute: a worker may stand elsewhere."""
    scheme, separator, rest = spec.partition("://")
    local = not separator or scheme in ("file", "local")
    if local:
        spec = os.path.abspath(os.path.expanduser(rest if separator else spec))
    if local and os.path.isdir(spec):
        return spec, ""
    folder, _, last = spec.rstrip("/").rpartition("/")
    if "*" in last or last.endswith((".parquet", ".tar", *PACKED)) or (local and os.path.isfile(spec)):
        return folder or "/", last
    return spec, ""


def _listed(store: Store, pattern: str) -> Listing:
    if not pattern:
        return listing_of(store)
    if "*" not in pattern:  # not listed: a URL need not know what lies beside the file
        return Listing((pattern,) if store.exists(pattern) else ())

    def meant(path: str) -> bool:
        return "/" not in path and fnmatchcase(path, pattern)

    listing = listing_of(store)
    aside = [one for one in listing.aside if isinstance(one, Skipped) and meant(one.id)]
    return Listing(tuple(filter(meant, listing.files)), aside)


def _saved(spec: str, store: Store, listing: Listing, choice: Choice) -> Source | None:
    """The dataset that `save_to_disk` wrote here, if it did."""
    from pipeline.images.hub import is_saved, saved_source

    if not is_saved(listing.files):
        return None
    if not store.is_local:
        raise BadConfig(f"{spec}: save_to_disk wrote this, which is read from a folder alone. Copy it to this machine.")
    return saved_source(spec, str(folder_of(store.url)), "", choice)


def _of_files(spec: str, store: Store, listing: Listing, choice: Choice, *, one: bool) -> Found:
    """The form that holds most images, and what of the other forms lies beside it. one: a file was named."""
    kinds = _by_kind(store, listing.files, by_content=one)
    there = {kind: paths for kind, paths in kinds.items() if paths}
    if not there:
        raise _nothing(spec, store, listing, one)
    counts = {kind: _COUNTS[kind](store, paths) for kind, paths in there.items()} if len(there) > 1 else {}
    chosen = max(there, key=lambda kind: counts.get(kind, 0))
    beside = [
        Remark(f"{counted(len(paths), kind)} beside the {chosen}s, with fewer images, left out: {some(paths)}")
        for kind, paths in there.items()
        if kind != chosen
    ]
    packed = [path for path in listing.files if is_packed(path)]
    if packed:
        beside.append(Remark(f"{counted(len(packed), 'archive')} not read, unpack what is meant: {some(packed)}"))
    return _source(chosen, store, listing.files, there[chosen], choice), beside


def _source(kind: str, store: Store, files: tuple[str, ...], own: list[str], choice: Choice) -> Source:
    if kind == _IMAGES:
        return Folder(store, files)
    if kind == _TABLES:
        from pipeline.images.tables import Tables

        return Tables(store, tuple(own), choice)
    return Archives(store, tuple(own), choice)


def _by_kind(store: Store, files: Sequence[str], *, by_content: bool) -> dict[str, list[str]]:
    """Files that can hold images: by their names, else by what they are."""
    kinds: dict[str, list[str]] = {_IMAGES: [], _TABLES: [], _ARCHIVES: []}
    for path in files:
        name = path.casefold()
        what = what_is(store.read_range(path, 0, HEAD)) if by_content else ""
        if is_image(path):
            kinds[_IMAGES].append(path)
        elif name.endswith(".parquet") or what == PARQUET:
            kinds[_TABLES].append(path)
        elif name.endswith(".tar") or what == TAR:
            kinds[_ARCHIVES].append(path)
    if kinds[_IMAGES]:
        kinds[_TABLES] = [path for path in kinds[_TABLES] if not is_metadata(path)]
    return kinds


def _rows(store: Store, files: Sequence[str]) -> int:
    from pipeline.images.tables import rows_with_images

    return sum(_none_if_damaged(rows_with_images, store, file) for file in files)


def _members(store: Store, files: Sequence[str]) -> int:
    return sum(_none_if_damaged(count_of_images, store, file) for file in files)


def _none_if_damaged(count: Callable[[Store, str], int], store: Store, file: str) -> int:
    try:
        return count(store, file)
    except BadConfig:
        return 0


_COUNTS: dict[str, Callable[[Store, Sequence[str]], int]] = {
    _IMAGES: lambda store, files: len(files),
    _TABLES: _rows,
    _ARCHIVES: _members,
}


def _nothing(spec: str, store: Store, listing: Listing, one: bool) -> NothingThere:
    files = listing.files
    if one:
        what = what_is(store.read_range(files[0], 0, HEAD)) or "of no kind that is read"
        way = " Unpack it into a folder and name that." if is_packed(files[0]) or "archive" in what else ""
        return NothingThere(f"{spec}: this file is {what}.{way} Expected {FORMS}.")
    texts = (one.text if isinstance(one, Remark) else f"{one.id}: {one.reason}" for one in listing.aside)
    aside = "".join(f"\n  {text}" for text in texts)
    found = "it is empty" if not files else f"{len(files)} other files, such as {files[0]}"
    packed = [path for path in files if is_packed(path)]
    way = f" Unpack {some(packed)} and name the folder with what comes out." if packed else ""
    return NothingThere(f"{spec}: there is no image in it ({found}).{way}{aside}\nExpected {FORMS}.")
