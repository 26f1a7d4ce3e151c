"""Section: inversions. Pictures of what a class, a text or a head looks like: a wall a model, a page a target.

d/{slug}/inversions-HASH/   index.json.gz: every target with its main figures; NNNNN.webp: sheets of 64 thumbnails;
                            NNNNN.images: bundles of 8 pictures with all that is said of each; all in one order
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from types import MappingProxyType
from typing import Any

from atlas_schema.inversion_recipes import INVERSION_RECIPES
from atlas_schema.read import Atlas
from atlas_schema.shards import shard_path
from atlas_schema.tables import INVERSION_READINGS, INVERSIONS
from site_builder.class_links import MOST_HEADS, MOST_WRITERS, Links, class_links
from site_builder.folders import content_name, write_folder
from site_builder.outline import Outline
from site_builder.packs import dump, plain, rounded
from site_builder.reading import bytes_of, content_of, footer_of
from site_builder.section import Section, Size, Work, Written
from site_builder.sprites import BUNDLE, SHEET, SHEET_COLUMNS, sheet, thumbnail, told_bundle

#: Raise it when these files change for the same dataset.
FORMAT = b"3"
#: Bytes of a target in the index (gzip), of its entry in a bundle, and of its thumbnail. Measured.
INDEX_BYTES, ENTRY_BYTES, THUMB_BYTES = 32, 1000, 2400
#: Bytes of a neuron or head that a class's entry leads to, at most.
LINK_BYTES = 24
#: Columns that the index holds of every target.
LISTED = (
    *("target", "kind", "recipe", "variant", "score", "rank", "rivals", "natural_right", "natural_score"),
    *("head", "direction", "projection", "deviations"),
)
#: Columns that a target's page shows, beside the picture.
SAID = tuple(name for name in INVERSIONS.names if name not in ("slug", "image", "together", "seconds"))


@dataclass(frozen=True)
class Inverted:
    """The inversions of a model in the dataset."""

    slug: str
    shard: str  # path in the dataset
    rows: int
    picture_bytes: int  # of all of them
    readings: str | None  # path of what other models read off them
    layers: tuple[int, ...] = ()  # FFN layers of which the atlas has neurons


def survey(outline: Outline) -> list[Inverted]:
    """The models that have inversions, from their shards' footers."""
    found = []
    for slug in outline.slugs:
        path = shard_path(INVERSIONS, slug)
        if outline.atlas.store.exists(path):
            footer = footer_of(outline.atlas, path)
            read = shard_path(INVERSION_READINGS, slug)
            readings = read if outline.atlas.store.exists(read) else None
            layers = tuple(layer.layer for layer in outline.layers if layer.slug == slug)
            found.append(Inverted(slug, path, footer.num_rows, bytes_of(footer, "image.bytes"), readings, layers))
    return found


def size(held: Sequence[Inverted], images: str) -> Size:
    """File counts are exact."""
    return sum((_model_size(one) for one in held), Size())


def _model_size(own: Inverted) -> Size:
    files = 1 + ceil(own.rows / SHEET) + ceil(own.rows / BUNDLE)
    links = LINK_BYTES * (MOST_WRITERS + MOST_HEADS) if own.layers else 0
    said = own.rows * (INDEX_BYTES + ENTRY_BYTES + THUMB_BYTES + links)
    return Size(files, own.picture_bytes + said, files)


def write(work: Work, held: Sequence[Inverted]) -> Written:
    """The folder of every model that has inversions."""
    made = list(work.pool.map(lambda one: _write(work, one), held))
    entries: dict[str, dict[str, Any] | None] = dict.fromkeys(work.outline.slugs)
    entries |= {one.slug: {"folder": name, "rows": one.rows} for one, name in zip(held, made, strict=True)}
    rows = sum(one.rows for one in held)
    return Written(
        paths=set(made),
        models={slug: {"inversions": entry} for slug, entry in entries.items()},
        said=f"{rows:,} inversions" if rows else "",
    )


def _write(work: Work, own: Inverted) -> str:
    atlas = work.outline.atlas
    told = [content_of(atlas, path) for path in (own.shard, own.readings) if path]
    links, settings = _links(atlas, own), str([SHEET, SHEET_COLUMNS, BUNDLE, LISTED, SAID]).encode()
    name = content_name(f"d/{own.slug}/inversions", FORMAT, settings, *told, dump(links))

    def files() -> dict[str, bytes]:
        rows = atlas.inversions(own.slug, [*SAID, "image"])
        readings = atlas.inversion_readings(own.slug)
        return dict(inversion_files(rows.to_pylist(), readings, links)) if rows is not None else {}

    write_folder(work.folder, name, files)
    return name


def _links(atlas: Atlas, own: Inverted) -> Links:
    """What the classes of a model's inversions lead to."""
    rows = atlas.inversions(own.slug, ["kind", "target"])
    classes = {row["target"] for row in (rows.to_pylist() if rows is not None else ()) if row["kind"] == "class"}
    return class_links(atlas, own.slug, own.layers, classes) if classes else {}


def inversion_files(
    rows: Sequence[dict[str, Any]], readings: Sequence[dict[str, Any]] = (), links: Links = MappingProxyType({})
) -> Iterator[tuple[str, bytes]]:
    """(file name, bytes) of a model's inversions: classes by index, heads by place, then texts; of each its
    recipes side by side, and of a recipe its variants, the one that other models read best first.

    readings: rows of inversion_readings; `read` is [how many readers put the class first, of how many], null of texts.
    links: by class, `links` of its entries.
    """
    by_picture: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in readings:
        by_picture.setdefault(_picture(one), []).append(one)
    ordered = sorted(rows, key=lambda row: _order(row, by_picture.get(_picture(row), [])))
    read = [by_picture.get(_picture(row), []) for row in ordered]
    listed = {name: [rounded(plain(row[name]), 4) for row in ordered] for name in LISTED}
    listed["id"] = [row["address"].split("/", 1)[1] for row in ordered]
    listed["read"] = [_right(some) for some in read]
    yield "index.json.gz", dump(listed)
    for number in range(ceil(len(ordered) / SHEET)):
        own = [_webp(row) for row in ordered[number * SHEET : (number + 1) * SHEET]]
        own += [b""] * (-len(own) % SHEET_COLUMNS)
        yield f"{number:05d}.webp", sheet([thumbnail(webp) if webp else None for webp in own], SHEET_COLUMNS)
    for number in range(ceil(len(ordered) / BUNDLE)):
        some = slice(number * BUNDLE, (number + 1) * BUNDLE)
        yield f"{number:05d}.images", _bundle(ordered[some], read[some], links)


def _picture(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["address"], row["recipe"], row["variant"]


def _right(readings: Sequence[dict[str, Any]]) -> list[int] | None:
    ranked = [one["rank"] == 1 for one in readings if one["rank"] is not None]
    return [sum(ranked), len(ranked)] if ranked else None


def _order(row: dict[str, Any], readings: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    recipe = INVERSION_RECIPES.index(row["recipe"])
    place = [int(part) for part in (row["head"] or "").split("/")[2:]]  # layer and head
    target = row["kind"], row["index"] or 0, place, row["direction"] or row["target"]
    return *target, recipe, *_distrust(row, readings), row["variant"]


def _distrust(row: dict[str, Any], readings: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """By what the variants of a recipe are ordered: first those that more other models read, then those that these
    score higher; where none read them, by what is left of the model's own score under natural changes.
    """
    said = [one for one in readings if one["score"] is not None]
    if not said:
        return 0.0, -(row["natural_score"] or 0.0)
    right, of = _right(said) or (0, 1)
    return -right / of, -sum(one["score"] for one in said) / len(said)


def _webp(row: dict[str, Any]) -> bytes:
    return (row["image"] or {}).get("bytes") or b""


def _bundle(rows: Sequence[dict[str, Any]], readings: Sequence[Sequence[dict[str, Any]]], links: Links) -> bytes:
    said = [
        {name: rounded(plain(row[name]), 5) for name in SAID if row[name] is not None}
        | {"readings": [_reading(one) for one in some]}
        | ({"links": links[row["target"]]} if row["kind"] == "class" and row["target"] in links else {})
        for row, some in zip(rows, readings, strict=True)
    ]
    return told_bundle(said, [_webp(row) for row in rows])


def _reading(one: dict[str, Any]) -> dict[str, Any]:
    return {name: rounded(plain(one[name]), 5) for name in ("reader", "score", "rank", "rivals")}


SECTION: Section[list[Inverted]] = Section(
    name="inversions",
    tables=(INVERSIONS, INVERSION_READINGS),
    entered="i/{slug}",
    folders=("d/*/*",),
    survey=survey,
    size=size,
    write=write,
    counts=lambda held: {"inversions": sum(one.rows for one in held)},
)
