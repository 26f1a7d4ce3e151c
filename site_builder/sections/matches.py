"""Section: matches. The same neuron in other models, and clusters of neurons that several models share.

d/{slug}/{layer}-matches-HASH/   packs of 64 neurons: their counterparts, with the labels of these
r/clusters-HASH/                 Rosetta clusters (site_builder/clusters.py)
s/clusters-HASH/                 search by the labels of their members
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from atlas_schema.read import Atlas
from atlas_schema.tables import NEURON_MATCHES
from site_builder.clusters import (
    CLUSTER_PACK,
    LEAST_MODELS,
    Cluster,
    cluster_packs,
    cluster_search,
    mutual_pairs,
    rosetta_clusters,
)
from site_builder.folders import content_name, write_folder
from site_builder.outline import Layer, Neuron, Outline
from site_builder.packs import PACK, load, packs, packs_of, rounded, with_empty_packs
from site_builder.reading import content_of, layer_footer
from site_builder.search_index import index_files
from site_builder.section import Section, Size, Stage, Work, Written

#: Raise it when these files change for the same dataset.
FORMAT = b"2"
#: Bytes of a counterpart, and of a cluster for each of its neurons, with what it is found by.
MATCH_BYTES, CLUSTER_BYTES = 24, 40
#: What a folder of clusters says of itself.
ABOUT = "about.json"
#: Packs of a layer that are made together.
AT_A_TIME = 8
#: Columns of neuron_matches that the packs are made of.
_READ = (
    "slug",
    "layer",
    "unit",
    "partner_slug",
    "partner_layer",
    "partner_unit",
    "correlation",
    "null_correlation",
    "threshold",
    "mutual",
    "significant",
)


@dataclass(frozen=True)
class Matches:
    """The counterparts of a layer in the dataset."""

    layer: Layer
    shard: str  # path in the dataset
    rows: int
    index: int = 0  # files by which clusters are found, from above: as if all labels were names of some


def survey(outline: Outline) -> list[Matches]:
    """Of each layer that has counterparts, from the footer."""
    found, index = [], index_files(outline.labels.values())
    for layer in outline.layers:
        path, footer = layer_footer(outline.atlas, NEURON_MATCHES, layer.slug, layer.layer, layer.layers)
        if path is not None and footer is not None:
            found.append(Matches(layer, path, footer.num_rows, index))
    return found


def size(held: Sequence[Matches], images: str) -> Size:
    """Packs are counted exactly; clusters as if every neuron were in one of the smallest."""
    if not held:
        return Size()
    neurons = sum(len(one.layer.units) for one in held)
    packs, clusters = sum(len(packs_of(one.layer.units)) for one in held), -(-neurons // LEAST_MODELS)
    files = -(-clusters // CLUSTER_PACK) + held[0].index + 2
    return Size(packs + files, MATCH_BYTES * sum(one.rows for one in held) + CLUSTER_BYTES * neurons, files)


def write(work: Work, held: Sequence[Matches]) -> Written:
    """Clusters over all layers, then the packs of each, which name the clusters."""
    if not held:
        return Written(manifest={"clusters": None, "cluster_search": None})
    folder, search, about = _write_clusters(work, held)
    numbers = _numbers(work.folder / folder)
    made = work.pool.map(lambda one: _write(work, one, numbers), held)
    folders = dict(zip((one.layer.key for one in held), made, strict=True))
    some = about["clusters"] > 0
    return Written(
        paths={*folders.values(), folder, search},
        manifest={
            "clusters": {"folder": folder, "clusters": about["clusters"], "pack": CLUSTER_PACK} if some else None,
            "cluster_search": about["search"] and about["search"] | {"folder": search},
        },
        layers={key: {"matches": folder} for key, folder in folders.items()},
        stages={slug: ["matches"] for slug, _ in folders},
    )


def _write_clusters(work: Work, held: Sequence[Matches]) -> tuple[str, str, dict[str, Any]]:
    """The folder of the clusters and that of their search, and what is said of both. They are named by what they follow
    from, so that no counterpart is read where nothing has changed.
    """
    outline = work.outline
    contents = [content_of(outline.atlas, one.shard) for one in held]
    inputs = [FORMAT, str(CLUSTER_PACK).encode(), *contents, *outline.label_digests.values()]
    folder, search = content_name("r/clusters", *inputs), content_name("s/clusters", *inputs)
    if not all((work.folder / name / ABOUT).is_file() for name in (folder, search)):
        clusters = read_clusters(outline.atlas, held)
        files, index = cluster_search(clusters, outline.labels)
        about = json.dumps({"clusters": len(clusters), "search": index}).encode()
        write_folder(work.folder, folder, lambda: cluster_packs(clusters, outline.labels) | {ABOUT: about})
        write_folder(work.folder, search, lambda: files | {ABOUT: about})
    told: dict[str, Any] = json.loads((work.folder / folder / ABOUT).read_text())
    return folder, search, told


def _numbers(folder: Path) -> dict[Neuron, int]:
    """Neuron -> number of its cluster, as the packs have them."""
    found: dict[Neuron, int] = {}
    for number, cluster in enumerate(one for path in sorted(folder.glob("*.json.gz")) for one in load(path)):
        found |= {(slug, layer, unit): number for slug, layer, unit, _ in cluster["members"]}
    return found


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
    outline, layer, labels = work.outline, own.layer, work.outline.labels
    atlas = outline.atlas
    named = atlas.matches(layer.slug, layer.layer, ["partner_slug"])
    partners = [] if named is None else sorted(named["partner_slug"].unique().to_pylist())
    said = [outline.label_digests.get(slug, b"").hex() for slug in partners]
    member_of = [clusters.get((layer.slug, layer.layer, unit)) for unit in layer.units]
    about = json.dumps([PACK, partners, said, member_of, list(layer.units)], ensure_ascii=False).encode()
    name = content_name(f"d/{layer.slug}/{layer.layer:05d}-matches", FORMAT, content_of(atlas, own.shard), about)

    def files() -> dict[str, bytes]:
        rows = atlas.matches(layer.slug, layer.layer, list(_READ))
        return match_packs(rows, layer.units, labels, clusters) if rows is not None else {}

    write_folder(work.folder, name, files)
    return name


def match_packs(
    rows: pa.Table, units: Sequence[int], labels: Mapping[Neuron, str], clusters: Mapping[Neuron, int]
) -> dict[str, bytes]:
    """File name -> gzip JSON of the counterparts of 64 neurons, one entry a row of the dataset, in its order.

    rows: the neuron_matches of one layer, unit ascending; units: its neurons that the atlas has; clusters: number of
    each neuron's Rosetta cluster. The rows of some packs at a time become Python's: a neuron may have hundreds.
    """
    numbers = rows.column("unit").to_numpy() // PACK
    made: dict[int, bytes] = {}
    for first in range(0, int(numbers.max(initial=-1)) + 1, AT_A_TIME):
        start, stop = np.searchsorted(numbers, [first, first + AT_A_TIME])
        columns = _columns(rows.slice(start, stop - start), labels, clusters)
        made |= packs(columns["unit"], columns, "")
    return with_empty_packs(made, units)


def _columns(rows: pa.Table, labels: Mapping[Neuron, str], clusters: Mapping[Neuron, int]) -> dict[str, list[Any]]:
    table = {name: rows.column(name).to_pylist() for name in _READ}
    partners = list(zip(table["partner_slug"], table["partner_layer"], table["partner_unit"], strict=True))
    owners = zip(table["slug"], table["layer"], table["unit"], strict=True)
    return {
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


SECTION: Section[list[Matches]] = Section(
    name="matches",
    tables=(NEURON_MATCHES,),
    entered="rosetta",
    folders=("d/*/*", "r/*", "s/*"),
    survey=survey,
    size=size,
    write=write,
    stages=(Stage("matches", "probe,match", "counterparts", "its counterparts in other models"),),
)
