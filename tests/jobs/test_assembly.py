"""Which shards are ready when: each is assembled once all that the run wants of it is committed, in whatever order."""

from __future__ import annotations

import random

import pytest

from atlas_schema.store import Store
from atlas_schema.units import Identity, Neurons, Pair, Whole
from jobs.assembly import Shards, Target
from jobs.graph import Graph, Job
from jobs.stages import STAGES

STAGE = {stage.name: stage for stage in STAGES}
OWN = Identity("f" * 64, "s" * 16)
SLUGS = ("a", "b", "c")


def shards_of(jobs: list[Job]) -> Shards:
    planned = {slug: {0: ((0, 8),)} for slug in SLUGS}
    return Shards(Store("memory://shards"), Graph(jobs), (), dict.fromkeys(SLUGS, 1), planned)


@pytest.mark.parametrize("seed", range(20))
def test_counterparts_are_ready_with_the_last_pair_that_the_model_is_part_of(seed: int) -> None:
    """The last pair committed need not be one of the model's own: still no model's table is forgotten."""
    pairs = {slug: [Pair(other, "0" * 16) for other in SLUGS if other >= slug] for slug in SLUGS}
    shards = shards_of([Job(STAGE["pairs"], slug, OWN, pairs[slug]) for slug in SLUGS])
    units = [OWN.unit("pairs", slug, cut) for slug in SLUGS for cut in pairs[slug]]
    random.Random(seed).shuffle(units)
    seen: list[str] = []
    for place, unit in enumerate(units):
        shards.graph.add(unit)
        for target in shards.of_unit(unit):
            if shards.ready(target):
                seen.append(target.slug)
                left = [one for one in units[place + 1 :] if target.slug in (one.slug, one.cut.partner)]
                assert left == [], "not before its last pair"
    assert sorted(seen) == sorted(SLUGS), "and each exactly once"


def test_what_a_run_fills() -> None:
    heads = Job(STAGE["heads"], "a", OWN, [Whole()])
    visualize = Job(STAGE["visualize"], "a", OWN, [Neurons(0, 0, 8)])
    shards = shards_of([heads, visualize, Job(STAGE["probe"], "a", OWN, [])])
    tables = ("heads", "head_texts", "head_features", "head_examples", "head_reads")
    assert set(shards.targets()) == {Target("neurons", "a", 0), *(Target(name, "a") for name in tables)}
    assert not shards.ready(Target("heads", "a"))
    shards.graph.add(OWN.unit("heads", "a", Whole()))
    assert all(shards.ready(Target(name, "a")) for name in tables)


def test_a_shard_begins_once_with_what_waits_for_no_images() -> None:
    """Pictures and verdicts are written as soon as a layer has them; the shard again when evidence completes it."""
    cuts = [Neurons(0, 0, 4), Neurons(0, 4, 8)]
    shards = shards_of([Job(STAGE[name], "a", OWN, cuts) for name in ("visualize", "verdict", "evidence")])
    target = Target("neurons", "a", 0)
    handed: list[tuple[str, int, int]] = []
    for stage in ("visualize", "evidence", "verdict"):
        for cut in cuts:
            unit = OWN.unit(stage, "a", cut)
            shards.graph.add(unit)
            for task in shards.after(unit):
                handed.append((stage, cut.start, len(task.units)))
                assert shards.settled(task) == []
                assert (target in shards.written) == shards.ready(target)
    assert handed == [("verdict", 4, 6)], "evidence came first: the shard is complete with the verdicts"

    shards = shards_of([Job(STAGE[name], "a", OWN, cuts) for name in ("visualize", "verdict", "evidence")])
    for stage in ("visualize", "verdict"):
        for cut in cuts:
            shards.graph.add(unit := OWN.unit(stage, "a", cut))
            tasks = shards.after(unit)
            assert len(tasks) == (stage == "verdict" and cut.start == 4)
    assert shards.after(unit) == [], "not a second time"
    for cut in cuts:
        shards.graph.add(unit := OWN.unit("evidence", "a", cut))
        assert shards.after(unit) == [], "a worker is at it"
    (again,) = shards.settled(tasks[0])
    assert len(again.units) == 6
    assert shards.settled(again) == []
    assert shards.written == {target}


def test_a_shard_that_began_and_was_not_completed_is_written_with_what_there_is() -> None:
    cuts = [Neurons(0, 0, 4), Neurons(0, 4, 8)]
    shards = shards_of([Job(STAGE[name], "a", OWN, cuts) for name in ("visualize", "evidence")])
    for cut in cuts:
        shards.graph.add(unit := OWN.unit("visualize", "a", cut))
    (task,) = shards.after(unit)
    assert shards.settled(task) == []
    shards.graph.add(OWN.unit("evidence", "a", cuts[0]))
    (last,) = shards.last()
    assert len(last.units) == 3
