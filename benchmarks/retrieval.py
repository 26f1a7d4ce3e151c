"""Retrieval on the zoo, where every attribute of every scene is known: precision among the first ten.

python -m benchmarks.retrieval --out docs/benchmarks/retrieval.json --table docs/uses.md

By image: every tenth scene is a query, an answer is right if it has the query's value of the attribute. By text: each
value's prompt is a query. Both by the whole representation and by three components, chosen by merit (score x
selectivity) and in the two published ways (by score; by score less the highest score for another feature).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.align import Scenes, Stored, contributions, seen, write_table
from benchmarks.machine import description
from pipeline.decompose.align import fit_alignment
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.features import FeatureSums, Lens
from pipeline.models import ModelRequest, load
from pipeline.uses.choosing import merits, ranked
from pipeline.uses.retrieval import GROUP, along, likeness, precision, restricted
from pipeline.zoo import ZOO

FIRST, EVERY = 10, 10
WAYS = ("all components", "merit", "score", "score apart")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(ZOO))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out")
    parser.add_argument("--table", help="markdown file whose part between marks is replaced")
    parser.add_argument("--rendered", help="write the table of this earlier report and measure nothing")
    asked = parser.parse_args()
    if asked.rendered:
        report = json.loads(Path(asked.rendered).read_text())
    else:
        torch.set_num_threads(1)
        report = {"benchmark": "retrieval", "machine": description(), **measure(asked.models.split(","), asked.images)}
        print(json.dumps(report, indent=1))
    if asked.out:
        Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")
    if asked.table:
        write_table(Path(asked.table), "retrieval", table(report))


def measure(models: Sequence[str], images: int) -> dict[str, Any]:
    scenes, rows = seen(images), {}
    for name in models:
        stored = contributions(load(ModelRequest(f"zoo/{name}")), scenes.probe)
        alignment = (
            Alignment.own(len(stored.components), scenes.targets.shape[1])
            if name == "clip"
            else fit_alignment(stored.batches, scenes.targets, scenes.fit, stored.levels)
        )
        rows[name] = searched(stored, alignment, scenes)
        print(name, json.dumps(rows[name]), file=sys.stderr)
    answers = torch.stack([one.answers for one in scenes.questions], dim=1)
    chance = {name: agreeing(column) for name, column in zip(scenes.texts, answers.unbind(1), strict=True)}
    return {"images": images, "first": FIRST, "chance": chance, "models": rows}


def agreeing(answers: Tensor) -> float:
    """How often two scenes have the same value."""
    share = answers.bincount().double() / len(answers)
    return round(float(share.square().sum()), 3)


def searched(stored: Stored, alignment: Alignment, scenes: Scenes) -> dict[str, Any]:
    """Precision by way and feature, of queries by image and by text."""
    lens = Lens.of(scenes.texts, alignment, stored.levels)
    sums = FeatureSums.empty(lens)
    for _, vectors in stored.batches():
        sums.update(vectors, lens)
    score = sums.finalize(lens)["score"]
    measures = {"merit": merits(stored.batches(), lens), "score": score, "score apart": apart(score)}
    by_image: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    by_text: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    everything = stored.direct.nonzero()[:, 0].tolist()
    for column, feature in enumerate(lens.features):
        order = {way: ranked(one[:, column], stored.components, stored.direct)[:GROUP] for way, one in measures.items()}
        groups = [everything, *order.values()]
        answers = scenes.questions[column].answers
        for way, held in zip(WAYS, restricted(stored.batches(), groups), strict=True):
            by_image[way][feature] = _images_precision(held, answers)
        values = [along(stored.batches(), groups, alignment, text) for text in scenes.texts[feature]]
        for place, way in enumerate(WAYS):
            found = [precision(one[place], answers == value, FIRST) for value, one in enumerate(values)]
            by_text[way][feature] = round(sum(found) / len(found), 4)
    return {"by_image": by_image, "by_text": by_text}


def apart(score: Tensor) -> Tensor:
    """(components, features): the score less the highest for another feature, the published rule for images."""
    others = [torch.cat([score[:, :place], score[:, place + 1 :]], dim=1).amax(1) for place in range(score.shape[1])]
    return score - torch.stack(others, dim=1)


def _images_precision(held: Tensor, answers: Tensor) -> float:
    found = [
        precision(likeness(held, held[query]), answers == answers[query], FIRST, leave_out=query)
        for query in range(0, len(held), EVERY)
    ]
    return round(sum(found) / len(found), 4)


def table(report: Mapping[str, Any]) -> str:
    features = list(report["chance"])
    lines = [
        f"| query | components | {' | '.join(features)} | mean |",
        f"| --- | --- |{' --: |' * (len(features) + 1)}",
    ]
    for query, word in (("by_image", "image"), ("by_text", "text")):
        for way in WAYS:
            rows = [row[query][way] for row in report["models"].values()]
            means = [sum(row[feature] for row in rows) / len(rows) for feature in features]
            cells = [f"{mean:.2f}" for mean in [*means, sum(means) / len(means)]]
            lines.append(f"| {word} | {way} | {' | '.join(cells)} |")
    chance = list(report["chance"].values())
    lines.append(f"| any | chance | {' | '.join(f'{one:.2f}' for one in [*chance, sum(chance) / len(chance)])} |")
    lines += ["", "By image, mean over attributes:", "", f"| components | {' | '.join(report['models'])} |"]
    lines.append(f"| --- |{' --: |' * len(report['models'])}")
    for way in WAYS:
        told = [row["by_image"][way].values() for row in report["models"].values()]
        lines.append(f"| {way} | {' | '.join(f'{sum(one) / len(one):.2f}' for one in told)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
