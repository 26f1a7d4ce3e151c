"""Whether memory and bytes of a run grow with the number of images: each stage's highest peak, at 100 to 10,000.

    python -m benchmarks.growth [--models zoo/vit,zoo/swin] [--images 100,1000,10000] [--out FILE]

Models are run together over generated scenes, in one worker of one thread, by the command that users run; the log of
the run says the highest resident size of every unit (the mark is set back before each) and the bytes of its part.
Merges of slices count with their stage. All of a unit's memory is in it, the interpreter and libraries too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import description, public, put
from benchmarks.real_size import by_stage, committed

OPTIONS = ("--stages", "probe,label,effect,match,decompose", "--workers", "1", "--threads", "1")


def run(models: list[str], images: int, folder: Path) -> None:
    """Make an atlas of some models on generated scenes. Raises CalledProcessError where the run fails."""
    named = [part for model in models for part in ("--model", model)]
    command = ["run", *named, "--probe", f"zoo:{images}", *OPTIONS, "--out", str(folder)]
    subprocess.run([Path(sys.executable).with_name("neuron-atlas"), *command], check=True, stdout=sys.stderr)


def grown(at: dict[int, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """By stage: megabytes of its highest peak and of its parts at each number of images, and the growth of the peak."""
    fewest, most = min(at), max(at)
    return {
        stage: {
            "peak_mb": {images: round(1e3 * stages[stage]["peak_gb"]) for images, stages in at.items()},
            "written_mb": {images: round(stages[stage]["written_mb"], 2) for images, stages in at.items()},
            "seconds": {images: round(stages[stage]["seconds"], 1) for images, stages in at.items()},
            "growth": round(at[most][stage]["peak_gb"] / at[fewest][stage]["peak_gb"], 3),
        }
        for stage in at[fewest]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="zoo/vit,zoo/swin", help="ids, separated by commas")
    parser.add_argument("--images", default="100,1000,10000", help="numbers of images, separated by commas")
    parser.add_argument("--out", help="a file for the report")
    asked = parser.parse_args()
    kept = Path(tempfile.mkdtemp(prefix="growth-"))
    at = {}
    for images in map(int, asked.images.split(",")):
        folder = kept / str(images)
        run(asked.models.split(","), images, folder)
        at[images] = by_stage(list(committed(folder)), "")  # of all models, and of the embedder
    report = {
        "benchmark": "growth",
        "command": " ".join(["python -m benchmarks.growth", *public(sys.argv[1:])]),
        "machine": description(),
        "stages": grown(at),
    }
    put(report, asked.out)


if __name__ == "__main__":
    main()
