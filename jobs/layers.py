"""From parts to shards: which layers of a run are complete, and their assembly, damaged parts included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from atlas_schema.errors import ShardCorrupt
from atlas_schema.parts import WorkUnit, alike
from atlas_schema.shards import reduce_layer
from atlas_schema.store import Store
from atlas_schema.tables import TABLES, stage_table
from jobs.plan import Plan, Range, UnitSlice, intersect, subtract

Site = tuple[str, str, int]  # stage, slug, layer
Shard = tuple[str, str, int]  # table, slug, layer
MOST_REPAIRS = 3  # of one part, before its damage is taken for the store's


@dataclass(frozen=True)
class Identity:
    """What the units of one stage of a model share: with a range it makes a work unit."""

    fingerprint: str
    recipe_hash: str
    seed: int

    def unit(self, stage: str, slug: str, layer: int, start: int, stop: int) -> WorkUnit:
        return WorkUnit(stage, slug, layer, start, stop, self.fingerprint, self.recipe_hash, self.seed)


Identities = Mapping[tuple[str, str], Identity]
"""By stage and slug."""


@dataclass
class Layers:
    """The layers that a run has to complete, stage by stage, and the committed units of each."""

    store: Store
    depths: Mapping[str, int]  # slug -> number of FFN sites
    wanted: dict[Site, tuple[Range, ...]]
    units: dict[Site, list[WorkUnit]]
    assembled: dict[Shard, str] = field(default_factory=dict)  # -> path of the shard
    repaired: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, store: Store, plan: Plan, identities: Identities, stages: Sequence[str]) -> Layers:
        """What the plan wants of `stages`, and what one listing for each stage and model shows as committed.

        `identities` may have stages beside those wanted: what earlier runs committed of them stays in the shards.
        """
        wanted: dict[Site, tuple[Range, ...]] = {}
        units: dict[Site, list[WorkUnit]] = {}
        depths = {model.slug: len(model.description.ffn_sites) for model in plan.models}
        for stage in stages:
            for model in plan.models:
                wanted |= {(stage, model.slug, layer): ranges for layer, ranges in model.ranges.items()}
        for (stage, slug), own in identities.items():
            for unit in alike(store, own.unit(stage, slug, 0, 0, 1)):
                units.setdefault((stage, slug, unit.layer), []).append(unit)
        if "visualize" not in stages:  # only what earlier runs visualized can be judged
            for site in [site for site in wanted if site[0] == "judge"]:
                seen = [(unit.start, unit.stop) for unit in units.get(("visualize", *site[1:]), ())]
                wanted[site] = tuple(part for one in wanted[site] for part in intersect(one, seen))
        return cls(store, depths, wanted, units)

    def covered(self) -> dict[Site, list[Range]]:
        return {site: [(unit.start, unit.stop) for unit in units] for site, units in self.units.items()}

    def complete(self, site: Site) -> bool:
        return not any(self.gaps(site))

    def gaps(self, site: Site) -> Iterator[Range]:
        """What the run wants of one stage of a layer and no part holds."""
        covered = [(unit.start, unit.stop) for unit in self.units.get(site, ())]
        for one in self.wanted.get(site, ()):
            yield from subtract(one, covered)

    def add(self, unit: WorkUnit) -> None:
        self.units.setdefault((unit.stage, unit.slug, unit.layer), []).append(unit)

    def shards(self) -> list[Shard]:
        """The shards that this run fills."""
        return list(dict.fromkeys((stage_table(stage).name, slug, layer) for stage, slug, layer in self.wanted))

    def shard_of(self, unit: WorkUnit) -> Shard:
        return stage_table(unit.stage).name, unit.slug, unit.layer

    def ready(self, shard: Shard) -> bool:
        """Whether every stage that the run wants for this shard is complete."""
        return all(self.complete(site) for site in self._sites(shard) if site in self.wanted)

    def assemble_ready(self) -> list[WorkUnit]:
        """Assemble every shard that is ready; the units whose parts were found damaged and removed."""
        return [unit for shard in self.shards() if self.ready(shard) for unit in self.assemble(shard)]

    def assemble(self, shard: Shard) -> list[WorkUnit]:
        """Write a layer's shard from its parts: [] if it stands, else the units to be done again.

        Repeated at will: an equal shard is left alone, a damaged one is replaced. A damaged part is removed,
        and its unit returned; ShardCorrupt if that does not help.
        """
        _table, slug, layer = shard
        damaged: list[WorkUnit] = []
        while units := [unit for site in self._sites(shard) for unit in self.units.get(site, ())]:
            try:
                self.assembled[shard] = reduce_layer(self.store, slug, layer, self.depths[slug], units)
                break
            except ShardCorrupt as error:
                damaged.append(self._remove(units, error))
        return [unit for unit in damaged if not self.covers(unit.stage, slug, layer, unit.start, unit.stop)]

    def _sites(self, shard: Shard) -> list[Site]:
        table, slug, layer = shard
        return [(stage, slug, layer) for stage in TABLES[table].stages]

    def _remove(self, units: Iterable[WorkUnit], error: ShardCorrupt) -> WorkUnit:
        unit = next((unit for unit in units if unit.path == error.path), None)
        if unit is None:
            raise error
        self.repaired[unit.path] += 1
        if self.repaired[unit.path] > MOST_REPAIRS:
            raise error
        self.store.delete(unit.path)
        self.units[unit.stage, unit.slug, unit.layer].remove(unit)
        return unit

    def covers(self, stage: str, slug: str, layer: int, start: int, stop: int) -> bool:
        """Whether parts of this run's models hold all these units."""
        return not subtract((start, stop), self.covered().get((stage, slug, layer), ()))

    def reused(self) -> int:
        """Units committed so far in the layers that the run wants."""
        return sum(len(self.units.get(site, ())) for site in self.wanted)

    def missing(self) -> list[tuple[Site, Range]]:
        """What the run wanted and no part holds."""
        return [(site, gap) for site in self.wanted for gap in self.gaps(site)]


def neurons_in(ranges: Iterable[Range]) -> int:
    return sum(stop - start for start, stop in ranges)


def work_units(left: Iterable[UnitSlice], identities: Identities) -> list[WorkUnit]:
    """The slices of a plan as work units of the loaded models."""
    return [identities[one.stage, one.slug].unit(one.stage, one.slug, one.layer, one.start, one.stop) for one in left]
