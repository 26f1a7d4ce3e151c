"""Small atlases of which it is known what differs: strongest images, correlations, labels and texts as given."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from atlas_schema.columns import Table
from atlas_schema.parquet import encode
from atlas_schema.rows import rows_to_table
from atlas_schema.shards import shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import HEAD_TEXTS, HEADS, NEURON_EXAMPLES, NEURON_MATCHES, NEURONS, TABLES
from tests.atlas_schema.made_atlas import PROBE_SET, PROVENANCE, made_value, model_row, site_rows, webp

WIDTHS, STRONGEST, IMAGES = (40, 24), 9, 300
HEAD_COUNT = 3
Row = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """One model. images: of each layer (width, STRONGEST); maps: of each layer (width, places), where they are matched.

    neurons: columns of single rows that differ, by (layer, unit); None: the atlas lacks it. heads: columns of all heads
    that differ. texts: of each head.
    """

    images: list[np.ndarray]
    maps: list[np.ndarray]
    neurons: dict[tuple[int, int], Row | None] = field(default_factory=dict)
    heads: Row = field(default_factory=dict)
    texts: list[list[str]] = field(default_factory=lambda: [[f"text {h}{n}" for n in range(6)] for h in range(3)])
    model: Row = field(default_factory=dict)

    def permuted(self, orders: list[np.ndarray]) -> Made:
        """Unit i of a layer is what unit orders[layer][i] was."""
        images, maps = (
            [one[order] for one, order in zip(all_, orders, strict=True)] for all_ in (self.images, self.maps)
        )
        return replace(self, images=images, maps=maps)


def made(seed: int) -> Made:
    """A model whose neurons have little in common."""
    rng = np.random.default_rng(seed)
    images = [np.stack([rng.permutation(IMAGES)[:STRONGEST] for _ in range(width)]) for width in WIDTHS]
    return Made(images, [rng.normal(size=(width, 200)) for width in WIDTHS], model={"fingerprint": f"{seed:064x}"})


def orders(seed: int = 1) -> list[np.ndarray]:
    """Permutations that leave no neuron where it is."""
    rng = np.random.default_rng(seed)
    found = []
    for width in WIDTHS:
        circle = rng.permutation(width)
        order = np.empty(width, dtype=int)
        order[circle] = np.roll(circle, 1)
        found.append(order)
    return found


def write_model(store: Store, slug: str, model: Made, *, tables: tuple[str, ...] = ("examples", "heads")) -> None:
    """A model with its neurons' facts, strongest images and heads."""
    write_rows(store, "models", slug, [model_row(WIDTHS, slug, **model.model)], provenance=PROVENANCE)
    write_rows(store, "sites", slug, site_rows(WIDTHS, slug), provenance=PROVENANCE)
    for layer, width in enumerate(WIDTHS):
        facts = [(unit, model.neurons.get((layer, unit), {})) for unit in range(width)]
        rows = [_neuron(slug, layer, unit) | own for unit, own in facts if own is not None]
        _write(store, NEURONS, slug, layer, rows)
        if "examples" in tables:
            _write(store, NEURON_EXAMPLES, slug, layer, _examples(slug, layer, model.images[layer]))
    if "heads" in tables:
        heads = [
            _row(HEADS, {"slug": slug, "layer": 0, "head": head, "address": f"{slug}/head/0/{head}", **model.heads})
            for head in range(HEAD_COUNT)
        ]
        texts = [
            _row(HEAD_TEXTS, {"slug": slug, "layer": 0, "head": head, "rank": rank, "text": text})
            for head in range(HEAD_COUNT)
            for rank, text in enumerate(model.texts[head])
        ]
        write_rows(store, "heads", slug, heads, provenance=PROVENANCE)
        write_rows(store, "head_texts", slug, texts, provenance=PROVENANCE)


def write_matches(store: Store, models: dict[str, Made], partners: int = 5) -> None:
    """neuron_matches of all pairs of some models, their own included, from the correlations of their maps."""
    edges = np.concatenate([[0], np.cumsum(WIDTHS)])
    for slug, model in models.items():
        rows: list[list[Row]] = [[] for _ in WIDTHS]
        own = np.concatenate(model.maps)
        for other, there in models.items():
            correlation = np.corrcoef(own, np.concatenate(there.maps))[: len(own), len(own) :]
            if other == slug:
                np.fill_diagonal(correlation, -np.inf)
            for neuron, best in enumerate(np.argsort(-correlation, axis=1)[:, :partners]):
                layer = int(np.searchsorted(edges, neuron, side="right")) - 1
                for rank, partner in enumerate(best.tolist()):
                    layer_there = int(np.searchsorted(edges, partner, side="right")) - 1
                    unit, unit_there = neuron - int(edges[layer]), partner - int(edges[layer_there])
                    given = {
                        "address": f"{slug}/mlp/{layer}/{unit}",
                        "slug": slug,
                        "layer": layer,
                        "unit": unit,
                        "partner_slug": other,
                        "rank": rank,
                        "partner": f"{other}/mlp/{layer_there}/{unit_there}",
                        "partner_layer": layer_there,
                        "partner_unit": unit_there,
                        "correlation": float(np.clip(correlation[neuron, partner], -1, 1)),
                        "probe_set": PROBE_SET,
                    }
                    rows[layer].append(_row(NEURON_MATCHES, given))
        for layer, of_layer in enumerate(rows):
            _write(store, NEURON_MATCHES, slug, layer, of_layer)


def _neuron(slug: str, layer: int, unit: int) -> Row:
    return {
        **_row(NEURONS, {}, {"image"}),
        "address": f"{slug}/mlp/{layer}/{unit}",
        "slug": slug,
        "layer": layer,
        "unit": unit,
        "probe_set": PROBE_SET,
        "token_std": 1.0,
        "fires_on": 0.1,
        "label": f"label {layer} {unit}",
        "label_status": "labelled",
        "concept_set": "made",
        "embedder": "zoo-clip",
        "status": "active",
        "status_reason": None,
        "image": {"bytes": webp(0), "path": None},
    }


def _examples(slug: str, layer: int, images: np.ndarray) -> list[Row]:
    return [
        _row(
            NEURON_EXAMPLES,
            {
                "address": f"{slug}/mlp/{layer}/{unit}",
                "slug": slug,
                "layer": layer,
                "unit": unit,
                "kind": kind,
                "rank": rank,
                "image_index": int(image),
                "probe_set": PROBE_SET,
            },
        )
        for unit, own in enumerate(images)
        for kind, chosen in (("quantile", own[:1] * 0), ("top", own))
        for rank, image in enumerate(chosen)
    ]


def _row(table: Table, given: Row, without: Collection[str] = ()) -> Row:
    """A plain value in every column that is not given."""
    return {name: value for name, value in _plain(table.name).items() if name not in without} | given


@cache
def _plain(name: str) -> Row:
    return {column.name: made_value(column, 1) for column in TABLES[name].columns}


def _write(store: Store, table: Table, slug: str, layer: int, rows: list[Row]) -> None:
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in table.key))
    data = rows_to_table(table.columns, table.schema(), ordered)
    store.replace(shard_path(table, slug, layer, len(WIDTHS)), encode(table, data, {**PROVENANCE, "slug": slug}))
