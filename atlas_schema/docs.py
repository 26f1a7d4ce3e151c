"""docs/tables.md, generated from the tables: `python -m atlas_schema.docs docs/tables.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from atlas_schema.card import column_list
from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.shards import shard_path
from atlas_schema.tables import TABLES

_HEAD = f"""# Tables

This page is generated from `atlas_schema/tables.py`; do not edit it. To write it again:

    python -m atlas_schema.docs docs/tables.md

Schema version {SCHEMA_VERSION} (semver; in the footer of every file as `atlas.schema_version`).
Types are those of `datasets` and numpy. Indices start at 0. A cell is empty only where a reason is given, and
a number is never NaN or infinite."""


def page() -> str:
    """The whole page, as Markdown."""
    sections = [_HEAD]
    for table in TABLES.values():
        layers = (3, 12) if table.stages else (0, 1)
        owner = "2026-11-21-a1b2" if table.key == ("run_id",) else "zoo-vit"
        sections.append(
            f"## `{table.name}`\n\nA row is {table.row}. Sorted by {', '.join(table.key)}; for example in"
            f" `{shard_path(table, owner, *layers)}`.\n\n{column_list(table)}"
        )
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m atlas_schema.docs docs/tables.md")
    Path(sys.argv[1]).write_text(page())
