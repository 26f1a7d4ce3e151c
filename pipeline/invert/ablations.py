"""Plug-In Inversion with one thing taken away at a time, to see what each does.

The paper (2201.12961) shows what its augmentations do as pictures side by side. Its public code has three settings for
how a stage grows out of the one before, all zoom, half and half, and all border; the first and the last are the
recipe without centring and without zoom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from atlas_schema.errors import BadConfig
from pipeline.invert.recipes import PII, InversionRecipe, InversionStage

FULL = "the full recipe"
GROWTH = 1 / 8  # of each side, from a stage to the next
NO_SHIFT = (0.0, 0.0)


@dataclass(frozen=True)
class Ablation:
    """A recipe, and what was done to it."""

    name: str
    means: str
    recipe: InversionRecipe


def ablations(steps: int | None = None, copies: int | None = None) -> list[Ablation]:
    """`pii`, and `pii` without each of its parts. The first is the full one.

    steps: of a stage, at most; copies: of a picture in a step, at most; None: the recipe's. BadConfig below 1.
    """
    full = shortened(PII, steps, copies)
    return [
        Ablation(FULL, "zoom and centring, colour-shifted copies, circular shifts", full),
        Ablation(
            "without centring",
            "a stage grows by zoom alone: no border of noise",
            _each(full, lambda one: replace(one, border_share=0.0)),
        ),
        Ablation(
            "without zoom",
            "a stage grows by a border of noise alone: what was made keeps its size",
            _each(full, lambda one: replace(one, border_share=GROWTH)),
        ),
        Ablation("without both", "one stage of all steps at the full size, from noise", _in_one_stage(full)),
        Ablation(
            "without colour shift",
            "copies as they are; as these are all the same, one stands for them",
            _each(full, lambda one: _phased(one, copies=1, colour_shift=NO_SHIFT)),
        ),
        Ablation("without ensemble", "one colour-shifted copy a step", _each(full, lambda one: _phased(one, copies=1))),
        Ablation(
            "without jitter",
            "no circular shifts",
            _each(full, lambda one: replace(one, ascent=replace(one.ascent, jitter=0))),
        ),
    ]


def shortened(recipe: InversionRecipe, steps: int | None, copies: int | None) -> InversionRecipe:
    """The recipe with at most so many steps a stage and copies a step; its hash, and so its random numbers, are others
    where that changes anything. BadConfig below 1.
    """
    for name, value in (("steps", steps), ("copies", copies)):
        if value is not None and value < 1:
            raise BadConfig(f"{name} = {value}: expected at least 1.")

    def cut(stage: InversionStage) -> InversionStage:
        phases = tuple(
            replace(
                phase,
                steps=min(phase.steps, steps) if steps else phase.steps,
                copies=min(phase.copies, copies) if copies else phase.copies,
            )
            for phase in stage.ascent.phases
        )
        return replace(stage, ascent=replace(stage.ascent, phases=phases))

    return replace(recipe, stages=tuple(cut(stage) for stage in recipe.stages))


def _each(recipe: InversionRecipe, change: Callable[[InversionStage], InversionStage]) -> InversionRecipe:
    return replace(recipe, stages=tuple(change(stage) for stage in recipe.stages))


def _phased(stage: InversionStage, **settings: Any) -> InversionStage:
    phases = tuple(replace(phase, **settings) for phase in stage.ascent.phases)
    return replace(stage, ascent=replace(stage.ascent, phases=phases))


def _in_one_stage(recipe: InversionRecipe) -> InversionRecipe:
    last = recipe.stages[-1]
    whole = _phased(last, steps=recipe.steps)
    return replace(recipe, stages=(replace(whole, size_share=1.0, border_share=0.0),))
