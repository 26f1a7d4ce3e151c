"""What drawn heads add to the final representation: figures, texts, features, images with signed maps, readers.

Every figure is a function of the address. A map is positive at the disc of its probe image and, half as much, negative
in the image's upper left corner, so that an overlay that is shifted, mirrored or of the wrong sign is seen at once.
As in real atlases the low end of an axis is a direction of its own: towards it is positive.

The odd cases: heads of swin's first layer reach the representation through attention alone, and no answer is known
there; pit has neither texts nor features; the last head of vit's first layer has texts but no label; in its last layer
the second text explains most; texts hold markup, accents and a very long one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from drawn_evidence import CLASSES, IMAGES, disc_of

TEXT_POOL = [
    "a photo of vertical stripes",
    "something red",
    "an owl & its <b>face</b>",
    "éclair on a plate",
    "a picture taken from far above with many small things in it, none of which is any larger than a thumb",
    "polka dots",
    "a metal gong",
    "the left half of the picture",
    "two zebras",
    "a dark background",
]
FEATURES = ("colour", "shape", "texture", "weather/light")
TEXTS, SHOWN, READERS = 6, 6, 3
DIRECTIONS = ("axis 0 high", "axis 0 low", "text 0", "text 1", "text 2")


def is_direct(slug: str, layer: int) -> bool:
    return not (slug == "drawn-swin" and layer == 0)


def is_described(slug: str) -> bool:
    """Whether the model's heads have texts and features."""
    return slug != "drawn-pit"


def is_labelled(slug: str, layer: int, head: int, heads: int) -> bool:
    return is_described(slug) and not (layer == 0 and head == heads - 1)


def texts_of(layer: int, head: int) -> list[str]:
    return [TEXT_POOL[(2 * layer + 3 * head + rank) % len(TEXT_POOL)] for rank in range(TEXTS)]


def best_text(slug: str, layer: int) -> int:
    """Rank of the text that explains most."""
    return 1 if (slug, layer) == ("drawn-vit", 2) else 0


def score_of(slug: str, layer: int, head: int, feature: str) -> float:
    rng = np.random.default_rng([11, len(slug), layer, head, len(feature), ord(feature[0])])
    return float(np.clip(rng.normal(0.25, 0.3) + (0.4 if head == FEATURES.index(feature) else 0), -0.9, 0.97))


def head_row(slug: str, layer: int, head: int, heads: int, probe_set: str) -> dict[str, Any]:
    """A row of the table of heads."""
    rng = np.random.default_rng([10, len(slug), layer, head])
    spectrum = np.sort(rng.exponential(1, 12) ** 2)[::-1]
    spectrum = 0.97 * spectrum / spectrum.sum()
    direct, answered = is_direct(slug, layer), slug != "drawn-swin"
    scores = {feature: score_of(slug, layer, head, feature) for feature in FEATURES} if is_described(slug) else {}
    best = max(scores, key=scores.__getitem__) if scores and max(scores.values()) > 0 else None
    labelled = is_labelled(slug, layer, head, heads)
    return {
        "address": f"{slug}/head/{layer}/{head}",
        "slug": slug,
        "layer": layer,
        "head": head,
        "level": "direct" if direct else "through attention",
        "probe_set": probe_set,
        "probe_images": IMAGES,
        "norm": float(rng.lognormal(0, 0.7)),
        "norm_share": float(rng.lognormal(-2.4, 0.7)),
        "variance_share": float(rng.normal(0.03, 0.04)) if direct else None,
        "spectrum": spectrum.tolist(),
        "dimensions": float(1 / (spectrum**2).sum()),
        "axis_classes": [
            {"name": CLASSES[(head + at) % len(CLASSES)], "mean": mean, "images": 20}
            for at, mean in enumerate((2.5, 1.5, 0.5, -0.25, -1.25, -2.25))
        ]
        if answered
        else None,
        "ablation_effect": float(rng.normal(0.012, 0.02)) if answered else None,
        "ablation_se": 0.006 if answered else None,
        "accuracy": 0.93 if answered else None,
        "answered_by": "classifier" if answered else None,
        "ablation_change": float(rng.lognormal(-4, 1)),
        "label": texts_of(layer, head)[best_text(slug, layer)] if labelled else None,
        "texts_explain": 0.71 if is_described(slug) else 0.0,
        "text_pool": "general 0f1e2d3c4b5a6978" if is_described(slug) else "",
        "embedder": "drawn-clip" if is_described(slug) else "",
        "alignment_cosine": 0.83 if is_described(slug) else 0.0,
        "alignment_chance": 0.12 if is_described(slug) else None,
        "alignment_accuracy": 0.88 if is_described(slug) else None,
        "alignment_keeps": 0.94 if is_described(slug) else 0.0,
        "feature": best,
        "feature_score": None if best is None else scores[best],
    }


def text_rows(layer: int, head: int, *, labelled: bool, best: int = 0) -> list[dict[str, Any]]:
    """Rows of head_texts: the one of rank `best` explains most, all together come to 0.71."""
    shares = 0.71 * np.array([0.5, 0.2, 0.12, 0.08, 0.06, 0.04])
    shares[[0, best]] = shares[[best, 0]]
    shares = shares if labelled else np.sort(shares)[::-1] * 0.09 / shares.max()
    return [
        {
            "rank": rank,
            "text": text,
            "explained": float(shares[rank]),
            "cumulative": float(shares[: rank + 1].sum()),
            "deviation": float(np.sqrt(shares[rank])),
        }
        for rank, text in enumerate(texts_of(layer, head))
    ]


def feature_rows(slug: str, heads: tuple[int, ...]) -> list[dict[str, Any]]:
    """Rows of head_features of a model: its heads, and an FFN a layer."""
    rows = []
    for feature in FEATURES:
        own = [_component(slug, layer, head, feature) for layer in range(len(heads)) for head in range(heads[layer])]
        own += [_component(slug, layer, None, feature) for layer in range(len(heads))]
        own.sort(key=lambda row: -row["score"])
        rows += [row | {"rank": rank} for rank, row in enumerate(own)]
    return rows


def _component(slug: str, layer: int, head: int | None, feature: str) -> dict[str, Any]:
    rng = np.random.default_rng([12, len(slug), layer, 99 if head is None else head, len(feature)])
    score = score_of(slug, layer, 0 if head is None else head, feature) * (0.8 if head is None else 1)
    direct, told = is_direct(slug, layer), feature != "weather/light" and slug != "drawn-swin"
    return {
        "slug": slug,
        "component": f"ffn/{layer}" if head is None else f"head/{layer}/{head}",
        "kind": "ffn" if head is None else "head",
        "layer": layer,
        "head": head,
        "level": "direct" if direct or head is None else "through attention",
        "feature": feature,
        "score": score,
        "selectivity": float(rng.random()),
        "variance_share": score * 0.1 if direct or head is None else None,
        "ablation_effect": float(np.clip(0.1 * score + rng.normal(0, 0.02), -1, 1)) if told else None,
        "ablation_margin": float(0.6 * score + rng.normal(0, 0.1)) if told else None,
        "ablation_flips": float(np.clip(0.2 * abs(score) + rng.normal(0, 0.03), 0, 1)),
        "feature_set": "drawn 00ff00ff00ff00ff",
    }


def signed_map(index: int, height: int, width: int) -> np.ndarray:
    """uint8 (height, width): positive at the disc of the image, negative, half as much, at the upper left."""
    top, left = disc_of(index)
    y, x = (np.arange(height)[:, None] + 0.5) / height, (np.arange(width)[None] + 0.5) / width
    bump = np.exp(-((y - top) ** 2 + (x - left) ** 2) / 0.02)
    corner = np.exp(-(y**2 + x**2) / 0.01)
    noise = 0.03 * np.random.default_rng([14, index]).normal(size=(height, width))
    field = bump - 0.5 * corner + noise
    return np.clip(np.rint(128 + 127 * field / np.abs(field).max()), 1, 255).astype(np.uint8)


def example_rows(slug: str, layer: int, head: int, grid: tuple[int, int], probe_set: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng([13, layer, head])
    rows = []
    for direction in DIRECTIONS if is_described(slug) else DIRECTIONS[:2]:
        for rank, index in enumerate(rng.permutation(IMAGES)[:SHOWN].tolist()):
            projection = 1.6 - 0.15 * rank
            rows.append(
                {
                    "direction": direction,
                    "rank": rank,
                    "image": f"{CLASSES[index % len(CLASSES)]}/{index:04d}.jpg",
                    "image_index": index,
                    "probe_set": probe_set,
                    "projection": projection,
                    "map": signed_map(index, *grid).tobytes(),
                    "map_height": grid[0],
                    "map_width": grid[1],
                    "map_scale": projection / 6,
                    "elsewhere": -0.1 * projection,
                }
            )
    return rows


def read_rows(slug: str, widths: tuple[int, ...], heads: tuple[int, ...]) -> list[dict[str, Any]]:
    """Rows of head_reads: three heads of the layer after the neuron's; no head reads the last layer."""
    rows = []
    for layer in range(min(len(widths), len(heads) - 1)):
        for unit in range(widths[layer]):
            for rank in range(min(READERS, heads[layer + 1])):
                head = (unit + 2 * rank) % heads[layer + 1]
                rows.append(
                    {
                        "address": f"{slug}/mlp/{layer}/{unit}",
                        "slug": slug,
                        "layer": layer,
                        "unit": unit,
                        "rank": rank,
                        "reader": f"{slug}/head/{layer + 1}/{head}",
                        "reader_layer": layer + 1,
                        "reader_head": head,
                        "share": 0.4 / (1 + rank) / (1 + unit % 13),
                        "level": "direct",
                    }
                )
    return rows


def head_tables(
    slug: str, widths: tuple[int, ...], heads: tuple[int, ...], grids: list[tuple[int, int]], probe_set: str
) -> dict[str, list[dict[str, Any]]]:
    """Rows of the five tables of a model with `heads` heads a layer, by table; no rows: no such table."""
    made: dict[str, list[dict[str, Any]]] = {"heads": [], "head_texts": [], "head_features": [], "head_examples": []}
    for layer, count in enumerate(heads):
        for head in range(count):
            owner = {"address": f"{slug}/head/{layer}/{head}", "slug": slug, "layer": layer, "head": head}
            made["heads"].append(head_row(slug, layer, head, count, probe_set))
            made["head_examples"] += [owner | row for row in example_rows(slug, layer, head, grids[layer], probe_set)]
            if is_described(slug):
                labelled = is_labelled(slug, layer, head, count)
                made["head_texts"] += [
                    owner | row for row in text_rows(layer, head, labelled=labelled, best=best_text(slug, layer))
                ]
    if is_described(slug):
        made["head_features"] = feature_rows(slug, heads)
    return made | {"head_reads": read_rows(slug, widths, heads)}
