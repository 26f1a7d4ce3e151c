"""The images that activations are measured on: opened once, named by what they are, read lazily from then on."""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from atlas_schema.errors import BadConfig, BadImage, nearest
from pipeline.images.decoding import thumbnail
from pipeline.images.entry import Entry, Remark, Skipped, Source
from pipeline.images.licences import is_free
from pipeline.images.manifest import Manifest, Seen
from pipeline.images.pixel_cache import PixelCache
from pipeline.images.spec import name_of, source_of
from pipeline.models import ModelDescription
from pipeline.models.preprocess import RESAMPLING, as_pixels, square_of

__all__ = [
    "MODES",
    "ProbeImage",
    "ProbeSet",
    "Skipped",
    "batches",
    "default_mode",
    "open_probe_set",
    "rows",
    "thumbnail",
]

MODES = ("embed", "reference", "none")
"""What an atlas holds of its probe images: thumbnails and all that is known; all but thumbnails; nothing."""

AHEAD = 64
"""Images in flight while a set is opened: enough for all threads, few enough to forget them quickly."""

OnImage = Callable[[int, int], None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ProbeImage:
    """One image of a probe set. Sizes in pixels, upright; texts are "" where the set does not say."""

    id: str
    sha256: str
    width: int
    height: int
    label: str = ""  # name of the class
    caption: str = ""
    licence: str = ""
    source: str = ""
    attributes: tuple[tuple[str, str], ...] = ()  # (name, value)


@dataclass(frozen=True)
class ProbeSet:
    """Images that were all decoded once, in the order of their ids. Picklable; holds no pixels."""

    name: str
    spec: str
    images: tuple[ProbeImage, ...]
    skipped: tuple[Skipped, ...]
    source: Source = field(repr=False, compare=False)
    locators: tuple[Any, ...] = field(repr=False, compare=False)  # of each image in the source
    cache: PixelCache | None = field(default=None, repr=False, compare=False)  # of this process; None: decode each time
    remarks: tuple[str, ...] = ()  # what was left out or not understood, and why

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def identity(self) -> str:
        """16 hex digits of SHA-256 over ids and hashes of the images: the same images are the same set."""
        told = "".join(f"{image.id}\0{image.sha256}\n" for image in self.images)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @cached_property
    def said(self) -> str:
        """16 hex digits of SHA-256 over all that the set says of its images: names, sizes, classes, licences, ..."""
        digest = hashlib.sha256()
        for image in self.images:
            digest.update(repr(image).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({image.label for image in self.images} - {""}))

    @cached_property
    def duplicates(self) -> int:
        """How many images have the bytes of another one: they count as often as they are there."""
        return len(self.images) - len({image.sha256 for image in self.images})

    @cached_property
    def free(self) -> bool:
        """Whether every image has a licence that allows its thumbnail to be published."""
        return all(is_free(image.licence) for image in self.images)

    def open(self, index: int) -> Image.Image:
        """The picture, RGB. BadImage where it is not the one that was there when the set was opened."""
        image = self.images[index]
        try:
            picture, sha256 = self.source.fetch(self.locators[index])
        except BadImage as error:
            raise BadImage(self._changed(image.id, str(error))) from error
        if sha256 != image.sha256:
            raise BadImage(self._changed(image.id, f"its SHA-256 was {image.sha256[:12]}..., now {sha256[:12]}..."))
        return picture

    def split(self, index: int) -> str:
        """The split of an image, "fit" or "test": the last bit of its hash, the same in every set that has it."""
        return "test" if int(self.images[index].sha256[-1], 16) & 1 else "fit"

    def _changed(self, image: str, what: str) -> str:
        return (
            f"image {image} of probe set {self.spec} has changed since the set was opened: {what}. "
            "Put it back, or start again with the set as it is now."
        )


def open_probe_set(spec: str, *, on_image: OnImage | None = None, memory: Path | None = None) -> ProbeSet:
    """Read and decode every image of a set once; those that cannot be are in `skipped`, with the reason.

    memory: a folder in which it is remembered what was seen: images whose files did not change since are not read.

    spec: zoo[:N] | folder or URL of images, of .parquet or of .tar files | one such file |
    hf:NAME[:SPLIT[:IMAGE_COLUMN]]. on_image(done, of) is called after each image.
    NothingThere or BadConfig where no image is left, or the spec is none.
    """
    source, aside = source_of(spec)
    entries, skipped, remarks = _unique([*aside, *source.entries()])
    images: list[ProbeImage] = []
    locators: list[Any] = []
    manifest = Manifest(source, entries, memory)
    with closing(_ahead(source, partial(_look, source, manifest.known), entries, AHEAD)) as looked_at:
        for done, (entry, image) in enumerate(zip(entries, looked_at, strict=True), 1):
            if isinstance(image, Skipped):
                skipped.append(image)
            else:
                images.append(image)
                locators.append(entry.locator)
            if on_image is not None:
                on_image(done, len(entries))
    manifest.keep({image.id: (image.width, image.height, image.sha256) for image in images})
    skipped.sort(key=lambda image: image.id)
    if not images:
        raise BadConfig(_none_left(spec, skipped, remarks))
    return ProbeSet(name_of(spec), spec, tuple(images), tuple(skipped), source, tuple(locators), remarks=tuple(remarks))


def _unique(found: Iterable[Entry | Skipped | Remark]) -> tuple[list[Entry], list[Skipped], list[str]]:
    """Entries by id, sorted, the first of each id; what is known to be unusable; and what is to be said of the set."""
    entries: dict[str, Entry] = {}
    skipped, remarks = [], []
    for one in found:
        if isinstance(one, Remark):
            remarks.append(one.text)
        elif isinstance(one, Skipped):
            skipped.append(one)
        elif one.id in entries:
            skipped.append(Skipped(one.id, "a second image of this name: the first is used"))
        else:
            entries[one.id] = one
    return [entries[name] for name in sorted(entries)], skipped, remarks


def _look(source: Source, known: Mapping[str, Seen], entry: Entry) -> ProbeImage | Skipped:
    try:
        width, height, sha256 = known.get(entry.id) or source.examine(entry.locator)
    except BadImage as error:
        return Skipped(entry.id, str(error))
    return ProbeImage(
        id=entry.id,
        sha256=sha256,
        width=width,
        height=height,
        label=entry.label,
        caption=entry.caption,
        licence=entry.licence,
        source=entry.source,
        attributes=entry.attributes,
    )


def _none_left(spec: str, skipped: Sequence[Skipped], remarks: Sequence[str]) -> str:
    said = "".join(f"\n  {text}" for text in remarks)
    shown = "".join(f"\n  {image.id}: {image.reason}" for image in skipped[:3])
    more = f"\n  and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return (
        f"probe set {spec}: none of its {len(skipped)} images can be used.{shown}{more}{said}\n"
        "Expected at least one image that can be decoded; mend the files or name another set."
    )


def batches(
    probe_set: ProbeSet, indices: Sequence[int], description: ModelDescription, batch: int
) -> Iterator[tuple[list[int], Tensor]]:
    """The images of `indices` in this order, as (their indices, float32 (image, 3, height, width) in [0, 1]).

    Two batches are decoded ahead, where the set's cache does not hold them already. BadImage, naming it, where an image
    that is decoded is no longer what it was.
    """
    with closing(_ahead(probe_set.source, partial(_pixels, probe_set, description), indices, 2 * batch)) as pixels:
        for start in range(0, len(indices), batch):
            chunk = list(indices[start : start + batch])
            yield chunk, torch.stack(list(islice(pixels, len(chunk))))


def _pixels(probe_set: ProbeSet, description: ModelDescription, index: int) -> Tensor:
    def decode() -> np.ndarray:
        return square_of(probe_set.open(index), description)

    if probe_set.cache is None:
        return as_pixels(decode())
    height, width = description.input_size
    resampling = RESAMPLING.get(description.interpolation, Image.Resampling.BICUBIC)
    way = f"{probe_set.identity}-{height}x{width}-{resampling.name.lower()}"
    return as_pixels(probe_set.cache.image(way, len(probe_set), index, (height, width, 3), decode))


def _ahead(
    source: Source, work: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Generator[Result, None, None]:
    """Results in the order of the items, worked out in the source's threads up to `count` ahead."""
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(source.threads)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:  # also where the caller stops early, or one result was an exception
        pool.shutdown(cancel_futures=True)


def default_mode(probe_set: ProbeSet) -> str:
    """What an atlas holds of the set's images where nobody says: thumbnails only where their licence is free."""
    return "embed" if probe_set.free else "reference"


def rows(probe_set: ProbeSet, mode: str) -> list[dict[str, Any]]:
    """Rows of the table probe_images in one of MODES; none in the mode none. BadConfig for another mode."""
    if mode not in MODES:
        close = ", ".join(nearest(mode, MODES)) or ", ".join(MODES)
        raise BadConfig(f"{mode!r}: no mode for probe images; expected one of {', '.join(MODES)}; nearest: {close}")
    if mode == "none":
        return []
    return list(_ahead(probe_set.source, partial(_row, probe_set, mode), range(len(probe_set)), AHEAD))


def answers(probe_set: ProbeSet) -> Iterator[dict[str, Any]]:
    """What the set says of each image, by index: class, caption and attributes, as probe_images has them."""
    for image in probe_set.images:
        yield {
            "class": image.label or None,
            "caption": image.caption or None,
            "attributes": [{"name": name, "value": value} for name, value in image.attributes] or None,
        }


def _row(probe_set: ProbeSet, mode: str, index: int) -> dict[str, Any]:
    image = probe_set.images[index]
    picture = None
    if mode == "embed":
        picture = {"bytes": thumbnail(probe_set.open(index)), "path": f"{image.sha256[:16]}.webp"}
    return {
        "probe_set": probe_set.identity,
        "index": index,
        "image": image.id,
        "sha256": image.sha256,
        "thumbnail": picture,
        "width": image.width,
        "height": image.height,
        "class": image.label or None,
        "caption": image.caption or None,
        "attributes": [{"name": name, "value": value} for name, value in image.attributes] or None,
        "split": probe_set.split(index),
        "licence": image.licence or None,
        "source": image.source or None,
    }
