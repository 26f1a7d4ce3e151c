"""A representation as an exact sum over heads, FFNs, image and constants (docs/decomposition.md)."""

from pipeline.decompose.components import Component, Decomposition, Level, components_of, decompose
from pipeline.models.representation import representation

__all__ = ["Component", "Decomposition", "Level", "components_of", "decompose", "representation"]
