"""A sheet of neurons in several recipes, beside the real images that excite them most.

    python -m benchmarks.sheet --model zoo/vit --probe zoo:1000 --layers 0,1,3 --out docs/images/recipes-zoo.webp
    python -m benchmarks.sheet --model timm/vit_small_patch14_dinov2 --weights FILE --as dinov2 --input-size 112 \
        --probe FOLDER --layers 1,5,9 --recipes fast,placed,peak,aligned,maco,varied --names --out FILE.webp

A row is a neuron: its picture by each recipe (all variants), then its three strongest real images, by the strongest
patch. Units are drawn by the layer's number as seed, among those that some image excites. --names leaves the real
images away and says their names instead: for photographs that may not be passed on (and then not `accentuated` either,
whose pictures are nearly photographs).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.machine import public
from pipeline.hooks.activations import all_ffn_activations
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.visualize.ascent import visualize
from pipeline.visualize.picture import decode, to_bytes
from pipeline.visualize.recipes import RECIPES, recipe_named

GAP, LEFT, TOP, NAMES = 3, 68, 20, 150  # pixels
STRONGEST = 3


@torch.no_grad()
def strongest(model: LoadedModel, probe: ProbeSet, layers: Sequence[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """By layer, of every unit its three strongest images, and their strongest patches: (3, width) each."""
    peaks: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
    for number, (_, pixels) in enumerate(batches(probe, range(len(probe)), model.description, 16)):
        calls = all_ffn_activations(model, model.normalise(pixels.to(model.device)))
        for layer in layers:
            peaks[layer].append(torch.stack([call.amax(1) for call in calls[layer]]).amax(0).numpy())
        if number % 10 == 0:
            print(f"{16 * number} images", file=sys.stderr, flush=True)
    told = {}
    for layer, parts in peaks.items():
        all_peaks = np.concatenate(parts)
        order = np.argsort(-all_peaks, axis=0)[:STRONGEST]
        told[layer] = order, np.take_along_axis(all_peaks, order, 0)
    return told


def pixels_of(model: LoadedModel, probe: ProbeSet, indices: Sequence[int]) -> dict[int, torch.Tensor]:
    """Images by their index, as the model takes them: float (3, height, width) in [0, 1]."""
    found: dict[int, torch.Tensor] = {}
    for numbers, some in batches(probe, sorted(set(indices)), model.description, 16):
        found.update(zip(map(int, numbers), some, strict=True))
    return found


def tile(pixels: np.ndarray, side: int) -> Image.Image:
    """uint8 (height, width, 3) as it stands in the sheet."""
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="zoo/vit")
    parser.add_argument("--weights")
    parser.add_argument("--as", dest="name")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--probe", default="zoo:1000")
    parser.add_argument("--layers", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 3])
    parser.add_argument("--units", type=int, default=8, help="of each layer")
    parser.add_argument("--recipes", default=",".join(name for name in RECIPES if name != "reference"))
    parser.add_argument("--names", action="store_true", help="names of the real images instead of themselves")
    parser.add_argument("--tile", type=int, default=96, help="pixels of a picture's side in the sheet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = load(ModelRequest(asked.model, weights=asked.weights, name=asked.name, input_size=asked.input_size))
    probe, recipes = open_probe_set(asked.probe), [recipe_named(name) for name in asked.recipes.split(",")]
    top = strongest(model, probe, asked.layers)
    rows: list[tuple[str, list[Image.Image], list[str]]] = []
    for layer in asked.layers:
        order, peaks = top[layer]
        lively = [unit for unit in np.random.default_rng(layer).permutation(order.shape[1]) if peaks[0, unit] > 0]
        units = sorted(int(unit) for unit in lively[: asked.units])
        images = pixels_of(model, probe, order[:, units].ravel().tolist())
        own = {unit: torch.stack([images[int(index)] for index in order[:, unit]]) for unit in units}
        made: dict[int, list[Image.Image]] = {unit: [] for unit in units}
        for recipe in recipes:
            found = visualize(model, model.description.ffn_sites[layer], units, recipe, photographs=own)
            for one in found:
                made[one.address.unit].append(tile(decode(one.webp), asked.tile))
            seconds = sum(one.seconds for one in found) / len(units)
            print(f"layer {layer}, {recipe.name}: {seconds:.1f} s a neuron", file=sys.stderr, flush=True)
        for unit in units:
            names = [probe.images[int(index)].id for index in order[:, unit]]
            shown = [] if asked.names else [tile(to_bytes(one.numpy()), asked.tile) for one in own[unit]]
            rows.append((f"layer {layer}\nunit {unit}", made[unit] + shown, names if asked.names else []))
    titles = [name for recipe in recipes for name in [recipe.name, *[""] * (recipe.variants - 1)]]
    titles += ["strongest images"]
    draw_sheet(rows, titles, asked.tile).save(asked.out, quality=80)
    print(f"{asked.out}: python -m benchmarks.sheet {' '.join(public(sys.argv[1:]))}")


def draw_sheet(
    rows: Sequence[tuple[str, list[Image.Image], list[str]]], titles: Sequence[str], side: int
) -> Image.Image:
    """Rows of tiles, with what stands left of each and, where there are names, right of it; titles over the columns."""
    columns, named = max(len(tiles) for _, tiles, _ in rows), any(names for _, _, names in rows)
    size = (LEFT + columns * (side + GAP) + NAMES * named, TOP + len(rows) * (side + GAP))
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        pen.text((LEFT + column * (side + GAP), 4), title, fill="black")
    for number, (name, tiles, names) in enumerate(rows):
        y = TOP + number * (side + GAP)
        pen.multiline_text((4, y + side // 2 - 12), name, fill="black")
        for column, one in enumerate(tiles):
            sheet.paste(one, (LEFT + column * (side + GAP), y))
        said = "\n".join(text.rpartition(".")[0].partition("_")[2].replace("_", " ") or text for text in names)
        pen.multiline_text((LEFT + columns * (side + GAP) + 4, y + side // 2 - 20), said, fill="black")
    return sheet


if __name__ == "__main__":
    main()
