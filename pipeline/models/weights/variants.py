"""Arguments of an architecture under which weights would fit that do not fit it as it is: tried, not guessed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import torch
from torch import nn

from atlas_schema.errors import AtlasError
from pipeline.models.arguments import Arguments
from pipeline.models.weights.fit import choose
from pipeline.models.weights.names import Names

#: Tried in this order; where a file names a number, it is put in.
TRIED: tuple[Arguments, ...] = (
    (("global_pool", "avg"),),
    (("class_token", False), ("global_pool", "avg")),
    (("global_pool", "token"),),
    (("global_pool", "map"),),
    (("class_token", False), ("global_pool", "map")),
    (("init_values", 1e-05),),
    (("global_pool", "avg"), ("init_values", 1e-05)),
    (("qkv_bias", False),),
    (("qk_norm", True),),
    (("pre_norm", True),),
    (("no_embed_class", True),),
    (("fc_norm", False),),
    (("use_rel_pos_bias", False), ("use_shared_rel_pos_bias", True)),
    (("use_abs_pos_emb", True),),
)


def arguments_that_fit(build: Callable[[Arguments], nn.Module], known: frozenset[str], names: Names) -> Arguments:
    """The first arguments under which an architecture takes all of the weights; () where none of those tried does.

    build: the architecture with arguments, with or without storage. known: the arguments that its constructor has.
    """
    for arguments in (*_counted(names), *TRIED):
        if known and not {name for name, _ in arguments} <= known:
            continue
        try:
            with torch.device("meta"):
                module = build(arguments)
            trial, _ = choose(module, names)
        except (AtlasError, AssertionError, ValueError, TypeError, RuntimeError, AttributeError, KeyError):
            continue
        if trial.fits:
            return arguments
    return ()


def _counted(names: Names) -> Iterator[Arguments]:
    """Numbers that stand in the file: registers, blocks, the size of a patch."""
    for name, value in names.tensors.items():
        if name.endswith(("reg_token", "register_tokens")) and value.ndim == 3:
            count = int(value.shape[1])
            yield (("reg_tokens", count),)
            yield (("no_embed_class", True), ("reg_tokens", count))
    blocks = [int(found.group(1)) for name in names.tensors if (found := re.search(r"(?:^|\.)blocks\.(\d+)\.", name))]
    if blocks:
        yield (("depth", max(blocks) + 1),)
    sizes = {
        int(value.shape[-1])
        for name, value in names.tensors.items()
        if name.endswith(("patch_embed.proj.weight", "patch_embeddings.projection.weight")) and value.ndim == 4
    }
    for size in sorted(sizes):
        yield (("patch_size", size),)
