"""What a file is, by its first bytes, whatever its name says."""

import codecs
from contextlib import suppress

HEAD = 512
"""Bytes from which it can be told."""

PARQUET, TAR = "a Parquet file", "a tar file"

_SIGNATURES = (
    (b"PAR1", PARQUET),
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"%PDF-", "a PDF document"),
    (b"version https://git-lfs", "a pointer of Git LFS in place of the file: fetch it with `git lfs pull`"),
)
_PAGES = ("<!doctype html", "<html")

PACKED = (".zip", ".tgz", ".gz", ".tbz2", ".bz2", ".txz", ".xz", ".zst", ".7z", ".rar")
"""Suffixes of archives that are not read as they are."""


def what_is(head: bytes) -> str:
    """What a file that begins so is, as "a ..." or "compressed with ..."; "" where nothing tells."""
    if not head:
        return "an empty file"
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return what
    if head[257:262] == b"ustar":
        return TAR
    return _text(head[:HEAD])


def is_packed(path: str) -> bool:
    """Whether a file is an archive that is not read as it is, by its suffix."""
    return path.casefold().endswith(PACKED)


def _text(head: bytes) -> str:
    """A page or another text, where these are letters; a last letter may be cut in two."""
    with suppress(UnicodeDecodeError):
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
        if text.lstrip("\ufeff \t\r\n").casefold().startswith(_PAGES):
            return "an HTML page"
        if "\0" not in text:
            return "a text"
    return ""
