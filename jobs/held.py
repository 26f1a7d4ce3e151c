"""Lists what the output folder holds of each stage, so that nothing is computed again."""

from __future__ import annotations

from atlas_schema.parts import committed_units
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import MODELS
from atlas_schema.units import Cut, Identity, Pair, WorkUnit
from jobs import stages
from jobs.claim import claimed, claimed_identities
from jobs.graph import Job
from jobs.identities import pair_cut
from jobs.plan import Job as PlannedJob
from jobs.plan import Partner, Plan
from jobs.prepare import Prepared


def jobs_of(prepared: Prepared, plan: Plan) -> list[Job]:
    """The jobs of a plan, with what is committed of each."""
    partners = _partners(prepared)
    jobs = []
    for planned in plan.jobs:
        identity = prepared.identity(planned.stage.name, planned.slug)
        cuts = [_cut(cut, planned, prepared) for cut in planned.cuts]
        committed = _committed(prepared.store, planned.stage.name, planned.slug, identity, partners)
        jobs.append(Job(planned.stage, planned.slug, identity, cuts, committed))
    return jobs


def _cut(cut: object, planned: PlannedJob, prepared: Prepared) -> Cut:
    if isinstance(cut, Partner):
        return pair_cut(cut.slug, prepared.identity(planned.stage.name, cut.slug))
    return cut  # type: ignore[return-value]


def earlier_jobs(prepared: Prepared) -> list[Job]:
    """Stages of the run's models that earlier runs did and this one leaves alone; nothing is wanted of them.

    With them the pairs that other models of the atlas make with the run's: counterparts of both stay in the shards.
    """
    known = {stage.name: stage for stage in stages.STAGES}
    partners = _partners(prepared)
    jobs = []
    for model in prepared.models:
        slug = model.description.slug
        for name, identity in model.earlier.items():
            if name in known:
                committed = _committed(prepared.store, name, slug, identity, partners)
                jobs.append(Job(known[name], slug, identity, (), committed))
    own = {model.description.slug for model in prepared.models}
    for (name, slug), identity in partners.items():
        if slug not in own:
            committed = _committed(prepared.store, name, slug, identity, partners)
            mine = [one for one in committed if isinstance(one.cut, Pair) and one.cut.partner in own]
            jobs.append(Job(known[name], slug, identity, (), mine))
    return jobs


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


def _committed(
    store: Store, stage: str, slug: str, identity: Identity, partners: dict[tuple[str, str], Identity]
) -> list[WorkUnit]:
    """Committed units of a stage of a model; of pairs only those with partners as they are now."""

    def current(unit: WorkUnit) -> bool:
        if not isinstance(unit.cut, Pair):
            return True
        partner = partners.get((stage, unit.cut.partner))
        return partner is not None and pair_cut(unit.cut.partner, partner) == unit.cut

    return [unit for unit in committed_units(store, stage, slug, identity) if current(unit)]
