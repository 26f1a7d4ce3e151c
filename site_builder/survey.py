"""What an atlas holds, before its pictures are read: models, sites, layers with their units and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from atlas_schema.read import Atlas
from atlas_schema.shards import shard_path
from atlas_schema.tables import NEURONS
from site_builder.sprites import THUMB


@dataclass(frozen=True)
class LayerSource:
    """A layer of the dataset that has neurons."""

    slug: str
    layer: int
    shard: str  # path in the dataset
    units: tuple[int, ...]  # ascending
    picture_bytes: int  # all its pictures together
    thumb_side: int  # pixels of a thumbnail


@dataclass(frozen=True)
class Survey:
    models: list[dict[str, Any]]
    sites: dict[str, list[dict[str, Any]]]  # FFN sites by slug, in the order of layers
    layers: list[LayerSource]


def survey(atlas: Atlas) -> Survey:
    """Models, FFN sites and layers with neurons. Of a shard, its footer and one column are read."""
    models = atlas.models()
    sites = {model["slug"]: ffn_sites(atlas, model["slug"]) for model in models}
    layers = [
        source
        for model in models
        for layer in atlas.layers(model["slug"])
        if (source := _source(atlas, model, layer, len(sites[model["slug"]]))).units
    ]
    return Survey(models, sites, layers)


def ffn_sites(atlas: Atlas, slug: str) -> list[dict[str, Any]]:
    rows = [row for row in atlas.sites(slug) if row["kind"] == "ffn"]
    return sorted(rows, key=lambda row: row["layer"])


def _source(atlas: Atlas, model: Mapping[str, Any], layer: int, layers: int) -> LayerSource:
    slug = model["slug"]
    shard = shard_path(NEURONS, slug, layer, layers)
    with atlas.store.open(shard) as file:
        metadata = pq.ParquetFile(file).metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    leaves = [group.column(i) for group in groups for i in range(group.num_columns)]
    rows = atlas.neurons(slug, layer, ["unit"])
    return LayerSource(
        slug=slug,
        layer=layer,
        shard=shard,
        units=tuple(rows.column("unit").to_pylist()) if rows is not None else (),
        picture_bytes=sum(leaf.total_compressed_size for leaf in leaves if leaf.path_in_schema == "image.bytes"),
        thumb_side=min(THUMB, max(model["input_height"], model["input_width"])),
    )
