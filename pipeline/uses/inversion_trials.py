"""Inversions as an experiment: the same targets by several recipes or of several models, with errors and chance.

Of each picture: what its own model says of it as stored, what it says under natural changes, and what other models say
of it, who never saw how it was made (pipeline/invert/judge.py, transfer.py). All figures are means over targets, and
errors are standard errors over targets: the readers of a panel were trained on the same classes, and count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atlas_schema.errors import BadConfig
from pipeline.invert.ascent import invert
from pipeline.invert.judge import NATURAL, Inversion, judged
from pipeline.invert.recipes import InversionRecipe
from pipeline.invert.targets import Outputs, Target
from pipeline.invert.transfer import chance, counterpart_classes, read
from pipeline.models import LoadedModel
from pipeline.visualize.natural import NaturalSettings

MEASURES = ("own_score", "own_right", "natural_score", "natural_right", "transfer_score", "transfer_right")
"""What is told of a trial. `score`: probability of the target among its rivals, of a text its cosine; `right`: whether
it comes first. Own: as stored; natural: mean over changed copies; transfer: mean over readers."""


@dataclass(frozen=True)
class Subject:
    """A model that is inverted, or that reads what others were inverted to."""

    name: str
    model: LoadedModel
    outputs: Outputs


@dataclass(frozen=True, eq=False)
class Trial:
    """The pictures of some targets by one recipe, and what was made of them.

    values: float64 (targets,) of each measure; NaN where nobody reads, and of scores where there is no picture.
    """

    made: tuple[Inversion, ...]
    readers: tuple[str, ...]
    values: dict[str, NDArray[np.float64]]


def check_readers(subject: Subject, targets: Sequence[Target], readers: Sequence[Subject]) -> list[list[int]]:
    """Each reader's outputs for the targets. BadConfig for one that is the model itself, stands there twice, or whose
    classes do not correspond by name, as those do not that have none.
    """
    unnamed = [one.name for one in (subject, *readers) if _unnamed(one.outputs)] if readers else []
    if unnamed:
        raise BadConfig(
            f"the classes of {unnamed[0]} have no names to find them by in other models. Give them with --class-names."
        )
    seen: dict[str, str] = {subject.model.fingerprint: subject.name}
    for one in readers:
        if one.model.fingerprint in seen:
            before = seen[one.model.fingerprint]
            what = "the model that is inverted" if before == subject.name else f"the reader {before}"
            raise BadConfig(
                f"reader {one.name}: it has the weights of {what}. Expected other models, each once: what a model "
                "says of its own pictures is told beside."
            )
        seen[one.model.fingerprint] = one.name
    return [counterpart_classes(targets, one.outputs.names, (subject.name, one.name)) for one in readers]


def _unnamed(outputs: Outputs) -> bool:
    return outputs.kind == "class" and all(name == str(index) for index, name in enumerate(outputs.names))


def trial(
    subject: Subject,
    targets: Sequence[Target],
    recipe: InversionRecipe,
    readers: Sequence[Subject],
    seed: int = 0,
    natural: NaturalSettings = NATURAL,
    on_step: Callable[[], None] = lambda: None,
) -> Trial:
    """Invert the targets and have the pictures judged. BadConfig as `check_readers`, before anything is computed."""
    if recipe.variants != 1:
        raise BadConfig(f"recipe {recipe.name}: makes {recipe.variants} pictures of a target, expected one.")
    places = check_readers(subject, targets, readers)
    pictures = invert(subject.model, subject.outputs, targets, recipe, seed=seed, on_step=on_step)
    made = judged(subject.model, subject.outputs, targets, pictures, recipe, seed, natural, on_step)
    there = [at for at, one in enumerate(made) if one.webp is not None]
    stored = torch.stack([made[at].pixels() for at in there]) if there else None
    scores, right = np.full((len(readers), len(made)), np.nan), np.zeros((len(readers), len(made)))
    for row, (one, outputs) in enumerate(zip(readers, places, strict=True)):
        if stored is not None:
            said = read(one.model, one.outputs, [outputs[at] for at in there], stored)
            scores[row, there], right[row, there] = said.score.numpy(), said.right.numpy()
    nobody = np.full(len(made), np.nan)
    values = {
        "own_score": _numbers([one.score for one in made]),
        "own_right": np.array([float(one.rank == 1) for one in made]),
        "natural_score": _numbers([one.natural_score for one in made]),
        "natural_right": np.array([one.natural_right or 0.0 for one in made]),
        "transfer_score": scores.mean(0) if len(readers) else nobody,
        "transfer_right": right.mean(0) if len(readers) else nobody,
    }
    return Trial(tuple(made), tuple(one.name for one in readers), values)


def means(values: dict[str, NDArray[np.float64]]) -> dict[str, dict[str, float] | None]:
    """Of each measure the mean over targets and its standard error (none of one target); None: nothing was measured."""
    return {name: _mean(own) for name, own in values.items()}


def differences(one: Trial, other: Trial) -> dict[str, dict[str, float] | None]:
    """`one` less `other`, target by target, which must be the same: means and standard errors as of `means`."""
    if [made.target.text for made in one.made] != [made.target.text for made in other.made]:
        raise ValueError("two trials are compared target by target: expected the same targets")
    return means({name: one.values[name] - other.values[name] for name in one.values})


def by_chance(outputs: Outputs, targets: Sequence[Target]) -> float:
    """How often a guess among the rivals of each target is right, mean over targets."""
    return float(chance(outputs, [target.index for target in targets]).mean())


def told(one: Trial) -> dict[str, Any]:
    """A trial as data: its means, and what there is of each target."""
    recipe = one.made[0].recipe
    return {
        "recipe_hash": recipe.hash,
        "image_steps": recipe.image_steps,
        **means(one.values),
        "targets": [
            {
                "address": made.address,
                "target": made.target.text,
                **{name: _rounded(values[at]) for name, values in one.values.items()},
            }
            for at, made in enumerate(one.made)
        ],
    }


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _mean(values: NDArray[np.float64]) -> dict[str, float] | None:
    own = values[np.isfinite(values)]
    if not len(own):
        return None
    mean = {"mean": round(float(own.mean()), 4)}
    return mean if len(own) == 1 else mean | {"error": round(float(own.std(ddof=1) / np.sqrt(len(own))), 4)}


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
