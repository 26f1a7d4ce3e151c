"""A planted spurious correlation in the zoo's world, and what leaving out the background's components does.

python -m benchmarks.spurious --out docs/benchmarks/spurious.json --table docs/uses.md

Each seed draws two shapes and two backgrounds. In training each shape stands before its own background in 95 % of 120
scenes; in the test the four groups have 50 scenes each. A linear probe is fitted on the frozen representation of the
training scenes. Which components carry background rather than shape is decided on other scenes, without the task. Left
out (replaced by their mean over the training scenes) are as many components by each way to choose; the probe stays.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.align import Stored, contributions, seen, write_table
from benchmarks.machine import description
from pipeline.decompose.align import fit_alignment
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.features import FeatureSums, Lens
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.uses.choosing import merits, ranked
from pipeline.uses.spurious import LinearProbe, fit_probe, group_accuracies, spurious_components, without
from pipeline.zoo import ZOO
from pipeline.zoo.train import pixels
from pipeline.zoo.world import ATTRIBUTES, scenes

TRAIN = ((57, 3), (3, 57))  # scenes by shape and background: 95 % of each shape before its own background
TEST = ((50, 50), (50, 50))
DRAWS = 20  # sets of components drawn at random, of the same size
WAYS = ("nothing", "merit", "score", "random")
FIRST_SEED = 10_000  # of scenes: no model was trained on, none scored on


@dataclass(frozen=True)
class Examples:
    """vectors: (images, components, d); shape, background: int64 (images,), 0 or 1."""

    vectors: Tensor
    shape: Tensor
    background: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(ZOO))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--images", type=int, default=600, help="scenes that scores are made on")
    parser.add_argument("--out")
    parser.add_argument("--table", help="markdown file whose part between marks is replaced")
    parser.add_argument("--rendered", help="write the table of this earlier report and measure nothing")
    asked = parser.parse_args()
    if asked.rendered:
        report = json.loads(Path(asked.rendered).read_text())
    else:
        torch.set_num_threads(1)
        found = measure(asked.models.split(","), asked.seeds, asked.images)
        report = {"benchmark": "spurious", "machine": description(), **found}
        print(json.dumps(report, indent=1))
    if asked.out:
        Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")
    if asked.table:
        write_table(Path(asked.table), "spurious", table(report))


def measure(models: Sequence[str], seeds: int, images: int) -> dict[str, Any]:
    probe = seen(images)
    rows = {}
    for name in models:
        model = load(ModelRequest(f"zoo/{name}"))
        stored = contributions(model, probe.probe)
        own = name == "clip"
        alignment = (
            Alignment.own(len(stored.components), probe.targets.shape[1])
            if own
            else fit_alignment(stored.batches, probe.targets, probe.fit, stored.levels)
        )
        lens = Lens.of(probe.texts, alignment, stored.levels)
        chosen = choices(stored, lens)
        trials = [trial(model, stored, chosen, seed) for seed in range(seeds)]
        rows[name] = {"left_out": [stored.components[place].name for place in chosen["merit"]], **summary(trials)}
        print(name, json.dumps(rows[name]), file=sys.stderr)
    return {"seeds": seeds, "train": TRAIN, "test": TEST, "random_draws": DRAWS, "models": rows}


def choices(stored: Stored, lens: Lens) -> dict[str, list[int]]:
    """The components to leave out, by merit and by the published score; and all that could be."""
    sums = FeatureSums.empty(lens)
    for _, vectors in stored.batches():
        sums.update(vectors, lens)
    told = {"merit": merits(stored.batches(), lens), "score": sums.finalize(lens)["score"]}
    spurious, core = lens.features.index("background"), lens.features.index("shape")
    found = {
        way: spurious_components(one, spurious, core, stored.components, stored.direct) for way, one in told.items()
    }
    return found | {"all": ranked(told["score"][:, core], stored.components, stored.direct)}


def trial(model: LoadedModel, stored: Stored, chosen: Mapping[str, list[int]], seed: int) -> dict[str, Any]:
    """(worst, average) accuracy over groups, by way."""
    rng = np.random.default_rng(seed)
    task = [rng.choice(ATTRIBUTES[name], 2, replace=False).tolist() for name in ("shape", "background")]
    contributing = Contributing(model)
    train, test = (drawn(contributing, task, counts, 2 * seed + i) for i, counts in enumerate((TRAIN, TEST)))
    means = train.vectors.mean(0)
    probe = fit_probe(without(train.vectors, stored.direct, [], means), train.shape)

    def left_out(places: Sequence[int]) -> tuple[float, float]:
        return accuracy(probe, without(test.vectors, stored.direct, places, means), test)

    size = len(chosen["merit"])
    by_chance = [left_out(rng.choice(chosen["all"], size, replace=False).tolist()) for _ in range(DRAWS)]
    return {
        "task": task,
        "nothing": left_out([]),
        "merit": left_out(chosen["merit"]),
        "score": left_out(chosen["score"]),
        "random": tuple(np.mean(by_chance, axis=0).tolist()),
    }


def drawn(contributing: Contributing, task: Sequence[Sequence[str]], counts: Any, seed: int) -> Examples:
    parts, labels = [], []
    for shape, background in np.ndindex(2, 2):
        count, fixed = counts[shape][background], {"shape": task[0][shape], "background": task[1][background]}
        first = 1000 * (2 * shape + background)
        for start in range(first, first + count, 50):
            x = pixels(scenes(FIRST_SEED + seed, range(start, min(start + 50, first + count)), fixed))
            parts.append(contributing(contributing.model.normalise(x)).vectors.float())
        labels += [(shape, background)] * count
    told = torch.tensor(labels)
    return Examples(torch.cat(parts), told[:, 0], told[:, 1])


def accuracy(probe: LinearProbe, representation: Tensor, examples: Examples) -> tuple[float, float]:
    groups = group_accuracies(probe(representation), examples.shape, examples.background)
    return float(groups.min()), float(groups.mean())


def summary(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over seeds with standard errors, of accuracies and of the gains over leaving out nothing."""
    rows: dict[str, Any] = {"tasks": [one["task"] for one in trials]}
    base = np.array([one["nothing"] for one in trials])
    for way in WAYS:
        values = np.array([one[way] for one in trials])
        rows[way] = {
            "worst": _with_error(values[:, 0]),
            "average": _with_error(values[:, 1]),
            "worst_gain": _with_error(values[:, 0] - base[:, 0]),
        }
    return rows


def _with_error(values: np.ndarray) -> list[float]:
    return [round(float(values.mean()), 4), round(float(values.std(ddof=1)) / math.sqrt(len(values)), 4)]


def table(report: Mapping[str, Any]) -> str:
    lines = [
        "| model | left out | worst group | after | gain | published score | random | average | after |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, row in report["models"].items():
        cells = [row["nothing"]["worst"], row["merit"]["worst"], row["merit"]["worst_gain"], row["score"]["worst"]]
        cells += [row["random"]["worst"], row["nothing"]["average"], row["merit"]["average"]]
        shown = [f"{mean:.3f} ± {error:.3f}" for mean, error in cells]
        lines.append(f"| {name} | {', '.join(row['left_out'])} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
