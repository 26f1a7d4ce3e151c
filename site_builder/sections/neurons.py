"""Section: neurons. Pictures and figures of every layer, a strip of depth for each model, the wall of the home page.

d/{slug}/{layer}-HASH/   one layer (site_builder/layers.py), named by the content of its shard
d/{slug}/depth-HASH.webp  d/wall-HASH.webp   pictures that span layers (site_builder/mosaics.py)
d/start-HASH.webp        neurons to start with (site_builder/start.py)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from atlas_schema.errors import NothingThere
from atlas_schema.tables import NEURONS
from site_builder.folders import content_name, write_folder
from site_builder.layers import FORMAT, LayerSummary, build_layer
from site_builder.mosaics import Layers, write_depth, write_wall
from site_builder.outline import Layer, Outline
from site_builder.packs import FIRST, PACK, packs_of
from site_builder.reading import bytes_of, content_of, footer_of, values_of
from site_builder.section import Section, Size, Stage, Work, Written
from site_builder.sprites import SHEET, THUMB, bundle_size
from site_builder.start import neuron_starts, write_starts

#: Bytes of a neuron in its pack and its layer's table (gzip), and of a thumbnail of 96 px: measured.
RECORD_BYTES, THUMB_BYTES = 420, 2400
#: What a probe set adds to the record of a neuron: statistics, label, texts that came next, classes. Measured.
MEASURED_BYTES = 450
#: Beside packs, sheets and pictures a layer has its table (a wide one also that of its first), summary and strip.
LAYER_FILES, LAYER_BYTES = 3, 30_000
#: Strip of depth of a model, and the wall of the home page.
DEPTH_BYTES, WALL_BYTES = 20_000, 220_000
#: Pictures of the neurons to start with.
START_BYTES = 40_000
#: Columns of stages that measure neurons on images.
MEASURED = tuple(column.name for column in NEURONS.columns if column.stage not in ("", "visualize"))


@dataclass(frozen=True)
class LayerSource:
    """A layer's neurons in the dataset."""

    layer: Layer
    picture_bytes: int  # all its pictures together
    thumb_side: int  # pixels of a thumbnail
    measured: bool = False  # whether any stage has measured a neuron on images

    @property
    def bundle(self) -> int:
        """Pictures that are fetched together."""
        return bundle_size(self.picture_bytes / len(self.layer.units))


def survey(outline: Outline) -> list[LayerSource]:
    """The layers that have neurons, from their shards' footers."""
    sides = {model["slug"]: max(model["input_height"], model["input_width"]) for model in outline.models}
    sources = []
    for layer in outline.layers:
        footer = footer_of(outline.atlas, layer.shard)
        measured = any(values_of(footer, name) > 0 for name in MEASURED)
        size = bytes_of(footer, "image.bytes")
        sources.append(LayerSource(layer, size, min(THUMB, sides[layer.slug]), measured))
    return sources


def size(held: Sequence[LayerSource], images: str) -> Size:
    """File counts are exact, but where no neuron of a model has a picture (it has no strip of depth), or where nothing
    is measured (then there are no pictures to start with).
    """
    models = len({source.layer.slug for source in held})
    across = Size(models + 2, models * DEPTH_BYTES + WALL_BYTES + START_BYTES) if held else Size()
    return sum((_layer_size(source, images) for source in held), across)


def _layer_size(source: LayerSource, images: str) -> Size:
    units = source.layer.units
    packs, neurons, sheets = len(packs_of(units)), len(units), -(-len(units) // SHEET)
    entries, files = LAYER_FILES + (neurons > FIRST) + packs + sheets, 0
    size = LAYER_BYTES + neurons * (RECORD_BYTES + MEASURED_BYTES * source.measured)
    if source.picture_bytes > 20 * neurons:  # absent pictures cost some bits each
        size += neurons * round(THUMB_BYTES * (source.thumb_side / 96) ** 2)
    if images != "range":
        bundles = len({unit // source.bundle for unit in units})
        size += source.picture_bytes + bundles * 4 * source.bundle
        entries += bundles if images == "sprite" else packs  # in `files` mode a folder for each pack's pictures
        files = neurons - packs if images == "files" else 0
    return Size(files + entries, size, entries)


def write(work: Work, held: Sequence[LayerSource]) -> Written:
    """The folders of all layers, then the pictures that span them."""
    built = list(work.pool.map(lambda source: _write_layer(work, source), held))
    made: Layers = {source.layer.key: (name, summary) for source, (name, summary, _) in zip(held, built, strict=True)}
    outline, reused = work.outline, sum(was_there for _, _, was_there in built)
    depths = {slug: write_depth(work, made, slug) for slug in outline.slugs}
    wall = write_wall(work, made, [slug for slug in outline.slugs if depths[slug]])
    start = write_starts(work, neuron_starts({key: summary.start for key, (_, summary) in made.items()}))
    own = {slug: [made.get((slug, site["layer"])) for site in sites] for slug, sites in outline.sites.items()}
    summaries = {slug: [one and one[1] for one in layers] for slug, layers in own.items()}
    folders = {f"d/{name}" for name, _ in made.values()}
    bundles = {source.layer.key: source.bundle for source in held}
    neurons = sum(len(source.layer.units) for source in held)
    return Written(
        paths=folders | {path for path in (*depths.values(), *(one and one["file"] for one in (wall, start))) if path},
        manifest={"pack": PACK, "first": FIRST, "wall": wall, "start": start},
        models={slug: _model_entry(told) | {"depth": depths[slug]} for slug, told in summaries.items()},
        layers={
            (slug, site["layer"]): _layer_entry(made.get((slug, site["layer"])), bundles.get((slug, site["layer"]), 0))
            for slug, sites in outline.sites.items()
            for site in sites
        },
        facts={slug: {"layers": [one and one.as_json() for one in told]} for slug, told in summaries.items()},
        stages={slug: _stages(told) for slug, told in summaries.items()},
        counts={"layers_reused": reused},
        said=f"{neurons:,} neurons in {len(held)} layers of {len(outline.models)} models ({reused} layers unchanged)",
    )


def _write_layer(work: Work, source: LayerSource) -> tuple[str, LayerSummary, bool]:
    """The layer's folder below d/, its summary, and whether it was there already."""
    atlas, layer = work.outline.atlas, source.layer
    settings = f"{FORMAT} {work.images} {PACK} {FIRST} {source.bundle} {THUMB}".encode()
    name = content_name(f"{layer.slug}/{layer.layer:05d}", content_of(atlas, layer.shard), settings)

    def files() -> Iterator[tuple[str, bytes]]:
        rows = atlas.neurons(layer.slug, layer.layer, NEURONS.names)
        if rows is None:
            raise NothingThere(f"{layer.shard}: removed while the site was built; build it again")
        places = atlas.picture_locations(layer.slug, layer.layer) if work.images == "range" else ()
        made, summary = build_layer(rows, layer.shard, work.images, source.bundle, places)
        return chain(made, [("summary.json", json.dumps(summary.as_json()).encode())])

    reused = write_folder(work.folder / "d", name, files)
    said = (work.folder / "d" / name / "summary.json").read_text()
    return name, LayerSummary(**json.loads(said)), reused


def _model_entry(summaries: Sequence[LayerSummary | None]) -> dict[str, int]:
    present = [summary for summary in summaries if summary]
    return {
        "described": sum(summary.described for summary in present),
        "inactive": sum(summary.inactive for summary in present),
        "labelled": sum(summary.labelled for summary in present),
    }


def _layer_entry(made: tuple[str, LayerSummary] | None, bundle: int) -> dict[str, object]:
    if made is None:
        return {"folder": None, "ranges": []}
    return {"folder": f"d/{made[0]}", "ranges": made[1].ranges, "bundle": bundle}


def _stages(summaries: Sequence[LayerSummary | None]) -> list[str]:
    return [name for name in NEURONS.stages if any(name in summary.stages for summary in summaries if summary)]


SECTION: Section[list[LayerSource]] = Section(
    name="neurons",
    tables=(NEURONS,),
    entered="n/{slug}/{layer}/{unit}",
    folders=("d/*", "d/*/*"),
    survey=survey,
    size=size,
    write=write,
    counts=lambda held: {"layers": len(held), "neurons": sum(len(source.layer.units) for source in held)},
    stages=(
        Stage("visualize", "visualize", "pictures", "a picture of what excites the neuron most"),
        Stage("verdict", "verdict", "verdicts", "whether its picture holds when it is changed a little"),
        Stage(
            "evidence",
            "probe",
            "statistics on real images",
            "statistics on real images: how rarely it fires, and the picture's place among them",
        ),
        Stage("label", "probe,label", "labels", "a label in words, and how sure it is"),
        Stage("effect", "probe,effect", "effects", "the classes it writes to, and what its ablation costs"),
    ),
)
