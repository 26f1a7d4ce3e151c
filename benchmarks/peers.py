"""What pictures by public libraries reach beside ours, judged alike: Horama's `fourier` and `maco`, and Lucent.

    python -m benchmarks.peers --model timm/vit_small_patch14_dinov2 --weights FILE --as dinov2 --input-size 112 \
        --layers 0,1,3,5,7,10 --units 8 --own-layers 1,7 --state FILE.jsonl \
        --out docs/benchmarks/peers.json --sheet docs/images/peers.webp

The same neurons as in benchmarks/recipes.py, and its judges: every picture is stored as ours are and measured as read
back. Each library climbs by its own function, at as many passes of an image (forward and backward) as `fast` spends at
that depth; and in --own-layers also at its own number of passes, 6,000 for Horama and 512 for Lucent. Beside each way
stands `fast`: the share of neurons where it is not lower, and the mean difference over that way's mean absolute value,
with 95 % intervals as in benchmarks/recipes.py.

What the libraries are handed is a function of pictures in [0, 1], which normalises them for the model. They climb the
mean, over patches, of the neuron's value after the activation function, which is also what is judged; and once more, as
"..., softplus", what `fast` and our `maco` climb: softplus of the value before it, which is nowhere flat. The model
stops at the neuron's layer for all. The libraries climb one neuron at a time, ours a batch of neurons, which is a part
of the difference in seconds, not in passes.

The libraries are no dependencies of this project. Their versions are in VERSIONS; see the sentence of MISSING.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import importlib
import importlib.metadata
import io
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.machine import description, public, put
from benchmarks.recipes import (
    Made,
    State,
    chosen_units,
    compared,
    judged,
    key_of,
    loaded,
    made,
    model_arguments,
    note,
    raw,
    turns,
)
from benchmarks.sheet import draw_sheet, tile
from pipeline.models import FfnSite, LoadedModel
from pipeline.models.device import choose_precision, dtype_of, in_precision
from pipeline.seeds import generator
from pipeline.visualize.ascent import VisualizeSettings
from pipeline.visualize.objective import FRESH, objective, respond
from pipeline.visualize.picture import decode, encode_webp, to_bytes
from pipeline.visualize.recipes import RECIPES
from pipeline.visualize.spectrum import natural_spectrum

VERSIONS = {"horama": "0.3.0", "torch-lucent": "0.1.8", "kornia": "0.4.1"}
MISSING = (
    "Horama and Lucent are compared with, and {missing} cannot be imported: in an environment of its own, "
    "`pip install horama==0.3.0 torch-lucent==0.1.8 kornia==0.4.1 einops` beside this project."
)
OURS = ("fast", "maco")
TILE = 84  # pixels of a picture's side in the sheet


# --- what a library is handed, and hands back --------------------------------------------------------------


class Neuron(nn.Module):
    """A neuron as the libraries climb it: pictures in [0, 1] to its mean over patches, (batch, 1). Counts passes.

    climbed: `activation`, the value after the activation function, or `softplus` of the value before it.
    """

    def __init__(
        self, model: LoadedModel, site: FfnSite, unit: int, precision: str, climbed: str = "activation"
    ) -> None:
        super().__init__()
        self.model, self.fast, self.site, self.unit = [model], [in_precision(model, precision)], site, unit
        self.ascent = replace(FRESH, objective=climbed)
        self.activation = nn.Identity()  # the layer that Lucent reads; the model itself it need not see
        self.passes = 0

    @property
    def side(self) -> int:
        height, width = self.model[0].description.input_size
        if height != width:
            raise SystemExit(f"Horama makes square pictures; this model takes {height} x {width} pixels.")
        return height

    @property
    def device(self) -> str:
        return str(self.model[0].device)

    def forward(self, pictures: Tensor) -> Tensor:
        self.passes += len(pictures)
        x = self.model[0].normalise(pictures).to(dtype_of(self.fast[0]))
        own = torch.full((len(x),), self.unit, device=x.device)
        value, _ = objective(self.fast[0], self.site, x, own, self.ascent, pictures.dtype)
        return self.activation(value[:, None])


@dataclass(frozen=True)
class Frame:
    """How Horama's picture is cut: its side over the model's, and `box_size`, shares of the side between."""

    side: float
    box: tuple[float, float]

    @property
    def seen(self) -> float:
        """Mean side of a crop, as a share of the picture's: Horama draws from box[1] to 2 box[1] - box[0]."""
        return min(1.0, self.box[1] + (self.box[1] - self.box[0]) / 2)


LIMIT = 2.5  # Horama's own `values_range`: its noise and its edges are told in it


def horama(function: str, frame: Frame, crops: int, spectrum: str | None) -> Draw:
    """A picture by Horama: the middle of its own, as large as a crop is on average, at the model's size."""

    def draw(neuron: Neuron, passes: int, seed: int) -> tuple[Tensor, Tensor]:
        import horama as library

        settings: dict[str, Any] = {
            "image_size": round(frame.side * neuron.side),
            "model_input_size": neuron.side,
            "box_size": frame.box,
            "crops_per_iteration": crops,
            "device": neuron.device,
        }

        def reached(steps: int) -> Tensor:
            torch.manual_seed(seed)
            with amplitudes(settings["image_size"], spectrum) if function == "maco" else contextlib.nullcontext():
                values, _ = getattr(library, function)(
                    lambda crop: neuron((crop + LIMIT) / (2 * LIMIT)).mean(), total_steps=steps, **settings
                )
            return middle((values.detach() + LIMIT) / (2 * LIMIT), frame.seen, neuron.side)

        return reached(0), reached(max(1, round(passes / crops)))

    return draw


@contextlib.contextmanager
def amplitudes(side: int, file: str | None) -> Iterator[None]:
    """A folder with the file that Horama's `maco` looks for where it runs, and fetches where there is none.

    Its axes of colour are ours but for one factor, which it divides away: so the amplitudes of photographs that our
    `maco` has can stand for its own, which come from the network alone. file: its own, to use instead.
    """
    own = np.load(file) if file else natural_spectrum().on_grid(side, side).numpy().astype(np.float32)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        np.save("spectrum_decorrelated.npy", own)
        yield


def middle(picture: Tensor, share: float, side: int) -> Tensor:
    """The middle of a square picture (3, n, n), a share of its side, as (3, side, side) in [0, 1]."""
    size = round(share * picture.shape[-1])
    begin = (picture.shape[-1] - size) // 2
    cut = picture[:, begin : begin + size, begin : begin + size]
    if size == side:
        return cut.clamp(0, 1)
    return F.interpolate(cut[None], size=(side, side), mode="bicubic", antialias=True)[0].clamp(0, 1)


def lucent(neuron: Neuron, passes: int, seed: int) -> tuple[Tensor, Tensor]:
    """A picture by Lucent: its Fourier parameterization, its standard transforms, and the middle of what they make.

    Its transforms leave a picture larger than it was, which a transformer does not take: the middle is cut out, so that
    patterns keep their scale. (Its own way out is to shrink all: docs/benchmarks/README.md has what that does.)
    """
    from lucent.optvis import objectives, param, render, transform
    from torchvision.transforms import CenterCrop

    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (Lucent draws its transforms from it)
    parameters, picture = param.image(neuron.side, fft=True, decorrelate=True)
    start = picture().detach()[0].clone()
    render.render_vis(
        neuron,
        objectives.channel("activation", 0),
        lambda: (parameters, picture),
        transforms=[*transform.standard_transforms, CenterCrop(neuron.side)],
        thresholds=(passes,),
        preprocess=False,  # the neuron normalises
        progress=False,
        show_image=False,
        fixed_image_size=neuron.side,
    )
    return start, picture().detach()[0]


Draw = Callable[[Neuron, int, int], tuple[Tensor, Tensor]]
"""From a neuron, passes and a seed: the picture that a library began with, and its last, as `handed_back` takes it."""


# --- ways --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A way to make pictures of neurons: one of our recipes, or a library's function."""

    name: str
    settings: str  # all that decides a picture beside model and neuron: part of the key of a result
    make: Callable[[LoadedModel, FfnSite, Sequence[int], str], list[Made]]  # of units, in a precision


def our_way(name: str) -> Way:
    return Way(name, RECIPES[name].hash, lambda model, site, units, kind: made(model, site, units, name, kind))


def peer_way(name: str, settings: str, draw: Draw, passes: int | None = None, climbed: str = "activation") -> Way:
    """A library's; at as many passes as `fast` spends where no number is given."""

    def make(model: LoadedModel, site: FfnSite, units: Sequence[int], precision: str) -> list[Made]:
        count = passes or passes_of_fast(site)
        return [drawn(Neuron(model, site, unit, precision, climbed), draw, count) for unit in units]

    spent = f"{passes} passes" if passes else f"the passes of fast, {steps_of_fast()}"
    soft = "" if climbed == "activation" else "; softplus of the value before the activation function"
    return Way(name, f"{settings}; {spent}{soft}", make)


def peer_ways(spectrum: str | None) -> tuple[list[Way], list[Way]]:
    """The libraries' functions at the passes of `fast`, by either objective; and at their own number of passes."""
    whole, own = Frame(1.0, (0.8, 0.9)), Frame(1280 / 224, (0.20, 0.25))
    of = {"fourier": "", "maco": f"; amplitudes {'its own' if spectrum else 'of photographs, as our maco has them'}"}
    few = "horama 0.3.0, picture of the model's size, crops of 0.9 to 1.0 of it, 2 a step"
    many = "horama 0.3.0, picture of 1280/224 of the model's size, crops of 0.25 to 0.30 of it, 6 a step"
    crop = "lucent 0.1.8, picture of the model's size, middle of what its transforms make of it"
    short = {f"horama {name}": (few + more, horama(name, whole, 2, spectrum)) for name, more in of.items()}
    short["lucent"] = crop, lucent
    equal = [peer_way(name, *rest) for name, rest in short.items()]
    equal += [peer_way(f"{name}, softplus", *rest, climbed="softplus") for name, rest in short.items()]
    long = [
        peer_way(f"horama {name}, own passes", many + more, horama(name, own, 6, spectrum), 6000)
        for name, more in of.items()
    ]
    return equal, [*long, peer_way("lucent, own passes", crop, lucent, 512)]


def drawn(neuron: Neuron, draw: Draw, passes: int) -> Made:
    """A library's picture of a neuron. Its random numbers depend on the neuron alone."""
    own = generator(neuron.model[0].description.slug, neuron.site.layer, neuron.unit, "peers")
    began = time.process_time()
    with torch.random.fork_rng(), contextlib.redirect_stderr(io.StringIO()):  # Horama draws a bar for each picture
        start, picture = draw(neuron, passes, int(own.integers(2**31)))
    return handed_back(neuron, start, picture, time.process_time() - began)


def handed_back(neuron: Neuron, start: Tensor, picture: Tensor, seconds: float) -> Made:
    """A library's picture, (3, height, width) in [0, 1], stored as ours are."""
    webp = encode_webp(to_bytes(picture.float().cpu().numpy()), VisualizeSettings().webp_quality)
    before, _ = respond(neuron.model[0], neuron.site, [neuron.unit], start[None].float().to(neuron.device))
    return Made(neuron.unit, webp, float(before[0]), neuron.passes, seconds)


def steps_of_fast() -> str:
    """Passes of `fast` by depth, as far as which: of a version that spends others no result is taken for this one's."""
    bands = RECIPES["fast"].bands
    return ", ".join(f"{sum(ascent.image_steps for ascent in ascents)} to {upto:g}" for upto, ascents in bands)


def passes_of_fast(site: FfnSite) -> int:
    return sum(ascent.image_steps for ascent in RECIPES["fast"].ascents_at(site.depth))


# --- the run -----------------------------------------------------------------------------------------------


def main() -> None:
    asked = arguments()
    versions = installed()
    torch.set_num_threads(1)
    model, state = loaded(asked), State(asked.state)
    precision = asked.precision or choose_precision(model)
    sites = {layer: model.description.ffn_sites[layer] for layer in asked.layers}
    chosen = {layer: chosen_units(site, asked.units) for layer, site in sites.items()}
    equal, own = peer_ways(asked.spectrum)
    equal = [*map(our_way, OURS), *equal]
    every = [*equal, *own]
    if not asked.known:
        few = {layer: chosen[layer][: asked.own_units] for layer in asked.own_layers}
        for units, some in ((chosen, equal), (few, own)):
            run(model, units, [way for way in some if re.search(asked.only, way.name)], precision, state)
    found = {
        layer: [known(model, sites[layer], unit, every, precision, state) for unit in units]
        for layer, units in chosen.items()
    }
    report = {
        "benchmark": "peers",
        "command": " ".join(["python -m benchmarks.peers", *public(sys.argv[1:])]),
        "machine": description(),
        "libraries": versions,
        "model": model.description.slug,
        "fingerprint": model.fingerprint[:16],
        "input_size": list(model.description.input_size),
        "precision": precision,
        "ways": {way.name: way.settings for way in every},
        "layers": [
            {"layer": layer, "depth": round(sites[layer].depth, 3), "beside fast": beside(found[layer])}
            for layer in found
        ],
        "all": beside([rows for of_layer in found.values() for rows in of_layer]),
        "raw": {str(layer): [of_neuron(rows) for rows in found[layer]] for layer in found},
    }
    put(report, asked.out)
    if asked.sheet:
        sheet(found, [way.name for way in every]).save(asked.sheet, quality=70)


def arguments() -> argparse.Namespace:
    parser = model_arguments(__doc__)
    parser.add_argument("--own-units", type=int, default=1, help="of each of --own-layers")
    parser.add_argument(
        "--own-layers",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[],
        help="where the libraries' own numbers of passes are spent too",
    )
    parser.add_argument(
        "--only",
        default="",
        help="regular expression: climb ways of such a name alone",
    )
    parser.add_argument("--spectrum", help="Horama's own spectrum_decorrelated.npy, for its `maco`")
    parser.add_argument("--precision")
    parser.add_argument("--state", help="JSON lines: what each way reached on each neuron, kept and reused")
    parser.add_argument("--known", action="store_true", help="climb nothing: tell what the state has")
    parser.add_argument("--out")
    parser.add_argument("--sheet", help="a picture file: the first neuron of each layer in all ways")
    asked = parser.parse_args()
    if not set(asked.own_layers) <= set(asked.layers):
        parser.error(f"--own-layers: {asked.own_layers}: expected some of --layers, {asked.layers}")
    return asked


def installed() -> dict[str, str]:
    """Versions of the libraries, which have to be there; one sentence and the end where one is not."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # kornia's, at import
    try:
        for name in ("horama", "lucent.optvis.render"):
            importlib.import_module(name)
    except ImportError as error:
        raise SystemExit(MISSING.format(missing=error.name)) from error
    return {name: importlib.metadata.version(name) for name in VERSIONS}


def run(
    model: LoadedModel, chosen: Mapping[int, Sequence[int]], some: Sequence[Way], precision: str, state: State
) -> None:
    """Make and judge what the state does not have, a few neurons of every layer at a time."""
    for layer, units in turns(chosen):
        for way in some:
            fill(model, model.description.ffn_sites[layer], units, way, precision, state)


def fill(model: LoadedModel, site: FfnSite, units: Sequence[int], way: Way, precision: str, state: State) -> None:
    """Make pictures of the neurons that the state does not have in a way, and judge them."""
    keys = {unit: key_of(model, site, unit, way.settings, precision) for unit in units}
    missing = state.without(keys)
    if not missing:
        return
    pictures = way.make(model, site, missing, precision)
    files = {one.unit: base64.b64encode(one.webp).decode() for one in pictures}
    rows = judged(model, site, pictures)
    state.add([{"key": keys[row["unit"]], "webp": files[row["unit"]]} | row for row in rows])
    note(f"layer {site.layer}, {way.name}: {len(missing)} neurons, {rows[0]['cpu_seconds']:.1f} s of a core each")


def known(
    model: LoadedModel, site: FfnSite, unit: int, some: Sequence[Way], precision: str, state: State
) -> dict[str, dict[str, Any]]:
    """By way, what the state has of a neuron."""
    rows = {way.name: state.of(key_of(model, site, unit, way.settings, precision)) for way in some}
    return {name: row for name, row in rows.items() if row}


# --- comparison --------------------------------------------------------------------------------------------


def beside(found: Sequence[Mapping[str, dict[str, Any]]]) -> dict[str, Any]:
    """Each way with `fast` beside it, on the neurons that both have. found: of each neuron its results by way."""
    names = dict.fromkeys(name for rows in found for name in rows if name != "fast")
    pairs = {name: [(rows["fast"], rows[name]) for rows in found if name in rows and "fast" in rows] for name in names}
    return {name: compared(own, ("fast", name)) for name, own in pairs.items() if own}


def of_neuron(rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The measures of a neuron, in their order, by way."""
    return raw(list(rows.values()), list(rows)) if rows else {}


def sheet(found: Mapping[int, Sequence[Mapping[str, dict[str, Any]]]], names: Sequence[str]) -> Image.Image:
    """The first neuron of each layer, a row; a column for each way that some of them have."""
    first = {layer: rows[0] for layer, rows in found.items() if rows and rows[0]}
    there = [name for name in names if any(name in rows for rows in first.values())]
    blank = Image.new("RGB", (TILE, TILE), "white")
    drawn_rows = []
    for layer, rows in first.items():
        tiles = [tile(decode(base64.b64decode(rows[name]["webp"])), TILE) if name in rows else blank for name in there]
        drawn_rows.append((f"layer {layer}\nunit {next(iter(rows.values()))['unit']}", tiles, []))
    return draw_sheet(drawn_rows, [title(name) for name in there], TILE)


def title(name: str) -> str:
    """What fits over a column."""
    return name.replace("horama", "h.").replace(" passes", "").replace("softplus", "s.p.") if "," in name else name


if __name__ == "__main__":
    main()
