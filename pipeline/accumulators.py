"""What passes over images leave behind: sums that are written as named arrays, read back, and merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, Self, TypeVar

import numpy as np

from atlas_schema.errors import BadConfig


class Accumulator(Protocol):
    """The sums of a pass over some images; those of neighbouring slices merge, in their order, to the whole's.

    ModelProbe, ContributionMoments, SecondPass and Views are such; `of(arrays())` gives the same sums again. Sums that
    are large say how they come apart (`ModelProbe.apart`): into groups that merge each by itself.
    """

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], /) -> Self:
        """The sums that `arrays` gave."""
        ...

    def merge(self, other: Self, /) -> None:
        """Take in the sums of the slice that comes next, of the same model and settings."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, by name."""
        ...


A = TypeVar("A", bound=Accumulator)

MERGED_AT_ONCE = 64 << 20  # bytes of arrays of a slice, unless one group has more


def groups_of(kind: type[Accumulator], sizes: Mapping[str, int]) -> list[list[str]]:
    """Names of arrays that are merged at a time, in the order of names: neighbouring groups as far as they are small.

    sizes: bytes of each array of a slice.
    """
    apart = getattr(kind, "apart", None)
    groups: list[list[str]] = []
    filled = 0
    for names in apart(sizes) if apart else [sorted(sizes)]:
        size = sum(sizes[name] for name in names)
        if groups and filled + size <= MERGED_AT_ONCE:
            groups[-1] += names
            filled += size
        else:
            groups.append(list(names))
            filled = size
    return groups


def merged(kind: type[A], parts: Iterable[Mapping[str, np.ndarray]]) -> A:
    """The accumulator of all slices, from the arrays of each in order; beside it one of them is held at a time.

    BadConfig without any.
    """
    whole: A | None = None
    for arrays in parts:
        part = kind.of(arrays)
        if whole is None:
            whole = part
        else:
            whole.merge(part)
        del part, arrays  # let go before the next is read
    if whole is None:
        raise BadConfig(f"{kind.__name__}: no slice to merge.")
    return whole
