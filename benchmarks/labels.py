"""Labels on the zoo, where what a neuron is selective for is known.

python -m benchmarks.labels --out docs/benchmarks/labels.json --table docs/labels.md

Truth is measured, not assumed: on scenes that no label has seen, the attribute value (of 40) that a neuron's peak tells
apart best, by AUROC. A label is right if it is the prompt of that value. Beside each way to label stand chance (a label
drawn evenly, and the commonest truth for all), and the upper bound: the same function with the true attributes in the
place of CLIP's similarities. Control: the same with embeddings dealt to the wrong images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import description
from pipeline.hooks.activations import all_ffn_activations
from pipeline.images.windows import VIEWS, windows_of_grid
from pipeline.label.concepts import read_concepts
from pipeline.label.embedder import load_embedder
from pipeline.label.labels import LabelSettings, LayerLabels, better_view, label_layer
from pipeline.label.significance import midranks
from pipeline.models import ModelRequest, load
from pipeline.zoo import ZOO
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, scenes

PROBE, TRUTH = 2000, 4000
"""Scenes that labels are made on, and further ones that say what neurons are selective for."""

CLEAR = 0.8
"""AUROC from which on a neuron's selectivity counts as clear."""


@dataclass(frozen=True)
class Layer:
    """peaks, windows: (PROBE, neurons); truth: (neurons,) index of the value; strength, information: of it."""

    model: str
    layer: int
    peaks: Tensor
    windows: Tensor
    truth: Tensor
    strength: Tensor
    by_information: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(ZOO))
    parser.add_argument("--functions", default="soft_wpmi,rank_reorder,cosine")
    parser.add_argument("--permutations", type=int, default=200)
    parser.add_argument("--out")
    parser.add_argument("--table", help="markdown file whose part between the benchmark's marks is replaced")
    parser.add_argument("--rendered", help="write the table of this earlier report and measure nothing")
    asked = parser.parse_args()
    if asked.rendered:
        write_table(Path(asked.table), table(json.loads(Path(asked.rendered).read_text())))
        return
    torch.set_num_threads(1)
    begin = time.perf_counter()
    report: dict[str, Any] = {
        "benchmark": "labels",
        "machine": description(),
        **measure(asked.models.split(","), asked.functions.split(","), asked.permutations),
    }
    report["seconds"] = round(time.perf_counter() - begin)
    print(json.dumps(report, indent=1))
    if asked.out:
        Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")
    if asked.table:
        write_table(Path(asked.table), table(report))


def measure(models: list[str], functions: list[str], permutations: int) -> dict[str, object]:
    probe = scenes(HELD_OUT_SEED, range(PROBE))
    values = one_hot(probe.labels)
    fit = torch.tensor([hashlib.sha256(image.tobytes()).digest()[0] % 2 == 0 for image in probe.images])
    layers = [layer for model in models for layer in measured(model, pictures(probe.images))]
    concepts = read_concepts("zoo")
    embedder = load_embedder(ModelRequest("zoo/clip"))
    by_clip = embedder.embed_views(pictures(probe.images)) @ embedder.texts(concepts.prompts).T
    by_truth = values.float()[:, None, :].expand(-1, VIEWS, -1).contiguous()
    dealt = by_clip[torch.from_numpy(np.random.default_rng(0).permutation(PROBE))]

    def labelled(similarities: Tensor, settings: LabelSettings) -> list[LayerLabels]:
        return [label_layer(x.peaks, x.windows, similarities, fit, concepts.texts, settings) for x in layers]

    rows = []
    for name, calibrated in product(functions, (False, True)):
        count = min(permutations, 30) if name == "rank_reorder" else permutations  # it is twenty times slower
        base = LabelSettings(similarity=name, calibrated=calibrated, permutations=count)
        views = [replace(base, view=view) for view in ("crop", "image")]
        real, control = ([labelled(s, v) for v in views] for s in (by_clip, dealt))
        for view, found, shuffled in zip(("crop", "image"), real, control, strict=True):
            rows.append(row(base, view, found, shuffled, layers))
        both = [[better_view(c, i) for c, i in zip(*pair, strict=True)] for pair in (real, control)]
        rows.append(row(base, "both", both[0], both[1], layers))
        bound = summary(labelled(by_truth, views[1]), layers)
        rows.append({"similarity": name, "calibrated": calibrated, "view": "true attributes", **bound})
        print(json.dumps([{k: v for k, v in r.items() if "_by_" not in k} for r in rows[-4:]]), file=sys.stderr)
    by_seed = [labelled(by_clip, LabelSettings(permutations=permutations, seed=seed)) for seed in (0, 1)]
    truth = torch.cat([x.truth for x in layers])
    strength = torch.cat([x.strength for x in layers])
    return {
        "probe_images": PROBE,
        "fit_images": int(fit.sum()),
        "neurons": len(truth),
        "permutations": permutations,
        "neurons_clear": round(float((strength >= CLEAR).float().mean()), 4),
        "truth_strength_median": round(float(strength.median()), 4),
        "truth_auroc_equals_mutual_information": round(
            float((truth == torch.cat([x.by_information for x in layers])).float().mean()), 4
        ),
        "chance_even": round(1 / values.shape[1], 4),
        "chance_commonest": round(float(truth.bincount().max() / len(truth)), 4),
        "truth_by_attribute": by_attribute(truth),
        "luck": luck(*by_seed),
        "rows": rows,
    }


def pictures(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def one_hot(labels: np.ndarray) -> Tensor:
    """bool (scenes, 40): which values are true of a scene, attributes in their order."""
    columns = [labels[:, [i]] == np.arange(len(values)) for i, values in enumerate(ATTRIBUTES.values())]
    return torch.from_numpy(np.concatenate(columns, axis=1))


def measured(model: str, probe: Tensor) -> list[Layer]:
    loaded = load(ModelRequest(f"zoo/{model}"))
    more = scenes(HELD_OUT_SEED, range(PROBE, PROBE + TRUTH))
    truth = one_hot(more.labels)
    on_probe, on_more = peaks_of(loaded, probe), peaks_of(loaded, pictures(more.images))
    found = []
    for layer, (peaks, windows) in on_probe.items():
        fresh = on_more[layer][0]
        strength, index = areas_of(fresh, truth).max(1)
        found.append(Layer(model, layer, peaks, windows, index, strength, information(fresh, truth).argmax(1)))
    return found


def areas_of(peaks: Tensor, truth: Tensor) -> Tensor:
    """AUROC of each neuron's peak for each value, ranks taken once: (neurons, 40)."""
    rank, ones = midranks(peaks.T), truth.double().sum(0)
    return (rank @ truth.double() - ones * (ones + 1) / 2) / (ones * (len(truth) - ones))


@torch.inference_mode()
def peaks_of(model, x01: Tensor) -> dict[int, tuple[Tensor, Tensor]]:  # type: ignore[no-untyped-def]
    """layer -> peak and window of its place, (images, neurons) each, over patches and scales."""
    found: dict[int, list[tuple[Tensor, Tensor]]] = {}
    sites = {site.layer: site for site in model.description.ffn_sites}
    for part in x01.split(100):
        for layer, calls in all_ffn_activations(model, model.normalise(part)).items():
            tables = [torch.from_numpy(windows_of_grid(grid)) for grid in sites[layer].grids]
            place = torch.cat(tables)  # tokens of all scales side by side
            peak, token = torch.cat(calls, dim=1).max(dim=1)
            found.setdefault(layer, []).append((peak, place[token]))
    return {layer: (torch.cat([p for p, _ in v]), torch.cat([w for _, w in v])) for layer, v in found.items()}


def information(peaks: Tensor, truth: Tensor, bins: int = 10) -> Tensor:
    """Mutual information in bits of a neuron's peak, in ten bins of equal count, with each value: (neurons, 40)."""
    edges = peaks.quantile(torch.arange(1, bins) / bins, dim=0)
    which = (peaks[None] > edges[:, None]).sum(0)  # (images, neurons)
    total = torch.zeros(peaks.shape[1], truth.shape[1])
    share = truth.float().mean(0)
    for b in range(bins):
        here = (which == b).float()  # (images, neurons)
        p_bin = here.mean(0)[:, None]
        p_both = here.T @ truth.float() / len(truth)
        for joint, marginal in ((p_both, share), (p_bin - p_both, 1 - share)):
            total += torch.where(joint > 0, joint * (joint / (p_bin * marginal)).log2(), 0.0)
    return total


def luck(one: list[LayerLabels], two: list[LayerLabels]) -> dict[str, float]:
    """What changes where nothing but the seed of the shuffles does."""

    def share(name: str) -> float:
        changed = [getattr(a, name) != getattr(b, name) for a, b in zip(one, two, strict=True)]
        return round(float(torch.cat(changed).float().mean()), 5)

    standing = [torch.cat([labels.standing for labels in found]) for found in (one, two)]
    off = ((standing[0] - standing[1]) / standing[0]).abs()
    return {
        "best_text_changes": share("text"),
        "labelled_changes": share("labelled"),
        "standing_median_relative_change": round(float(off.nanmedian()), 4),
    }


def summary(found: list[LayerLabels], layers: list[Layer]) -> dict[str, object]:
    text, labelled = torch.cat([x.text for x in found]), torch.cat([x.labelled for x in found])
    truth, strength = torch.cat([x.truth for x in layers]), torch.cat([x.strength for x in layers])
    top5 = (torch.cat([x.candidates for x in found]) == truth[:, None]).any(1)
    right, clear = text == truth, strength >= CLEAR

    def share(of: Tensor, among: Tensor) -> float | None:
        return round(float(of[among].float().mean()), 4) if among.any() else None

    every = torch.ones_like(right)
    return {
        "top1": share(right, every),
        "top5": share(top5, every),
        "top1_clear": share(right, clear),
        "significant": share(torch.cat([x.q for x in found]) <= 0.05, every),
        "labelled": share(labelled, every),
        "labelled_clear": share(labelled, clear),
        "top1_labelled": share(right, labelled),
        "auroc_median_labelled": share(torch.cat([x.auroc for x in found]), labelled),
    }


def row(
    base: LabelSettings, view: str, found: list[LayerLabels], shuffled: list[LayerLabels], layers: list[Layer]
) -> dict[str, object]:
    control = summary(shuffled, layers)
    by_model = {
        model: summary(
            [f for f, x in zip(found, layers, strict=True) if x.model == model], [x for x in layers if x.model == model]
        )
        for model in dict.fromkeys(x.model for x in layers)
    }
    return {
        "similarity": base.similarity,
        "calibrated": base.calibrated,
        "permutations": base.permutations,
        "view": view,
        **summary(found, layers),
        "shuffled_significant": control["significant"],
        "shuffled_labelled": control["labelled"],
        "shuffled_top1": control["top1"],
        "top1_by_attribute": right_by_attribute(found, layers),
        "top1_by_model": {model: value["top1"] for model, value in by_model.items()},
        "labelled_by_model": {model: value["labelled"] for model, value in by_model.items()},
    }


def right_by_attribute(found: list[LayerLabels], layers: list[Layer]) -> dict[str, float]:
    """Top-1 of the neurons whose truth is a value of each attribute."""
    text, truth = torch.cat([x.text for x in found]), torch.cat([x.truth for x in layers])
    owner = torch.tensor([i for i, values in enumerate(ATTRIBUTES.values()) for _ in values])[truth]
    return {name: round(float((text == truth)[owner == i].float().mean()), 4) for i, name in enumerate(ATTRIBUTES)}


def by_attribute(truth: Tensor) -> dict[str, int]:
    """How many neurons are most selective for a value of each attribute."""
    owner = [name for name, values in ATTRIBUTES.items() for _ in values]
    return {name: sum(owner[i] == name for i in truth.tolist()) for name in ATTRIBUTES}


MARKS = ("<!-- benchmark: begin -->", "<!-- benchmark: end -->")


def table(report: dict[str, Any]) -> str:
    """Markdown: the rows, best last column first, with what they are to be compared with."""
    head = ("function", "view", "top-1", "top-5", "top-1, clear", "significant", "labelled", "top-1, labelled")
    lines = ["| " + " | ".join((*head, "control")) + " |", "| --- | --- |" + " ---: |" * 7]
    for r in report["rows"]:
        name = f"`{r['similarity']}`" + (", calibrated" if r["calibrated"] else "")
        figures = (r["top1"], r["top5"], r["top1_clear"], r["significant"], r["labelled"], r["top1_labelled"])
        control = percent(r["shuffled_significant"]) if "shuffled_significant" in r else ""
        lines.append("| " + " | ".join((name, r["view"], *map(percent, figures), control)) + " |")
    even, commonest = report["chance_even"], report["chance_commonest"]
    lines.append(f"| chance: even, the commonest | | {percent(even)}, {percent(commonest)} |" + " |" * 6)
    return "\n".join(lines)


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def write_table(path: Path, text: str) -> None:
    before, rest = path.read_text().split(MARKS[0])
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
