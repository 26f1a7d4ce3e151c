"""The recipes by which classes and texts are inverted. Without pyarrow: the command line reads it first."""

from __future__ import annotations

INVERSION_RECIPES = ("fast", "pii", "clip-inversion", "varied")

INVERSION_STAGES = tuple((f"invert-{recipe}", recipe) for recipe in INVERSION_RECIPES)
"""The stage that makes the pictures of each recipe, and the recipe."""

READING_STAGES = tuple((f"transfer-{recipe}", recipe) for recipe in INVERSION_RECIPES)
"""The stage in which other models read these pictures, and the recipe."""

HEAD_PICTURE_STAGES = tuple((f"invert-heads-{recipe}", recipe) for recipe in INVERSION_RECIPES)
"""The stage that makes the pictures of heads by each recipe, and the recipe."""
