"""The table model_diffs: a row for each neuron of each side and for each head; and the files that it is written to."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atlas_schema.errors import BadConfig
from jobs.diffing.diff import ModelDiff
from jobs.diffing.page import page_of

TEXT, FLOAT, BOOL, TEXTS = pa.string(), pa.float32(), pa.bool_(), pa.list_(pa.string())

COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    ("model_a", TEXT, "Slug of the first model"),
    ("model_b", TEXT, "Slug of the second model"),
    ("kind", TEXT, "neuron or head"),
    ("side", TEXT, "a: the row is about a neuron of the first model; b: of the second"),
    ("address", TEXT, "The neuron or head"),
    ("address_there", TEXT, "Its address in the other model"),
    ("layer", pa.int16(), "Its layer, among those of its kind"),
    ("unit", pa.int32(), "Its unit; of a head its index in the layer"),
    ("fate", TEXT, "kept, moved, died (side a), appeared (side b) or silent; of a head kept or changed"),
    ("measure", TEXT, "What likeness is: correlation of maps, overlap of the strongest images, or shared texts"),
    ("same_likeness", FLOAT, "Likeness with the neuron, or head, of the same address; empty: not among the known"),
    ("same_q", FLOAT, "False discovery rate of the layer at which same_likeness is called higher than of random pairs"),
    ("partner", TEXT, "The neuron of the same layer of the other model that is most like it"),
    ("partner_label", TEXT, "The partner's label"),
    ("partner_likeness", FLOAT, "Likeness with the partner"),
    ("partner_q", FLOAT, "As same_q, of partner_likeness against unlike neurons; empty: not asked, kept by address"),
    ("mutual", BOOL, "Whether it is also the partner's most similar neuron"),
    ("silent_there", BOOL, "Whether the neuron of the same address fires on no probe image in the other model"),
    ("label", TEXT, "Its label"),
    ("label_there", TEXT, "The label of the same address in the other model"),
    ("label_change", TEXT, "same, changed, lost (there) or gained (there); empty: no label, or not comparable"),
    ("status", TEXT, "As in neurons"),
    ("status_there", TEXT, "That of the same address in the other model"),
    ("verdict", TEXT, "As in neurons"),
    ("verdict_there", TEXT, "That of the same address in the other model"),
    ("texts", TEXTS, "First texts of a head"),
    ("texts_there", TEXTS, "First texts of the head of the same address in the other model"),
)


def table_of(diffs: Sequence[ModelDiff]) -> pa.Table:
    """All rows of some comparisons, with the rule of each in the schema's metadata."""
    fields = [pa.field(name, kind, metadata={"means": means}) for name, kind, means in COLUMNS]
    rules = [_rule(diff) for diff in diffs]
    return pa.Table.from_pylist(
        [_with_models(diff, row) for diff in diffs for row in diff.rows],
        pa.schema(fields, metadata={"table": "model_diffs", "rules": json.dumps(rules)}),
    )


def as_dict(diff: ModelDiff) -> dict[str, Any]:
    """All that is known of a comparison, as JSON has it."""
    sides = {
        f"model_{name}": {
            "atlas": side.url,
            **{key: side.model[key] for key in ("slug", "model_id", "fingerprint", "probe_set")},
        }
        for name, side in (("a", diff.first), ("b", diff.second))
    }
    return {**sides, **_rule(diff), "notes": diff.notes, "layers": diff.layers, "rows": diff.rows}


def write(diffs: Sequence[ModelDiff], path: Path) -> None:
    """Write the rows as Parquet or CSV, all as JSON, or a page of HTML, by the name's ending. BadConfig for another."""
    require_writable(path)
    try:
        if path.suffix == ".parquet":
            pq.write_table(table_of(diffs), path)
        elif path.suffix == ".csv":
            _write_csv(diffs, path)
        elif path.suffix == ".html":
            path.write_text(page_of(diffs), encoding="utf-8")
        else:
            path.write_text(json.dumps([as_dict(diff) for diff in diffs], indent=1) + "\n")
    except OSError as error:
        raise BadConfig(f"--out {path}: cannot be written ({error}). Give a file in a folder that exists.") from error


def require_writable(path: Path) -> None:
    """BadConfig where the name ends as none that is known, or its folder is not there."""
    if path.suffix not in (".parquet", ".csv", ".json", ".html"):
        raise BadConfig(f"--out {path}: expected a name that ends in .parquet, .csv, .json or .html")
    if not path.absolute().parent.is_dir():
        raise BadConfig(f"--out {path}: there is no folder {path.parent}. Make it, or give a file in another.")


def _write_csv(diffs: Sequence[ModelDiff], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [name for name, _, _ in COLUMNS])
        writer.writeheader()
        for diff in diffs:
            for row in diff.rows:
                told = {key: " | ".join(value) if isinstance(value, list) else value for key, value in row.items()}
                writer.writerow(_with_models(diff, told))


def _with_models(diff: ModelDiff, row: dict[str, Any]) -> dict[str, Any]:
    return {"model_a": diff.first.slug, "model_b": diff.second.slug, **row}


def _rule(diff: ModelDiff) -> dict[str, Any]:
    rule = diff.rule
    return {"measure": diff.measure, "least": rule.least, "discovery_rate": rule.discovery_rate}
