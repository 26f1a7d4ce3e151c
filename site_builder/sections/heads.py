"""Section: heads. The attention heads of all models, the features across models, the search by what heads say.

d/{slug}/heads-HASH/   one model's heads (site_builder/heads.py)
f/features-HASH/       features across models (site_builder/features.py)
s/heads-HASH/          search by the texts of heads (site_builder/search_index.py): a head stands where a neuron
                       would, the share of variance that the text explains where z would
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.head_tables import HEAD_TABLES
from atlas_schema.read import Atlas
from atlas_schema.searching import FOUND_BY
from atlas_schema.shards import shard_path
from site_builder.features import feature_files
from site_builder.folders import content_name, write_by_content, write_folder
from site_builder.head_tables import READ_PACK, HeadsSource, heads_source
from site_builder.heads import HeadRows, Images, head_files
from site_builder.outline import Outline
from site_builder.reading import content_of
from site_builder.search_index import Labelled, index_files, search_index
from site_builder.section import Section, Size, Stage, Work, Written
from site_builder.sections import probes
from site_builder.sections.probes import SAID, set_shards
from site_builder.start import head_start

#: Raise it when the files of a model change for the same dataset.
FORMAT = b"1"
#: Bytes of a row of each table (gzip), of a token of a signed map (31 levels), and of what a text adds to search.
ROW_BYTES = {"heads": 300, "head_texts": 30, "head_features": 50, "head_examples": 24, "head_reads": 9}
SIGNED_BYTES, SAID_BYTES = 0.7, 12
#: How much larger than the mean of their set the thumbnails may be that heads show.
SPREAD = 1.25


def survey(outline: Outline) -> list[HeadsSource]:
    """What there is of the heads of each model that has a table of them."""
    found = [source for source in (heads_source(outline.atlas, slug) for slug in outline.slugs) if source is not None]
    sets = probes.survey(outline) if found else ()
    mean = {one.name: one.thumbnail_bytes / max(1, one.images) for one in sets}

    def bytes_of(source: HeadsSource) -> int:
        one = max((mean.get(name, 0.0) for name in source.probe_sets), default=0.0)
        return round(source.shown * (one * SPREAD + probes.PROBE_BYTES)) if one else 0

    return [replace(source, shown_bytes=bytes_of(source)) for source in found]


def size(held: Sequence[HeadsSource], images: str) -> Size:
    """File counts are exact, but for heads without an image of their own."""
    texts = {text for source in held for text in source.texts}
    features = {feature for source in held for feature in source.features}
    index = index_files(texts)
    across = Size(len(features) + index, 0, max(len(features), index))
    return sum((_model_size(source) for source in held), across)


def _model_size(source: HeadsSource) -> Size:
    rows = sum(ROW_BYTES[table] * count for table, count in source.rows.items())
    reads, heads = sum(source.read_packs), source.rows["heads"]
    shown = heads if source.shown_bytes else 0
    return Size(
        files=1 + len(source.layers) + reads + shown,
        bytes=rows + round(SIGNED_BYTES * source.map_bytes) + SAID_BYTES * len(source.texts) + source.shown_bytes,
        largest_folder=max(3 + len(source.layers), reads, shown),
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
    """The short tables of a model's heads, and its entry. The folder is named by the tables, by the labels of the
    neurons that they name, and by the images: where all these stand nothing else is read.
    """
    outline, slug = work.outline, source.slug
    atlas = outline.atlas
    paths = [shard_path(table, slug) for table in HEAD_TABLES.values() if table.name in source.rows]
    shown = [set_shards(atlas, name) for name in sorted(source.probe_sets & outline.probe_sets)]
    contents = [content_of(atlas, path) for path in (*paths, *(path for own in shown for path in own))]
    labels, settings = outline.label_digests.get(slug, b""), str([READ_PACK, sorted(outline.probe_sets)]).encode()
    name = content_name(f"d/{slug}/heads", FORMAT, labels, settings, *contents)

    def files() -> dict[str, bytes]:
        rows = HeadRows.of(atlas, slug)
        return head_files(rows, outline.labels, outline.probe_sets, _images(atlas, rows, outline.probe_sets))

    write_folder(work.folder, name, files)
    short = HeadRows.short(atlas, slug)
    return short, {
        "folder": name,
        "layers": short.counts(),
        "reads": list(source.read_packs),
        "images": (work.folder / name / "images").is_dir(),
        "texts": len(short.texts["text"]) > 0,
        "labelled": sum(label is not None for label in short.heads["label"]),
    }


def _images(atlas: Atlas, rows: HeadRows, listed: Set[str]) -> Images | None:
    """The images that a model's heads show; None where the atlas does not have the thumbnail of each."""
    wanted: dict[str, set[int]] = {}
    for probe_set, index in zip(rows.examples["probe_set"], rows.examples["image_index"], strict=True):
        wanted.setdefault(probe_set, set()).add(index)
    if not set(wanted) <= listed:
        return None
    found = {}
    for probe_set, indices in wanted.items():
        table = atlas.probe_images(probe_set, ["index", "thumbnail", *SAID])
        for row in table.filter(pc.is_in(table["index"], pa.array(sorted(indices)))).to_pylist():
            data = (row["thumbnail"] or {}).get("bytes")
            if data:
                found[probe_set, row["index"]] = ({name: row[name] for name in SAID if row.get(name)}, data)
    return found if len(found) == sum(map(len, wanted.values())) else None


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
