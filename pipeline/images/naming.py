"""Names and texts as people's files have them: which are images, which are hidden, which are no text at all."""

import codecs
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePosixPath

_NAMES = "jpg jpeg jpe jfif png apng webp gif bmp dib tif tiff ppm pgm pbm pnm jp2 j2k avif heic heif"
SUFFIXES = tuple(f".{name}" for name in _NAMES.split())
"""A file with one of these is meant to be an image: it is used, or skipped and named. Others are no images."""


def is_image(path: str) -> bool:
    """Whether a file is meant to be an image, by its suffix."""
    return PurePosixPath(path).suffix.casefold() in SUFFIXES


def is_hidden(path: str) -> bool:
    """Whether a file or a folder above it is hidden, or is what macOS adds to archives and Synology to folders."""
    return any(part.startswith(".") or part in ("__MACOSX", "@eaDir") for part in path.split("/"))


def is_text(name: str) -> bool:
    """Whether a name is text: names of files may be any bytes, which Python keeps as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def printable(name: str) -> str:
    """A name in letters that can be written anywhere: bytes that are no UTF-8 as `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def decoded_text(data: bytes) -> tuple[str, str]:
    """(text, the encoding that it turned out to have): UTF-8, else UTF-16 with its mark, else a Windows code page.

    UnicodeDecodeError where a mark of UTF-16 is followed by something else.
    """
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return data.decode("utf-16"), "UTF-16"
    with suppress(UnicodeDecodeError):
        return data.decode("utf-8-sig"), "UTF-8"
    with suppress(UnicodeDecodeError):
        return data.decode("cp1252"), "Windows-1252"
    return data.decode("latin-1"), "Latin-1"


def counted(count: int, what: str, rest: str = "") -> str:
    """`1 image file`, `2 image files`; with a rest ` to a folder`: `2 links to a folder`."""
    return f"{count:,} {what}{'s' * (count != 1)}{rest}"


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")
