"""Models that a site lets browsers run: the graph, and where a neuron stands among the probe images by what it reads.

o/m/{slug}-HASH/   model.onnx (what it gives: pipeline/uses/in_browser.py), ranks.json.gz
o/ort-HASH/        onnxruntime-web (site_builder/onnxruntime.py)

The atlas holds of each neuron quantiles of its strongest patch over all probe images, and its strongest images one by
one. Joined they are a curve: under each value, the share of probe images that stay below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.errors import NothingThere
from atlas_schema.read import Atlas
from site_builder import onnxruntime
from site_builder.budget import SiteTooLarge
from site_builder.folders import write_by_content
from site_builder.outline import Layer, Outline
from site_builder.packs import dump, rounded
from site_builder.section import Size, megabytes

#: Shares of the quantiles that the atlas has (pipeline/probe/evidence.py: EvidenceSettings).
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
#: Bytes of a neuron's curve, gzip, from above: measured 60.
CURVE_BYTES = 90
#: Bytes of a graph beside its weights, from above: measured 0.1 MB for the 12 blocks of a ViT-S.
NODES_BYTES = 1_000_000
#: GitHub takes no larger file.
GITHUB_FILE = 100_000_000
FOLDERS = ("o/*", "o/m/*")
_COLUMNS = ["unit", "probe_images", "peak_quantiles", "peak_max", "histogram"]


@dataclass(frozen=True)
class InBrowser:
    """A model of the atlas as a graph that browsers run."""

    slug: str
    graph: Path | None  # None: not written yet, so that its size follows from its parameters
    parameters: int = 0

    @property
    def spans(self) -> tuple[int, int]:
        """The least and the most bytes of its file: weights are kept in float32, or in float16 where that is exact."""
        if self.graph is not None:
            return (self.graph.stat().st_size,) * 2
        return 2 * self.parameters, 4 * self.parameters + NODES_BYTES

    def read(self) -> bytes:
        if self.graph is None:
            raise NothingThere(f"--in-browser {self.slug}: its graph is not written yet")
        return self.graph.read_bytes()


@dataclass(frozen=True)
class Browsing:
    """What a site is to have of it: models, and the files of the runtime, by name."""

    models: Sequence[InBrowser] = ()
    runtime: Mapping[str, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.models)


NOTHING = Browsing()


@dataclass(frozen=True)
class Curves:
    """Of some neurons of a layer, where their strongest patch stands among probe images.

    shares: (knots,) ascending, share of probe images below; values: (units, knots) ascending, activation.
    """

    units: Sequence[int]
    shares: Sequence[float]
    values: np.ndarray
    images: int


def curves_of(rows: pa.Table, examples: pa.Table | None) -> Curves | None:
    """The curves of the neurons of a layer that were measured; None where none was.

    rows: `_COLUMNS` of the neurons table; examples: unit, kind, rank, activation of neuron_examples. The least value,
    the quantiles up to where the strongest images begin, and these one by one.
    """
    rows = rows.filter(pc.and_(pc.is_valid(rows["peak_quantiles"]), pc.is_valid(rows["histogram"])))
    if not rows.num_rows:
        return None
    images = int(rows["probe_images"][0].as_py())
    strongest = _strongest(rows, examples)
    count = min(map(len, strongest))
    first = (images - count) / images  # of images are weaker than the weakest of the strongest
    kept = [at for at, share in enumerate(QUANTILES) if share < first]
    quantiles = np.asarray([[one[at] for at in kept] for one in rows["peak_quantiles"].to_pylist()], dtype=float)
    low = np.asarray([one["low"] for one in rows["histogram"].to_pylist()], dtype=float)[:, None]
    top = np.asarray([own[count - 1 :: -1] for own in strongest], dtype=float)  # ascending
    values = np.maximum.accumulate(np.concatenate([low, quantiles, top], 1), 1)
    shares = [0.0, *(QUANTILES[at] for at in kept), *((images - rank) / images for rank in range(count, 0, -1))]
    return Curves(rows["unit"].to_pylist(), shares, values, images)


def _strongest(rows: pa.Table, examples: pa.Table | None) -> list[list[float]]:
    """Of each neuron the activations of its strongest images, descending; the strongest alone where no more is kept."""
    found: dict[int, list[float]] = {}
    if examples is not None:
        top = examples.filter(pc.equal(examples["kind"], "top")).sort_by([("unit", "ascending"), ("rank", "ascending")])
        for unit, activation in zip(top["unit"].to_pylist(), top["activation"].to_pylist(), strict=True):
            found.setdefault(unit, []).append(activation)
    best = zip(rows["unit"].to_pylist(), rows["peak_max"].to_pylist(), strict=True)
    return [found.get(unit) or [highest] for unit, highest in best]


def size(outline: Outline, asked: Browsing) -> Size:
    """From above, of all that is written for browsers."""
    if not asked:
        return Size()
    slugs = {one.slug for one in asked.models}
    neurons = sum(len(layer.units) for layer in outline.layers if layer.slug in slugs)
    graphs = sum(one.spans[1] for one in asked.models)
    runtime = Size(len(asked.runtime), sum(map(len, asked.runtime.values()))) if asked.runtime else onnxruntime.SIZE
    return runtime + Size(2 * len(asked.models), graphs + CURVE_BYTES * neurons + 2_000 * len(asked.models))


def check_files(asked: Browsing, target: str) -> None:
    """SiteTooLarge where the host takes no file as large as a graph is; one that is not written yet counts as small as
    it can be.
    """
    for one in asked.models if target == "github-pages" else ():
        found = one.spans[0]
        if found > GITHUB_FILE:
            raise SiteTooLarge(
                f"--in-browser {one.slug}: its model is one file of {megabytes(found)}, and GitHub takes none above "
                f"{megabytes(GITHUB_FILE)}. Leave it out, or build for another host (--target hf-space or s3)."
            )


def write(folder: Path, outline: Outline, asked: Browsing) -> tuple[set[str], dict[str, Any], dict[str, Any] | None]:
    """Write models and runtime; what was written, the entry of each model by slug, and that of the runtime.

    NothingThere for a model whose neurons no probe image has measured.
    """
    if not asked:
        return set(), {}, None
    runtime = write_by_content(folder, "o/ort", asked.runtime)
    entries = {one.slug: _write_model(folder, outline, one) for one in asked.models}
    told = {"folder": runtime, "bytes": sum(len(data) for name, data in asked.runtime.items() if name != "LICENSE.txt")}
    return {runtime, *(entry["folder"] for entry in entries.values())}, entries, told


def _write_model(folder: Path, outline: Outline, one: InBrowser) -> dict[str, Any]:
    model = next(row for row in outline.models if row["slug"] == one.slug)
    found = {
        layer.layer: curves
        for layer in outline.layers
        if layer.slug == one.slug and (curves := _curves(outline.atlas, layer)) is not None
    }
    if not found:
        raise NothingThere(
            f"--in-browser {one.slug}: no probe image has measured its neurons, so that nothing tells which of them an "
            "image excites more than others do. Run the probe stage first: neuron-atlas run ... --probe IMAGES"
        )
    ranks = {
        "layers": {
            str(layer): {
                "units": list(own.units),
                "shares": rounded(list(own.shares), 7),
                "values": rounded(own.values.tolist(), 6),
                "images": own.images,
            }
            for layer, own in found.items()
        }
    }
    graph = one.read()
    return {
        "folder": write_by_content(folder, f"o/m/{one.slug}", {"model.onnx": graph, "ranks.json.gz": dump(ranks)}),
        "bytes": len(graph),
        "height": model["input_height"],
        "width": model["input_width"],
        "resampling": model["interpolation"],
        "probe": model["probe_set"] or "",
    }


def _curves(atlas: Atlas, layer: Layer) -> Curves | None:
    rows = atlas.neurons(layer.slug, layer.layer, _COLUMNS)
    examples = atlas.examples(layer.slug, layer.layer, ["unit", "kind", "rank", "activation"])
    return None if rows is None else curves_of(rows, examples)
