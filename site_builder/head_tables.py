"""The head tables of one model, as far as an atlas has them, and what they hold before they are read whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from atlas_schema.head_tables import HEAD_EXAMPLES, HEAD_FEATURES, HEAD_READS, HEAD_TABLES, HEAD_TEXTS, HEADS
from atlas_schema.read import Atlas
from atlas_schema.searching import FOUND_BY
from site_builder.reading import count_rows

#: Neurons of one file that says which heads read them: units [512 k, 512 k + 512) of a layer lie in file k.
READ_PACK = 512


@dataclass(frozen=True)
class HeadsSource:
    """What the head tables of a model hold."""

    slug: str
    rows: dict[str, int]  # by table, of those that are there; `heads` always is
    layers: tuple[int, ...]  # attention layers that have heads, ascending
    map_bytes: int = 0  # of all examples
    shown: int = 0  # probe images, each once for every head that shows it
    probe_sets: frozenset[str] = frozenset()  # that these are of
    shown_bytes: int = 0  # of these images with what is said of them, about
    read_packs: tuple[int, ...] = ()  # files of each FFN layer that say which heads read which neurons
    texts: tuple[str, ...] = ()  # one a row of head_texts by which the head is found
    features: frozenset[str] = frozenset()


def heads_source(atlas: Atlas, slug: str) -> HeadsSource | None:
    """What there is of the heads of a model; None where it has no table of heads."""
    rows = {table.name: count for table in HEAD_TABLES.values() if (count := count_rows(atlas, table, slug))}
    if HEADS.name not in rows:
        return None
    texts = atlas.rows(HEAD_TEXTS, slug, ["text", "explained"])
    features = atlas.rows(HEAD_FEATURES, slug, ["feature"])
    reads = atlas.rows(HEAD_READS, slug, ["layer", "unit"]).group_by("layer").aggregate([("unit", "max")])
    names = ["layer", "head", "map_height", "map_width", "probe_set", "image_index"]
    examples = atlas.rows(HEAD_EXAMPLES, slug, names)
    tokens = zip(examples["map_height"].to_pylist(), examples["map_width"].to_pylist(), strict=True)
    shown = examples.group_by(["layer", "head", "probe_set", "image_index"]).aggregate([])
    return HeadsSource(
        slug=slug,
        rows=rows,
        layers=tuple(sorted(set(atlas.rows(HEADS, slug, ["layer"])["layer"].to_pylist()))),
        map_bytes=sum(height * width for height, width in tokens),
        shown=len(shown),
        probe_sets=frozenset(shown["probe_set"].to_pylist()),
        read_packs=read_packs(reads["layer"].to_pylist(), reads["unit_max"].to_pylist()),
        texts=tuple(texts.filter(pc.greater_equal(texts["explained"], FOUND_BY))["text"].to_pylist()),
        features=frozenset(features["feature"].to_pylist()),
    )


def read_packs(layers: Sequence[int], units: Sequence[int]) -> tuple[int, ...]:
    """Files of each FFN layer from 0 up to the last that has a row: up to the one that holds its last unit."""
    counts = [0] * (max(layers, default=-1) + 1)
    for layer, unit in zip(layers, units, strict=True):
        counts[layer] = max(counts[layer], unit // READ_PACK + 1)
    return tuple(counts)
