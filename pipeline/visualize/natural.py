"""Whether a picture withstands what a photograph undergoes, and the verdict that follows.

A neuron that fires on a pattern fires on it a few pixels to the side, slightly turned, a little darker, softer or
noisier. The stored picture is changed so, a kind of change at a time, with numbers that depend on the neuron alone, so
that all recipes are judged by the same changes. (The published colour shift, under which `robust_mean` is measured, is
another thing: it replaces the colours of a picture altogether, and no photograph undergoes it.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from atlas_schema.address import NeuronAddress
from pipeline.models import FfnSite, LoadedModel
from pipeline.seeds import generator
from pipeline.visualize.objective import respond
from pipeline.visualize.picture import stored_pixels
from pipeline.visualize.threads import each
from pipeline.visualize.transforms import turn_each


@dataclass(frozen=True)
class NaturalSettings:
    """How far a picture is changed, and what it has to keep. Lengths are shares of a picture's side."""

    draws: int = 2  # of each kind of change
    shift: float = 1 / 8  # largest circular shift
    degrees: float = 10.0  # largest rotation, with
    zoom: float = 0.1  # ... the largest change of scale
    colour: float = 0.2  # c of the shift (x - m) / s per channel, m ~ U[-c, c], s = exp(U[-c, c])
    blur: float = 1 / 224  # standard deviation of a Gaussian,
    blur_pixels: float = 0.5  # ... but at least so many pixels: less does nothing
    noise: float = 0.05  # standard deviation, of a range of 1
    holds: float = 0.5  # share of its activation that a picture which holds keeps on average,
    holds_each: float = 0.25  # ... and under every kind of change
    fails: float = 0.25  # a picture that keeps less on average does not hold


@dataclass(frozen=True)
class Change:
    """The random numbers of one changed copy of each picture; (n, ...) each."""

    shift: Tensor  # (n, 2), shares of height and width
    turn: Tensor  # (n,), radians
    scale: Tensor  # (n,)
    mean: Tensor  # (n, 3)
    std: Tensor  # (n, 3)
    noise: Tensor  # (n, 3, height, width), unit variance


def _shifted(pictures: Tensor, by: Change, settings: NaturalSettings) -> Tensor:
    size = torch.tensor(pictures.shape[2:], device=pictures.device)
    rolls = (by.shift * size).round().long().tolist()
    return torch.stack([picture.roll(roll, (1, 2)) for picture, roll in zip(pictures, rolls, strict=True)])


def _turned(pictures: Tensor, by: Change, settings: NaturalSettings) -> Tensor:
    """Rotated about the middle and zoomed; what comes in from outside is the picture's mirror image."""
    return turn_each(pictures, torch.stack([by.turn, by.scale], 1))


def _recoloured(pictures: Tensor, by: Change, settings: NaturalSettings) -> Tensor:
    return (pictures - by.mean[..., None, None]) / by.std[..., None, None]


def _blurred(pictures: Tensor, by: Change, settings: NaturalSettings) -> Tensor:
    sigma = max(settings.blur_pixels, settings.blur * max(pictures.shape[2:]))
    reach = max(1, int(np.ceil(3 * sigma)))
    places = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
    kernel = torch.softmax(-(places**2) / (2 * sigma**2), 0)
    padded = F.pad(pictures, [reach] * 4, mode="reflect").flatten(0, 1)[:, None]
    across = F.conv2d(F.conv2d(padded, kernel[None, None, None, :]), kernel[None, None, :, None])
    return across.reshape(pictures.shape)


def _noisy(pictures: Tensor, by: Change, settings: NaturalSettings) -> Tensor:
    return pictures + settings.noise * by.noise


CHANGES: Mapping[str, Callable[[Tensor, Change, NaturalSettings], Tensor]] = {
    "shift": _shifted,
    "turn": _turned,
    "colour": _recoloured,
    "blur": _blurred,
    "noise": _noisy,
}
IN_WORDS = {
    "shift": "shifted",
    "turn": "turned and zoomed",
    "colour": "recoloured",
    "blur": "blurred",
    "noise": "made noisy",
}


def drawn(addresses: Sequence[str], draw: int, like: Tensor, settings: NaturalSettings) -> Change:
    """The numbers of a draw, one set for each neuron: they depend on its address and on `draw` alone.

    like: (n, 3, height, width), the pictures.
    """

    def own(address: str) -> tuple[object, ...]:
        random = generator(address, "natural", draw)
        shift = random.uniform(-settings.shift, settings.shift, 2)
        turn = np.deg2rad(random.uniform(-settings.degrees, settings.degrees))
        scale = 1 + random.uniform(-settings.zoom, settings.zoom)
        mean = random.uniform(-settings.colour, settings.colour, 3)
        std = np.exp(random.uniform(-settings.colour, settings.colour, 3))
        return shift, turn, scale, mean, std, random.standard_normal(like.shape[1:], dtype=np.float32)

    parts = zip(*each(own, addresses), strict=True)
    return Change(*(torch.from_numpy(np.stack(part)).to(like) for part in parts))


def changed(pictures: Tensor, kind: str, by: Change, settings: NaturalSettings) -> Tensor:
    """Pictures in [0, 1] after one kind of change (a key of CHANGES), as a camera would store them: in [0, 1]."""
    return CHANGES[kind](pictures, by, settings).clamp(0, 1)


@dataclass(frozen=True)
class Picture:
    """What is stored of a neuron's picture: its file, and what the stage that made it measured."""

    webp: bytes
    start: float  # activation of the image that the optimization began with, mean over patches


def natural_rows(
    model: LoadedModel,
    site: FfnSite,
    pictures: Mapping[int, Picture | None],
    settings: NaturalSettings,
    batch: int = 32,
    on_step: Callable[[], None] = lambda: None,
) -> list[dict[str, object]]:
    """Columns of `neurons` that tell what is left of each unit's picture under natural changes. pictures: by unit.

    Activations are measured on the stored file, in the weights' own precision. batch: pictures at a time.
    """
    there = {unit: picture for unit, picture in sorted(pictures.items()) if picture is not None}
    rows: dict[int, dict[str, object]] = {unit: {"unit": unit, **_NOTHING} for unit in sorted(pictures)}
    units = list(there)
    for begin in range(0, len(units), batch):
        some = {unit: there[unit] for unit in units[begin : begin + batch]}
        rows |= _rows_of(model, site, some, settings, on_step)
    return list(rows.values())


_NOTHING = dict.fromkeys(
    ("verdict", "verdict_reason", "natural_mean", "natural_peak", "natural_kept", "natural_kept_peak", "natural_kinds")
)


def _rows_of(
    model: LoadedModel,
    site: FfnSite,
    pictures: Mapping[int, Picture],
    settings: NaturalSettings,
    on_step: Callable[[], None],
) -> dict[int, dict[str, object]]:
    units, own = list(pictures), list(pictures.values())
    stored = torch.stack(each(stored_pixels, [one.webp for one in own])).to(model.device)
    clean = torch.stack(respond(model, site, units, stored), 1)  # (n, 2): mean over patches, strongest patch
    addresses = [str(NeuronAddress(model.description.slug, site.layer, unit)) for unit in units]
    sums = {kind: torch.zeros_like(clean) for kind in CHANGES}
    for draw in range(settings.draws):
        by = drawn(addresses, draw, stored, settings)
        for kind in CHANGES:
            sums[kind] += torch.stack(respond(model, site, units, changed(stored, kind, by, settings)), 1)
            on_step()
    left = {kind: (total / settings.draws).tolist() for kind, total in sums.items()}
    return {
        unit: {"unit": unit, **row_of(clean[i].tolist(), {kind: left[kind][i] for kind in CHANGES}, own[i], settings)}
        for i, unit in enumerate(units)
    }


def row_of(
    clean: Sequence[float], left: Mapping[str, Sequence[float]], picture: Picture, settings: NaturalSettings
) -> dict[str, object]:
    """The columns of one neuron. clean, and by kind what is left of it: mean over patches, strongest patch."""
    mean, peak = (sum(pair[at] for pair in left.values()) / len(left) for at in (0, 1))
    kept = {kind: pair[0] / clean[0] if clean[0] > 0 else None for kind, pair in left.items()}
    shares = (mean / clean[0], peak / clean[1]) if clean[0] > 0 else None
    verdict, reason = judged(shares, kept, (clean[0], mean), picture.start, settings)
    return {
        "verdict": verdict,
        "verdict_reason": reason,
        "natural_mean": mean,
        "natural_peak": peak,
        "natural_kept": shares and shares[0],
        "natural_kept_peak": shares and shares[1],
        "natural_kinds": [
            {"kind": kind, "mean": pair[0], "peak": pair[1], "kept": kept[kind]} for kind, pair in left.items()
        ],
    }


def judged(
    shares: tuple[float, float] | None,
    kept: Mapping[str, float | None],
    means: tuple[float, float],
    start: float,
    settings: NaturalSettings,
) -> tuple[str, str]:
    """Verdict and its reason, from what is kept on average (of the mean over patches, of the strongest patch) and by
    kind, from the means over patches of the picture unchanged and changed, and from where the optimization began.

    `inactive`: the stored picture does not make the neuron fire. `does not`: what is left is no more than at the start,
    or less than `fails` of it by either measure. `holds`: at least `holds` by both, and `holds_each` under every kind.
    Else `partly`.
    """
    if shares is None:
        return "inactive", "the picture as stored does not make the neuron fire"
    least, share = min(((kind, value) for kind, value in kept.items() if value is not None), key=lambda pair: pair[1])
    told = (
        f"it keeps {_percent(shares[0])} of its activation under small natural changes (strongest patch "
        f"{_percent(shares[1])}); least when {IN_WORDS[least]}, {_percent(share)}"
    )
    if means[0] <= start:
        return "does not", "it excites the neuron no more than the image that the optimization began with"
    if means[1] <= start:
        return "does not", f"when it is changed, no more is left than where the optimization began; {told}"
    if min(shares) < settings.fails:
        return "does not", told
    if min(shares) >= settings.holds and share >= settings.holds_each:
        return "holds", told
    return "partly", told


def _percent(share: float) -> str:
    return f"{max(0.0, 100 * share):.0f} %"
