"""What pictures keep under natural changes, beside what the real images that excite the same neurons keep.

    python -m benchmarks.natural ATLAS --probe zoo:1000 [--models zoo/vit,zoo/swin] [--neurons 64] [--out FILE]

The verdict of a picture rests on the share of its activation that is left when it is shifted, turned, recoloured,
blurred or made noisy. How much a real image keeps of it says what may be asked of a picture: the same neurons, the same
random numbers, the neuron's strongest probe image in the place of its picture. Quartiles over neurons, by layer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from atlas_schema.read import Atlas
from atlas_schema.store import Store
from benchmarks.machine import description, public, put
from pipeline.images.probe_set import batches, open_probe_set
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.visualize.natural import CHANGES, NaturalSettings, Picture, natural_rows
from pipeline.visualize.picture import encode_webp, to_bytes

SETTINGS = NaturalSettings()


def rows_of(table: pa.Table | None) -> list[dict[str, Any]]:
    """Rows of a shard; none where the atlas has no such layer."""
    return [] if table is None else table.to_pylist()


def pictures_of(rows: Sequence[Mapping[str, Any]]) -> dict[int, Picture | None]:
    """The stored pictures of a layer's neurons."""
    return {row["unit"]: Picture(row["image"]["bytes"], row["activation_start"]) for row in rows}


def images_of(model: LoadedModel, probe: Any, strongest: Mapping[int, int]) -> dict[int, Picture | None]:
    """Each neuron's strongest probe image, stored as its picture is. strongest: unit -> index in the probe set."""
    wanted = sorted(set(strongest.values()))
    pixels = {}
    for numbers, some in batches(probe, wanted, model.description, 32):
        pixels |= {int(number): to_bytes(one.numpy()) for number, one in zip(numbers, some, strict=True)}
    return {unit: Picture(encode_webp(pixels[index], 75), -np.inf) for unit, index in strongest.items()}


def kept(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Quartiles over neurons of the share that is kept: on average, and by kind of change."""
    shares: dict[str, list[float]] = {"mean": [], "peak": [], **{kind: [] for kind in CHANGES}}
    for row in rows:
        if row["natural_kept"] is None:
            continue
        shares["mean"].append(row["natural_kept"])
        shares["peak"].append(row["natural_kept_peak"])
        for one in row["natural_kinds"]:
            shares[one["kind"]].append(one["kept"])
    return {
        name: [round(float(value), 3) for value in np.quantile(of, (0.25, 0.5, 0.75))] for name, of in shares.items()
    }


def verdicts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many neurons got each verdict."""
    return {name: sum(row["verdict"] == name for row in rows) for name in ("holds", "partly", "does not", "inactive")}


def layer(model: LoadedModel, atlas: Atlas, probe: Any, number: int, neurons: int) -> dict[str, Any]:
    """Both sides for the first `neurons` neurons of a layer that have a picture and an image that excites them."""
    slug, site = model.description.slug, model.description.ffn_sites[number]
    shown = [
        row
        for row in rows_of(atlas.neurons(slug, number, ("unit", "image", "status", "activation_start")))
        if row["image"] and row["status"] == "active"
    ]
    top = {
        row["unit"]: row["image_index"]
        for row in rows_of(atlas.examples(slug, number))
        if row["kind"] == "top" and row["rank"] == 0 and row["activation_mean"] > 0
    }
    chosen = [row for row in shown if row["unit"] in top][:neurons]
    made = natural_rows(model, site, pictures_of(chosen), SETTINGS)
    real = natural_rows(
        model, site, images_of(model, probe, {row["unit"]: top[row["unit"]] for row in chosen}), SETTINGS
    )
    return {
        "layer": number,
        "neurons": len(chosen),
        "pictures": {"kept": kept(made), "verdicts": verdicts(made)},
        "images": {"kept": kept(real), "verdicts": verdicts(real)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("atlas", help="an atlas with pictures and exciting images of the models")
    parser.add_argument("--probe", default="zoo:1000", help="the probe images that it was made with")
    parser.add_argument("--models", default="zoo/vit,zoo/swin", help="ids, separated by commas")
    parser.add_argument("--neurons", type=int, default=64, help="of each layer")
    parser.add_argument("--out", help="a file for the report")
    asked = parser.parse_args()
    atlas, probe = Atlas(Store(asked.atlas)), open_probe_set(asked.probe)
    report: dict[str, Any] = {
        "benchmark": "natural",
        "command": " ".join(["python -m benchmarks.natural", *public(sys.argv[1:])]),
        "machine": description(),
        "models": {},
    }
    for name in asked.models.split(","):
        model = load(ModelRequest(name))
        layers = range(len(model.description.ffn_sites))
        report["models"][name] = [layer(model, atlas, probe, number, asked.neurons) for number in layers]
    put(report, asked.out)


if __name__ == "__main__":
    main()
