"""Counterparts across the zoo: how many neurons have one, by layer, and what the cross-moments cost.

    python -m benchmarks.matches --images 600 --out docs/benchmarks/matches.json

Pairs are of models that were trained independently, from other seeds of weights and in other orders of pictures. The
control is a network of the same architecture that was never trained. "Shuffled" columns are the same figures when the
second model sees other images (the null).

Cost: the update of cross-moments against a bare matrix product of the same size, in turns, and from it the time for
two ViT-B (36,864 neurons each) on 1,000 images at 7 x 7 cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.machine import description
from pipeline.match.counterparts import (
    Counterparts,
    MatchResult,
    MatchSettings,
    best_partners,
    common_maps,
    derangement,
    join,
    neuron_at,
    neuron_index,
)
from pipeline.match.cross_moments import CrossMoments
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.zoo import ZOO
from pipeline.zoo.train import pixels
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, labels_for, scenes
from site_builder.clusters import Cluster, Pair, rosetta_clusters

SHOWN = (("zoo-vit", "zoo-deit"), ("zoo-vit", "zoo-swin"), ("zoo-vit", "zoo-vit--random"))
VIT_B = 36_864
BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=1536, help="size of the block that is timed: rows x 4 rows")
    parser.add_argument("--out")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    requests = [ModelRequest(f"zoo/{name}") for name in ZOO] + [ModelRequest("zoo/vit", random_weights=True)]
    models = {model.description.slug: model for model in map(load, requests)}
    report: dict[str, object] = {
        "benchmark": "matches",
        "machine": description(),
        "images": asked.images,
        "grid": MatchSettings.grid,
    }
    report["cost"] = cost(asked.rows)
    maps = {slug: maps_of(model, asked.images) for slug, model in models.items()}
    partner = derangement([str(i) for i in range(asked.images)])
    matches = {}
    rows: list[dict[str, object]] = []
    for one, other in combinations(models, 2):
        if "--random" not in other or (one, other) in SHOWN:
            true, null = moments(maps[one], maps[other], partner)
            match = matches[one, other] = join([best_partners(true, null)])
            shuffled = join([best_partners(null, null)])
            rows.append(row(one, other, match, shuffled, models))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    report["pairs"] = rows
    trained = {pair: match for pair, match in matches.items() if "--random" not in pair[1]}
    report["clusters"] = found_clusters(trained, models, maps)
    report["grids"] = by_grid(models["zoo-vit"], models["zoo-deit"], asked.images, partner)
    text = json.dumps(report, indent=1)
    if asked.out:
        Path(asked.out).write_text(text + "\n")
    print(text)


@torch.inference_mode()
def maps_of(model: LoadedModel, images: int, grid: tuple[int, int] = MatchSettings.grid) -> Tensor:
    """(images, cells, neurons): all maps of a small model, kept for all of its pairs."""
    batches = (range(start, min(start + BATCH, images)) for start in range(0, images, BATCH))
    parts = [
        common_maps(model, model.normalise(pixels(scenes(HELD_OUT_SEED, batch))), grid).unflatten(0, (len(batch), -1))
        for batch in batches
    ]
    return torch.cat(parts)


def moments(x: Tensor, y: Tensor, partner: np.ndarray) -> tuple[CrossMoments, CrossMoments]:
    true, null = (CrossMoments(x.shape[2], y.shape[2]) for _ in range(2))
    shuffled = torch.from_numpy(partner)
    for some in torch.arange(len(x)).split(BATCH):
        true.update(x[some].flatten(0, 1), y[some].flatten(0, 1))
        null.update(x[some].flatten(0, 1), y[shuffled[some]].flatten(0, 1))
    return true, null


def row(
    one: str, other: str, match: MatchResult, shuffled: MatchResult, models: dict[str, LoadedModel]
) -> dict[str, object]:
    found = {"first": one, "second": other, **shares(match.first, shuffled.first, slice(None))}
    if (one, other) in SHOWN:
        found["layers"] = []
        start = 0
        for site in models[one].description.ffn_sites:
            here = slice(start, start + site.width)
            start += site.width
            partners = match.first.partner[here, 0]
            layers = [neuron_at(models[other].description, int(p))[0] for p in partners[partners >= 0]]
            found["layers"].append(
                {
                    "layer": site.layer,
                    **shares(match.first, shuffled.first, here),
                    "layer_of_partner_median": float(np.median(layers)),
                }
            )
    return found


def shares(side: Counterparts, shuffled: Counterparts, here: slice) -> dict[str, object]:
    best = side.correlation[here, 0]
    over = side.significant[here, 0]
    return {
        "neurons": len(best),
        "correlation_median": round(float(np.median(best)), 3),
        "null_median": round(float(np.median(side.null_best[here])), 3),
        "null_threshold": round(side.null_threshold, 3),
        "share_significant": round(float(over.mean()), 3),
        "share_mutual": round(float(side.mutual[here].mean()), 3),
        "share_mutual_significant": round(float((side.mutual[here] & over).mean()), 3),
        "share_mutual_shuffled": round(float(shuffled.mutual[here].mean()), 3),
        "share_mutual_significant_shuffled": round(
            float((shuffled.mutual[here] & (shuffled.correlation[here, 0] > side.null_threshold)).mean()), 3
        ),
    }


def found_clusters(
    matches: dict[tuple[str, str], MatchResult], models: dict[str, LoadedModel], maps: dict[str, Tensor]
) -> dict[str, object]:
    found = rosetta_clusters(mutual_pairs(matches, models))
    sizes = np.bincount([len(cluster.members) for cluster in found], minlength=len(ZOO) + 1)
    labels = labels_for(HELD_OUT_SEED, range(len(next(iter(maps.values())))))
    largest = []
    agree = []
    for cluster in found:
        meant = [
            selectivity(maps[slug][:, :, neuron_index(models[slug].description, layer, unit)].amax(1).numpy(), labels)
            for slug, layer, unit in cluster.members
        ]
        names = [f"{slug}/mlp/{layer}/{unit}" for slug, layer, unit in cluster.members]
        agree.append(len({attribute for attribute, _, _ in meant}) == 1)
        neurons = [
            f"{name}: {attribute} {value} {share:.2f}"
            for name, (attribute, value, share) in zip(names, meant, strict=True)
        ]
        largest.append({"correlation": round(-cluster.rank[1], 3), "neurons": neurons})
    return {
        "by_size": {size: int(count) for size, count in enumerate(sizes) if size >= 3},
        "share_with_one_attribute": round(float(np.mean(agree)), 3),
        "share_with_one_attribute_by_chance": round(by_chance(found, maps, labels), 3),
        "largest": largest[:21],
    }


def mutual_pairs(matches: dict[tuple[str, str], MatchResult], models: dict[str, LoadedModel]) -> Iterator[Pair]:
    """The significant mutual-best pairs of all comparisons."""
    for (one, other), match in matches.items():
        side = match.first
        for index in np.flatnonzero(side.mutual & side.significant[:, 0]).tolist():
            first = (one, *neuron_at(models[one].description, index))
            second = (other, *neuron_at(models[other].description, int(side.partner[index, 0])))
            yield Pair(first, second, float(side.correlation[index, 0]), float(side.null_best[index]))


def by_chance(found: list[Cluster], maps: dict[str, Tensor], labels: np.ndarray) -> float:
    """The same share for clusters of random neurons of the same models."""
    rng = np.random.default_rng(0)
    agree = []
    for cluster in found:
        drawn = [(slug, int(rng.integers(maps[slug].shape[2]))) for slug, _, _ in cluster.members]
        agree.append(len({selectivity(maps[slug][:, :, i].amax(1).numpy(), labels)[0] for slug, i in drawn}) == 1)
    return float(np.mean(agree))


def selectivity(peaks: np.ndarray, labels: np.ndarray) -> tuple[str, str, float]:
    """The attribute that explains most of the variance of a neuron's peaks, its favourite value, and the share."""
    best = ("", "", -1.0)
    spread = peaks.var() or 1.0
    for column, (attribute, values) in enumerate(ATTRIBUTES.items()):
        groups = [peaks[labels[:, column] == value] for value in range(len(values))]
        between = sum(len(group) * (group.mean() - peaks.mean()) ** 2 for group in groups) / len(peaks)
        if between / spread > best[2]:
            best = (attribute, values[int(np.argmax([group.mean() for group in groups]))], float(between / spread))
    return best


def by_grid(first: LoadedModel, second: LoadedModel, images: int, partner: np.ndarray) -> list[dict[str, object]]:
    rows = []
    for side in (1, 4, 7, 8, 16):
        maps = [maps_of(model, images, (side, side)) for model in (first, second)]
        true, null = moments(*maps, partner)
        match, shuffled = join([best_partners(true, null)]), join([best_partners(null, null)])
        rows.append({"grid": side, **shares(match.first, shuffled.first, slice(None))})
    return rows


def cost(width: int, repeats: int = 5) -> dict[str, object]:
    """Seconds per GFLOP of an update and of a bare product of the same size, in turns; the better half of each."""
    generator = torch.Generator().manual_seed(0)
    samples, columns = 16 * 49, 4 * width
    x, y = torch.randn(samples, width, generator=generator), torch.randn(samples, columns, generator=generator)
    gflop = 2 * samples * width * columns / 1e9
    kept = CrossMoments(width, columns)
    seconds: dict[str, list[float]] = {"update": [], "product": [], "search": []}
    for _ in range(repeats):
        for name, act in (
            ("update", lambda: kept.update(x, y)),
            ("product", lambda: torch.mm(x.T, y)),
            ("search", lambda: best_partners(kept, kept)),
        ):
            began = time.perf_counter()
            act()
            seconds[name].append(time.perf_counter() - began)
    best = {name: float(np.median(sorted(times)[: repeats // 2 + 1])) for name, times in seconds.items()}
    total = 2 * 2 * 49_000 * VIT_B**2 / 1e9  # GFLOP, true and shuffled
    return {
        "block": [samples, width, columns],
        "update_seconds_per_gflop": best["update"] / gflop,
        "product_seconds_per_gflop": best["product"] / gflop,
        "update_to_product": round(best["update"] / best["product"], 3),
        "search_seconds_per_million_pairs": best["search"] / (width * columns / 1e6),
        "two_vit_b": {
            "images": 1000,
            "tflop": round(total / 1e3, 1),
            "hours_on_this_machine": round(best["update"] / gflop * total / 3600, 2),
            "search_minutes": round(best["search"] / (width * columns) * VIT_B**2 / 60, 2),
            "gigabytes_in_one_block": round(2 * 4 * VIT_B**2 / 1e9, 1),
            "gigabytes_layer_by_layer": round(2 * 4 * VIT_B * VIT_B / 12 / 1e9, 2),
        },
    }


if __name__ == "__main__":
    main()
