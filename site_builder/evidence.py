"""What a probe set says of the neurons, as files of the site: examples, counterparts, clusters, search, probe images.

Beside the layers' folders, so that pictures need not be drawn again where only the evidence has changed:

    d/{slug}/{layer}-examples-HASH/   packs of 64 neurons (examples.py)
    d/{slug}/{layer}-matches-HASH/    packs of 64 neurons (matches.py)
    p/{probe set}-HASH/               bundles of probe images (probes.py)
    r/clusters-HASH/  s/index-HASH/   Rosetta clusters (clusters.py), search by label (search_index.py)
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas_schema.read import Atlas
from site_builder.clusters import CLUSTER_PACK, Cluster, Neuron, cluster_packs, mutual_pairs, numbers_of
from site_builder.clusters import rosetta_clusters as find_clusters
from site_builder.examples import example_packs
from site_builder.folders import content_name, write_by_content, write_folder
from site_builder.matches import match_packs
from site_builder.probes import PROBE_BUNDLE, SAID, probe_bundles
from site_builder.search_index import Labelled, search_index
from site_builder.survey import LayerSource, ProbeSource, Survey

#: Raise it when these files change for the same dataset.
FORMAT = b"1"


@dataclass(frozen=True)
class Evidence:
    examples: dict[tuple[str, int], str]  # folder of a layer's examples
    matches: dict[tuple[str, int], str]
    manifest: dict[str, Any]
    labels: dict[Neuron, str]

    @property
    def folders(self) -> set[str]:
        shared = [self.manifest[name] for name in ("search", "clusters") if self.manifest[name]]
        entries = [*self.manifest["probes"].values(), *shared]
        return {*self.examples.values(), *self.matches.values(), *(entry["folder"] for entry in entries)}


def write_evidence(atlas: Atlas, site: Path, held: Survey, pool: ThreadPoolExecutor) -> Evidence:
    """Write these files into the site, except those that are there already, and say where they are."""
    named = {source.name for source in held.probes}
    with_examples = [layer for layer in held.layers if layer.examples]
    examples = pool.map(lambda layer: _write_examples(atlas, site, layer, named), with_examples)
    labelled = [one for layer in held.layers for one in read_labels(atlas, layer)]
    labels = {one.neuron: one.text for one in labelled}
    clusters = read_clusters(atlas, held)
    numbers = numbers_of(clusters)
    with_matches = [layer for layer in held.layers if layer.matches]
    matches = pool.map(lambda layer: _write_matches(atlas, site, layer, labels, numbers), with_matches)
    return Evidence(
        examples=dict(zip(map(_key, with_examples), examples, strict=True)),
        matches=dict(zip(map(_key, with_matches), matches, strict=True)),
        manifest={
            "probes": {source.name: _write_probes(atlas, site, source) for source in held.probes},
            "probe_bundle": PROBE_BUNDLE,
            "clusters": _write_clusters(site, clusters, labels),
            "search": _write_search(site, labelled, [model["slug"] for model in held.models]),
        },
        labels=labels,
    )


def read_labels(atlas: Atlas, layer: LayerSource) -> list[Labelled]:
    """The labels of a layer that stand: none where no label stage has run."""
    rows = atlas.neurons(layer.slug, layer.layer, ["unit", "label", "label_z", "label_auroc"])
    return [
        Labelled((layer.slug, layer.layer, row["unit"]), row["label"], row["label_z"], row["label_auroc"])
        for row in (rows.to_pylist() if rows is not None else ())
        if row["label"]
    ]


def read_clusters(atlas: Atlas, held: Survey) -> list[Cluster]:
    """Rosetta clusters over all layers that have counterparts."""
    names = ["slug", "layer", "unit", "rank", "partner_slug", "partner_layer", "partner_unit", "correlation"]
    names += ["mutual", "null_correlation", "significant"]
    tables = (atlas.matches(layer.slug, layer.layer, names) for layer in held.layers if layer.matches)
    return find_clusters(pair for rows in tables if rows is not None for pair in mutual_pairs(rows))


def _key(layer: LayerSource) -> tuple[str, int]:
    return layer.slug, layer.layer


def _write_examples(atlas: Atlas, site: Path, layer: LayerSource, named: set[str]) -> str:
    lacking = not layer.probe_sets <= named
    shard = atlas.store.read(layer.examples.shard) if layer.examples else b""
    name = content_name(f"d/{layer.slug}/{layer.layer:05d}-examples", FORMAT, shard, str(lacking).encode())

    def files() -> dict[str, bytes]:
        rows = atlas.examples(layer.slug, layer.layer)
        return example_packs(rows, layer.units, names=lacking) if rows is not None else {}

    write_folder(site, name, files)
    return name


def _write_matches(
    atlas: Atlas, site: Path, layer: LayerSource, labels: dict[Neuron, str], numbers: dict[Neuron, int]
) -> str:
    rows = atlas.matches(layer.slug, layer.layer)
    files = match_packs(rows, layer.units, labels, numbers) if rows is not None else {}
    return write_by_content(site, f"d/{layer.slug}/{layer.layer:05d}-matches", files)


def _write_probes(atlas: Atlas, site: Path, source: ProbeSource) -> dict[str, Any]:
    shards = [atlas.store.read(path) for path in source.shards]
    name = content_name(f"p/{source.name}", FORMAT, *shards)
    names = ["index", "thumbnail", *SAID]
    write_folder(site, name, lambda: dict(probe_bundles(atlas.probe_images(source.name, names))))
    return {"folder": name, "images": source.images, "thumbnails": source.thumbnail_bytes > 0}


def _write_clusters(site: Path, clusters: list[Cluster], labels: dict[Neuron, str]) -> dict[str, Any] | None:
    if not clusters:
        return None
    folder = write_by_content(site, "r/clusters", cluster_packs(clusters, labels))
    return {"folder": folder, "clusters": len(clusters), "pack": CLUSTER_PACK}


def _write_search(site: Path, labelled: Iterable[Labelled], slugs: list[str]) -> dict[str, Any] | None:
    files, about = search_index(labelled, slugs)
    if not about["neurons"]:
        return None
    return about | {"folder": write_by_content(site, "s/index", files)}
