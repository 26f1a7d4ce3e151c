"""What contributions of all heads and FFNs cost, beside plain inference and beside keeping them as published.

    python -m benchmarks.decompose time --out docs/benchmarks/decompose-time.json
    python -m benchmarks.decompose memory --images 1000,10000,100000 --out docs/benchmarks/decompose-memory.json
    python -m benchmarks.decompose span --out docs/benchmarks/decompose-span.json

*time*, per family: the same batches go through the model alone and through the first pass (contributions of every
component, and their moments), in turns that alternate batch by batch, so that a busy neighbour slows both alike.
*memory*: a process of its own for each way and number of images reports its highest resident size; `stored` keeps every
image's contributions, as the published code does, `moments` is ours. Images are generated batch by batch.
*span*: TextSpan of all heads from moments, against the published algorithm on stored contributions; seconds of both in
one run, and how many heads get the same texts in the same order.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.machine import description, public, put
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.moments import ContributionMoments
from pipeline.decompose.textspan import text_span
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.device import synchronize
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes

AT_224 = (
    *("timm/vit_tiny_patch16_224", "timm/deit_tiny_distilled_patch16_224", "timm/swin_tiny_patch4_window7_224"),
    *("timm/coat_lite_tiny", "timm/coat_tiny", "timm/convit_tiny", "timm/pit_ti_224", "timm/twins_svt_small"),
    *("timm/twins_pcpvt_small", "open_clip/ViT-B-32"),
)
ZOO = tuple(f"zoo/{name}" for name in ("vit", "deit", "swin", "coat", "convit", "pit", "twins", "clip"))


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    if asked.only:
        print(json.dumps(peak(asked)))
        return
    parts = {"time": timed, "memory": remembered, "span": spanned}
    report = {
        "benchmark": f"decompose {asked.part}",
        "command": " ".join(["python -m benchmarks.decompose", *public(sys.argv[1:])]),
        "machine": description(),
        "threads": asked.threads,
        asked.part: parts[asked.part](asked),
    }
    put(report, asked.out)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("time", "memory", "span"))
    parser.add_argument("--models", type=lambda text: text.split(","), default=[*ZOO, *AT_224])
    parser.add_argument("--images", type=lambda text: [int(part) for part in text.split(",")], default=[1000, 10000])
    parser.add_argument("--stored-up-to", type=int, default=10_000, help="images that `stored` keeps, at most")
    parser.add_argument("--model", default="zoo/vit", help="of the memory benchmark")
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("moments", "stored"), help=argparse.SUPPRESS)
    parser.add_argument("--out")
    return parser.parse_args()


def loaded(name: str) -> LoadedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load(ModelRequest(name, random_weights=not name.startswith("zoo/")), device)


def pictures(model: LoadedModel, first: int, count: int) -> Tensor:
    """(count, 3, height, width), normalised: scenes at the model's input size."""
    x = pixels(scenes(HELD_OUT_SEED, range(first, first + count)))
    size = model.description.input_size
    return model.normalise(functional.interpolate(x, size=size, mode="bilinear").to(model.device))


# -------------------------------------------------------------------------------------------------------- time


def timed(asked: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name in asked.models:
        rows.append(compared(loaded(name), asked))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def compared(model: LoadedModel, asked: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds of plain inference and of the first pass over the same batches, in turns."""
    contributing, into = Contributing(model), None
    seconds: dict[str, list[float]] = {"inference": [], "contributions": []}
    for number in range(asked.batches + 1):
        x = pictures(model, number * asked.batch, asked.batch)
        for way in ("inference", "contributions") if number % 2 else ("contributions", "inference"):
            synchronize(model.device)
            began = clock(model)
            if way == "inference":
                with torch.inference_mode():
                    model.module(x)
            else:
                found = contributing(x)
                components, width = found.vectors.shape[1:]
                into = into or ContributionMoments(
                    torch.zeros(components, dtype=torch.bool), model.description.heads, width, x.device
                )
                into.update(found)
            synchronize(model.device)
            if number:  # the first batch pays for the certificate and for warming up
                seconds[way].append(clock(model) - began)
    plain, whole = (sum(seconds[way]) for way in ("inference", "contributions"))
    indirect = sum(level != "direct" for level in contributing.levels)
    return {
        "model": model.description.id,
        "family": model.description.family,
        "input": model.description.input_size[0],
        "components": len(contributing.components),
        "heads": model.description.heads,
        "heads_through_attention": indirect,
        "inference_ms_an_image": round(1000 * plain / asked.batches / asked.batch, 2),
        "contributions_over_inference": round(whole / plain, 2),
    }


def clock(model: LoadedModel) -> float:
    """Processor time on a CPU, which neighbours disturb less; clock time on an accelerator."""
    return time.process_time() if model.device.type == "cpu" else time.perf_counter()


# ------------------------------------------------------------------------------------------------------ memory


def remembered(asked: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for images in asked.images:
        for way in ("moments", "stored"):
            if way == "stored" and images > asked.stored_up_to:
                continue
            options = ["memory", "--only", way, "--images", str(images), "--model", asked.model]
            options += ["--batch", str(asked.batch), "--threads", str(asked.threads)]
            command = [sys.executable, "-m", "benchmarks.decompose", *options]
            done = subprocess.run(command, check=True, capture_output=True)
            rows.append(dict(json.loads(done.stdout)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def peak(asked: argparse.Namespace) -> dict[str, Any]:
    """The highest resident size of one pass, images generated on the way."""
    model, images = loaded(asked.model), asked.images[0]
    began, kept, into = time.perf_counter(), [], None
    for vectors, found in contributions(model, images, asked.batch):
        if asked.only == "stored":
            kept.append(vectors.clone())
            continue
        components, width = vectors.shape[1:]
        into = into or ContributionMoments(torch.zeros(components, dtype=torch.bool), model.description.heads, width)
        into.update(found)
    if kept:
        torch.cat(kept).var(0)  # what is read of them in the end
    return {
        "way": asked.only,
        "model": asked.model,
        "images": images,
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": round(time.perf_counter() - began, 1),
    }


def contributions(model: LoadedModel, images: int, batch: int) -> Iterator[tuple[Tensor, Any]]:
    contributing = Contributing(model)
    for first in range(0, images, batch):
        found = contributing(pictures(model, first, min(batch, images - first)))
        yield found.vectors, found


# -------------------------------------------------------------------------------------------------------- span


def spanned(asked: argparse.Namespace) -> list[dict[str, Any]]:
    """TextSpan both ways on the same contributions of zoo models, with random texts."""
    rows = []
    for name in [one for one in asked.models if one in ZOO]:
        rows.append(both_ways(loaded(name), asked.images[0]))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def both_ways(model: LoadedModel, images: int, texts: int = 3500, count: int = 20) -> dict[str, Any]:
    from tests.pipeline.published_textspan import published_text_span

    heads, into = model.description.heads, None
    kept: list[Tensor] = []
    for vectors, found in contributions(model, images, 64):
        into = into or ContributionMoments(torch.zeros(vectors.shape[1], dtype=torch.bool), heads, vectors.shape[2])
        into.update(found)
        kept.append(vectors[:, :heads].double())
    assert into is not None
    stored = torch.cat(kept)
    pool = torch.randn(texts, stored.shape[2], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pool = functional.normalize(pool, dim=1)
    seconds = {"moments": 0.0, "stored": 0.0}
    same = 0
    for head in range(heads):
        began = time.process_time()
        ours = text_span(into.mean[head], into.covariance[head], pool, count=count).text.tolist()
        middle = time.process_time()
        theirs, _ = published_text_span(stored[:, head].numpy(), pool.numpy(), len(ours), 80)
        seconds["moments"] += middle - began
        seconds["stored"] += time.process_time() - middle
        same += ours == theirs
    return {
        "model": model.description.id,
        "images": images,
        "texts": texts,
        "heads": heads,
        "heads_with_the_same_texts_in_order": same,
        "moments_seconds": round(seconds["moments"], 3),
        "stored_seconds": round(seconds["stored"], 3),
        "stored_over_moments": round(seconds["stored"] / seconds["moments"], 1),
    }


if __name__ == "__main__":
    main()
