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
    # FFNs and attention that never see the patch grid (pooling heads): not in the atlas
    outside: str = r"(?!)"
    # how the queries of its attention see keys, as the column attention_kind has it: the first entry whose name is the
    # class of the module or a part of its path; where none is, "global"
    attention_kinds: tuple[tuple[str, str], ...] = ()
    # attribute of its attention modules that tells by how much keys are pooled: above 1 the kind is "pooled"
    pooling_ratio: str = ""
    # or a part of them that pools keys: where it is there, the kind is "pooled"
    pooling_part: str = ""
    # attribute of the blocks around its attention modules: above 0 the kind is "window"
    windows_of_block: str = ""
    # convolution blocks between attention and FFNs: the qualified class of a block and the last map in it, whose
    # output the block adds
    convolutions: tuple[tuple[str, str], ...] = ()
    # the tokens before the patches, in order: "class", "distillation", "register"; a site may run before they are
    # added (ConViT), which the traced shapes show
    prefix: Callable[[nn.Module], tuple[str, ...]] = field(default=lambda model: ())
    # globs on the architecture; none: all of the classes that no other family claims
    models: tuple[str, ...] = ()
    # for the list of models: the timm.models.<module> that register its architectures, and globs of those among
    # them that have another form
    timm_modules: tuple[str, ...] = ()
    other_forms: tuple[str, ...] = ()
    # what to do once a model has its weights, given its patch grid
    prepare: Callable[[nn.Module, tuple[int, int]], None] | None = None
