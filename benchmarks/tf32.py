"""How far figures move where a GPU multiplies float32 numbers with its TF32 units: measured on a CPU, by rounding.

    python -m benchmarks.tf32 [--models zoo/vit,zoo/swin] [--units 16] [--out docs/benchmarks/tf32.json]
    python -m benchmarks.tf32 --models timm/vit_small_patch14_dinov2 --weights FILE --input-size 112

A TF32 unit reads ten bits of the mantissa of what it multiplies and adds in float32 (NVIDIA A100 whitepaper, "TF32").
So here the last thirteen bits of both factors of every matrix product, convolution and attention are cut off, which is
at least as coarse as rounding them, and the rest is computed as ever. Judged twice, by float32 and so: pictures that
`fast` made of some neurons of the first, a middle and the last layer. Told of each column: the greatest and the median
relative difference; how many verdicts differ; of whole layers of activations the relative deviation that a worker
measures on its GPU before it uses these units (pipeline/hooks/device_check.py). bfloat16 weights stand beside.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from atlas_schema.address import NeuronAddress
from benchmarks.machine import description, public, put
from pipeline.hooks.device_check import deviation
from pipeline.models import FfnSite, LoadedModel, ModelRequest, load
from pipeline.models.device import in_precision
from pipeline.visualize.ascent import visualize
from pipeline.visualize.natural import NaturalSettings, Picture, natural_rows
from pipeline.visualize.objective import fresh_responses, respond
from pipeline.visualize.picture import stored_pixels
from pipeline.visualize.recipes import FAST
from pipeline.zoo import ZOO

MODELS = tuple(f"zoo/{name}" for name in ZOO)
COLUMNS = ("activation_stored", "activation_peak", "robust_mean", "natural_mean", "natural_peak", "natural_kept")
LEAST = 1e-3  # of the largest of its column: figures below it are compared with this instead of with themselves
aten = torch.ops.aten
FACTORS: Mapping[Any, tuple[int, ...]] = {  # places of what is multiplied
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.baddbmm.default: (1, 2),
    aten.convolution.default: (0, 1),
}
MULTIPLY = ("attention", "aten::linear", "conv", "aten::mm", "bmm", "addmm", "mkldnn", "aten::dot", "aten::mv", "addmv")
"""Parts of the names of operations that would have to stand in FACTORS: one that comes is an error, not left exact."""


class Tf32Products(TorchDispatchMode):
    """Within it, products of float32 tensors read ten bits of the mantissa of both factors."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in FACTORS:
            self.products += 1
            args = [cut(value) if place in FACTORS[func] else value for place, value in enumerate(args)]
        elif any(word in func.name() for word in MULTIPLY):
            raise NotImplementedError(f"{func.name()} multiplies, and no rule says how TF32 would")
        return func(*args, **(kwargs or {}))


def cut(values: Tensor) -> Tensor:
    """float32 with ten bits of mantissa; other types as they are."""
    return (values.view(torch.int32) & ~0x1FFF).view(torch.float32) if values.dtype == torch.float32 else values


@contextmanager
def in_tf32() -> Iterator[Tf32Products]:
    """All products as a TF32 unit does them; attention in its plain form, so that its products are seen."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), Tf32Products() as mode:
            yield mode
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    if mode.products == 0:
        raise RuntimeError("no product was seen, so that nothing was rounded")


def main() -> None:
    asked = arguments()
    report: dict[str, Any] = {
        "benchmark": "tf32",
        "command": " ".join(["python -m benchmarks.tf32", *public(sys.argv[1:])]),
        "machine": description(),
        "recipe": FAST.hash,
        "models": {},
    }
    for name in asked.models:
        model = load(ModelRequest(name, weights=asked.weights, name=asked.name, input_size=asked.input_size))
        report["models"][model.description.slug] = measured(model, asked.units)
        print(f"{name}: {report['models'][model.description.slug]}", file=sys.stderr, flush=True)
    put(report, asked.out)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=lambda text: text.split(","), default=MODELS)
    parser.add_argument("--weights")
    parser.add_argument("--as", dest="name")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--units", type=int, default=16, help="neurons of each of three layers")
    parser.add_argument("--out")
    return parser.parse_args(words)


def measured(model: LoadedModel, count: int) -> dict[str, Any]:
    """What the module says of a model."""
    sites = model.description.ffn_sites
    ways: dict[str, tuple[LoadedModel, Callable[[], Any]]] = {
        "tf32": (model, in_tf32),
        "bfloat16": (in_precision(model, "bfloat16"), nullcontext),
    }
    exact: list[dict[str, Any]] = []
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for site in (sites[0], sites[len(sites) // 2], sites[-1]):
        units = list(range(0, site.width, max(1, site.width // count)))[:count]
        made = visualize(model, site, units, FAST)
        pictures = {one.address.unit: Picture(one.webp, one.activation_start) for one in made}
        exact += judged(model, site, pictures)
        for way, (other, context) in ways.items():
            with context():
                found[way] += judged(other, site, pictures)
    return {"neurons": len(exact)} | {
        way: compared(exact, found[way]) | {"layers": float(f"{layers(model, *ways[way]):.2g}")} for way in ways
    }


def layers(model: LoadedModel, other: LoadedModel, context: Callable[[], Any]) -> float:
    """The worst layer's deviation of activations, as a worker measures it."""
    return deviation(other, model, around=context)[0]


@torch.no_grad()
def judged(model: LoadedModel, site: FfnSite, pictures: Mapping[int, Picture]) -> list[dict[str, Any]]:
    """COLUMNS and the verdict of each picture."""
    units = list(pictures)
    stored = torch.stack([stored_pixels(pictures[unit].webp) for unit in units]).to(model.device)
    mean, peak = respond(model, site, units, stored)
    keys = [(str(NeuronAddress(model.description.slug, site.layer, unit)), "robust") for unit in units]
    fresh, _ = fresh_responses(model, site, units, stored, keys, FAST.robust_draws)
    rows = natural_rows(model, site, pictures, NaturalSettings())
    own = zip(mean.tolist(), peak.tolist(), fresh.mean(1).tolist(), strict=True)
    return [
        dict(zip(COLUMNS, (*first, *(row[name] for name in COLUMNS[3:])), strict=True)) | {"verdict": row["verdict"]}
        for first, row in zip(own, rows, strict=True)
    ]


def compared(exact: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Greatest and median relative difference of each column, and the number of other verdicts."""
    told: dict[str, Any] = {}
    for name in COLUMNS:
        pairs = [(a[name], b[name]) for a, b in zip(exact, found, strict=True) if None not in (a[name], b[name])]
        right, other = (np.array(values, float) for values in zip(*pairs, strict=True))
        off = np.abs(other - right) / np.maximum(np.abs(right), LEAST * np.abs(right).max())
        told[name] = {"greatest": float(f"{off.max():.2g}"), "median": float(f"{np.median(off):.2g}")}
    told["other_verdicts"] = sum(a["verdict"] != b["verdict"] for a, b in zip(exact, found, strict=True))
    return told


if __name__ == "__main__":
    main()
