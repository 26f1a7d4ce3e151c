"""Recipes of inversion: the frozen, hashed settings of one way to make a picture for a class or a text.

A recipe is data. `pii` is *Plug-In Inversion* (Ghiasi, Kazemi et al., 2201.12961, section 3) as its public code runs
it; `fast` is ours. What each does to what other models read off the picture: docs/inversions.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from atlas_schema.errors import UnknownRecipe, nearest
from pipeline.visualize.recipes import Ascent, Phase, settings_hash


@dataclass(frozen=True, kw_only=True)
class InversionStage:
    """An ascent on a picture of a size of its own, begun with what the stage before it made."""

    ascent: Ascent
    """Parameterization, steps, copies, augmentations, learning rate, as for neurons. Its `objective`, `hold`,
    `bank_size` and what concerns patches of a site (`peak_share`, `focus`, `everywhere`, `placements`) are not read."""
    size_share: float = 1.0
    """Sides of the picture, as a share of the sides of what the model takes; each step scales it up to those."""
    border_share: float = 0.0
    """How much of each side, as a share of what the model takes, is fresh noise, half of it on either edge; what the
    stage before made is scaled to the rest, in the middle. Not read in the first stage."""
    schedule: str = "cosine"
    """The learning rate over the steps: `cosine` to 0, or `constant`."""


@dataclass(frozen=True, kw_only=True)
class InversionRecipe:
    """A named way to invert a target."""

    name: str
    version: int
    stages: tuple[InversionStage, ...]
    colour: str = "divide"
    """The colour shift of a copy: `divide`, (x - m) / s, as for neurons; `multiply`, x s + m, as PII writes it (section
    3.3). Numbers m ~ U[-c, c] and s = exp(U[-c, c]) are the same."""
    objective: str = "probability"
    """Of a class: `probability`, the logarithm of its softmax among the outputs that compete with it (cross-entropy);
    `logit`, its logit minus the mean of theirs, which does not level off; `margin`, the logarithm of its odds, its
    logit minus the logarithm of the sum of the exponentials of the others', which does not level off either, and in
    which the nearest rival counts most. Of a text it is always the cosine, of a head's direction the projection."""
    cosine_scale: float = 1.0
    """What the cosine with a text is multiplied by, so that it weighs as a logit does against total variation."""
    head_scale: float = 5.0
    """Of a direction of a head: what its projection, in standard deviations, is multiplied by, likewise."""
    text_measure: str = "cosine"
    """Of a text: `cosine` of the two embeddings, or `distance`, minus the distance of the two at length one."""
    copy_turn: float = 0.0
    """Largest rotation of a copy about the middle, degrees, drawn for each step and copy."""
    copy_shift: float = 0.0
    """Largest shift of a copy, a share of each side; what comes in from outside repeats the border."""
    copy_zoom: tuple[float, float] = (1.0, 1.0)
    """Least and greatest scale of a copy."""
    copy_share: float = 1.0
    """How probable it is that a copy is turned, shifted and zoomed at all."""
    gradient_norm: float = 0.0
    """Where it is not 0, the longest a picture's gradient may be; a longer one is shortened to it."""
    scaling: str = "bilinear"
    """How pictures are scaled up, between stages and to what the model takes: `bilinear` or `bicubic`."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on each pixel, drawn for each step, one for all copies."""
    variants: int = 1
    """Pictures of a target, each with random numbers of its own, kept apart at the price `diversity` of a stage's
    ascent."""

    @property
    def steps(self) -> int:
        return sum(stage.ascent.steps for stage in self.stages)

    @property
    def image_steps(self) -> int:
        """Forward and backward passes of one image that a picture takes."""
        return sum(stage.ascent.image_steps for stage in self.stages)

    @property
    def copies(self) -> int:
        """Images of a target in a step, at most: of all its variants."""
        return self.variants * max(phase.copies for stage in self.stages for phase in stage.ascent.phases)

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over the settings that differ from their defaults."""
        return settings_hash(self)


def inversion_recipe(name: str) -> InversionRecipe:
    """The recipe called `name`, or UnknownRecipe with the nearest names."""
    if name not in INVERSION_RECIPES:
        close = ", ".join(nearest(name, INVERSION_RECIPES)) or "none"
        raise UnknownRecipe(
            f"No recipe of inversion is called {name!r}. Known recipes: {', '.join(INVERSION_RECIPES)}; "
            f"nearest: {close}."
        )
    return INVERSION_RECIPES[name]


FAST = InversionRecipe(
    name="fast",
    version=2,
    stages=(
        InversionStage(
            ascent=Ascent(
                parameterization="fourier",
                phases=(Phase(steps=100, copies=1, colour_shift=(0.0, 0.0)),),
                learning_rate=0.3,
                start_strength=0.3,
                spectrum_exponent=1.5,
                jitter_share=1 / 14,
                turn=5.0,
                zoom=0.05,
                total_variation=0.3,
            )
        ),
    ),
    objective="margin",
    cosine_scale=20.0,
    noise=0.15,
)
"""Fourier coefficients of one copy that is shifted, turned and zoomed a little, as photographs are. The odds go on
rising where a probability has levelled off, so that the picture shows the class more strongly than its own model needs;
noise in each step, and coarse coefficients that move more than fine ones, keep out patterns that this model alone
answers to; total variation keeps what no output asks for plain; colours are not shifted, or a class that is one would
have none."""

PII_COPIES = 8
PII = InversionRecipe(
    name="pii",
    version=1,
    stages=tuple(
        InversionStage(
            ascent=Ascent(
                parameterization="pixels",
                phases=(Phase(steps=401, copies=PII_COPIES),),
                learning_rate=0.01,
                jitter=32,
            ),
            size_share=eighths / 8,
            border_share=1 / 16,
        )
        for eighths in range(2, 9)
    ),
    colour="multiply",
)
"""Seven stages, from a quarter of each side to the whole; each begins with the picture before in the middle, half of
the growth by zoom and half by a border of noise (choice 1 of the published code's three). The published number of
copies is what fits the authors' GPU, 1 to 200 by model; ours is 8."""

CLIP_COPIES = 13
CLIP_INVERSION = InversionRecipe(
    name="clip-inversion",
    version=1,
    stages=tuple(
        InversionStage(
            ascent=Ascent(
                parameterization="pixels",
                phases=(Phase(steps=steps, copies=CLIP_COPIES, colour_shift=(0.0, 0.0)),),
                learning_rate=0.1,
                betas=(0.9, 0.999),
                jitter=0,
                total_variation=0.005,
            ),
            size_share=share,
            schedule="constant",
        )
        for share, steps in ((64 / 224, 900), (128 / 224, 900), (1.0, 1600))
    ),
    colour="multiply",
    text_measure="distance",
    copy_turn=30.0,
    copy_shift=0.1,
    copy_zoom=(0.7, 1.2),
    copy_share=0.5,
    gradient_norm=1.0,
    scaling="bicubic",
)
"""*What do we learn from inverting CLIP models?* (Kazemi et al., 2403.02580, section 3) as its public code runs it: a
side of 64, 128 and 224 of 224 pixels, each copy turned, shifted and zoomed half of the time, no shift of colours."""

VARIED = replace(
    FAST,
    name="varied",
    version=2,
    stages=tuple(replace(stage, ascent=replace(stage.ascent, diversity=1.0)) for stage in FAST.stages),
    variants=4,
)
"""Four pictures of a target by `fast`, kept apart by the likeness of what the middle FFN of the model sees in them
(Olah et al. 2017, as for neurons): a class, or a sentence, looks like more than one thing."""

INVERSION_RECIPES: dict[str, InversionRecipe] = {one.name: one for one in (FAST, PII, CLIP_INVERSION, VARIED)}
