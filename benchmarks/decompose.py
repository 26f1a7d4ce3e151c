"""What contributions of all heads and FFNs cost, beside plain inference and beside keeping them as published.

    python -m benchmarks.decompose time --out docs/benchmarks/decompose-time.json
    python -m benchmarks.decompose memory --images 1000,10000,100000 --out docs/benchmarks/decompose-memory.json
    python -m benchmarks.decompose span --out docs/benchmarks/decompose-span.json

*time*, per family, the same batches in turns, so that a busy neighbour slows all alike: through the model alone;
the probe pass of its FFN neurons; through the first pass of its heads (contributions of every component, and their
moments); and through that pass without paths, every component pushed by itself, as was done before there were any. What
neurons and heads cost together in a run over RUN images follows: heads of families that are measured on the panel are
measured on so many of them.
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
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.machine import description, public, put
from benchmarks.probe import infer
from jobs.stages.heads import measured_on_panel
from pipeline.decompose.components import Level, decompose
from pipeline.decompose.contributions import CERTIFIED, Contributing
from pipeline.decompose.moments import ContributionMoments
from pipeline.decompose.paths import Paths
from pipeline.decompose.textspan import text_span
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.device import synchronize
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, probe
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes

AT_224 = (
    *("timm/vit_tiny_patch16_224", "timm/deit_tiny_distilled_patch16_224", "timm/swin_tiny_patch4_window7_224"),
    *("timm/coat_lite_tiny", "timm/coat_tiny", "timm/convit_tiny", "timm/pit_ti_224", "timm/twins_svt_small"),
    *("timm/twins_pcpvt_small", "open_clip/ViT-B-32", "timm/vit_base_patch16_224"),
)
RUN = 50_000  # images of the run whose cost is told: ImageNet's validation images
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
    parser.add_argument("--batch", type=int, default=8, help="of 224 px; of the zoo's 64 px eight times as many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("moments", "stored"), help=argparse.SUPPRESS)
    parser.add_argument("--out")
    return parser.parse_args()


def loaded(name: str) -> LoadedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load(ModelRequest(name, random_weights=not name.startswith("zoo/")), device)


def scenes_of(model: LoadedModel, first: int, count: int) -> Tensor:
    """(count, 3, height, width) in [0, 1]: scenes at the model's input size."""
    x = pixels(scenes(HELD_OUT_SEED, range(first, first + count)))
    return functional.interpolate(x, size=model.description.input_size, mode="bilinear").to(model.device)


def pictures(model: LoadedModel, first: int, count: int) -> Tensor:
    """`scenes_of`, normalised."""
    return model.normalise(scenes_of(model, first, count))


# -------------------------------------------------------------------------------------------------------- time


def timed(asked: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name in asked.models:
        rows.append(compared(loaded(name), asked.batches, asked.batch * (8 if name in ZOO else 1)))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


WAYS = ("inference", "neurons", "heads", "pushed")


def compared(model: LoadedModel, batches: int, batch: int) -> dict[str, Any]:
    """Processor seconds of plain inference and of the passes over the same batches, in turns."""
    images = (batches + 1) * batch
    everything = Membership(torch.ones(images, dtype=torch.bool), torch.full((images,), -1), ())
    neurons = ModelProbe.empty(model.description, ProbeSettings(), everything, range(images), model.device)
    heads, before = Summing(Contributing(model)), Summing(Pushing(model))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(batches + 1):
        shown = scenes_of(model, number * batch, batch)
        x = model.normalise(shown)
        indices = range(number * batch, (number + 1) * batch)
        run = {
            "inference": partial(infer, model, shown),
            "neurons": partial(probe, model, [(indices, shown)], neurons),
            "heads": partial(heads, x),
            "pushed": partial(before, x),
        }
        for way in sorted(WAYS, key=lambda way: (WAYS.index(way) + number) % len(WAYS)):
            synchronize(model.device)
            began = clock(model)
            run[way]()
            synchronize(model.device)
            if number:  # the first batch pays for the certificate and for warming up
                seconds[way].append(clock(model) - began)
    plain = sum(seconds["inference"])
    over = {way: sum(seconds[way]) / plain for way in WAYS}
    on_panel = measured_on_panel(model.description)
    share = ProbeSettings().panel / RUN if on_panel else 1.0
    return {
        "model": model.description.id,
        "family": model.description.family,
        "input": model.description.input_size[0],
        "components": len(heads.contributing.components),
        "heads": model.description.heads,
        "heads_through_attention": sum(level != "direct" for level in heads.contributing.levels),
        "inference_ms_an_image": round(1000 * plain / batches / batch, 2),
        "neurons_over_inference": round(over["neurons"], 2),
        "heads_over_inference": round(over["heads"], 2),
        "heads_without_paths_over_inference": round(over["pushed"], 2),
        "heads_on_the_panel": on_panel,
        f"together_over_inference_on_{RUN}_images": round(over["neurons"] + share * over["heads"], 2),
    }


class Pushing(Contributing):
    """Contributions as before there were paths: every component's vector is pushed to the representation."""

    def look_at(self, x: Tensor) -> None:
        if not self.levels:
            super().look_at(x)
            self.paths = Paths()
            self._idle = decompose(self.model, x[:CERTIFIED], Level.DIRECT, certify=False).idle


@dataclass
class Summing:
    """The first pass of a run over heads: contributions of a batch, and their moments."""

    contributing: Contributing
    into: ContributionMoments | None = None

    def __call__(self, x: Tensor) -> None:
        found = self.contributing(x)
        components, width = found.vectors.shape[1:]
        none = torch.zeros(components, dtype=torch.bool)
        self.into = self.into or ContributionMoments(none, self.contributing.model.description.heads, width, x.device)
        self.into.update(found)


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
