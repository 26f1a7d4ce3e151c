"""Maps of components to CLIP space, and feature scores against ablation, on the zoo, where the answers are known.

python -m benchmarks.align --out docs/benchmarks/align.json --table docs/alignment.md --scores docs/features.md

Maps are fitted on half of the scenes and measured on the other half: cosine to the embedding of zoo/clip, share of
right zero-shot answers, distance from an isometry. Controls: the cosine to the embeddings of other scenes, and the
whole fit with embeddings dealt to the wrong scenes. Scores are compared with what happens to the model's own answers
when a head's contribution is replaced by its mean: rank correlations over the heads of a model.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from benchmarks.machine import description
from pipeline.decompose.ablation import MeanAblation
from pipeline.decompose.align import (
    AlignSettings,
    Question,
    fit_alignment,
    least_squares,
    orthogonality,
    procrustes,
    zero_shot,
)
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.components import Component, Level
from pipeline.decompose.contributions import Contributing, direct_components
from pipeline.decompose.features import FeatureSums, Lens, read_features
from pipeline.decompose.second_pass import classifier_of
from pipeline.decompose.stock import Batch
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.label.embedder import load_embedder
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.zoo import ZOO

RIDGES = (1e-3, 1e-2, 1e-1, 1.0)  # of the per-component least squares; the best by held-out cosine is shown
WAYS = ("one map, least squares", "one isometry", "a map each, ridge", "CompAlign, λ = 0", "CompAlign, λ = 1")
TELLS = 0.01  # of accuracy, or of a standard deviation of the margin
MEASURES = ("score", "variance_share", "flips")


@dataclass(frozen=True)
class Scenes:
    """The probe scenes in the CLIP's eyes. targets: (images, e); fit: (images,) bool; texts: by feature (T, e)."""

    probe: ProbeSet
    targets: Tensor
    fit: Tensor
    texts: dict[str, Tensor]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Stored:
    """All contributions of a model: what a benchmark may hold and the pipeline does not. (images, components, d)"""

    vectors: Tensor
    components: tuple[Component, ...]
    levels: tuple[Level, ...]

    @property
    def direct(self) -> Tensor:
        return direct_components(self.levels)

    @property
    def representation(self) -> Tensor:
        return self.vectors[:, self.direct].sum(1)

    def batches(self) -> Iterator[Batch]:
        yield from ((places, self.vectors[places]) for places in torch.arange(len(self.vectors)).split(100))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(ZOO))
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out")
    parser.add_argument("--table", help="markdown file whose part between marks is replaced")
    parser.add_argument("--scores", help="the same for the table of scores")
    parser.add_argument("--rendered", help="write the tables of this earlier report and measure nothing")
    asked = parser.parse_args()
    if asked.rendered:
        report = json.loads(Path(asked.rendered).read_text())
    else:
        torch.set_num_threads(1)
        report = {"benchmark": "align", "machine": description(), **measure(asked.models.split(","), asked.images)}
        print(json.dumps(report, indent=1))
    if asked.out:
        Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")
    if asked.table:
        write_table(Path(asked.table), "align", alignment_table(report))
    if asked.scores:
        write_table(Path(asked.scores), "scores", scores_table(report))


def measure(models: Sequence[str], images: int) -> dict[str, Any]:
    scenes = seen(images)
    rows = {}
    for name in models:
        model = load(ModelRequest(f"zoo/{name}"))  # its parameters take no gradient
        stored = contributions(model, scenes.probe)
        ways = aligned_ways(stored, scenes) if name != "clip" else {}
        chosen = ways["CompAlign, λ = 1"][0] if ways else Alignment.own(len(stored.components), 64)
        rows[name] = {
            "components": len(stored.components),
            "ways": {way: {**figures(found, stored, scenes), "seconds": spent} for way, (found, spent) in ways.items()},
            "control_dealt": dealt(stored, scenes) if ways else None,
            "scores": scores(model, stored, chosen, scenes),
        }
        print(name, json.dumps(rows[name]), file=sys.stderr)
    return {
        "images": images,
        "fit_images": int(scenes.fit.sum()),
        "clip_accuracy": zero_shot(scenes.targets, scenes.questions, ~scenes.fit),
        "clip_accuracy_by_feature": by_feature(scenes.targets, scenes),
        "chance_accuracy": sum(1 / len(one) for one in scenes.texts.values()) / len(scenes.texts),
        "models": rows,
    }


def seen(images: int) -> Scenes:
    """The probe scenes, embedded by zoo/clip; fit and test are the halves that the pipeline makes."""
    probe, features, embedder = (
        open_probe_set(f"zoo:{images}"),
        read_features("zoo"),
        load_embedder(ModelRequest("zoo/clip")),
    )
    pixels = batches(probe, range(images), embedder.vision.description, 100)
    targets = torch.cat([embedder.pictures(x) for _, x in pixels])
    texts = {name: embedder.texts(prompts) for name, prompts in features.prompts.items()}
    answers = features.answers([dict(image.attributes) for image in probe.images])
    questions = tuple(Question(one, answers[:, place]) for place, one in enumerate(texts.values()))
    fit = torch.tensor([probe.split(index) == "fit" for index in range(images)])
    return Scenes(probe, targets, fit, texts, questions)


def contributions(model: LoadedModel, probe: ProbeSet) -> Stored:
    contributing = Contributing(model)
    pixels = batches(probe, range(len(probe)), model.description, 50)
    vectors = torch.cat([contributing(model.normalise(x)).vectors.float() for _, x in pixels])
    return Stored(vectors, contributing.components, contributing.levels)


def aligned_ways(stored: Stored, scenes: Scenes) -> dict[str, tuple[Alignment, float]]:
    """Each way's maps, and the seconds they took from contributions at hand."""
    z, y = stored.representation[scenes.fit].double(), scenes.targets[scenes.fit].double()

    def each(maps: Tensor, bias: Tensor) -> Alignment:
        return Alignment.of_maps(maps, bias, *[math.nan] * 4)

    def alike(fitted: tuple[Tensor, Tensor]) -> Alignment:
        return each(fitted[0].expand(len(stored.levels), -1, -1), fitted[1])

    def comp_align(weight: float) -> Alignment:
        settings = replace(AlignSettings(), orthogonality=weight)
        return fit_alignment(stored.batches, scenes.targets, scenes.fit, stored.levels, settings=settings)

    def ridge() -> Alignment:
        found = [each(*separate_least_squares(stored, scenes, one)) for one in RIDGES]
        return max(found, key=lambda one: figures(one, stored, scenes)["cosine"])

    made = (
        lambda: alike(least_squares(z, y, AlignSettings().ridge)),
        lambda: alike(procrustes(z, y)),
        ridge,
        lambda: comp_align(0.0),
        lambda: comp_align(1.0),
    )
    return {way: timed(one) for way, one in zip(WAYS, made, strict=True)}


def timed(make: Any) -> tuple[Alignment, float]:
    begin = time.process_time()
    found = make()
    return found, round(time.process_time() - begin, 2)


def separate_least_squares(stored: Stored, scenes: Scenes, ridge: float) -> tuple[Tensor, Tensor]:
    """A map a component from the joint second moments of all of them: (components x d)^2 numbers."""
    direct, d = stored.direct, stored.vectors.shape[2]
    side_by_side = stored.vectors[scenes.fit][:, direct].flatten(1).double()
    joint, bias = least_squares(side_by_side, scenes.targets[scenes.fit].double(), ridge)
    maps = torch.zeros(len(direct), d, joint.shape[1])
    maps[direct] = joint.unflatten(0, (-1, d))
    return maps, bias


def figures(found: Alignment, stored: Stored, scenes: Scenes) -> dict[str, Any]:
    aligned = found.whole(stored.vectors, stored.direct)
    cosine = functional.cosine_similarity(aligned, scenes.targets)
    return {
        "cosine": round(float(cosine[~scenes.fit].mean()), 4),
        "cosine_fit": round(float(cosine[scenes.fit].mean()), 4),
        "accuracy": zero_shot(aligned, scenes.questions, ~scenes.fit),
        "accuracy_by_feature": by_feature(aligned, scenes),
        "orthogonality": round(
            float(orthogonality(found.pull(torch.eye(aligned.shape[1])).mT[stored.direct]).mean()), 4
        ),
        "cosine_chance": None if math.isnan(found.cosine_chance) else round(found.cosine_chance, 4),
    }


def by_feature(aligned: Tensor, scenes: Scenes) -> dict[str, float | None]:
    asked = zip(scenes.texts, scenes.questions, strict=True)
    return {name: zero_shot(aligned, [question], ~scenes.fit) for name, question in asked}


def dealt(stored: Stored, scenes: Scenes) -> float:
    """Held-out cosine of CompAlign where embeddings were dealt to the wrong scenes before the fit."""
    order = torch.randperm(len(scenes.targets), generator=torch.Generator().manual_seed(0))
    return round(fit_alignment(stored.batches, scenes.targets[order], scenes.fit, stored.levels).cosine, 4)


def scores(model: LoadedModel, stored: Stored, alignment: Alignment, scenes: Scenes) -> dict[str, Any]:
    """Rank correlations over heads, feature by feature, and whether the head of the highest score matters."""
    lens, mean = Lens.of(scenes.texts, alignment, stored.levels), stored.vectors.mean(0)
    texts = {f"feature/{name}": one for name, one in scenes.texts.items()}
    reading = classifier_of(model, read_features("zoo"), texts, scenes.probe.images)
    assert reading is not None
    sums, ablation = FeatureSums.empty(lens), MeanAblation(len(mean), len(reading.groups))
    for places, vectors in stored.batches():
        sums.update(vectors, lens, mean)
        ablation.answer(reading, vectors[:, stored.direct].sum(1), vectors - mean, places)
    found = sums.finalize(lens)
    heads = torch.tensor([one.kind == "head" for one in stored.components])
    columns = [reading.groups.index(name) for name in lens.features]
    effects = {"accuracy": ablation.group_effect()[:, columns], "margin": ablation.margin_effect()[:, columns]}
    return {
        measure: {effect: agreement(found[measure], values, heads, lens.features) for effect, values in effects.items()}
        for measure in MEASURES
    }


def agreement(measure: Tensor, effect: Tensor, heads: Tensor, features: Sequence[str]) -> dict[str, Any]:
    """Spearman over heads, by feature, None where no head changes anything; in how many features the head of the
    highest measure has a greater effect than the median head; the same among the features of which an ablation tells
    anything: the largest effect of a head is at least TELLS.
    """
    rank, above, tells, above_of_those = {}, 0, 0, 0
    for column, feature in enumerate(features):
        known = heads & ~measure[:, column].isnan()
        ours, theirs = measure[known, column], effect[known, column]
        rank[feature] = round(float(spearmanr(ours, theirs).statistic), 3) if _varies(ours, theirs) else None
        first = bool(theirs[ours.argmax()] > effect[heads, column].median())
        some = bool(effect[heads, column].max() >= TELLS)
        above, tells, above_of_those = above + first, tells + some, above_of_those + (first and some)
    told = [one for one in rank.values() if one is not None]
    return {
        "spearman": round(sum(told) / len(told), 3),
        "by_feature": rank,
        "first_above_median": above,
        "telling": tells,
        "first_above_median_of_telling": above_of_those,
    }


def _varies(*values: Tensor) -> bool:
    return all(bool((one != one[0]).any()) for one in values)


def alignment_table(report: Mapping[str, Any]) -> str:
    lines = [
        "| model | maps | cosine | on fit images | zero-shot accuracy | from an isometry | seconds |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    for name, row in report["models"].items():
        for way, found in row["ways"].items():
            lines.append(
                f"| {name} | {way} | {found['cosine']:.3f} | {found['cosine_fit']:.3f} | {found['accuracy']:.3f} "
                f"| {found['orthogonality']:.3f} | {found['seconds']:.1f} |"
            )
    lines += ["", *_accuracies(report), "", _controls(report)]
    return "\n".join(lines)


def _accuracies(report: Mapping[str, Any]) -> list[str]:
    features = list(report["clip_accuracy_by_feature"])
    lines = [f"| held out, CompAlign λ = 1 | {' | '.join(features)} |", f"| --- |{' --: |' * len(features)}"]
    rows = {name: row["ways"][WAYS[-1]]["accuracy_by_feature"] for name, row in report["models"].items() if row["ways"]}
    for name, accuracy in {"the CLIP itself": report["clip_accuracy_by_feature"], **rows}.items():
        lines.append(f"| {name} | {' | '.join(f'{accuracy[feature]:.2f}' for feature in features)} |")
    return lines


def _controls(report: Mapping[str, Any]) -> str:
    rows = [row for row in report["models"].values() if row["ways"]]
    chance = [row["ways"][WAYS[-1]]["cosine_chance"] for row in rows]
    dealt_ = [row["control_dealt"] for row in rows]
    return (
        f"Controls: cosine to the embeddings of other scenes {min(chance):.2f} to {max(chance):.2f}; held-out cosine "
        f"where the embeddings were dealt to the wrong scenes before the fit {min(dealt_):.2f} to {max(dealt_):.2f}; "
        f"accuracy of guessing {report['chance_accuracy']:.2f}, of the CLIP itself {report['clip_accuracy']:.3f}. "
        f"{report['fit_images']} of {report['images']} scenes to fit on."
    )


def scores_table(report: Mapping[str, Any]) -> str:
    heads = " | ".join(
        f"{measure.replace('_', ' ')}: {effect}" for measure in MEASURES for effect in ("accuracy", "margin")
    )
    lines = [
        f"| model | {heads} | first by score above the median head: accuracy | margin |",
        f"| --- |{' --: |' * 8}",
    ]
    for name, row in report["models"].items():
        told = row["scores"]
        ranks = [f"{told[m][e]['spearman']:.2f}" for m in MEASURES for e in ("accuracy", "margin")]
        first = [told["score"][e] for e in ("accuracy", "margin")]
        above = [f"{one['first_above_median_of_telling']} of {one['telling']}" for one in first]
        lines.append(f"| {name} | {' | '.join([*ranks, *above])} |")
    return "\n".join(lines)


def write_table(path: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of this name in a markdown file."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = path.read_text().split(begin)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
