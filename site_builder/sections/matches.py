"""Section: matches. The same neuron in other models, and clusters of neurons that several models share.

d/{slug}/{layer}-matches-HASH/   packs of 64 neurons: their counterparts, with the labels of these
r/clusters-HASH/                 Rosetta clusters (site_builder/clusters.py)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from atlas_schema.read import Atlas
from atlas_schema.tables import NEURON_MATCHES
from site_builder.clusters import (
    CLUSTER_PACK,
    LEAST_MODELS,
    Cluster,
    cluster_packs,
    mutual_pairs,
    numbers_of,
    rosetta_clusters,
)
from site_builder.folders import content_name, write_by_content, write_folder
from site_builder.outline import Layer, Neuron, Outline
from site_builder.packs import packs, packs_of, rounded, with_empty_packs
from site_builder.reading import content_of, layer_footer
from site_builder.section import Section, Size, Stage, Work, Written

#: Raise it when these files change for the same dataset.
FORMAT = b"1"
#: Bytes of a counterpart, and of a cluster for each of its neurons.
MATCH_BYTES, CLUSTER_BYTES = 24, 20


@dataclass(frozen=True)
class Matches:
    """The counterparts of a layer in the dataset."""

    layer: Layer
    shard: str  # path in the dataset
    rows: int


def survey(outline: Outline) -> list[Matches]:
    """Of each layer that has counterparts, from the footer."""
    found = []
    for layer in outline.layers:
        path, footer = layer_footer(outline.atlas, NEURON_MATCHES, layer.slug, layer.layer, layer.layers)
        if path is not None and footer is not None:
            found.append(Matches(layer, path, footer.num_rows))
    return found


def size(held: Sequence[Matches], images: str) -> Size:
    """Packs are counted exactly; clusters as if every neuron were in one of the smallest."""
    neurons = sum(len(one.layer.units) for one in held)
    packs, clusters = sum(len(packs_of(one.layer.units)) for one in held), -(-neurons // (LEAST_MODELS * CLUSTER_PACK))
    return Size(packs + clusters, MATCH_BYTES * sum(one.rows for one in held) + CLUSTER_BYTES * neurons, clusters)


def write(work: Work, held: Sequence[Matches]) -> Written:
    """Clusters over all layers, then the packs of each, which name the clusters."""
    labels = work.outline.labels
    clusters = read_clusters(work.outline.atlas, held)
    numbers = numbers_of(clusters)
    made = work.pool.map(lambda one: _write(work, one, numbers), held)
    folders = dict(zip((one.layer.key for one in held), made, strict=True))
    paths, about = set(folders.values()), None
    if clusters:
        folder = write_by_content(work.folder, "r/clusters", cluster_packs(clusters, labels))
        about = {"folder": folder, "clusters": len(clusters), "pack": CLUSTER_PACK}
        paths.add(folder)
    return Written(
        paths=paths,
        manifest={"clusters": about},
        layers={key: {"matches": folder} for key, folder in folders.items()},
        stages={slug: ["matches"] for slug, _ in folders},
    )


def read_clusters(atlas: Atlas, held: Sequence[Matches]) -> list[Cluster]:
    """Rosetta clusters over all layers that have counterparts."""
    names = ["slug", "layer", "unit", "rank", "partner_slug", "partner_layer", "partner_unit", "correlation"]
    names += ["mutual", "null_correlation", "significant"]
    tables = (atlas.matches(one.layer.slug, one.layer.layer, names) for one in held)
    return rosetta_clusters(pair for rows in tables if rows is not None for pair in mutual_pairs(rows))


def _write(work: Work, own: Matches, clusters: Mapping[Neuron, int]) -> str:
    """The packs of a layer, in a folder named by its shard and by what they say of other neurons; made where it is
    not there.
    """
    atlas, layer, labels = work.outline.atlas, own.layer, work.outline.labels
    named = atlas.matches(layer.slug, layer.layer, ["unit", "partner_slug", "partner_layer", "partner_unit"])
    partners = [] if named is None else zip(*(named[name].to_pylist() for name in named.column_names[1:]), strict=True)
    said = [labels.get(partner) for partner in partners]
    member_of = [clusters.get((layer.slug, layer.layer, unit)) for unit in layer.units]
    about = json.dumps([said, member_of, list(layer.units)], ensure_ascii=False).encode()
    name = content_name(f"d/{layer.slug}/{layer.layer:05d}-matches", FORMAT, content_of(atlas, own.shard), about)

    def files() -> dict[str, bytes]:
        rows = atlas.matches(layer.slug, layer.layer)
        return match_packs(rows, layer.units, labels, clusters) if rows is not None else {}

    write_folder(work.folder, name, files)
    return name


def match_packs(
    rows: pa.Table, units: Sequence[int], labels: Mapping[Neuron, str], clusters: Mapping[Neuron, int]
) -> dict[str, bytes]:
    """File name -> gzip JSON of the counterparts of 64 neurons, one entry a row of the dataset, in its order.

    rows: the neuron_matches of one layer; units: its neurons that the atlas has; clusters: number of each neuron's
    Rosetta cluster.
    """
    table = {name: rows.column(name).to_pylist() for name in rows.column_names}
    partners = list(zip(table["partner_slug"], table["partner_layer"], table["partner_unit"], strict=True))
    owners = zip(table["slug"], table["layer"], table["unit"], strict=True)
    columns: dict[str, list[Any]] = {
        "unit": table["unit"],
        "slug": table["partner_slug"],
        "layer": table["partner_layer"],
        "partner": table["partner_unit"],
        "label": [labels.get(partner) for partner in partners],
        "correlation": [rounded(value, 4) for value in table["correlation"]],
        "null": [rounded(value, 4) for value in table["null_correlation"]],
        "threshold": [rounded(value, 4) for value in table["threshold"]],
        "mutual": [int(value or 0) for value in table["mutual"]],
        "significant": [None if value is None else int(value) for value in table["significant"]],
        "cluster": [clusters.get(owner) for owner in owners],
    }
    return with_empty_packs(packs(columns["unit"], columns, ""), units)


SECTION: Section[list[Matches]] = Section(
    name="matches",
    tables=(NEURON_MATCHES,),
    entered="rosetta",
    folders=("d/*/*", "r/*"),
    survey=survey,
    size=size,
    write=write,
    stages=(Stage("matches", "probe,match", "counterparts", "its counterparts in other models"),),
)
