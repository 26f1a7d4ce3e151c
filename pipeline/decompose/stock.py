"""The contributions of a panel of images, streamed from where they are made and held within a bound of bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.decompose.alignment import Spaces

Batch = tuple[Tensor, Tensor]  # images (n,) int64, numbers in the panel; vectors (n, components, d)
Batches = Callable[[], Iterable[Batch]]  # the whole panel, anew at each call


class Held:
    """Batches that are read anew for each pass, or held from the first whole pass on where all fit in `capacity`
    bytes.
    """

    def __init__(self, batches: Batches, capacity: int) -> None:
        self._batches, self._capacity = batches, capacity
        self._held: list[Batch] | None = None

    def __call__(self) -> Iterator[Batch]:
        if self._held is not None:
            yield from self._held
            return
        held: list[Batch] = []
        size = 0
        for images, vectors in self._batches():
            size += vectors.nbytes
            if size <= self._capacity:
                held.append((images, vectors))
            else:
                held.clear()
            yield images, vectors
        self._held = held if size <= self._capacity else None


class Stock:
    """The contributions of the panel in their coordinates, and of every image their sum. representation: (images, d).

    all: called anew for each pass, batches (images, (n, sum of ranks)).
    """

    def __init__(
        self,
        batches: Batches,
        targets: Tensor,
        direct: Tensor,
        spaces: Spaces | None,
        capacity: int,
        on_step: Callable[[], None],
    ) -> None:
        self.targets, self.capacity, self.on_step = targets, capacity, on_step
        self._batches, self._direct, self._spaces = batches, direct, spaces
        self._sums: list[tuple[Tensor, Tensor]] | None = []
        self.all = Held(self._read, capacity)
        for _ in self.all():
            pass
        assert self._sums is not None
        order = _checked([images for images, _ in self._sums], len(targets))
        self.representation = torch.cat([sums for _, sums in self._sums])[order.argsort()]
        self._sums = None

    @property
    def spaces(self) -> Spaces:
        assert self._spaces is not None
        return self._spaces

    def _read(self) -> Iterator[Batch]:
        for given, contributions in self._batches():
            self.on_step()
            images, vectors = given.to(self.targets.device), contributions.to(self.targets)
            _check_batch(images, vectors, len(self._direct))
            if self._spaces is None:
                self._spaces = Spaces.whole(vectors.shape[1], vectors.shape[2])
            if self._sums is not None:
                self._sums.append((images, vectors[:, self._direct].sum(1)))
            yield images, self._spaces.coordinates(vectors)

    def buffers(self, fit: Tensor, taking_part: Tensor) -> Iterator[Batch]:
        """(images, coordinates that take part) of the images of the fit, as many at a time as the buffer holds."""
        parts: list[Batch] = []
        size = 0
        for images, coordinates in self.all():
            chosen = fit[images]
            part = images[chosen], coordinates[chosen][:, taking_part]
            if parts and size + part[1].nbytes > self.capacity:
                yield joined(parts)
                parts, size = [], 0
            parts.append(part)
            size += part[1].nbytes
        yield joined(parts)


def joined(parts: Sequence[Batch]) -> Batch:
    """One batch of several: images (n,), vectors (n, ...)."""
    return torch.cat([images for images, _ in parts]), torch.cat([vectors for _, vectors in parts])


def _check_batch(images: Tensor, vectors: Tensor, components: int) -> None:
    if vectors.ndim != 3 or vectors.shape[:2] != (len(images), components):
        raise BadConfig(
            f"alignment: contributions of shape {tuple(vectors.shape)}, expected ({len(images)}, {components}, d)."
        )
    if not torch.isfinite(vectors).all():
        raise NotFinite("alignment: NaN or infinity among the contributions.")


def _checked(seen: Sequence[Tensor], images: int) -> Tensor:
    """The numbers of all images as they came, each once."""
    places = torch.cat(list(seen)) if seen else torch.empty(0, dtype=torch.int64)
    if len(places) != images or not torch.equal(places.sort().values, torch.arange(images, device=places.device)):
        raise BadConfig(
            f"alignment: contributions of {len(places.unique())} of {images} images ({len(places)} in all); "
            "expected each image of the panel once."
        )
    return places
