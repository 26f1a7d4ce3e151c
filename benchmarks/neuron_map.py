"""What it costs to lay neurons out on a map, and how much of their neighbourhoods is left of them.

python -m benchmarks.neuron_map --neurons 37000 --out docs/benchmarks/neuron-map.json
python -m benchmarks.neuron_map --neurons 300000 --fitted 50000

Neurons are drawn: each fires on the images of one of so many concepts, some on those of two; an image is of three
concepts, and says them as its attributes. So it is known which neurons belong together. Seconds are of one core's time,
without the reading of tables and without pictures.
"""

from __future__ import annotations

import argparse
import gzip
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import description, put
from site_builder.neuron_map import layout
from site_builder.neuron_map.features import Fired, Kinds, features
from site_builder.neuron_map.nodes import node_files, nodes_of

EXAMPLES, OF_AN_IMAGE = 9, 3


def drawn(neurons: int, images: int, concepts: int, seed: int = 0) -> tuple[Fired, Kinds, np.ndarray]:
    """What fires whom, what images are, and the concept of each neuron."""
    rng = np.random.default_rng(seed)
    popular = rng.zipf(1.4, concepts).clip(max=50) + 1.0
    of_image = rng.choice(concepts, (images, OF_AN_IMAGE), p=popular / popular.sum())
    have = [np.flatnonzero((of_image == concept).any(1)) for concept in range(concepts)]
    usable = [concept for concept in range(concepts) if len(have[concept]) >= EXAMPLES]
    main = rng.choice(usable, neurons)
    second = np.where(rng.random(neurons) < 0.3, rng.choice(usable, neurons), main)
    chosen = np.array(
        [
            np.where(rng.random(EXAMPLES) < 0.6, rng.choice(have[one], EXAMPLES), rng.choice(have[other], EXAMPLES))
            for one, other in zip(main, second, strict=True)
        ]
    )
    named = tuple(("drawn", image) for image in range(images))
    fires = Fired(neurons, np.repeat(np.arange(neurons), EXAMPLES), chosen.ravel(), named)
    share = np.array([len(own) for own in have]) / images
    kinds = Kinds(np.repeat(np.arange(images), OF_AN_IMAGE), of_image.ravel(), share)
    return fires, kinds, main


@contextmanager
def timed(told: dict[str, Any], name: str) -> Iterator[None]:
    """Adds the seconds of one core's time that the body takes."""
    began = time.process_time()
    yield
    told[name] = round(time.process_time() - began, 1)


def measured(neurons: int, images: int, concepts: int, fitted: int) -> dict[str, Any]:
    """Seconds of each step, how much is left of neighbourhoods, bytes of a neuron, peak memory."""
    fires, kinds, concept = drawn(neurons, images, concepts)
    told: dict[str, Any] = {"neurons": neurons, "images": images, "concepts": concepts, "fitted": min(fitted, neurons)}
    with timed(told, "features_seconds"):
        rows, there = features(fires, kinds, layout.SEED)
    with timed(told, "layout_seconds"):
        places = layout.lay_out(rows, fitted)
    with timed(told, "judging_seconds"):
        told["kept"] = layout.kept(rows, places)
        told["same_concept"] = layout.alike(places, concept)
        told["same_concept_pca"] = layout.alike(layout.principal(rows), concept)
    with timed(told, "files_seconds"):
        whole = layout.quantized(places, there)
        layer, unit = np.divmod(np.arange(neurons), 3072)
        columns = {"x": whole[:, 0], "y": whole[:, 1], "layer": layer.astype("<u2"), "unit": unit.astype("<u2")}
        verdicts = np.random.default_rng(1).integers(0, 4, neurons)
        columns |= {"label": concept.astype("<u2"), "verdict": verdicts.astype("u1")}
        files = dict(node_files(nodes_of(whole), columns))
    told["files"] = len(files)
    told["bytes_per_neuron"] = round(sum(map(len, files.values())) / neurons, 2)
    told["unpacked_bytes_per_neuron"] = round(sum(len(gzip.decompress(one)) for one in files.values()) / neurons, 2)
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    told["peak_bytes"] = 1024 * int(peak[1]) if peak else None
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=37_000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--concepts", type=int, default=400)
    parser.add_argument("--fitted", type=int, default=layout.MOST_FITTED, help="laid out by t-SNE, at most")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    put(description() | measured(args.neurons, args.images, args.concepts, args.fitted), args.out)


if __name__ == "__main__":
    main()
