"""What an atlas holds, before its pictures are read: models, sites, layers with units and bytes, heads, probe sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from atlas_schema.columns import Table
from atlas_schema.errors import ShardCorrupt
from atlas_schema.read import Atlas
from atlas_schema.shards import parse_shard_path, shard_path
from atlas_schema.tables import NEURON_EXAMPLES, NEURON_MATCHES, NEURONS, PROBE_IMAGES
from site_builder.examples import MAP_SIDE
from site_builder.head_tables import HeadsSource, heads_source
from site_builder.sprites import THUMB


@dataclass(frozen=True)
class RowsSource:
    """Further rows of a layer, in a table of their own."""

    shard: str  # path in the dataset
    rows: int
    map_bytes: int = 0  # of the activation maps, as they are stored
    map_tokens: int = 0  # of the largest map, as the site keeps it


@dataclass(frozen=True)
class LayerSource:
    """A layer of the dataset that has neurons."""

    slug: str
    layer: int
    shard: str  # path in the dataset
    units: tuple[int, ...]  # ascending
    picture_bytes: int  # all its pictures together
    thumb_side: int  # pixels of a thumbnail
    examples: RowsSource | None = None
    matches: RowsSource | None = None
    probe_sets: frozenset[str] = frozenset()  # those that its examples name
    labels: int = 0  # neurons with a label
    texts: frozenset[str] = frozenset()  # their labels, each once


@dataclass(frozen=True)
class ProbeSource:
    """A probe set of the dataset."""

    name: str  # its hash
    shards: tuple[str, ...]  # paths in the dataset
    images: int
    thumbnail_bytes: int


@dataclass(frozen=True)
class Survey:
    models: list[dict[str, Any]]
    sites: dict[str, list[dict[str, Any]]]  # FFN sites by slug, in the order of layers
    layers: list[LayerSource]
    probes: list[ProbeSource] = field(default_factory=list)
    attention: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # attention sites, as `sites`
    heads: list[HeadsSource] = field(default_factory=list)  # of the models that have tables of heads


def survey(atlas: Atlas) -> Survey:
    """Models, sites, probe sets, heads, and layers with neurons. Of a shard, its footer and small columns are read."""
    models = atlas.models()
    both = {model["slug"]: atlas.sites(model["slug"]) for model in models}
    sites = {slug: _of_kind(rows, "ffn") for slug, rows in both.items()}
    layers = [
        source
        for model in models
        for layer in atlas.layers(model["slug"])
        if (source := _source(atlas, model, layer, len(sites[model["slug"]]))).units
    ]
    heads = [heads_source(atlas, model["slug"]) for model in models]
    return Survey(
        models,
        sites,
        layers,
        probes=[_probe_source(atlas, name) for name in atlas.probe_sets()],
        attention={slug: _of_kind(rows, "attention") for slug, rows in both.items()},
        heads=[source for source in heads if source is not None],
    )


def _of_kind(rows: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The FFN or the attention sites of a model, from the input to the output."""
    return sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["layer"])


def _source(atlas: Atlas, model: Mapping[str, Any], layer: int, layers: int) -> LayerSource:
    slug = model["slug"]
    shard = shard_path(NEURONS, slug, layer, layers)
    rows = atlas.neurons(slug, layer, ["unit", "label"])
    examples = _rows_source(atlas, NEURON_EXAMPLES, slug, layer, layers)
    named = atlas.examples(slug, layer, ["probe_set"]) if examples else None
    return LayerSource(
        slug=slug,
        layer=layer,
        shard=shard,
        units=tuple(rows["unit"].to_pylist()) if rows is not None else (),
        picture_bytes=_bytes_of(_footer(atlas, shard), "image.bytes"),
        thumb_side=min(THUMB, max(model["input_height"], model["input_width"])),
        examples=examples,
        matches=_rows_source(atlas, NEURON_MATCHES, slug, layer, layers),
        probe_sets=frozenset(named["probe_set"].unique().to_pylist()) if named is not None else frozenset(),
        labels=len(rows) - rows["label"].null_count if rows is not None else 0,
        texts=frozenset(rows["label"].unique().drop_null().to_pylist()) if rows is not None else frozenset(),
    )


def _rows_source(atlas: Atlas, table: Table, slug: str, layer: int, layers: int) -> RowsSource | None:
    shard = shard_path(table, slug, layer, layers)
    try:
        footer = _footer(atlas, shard)
    except FileNotFoundError:
        return None
    sides = [min(MAP_SIDE, _largest(footer, name)) for name in ("map_height", "map_width")]
    return RowsSource(shard, footer.num_rows, _bytes_of(footer, "map"), sides[0] * sides[1])


def _probe_source(atlas: Atlas, name: str) -> ProbeSource:
    paths = sorted(path for path in atlas.store.list(f"{PROBE_IMAGES.name}/{name}") if parse_shard_path(path))
    footers = [_footer(atlas, path) for path in paths]
    # An absent thumbnail costs some bits in its page: what is less than a WebP file a row holds none.
    size = sum(_bytes_of(footer, "thumbnail.bytes") for footer in footers)
    images = sum(footer.num_rows for footer in footers)
    return ProbeSource(name, tuple(paths), images, size if size > 20 * images else 0)


def _footer(atlas: Atlas, shard: str) -> pq.FileMetaData:
    with atlas.store.open(shard) as file:
        try:
            return pq.ParquetFile(file).metadata
        except (OSError, ValueError) as error:
            raise ShardCorrupt(f"{shard}: its footer cannot be read ({error}). Run the stage again", shard) from error


def _largest(footer: pq.FileMetaData, leaf: str) -> int:
    """Largest value of a column of whole numbers; 0 where it has none."""
    found = [column.statistics for column in _leaves(footer, leaf)]
    return max((said.max for said in found if said is not None and said.has_min_max), default=0)


def _bytes_of(footer: pq.FileMetaData, leaf: str) -> int:
    return sum(column.total_compressed_size for column in _leaves(footer, leaf))


def _leaves(footer: pq.FileMetaData, leaf: str) -> list[pq.ColumnChunkMetaData]:
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return [column for column in columns if column.path_in_schema == leaf]
