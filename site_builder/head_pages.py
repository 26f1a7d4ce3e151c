"""Heads of all models -> their folders, the features across models, and the search by what heads say.

d/{slug}/heads-HASH/   one model's heads (heads.py)
f/features-HASH/       features across models (features.py)
s/heads-HASH/          search by the texts of heads (search_index.py): a head stands where a neuron would,
                       the share of variance that the text explains where z would
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas_schema.read import Atlas
from site_builder.clusters import Neuron
from site_builder.features import feature_files
from site_builder.folders import write_by_content
from site_builder.head_tables import FOUND_BY, READ_PACK, HeadsSource
from site_builder.heads import HeadRows, head_files
from site_builder.search_index import Labelled, search_index
from site_builder.survey import Survey


@dataclass(frozen=True)
class HeadPages:
    entries: dict[str, dict[str, Any]]  # what the manifest says of a model's heads, by slug
    manifest: dict[str, Any]

    @property
    def folders(self) -> set[str]:
        shared = [self.manifest[name] for name in ("features", "head_search") if self.manifest[name]]
        return {entry["folder"] for entry in (*self.entries.values(), *shared)}


def write_heads(
    atlas: Atlas, site: Path, held: Survey, neuron_labels: dict[Neuron, str], pool: ThreadPoolExecutor
) -> HeadPages:
    """Write these files into the site, except those that are there already, and say where they are."""
    named = {source.name for source in held.probes}

    def write_model(source: HeadsSource) -> tuple[HeadRows, dict[str, Any]]:
        rows = HeadRows.of(atlas, source.slug)
        files = head_files(rows, neuron_labels, named)
        folder = write_by_content(site, f"d/{source.slug}/heads", files)
        texts = len(rows.texts["text"]) > 0
        entry = {"folder": folder, "layers": rows.counts(), "reads": list(source.read_packs), "texts": texts}
        return rows, entry | {"labelled": sum(label is not None for label in rows.heads["label"])}

    made = list(pool.map(write_model, held.heads))
    slugs = [model["slug"] for model in held.models]
    rows_of = [(source.slug, rows) for source, (rows, _) in zip(held.heads, made, strict=True)]
    return HeadPages(
        entries={source.slug: entry for source, (_, entry) in zip(held.heads, made, strict=True)},
        manifest={
            "read_pack": READ_PACK,
            "features": _write_features(site, [(slugs.index(slug), rows) for slug, rows in rows_of]),
            "head_search": _write_search(site, rows_of, slugs),
        },
    )


def _write_features(site: Path, models: list[tuple[int, HeadRows]]) -> dict[str, Any] | None:
    files, said = feature_files(models)
    return {"folder": write_by_content(site, "f/features", files), "list": said} if files else None


def _write_search(site: Path, models: list[tuple[str, HeadRows]], slugs: list[str]) -> dict[str, Any] | None:
    """Texts of every head, so that a head is found by more than its label."""
    said = [
        Labelled((slug, layer, head), text, explained, None)
        for slug, rows in models
        for layer, head, text, explained in zip(
            *(rows.texts[name] for name in ("layer", "head", "text", "explained")), strict=True
        )
        if explained >= FOUND_BY
    ]
    if not said:
        return None
    files, about = search_index(said, slugs)
    return about | {"folder": write_by_content(site, "s/heads", files)}
