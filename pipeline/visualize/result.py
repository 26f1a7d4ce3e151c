"""One picture of a neuron and the numbers beside it, as the dataset holds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atlas_schema.address import NeuronAddress
from pipeline.visualize.recipes import Recipe


@dataclass(frozen=True, eq=False)
class Visualization:
    """One neuron's picture and the numbers that let a reader trust it; `row()` is its row of `neurons`."""

    address: NeuronAddress
    image: np.ndarray  # uint8 (height, width, 3), before compression
    webp: bytes
    activation: float  # mean over patches (and scales), of the picture as optimized
    activation_peak: float  # its strongest patch
    activation_stored: float  # mean over patches, of the WebP as anyone reads it back
    activation_start: float
    activation_start_peak: float
    robust_mean: float  # mean over fresh random transforms of the mean over patches
    robust_std: float
    robust_peak: float
    robust_draws: int
    loss_curve: list[dict[str, float]]
    rescue: str | None
    start: str
    steps: int
    image_steps: int
    seconds: float
    recipe: Recipe
    precision: str
    seed: int
    status_reason: str | None = None  # why there is no picture: then no number beside it stands for anything
    variant: int = 0  # which of the recipe's pictures of the neuron
    likeness: float | None = None  # to the most similar other variant, see pipeline.visualize.objective.likeness

    @property
    def status(self) -> str:
        """`active`, `inactive` where the mean activation of the picture is not above 0, `failed` without a picture."""
        if self.status_reason is not None:
            return "failed"
        return "active" if self.activation > 0 else "inactive"

    def row(self) -> dict[str, object]:
        """The row for atlas_schema.tables.NEURONS."""
        own = {name: getattr(self, name) for name in (*_MEASURED_FIELDS, *_TOLD_FIELDS)}
        if self.status == "failed":
            own |= dict.fromkeys(_MEASURED_FIELDS)
        return own | {
            "address": str(self.address),
            "slug": self.address.slug,
            "layer": self.address.layer,
            "unit": self.address.unit,
            "image": None if self.status == "failed" else {"bytes": self.webp, "path": f"{self.address.unit}.webp"},
            "recipe": self.recipe.name,
            "recipe_hash": self.recipe.hash,
        }

    def picture_row(self) -> dict[str, object]:
        """What the row for atlas_schema.tables.NEURON_PICTURES says beside the verdict and the starting photograph."""
        row = self.row()
        row = {name: row[name] for name in _FURTHER_FIELDS}
        likeness = None if self.status == "failed" else self.likeness
        return row | {"recipe": self.recipe.name, "variant": self.variant, "likeness": likeness}


_MEASURED_FIELDS = (
    "activation", "activation_peak", "activation_stored", "activation_start", "activation_start_peak",
    "robust_mean", "robust_std", "robust_peak", "robust_draws", "loss_curve", "rescue", "start", "steps",
)  # fmt: skip
_TOLD_FIELDS = ("status", "status_reason", "image_steps", "seconds", "precision", "seed")
_FURTHER_FIELDS = (
    "address", "slug", "layer", "unit", "image", "status", "status_reason", "activation", "activation_peak",
    "activation_stored", "activation_start", "rescue", "start", "steps", "image_steps", "seconds", "recipe_hash",
    "precision", "seed",
)  # fmt: skip
LEFT = "the optimization left the finite numbers, whatever it started from"
NO_NUMBER = "the activation is no finite number: the weights that make it are damaged"
