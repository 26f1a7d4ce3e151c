"""Recipes: the frozen, hashed settings of one way to visualize a neuron.

A recipe is data. `reference` is the published method of Ghiasi, Kazemi et al., *What do Vision
Transformers Learn? A Visual Exploration* (2212.06727), as its public code executes it; `fast` is ours.
What each setting of `fast` does at which depth was measured: docs/decisions/fast-recipe.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from atlas_schema.errors import UnknownRecipe, nearest


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """Settings of one gradient ascent on one picture."""

    parameterization: str
    """`pixels`: the values themselves, clamped to [0, 1] after each step; `fourier`: coefficients of a
    decorrelated colour image under a sigmoid (Olah et al., *Feature Visualization*, 2017)."""
    steps: int
    copies: int
    """Augmented copies of the picture in each step, each with its own colour shift."""
    learning_rate: float
    betas: tuple[float, float] = (0.5, 0.99)
    start: str = "uniform"
    """`uniform`: U[0, 1] pixels; `noise`: a faint random spectrum; `bank`: the one of `bank_size` generated
    pictures that excites the neuron most (pipeline/starts.py)."""
    start_strength: float = 1.0
    """Fourier only: what the starting latent is multiplied by. Noise has unit variance; a bank picture at 1 is
    itself, towards 0 it fades to grey, where the sigmoid is steepest."""
    bank_size: int = 0
    spectrum_exponent: float = 1.0
    """Fourier only: a coefficient of frequency f moves the picture in proportion to 1 / f ** exponent."""
    objective: str = "activation"
    """`activation`: the value after the activation function; `softplus`: softplus of the value before it,
    which has a slope everywhere. Both averaged over patches and copies."""
    objective_scale: float = 1.0
    total_variation: float = 0.0
    colour_shift: float = 1.0
    """Strength c of the shift (x - m) / s, m ~ U[-c, c], s = exp(U[-c, c]), per copy and channel."""
    colour_shift_until: float | None = None
    """The share of the steps over which the shift fades linearly to none; absent: it never fades."""
    offset: float = 0.0
    """Standard deviation at the start of a Gaussian offset per copy and channel, fading over the steps."""
    jitter: int = 32
    """Largest circular shift in pixels, one for all copies of a picture (half the picture at most)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named way to visualize: which ascents at which depth, and how the result is judged.

    `bands` are (depth up to and including which, ascents to try); depth runs from 0 at the first FFN site
    to 1 at the last. Where several ascents are listed all are run, and the picture with the highest
    activation under fresh transforms is kept.
    """

    name: str
    version: int
    bands: tuple[tuple[float, tuple[Ascent, ...]], ...]
    rescue: tuple[Ascent, ...] = ()
    """Ascents tried, in turn, for a neuron whose picture does not make it fire."""
    robust_draws: int = 8
    """Fresh colour shifts and circular shifts under which the finished picture is measured."""

    def ascents_at(self, depth: float) -> tuple[Ascent, ...]:
        """The ascents for a site at relative `depth` in [0, 1]."""
        return next(ascents for upto, ascents in self.bands if depth <= upto + 1e-9)

    def to_json(self) -> str:
        """Every setting as canonical JSON: what the hash is taken of and what the dataset stores."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of SHA-256 of `to_json()`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


PUBLISHED = Ascent(
    parameterization="pixels",
    steps=401,
    copies=8,
    learning_rate=0.1,
    objective_scale=1 / 8,  # the published loss takes the mean of a diagonal 8 x 8 matrix
    total_variation=0.0005 * 0.1,
    offset=0.5,
)

REFERENCE = Recipe(name="reference", version=1, bands=((1.0, (PUBLISHED,)),))


def recipe_named(name: str) -> Recipe:
    """The recipe called `name`, or UnknownRecipe with the nearest names."""
    if name not in RECIPES:
        close = ", ".join(nearest(name, RECIPES)) or "none"
        raise UnknownRecipe(f"No recipe is called {name!r}. Known recipes: {', '.join(RECIPES)}; nearest: {close}.")
    return RECIPES[name]


RECIPES: dict[str, Recipe] = {"reference": REFERENCE}
