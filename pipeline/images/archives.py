"""WebDataset: tar files in which members of one name, but for the suffix, are one sample."""

import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from atlas_schema.errors import BadConfig
from atlas_schema.store import Store
from pipeline.images.choice import Choice
from pipeline.images.classes import folder_classes
from pipeline.images.entry import Entry, Remark, Skipped, Source, address, known, stamps_in
from pipeline.images.kinds import HEAD, TAR, what_is
from pipeline.images.naming import counted, decoded_text, is_hidden, is_image, is_text, printable, some

READ_AHEAD = 1 << 20
"""Bytes fetched at a time while the members are listed: one request a member would take minutes on a URL."""

MOST_TEXT = 1 << 24
"""Bytes of a text beside an image; a larger one is no caption."""

ALL = "all"
"""As a choice of images: every member that is one, however many a sample has."""


@dataclass(frozen=True)
class Archives(Source):
    """Image members of tar files. A locator is (file, offset, size): later reads touch those bytes alone.

    Of a sample, `.cls` is its class, `.txt` its caption, and `.json` may have the keys of a metadata file. Where no
    sample says its class, folders in the tar files are classes as they are on a disk.
    """

    store: Store
    files: tuple[str, ...]
    choice: Choice = field(default_factory=Choice)

    def entries(self) -> Iterator[Entry | Skipped | Remark]:
        found = _Contents()
        for file in self.files:
            with _opened(self.store, file) as archive:
                found.take(file, archive)
        yield from found.skipped
        yield from found.remarks()
        images, remarks = _meant(found.images, self.choice.image, self.store.url)
        yield from remarks
        facts = [known(found.told.get(image.sample, {})) for image in images]
        if not any(row["label"] for row in facts):
            classes = folder_classes({image.name for image in images})
            for image, row in zip(images, facts, strict=True):
                row["label"] = classes.labels.get(image.name, "")
        for image, row in zip(images, facts, strict=True):
            row["source"] = row["source"] or address(self.store, image.id)
            yield Entry(id=image.id, locator=(image.file, image.offset, image.size), **row)

    @property
    def place(self) -> tuple[str, ...]:
        return ("archives", self.store.url, *self.files)

    def stamps(self, entries: Sequence[Entry]) -> list[str]:
        return stamps_in(self.store, self.files, entries)

    def read(self, locator: tuple[str, int, int]) -> bytes:
        return self.store.read_range(*locator)


def count_of_images(store: Store, file: str) -> int:
    """How many images a tar file holds; BadConfig where it is none."""
    with _opened(store, file) as archive:
        found = _Contents()
        found.take(file, archive)
        return len(found.images)


@dataclass(frozen=True)
class _Image:
    """An image member of a tar file."""

    file: str
    name: str
    offset: int
    size: int

    @property
    def id(self) -> str:
        return f"{self.file}/{self.name}"

    @property
    def sample(self) -> tuple[str, str]:
        return self.file, _split(self.name)[0]

    @property
    def suffix(self) -> str:
        return _split(self.name)[1]


@dataclass
class _Contents:
    """What tar files hold."""

    images: list[_Image] = field(default_factory=list)
    told: dict[tuple[str, str], dict[str, Any]] = field(default_factory=lambda: defaultdict(dict))  # by sample
    skipped: list[Skipped] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # texts that cannot be understood
    recoded: list[str] = field(default_factory=list)  # texts that are not UTF-8

    def take(self, file: str, archive: tarfile.TarFile) -> None:
        """All members of one file."""
        for member in archive:
            name = re.sub(r"^(\./+)+", "", member.name)  # as `tar -c .` writes them
            if member.isdir() or is_hidden(name):
                continue
            if is_image(name):
                self._take_image(file, name, member)
            elif member.isreg() and _split(name)[1] in ("cls", "txt", "json") and is_text(name):
                self._take_text(file, name, archive, member)

    def remarks(self) -> Iterator[Remark]:
        """What is to be said of the texts."""
        if self.recoded:
            texts = counted(len(self.recoded), "text")
            yield Remark(f"{texts} beside images not UTF-8, read as Windows-1252 or UTF-16: {some(self.recoded)}")
        if self.unread:
            yield Remark(f"{counted(len(self.unread), 'text')} beside images cannot be read: {some(self.unread)}")

    def _take_image(self, file: str, name: str, member: tarfile.TarInfo) -> None:
        if not is_text(name):
            reason = "its name is not UTF-8: rename it"
        elif not member.isreg() or member.issparse():
            reason = "a link or another member without bytes of its own: pack the file itself"
        else:
            self.images.append(_Image(file, name, member.offset_data, member.size))
            return
        self.skipped.append(Skipped(printable(f"{file}/{name}"), reason))

    def _take_text(self, file: str, name: str, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        sample, suffix = _split(name)
        id = f"{file}/{name}"
        try:
            if member.size > MOST_TEXT:
                raise ValueError("too large for a text")
            text, encoding = decoded_text(archive.extractfile(member).read())  # type: ignore[union-attr]
            values = json.loads(text) if suffix == "json" else {suffix: text.strip()}
        except (ValueError, RecursionError):
            self.unread.append(id)
            return
        if encoding != "UTF-8":
            self.recoded.append(id)
        if isinstance(values, dict):
            self.told[file, sample].update(values)


def _meant(images: Sequence[_Image], wanted: str, where: str) -> tuple[list[_Image], list[Remark]]:
    """Which members are the images of their samples: masks and maps lie beside them, `000.jpg` and `000.mask.png`.

    Members of one suffix are left out where each of them has another image beside it, and others have not. Where all
    have, the one suffix without a dot is meant. BadConfig where that does not decide.
    """
    samples: dict[str, set[tuple[str, str]]] = defaultdict(set)
    suffixes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for image in images:
        samples[image.suffix].add(image.sample)
        suffixes[image.sample].add(image.suffix)
    if wanted == ALL:
        return list(images), []
    if wanted and wanted not in samples:
        raise BadConfig(f"{where}: no sample has an image .{wanted}. Images: {_dotted(samples) or 'none'}.")
    beside = {suffix for suffix, having in samples.items() if all(len(suffixes[sample]) > 1 for sample in having)}
    main = {wanted} if wanted else samples.keys() - beside or {suffix for suffix in beside if "." not in suffix}
    if samples and not wanted and (not main or (main <= beside and len(main) > 1)):
        first = min(main or beside)
        raise BadConfig(
            f"{where}: samples have several images each ({_dotted(samples)}). Say which is meant: add #image={first} "
            f"to the name of the set, or #image={ALL} for all of them."
        )
    left_out = samples.keys() - main
    remarks = [
        Remark(f"{counted(len(samples[suffix]), 'member')} .{suffix} beside other images of their samples, left out")
        for suffix in sorted(left_out)
    ]
    return [image for image in images if image.suffix in main], remarks


def _dotted(suffixes: Iterable[str]) -> str:
    return ", ".join(f".{suffix}" for suffix in sorted(suffixes))


def _split(member: str) -> tuple[str, str]:
    """(name of the sample, suffix): WebDataset splits at the first dot of the file's own name."""
    folder, _, name = member.rpartition("/")
    stem, _, suffix = name.partition(".")
    return f"{folder}/{stem}", suffix.casefold()


@contextmanager
def _opened(store: Store, file: str) -> Iterator[tarfile.TarFile]:
    try:
        with (
            store.open(file) as opened,
            io.BufferedReader(opened, READ_AHEAD) as ahead,  # type: ignore[type-var]
            tarfile.open(fileobj=ahead, mode="r:") as archive,
        ):
            yield archive
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        what = what_is(store.read_range(file, 0, HEAD))
        really = f" It is {what}." if what not in ("", TAR) else ""
        raise BadConfig(
            f"{store.url}/{file} cannot be read as tar: {str(error).rstrip('.')}.{really} "
            "Expected a whole, uncompressed file; fetch or pack it again."
        ) from error
