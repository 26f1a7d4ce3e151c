"""How the targets of inversion are cut into units of work, and found again from the name of a unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from atlas_schema.units import Cut, Targets
from jobs.digests import digest

if TYPE_CHECKING:
    from pipeline.invert.targets import Target

MOST_TOGETHER = 64  # targets of one unit, at most: as many as fill the steps of a GPU
UNIT_SECONDS = 300.0  # ... and fewer where they would take longer


def named(targets: Sequence[Target]) -> tuple[str, ...]:
    """What stands for each target in the name of its unit."""
    return tuple(f"{one.kind} {one.name}" for one in targets)


def own_of(inverts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Of names of targets, as `named` has them, those of the kinds that a stage inverts."""
    return tuple(name for name in names if name.partition(" ")[0] in inverts)


def cuts(names: Sequence[str], seconds: float) -> Iterator[Targets]:
    """The units of some targets, in their order; seconds: that one of them is foretold to take.

    Their length follows from model, recipe and kind of device, so that the same list is cut alike wherever it is done.
    """
    length = max(1, min(MOST_TOGETHER, int(UNIT_SECONDS / max(seconds, 1e-9))))
    for begin in range(0, len(names), length):
        own = names[begin : begin + length]
        yield Targets(len(own), digest(list(own)))


def chunk_of(targets: Sequence[Target], cut: Cut) -> tuple[Target, ...]:
    """The targets that a unit stands for."""
    assert isinstance(cut, Targets)
    names = named(targets)
    for begin in range(len(names) - cut.stop + 1):
        if digest(list(names[begin : begin + cut.stop])) == cut.digest:
            return tuple(targets[begin : begin + cut.stop])
    raise AssertionError(f"{cut} are none of the run's targets")
