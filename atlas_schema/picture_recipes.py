"""The recipes of which an atlas may hold further pictures. Without pyarrow: the command line reads it first."""

from __future__ import annotations

PICTURE_RECIPES = ("fast", "reference", "aligned", "peak", "placed", "maco", "accentuated", "varied")

PICTURE_STAGES = tuple((f"pictures-{recipe}", recipe) for recipe in PICTURE_RECIPES)
"""The stage that makes those of each recipe, and the recipe."""
