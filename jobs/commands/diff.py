"""diff: the command that compares two checkpoints of one architecture, or two versions of an atlas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from jobs.commands.data import Json


def diff(
    a: Annotated[str, Parameter(help="An atlas: a folder or URL.")],
    b: Annotated[str | None, Parameter(help="The other atlas (default: two models of A).")] = None,
    /,
    *,
    models: Annotated[
        list[str] | None,
        Parameter(
            help="Slugs: X Y for two models of A, or one of A and one of B; X for one of both (default: all shared).",
            consume_multiple=True,
            negative="",
        ),
    ] = None,
    by: Annotated[
        Literal["correlation", "overlap"] | None,
        Parameter(help="Compare maps, as match did, or strongest images (default: maps where they were matched)."),
    ] = None,
    least: Annotated[
        float | None, Parameter(help="Likeness that counts, at least (default: correlation 0.5, overlap a third).")
    ] = None,
    discovery_rate: Annotated[
        float, Parameter(help="Share of false ones among the neurons of a layer that are called kept, or moved.")
    ] = 0.05,
    out: Annotated[
        Path | None,
        Parameter(help="Write a page to look at (.html), or the table model_diffs: .parquet, .csv or .json."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Say which neurons of a model kept their meaning in another, moved, died or appeared, and what else changed."""
    from atlas_schema.errors import BadConfig
    from jobs.diffing.diff import compare
    from jobs.diffing.sides import sides_of
    from jobs.diffing.table import as_dict, require_writable, write
    from jobs.diffing.text import text_of

    if not 0 < discovery_rate < 1:
        raise BadConfig(f"--discovery-rate {discovery_rate}: expected a share between 0 and 1, such as 0.05")
    if least is not None and not 0 <= least <= 1:
        raise BadConfig(f"--least {least}: expected a likeness from 0 to 1")
    if out is not None:
        require_writable(out)
    pairs = sides_of(a, b, models or [])
    diffs = [compare(*pair, by=by, least=least, discovery_rate=discovery_rate) for pair in pairs]
    if out is not None:
        write(diffs, out)
    told = [as_dict(one) for one in diffs]
    print(json.dumps(told, indent=1) if as_json else "\n\n".join(text_of(one) for one in diffs))
    return 0
