"""Lists what the output folder holds of each stage, so that nothing is computed again."""

from __future__ import annotations

from atlas_schema.parts import Listing, committed_units
from atlas_schema.shards import parse_shard_path
from atlas_schema.tables import MODELS
from atlas_schema.units import Cut, Identity, Pair, WorkUnit
from jobs import stages
from jobs.claim import claimed, claimed_identities
from jobs.graph import Job
from jobs.identities import pair_cut
from jobs.plan import Job as PlannedJob
from jobs.plan import Partner, Plan
from jobs.prepare import Prepared


class Held:
    """What the folder holds of the models of a run, from one listing of its parts."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.parts = Listing(prepared.store)
        self.partners = _partners(prepared)

    def jobs(self, plan: Plan) -> list[Job]:
        """The jobs of a plan, with what is committed of each."""
        jobs = []
        for planned in plan.jobs:
            identity = self.prepared.identity(planned.stage.name, planned.slug)
            cuts = [self._cut(cut, planned) for cut in planned.cuts]
            committed = self._committed(planned.stage.name, planned.slug, identity)
            jobs.append(Job(planned.stage, planned.slug, identity, cuts, committed))
        return jobs

    def _cut(self, cut: object, planned: PlannedJob) -> Cut:
        if isinstance(cut, Partner):
            return pair_cut(cut.slug, self.prepared.identity(planned.stage.name, cut.slug))
        return cut  # type: ignore[return-value]

    def earlier(self) -> list[Job]:
        """Stages of the run's models that earlier runs did and this one leaves alone; nothing is wanted of them.

        With them the pairs that other models of the atlas make with the run's: counterparts of both stay in the shards.
        """
        known = {stage.name: stage for stage in stages.STAGES}
        jobs = []
        for model in self.prepared.models:
            slug = model.description.slug
            for name, identity in model.earlier.items():
                if name in known:
                    jobs.append(Job(known[name], slug, identity, (), self._committed(name, slug, identity)))
        own = {model.description.slug for model in self.prepared.models}
        for (name, slug), identity in self.partners.items():
            if slug not in own:
                committed = self._committed(name, slug, identity)
                mine = [one for one in committed if isinstance(one.cut, Pair) and one.cut.partner in own]
                jobs.append(Job(known[name], slug, identity, (), mine))
        return jobs

    def _committed(self, stage: str, slug: str, identity: Identity) -> list[WorkUnit]:
        """Committed units of a stage of a model; of pairs only those with partners as they are now."""
        return [unit for unit in committed_units(self.parts, stage, slug, identity) if self._current(unit)]

    def _current(self, unit: WorkUnit) -> bool:
        if not isinstance(unit.cut, Pair):
            return True
        partner = self.partners.get((unit.stage, unit.cut.partner))
        return partner is not None and pair_cut(unit.cut.partner, partner) == unit.cut


def _partners(prepared: Prepared) -> dict[tuple[str, str], Identity]:
    """By stage that is cut along pairs, and slug: what each model of the run or of the atlas is known by now."""
    names = [stage.name for stage in stages.STAGES if stage.cut == "pair"]
    found: dict[tuple[str, str], Identity] = {}
    places = [parse_shard_path(path) for path in prepared.store.list(MODELS.name)]
    for slug in sorted({place[1] for place in places if place}):
        claims = claimed_identities(claimed(prepared.store, slug))  # a damaged row claims nothing
        found |= {(name, slug): own for name, own in claims.items() if name in names}
    for model in prepared.models:
        for name in names:
            if name in model.keys:
                found[name, model.description.slug] = model.keys[name].identity
    return found
