"""A recipe of a few steps for tests of execution, and `neuron-atlas` with it, for runs in processes of their own.

python tests/jobs/tiny.py run --model zoo/vit --recipe tiny ...
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from pipeline.visualize.recipes import PUBLISHED, RECIPES, REFERENCE, Phase

TINY = replace(
    REFERENCE, name="tiny", bands=((1.0, (replace(PUBLISHED, phases=(Phase(steps=4, copies=1),)),)),), robust_draws=2
)
RECIPES["tiny"] = TINY

# Two layers of four units of 16 neurons: small enough to be quick, large enough to be interrupted.
OPTIONS: dict[str, Any] = {
    "models": ["zoo/vit"],
    "random_weights": True,
    "recipe": "tiny",
    "stages": "visualize",
    "layers": "0,1",
    "units": "0:64",
    "unit_seconds": 0.25,
    "workers": 2,
    "threads": 1,
    "device": "cpu",
}
UNITS = 8

# All stages, on two trained models: a layer of 16 neurons each, 200 probe images in two slices a model.
EVIDENCE: dict[str, Any] = {
    "models": ["zoo/vit", "zoo/swin"],
    "random_weights": None,
    "layers": "0",
    "units": "0:16",
    "probe": "zoo:200",
    "match_images": 32,
    "panel": 128,
    "stages": "visualize,probe,label,effect,match",
}

# Heads of two trained models, in ConViT some without direct effect; 48 probe images in two slices a model.
HEADS: dict[str, Any] = {
    "models": ["zoo/clip", "zoo/convit"],
    "random_weights": None,
    "layers": "all",
    "units": "all",
    "probe": "zoo:48",
    "unit_seconds": 0.065,  # two slices
    "stages": "decompose",
}

# A slice of the demo with a unit of every stage: pictures, probes, labels, effects, heads, inversions, counterparts.
SLICE: dict[str, Any] = {
    "models": ["zoo/vit", "zoo/deit", "zoo/clip"],  # a class of the first is read by the second
    "random_weights": None,
    "layers": "0",
    "units": "0:8",
    "probe": "zoo:128",
    "match_images": 32,
    "panel": 128,
    "stages": None,  # all
    "also": "placed",
    "classes": "0",
    "unit_seconds": 2.0,
}


def flags(**options: Any) -> list[str]:
    """The same as command line options."""
    words = []
    for name, value in {**OPTIONS, **options}.items():
        if value is None:
            continue
        flag = "--" + {"models": "model", "name": "as"}.get(name, name).replace("_", "-")
        for one in value if isinstance(value, list) else [value]:
            words += [flag] if one is True else [flag, str(one)]
    return words


if __name__ == "__main__":
    from jobs.cli import call

    sys.exit(call(sys.argv[1:]))
