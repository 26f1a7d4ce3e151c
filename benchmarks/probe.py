"""What the probe pass costs beside plain inference, and whether its memory grows with the images.

    python -m benchmarks.probe
    python -m benchmarks.probe --model zoo/vit --images 256 --memory 500,2000 --out docs/benchmarks/probe.json

*Time*: the same batches go through the model alone and through the probe pass (every FFN neuron: moments,
sketches, strongest images with maps, panel, class means), in turns that alternate batch by batch, so that a busy
neighbour slows both alike. The first batches, in which every image still enters every neuron's top, are counted.
*Memory*: a process of its own for each number of images reports its highest resident size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.machine import description, public, put
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.device import synchronize
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, probe


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    if asked.only_memory:
        print(json.dumps(peak_of_one_pass(asked)))
        return
    report = {
        "benchmark": "probe",
        "command": " ".join(["python -m benchmarks.probe", *public(sys.argv[1:])]),
        "machine": description(),
        "model": asked.model,
        "probe_images": asked.images,
        "threads": asked.threads,
        "time": compared(asked),
    }
    if asked.memory:
        report["memory"] = [memory_at(asked, images) for images in asked.memory]
    put(report, asked.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm/deit_tiny_patch16_224")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--panel", type=int, default=ProbeSettings().panel)
    parser.add_argument("--memory", type=lambda text: [int(part) for part in text.split(",")], default=[500, 5000])
    parser.add_argument("--no-memory", dest="memory", action="store_const", const=[])
    parser.add_argument("--only-memory", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="the zoo's ViT, few images")
    parser.add_argument("--out")
    asked = parser.parse_args()
    if asked.quick:
        asked.model, asked.images, asked.memory = "zoo/vit", 128, [128, 512]
    return asked


def surroundings(asked: argparse.Namespace) -> tuple[LoadedModel, ProbeSet, ProbeSettings]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load(ModelRequest(model=asked.model, random_weights=asked.model.startswith("timm/")), device=device)
    return model, open_probe_set(f"zoo:{asked.images}"), ProbeSettings(panel=asked.panel)


def compared(asked: argparse.Namespace) -> dict[str, object]:
    """Seconds of plain inference and of the probe pass over the same batches, in turns."""
    model, probe_set, settings = surroundings(asked)
    into = empty(model, probe_set, settings)
    seconds: dict[str, list[float]] = {"inference": [], "probe": []}
    for number, batch in enumerate(batches(probe_set, range(len(probe_set)), model.description, asked.batch)):
        if not number:  # warm up, into accumulators that are thrown away
            infer(model, batch[1])
            probe(model, [batch], empty(model, probe_set, settings))
        order = ("inference", "probe") if number % 2 else ("probe", "inference")
        for way in order:
            synchronize(model.device)
            began = time.perf_counter()
            if way == "probe":
                probe(model, [batch], into)
            else:
                infer(model, batch[1])
            synchronize(model.device)
            seconds[way].append(time.perf_counter() - began)
    totals = {way: sum(values) for way, values in seconds.items()}
    tail = {way: sum(values[len(values) // 2 :]) for way, values in seconds.items()}
    return {
        "neurons": model.description.neurons,
        "inference_seconds": round(totals["inference"], 2),
        "probe_seconds": round(totals["probe"], 2),
        "probe_over_inference": round(totals["probe"] / totals["inference"], 3),
        "probe_over_inference_second_half": round(tail["probe"] / tail["inference"], 3),
    }


def empty(model: LoadedModel, probe_set: ProbeSet, settings: ProbeSettings) -> ModelProbe:
    membership = Membership.of(probe_set, settings)
    return ModelProbe.empty(model.description, settings, membership, range(len(probe_set)), model.device)


def infer(model: LoadedModel, pixels: Tensor) -> None:
    with torch.inference_mode():
        model.module(model.normalise(pixels.to(model.device)))


def memory_at(asked: argparse.Namespace, images: int) -> dict[str, object]:
    """A pass over so many images in a process of its own."""
    options = ["--model", asked.model, "--images", str(images), "--batch", str(asked.batch), "--only-memory"]
    options += ["--threads", str(asked.threads), "--panel", str(asked.panel)]
    done = subprocess.run([sys.executable, "-m", "benchmarks.probe", *options], check=True, capture_output=True)
    return dict(json.loads(done.stdout))


def peak_of_one_pass(asked: argparse.Namespace) -> dict[str, object]:
    model, probe_set, settings = surroundings(asked)
    into = empty(model, probe_set, settings)

    def counted() -> Iterator[tuple[list[int], Tensor]]:
        yield from batches(probe_set, range(len(probe_set)), model.description, asked.batch)

    began = time.perf_counter()
    probe(model, counted(), into)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "images": len(probe_set),
        "peak_megabytes": round(megabytes),
        "seconds": round(time.perf_counter() - began, 1),
    }


if __name__ == "__main__":
    main()
