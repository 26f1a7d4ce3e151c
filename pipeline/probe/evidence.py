"""From the sums of a probe pass to rows: the evidence columns of `neurons`, and `neuron_examples`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.hooks.activations import ffn_activations
from pipeline.images.probe_set import ProbeSet, batches
from pipeline.models import LoadedModel
from pipeline.models.sites import FfnSite
from pipeline.probe.model import Membership, SiteProbe
from pipeline.probe.panel import panel_of
from pipeline.probe.sketch import Distribution
from pipeline.probe.top import NOBODY, quantized

Row = dict[str, object]


@dataclass(frozen=True)
class EvidenceSettings:
    """What is said of a neuron's activations over the probe images."""

    quantiles: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
    histogram_bins: int = 24
    exciting_classes: int = 5  # named, those of the highest mean peak
    firing_level: float = 0.5  # of a neuron's highest peak: an image with a higher peak counts as firing it


@dataclass(frozen=True)
class ExampleSettings:
    """Which images are shown of a neuron besides the strongest."""

    #: shares of the panel near which examples from the rest of a neuron's range are taken, the strongest first
    lower_quantiles: tuple[float, ...] = (0.95, 0.75, 0.5, 0.25, 0.05)
    #: images of the panel that these are taken from: their maps cost one forward for all neurons
    gallery: int = 128


@dataclass(frozen=True)
class Picture:
    """What a neuron's visualization reaches, clean: mean over patch tokens and strongest patch."""

    activation: float
    activation_peak: float


def evidence_rows(
    probe: SiteProbe,
    units: Sequence[int],
    probe_set: str,
    membership: Membership,
    settings: EvidenceSettings = EvidenceSettings(),
) -> list[Row]:
    """Columns of `neurons` that tell how each unit fires over the probe images, one row a unit."""
    moments, peaks, means = probe.moments.finalize(), probe.peaks.finalize(), probe.means.finalize()
    classes = probe.classes.finalize().numpy() if membership.classes else None
    return [
        {
            "unit": unit,
            "probe_set": probe_set,
            "probe_images": int(peaks.total[unit]),
            **{name: _number(values[unit]) for name, values in moments.items()},
            "fires_on": _fires_on(peaks, unit, settings.firing_level),
            "peak_max": float(peaks.high[unit]),
            "mean_max": float(means.high[unit]),
            "peak_quantiles": peaks.quantiles(unit, settings.quantiles),
            "mean_quantiles": means.quantiles(unit, settings.quantiles),
            "histogram": dict(
                zip(("low", "high", "counts"), peaks.histogram(unit, settings.histogram_bins), strict=True)
            ),
            "exciting_classes": None
            if classes is None
            else _classes(probe, classes[:, unit], membership.classes, settings.exciting_classes),
        }
        for unit in units
    ]


def _fires_on(peaks: Distribution, unit: int, level: float) -> float | None:
    """Share of images whose peak is above `level` times the highest; None where no image fires the unit."""
    high = peaks.high[unit]
    return 1 - peaks.share_below(unit, level * high) if high > 0 else None


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def judge_rows(probe: SiteProbe, pictures: Mapping[int, Picture | None]) -> list[Row]:
    """Columns of `neurons` that tell how far each unit's picture gets beyond real images. pictures: by unit; None
    where there is none."""
    peaks, means = probe.peaks.finalize(), probe.means.finalize()
    rows: list[Row] = []
    for unit, picture in sorted(pictures.items()):
        best_peak, best_mean = float(peaks.high[unit]), float(means.high[unit])
        if picture is None:
            rows.append({"unit": unit, "percentile": None, "ratio_to_best": None, "peak_ratio": None})
            continue
        rows.append(
            {
                "unit": unit,
                "percentile": 100 * means.share_below(unit, picture.activation),
                "ratio_to_best": picture.activation / best_mean if best_mean > 0 else None,
                "peak_ratio": picture.activation_peak / best_peak if best_peak > 0 else None,
            }
        )
    return rows


def _classes(probe: SiteProbe, means: np.ndarray, names: Sequence[str], count: int) -> list[Row]:
    """The classes with the highest mean peak."""
    order = np.argsort(-np.nan_to_num(means, nan=-np.inf), kind="stable")[:count]
    images = probe.classes.images.cpu().numpy()
    return [{"name": names[i], "mean": float(means[i]), "images": int(images[i])} for i in order if images[i]]


def top_rows(probe: SiteProbe, site: FfnSite, units: Sequence[int], probe_set: ProbeSet) -> Iterator[Row]:
    """Rows of neuron_examples: the images that excite each unit most."""
    arrays = {name: array.cpu().numpy() for name, array in probe.top.arrays().items()}
    total = len(probe_set)
    for unit in units:
        for rank in range(probe.top.count):
            image = int(arrays["image"][rank, unit])
            if image == NOBODY:
                break
            yield _example(
                probe_set,
                site,
                unit,
                ("top", rank, image, (total - 1 - rank) / total),
                (float(arrays["peak"][rank, unit]), float(arrays["mean"][rank, unit])),
                int(arrays["scale"][rank, unit]),
                (arrays["cells"][rank, unit], float(arrays["low"][rank, unit]), float(arrays["high"][rank, unit])),
            )


def quantile_rows(
    model: LoadedModel,
    probe: SiteProbe,
    site: FfnSite,
    units: Sequence[int],
    probe_set: ProbeSet,
    batch: int = 32,
    settings: ExampleSettings = ExampleSettings(),
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[Row]:
    """Rows of neuron_examples from the rest of each unit's range: one forward of the gallery up to the site.

    on_step is called after each batch: a gallery of a large model takes minutes.
    """
    images = probe.panel.images.cpu().numpy()
    hashes = [probe_set.images[image].sha256 for image in images]
    gallery = np.array(panel_of(hashes, settings.gallery))  # rows of the panel
    peaks = probe.panel.peak[:, list(units)].float().cpu().numpy()  # (panel, units)
    means = probe.panel.mean[:, list(units)].float().cpu().numpy()
    below = np.sort(peaks, 0)
    chosen = [_near_quantiles(below[:, i], peaks[gallery, i], settings.lower_quantiles) for i in range(len(units))]
    maps = _maps(model, site, probe_set, images[gallery].tolist(), units, chosen, batch, on_step)
    for i, unit in enumerate(units):
        for rank, index in enumerate(chosen[i]):
            row = gallery[index]
            share = float(np.searchsorted(below[:, i], peaks[row, i]) / len(below))
            scale, cells = maps[index, i]
            values = (float(peaks[row, i]), float(means[row, i]))
            yield _example(probe_set, site, unit, ("quantile", rank, int(images[row]), share), values, scale, cells)


def _near_quantiles(below: np.ndarray, held: np.ndarray, quantiles: Sequence[float]) -> list[int]:
    """Indices in `held` (the gallery) of the values nearest to some quantiles of `below`, no image twice."""
    shares = np.searchsorted(below, held) / len(below)
    chosen: list[int] = []
    for quantile in quantiles:
        order = np.argsort(np.abs(shares - quantile), kind="stable")
        free = [int(index) for index in order if int(index) not in chosen]
        if free:
            chosen.append(free[0])
    return sorted(chosen, key=lambda index: (-held[index], index))


@torch.no_grad()
def _maps(
    model: LoadedModel,
    site: FfnSite,
    probe_set: ProbeSet,
    images: Sequence[int],
    units: Sequence[int],
    chosen: Sequence[Sequence[int]],
    batch: int,
    on_step: Callable[[], None],
) -> dict[tuple[int, int], tuple[int, tuple[np.ndarray, float, float]]]:
    """The map of each pair `chosen`: (index in images, index in units) -> scale that fired; map, low, high."""
    wanted: dict[int, list[int]] = {}
    for i, indices in enumerate(chosen):
        for index in indices:
            wanted.setdefault(index, []).append(i)
    maps_of: dict[tuple[int, int], tuple[int, tuple[np.ndarray, float, float]]] = {}
    own = torch.tensor(list(units))
    done = 0
    for numbers, pixels in batches(probe_set, images, model.description, batch):
        x = model.normalise(pixels.to(model.device)).to(next(model.module.parameters()).dtype)
        calls = ffn_activations(model, site, x)
        for row in range(len(numbers)):
            members = wanted.get(done + row, [])
            if members:
                maps = [call[row][:, own[members].to(call.device)].T.float() for call in calls]  # (members, tokens)
                for i, map_of_unit in zip(members, _strongest_scale(maps), strict=True):
                    maps_of[done + row, i] = map_of_unit
        done += len(numbers)
        on_step()
    return maps_of


def _strongest_scale(maps: Sequence[Tensor]) -> Iterator[tuple[int, tuple[np.ndarray, float, float]]]:
    scales = torch.stack([call.amax(1) for call in maps]).argmax(0).tolist()
    coded = [tuple(part.cpu().numpy() for part in quantized(call)) for call in maps]
    for i, scale in enumerate(scales):
        cells, low, high = coded[scale]
        yield scale, (cells[i], float(low[i]), float(high[i]))


def _example(
    probe_set: ProbeSet,
    site: FfnSite,
    unit: int,
    which: tuple[str, int, int, float],
    values: tuple[float, float],
    scale: int,
    coded: tuple[np.ndarray, float, float],
) -> Row:
    kind, rank, image, quantile = which
    height, width = site.grids[scale]
    cells = coded[0][: height * width]
    row, column = divmod(int(cells.argmax()), width)
    return {
        "unit": unit,
        "kind": kind,
        "rank": rank,
        "image": probe_set.images[image].id,
        "image_index": image,
        "probe_set": probe_set.identity,
        "activation": values[0],
        "activation_mean": values[1],
        "quantile": quantile,
        "map": cells.tobytes(),
        "map_height": height,
        "map_width": width,
        "map_low": coded[1],
        "map_high": coded[2],
        "row": row,
        "column": column,
        "scale": scale,
        "box": {
            "left": column / width,
            "top": row / height,
            "right": (column + 1) / width,
            "bottom": (row + 1) / height,
        },
    }
