"""From parts to shards: which layers of a run are complete, and their assembly, damaged parts included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parts import WorkUnit, alike
from atlas_schema.shards import reduce_layer
from atlas_schema.store import Store
from jobs.plan import Plan, Range, UnitSlice, subtract

Site = tuple[str, str, int]  # stage, slug, layer
MOST_REPAIRS = 3  # of one part, before its damage is taken for the store's


@dataclass(frozen=True)
class Identity:
    """What a model's units share: with a range it makes a work unit."""

    fingerprint: str
    recipe_hash: str
    seed: int


@dataclass
class Layers:
    """The layers that a run has to complete, and the committed units of each."""

    store: Store
    depths: Mapping[str, int]  # slug -> number of FFN sites
    wanted: dict[Site, tuple[Range, ...]]
    units: dict[Site, list[WorkUnit]]
    assembled: dict[Site, str] = field(default_factory=dict)  # site -> path of its shard
    repaired: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, store: Store, plan: Plan, identities: Mapping[str, Identity]) -> Layers:
        """What the plan wants, and what of it one listing per model shows as committed."""
        wanted: dict[Site, tuple[Range, ...]] = {}
        units: dict[Site, list[WorkUnit]] = {}
        depths = {}
        for model in plan.models:
            own = identities[model.slug]
            depths[model.slug] = len(model.description.ffn_sites)
            for stage in sorted({one.stage for one in model.slices}):
                for layer, ranges in model.ranges.items():
                    wanted[stage, model.slug, layer] = ranges
                any_unit = WorkUnit(stage, model.slug, 0, 0, 1, own.fingerprint, own.recipe_hash, own.seed)
                for unit in alike(store, any_unit):
                    units.setdefault((stage, model.slug, unit.layer), []).append(unit)
        return cls(store, depths, wanted, units)

    def covered(self) -> dict[Site, list[Range]]:
        return {site: [(unit.start, unit.stop) for unit in units] for site, units in self.units.items()}

    def complete(self, site: Site) -> bool:
        ranges = self.covered().get(site, [])
        return not any(subtract(one, ranges) for one in self.wanted[site])

    def add(self, unit: WorkUnit) -> None:
        self.units.setdefault((unit.stage, unit.slug, unit.layer), []).append(unit)

    def assemble_complete(self) -> list[WorkUnit]:
        """Assemble every layer that is complete; the units whose parts were found damaged and removed."""
        return [unit for site in self.wanted if self.complete(site) for unit in self.assemble(site)]

    def assemble(self, site: Site) -> list[WorkUnit]:
        """Write the layer's shard from its parts: [] if it stands, else the units to be done again.

        Repeated at will: an equal shard is left alone, a damaged one is replaced. A damaged part is removed,
        and its unit returned; ShardCorrupt if that does not help.
        """
        _stage, slug, layer = site
        damaged: list[WorkUnit] = []
        while self.units.get(site):
            try:
                self.assembled[site] = reduce_layer(self.store, slug, layer, self.depths[slug], self.units[site])
                break
            except ShardCorrupt as error:
                damaged.append(self._remove(site, error))
        covered = self.covered().get(site, [])
        return [unit for unit in damaged if subtract((unit.start, unit.stop), covered)]

    def _remove(self, site: Site, error: ShardCorrupt) -> WorkUnit:
        unit = next((unit for unit in self.units[site] if unit.path == error.path), None)
        if unit is None:
            raise error
        self.repaired[unit.path] += 1
        if self.repaired[unit.path] > MOST_REPAIRS:
            raise error
        self.store.delete(unit.path)
        self.units[site].remove(unit)
        return unit

    def covers(self, stage: str, slug: str, layer: int, start: int, stop: int) -> bool:
        """Whether parts of this run's models hold all these units."""
        return not subtract((start, stop), self.covered().get((stage, slug, layer), ()))

    def reused(self) -> int:
        """Units committed so far in the layers that the run wants."""
        return sum(len(self.units.get(site, ())) for site in self.wanted)

    def missing(self) -> list[tuple[Site, Range]]:
        """What the run wanted and no part holds."""
        covered = self.covered()
        return [
            (site, gap)
            for site, ranges in self.wanted.items()
            for one in ranges
            for gap in subtract(one, covered.get(site, []))
        ]


def neurons_in(ranges: Iterable[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


def work_units(plan: Plan, left: Iterable[UnitSlice], identities: Mapping[str, Identity]) -> list[WorkUnit]:
    """The slices of a plan as work units of the loaded models."""
    return [one.work_unit(own.fingerprint, own.recipe_hash, own.seed) for one in left for own in [identities[one.slug]]]
