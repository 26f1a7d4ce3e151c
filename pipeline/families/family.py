"""What a description of a model family says, and nothing else."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where the models of one family keep their FFNs and attention.

    Paths are regular expressions that match a whole module path. Every FFN-like and attention-like module of
    a model must match exactly one of `ffn`, `attention` and `outside`: what is new fails here, not as wrong
    numbers.
    """

    name: str
    classes: tuple[str, ...]  # qualified names of the model classes it covers
    ffn: str
    attention: str
    outside: str = r"(?!)"  # FFNs and attention that never see the patch grid (pooling heads): not in the atlas
    prefix: Callable[[nn.Module], tuple[str, ...]] = field(default=lambda model: ())
    # ^ the tokens before the patches, in order: "class", "distillation", "register". A site may run before
    # they   are added (ConViT); the traced shapes decide.
    models: tuple[str, ...] = ()  # globs on the architecture; empty: whatever no other family of the class claims
    timm_modules: tuple[str, ...] = ()  # timm.models.<module> that register its architectures, for the list
    prepare: Callable[[nn.Module, tuple[int, int]], None] | None = None  # after weights, given the patch grid
