"""Is a neuron's picture nearer to the patches that excite it than to those that excite other neurons?

    python -m benchmarks.nearness --model timm/vit_small_patch14_dinov2 --weights FILE --as dinov2 --input-size 112 \
        --probe FOLDER --layers 0,1,3,5,7,10 --units 43 --recipes fast,placed,peak,aligned,maco,reference \
        --pictures FOLDER --out docs/benchmarks/NAME.json

For models whose neurons have no known meaning, where benchmarks/legibility.py cannot ask what a picture says. Of each
layer, 1,000 neurons are candidates, each told by its nine exciting crops: the windows of nine photographs that hold its
strongest patches. A picture is told by the window that holds its own strongest patch. Both are embedded by measures
that no ascent climbed, and the candidates are put in the order of their cosine to the picture: `nearer` is the share of
the other candidates that its own neuron is ahead of (chance 0.5), `first_hundredth` how often it is among the nearest
hundredth (chance 0.01). Every dimension is centred and scaled first, of pictures by the pictures of that recipe and
layer, of crops by those of the candidates: what all pictures share, their style, says nothing of any one of them.

Embedded by: final representations of the zoo's models, trained on drawn scenes; `colours`, a histogram; `waves`, how
much brightness varies by scale and direction; `own`, the final representation of the model itself, whose first layers
the ascent did climb; and any --embedder MODEL (an open_clip model, where the hub can be reached).

The bound: the neuron's strongest real crop in the place of its picture, told apart by the others' eight, with the
photograph that it is of left out of every candidate. An embedder by which even that is not nearer says nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.legibility import mean_and_error
from benchmarks.machine import description, public, put
from benchmarks.recipes import AT_ONCE, chosen_units, keep, loaded, made, model_arguments, note, picture_path
from pipeline import zoo
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.label.embedder import Embedder, image_views, load_embedder
from pipeline.models import FfnSite, LoadedModel, ModelRequest
from pipeline.models.device import choose_precision
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, probe
from pipeline.visualize.picture import stored_pixels
from pipeline.visualize.recipes import RECIPES

CANDIDATES, CROPS = 1000, 9
SIDE = 64  # pixels of a window that `colours` and `waves` read
BOUND = "strongest crop"

Embed = Callable[[Tensor], Tensor]
"""Square images (n, 3, height, width) in [0, 1] -> float32 (n, VIEWS, d): each whole, and its nine windows."""


# --- embedders -----------------------------------------------------------------------------------------------


def colours(pixels: Tensor) -> Tensor:
    """(n, 3, h, w) in [0, 1] -> (n, 125): square roots of the shares of 5 x 5 x 5 colours, of both neighbours by
    nearness (after Swain and Ballard, Color Indexing, 1991)."""
    bins = 5
    places = pixels.flatten(2) * (bins - 1)  # (n, 3, pixels)
    low = places.floor().clamp(max=bins - 2)
    high = places - low
    counts = pixels.new_zeros(len(pixels), bins**3)
    for corner in range(8):
        upper = torch.tensor([corner >> axis & 1 for axis in range(3)]).view(1, 3, 1)
        index = ((low.long() + upper) * torch.tensor([bins**2, bins, 1]).view(1, 3, 1)).sum(1)
        counts.scatter_add_(1, index, torch.where(upper.bool(), high, 1 - high).prod(1))
    return (counts / counts.sum(1, keepdim=True)).sqrt()


def waves(pixels: Tensor) -> Tensor:
    """(n, 3, h, w) in [0, 1] -> (n, 32): logarithm of the power of brightness in 4 octaves times 8 directions.

    Cell 8 * octave + direction: octave 0 is the finest; direction 0 varies from left to right, 4 from top to bottom.
    """
    grey = pixels.mean(1)
    height, width = grey.shape[1:]
    fade = torch.hann_window(height)[:, None] * torch.hann_window(width)
    power = torch.fft.fft2((grey - grey.mean((1, 2), keepdim=True)) * fade).abs().square()
    y, x = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)[None]
    octave = (-torch.log2((y**2 + x**2).sqrt().clamp(min=1e-6))).floor().clamp(1, 4) - 1  # from half a cycle a pixel
    direction = (torch.atan2(y, x) % torch.pi / torch.pi * 8).round() % 8
    cell = (octave * 8 + direction).long().flatten()
    sums = torch.zeros(len(pixels), 32).index_add_(1, cell, power.flatten(1))
    return torch.log(sums / torch.bincount(cell, minlength=32) + 1e-6)


def by_hand(described: Callable[[Tensor], Tensor]) -> Embed:
    """A description of pixels, of all views of an image."""
    return lambda squares: torch.stack([described(image_views(square, (SIDE, SIDE))) for square in squares])


def by_model(embedder: Embedder) -> Embed:
    return lambda squares: embedder.embed_views(list(squares))


def embedders(model: LoadedModel, further: Sequence[str]) -> dict[str, Embed]:
    """By name, none of them climbed by the ascents of `model` but `own`."""
    models = {f"zoo/{name}": by_model(load_embedder(ModelRequest(f"zoo/{name}"))) for name in zoo.ZOO}
    models |= {name: by_model(load_embedder(ModelRequest(name), model.device)) for name in further}
    return {"colours": by_hand(colours), "waves": by_hand(waves), **models, "own": by_model(Embedder(model))}


# --- what excites neurons ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Excited:
    """What excites some neurons most: images, and windows of them, by their strongest patches, strongest first.

    images, windows: int64 (CROPS, neurons); peak: float (neurons,), of the first.
    """

    images: Tensor
    windows: Tensor
    peak: Tensor

    @classmethod
    def by(cls, peaks: Tensor, windows: Tensor) -> Excited:
        """peaks, windows: (images, neurons), of every image its strongest patch."""
        order = peaks.sort(dim=0, descending=True, stable=True).indices[:CROPS]
        return cls(order, windows.long().gather(0, order), peaks.amax(0))

    def of(self, units: Sequence[int]) -> Excited:
        some = torch.as_tensor(units, dtype=torch.int64)
        return Excited(self.images[:, some], self.windows[:, some], self.peak[some])

    def crops(self, views: Tensor) -> Tensor:
        """views: (images, VIEWS, d) -> (CROPS, neurons, d)."""
        return views[self.images, self.windows + 1]


def strongest_patches(
    model: LoadedModel, images: Iterable[tuple[Sequence[int], Tensor]], count: int
) -> dict[int, tuple[Tensor, Tensor]]:
    """By layer the highest value of every neuron on every image, and its window: (count, width) each."""
    all_of_them = Membership(torch.ones(count, dtype=torch.bool), torch.full((count,), -1), ())
    into = ModelProbe.empty(model.description, ProbeSettings(panel=count), all_of_them, range(count), model.device)
    sites = probe(model, images, into).sites
    found = {layer: site.panel.arrays() for layer, site in sites.items()}
    return {layer: (own["peak"].float(), own["window"]) for layer, own in found.items()}


def candidates(excited: Excited, chosen: Sequence[int], layer: int) -> list[int]:
    """The chosen units, then others of the layer that some image excites, drawn by its number: CANDIDATES at most."""
    drawn = np.random.default_rng([layer, 1]).permutation(len(excited.peak))
    others = [int(unit) for unit in drawn if excited.peak[unit] > 0 and int(unit) not in set(chosen)]
    return [*chosen, *others][:CANDIDATES]


# --- how near -----------------------------------------------------------------------------------------------------


def own_place(queries: Tensor, references: Tensor) -> Tensor:
    """Share of the other candidates that each query's own is nearer than, ties half: float64 (queries,).

    queries: (n, d), of which number i belongs to candidate i. references: (candidates, d), or (n, candidates, d) where
    they differ by query. Each dimension is centred and scaled, of either by its own. ValueError for numbers
    that are not finite.
    """
    if not (torch.isfinite(queries).all() and torch.isfinite(references).all()):
        raise ValueError("embeddings that are NaN or infinite have no place: expected finite ones.")
    one_set = references.ndim == 2
    q = functional.normalize(_standard(queries, queries), dim=-1)
    r = functional.normalize(_standard(references, references if one_set else references.mean(0)), dim=-1)
    cosines = q @ r.T if one_set else torch.einsum("nd,ncd->nc", q, r)
    own = cosines.diagonal()[:, None]
    below = (cosines < own).sum(1).double() + ((cosines == own).sum(1) - 1).double() / 2
    return below / (cosines.shape[1] - 1)


def _standard(vectors: Tensor, of: Tensor) -> Tensor:
    return (vectors - of.mean(0)) / of.std(0).clamp(min=1e-6)


def place_of_crops(crops: Tensor, images: Tensor, count: int) -> Tensor:
    """The bound: `own_place` of the strongest crop of the first `count` candidates, told by the others' crops.

    crops: (CROPS, candidates, d); images: (CROPS, candidates). The crop's photograph counts for no candidate, and its
    own one is told by its other crops.
    """
    kept = (images[None] != images[0, :count, None, None]).to(crops.dtype)  # (count, CROPS, candidates)
    means = torch.einsum("nkc,kcd->ncd", kept, crops) / kept.sum(1)[..., None].clamp(min=1)
    return own_place(crops[0, :count], means)


def compared(places: Mapping[str, Tensor]) -> dict[str, Any]:
    """Of each way the mean place, with its standard error, and how often it is among the nearest hundredth; beside the
    first recipe the mean difference by neuron."""
    first = next(iter(places))
    report: dict[str, Any] = {}
    for way, own in places.items():
        report[way] = {
            "nearer": mean_and_error(own.numpy()),
            "first_hundredth": round(float((own >= 0.99).double().mean()), 3),
        }
        if way not in (first, BOUND):
            report[way][f"less {first}"] = mean_and_error((own - places[first]).numpy())
    return report


# --- pictures -----------------------------------------------------------------------------------------------------


def pictures(
    model: LoadedModel, site: FfnSite, units: Sequence[int], recipe: str, precision: str, kept: Path | None
) -> Tensor:
    """float (units, 3, height, width) in [0, 1], as stored; made where the folder does not have them yet."""

    paths = {unit: picture_path(kept, model, site, unit, recipe, precision) for unit in units} if kept else {}
    have = {unit: path.read_bytes() for unit, path in paths.items() if path.exists()}
    missing = [unit for unit in units if unit not in have]
    for begin in range(0, len(missing), AT_ONCE):
        found = made(model, site, missing[begin : begin + AT_ONCE], recipe, precision)
        have |= {one.unit: one.webp for one in found}
        if kept:
            keep(kept, model, site, recipe, precision, found)
        note(f"layer {site.layer}, {recipe}: {begin + len(found)} of {len(missing)} pictures")
    return torch.stack([stored_pixels(have[unit]) for unit in units])


def main() -> None:
    parser = model_arguments(__doc__)
    parser.add_argument("--probe", required=True, help="photographs: a folder, or whatever a run takes")
    parser.add_argument("--recipes", type=lambda text: text.split(","), default=["fast", "placed", "peak", "maco"])
    parser.add_argument("--precision", help="of the ascents (measured where not given)")
    parser.add_argument("--embedder", action="append", default=[], metavar="MODEL", help="a further one; may repeat")
    parser.add_argument("--pictures", type=Path, help="folder that keeps the pictures, for the next run")
    parser.add_argument("--kept", action="store_true", help="climb nothing: neurons that --pictures has of all recipes")
    parser.add_argument("--out")
    asked = parser.parse_args()
    if asked.kept and not asked.pictures:
        parser.error("--kept: of which folder? Give it as --pictures FOLDER")
    unknown = [name for name in asked.recipes if name not in RECIPES or RECIPES[name].variants > 1]
    if unknown:
        parser.error(f"--recipes: {','.join(unknown)}: expected some of {', '.join(RECIPES)}, one picture each")
    torch.set_num_threads(1)
    model = loaded(asked)
    precision = asked.precision or choose_precision(model)
    probe_set = open_probe_set(asked.probe)
    by = embedders(model, asked.embedder)
    views = embedded(by, probe_set, model)
    peaks = strongest_patches(model, batches(probe_set, range(len(probe_set)), model.description, 16), len(probe_set))
    report: dict[str, Any] = {
        "benchmark": "nearness",
        "command": " ".join(["python -m benchmarks.nearness", *public(sys.argv[1:])]),
        "machine": description(),
        "model": model.description.slug,
        "fingerprint": model.fingerprint[:16],
        "images": len(probe_set),
        "precision": precision,
        "recipes": {name: RECIPES[name].hash for name in asked.recipes},
        "layers": [],
    }
    every: dict[str, dict[str, list[Tensor]]] = {name: {} for name in by}
    for layer in asked.layers:
        site, excited = model.description.ffn_sites[layer], Excited.by(*peaks[layer])
        chosen = [unit for unit in chosen_units(site, asked.units) if excited.peak[unit] > 0]
        if asked.kept:
            there = partial(picture_path, asked.pictures, model, site)
            chosen = [u for u in chosen if all(there(u, recipe, precision).exists() for recipe in asked.recipes)]
        against = excited.of(candidates(excited, chosen, layer))
        shown = {recipe: pictures(model, site, chosen, recipe, precision, asked.pictures) for recipe in asked.recipes}
        seen = {
            recipe: strongest_patches(model, [(range(len(own)), own)], len(own))[layer][1].long()
            for recipe, own in shown.items()
        }
        rows = torch.arange(len(chosen))
        of_layer: dict[str, Any] = {}
        for name, embed in by.items():
            crops = against.crops(views[name])
            places = {
                recipe: own_place(embed(own)[rows, seen[recipe][rows, torch.tensor(chosen)] + 1], crops.mean(0))
                for recipe, own in shown.items()
            }
            places[BOUND] = place_of_crops(crops, against.images, len(chosen))
            of_layer[name] = compared(places)
            for way, own in places.items():
                every[name].setdefault(way, []).append(own)
        report["layers"].append(
            {
                "layer": layer,
                "depth": round(site.depth, 3),
                "neurons": len(chosen),
                "candidates": len(against.peak),
                "by": of_layer,
            }
        )
        note(f"layer {layer}: {len(chosen)} neurons")
    report["all"] = {
        name: compared({way: torch.cat(parts) for way, parts in ways.items()}) for name, ways in every.items()
    }
    put(report, asked.out)


def embedded(by: Mapping[str, Embed], probe_set: ProbeSet, model: LoadedModel) -> dict[str, Tensor]:
    """By embedder the views of all images, in the square that the model sees: float32 (images, VIEWS, d) each."""
    parts: dict[str, list[Tensor]] = {name: [] for name in by}
    for _, pixels in batches(probe_set, range(len(probe_set)), model.description, 16):
        for name, embed in by.items():
            parts[name].append(embed(pixels))
    return {name: torch.cat(own) for name, own in parts.items()}


if __name__ == "__main__":
    main()
