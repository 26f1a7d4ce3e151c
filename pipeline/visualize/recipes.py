"""Recipes: the frozen, hashed settings of one way to visualize a neuron.

A recipe is data. `reference` is the published method of Ghiasi, Kazemi et al., *What do Vision
Transformers Learn? A Visual Exploration* (2212.06727), as its public code executes it; `fast` is ours.
What each setting of `fast` does at which depth was measured: docs/decisions/fast-recipe.md.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any

from atlas_schema.errors import UnknownRecipe, nearest


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A run of steps of an ascent with the same augmentations."""

    steps: int
    copies: int
    """Augmented copies of the picture in each step, each with its own colour shift."""
    colour_shift: tuple[float, float] = (1.0, 1.0)
    """Strength c of the shift (x - m) / s, m ~ U[-c, c], s = exp(U[-c, c]) per copy and channel: at the
    phase's first step and at its last, linear between."""
    jitter_by: str = "pixel"
    """What a circular shift is a multiple of: a `pixel`, or a `patch` of the site. A neuron of an early site is tuned
    to the place of a pattern inside the patch; shifts by pixels move the pattern off it in every step."""


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """Settings of one gradient ascent on one picture, by Adam with a cosine to zero over all its phases."""

    parameterization: str
    """`pixels`: the values themselves, clamped to [0, 1] after each step; `fourier`: coefficients of a
    decorrelated colour image under a sigmoid (Olah et al., *Feature Visualization*, 2017); `phases`: the phases of
    such coefficients, with the amplitudes of photographs (Fel et al., MACO, 2306.06805)."""
    phases: tuple[Phase, ...]
    learning_rate: float
    betas: tuple[float, float] = (0.5, 0.99)
    shared_moment: float = 0.0
    """How much of a step's size all numbers of a picture have in common, from 0 (Adam: each has its own, and what the
    neuron does not care about grows as fast as what it does) to 1 (pipeline/visualize/adam.py)."""
    start: str = "noise"
    """`noise`: U[0, 1] pixels, or a random spectrum; `bank`: the one of `bank_size` generated pictures that
    excites the neuron most (pipeline/visualize/initial_images.py); `photograph`: a picture that is handed in, one
    of the neuron's strongest photographs."""
    start_strength: float = 1.0
    """Contrast of the start, around grey. Fourier: what the latent is multiplied by; noise has unit variance; a bank
    picture at 1 is itself, towards 0 it fades to grey, where the sigmoid is steepest. Pixels: what their distance from
    0.5 is multiplied by; noise that the neuron does not care about stays in the picture."""
    bank_size: int = 0
    spectrum_exponent: float = 1.0
    """Fourier only: a coefficient of frequency f moves the picture in proportion to 1 / f ** exponent."""
    objective: str = "activation"
    """`activation`: the value after the activation function; `softplus`: softplus of the value before it,
    which has a slope everywhere. Both averaged over patches and copies."""
    peak_share: float = 0.0
    """Where it is not 0, the objective is the mean over this share of the patches, the strongest, instead of all."""
    focus: float = 0.0
    """Where it is not 0, log mean exp(focus x value) / focus over patches instead of their mean: the mean at 0, the
    strongest patch far from it. The value is the one before the activation function (`objective` softplus)."""
    everywhere: float = 0.0
    """Where strong patches count more (`peak_share`, `focus`): how much of the objective is the mean over all."""
    diversity: float = 0.0
    """Price of being like the other variants of the neuron, as a share of the objective: where all are the same, that
    share is lost."""
    hold: float = 0.0
    """Price of moving away from the start: a difference of a tenth of the range at every pixel costs so many times what
    the start's objective is."""
    objective_scale: float = 1.0
    total_variation: float = 0.0
    offset: float = 0.0
    """Standard deviation at the start of a Gaussian offset per copy and channel, fading over the steps."""
    jitter: int = 32
    """Largest circular shift in pixels, one for all copies of a picture (half the picture at most)."""
    jitter_share: float = 0.0
    """Where it is not 0, the largest circular shift is this share of each side, whatever `jitter` says: 32 pixels are a
    seventh of a picture of 224, and half of one of 64, which then has no place for anything."""
    turn: float = 0.0
    """Largest rotation in degrees, drawn for each step, about the picture's middle."""
    zoom: float = 0.0
    """Largest change of scale, drawn for each step: 0.1 for 0.9 to 1.1. What comes in from outside is mirrored."""
    placements: int = 0
    """Circular shifts within a patch of which, at the end, the one that the neuron likes most is kept. A neuron of an
    early site fires by where a pattern lies in its patch, and jitter leaves that to chance."""

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def image_steps(self) -> int:
        """Forward and backward passes of one picture."""
        return sum(phase.steps * phase.copies for phase in self.phases)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A named way to visualize: which ascents at which depth, and how the result is judged.

    `bands` are (depth up to and including which, ascents to try); depth is the share of the forward's FLOPs
    done when the site is reached (`FfnSite.depth`). Where several ascents are listed all are run, and the
    picture with the highest activation under transforms drawn for the choice is kept.
    """

    name: str
    version: int
    bands: tuple[tuple[float, tuple[Ascent, ...]], ...]
    rescue: tuple[Ascent, ...] = ()
    """Ascents tried, in turn, for a neuron whose picture does not make it fire."""
    overtaken: tuple[Ascent, ...] = ()
    """Ascents tried, in turn, for a neuron that the best picture of their bank excites more than the one that was found
    does: the ascent went astray where a plain colour or a grating does better. What they find is kept where it is
    higher by the mean over patches and not lower at the strongest patch."""
    robust_draws: int = 8
    """Fresh colour shifts and circular shifts under which the finished picture is measured."""
    variants: int = 1
    """Pictures of each neuron, with random numbers, or photographs to start from, of their own."""
    drawn_as: str = ""
    """Hash of the version whose random numbers are drawn; its own where it is empty. A version that changes some bands
    leaves the pictures at the others what they were, to the byte, and two versions can be compared neuron by neuron."""

    @property
    def photographs(self) -> bool:
        """Whether it starts from photographs that excite the neuron."""
        return any(ascent.start == "photograph" for _, ascents in self.bands for ascent in ascents)

    def ascents_at(self, depth: float) -> tuple[Ascent, ...]:
        """The ascents for a site at relative `depth` in [0, 1]."""
        return next(ascents for upto, ascents in self.bands if depth <= upto + 1e-9)

    def to_json(self) -> str:
        """Every setting as canonical JSON: what the dataset stores."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over the settings that differ from their defaults.

        A setting that is added later, with a default that changes nothing, leaves old hashes as they are.
        """
        return settings_hash(self)

    @property
    def draws(self) -> str:
        """What random numbers are keyed by, beside the neuron and the seed."""
        return self.drawn_as or self.hash


def settings_hash(settings: Any) -> str:
    """What `Recipe.hash` says, of any frozen settings."""
    text = json.dumps(_told(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _told(value: Any) -> Any:
    """`value` as plain data, without fields that have their default."""
    if is_dataclass(value):
        return {f.name: _told(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default}
    if isinstance(value, tuple):
        return [_told(part) for part in value]
    return value


PUBLISHED = Ascent(
    parameterization="pixels",
    phases=(Phase(steps=401, copies=8),),
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


EARLY = Ascent(
    parameterization="pixels",
    phases=(Phase(steps=220, copies=1, colour_shift=(0.2, 1.0)),),
    placements=16,
    learning_rate=0.1,
    betas=(0.9, 0.99),
    start_strength=0.2,
    objective="softplus",
    total_variation=5e-4,
)
MIDDLE = Ascent(
    parameterization="fourier",
    phases=(Phase(steps=50, copies=1, colour_shift=(0.0, 0.5)),),
    learning_rate=0.3,
    start_strength=0.3,
    objective="softplus",
    total_variation=5e-3,
)
LATE = replace(MIDDLE, phases=(Phase(steps=46, copies=1, colour_shift=(0.0, 0.5)),))
DEEP = replace(LATE, phases=(Phase(steps=46, copies=1, colour_shift=(0.0, 0.0)),), jitter_share=1 / 14)


def clear(ascent: Ascent) -> Ascent:
    """By steps whose size a picture half shares: what the neuron is indifferent to stays near the grey of the start.

    A flatter spectrum makes up for the fine patterns that a shared size is slow with, smaller steps for colours that
    else end at the edge of what a screen shows.
    """
    return replace(ascent, shared_moment=0.5, spectrum_exponent=0.75, learning_rate=0.2)


def better_of_bank(jitter_share: float) -> Ascent:
    """From the generated picture that excites the neuron most, nearly as it is, without colour shift."""
    return replace(
        clear(MIDDLE),
        start="bank",
        bank_size=192,
        start_strength=0.8,
        phases=(Phase(steps=50, copies=1, colour_shift=(0.0, 0.0)),),
        jitter_share=jitter_share,
    )


FAST = Recipe(
    name="fast",
    version=5,
    drawn_as="f53ba779218effb0",  # version 2, as which the first band still is
    bands=((0.2, (EARLY,)), (0.4, (clear(MIDDLE),)), (0.6, (clear(LATE),)), (1.0, (clear(DEEP),))),
    overtaken=(better_of_bank(1 / 7),),
    rescue=(
        replace(
            LATE,
            start="bank",
            bank_size=192,
            start_strength=0.5,
            phases=(Phase(steps=80, copies=1, colour_shift=(0.0, 0.0)),),
        ),
        replace(EARLY, phases=(Phase(steps=120, copies=1, colour_shift=(0.0, 0.0), jitter_by="patch"),)),
    ),
    robust_draws=4,
)

ALIGNED = Recipe(
    name="aligned",
    version=1,
    bands=(
        (
            1.0,
            (
                replace(
                    EARLY,
                    betas=(0.5, 0.99),
                    start_strength=1.0,
                    phases=(  # find the pattern, agree on one place of it in the patch, then clear it up
                        Phase(steps=100, copies=1, colour_shift=(0.0, 0.3)),
                        Phase(steps=50, copies=1, colour_shift=(0.3, 0.5), jitter_by="patch"),
                        Phase(steps=75, copies=1, colour_shift=(0.5, 0.7)),
                    ),
                ),
            ),
        ),
    ),
    robust_draws=4,
)
"""For early sites: one pattern, in one place of every patch. Two to five times the clean activation of `fast` there, at
the price of a lower one under fresh shifts."""

PEAK = Recipe(
    name="peak",
    version=2,  # whose pictures are those of version 1; a rescued one is judged by the start of the first attempt
    drawn_as="5cc976e535016ad1",
    bands=(
        (0.2, (EARLY,)),
        (0.4, (replace(MIDDLE, jitter_share=1 / 14, peak_share=0.25),)),
        (1.0, (replace(LATE, jitter_share=1 / 14, peak_share=0.25),)),
    ),
    rescue=FAST.rescue,
    robust_draws=4,
)
"""As version 2 of `fast`, but behind the earliest sites the strongest quarter of the patches is climbed, under shifts
of 1/14 of the picture: what a neuron likes may lie in one place. Pictures tell an object's place better, and a
background, which lies everywhere, less well (docs/benchmarks/legibility.json)."""

PLACED = Recipe(
    name="placed",
    version=3,
    drawn_as="99a3db3261d455a5",  # version 2
    bands=(
        (0.2, (EARLY,)),
        (0.4, (clear(replace(MIDDLE, jitter_share=1 / 14)),)),
        (0.6, (clear(replace(LATE, jitter_share=1 / 14)),)),
        (1.0, (clear(DEEP),)),
    ),
    overtaken=(better_of_bank(1 / 14),),
    rescue=FAST.rescue,
    robust_draws=4,
)
"""As `fast`, but shifts go to 1/14 of the picture from the second fifth of the network on, and not in its last two
fifths alone: things keep their place there too. What it costs and gains: docs/recipes.md."""

MACO = Recipe(
    name="maco",
    version=1,
    bands=(
        (
            1.0,
            (
                Ascent(
                    parameterization="phases",
                    phases=(Phase(steps=64, copies=1, colour_shift=(0.0, 0.0)),),
                    learning_rate=0.2,
                    objective="softplus",
                    jitter_share=1 / 56,
                ),
            ),
        ),
    ),
    robust_draws=4,
)
"""Phases climbed under the amplitudes of photographs: no frequency and no colour can grow beyond what photographs have
of it, so pictures look quieter, and a neuron that likes what photographs lack is shown less well."""

ACCENTUATED = Recipe(
    name="accentuated",
    version=1,
    bands=(
        (
            1.0,
            (
                Ascent(
                    parameterization="fourier",
                    phases=(Phase(steps=32, copies=1, colour_shift=(0.0, 0.0)),),
                    learning_rate=0.2,
                    start="photograph",
                    objective="softplus",
                    hold=0.1,
                    jitter_share=1 / 28,
                ),
            ),
        ),
    ),
    robust_draws=4,
    variants=3,
)
"""From each of the neuron's three strongest photographs a little way up, held near it: what the neuron likes in them is
drawn stronger, the rest stays (Hamblin et al., *Feature Accentuation*, 2402.10039, who hold features of an early layer;
here it is the pixels)."""

VARIED = replace(
    FAST,
    name="varied",
    version=4,
    drawn_as="bbb7a98cfe550e4d",  # version 1
    bands=tuple((upto, tuple(replace(one, diversity=1.0) for one in ascents)) for upto, ascents in FAST.bands),
    variants=4,
)
"""Four pictures of a neuron by `fast`, kept apart by the likeness of what the layer sees in them (Olah et al. 2017)."""

RECIPES: dict[str, Recipe] = {
    one.name: one for one in (FAST, REFERENCE, ALIGNED, PEAK, PLACED, MACO, ACCENTUATED, VARIED)
}
