"""Units that wait for a worker, and which of them a worker should get."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from atlas_schema.units import WorkUnit
from jobs.task import Task

_Key = TypeVar("_Key", str, int)


class Queue:
    """Units that wait for a worker, by model and layer: a hand-out costs the number of models, not of units."""

    def __init__(self, units: Iterable[Task] = ()) -> None:
        self._waiting: dict[str, dict[int, deque[Task]]] = {}  # by slug and layer, each in the order of arrival
        self._count: Counter[str] = Counter()  # by slug
        self._busy: Counter[str] = Counter()  # by slug: units that workers are at
        self._busy_layers: Counter[tuple[str, int]] = Counter()
        self.extend(units)

    def __len__(self) -> int:
        return self._count.total()

    def __iter__(self) -> Iterator[Task]:
        return (unit for layers in self._waiting.values() for units in layers.values() for unit in units)

    def extend(self, units: Iterable[Task]) -> None:
        """Put units behind those of their model and layer."""
        for unit in units:
            self._of(unit).append(unit)
            self._count[unit.slug] += 1

    def drop(self, slug: str, stage: str) -> list[Task]:
        """Take out all units of a stage of a model."""
        dropped: list[Task] = []
        for layer, units in list(self._waiting.get(slug, {}).items()):
            rest: deque[Task] = deque()
            for unit in units:
                (dropped if isinstance(unit, WorkUnit) and unit.stage == stage else rest).append(unit)
            if rest:
                self._waiting[slug][layer] = rest
            else:
                del self._waiting[slug][layer]
        self._count[slug] -= len(dropped)
        if not self._waiting.get(slug, True):
            del self._waiting[slug], self._count[slug]
        return dropped

    def put_first(self, unit: Task) -> None:
        """Put a unit before those of its model and layer."""
        self._of(unit).appendleft(unit)
        self._count[unit.slug] += 1

    def _of(self, unit: Task) -> deque[Task]:
        return self._waiting.setdefault(unit.slug, {}).setdefault(_layer(unit), deque())

    def distance(self, held: Task | None) -> int:
        """How far a worker that did `held` last is from what waits: 0 a unit of its layer, 1 of its model, 2 others."""
        layers = self._waiting.get(held.slug) if held else None
        if held is None or layers is None:
            return 2
        return 0 if _layer(held) in layers else 1

    def take(self, held: Task | None) -> Task:
        """The unit to do next for a worker that did `held` last; it is busy until `landed`.

        A loaded model is kept, and a layer that the worker has initial images for, where possible; otherwise the model,
        then the layer, that no other worker is at; else the one with most units a worker.
        """
        own = held.slug if held else None
        slug = _least_crowded({name: self._count[name] for name in self._waiting}, self._busy, own)
        layers = self._waiting[slug]
        busy = {layer: self._busy_layers[slug, layer] for layer in layers}
        preferred = _layer(held) if held and held.slug == slug else None
        layer = _least_crowded({layer: len(units) for layer, units in layers.items()}, busy, preferred)
        unit = layers[layer].popleft()
        self._forget_empty(slug, layer)
        return self.reserve(unit)

    def _forget_empty(self, slug: str, layer: int) -> None:
        self._count[slug] -= 1
        if not self._waiting[slug][layer]:
            del self._waiting[slug][layer]
        if not self._waiting[slug]:
            del self._waiting[slug], self._count[slug]

    def reserve(self, unit: Task) -> Task:
        """A unit that did not wait here is busy too, until `landed`."""
        self._busy[unit.slug] += 1
        self._busy_layers[unit.slug, _layer(unit)] += 1
        return unit

    def landed(self, unit: Task) -> None:
        """No worker is at this unit any more."""
        self._busy[unit.slug] -= 1
        self._busy_layers[unit.slug, _layer(unit)] -= 1


def _layer(unit: Task) -> int:
    """The layer that a worker has its starts for; -1 of units that are not cut along neurons."""
    return -1 if unit.layer is None else unit.layer


def _least_crowded(waiting: Mapping[_Key, int], busy: Mapping[_Key, int], preferred: _Key | None) -> _Key:
    """The preferred one if it waits; else the first that nobody is busy with; else most waiting per busy."""
    if preferred is not None and preferred in waiting:
        return preferred
    for one in waiting:
        if not busy.get(one):
            return one
    return max(waiting, key=lambda one: waiting[one] / busy[one])
