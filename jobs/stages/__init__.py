"""The stages of the pipeline, in one explicit tuple; a new stage is a file here and a line in it.

visualize ─────────────┬─> verdict
                       │
probe ─────────────────┼─> judge
                       ├─> evidence, examples
writes ────────────────┼─> effect
embed, texts ──────────┴─> label
examples ──────────────┬─> pictures-accentuated
                       │   pictures-RECIPE, one for each other recipe
pairs
invert-RECIPE ─────────┴─> transfer-RECIPE, one for each recipe of inversion
pool, embed, decompose ──> align ─> spans ─┬─> project ─> heads
                                           └─> invert-heads-RECIPE, one for each recipe of inversion
"""

from __future__ import annotations

from collections.abc import Iterable

from jobs.stages.effect import EFFECT, WRITES
from jobs.stages.head_pictures import HEAD_PICTURES
from jobs.stages.heads import ALIGN, DECOMPOSE, HEADS, MAPS, POOL, PROJECT, READS, SPANS
from jobs.stages.invert import INVERSIONS, TRANSFERS
from jobs.stages.label import EMBED, LABEL, TEXTS
from jobs.stages.match import PAIRS
from jobs.stages.pictures import PICTURES
from jobs.stages.probe import EVIDENCE, EXAMPLES, JUDGE, PROBE
from jobs.stages.stage import Cost, Sizes, Stage
from jobs.stages.visualize import VERDICT, VISUALIZE

__all__ = ["STAGES", "Cost", "Sizes", "Stage", "at_once", "closure", "groups", "place_of", "stage_named", "stages_of"]

STAGES: tuple[Stage, ...] = (
    *(VISUALIZE, VERDICT),
    *(PROBE, EVIDENCE, EXAMPLES, JUDGE),
    *PICTURES,
    *(EMBED, TEXTS, LABEL),
    *(WRITES, EFFECT),
    PAIRS,
    *INVERSIONS,
    *TRANSFERS,
    *(POOL, DECOMPOSE, ALIGN, SPANS, PROJECT, MAPS, READS, HEADS),
    *HEAD_PICTURES,
)


def stage_named(name: str) -> Stage:
    """The stage called `name`; KeyError where there is none."""
    return {stage.name: stage for stage in STAGES}[name]


def groups() -> tuple[str, ...]:
    """What `--stages` accepts, in the order in which results appear."""
    return tuple(dict.fromkeys(stage.group for stage in STAGES if stage.group))


def stages_of(
    wanted: Iterable[str], also: Iterable[str] = (), inversions: Iterable[str] = (), heads: Iterable[str] = ()
) -> tuple[Stage, ...]:
    """The stages of these groups and all that they read, in the order of STAGES; also: recipes of further pictures;
    inversions: recipes of inversion, of classes and texts; heads: those of pictures of heads.
    """
    wanted = set(wanted)
    further = {f"pictures-{recipe}" for recipe in also} | {f"transfer-{recipe}" for recipe in inversions}
    further |= {f"invert-heads-{recipe}" for recipe in heads}
    return closure(stage.name for stage in STAGES if stage.group in wanted or stage.name in further)


def place_of(name: str) -> tuple[int, str]:
    """What sorts stages by their place in the pipeline; those that this code does not know come last, by name."""
    names = [stage.name for stage in STAGES]
    return (names.index(name) if name in names else len(names), name)


def at_once(filling: Iterable[Stage]) -> list[str]:
    """Of the stages that fill a table, in the order of STAGES, those that wait for none but one another."""
    stages = list(filling)
    names = {stage.name for stage in stages}
    found: list[str] = []
    for stage in stages:
        if stage.cut == "neurons" and {*stage.reads, *names.intersection(stage.reads_if_there)} <= set(found):
            found.append(stage.name)
    return found


def closure(names: Iterable[str]) -> tuple[Stage, ...]:
    """The stages `names` and all that they read, in the order of STAGES."""
    chosen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in chosen:
            chosen.add(name)
            todo += stage_named(name).reads
    return tuple(stage for stage in STAGES if stage.name in chosen)
