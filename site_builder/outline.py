"""An atlas in outline: its models, their sites, the layers that have neurons, labels, probe sets.

It holds what several sections of the site need, read once. Of a layer's neurons, units and labels are read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from atlas_schema.read import Atlas
from atlas_schema.shards import shard_path
from atlas_schema.tables import NEURONS

#: (slug, layer, unit)
Neuron = tuple[str, int, int]


@dataclass(frozen=True)
class Layer:
    """A layer of which the atlas has neurons."""

    slug: str
    layer: int
    layers: int  # FFN sites of the model: with it every table of a layer has its path
    units: tuple[int, ...]  # ascending

    @property
    def key(self) -> tuple[str, int]:
        return self.slug, self.layer

    @property
    def shard(self) -> str:
        """Path of its neurons in the dataset."""
        return shard_path(NEURONS, self.slug, self.layer, self.layers)


@dataclass(frozen=True)
class Outline:
    """An atlas, and what every section may know of it."""

    atlas: Atlas
    models: list[dict[str, Any]]  # rows of the table, by slug
    sites: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # FFN sites by slug, from the input on
    attention: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # attention sites, likewise
    layers: list[Layer] = field(default_factory=list)  # by model, from the input on
    labels: dict[Neuron, str] = field(default_factory=dict)  # of the neurons that have one
    probe_sets: frozenset[str] = frozenset()  # hashes of those whose images the atlas lists

    @cached_property
    def label_digests(self) -> dict[str, bytes]:
        """What stands for all labels of a model, by slug: for names of files that speak of other neurons."""
        found = {slug: hashlib.sha256() for slug in self.slugs}
        for (slug, layer, unit), text in self.labels.items():
            found[slug].update(f"{layer}/{unit} {len(text)} {text}".encode())
        return {slug: digest.digest() for slug, digest in found.items()}

    @property
    def slugs(self) -> list[str]:
        """Slugs of the models, in the order of the manifest."""
        return [model["slug"] for model in self.models]


def outline_of(atlas: Atlas) -> Outline:
    """The outline of an atlas; no models where there is none. Raises ShardCorrupt."""
    models = atlas.models()
    both = {model["slug"]: atlas.sites(model["slug"]) for model in models}
    sites = {slug: _of_kind(rows, "ffn") for slug, rows in both.items()}
    layers: list[Layer] = []
    labels: dict[Neuron, str] = {}
    for slug, own in sites.items():
        for layer in atlas.layers(slug):
            rows = atlas.neurons(slug, layer, ["unit", "label"])
            units = rows["unit"].to_pylist() if rows is not None else []
            if rows is not None and units:
                layers.append(Layer(slug, layer, len(own), tuple(units)))
                told = zip(units, rows["label"].to_pylist(), strict=True)
                labels |= {(slug, layer, unit): text for unit, text in told if text}
    attention = {slug: _of_kind(rows, "attention") for slug, rows in both.items()}
    return Outline(atlas, models, sites, attention, layers, labels, frozenset(atlas.probe_sets()))


def _of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The FFN or the attention sites of a model, from the input to the output."""
    return sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["layer"])
