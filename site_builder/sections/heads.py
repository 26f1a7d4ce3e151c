"""Section: heads. The attention heads of all models, the features across models, the search by what heads say.

d/{slug}/heads-HASH/   one model's heads (site_builder/heads.py)
f/features-HASH/       features across models (site_builder/features.py)
s/heads-HASH/          search by the texts of heads (site_builder/search_index.py): a head stands where a neuron
                       would, the share of variance that the text explains where z would
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atlas_schema.head_tables import HEAD_TABLES
from site_builder.features import feature_files
from site_builder.folders import write_by_content
from site_builder.head_tables import FOUND_BY, READ_PACK, HeadsSource, heads_source
from site_builder.heads import HeadRows, head_files
from site_builder.outline import Outline
from site_builder.search_index import Labelled, index_files, search_index
from site_builder.section import Section, Size, Stage, Work, Written
from site_builder.start import head_start

#: Bytes of a row of each table (gzip), of a token of a signed map (31 levels), and of what a text adds to search.
ROW_BYTES = {"heads": 300, "head_texts": 30, "head_features": 50, "head_examples": 24, "head_reads": 9}
SIGNED_BYTES, SAID_BYTES = 0.7, 12


def survey(outline: Outline) -> list[HeadsSource]:
    """What there is of the heads of each model that has a table of them."""
    found = (heads_source(outline.atlas, slug) for slug in outline.slugs)
    return [source for source in found if source is not None]


def size(held: Sequence[HeadsSource], images: str) -> Size:
    """File counts are exact."""
    texts = {text for source in held for text in source.texts}
    features = {feature for source in held for feature in source.features}
    index = index_files(texts)
    across = Size(len(features) + index, 0, max(len(features), index))
    return sum((_model_size(source) for source in held), across)


def _model_size(source: HeadsSource) -> Size:
    rows = sum(ROW_BYTES[table] * count for table, count in source.rows.items())
    reads = sum(source.read_packs)
    return Size(
        files=1 + len(source.layers) + reads,
        bytes=rows + round(SIGNED_BYTES * source.map_bytes) + SAID_BYTES * len(source.texts),
        largest_folder=max(2 + len(source.layers), reads),
    )


def write(work: Work, held: Sequence[HeadsSource]) -> Written:
    """The folder of every model, then what spans models."""
    made = list(work.pool.map(lambda source: _write_model(work, source), held))
    rows = {source.slug: own for source, (own, _) in zip(held, made, strict=True)}
    entries: dict[str, dict[str, Any] | None] = dict.fromkeys(work.outline.slugs)
    entries |= {source.slug: entry for source, (_, entry) in zip(held, made, strict=True)}
    features, search = _write_features(work, rows), _write_search(work, rows)
    heads = sum(source.rows["heads"] for source in held)
    start = head_start({slug: own.heads for slug, own in rows.items()})
    return Written(
        paths={entry["folder"] for entry in (*entries.values(), features, search) if entry},
        manifest={"read_pack": READ_PACK, "features": features, "head_search": search, "start_head": start},
        models={slug: {"heads": entry} for slug, entry in entries.items()},
        stages={slug: ["heads"] for slug in rows},
        said=f"{heads:,} attention heads",
    )


def _write_model(work: Work, source: HeadsSource) -> tuple[HeadRows, dict[str, Any]]:
    """All rows of a model's heads, and its entry."""
    rows = HeadRows.of(work.outline.atlas, source.slug)
    files = head_files(rows, work.outline.labels, work.outline.probe_sets)
    return rows, {
        "folder": write_by_content(work.folder, f"d/{source.slug}/heads", files),
        "layers": rows.counts(),
        "reads": list(source.read_packs),
        "texts": len(rows.texts["text"]) > 0,
        "labelled": sum(label is not None for label in rows.heads["label"]),
    }


def _write_features(work: Work, models: dict[str, HeadRows]) -> dict[str, Any] | None:
    order = work.outline.slugs
    files, said = feature_files([(order.index(slug), rows) for slug, rows in models.items()])
    return {"folder": write_by_content(work.folder, "f/features", files), "list": said} if files else None


def _write_search(work: Work, models: dict[str, HeadRows]) -> dict[str, Any] | None:
    """Texts of every head, so that a head is found by more than its label."""
    said = [
        Labelled((slug, layer, head), text, explained, None)
        for slug, rows in models.items()
        for layer, head, text, explained in zip(
            *(rows.texts[name] for name in ("layer", "head", "text", "explained")), strict=True
        )
        if explained >= FOUND_BY
    ]
    if not said:
        return None
    files, about = search_index(said, work.outline.slugs)
    return about | {"folder": write_by_content(work.folder, "s/heads", files)}


SECTION: Section[list[HeadsSource]] = Section(
    name="heads",
    tables=tuple(HEAD_TABLES.values()),
    entered="h/{slug}/{layer}/{head}",
    folders=("d/*/*", "f/*", "s/*"),
    survey=survey,
    size=size,
    write=write,
    counts=lambda held: {"heads": sum(source.rows["heads"] for source in held)},
    stages=(
        Stage(
            "heads",
            "decompose",
            "heads in words",
            "what each attention head adds to the final representation, in words, and which heads read the neuron",
        ),
    ),
)
