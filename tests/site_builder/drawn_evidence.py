"""What a probe set says of drawn neurons: statistics, examples with maps, labels, effects, counterparts.

Every figure is a function of the address. A probe image carries one bright disc, at a place that follows from its
index, and a map of an example rises exactly there: an overlay that is shifted or mirrored is seen at once. Neurons
whose unit is a multiple of 8 are one concept across models, so they make the Rosetta clusters.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image

PROBE_SET, PROBE_SET_UNFREE = "5e7a11ce5e7a11ce", "0f0f0f0f0f0f0f0f"
IMAGES = 121
SIDE = 112
CLASSES = ("barn owl", "crosswalk", "daisy", "fire truck", "gong", "zebra")
LABELS = (
    "vertical stripes",
    "red disc",
    "owl face",
    "petals of a daisy",
    "crosswalk <b>stripes</b>",
    "metal gong",
    "éclair",
    "fire truck",
    "polka dots",
    "zebra legs",
)
TOP, LOWER = 9, (0.99, 0.9, 0.75, 0.5, 0.25)


def has_label(unit: int) -> bool:
    return unit % 2 == 0 and unit % 17 != 5


def label_of(unit: int) -> str:
    return LABELS[unit // 2 % len(LABELS)]


def disc_of(index: int) -> tuple[float, float]:
    """Centre (y, x) of the disc of a probe image, as shares of its sides."""
    rng = np.random.default_rng([9, index])
    return float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.15, 0.85))


def probe_image(index: int) -> np.ndarray:
    """uint8 (SIDE, SIDE, 3): a textured ground of its class, one disc on it."""
    rng = np.random.default_rng([8, index])
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    angle = index % len(CLASSES) * np.pi / len(CLASSES)
    wave = np.sin(2 * np.pi * (3 + index % 5) * (np.cos(angle) * x + np.sin(angle) * y))
    ground = rng.uniform(60, 150, 3) + 40 * wave[..., None] * rng.uniform(0.2, 1, 3)
    top, left = disc_of(index)
    inside = np.hypot(y - top, x - left) < 0.12
    ground[inside] = np.array([250, 240, 90]) - 60 * rng.uniform(0, 1, 3)
    return np.clip(ground + rng.normal(0, 5, ground.shape), 0, 255).astype(np.uint8)


def probe_rows(probe_set: str, images: int = IMAGES) -> list[dict[str, Any]]:
    """Rows of probe_images: with thumbnails where the licence is free, without them otherwise."""
    free = probe_set == PROBE_SET
    rows = []
    for index in range(images):
        picture = None
        if free:
            buffer = io.BytesIO()
            Image.fromarray(probe_image(index)).save(buffer, "WEBP", quality=75)
            picture = {"bytes": buffer.getvalue(), "path": f"{index}.webp"}
        name = f"{CLASSES[index % len(CLASSES)]}/{index:04d}.jpg"
        rows.append(
            {
                "probe_set": probe_set,
                "index": index,
                "image": name,
                "sha256": hashlib.sha256(name.encode()).hexdigest(),
                "thumbnail": picture,
                "width": 640,
                "height": 480,
                "class": CLASSES[index % len(CLASSES)],
                "caption": "a disc & <i>stripes</i>" if index % 3 == 0 else None,
                "attributes": None,
                "split": "fit" if index % 2 else "test",
                "licence": "CC-BY-4.0" if free else None,
                "source": f"https://example.org/{index}" if free else None,
            }
        )
    return rows


def evidence_row(layer: int, unit: int, probe_set: str) -> dict[str, Any]:
    """Columns of the stage evidence."""
    rng = np.random.default_rng([1, layer, unit])
    silent = unit % 17 == 5
    best = float(rng.lognormal(0.3, 0.5))
    peaks = np.sort(rng.gamma(0.8, best / 6, IMAGES)) * (0 if silent else 1)
    top = max(float(peaks[-1]), 0.0)
    counts, edges = np.histogram(peaks, bins=24, range=(-0.1, max(top, 0.1)))
    mean_max = top / 2.2
    shares = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
    return {
        "unit": unit,
        "probe_set": probe_set,
        "probe_images": IMAGES,
        "token_mean": float(peaks.mean()) / 9,
        "token_std": float(peaks.std()) / 4,
        "token_kurtosis": None if silent else 3 + 20 * float(rng.random()),
        "fraction_active": 0.0 if silent else float(rng.uniform(0.02, 0.4)),
        "fires_on": None if silent else float((peaks > top / 2).mean()),
        "peak_max": top,
        "mean_max": mean_max,
        "peak_quantiles": [float(v) for v in np.quantile(peaks, shares)],
        "mean_quantiles": [float(v) / 2.2 for v in np.quantile(peaks, shares)],
        "histogram": {"low": float(edges[0]), "high": float(edges[-1]), "counts": counts.tolist()},
        "exciting_classes": [
            {"name": name, "mean": top / (2 + at), "images": IMAGES // len(CLASSES)}
            for at, name in enumerate(np.roll(CLASSES, unit)[:5].tolist())
        ],
    }


def judge_row(measured: dict[str, Any], activation: float, peak: float) -> dict[str, Any]:
    """Columns of the stage judge. activation, peak: what the neuron's picture reaches."""
    below = np.searchsorted([0, *measured["mean_quantiles"], measured["mean_max"]], activation)
    return {
        "unit": measured["unit"],
        "percentile": (0.0, 0.0, 1.0, 5.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)[below],
        "ratio_to_best": activation / measured["mean_max"] if measured["mean_max"] > 0 else None,
        "peak_ratio": peak / measured["peak_max"] if measured["peak_max"] > 0 else None,
    }


def label_row(layer: int, unit: int) -> dict[str, Any]:
    """Columns of the stage label: half of the neurons have one, silent neurons nothing at all."""
    rng = np.random.default_rng([2, layer, unit])
    silent, named = unit % 17 == 5, has_label(unit)
    texts = [label_of(unit), "fence", "grille", "plain wall", "sky"] if named else ["fence", "sky", "grass"]
    z = float(rng.uniform(3, 12) if named else rng.uniform(-1, 2))
    auroc = float(rng.uniform(0.72, 0.99) if named else rng.uniform(0.4, 0.6))
    candidates = [
        {"text": text, "score": 0.4 - 0.05 * at, "z": z - 0.8 * at, "auroc": max(0.5, auroc - 0.06 * at)}
        for at, text in enumerate(texts)
    ]
    told = {
        "label_score": 0.4,
        "label_z": z,
        "label_p": 0.001 if named else 0.4,
        "label_q": 0.004 if named else 0.6,
        "label_auroc": auroc,
        "clarity": float(rng.uniform(0.3, 0.9) if named else rng.uniform(0, 0.3)),
        "polysemanticity": float(rng.uniform(0, 0.6)),
        "polysemanticity_p": 0.01 if unit % 5 == 1 else 0.4,
        "redundancy": float(rng.uniform(0.3, 0.97)),
        "twin": f"/mlp/{layer}/{unit + 1 if unit % 2 == 0 else unit - 1}",
    }
    return {
        "unit": unit,
        "label_status": "labelled" if named else "unlabelled",
        "label": texts[0] if named else None,
        **(dict.fromkeys(told) if silent else told),
        "label_view": "crop",
        "label_candidates": [] if silent else candidates,
        "concept_set": "drawn words 0a1b2c3d",
        "embedder": "drawn-clip",
    }


def effect_row(layer: int, unit: int, last: bool) -> dict[str, Any]:
    """Columns of the stage effect: classes for all but layer 0, ablation for every third neuron."""
    rng = np.random.default_rng([3, layer, unit])
    logits = np.sort(rng.normal(0, 1.4, len(CLASSES)))[::-1]
    ablated = unit % 3 == 0
    return {
        "unit": unit,
        "writes_to": None
        if layer == 0
        else [
            {"name": name, "logit": float(v)} for name, v in zip(np.roll(CLASSES, -unit).tolist(), logits, strict=True)
        ],
        "effect_note": "its output passes a pooling that is not linear" if layer == 0 else None,
        "ablation_effect": float(rng.normal(0.05, 0.1)) if ablated else None,
        "ablation_se": 0.012 if ablated else None,
        "ablation_images": 64 if ablated else None,
        "ablation_kind": ("exact" if last else "measured") if ablated else None,
    }


def activation_map(index: int, height: int, width: int) -> np.ndarray:
    """uint8 (height, width): a bump at the image's disc, faint noise elsewhere."""
    rng = np.random.default_rng([4, index, height])
    top, left = disc_of(index)
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / width
    bump = np.exp(-(((y - top) ** 2 + (x - left) ** 2) / 0.02))
    field = bump + 0.04 * rng.random((height, width))
    return np.round(255 * (field - field.min()) / (field.max() - field.min())).astype(np.uint8)


def example_rows(layer: int, unit: int, grid: tuple[int, int], probe_set: str, peak_max: float) -> list[dict[str, Any]]:
    """Rows of neuron_examples of one neuron: the nine strongest, and one near each lower quantile."""
    rng = np.random.default_rng([5, layer, unit])
    chosen = rng.permutation(IMAGES)[: TOP + len(LOWER)].tolist()
    rows = []
    for at, index in enumerate(chosen):
        top = at < TOP
        share = 1 - 0.04 * at if top else LOWER[at - TOP] / 2
        activation = max(peak_max, 0.01) * share
        pixels = activation_map(index, *grid)
        row, column = (int(v) for v in np.unravel_index(int(pixels.argmax()), pixels.shape))
        rows.append(
            {
                "unit": unit,
                "kind": "top" if top else "quantile",
                "rank": at if top else at - TOP,
                "image": f"{CLASSES[index % len(CLASSES)]}/{index:04d}.jpg",
                "image_index": index,
                "probe_set": probe_set,
                "activation": activation,
                "activation_mean": activation / 4,
                "quantile": 1 - (at + 1) / IMAGES if top else LOWER[at - TOP],
                "map": pixels.tobytes(),
                "map_height": grid[0],
                "map_width": grid[1],
                "map_low": -0.05 * activation,
                "map_high": activation,
                "row": row,
                "column": column,
                "scale": 0,
                "box": {
                    "left": column / grid[1],
                    "top": row / grid[0],
                    "right": (column + 1) / grid[1],
                    "bottom": (row + 1) / grid[0],
                },
            }
        )
    return rows


def match_rows(
    slug: str, layer: int, unit: int, widths: dict[str, tuple[int, ...]], ranks: int = 2, concepts: int = 40
) -> list[dict[str, Any]]:
    """Rows of neuron_matches of one neuron: so many partners in every other model, one near-duplicate of its own.

    concepts: units below it, as far as both layers are wide, may be one concept across models.
    """
    rows = []
    for partner in sorted(widths):
        there = min(layer, len(widths[partner]) - 1)
        shared = unit % 8 == 0 and unit < min(concepts, widths[partner][there]) and layer == there
        for rank in range(1 if partner == slug else ranks):
            other = (unit + (7 if partner == slug else 0) + 11 * rank) % widths[partner][there]
            correlation = (0.86 if shared else 0.41) - 0.2 * rank - 0.001 * (unit % 400)
            rows.append(
                {
                    "unit": unit,
                    "partner_slug": partner,
                    "rank": rank,
                    "partner": f"{partner}/mlp/{there}/{other}",
                    "partner_layer": there,
                    "partner_unit": other,
                    "correlation": correlation,
                    "mutual": partner != slug and shared and rank == 0,
                    "null_correlation": 0.3,
                    "threshold": 0.35,
                    "significant": correlation > 0.35,
                    "probe_set": PROBE_SET,
                }
            )
    return rows
