"""Retrieval by image on photographs of ImageNet classes, through each component of a trained model alone.

python -m benchmarks.retrieval_photographs FOLDER --model timm/vit_small_patch14_dinov2 --weights FILE --input-size 112

The file names begin with the wnid, as the fixtures' do. Queries are all dogs, and all birds; right is another dog, or
bird, among the first ten. The best component is chosen on every second query and measured on the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.align import Stored
from benchmarks.machine import description
from pipeline.decompose.contributions import Contributing
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.models import ModelRequest, load
from pipeline.uses.retrieval import likeness, precision

FIRST, BATCH = 10, 20
WNIDS = {
    "dogs": ((2085620, 2113978),),
    "birds": ((1514668, 1622779), (1795545, 1860187), (2002556, 2058221)),
}
"""First and last wnid of the ranges in which all of the 1,000 classes are dogs, or birds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    own = "measured" if asked.weights else None
    request = ModelRequest(asked.model, weights=asked.weights, name=own, input_size=asked.input_size)
    probe = open_probe_set(asked.folder)
    stored = contributions(request, probe)
    report = {
        "benchmark": "retrieval_photographs",
        "machine": description(),
        "model": asked.model,
        "input_size": asked.input_size,
        "images": len(probe),
        "queries": {name: measured(stored, kind(probe, name)) for name in WNIDS},
    }
    print(json.dumps(report, indent=1))
    if asked.out:
        Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")


def contributions(request: ModelRequest, probe: ProbeSet) -> Stored:
    model = load(request)
    contributing = Contributing(model)
    pixels = batches(probe, range(len(probe)), model.description, BATCH)
    vectors = torch.cat([contributing(model.normalise(x)).vectors.float() for _, x in pixels])
    return Stored(vectors, contributing.components, contributing.levels)


def kind(probe: ProbeSet, name: str) -> Tensor:
    """(images,) bool."""
    numbers = [int(Path(image.id).name[1:9]) for image in probe.images]
    return torch.tensor([any(low <= number <= high for low, high in WNIDS[name]) for number in numbers])


def measured(stored: Stored, relevant: Tensor) -> dict[str, Any]:
    chosen_on, measured_on = relevant.nonzero()[::2, 0].tolist(), relevant.nonzero()[1::2, 0].tolist()
    last = max(one.layer for one in stored.components if one.kind == "head")
    block = [place for place, one in enumerate(stored.components) if one.layer == last]
    whole = stored.representation
    alone = {one.name: stored.vectors[:, place] for place, one in enumerate(stored.components)}
    best = max(alone, key=lambda name: found(alone[name], relevant, chosen_on))
    return {
        "queries": int(relevant.sum()),
        "chance": round(float(relevant.double().mean()), 3),
        "whole": found(whole, relevant, measured_on),
        "without_last_block": found(whole - stored.vectors[:, block].sum(1), relevant, measured_on),
        "best_component": best,
        "best": found(alone[best], relevant, measured_on),
    }


def found(held: Tensor, relevant: Tensor, queries: list[int]) -> float:
    values = [precision(likeness(held, held[query]), relevant, FIRST, leave_out=query) for query in queries]
    return round(sum(values) / len(values), 3)


if __name__ == "__main__":
    main()
