"""A synthetic atlas as large as real ones, drawn in minutes: for benchmarks/site.py.

Models have the shape of ViT-B/16 (or less), every stage but further pictures, pictures of as many bytes as real ones,
maps of 14 x 14 tokens, labels out of the shipped list of concepts, five counterparts of each neuron in every other
model, and neurons of one concept in all models, which make Rosetta clusters. One layer is drawn neuron by neuron
(tests/site_builder/drawn_atlas.py); the others repeat its rows at other places, with other labels and images. Two small
models stand beside, so that there are clusters wherever there is one large model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from atlas_schema.store import Store
from atlas_schema.tables import PROBE_IMAGES
from pipeline.label.concepts import read_concepts

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "site_builder"))

from drawn_atlas import ALL_STAGES, FURTHER, PROVENANCE, Drawn, draw_atlas, rows_of, write_model
from drawn_evidence import CLASSES, PROBE_SET, probe_rows

from atlas_schema.shards import write_rows

#: Noise of pictures: those of 224 pixels weigh 18 to 21 kB with it, as real ones do.
GRAIN = 0.11
#: How far a layer's rows are turned against those of the layer before.
TURN = 97
#: Width of the layers of the models that stand beside the large ones.
BESIDE = 32


@dataclass(frozen=True)
class Shape:
    """What a large model is like: ViT-B/16 by default."""

    layers: int = 12
    width: int = 3072
    heads: int = 12
    side: int = 224
    tokens: int = 14
    images: int = 5000  # of the probe set

    def model(self, slug: str, width: int | None = None) -> Drawn:
        return Drawn(
            slug,
            (width or self.width,) * self.layers,
            side=self.side,
            grain=GRAIN,
            stages=tuple(stage for stage in ALL_STAGES if stage not in FURTHER),
            probe_set=PROBE_SET,
            heads=(self.heads,) * self.layers,
            tokens=self.tokens,
            ranks=5,
            concepts=self.width,
        )


def draw_large(folder: Path, shape: Shape, large: int) -> None:
    """Draw an atlas below the folder, unless it is there: so many large models, `large-0` and so on, and the two small
    ones; and one with one more large model, `third`, that was compared with itself alone, to be joined to it.
    """
    if (folder / "third" / "models" / "third").exists():
        return
    rows = repeated(shape)
    models = [shape.model(f"large-{number}") for number in range(large)]
    models += [shape.model(f"small-{number}", min(BESIDE, shape.width)) for number in range(2)]
    widths = {model.slug: model.widths for model in models}
    draw_atlas(folder / "atlas", ())  # what the atlas says of its run
    store = Store(str(folder / "atlas"))
    for model in models:
        write_model(store, model, widths, rows)
    write_rows(store, PROBE_IMAGES, PROBE_SET, probe_rows(PROBE_SET, shape.images), provenance=PROVENANCE)
    third = shape.model("third")
    write_model(Store(str(folder / "third")), third, {third.slug: third.widths}, rows)


def repeated(shape: Shape) -> Callable[[Drawn, int, range], dict[str, list[Any]]]:
    """What gives the rows of any layer of any model: those of one that is drawn here."""
    drawn = replace(shape.model("drawn"), widths=(1, shape.width, 1))
    found = rows_of(drawn, 1, range(shape.width))
    by_unit = {stage: _by_unit(rows, shape.width) for stage, rows in found.items() if rows}
    texts = np.array(read_concepts("general").texts)

    def rows(model: Drawn, layer: int, units: range) -> dict[str, list[Any]]:
        rng = np.random.default_rng([len(model.slug), layer, *model.slug.encode()])
        made: dict[str, list[Any]] = {stage: [] for stage in model.stages}
        for unit in units:
            source = (unit + TURN * layer) % shape.width
            place = {"unit": unit, "address": f"{model.slug}/mlp/{layer}/{unit}", "slug": model.slug, "layer": layer}
            named = _texts(rng, texts)
            images = rng.choice(shape.images, len(by_unit["examples"][source]), replace=False).tolist()
            for stage, own in by_unit.items():
                for at, row in enumerate(own[source]):
                    more = _told(stage, row, named, images[at] if stage == "examples" else 0, shape, place["address"])
                    made[stage].append({**row, **{name: place[name] for name in place if name in row}, **more})
        return made

    return rows


def _by_unit(rows: list[dict[str, Any]], width: int) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = [[] for _ in range(width)]
    for row in rows:
        found[row["unit"]].append(row)
    return found


def _texts(rng: np.random.Generator, texts: np.ndarray) -> list[str]:
    """A label and four texts that come next; few labels are many neurons', as in real atlases."""
    first = int(len(texts) * rng.random() ** 2)
    near = (first + rng.integers(1, 40, 4)) % len(texts)
    return [str(texts[at]) for at in dict.fromkeys([first, *near.tolist()])]


def _told(stage: str, row: dict[str, Any], named: list[str], image: int, shape: Shape, address: str) -> dict[str, Any]:
    """What differs from the drawn row beside its address."""
    if stage == "evidence":
        return {"probe_images": shape.images}
    if stage == "examples":
        return {"image_index": image, "image": f"{CLASSES[image % len(CLASSES)]}/{image:04d}.jpg"}
    if stage == "label":
        candidates = [{**one, "text": text} for one, text in zip(row["label_candidates"], named, strict=False)]
        twin = row["twin"] and f"{address.rpartition('/')[0]}/{row['twin'].rpartition('/')[2]}"
        return {"label": row["label"] and named[0], "label_candidates": candidates, "twin": twin}
    return {}
