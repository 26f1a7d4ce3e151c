"""Slices of a pass over the probe images, merged: from committed neighbours to the unit that holds them all."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from atlas_schema.partials import NamedArrays
from atlas_schema.parts import committed_units
from atlas_schema.store import Store
from atlas_schema.units import WorkUnit
from jobs.stages import Stage
from jobs.work import Work

if TYPE_CHECKING:
    import numpy as np


def merged(work: Work, stage: Stage, unit: WorkUnit) -> NamedArrays | None:
    """The arrays of `unit` from committed slices that tile it; None where they do not, so that it is computed.

    Arrays that merge by themselves are read, merged and handed on a group at a time: of a large model's sums neither a
    slice nor the whole is ever held.
    """
    slices = tiles(work.store, unit)
    return _merging(work, stage, slices) if slices else None


def _merging(work: Work, stage: Stage, slices: Sequence[WorkUnit]) -> Iterator[tuple[str, np.ndarray]]:
    from pipeline.accumulators import groups_of
    from pipeline.accumulators import merged as merge

    module, _, name = stage.merge.partition(":")
    kind = getattr(importlib.import_module(module), name)
    for names in groups_of(kind, work.sizes_of(slices[0])):
        arrays = merge(kind, _each(work, slices, names)).arrays()
        yield from ((name, arrays.pop(name)) for name in names)


def _each(work: Work, slices: Iterable[WorkUnit], names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    for one in slices:
        work.step()
        yield work.arrays_of(one, names)


def tiles(store: Store, unit: WorkUnit) -> list[WorkUnit]:
    """Committed units within `unit`, side by side without a gap, the longest first; [] if they do not fill it."""
    alike = committed_units(store, unit.stage, unit.slug, unit.identity)
    inside = [one for one in alike if unit.start <= one.start and one.stop <= unit.stop and one != unit]
    chosen: list[WorkUnit] = []
    for one in sorted(inside, key=lambda one: (one.start, -one.stop)):
        if one.start == (chosen[-1].stop if chosen else unit.start):
            chosen.append(one)
    return chosen if chosen and chosen[-1].stop == unit.stop else []
