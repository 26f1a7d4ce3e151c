"""What parts are known by, stage by stage: the weights, and the hash of all else that decides their result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas_schema.units import Identity, Pair
from jobs.digests import digest
from jobs.facts import facts_of, facts_text, settings_hash
from jobs.stages import Stage, closure

if TYPE_CHECKING:
    from jobs.inputs import Inputs
    from pipeline.models import ModelDescription


@dataclass(frozen=True)
class StageIdentity:
    """What the units of one stage of one model are known by; facts: as `jobs.facts.facts_text` writes them."""

    identity: Identity
    facts: str


def stage_identities(
    stages: Iterable[Stage],
    inputs: Inputs,
    description: ModelDescription,
    fingerprint: str,
    claimed: Mapping[str, Identity] | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, StageIdentity]:
    """By name, the key of each of a model's stages and of the embedder's that they read.

    claimed: the identities of stages that the atlas holds of this model. A stage that is read where it is there, and
    that is none of `stages`, is taken as the atlas has it: pictures of another recipe are judged as they are.
    class_names: of the model's outputs, where they were given or its checkpoint has them.
    """
    stages = tuple(stages)
    keys: dict[str, StageIdentity] = {}
    embedders: dict[str, Any] = {}  # facts of the embedder's stages
    names = {stage.name for stage in stages}
    for stage in _in_order(closure(names)):
        reads: dict[str, Any] = {name: embedders.get(name) or keys[name].identity.settings for name in stage.reads}
        for name in stage.reads_if_there:
            if name in names:
                reads[name] = keys[name].identity.settings
            elif claimed and name in claimed:
                reads[name] = claimed[name].settings
        if stage.owner == "embedder":
            choice = inputs.embedder
            embedders[stage.name] = facts_of(stage, inputs, choice.description, reads, choice.fingerprint)
            facts = facts_text(embedders[stage.name])
            keys[stage.name] = StageIdentity(Identity(choice.fingerprint, settings_hash(facts)), facts)
        else:
            facts = facts_text(facts_of(stage, inputs, description, reads, class_names=class_names))
            keys[stage.name] = StageIdentity(Identity(fingerprint, settings_hash(facts)), facts)
    return keys


def _in_order(stages: Iterable[Stage]) -> list[Stage]:
    """Each stage behind those that it reads."""
    waiting, placed = list(stages), []
    while waiting:
        ahead = {stage.name for stage in waiting}
        free = [stage for stage in waiting if not ahead & {*stage.reads, *stage.reads_if_there}]
        if not free:
            raise ValueError(f"stages read each other in a circle: {', '.join(sorted(ahead))}")
        placed += free
        waiting = [stage for stage in waiting if stage not in free]
    return placed


def pair_cut(partner: str, identity: Identity) -> Pair:
    """The cut of a pair with `partner`, whose weights and settings stand in it."""
    return Pair(partner, digest([identity.fingerprint, identity.settings]))
