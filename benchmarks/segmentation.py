"""Objects of the zoo's scenes found by maps of source tokens, against masks that are known to the pixel.

python -m benchmarks.segmentation --out docs/benchmarks/segmentation.json --table docs/heatmaps.md

Directions: along the true value of an attribute against its other values, by the model's own classifier, of the CLIP
by its texts; `object` is shape, colour and texture together. Beside the maps at the three levels stand, in the same run
and with the same directions and threshold: GradCAM at the input of the last attention, the gradient times the input
(smoothed), and a bump in the middle of the image, which has seen neither model nor image.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.labels import write_table
from benchmarks.machine import description
from pipeline.decompose import Level, representation
from pipeline.decompose.maps import heatmap, spread
from pipeline.draw.contact_sheet import Row, contact_sheet
from pipeline.draw.overlay import overlay, scale_of
from pipeline.label.embedder import Embedder, load_embedder
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.class_names import class_names
from pipeline.uses.segmentation import agreement, class_directions, contrasts
from pipeline.zoo import ZOO
from pipeline.zoo.captions import prompts
from pipeline.zoo.train import pixels
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, SIZE, scenes

NAMED = {
    "object": ("shape", "colour", "texture"),
    "shape": ("shape",),
    "colour": ("colour",),
    "texture": ("texture",),
    "background": ("background",),
}
PATCH = 8
"""Pixels: the margin around an object that its patch tokens may reach over."""

BATCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(ZOO))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--out")
    parser.add_argument("--table", help="markdown file whose part between the benchmark's marks is replaced")
    parser.add_argument("--rendered", help="write the table of this earlier report and measure nothing")
    parser.add_argument("--sheet", help="picture of some scenes with the heat of their object, and measure nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.sheet:
        sheet(asked.models.split(",")).save(asked.sheet, quality=80)
        return
    if asked.rendered:
        write_table(Path(asked.table), table(json.loads(Path(asked.rendered).read_text())["rows"]))
        return
    begin = time.perf_counter()
    rows = [row for name in asked.models.split(",") for row in measure(name, asked.images)]
    report = {"benchmark": "segmentation", "machine": description(), "images": asked.images, "rows": rows}
    report["seconds"] = round(time.perf_counter() - begin)
    print(json.dumps(report, indent=1))
    if asked.out:
        Path(asked.out).write_text(json.dumps(report, indent=1) + "\n")
    if asked.table:
        write_table(Path(asked.table), table(rows))


def measure(name: str, images: int) -> list[dict[str, Any]]:
    """A row for each named thing and method."""
    model = load(ModelRequest(f"zoo/{name}"))
    embedder = load_embedder(ModelRequest("zoo/clip")) if model.description.family == "clip" else None
    world = scenes(HELD_OUT_SEED, range(images))
    masks, x = torch.from_numpy(world.masks), model.normalise(pixels(world))
    with torch.no_grad():
        z = torch.cat([representation(model, part) for part in x.split(BATCH)])
    rows = []
    for named, attributes in NAMED.items():
        direction = directions(model, embedder, z, world.labels, attributes)
        for method, heat_of in METHODS.items():
            parts = zip(x.split(BATCH), direction.split(BATCH), strict=True)
            heat = torch.cat([heat_of(model, pictures, along) for pictures, along in parts])
            found = {key: round(value, 4) for key, value in asdict(agreement(heat, masks, PATCH)).items()}
            rows.append({"model": name, "named": named, "method": method} | found)
    return rows


def sheet(models: Sequence[str], images: int = 5) -> Image.Image:
    """Scenes, and over them the heat of their object in each model, at the level direct."""
    world = scenes(HELD_OUT_SEED, range(images))
    x01, columns = pixels(world), []
    for name in models:
        model = load(ModelRequest(f"zoo/{name}"))
        embedder = load_embedder(ModelRequest("zoo/clip")) if model.description.family == "clip" else None
        x = model.normalise(x01)
        with torch.no_grad():
            z = representation(model, x)
        heat = heatmap(model, x, directions(model, embedder, z, world.labels, NAMED["object"]), certify=False)
        columns.append(heat.numpy())
    rows = []
    for place in range(images):
        words, picture = world.words(place), x01[place].permute(1, 2, 0).numpy()
        drawn = [Image.fromarray(overlay(picture, heat[place], scale_of(heat[place])), "RGB") for heat in columns]
        title = f"{words['colour']} {words['shape']}, {words['texture']}"
        rows.append(Row(title, [Image.fromarray(world.images[place], "RGB"), *drawn], ["", *models]))
    return contact_sheet(rows)


def directions(
    model: LoadedModel, embedder: Embedder | None, z: Tensor, labels: Any, attributes: Sequence[str]
) -> Tensor:
    """(images, d): along the true values of attributes, against their other values."""
    total = torch.zeros_like(z)
    for attribute in attributes:
        targets = torch.from_numpy(labels[:, list(ATTRIBUTES).index(attribute)])
        if embedder is not None:
            total += contrasts(embedder.texts(prompts(attribute)), targets)
        else:
            among = [i for i, output in enumerate(class_names(model)) if output.startswith(f"{attribute}:")]
            total += class_directions(model, z, targets, among)
    return total


# ------------------------------------------------------------------------------------------------------- methods


def grad_cam(model: LoadedModel, x: Tensor, direction: Tensor) -> Tensor:
    """Positive part of the tokens that the last attention receives, along their mean gradient (1610.02391)."""
    site = model.description.attention_sites[-1]
    in_windows = site.kind in ("window", "grid")
    module = model.module.get_submodule(site.path.rpartition(".")[0] if in_windows else site.path)
    received: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda m, args: received.append(args[0]))
    try:
        with torch.enable_grad():
            z = representation(model, x.clone().requires_grad_())
            (gradient,) = torch.autograd.grad(z, received[0], direction)
    finally:
        hook.remove()
    skipped = len(site.prefix_tokens)
    tokens, slope = (one.detach().reshape(len(x), -1, one.shape[-1])[:, skipped:] for one in (received[0], gradient))
    heat = torch.einsum("ntd,nd->nt", tokens, slope.mean(1)).clamp_min(0)
    return spread(heat.reshape(len(x), 1, *site.grids[0]), (SIZE, SIZE))[:, 0]


def gradient_times_input(model: LoadedModel, x: Tensor, direction: Tensor) -> Tensor:
    """Absolute value of pixel times gradient, summed over channels, averaged over the size of a patch."""
    with torch.enable_grad():
        pictures = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(representation(model, pictures), pictures, direction)
    heat = (x * gradient).sum(1, keepdim=True).abs()
    return torch.nn.functional.avg_pool2d(heat, PATCH + 1, stride=1, padding=PATCH // 2)[:, 0]


def middle(model: LoadedModel, x: Tensor, direction: Tensor) -> Tensor:
    """A Gaussian in the middle, as wide as places of objects are spread."""
    axis = torch.arange(SIZE) + 0.5 - SIZE / 2
    bump = torch.exp(-axis.square() / (2 * 12**2))
    return (bump[:, None] * bump[None, :]).expand(len(x), SIZE, SIZE)


def _maps(level: Level) -> Callable[[LoadedModel, Tensor, Tensor], Tensor]:
    return lambda model, x, direction: heatmap(model, x, direction, level, certify=False)


METHODS: dict[str, Callable[[LoadedModel, Tensor, Tensor], Tensor]] = {
    **{level.value: _maps(level) for level in Level},
    "GradCAM": grad_cam,
    "gradient x input": gradient_times_input,
    "middle": middle,
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: for the whole object mIoU, pixel accuracy and average precision of each method; then shares of heat."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    by = {(row["model"], row["named"], row["method"]): row for row in rows}
    lines = ["mIoU / pixel accuracy / mean average precision, the object named by shape, colour and texture:", ""]
    lines += ["| model | " + " | ".join(METHODS) + " |", "| --- |" + " ---: |" * len(METHODS)]
    for model in models:
        found = [by[model, "object", method] for method in METHODS]
        cells = [f"{f['miou']:.2f} / {f['pixel_accuracy']:.2f} / {f['average_precision']:.2f}" for f in found]
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    first = rows[0]
    lines += [
        "",
        f"Share of the positive heat on the object ({first['area']:.2f} of the image), and within a patch of it "
        f"({first['area_near']:.2f}):",
        "",
    ]
    lines += ["| model | level | " + " | ".join(NAMED) + " |", "| --- | --- |" + " ---: |" * len(NAMED)]
    for model, level in product(models, ("direct", "through attention")):
        found = [by[model, named, level] for named in NAMED]
        cells = [f"{f['mass']:.2f}, {f['mass_near']:.2f}" for f in found]
        lines.append(f"| {model} | {level} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
