"""The amplitude spectrum of photographs: what `maco` pictures keep while their phases are climbed.

    python -m pipeline.visualize.spectrum FOLDER [--images N] [--out FILE]

The default, natural_spectrum.json beside this file, was measured so on 1,000 photographs, one of each class of
ImageNet (its `source` says which); no photograph can be made from it, as it holds averages over directions. Source of
the idea: Fel et al., *Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization*
(2306.06805), which fixes the average amplitude spectrum of ImageNet and climbs phases.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.visualize.colours import logit_colours

FILE = Path(__file__).with_name("natural_spectrum.json")
SIDE = 256  # pixels, of the centre square that is measured


@dataclass(frozen=True)
class Spectrum:
    """Mean amplitudes over directions and photographs, of the colour axes before the sigmoid.

    frequencies: cycles a picture, rising. amplitudes: (3, len(frequencies)), of an orthonormal transform, over the
    picture's side: a picture that is drawn larger has the same numbers.
    """

    source: str
    frequencies: tuple[float, ...]
    amplitudes: tuple[tuple[float, ...], ...]

    def on_grid(self, height: int, width: int) -> Tensor:
        """The amplitude of each coefficient of a picture's real transform: float64 (3, height, width // 2 + 1).

        Between the measured frequencies straight in logarithms; beyond the last, falling as between the last two.
        """
        rows = np.fft.fftfreq(height)[:, None] * height
        columns = np.fft.rfftfreq(width)[None, :] * width
        wanted = np.log(np.maximum(np.hypot(rows, columns), self.frequencies[0]))
        known = np.log(self.frequencies)
        grids = []
        for own in self.amplitudes:
            levels = np.log(own)
            slope = (levels[-1] - levels[-2]) / (known[-1] - known[-2])
            beyond = np.maximum(wanted - known[-1], 0) * slope
            grids.append(np.exp(np.interp(wanted, known, levels) + beyond) * math.sqrt(height * width))
        return torch.from_numpy(np.stack(grids))


@lru_cache(maxsize=1)
def natural_spectrum() -> Spectrum:
    """The one that comes with the package."""
    told = json.loads(FILE.read_text())
    return Spectrum(told["source"], tuple(told["frequencies"]), tuple(map(tuple, told["amplitudes"])))


def measured(pictures: Iterable[Tensor], source: str, bands: int = 14) -> Spectrum:
    """The spectrum of pictures, each float (3, side, side) in [0, 1], all of one side.

    bands: rings of frequencies, evenly spaced in their logarithm from one cycle a picture to half the side.
    """
    total, count = None, 0
    for picture in pictures:
        coefficients = torch.fft.rfft2(logit_colours(picture[None].double())[0], norm="ortho").abs()
        total, count = coefficients if total is None else total + coefficients, count + 1
    if total is None:
        raise ValueError("no picture to measure a spectrum of")
    side = total.shape[1]
    mean = (total / count / side).numpy()
    radius = np.hypot(np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side)[None, :] * side)
    edges = np.geomspace(0.7, side / 2, bands + 1)
    frequencies, amplitudes = [], []
    for low, high in pairwise(edges):
        ring = (radius >= low) & (radius < high)
        if ring.any():
            frequencies.append(round(float(radius[ring].mean()), 3))
            amplitudes.append([round(float(own[ring].mean()), 7) for own in mean])
    columns = tuple(tuple(band[axis] for band in amplitudes) for axis in range(3))
    return Spectrum(source, tuple(frequencies), columns)


def main() -> None:
    from PIL import Image, ImageOps

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="JPEG files")
    parser.add_argument("--images", type=int, default=1000, help="the first so many, by name")
    parser.add_argument("--source", required=True, help="what the photographs are, for whoever reads the file")
    parser.add_argument("--out", help="default: print")
    asked = parser.parse_args()

    def pictures() -> Iterable[Tensor]:
        for path in sorted(Path(asked.folder).glob("*.jpg"))[: asked.images]:
            image = ImageOps.fit(Image.open(path).convert("RGB"), (SIDE, SIDE), Image.Resampling.BICUBIC)
            yield torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255

    text = json.dumps(asdict(measured(pictures(), asked.source)), indent=1)
    if asked.out:
        Path(asked.out).write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
