"""Models of their usual size, all stages: seconds by stage beside plain inference, peak memory, bytes kept.

    python -m benchmarks.real_size --probe FOLDER [--models ID,...] [--images 100] [--atlas FOLDER] [--out FILE]

Each model is run once with random weights, two workers, four neurons of the first and of the last layer, by the command
that users run; its log says what every unit took. Plain inference of the same images is timed before and after in a
process of one thread, as a worker has one, and everything is given as a multiple of it: this machine's speed falls out.
With --atlas nothing is run: the logs of atlases that were made so, one in each folder NAME of it, are read. With --into
the figures of other models in a report stay as they are; each model's say on which machine it ran.

What a whole model would take follows from these multiples (`extrapolated`): work that grows with images at 50,000 of
them, work that grows with neurons for all of the model's, the rest as it is; on GPUs at the FLOP/s that `plan` assumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from atlas_schema.errors import NothingThere
from atlas_schema.store import Store
from benchmarks.machine import description, put
from jobs.plan import SPEEDS
from jobs.run_log import logged_runs, read_log
from jobs.stages import STAGES
from pipeline.images.probe_set import batches, open_probe_set
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.representation import representation

MODELS = (
    "timm/vit_base_patch16_224",
    "timm/deit3_base_patch16_224",
    "timm/swin_base_patch4_window7_224",
    "timm/convit_base",
    "timm/pit_b_224",
    "timm/twins_svt_large",
    "timm/coat_small",
    "open_clip/ViT-L-14",
)
OPTIONS = ("--random-weights", "--layers", "0,-1", "--units", "0:4", "--workers", "2")
GROUPS = "visualize,probe,label,effect,decompose"
WHOLE_SET = 50_000  # images


def made(model: str, probe: str, folder: Path) -> None:
    """Run a model into a folder, as a user would. Raises CalledProcessError where the run fails."""
    command = ["run", "--model", model, "--probe", probe, "--stages", GROUPS, *OPTIONS, "--out", str(folder)]
    subprocess.run([Path(sys.executable).with_name("neuron-atlas"), *command], check=True, stdout=sys.stderr)


def committed(folder: Path) -> Iterator[Mapping[str, Any]]:
    """What a run's log says of each unit that was computed."""
    store = Store(str(folder))
    runs = logged_runs(store)  # of a run that was resumed several
    if not runs:
        raise NothingThere(f"{folder}: no log of a run. Expected an atlas that this benchmark made.")
    yield from (event for run in runs for event in read_log(store, run) if event["event"] == "committed")


def inference(model: LoadedModel, probe: str, images: int) -> float:
    """Seconds of one image in a plain forward, on one thread; the least of some batches."""
    torch.set_num_threads(1)
    seconds = []
    with torch.inference_mode():
        for _, pixels in batches(open_probe_set(probe), range(min(images, 32)), model.description, 8):
            x = model.normalise(pixels)
            began = time.process_time()
            representation(model, x)
            seconds.append((time.process_time() - began) / len(x))
    return min(seconds)


def by_stage(events: Sequence[Mapping[str, Any]], slug: str) -> dict[str, dict[str, float]]:
    """Of each stage of a model: units, processor seconds of its workers, highest peak, bytes written, largest part.

    A merge of slices counts as a unit of its stage.
    """
    stages: dict[str, dict[str, float]] = {}
    for event in events:
        name, _, rest = event["unit"].partition(" ")
        if not rest.startswith(slug):
            continue
        row = stages.setdefault(name, {"units": 0, "seconds": 0.0, "peak_gb": 0.0, "written_mb": 0.0, "part_mb": 0.0})
        row["units"] += 1
        row["seconds"] += event.get("cpu_seconds", event["seconds"])  # workers have one thread
        row["peak_gb"] = max(row["peak_gb"], event.get("peak_bytes", 0) / 1e9)
        row["written_mb"] += event["bytes"] / 1e6
        row["part_mb"] = max(row["part_mb"], event["bytes"] / 1e6)
    order = [stage.name for stage in STAGES]
    return {name: stages[name] for name in sorted(stages, key=order.index)}


def extrapolated(model: LoadedModel, stages: Mapping[str, Mapping[str, float]], images: int, plain: float) -> Any:
    """Hours for 50,000 images and all neurons, on one GPU and on 64, and which stage takes most of them.

    A stage cut along model or pair is one unit, which no second GPU makes shorter: the longest of these is the least
    that 64 GPUs take.
    """
    cuts = {stage.name: stage.cut for stage in STAGES}
    grow = {"images": WHOLE_SET / images, "neurons": model.description.neurons / 8, "model": 1.0, "pair": 1.0}
    forward = model.description.forward_flops / SPEEDS["cuda"]  # seconds
    hours = {name: row["seconds"] / plain * forward * grow[cuts[name]] / 3600 for name, row in stages.items()}
    alone = max((spent for name, spent in hours.items() if cuts[name] in ("model", "pair")), default=0.0)
    most = max(hours, key=lambda name: hours[name])
    shared = sum(hours.values()) / 64
    return {
        "one_gpu_hours": round(sum(hours.values()), 3),
        "gpus_64_hours": round(max(shared, alone), 3),
        "most_of_it": most,
        "limit_of_64": "one unit of a model" if alone > shared else "the sum of all units",
    }


def measured(model_id: str, folder: Path, probe: str, images: int) -> dict[str, Any]:
    """The figures of one model."""
    model = load(ModelRequest(model_id, random_weights=True))
    plain = inference(model, probe, images)
    stages = by_stage(list(committed(folder)), model.description.slug)
    for row in stages.values():
        row["forwards_an_image"] = row["seconds"] / plain / images
    return {
        "machine": description(),
        "images": images,
        "forward_seconds": round(plain, 4),
        "neurons": model.description.neurons,
        "heads": model.description.heads,
        "stages": {name: {key: round(value, 3) for key, value in row.items()} for name, row in stages.items()},
        "peak_gb": round(max(row["peak_gb"] for row in stages.values()), 2),
        "bytes_mb": round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1),
        "extrapolated": extrapolated(model, stages, images, plain),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="ids, separated by commas")
    parser.add_argument("--probe", required=True, help="a folder of photographs")
    parser.add_argument("--images", type=int, default=100, help="how many are in it")
    parser.add_argument("--atlas", help="a folder with the atlases that an earlier run of this made")
    parser.add_argument("--out", help="a file for the report")
    parser.add_argument("--into", help="a file of such a report, into which these models go")
    asked = parser.parse_args()
    kept = Path(asked.atlas) if asked.atlas else Path(tempfile.mkdtemp(prefix="real-size-"))
    report: dict[str, Any] = {"benchmark": "real_size", "models": {}}
    if asked.into:
        report = json.loads(Path(asked.into).read_text())
    for model_id in asked.models.split(","):
        folder = kept / model_id.replace("/", "_").replace(".", "_")
        if not asked.atlas:
            made(model_id, asked.probe, folder)
        report["models"][model_id] = measured(model_id, folder, asked.probe, asked.images)
    put(report, asked.into or asked.out)


if __name__ == "__main__":
    main()
