"""clean: the command that removes what an atlas no longer needs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.commands.data import AtlasArgument, Json

if TYPE_CHECKING:
    from jobs.cleaning import Cleaning
    from jobs.lock import Holder


def clean(
    atlas: AtlasArgument = "atlas",
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "--remove"], help="Remove it; else only say what.", negative="")] = (
        False
    ),
    parts: Annotated[bool, Parameter(help="Parts too whose rows all stand in shards.", negative="")] = False,
    as_json: Json = False,
) -> int:
    """Say what of an atlas is no longer needed, and with --yes remove it; never while a run is at work."""
    from atlas_schema.errors import NothingThere
    from atlas_schema.store import Store
    from jobs.cleaning import carry_out, decide
    from jobs.lock import locked
    from jobs.records import new_run_id

    store = Store(atlas)
    if not store.list("models"):
        raise NothingThere(f"{atlas}: no atlas here: expected a folder with models/ and sites/ in it")
    with locked(store, f"clean-{new_run_id()}", _watching) as lock:
        cleaning = decide(store, parts=parts)
        if yes:
            carry_out(store, cleaning, lock)
    print(json.dumps(_as_dict(cleaning, yes), indent=1) if as_json else text_of(cleaning, atlas, yes))
    return 0


def _watching(holder: Holder) -> None:
    who = f"{holder.run_id} on {holder.host.split()[0]}"
    print(f"{who} left a lock; watching whether it lives.", file=sys.stderr, flush=True)


def _as_dict(cleaning: Cleaning, removed: bool) -> dict[str, Any]:
    from jobs.cleaning import KINDS

    return {
        "removed": removed,
        "files": len(cleaning.removals),
        "bytes": cleaning.bytes,
        "kinds": [
            {"kind": kind, "files": files, "bytes": size, "why": KINDS[kind]}
            for kind, (files, size) in cleaning.by_kind().items()
        ],
        "paths": [one.path for one in cleaning.removals],
        "stays": list(cleaning.stays),
        "computed_again": list(cleaning.again),
    }


def text_of(cleaning: Cleaning, atlas: str, removed: bool) -> str:
    """What goes by kind, what stays and why, what a later run makes again."""
    from jobs.cleaning import KINDS

    lines = [
        f"{kind:11} {files:7,} files {size / 1e6:11,.1f} MB  {KINDS[kind]}"
        for kind, (files, size) in cleaning.by_kind().items()
    ]
    lines += [f"Stays: {one}" for one in cleaning.stays]
    lines += [f"{'Will be' if removed else 'Would be'} computed again: {one}" for one in cleaning.again]
    if cleaning.records:
        lines.append(
            f"The shards {'are' if removed else 'would be'} the only copy of {len(cleaning.records):,} parts' rows."
        )
    total = f"{len(cleaning.removals):,} files, {cleaning.bytes / 1e6:,.1f} MB"
    if removed:
        return "\n".join([*lines, f"{atlas}: removed {total}"])
    if not cleaning.removals:
        return "\n".join([*lines, f"{atlas}: nothing to remove"])
    return "\n".join([*lines, f"{atlas}: {total} could go. Nothing was removed; --yes removes them."])
