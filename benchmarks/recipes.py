"""What the pictures of several recipes reach, clean and changed, neuron by neuron.

    python -m benchmarks.recipes [--model zoo/vit] [--recipes fast,placed,reference] [--layers 0,1] [--units 6]
    python -m benchmarks.recipes --model timm/vit_small_patch14_dinov2 --weights FILE --as dinov2 --input-size 112 \
        --recipes fast,reference --layers 0,1,3,5,7,10 --units 43 --state FILE.jsonl --out docs/benchmarks/NAME.json

Each recipe makes a picture of the same neurons, drawn by the layer's number as seed; the stored picture is judged by
four measures: `clean`, the mean over patches; `natural` and `natural_peak`, the mean over patches and the strongest
patch averaged over five kinds of natural change, as the stage verdict does; `published`, the mean over patches under
the colour shift of the published transform (32 draws, the same for every recipe). Told by depth and over all, of each
recipe: medians, verdicts, cost; and against the last one named, of each measure: the share of neurons where it is not
lower with its 95 % interval (Wilson), and the mean difference over that recipe's mean absolute value with its 95 %
interval (bootstrap over neurons, 10,000 draws).

`reference` takes one to twelve minutes a neuron of a core at 224 px: with --state every batch of results is kept, and
the next run goes on from there; --known compares what the state has of all recipes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atlas_schema.address import NeuronAddress
from benchmarks.machine import description, public, put
from pipeline.models import FfnSite, LoadedModel, ModelRequest, load
from pipeline.models.device import choose_precision
from pipeline.visualize.ascent import visualize
from pipeline.visualize.natural import NaturalSettings, Picture, natural_rows
from pipeline.visualize.objective import fresh_responses, respond
from pipeline.visualize.picture import stored_pixels
from pipeline.visualize.recipes import RECIPES

MEASURES = ("clean", "natural", "natural_peak", "published")
DRAWS = RECIPES["reference"].robust_draws
AT_ONCE = 8  # neurons whose results are kept together
SETTINGS = NaturalSettings()
JUDGED_BY = hashlib.sha256(json.dumps(asdict(SETTINGS), sort_keys=True).encode()).hexdigest()[:8]  # of keys: all values


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    model = loaded(asked)
    precisions = asked.precision or [choose_precision(model)]
    state = State(asked.state)
    chosen = {layer: chosen_units(model.description.ffn_sites[layer], asked.units) for layer in asked.layers}
    if not asked.known:
        for layer, some in turns(chosen):
            site = model.description.ffn_sites[layer]
            for recipe in asked.recipes:
                new = [unit for unit in some if found_of(model, site, unit, recipe, precisions, state) is None]
                climb(model, site, new, recipe, precisions[-1], state, asked.pictures)
    known: dict[int, list[tuple[dict[str, Any], ...]]] = {}
    for layer, units in chosen.items():
        site = model.description.ffn_sites[layer]
        found = [[found_of(model, site, unit, one, precisions, state) for one in asked.recipes] for unit in units]
        known[layer] = [tuple(row for row in own if row) for own in found if all(own)]
    every = [own for of_layer in known.values() for own in of_layer]
    report = {
        "benchmark": "recipes",
        "command": " ".join(["python -m benchmarks.recipes", *public(sys.argv[1:])]),
        "machine": description(),
        "model": model.description.slug,
        "fingerprint": model.fingerprint[:16],
        "input_size": list(model.description.input_size),
        "precision": {
            recipe: dict(Counter(own[at]["key"].split()[-2] for own in every))
            for at, recipe in enumerate(asked.recipes)
        },
        "recipes": {name: RECIPES[name].hash for name in asked.recipes},
        "natural": {"draws": SETTINGS.draws, "holds": SETTINGS.holds, "fails": SETTINGS.fails},
        "layers": [
            {"layer": layer, "depth": round(model.description.ffn_sites[layer].depth, 3)}
            | compared(known[layer], asked.recipes)
            for layer in known
        ],
        "all": compared(every, asked.recipes),
        "raw": {str(layer): [raw(own, asked.recipes) for own in known[layer]] for layer in known},
    }
    put(report, asked.out)


def found_of(
    model: LoadedModel, site: FfnSite, unit: int, recipe: str, precisions: Sequence[str], state: State
) -> dict[str, Any] | None:
    """What the state has of a neuron by a recipe, in the first precision that it has; None where it has none."""
    keys = (key_of(model, site, unit, RECIPES[recipe].hash, precision) for precision in precisions)
    return next((row for row in map(state.of, keys) if row), None)


def loaded(asked: argparse.Namespace) -> LoadedModel:
    """The model that `model_arguments` ask for, on a GPU where there is one."""
    request = ModelRequest(
        model=asked.model,
        weights=asked.weights,
        name=asked.name,
        random_weights=asked.random_weights,
        input_size=asked.input_size,
    )
    return load(request, device="cuda" if torch.cuda.is_available() else "cpu")


def model_arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that asks for a model, and for neurons of it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="zoo/vit")
    parser.add_argument("--weights")
    parser.add_argument("--as", dest="name")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--layers", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2, 3])
    parser.add_argument("--units", type=int, default=6, help="neurons a layer")
    return parser


def arguments() -> argparse.Namespace:
    parser = model_arguments(__doc__)
    parser.add_argument(
        "--recipes", type=lambda text: text.split(","), default=["placed", "fast"], help="yardstick last"
    )
    parser.add_argument(
        "--precision",
        type=lambda text: text.split(","),
        help="of the ascents; of several, what the state has in any counts, and what it lacks climbs in the last",
    )
    parser.add_argument("--state", help="JSON lines: what each recipe reached on each neuron, kept and reused")
    parser.add_argument("--pictures", type=Path, help="folder that keeps what climbs now, for benchmarks/nearness.py")
    parser.add_argument("--known", action="store_true", help="climb nothing: compare what the state has of all")
    parser.add_argument("--out")
    asked = parser.parse_args()
    if not set(asked.recipes) <= set(RECIPES) or any(RECIPES[name].variants > 1 for name in asked.recipes):
        parser.error(f"--recipes: {','.join(asked.recipes)}: expected some of {', '.join(RECIPES)}, one picture each")
    return asked


def chosen_units(site: FfnSite, count: int) -> list[int]:
    """The neurons of a layer that are compared, drawn by its number: the first of them are those of a shorter run."""
    return [int(unit) for unit in np.random.default_rng(site.layer).permutation(site.width)[:count]]


def turns(chosen: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, Sequence[int]]]:
    """A few neurons of every layer at a time, so that a run that is stopped has something of every depth."""
    for begin in range(0, max(map(len, chosen.values()), default=0), AT_ONCE):
        for layer, units in chosen.items():
            if units[begin : begin + AT_ONCE]:
                yield layer, units[begin : begin + AT_ONCE]


class State:
    """Results by key, in a file of JSON lines that grows; in memory alone without a file."""

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        lines = self.path.read_text().splitlines() if self.path and self.path.exists() else []
        self.rows = {row["key"]: row for row in map(json.loads, filter(str.strip, lines))}

    def of(self, key: str) -> dict[str, Any] | None:
        return self.rows.get(key)

    def without(self, keys: Mapping[int, str]) -> list[int]:
        """The units whose key has no result yet."""
        return [unit for unit, key in keys.items() if key not in self.rows]

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows |= {row["key"]: row for row in rows}
        if self.path:
            with self.path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)


def key_of(model: LoadedModel, site: FfnSite, unit: int, way: str, precision: str) -> str:
    """Everything that decides a result: weights, size of the input, neuron, the way's own settings (of a recipe its
    hash), number format, the natural changes that judge it."""
    size = "x".join(map(str, model.description.input_size))
    return f"{model.fingerprint[:16]} {size} {site.layer} {unit} {way} {precision} {JUDGED_BY}"


def picture_path(folder: Path, model: LoadedModel, site: FfnSite, unit: int, recipe: str, precision: str) -> Path:
    """Where --pictures keeps a neuron's picture: named by everything that decides it."""
    size = "x".join(map(str, model.description.input_size))
    name = f"{model.fingerprint[:16]} {size} {site.layer} {unit} {RECIPES[recipe].hash} {precision}"
    return folder / f"{name.replace(' ', '-')}.webp"


def keep(folder: Path, model: LoadedModel, site: FfnSite, recipe: str, precision: str, made: Iterable[Made]) -> None:
    """Pictures in that folder, for benchmarks/nearness.py and the next run."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in made:
        picture_path(folder, model, site, one.unit, recipe, precision).write_bytes(one.webp)


def climb(
    model: LoadedModel,
    site: FfnSite,
    units: Sequence[int],
    recipe: str,
    precision: str,
    state: State,
    kept: Path | None = None,
) -> None:
    """Run a recipe on the neurons that the state does not have, and judge what it reached. kept: of the pictures."""
    keys = {unit: key_of(model, site, unit, RECIPES[recipe].hash, precision) for unit in units}
    missing = state.without(keys)
    if not missing:
        return
    found = made(model, site, missing, recipe, precision)
    if kept:
        keep(kept, model, site, recipe, precision, found)
    rows = judged(model, site, found)
    state.add([{"key": keys[row["unit"]]} | row for row in rows])
    note(f"layer {site.layer}, {recipe}: {len(missing)} neurons, {rows[0]['cpu_seconds']:.1f} s of a core each")


@dataclass(frozen=True)
class Made:
    """A picture of a neuron, whoever made it, as a dataset would store it; and what it cost."""

    unit: int
    webp: bytes
    start: float  # activation of the image that the ascent began with, mean over patches
    image_steps: int  # forward and backward passes of one picture
    cpu_seconds: float  # of a core, the judging left out
    rescue: str | None = None


def made(model: LoadedModel, site: FfnSite, units: Sequence[int], recipe: str, precision: str) -> list[Made]:
    """Pictures of neurons by a recipe of ours; seconds are of the whole, what a row's own numbers take among them."""
    began = time.process_time()
    results = visualize(model, site, units, RECIPES[recipe], precision=precision)
    seconds = (time.process_time() - began) / len(units)
    return [
        Made(one.address.unit, one.webp, one.activation_start, one.image_steps, seconds, one.rescue) for one in results
    ]


def judged(model: LoadedModel, site: FfnSite, pictures: Sequence[Made]) -> list[dict[str, Any]]:
    """What each stored picture reaches by MEASURES, its verdict and its cost: the same for all ways to make one."""
    natural = natural_rows(model, site, {one.unit: Picture(one.webp, one.start) for one in pictures}, SETTINGS)
    by_unit = {row["unit"]: row for row in natural}
    return [
        {
            "unit": one.unit,
            "clean": unchanged(model, site, one),
            "natural": by_unit[one.unit]["natural_mean"],
            "natural_peak": by_unit[one.unit]["natural_peak"],
            "published": under_fresh(model, site, one),
            "verdict": by_unit[one.unit]["verdict"],
            "rescue": one.rescue,
            "image_steps": one.image_steps,
            "cpu_seconds": one.cpu_seconds,
        }
        for one in pictures
    ]


def unchanged(model: LoadedModel, site: FfnSite, picture: Made) -> float:
    """Mean over patches of the stored picture as it is."""
    return float(respond(model, site, [picture.unit], stored_pixels(picture.webp)[None].to(model.device))[0])


def under_fresh(model: LoadedModel, site: FfnSite, picture: Made) -> float:
    """Mean over patches of the stored picture under DRAWS published transforms, the same for every recipe."""
    pixels = stored_pixels(picture.webp)[None].to(model.device)
    key = (str(NeuronAddress(model.description.slug, site.layer, picture.unit)), "robust")
    with torch.no_grad():
        mean, _ = fresh_responses(model, site, [picture.unit], pixels, [key], DRAWS)
    return float(mean.mean())


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- comparison -------------------------------------------------------------------------------------------


def compared(found: Sequence[Sequence[dict[str, Any]]], recipes: Sequence[str]) -> dict[str, Any]:
    """By recipe medians, verdicts, cost, and how it stands against the last. found: of each neuron its results."""
    if not found:
        return {"neurons": 0}
    report: dict[str, Any] = {"neurons": len(found)}
    rows = dict(zip(recipes, zip(*found, strict=True), strict=True))
    for name, own in rows.items():
        verdicts = [row["verdict"] for row in own]
        report[name] = {
            "verdicts": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
            "image_steps": round(float(np.mean([row["image_steps"] for row in own])), 1),
            "cpu_seconds": round(float(np.mean([row["cpu_seconds"] for row in own])), 2),
        }
        for measure in MEASURES:
            last, values = (np.array([row[measure] for row in some], dtype=float) for some in (rows[recipes[-1]], own))
            told: dict[str, Any] = {"median": _figure(np.median(values))}
            if name != recipes[-1]:
                told["not_lower"] = wilson(int((values >= last).sum()), len(own))
                told["difference_over_mean"] = difference(last, values)
            report[name][measure] = told
    return report


def wilson(wins: int, of: int, z: float = 1.96) -> list[float]:
    """A share and its 95 % interval (Wilson 1927): [share, low, high]."""
    share = wins / of
    centre = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return [round(float(value), 3) for value in (share, centre - half, centre + half)]


def difference(a: np.ndarray, b: np.ndarray, draws: int = 10_000) -> list[float | None]:
    """Mean of b - a over the mean of |a|, and its 95 % interval by resampled neurons: [value, low, high].

    None for what has no bound: where every a, or every one of too many resamplings, is 0.
    """
    some = np.random.default_rng(0).integers(len(a), size=(draws, len(a)))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (b - a)[some].mean(1) / np.abs(a)[some].mean(1)
        value = (b - a).mean() / np.abs(a).mean()
        bounds = np.quantile(shares, [0.025, 0.975])
    return [_figure(one) if np.isfinite(one) else None for one in (value, *bounds)]


def raw(own: Sequence[dict[str, Any]], recipes: Sequence[str]) -> dict[str, Any]:
    """The measures of a neuron, in their order, by recipe."""
    told = {name: [_figure(row[one]) for one in MEASURES] for name, row in zip(recipes, own, strict=True)}
    return {"unit": own[0]["unit"], **told}


def _figure(value: float) -> float:
    return round(float(value), 4)


if __name__ == "__main__":
    main()
