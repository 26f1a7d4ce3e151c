"""What can be wrong with the tables of heads, beside what every table can have wrong: heads that the model lacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from atlas_schema.file_faults import Violation, some
from atlas_schema.head_tables import HEAD_FEATURES, HEAD_READS, HEADS


def head_faults(
    path: str, table: str, slug: str, sites: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]
) -> Iterator[Violation]:
    """Rows of one of the tables of heads against the sites of their model."""
    heads = {(one["layer"], head) for one in sites if one["kind"] == "attention" for head in range(one["heads"])}
    units = {one["layer"]: one["width"] for one in sites if one["kind"] == "ffn"}
    if not heads:
        yield Violation(path, "stray", f"there is no attention site of {slug} in the sites table")
        return
    wrong = [name for row in rows if (name := _wrong(table, slug, heads, units, row))]
    if wrong:
        yield Violation(path, "key", f"{len(wrong)} rows are of no head or neuron of {slug}: {some(wrong)}")
    if table == HEADS.name:
        missing = heads - {(row["layer"], row["head"]) for row in rows}
        if missing:
            named = some([f"{slug}/head/{layer}/{head}" for layer, head in sorted(missing)])
            yield Violation(path, "missing", f"{len(missing)} of {len(heads)} heads: {named}")


def _wrong(
    table: str, slug: str, heads: set[tuple[int, int]], units: Mapping[int, int], row: Mapping[str, Any]
) -> str | None:
    """What a row calls itself, if there is no such thing."""
    if table == HEAD_READS.name:
        address = f"{slug}/mlp/{row['layer']}/{row['unit']}"
        there = row["unit"] < units.get(row["layer"], 0) and (row["reader_layer"], row["reader_head"]) in heads
        return None if there and row["address"] == address else str(row["address"])
    if table == HEAD_FEATURES.name:
        name = f"head/{row['layer']}/{row['head']}" if row["kind"] == "head" else f"ffn/{row['layer']}"
        there = (row["layer"], row["head"]) in heads if row["kind"] == "head" else row["layer"] in units
        return None if there and row["component"] == name else str(row["component"])
    address = f"{slug}/head/{row['layer']}/{row['head']}"
    return None if (row["layer"], row["head"]) in heads and row["address"] == address else str(row["address"])
