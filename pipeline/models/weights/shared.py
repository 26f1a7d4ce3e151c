"""BEiT's pretraining: one table of relative positions for all blocks, copied into each where it is wanted."""

from __future__ import annotations

import re
from dataclasses import replace

from torch import nn

from pipeline.models.families import qualified_class
from pipeline.models.weights.names import Names

SHARED = "rel_pos_bias.relative_position_bias_table"
OWN = "attn.relative_position_bias_table"


def without_shared_tables(module: nn.Module, names: Names) -> tuple[Names, tuple[str, ...]]:
    """The names with a shared table written out for every block of a module that has one a block; the same function."""
    if qualified_class(module) != "timm.models.beit.Beit":
        return names, ()
    notes: tuple[str, ...] = ()
    wanted = [name for name in module.state_dict() if name.endswith(OWN)]
    tensors = dict(names.tensors)
    for name, table in names.tensors.items():
        found = re.fullmatch(rf"(.*\.|){re.escape(SHARED)}", name)
        if found and wanted and not any(f"{found.group(1)}{own}" in tensors for own in wanted):
            del tensors[name]
            tensors |= {f"{found.group(1)}{own}": table for own in wanted}
            notes = (f"one table of relative positions was copied into {len(wanted)} blocks",)
    return replace(names, tensors=tensors), notes
