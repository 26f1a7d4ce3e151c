"""What a column and a table are. `tables.py` says which there are; everything else is derived from that."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

#: Version of all tables together (semver): major when a column changes its meaning or goes, minor when one
#: comes. It stands in every file, and its major is part of every work unit's key.
SCHEMA_VERSION = "2.6.0"

#: The storage of `datasets.Image`: these two fields, nullable, in this order. With `large_binary`, another
#: order or `nullable=False`, `datasets` loses the Image feature without a word.
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type and the sentence that explains it wherever it is shown."""

    name: str
    type: pa.DataType
    means: str  # one sentence, without a full stop; counts start at 0 unless it says otherwise
    unit: str = ""  # "activation", "pixel", "s"; empty for names, indices and counts
    absent: str = ""  # why a cell may be null; empty forbids null
    absent_if: tuple[str, tuple[str, ...]] | None = None  # only in rows where another column has one of these values
    bounds: tuple[float, float] | None = None  # inclusive
    stage: str = ""  # the stage that fills it; empty for keys and for tables that are written whole
    volatile: bool = False  # wall-clock figures: may differ between two equal runs
    choices: tuple[str, ...] = ()  # the only values a string may have; empty allows any

    @property
    def is_image(self) -> bool:
        return bool(self.type == IMAGE)

    def field(self) -> pa.Field:
        """The Arrow field: nullable always, as `datasets` needs it; writers and `validate` hold `absent`."""
        return pa.field(self.name, self.type, nullable=True)


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: one folder of Parquet shards and one config of the Hugging Face dataset."""

    name: str
    row: str  # what one row is, with its article: "an FFN neuron"
    key: tuple[str, ...]  # rows are sorted by these columns, and no two rows agree in all of them
    columns: tuple[Column, ...]
    shard: str = "owner"  # what one file holds: "owner": all rows of a model (run, probe set); "layer": of an FFN layer
    stage: str = ""  # the stage whose parts hold whole rows; empty: columns name theirs, or it is written whole
    row_stages: tuple[tuple[str, str], ...] = ()
    """Where several stages each hold whole rows: (stage, what `row_stage_by` says in its rows)."""
    row_stage_by: str = ""
    row_stage_kinds: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Where such stages differ in what their rows are of: (stage, what `kind` may say in its rows)."""
    version: str = SCHEMA_VERSION

    def column(self, name: str) -> Column:
        """The column called `name`; KeyError where there is none."""
        return {column.name: column for column in self.columns}[name]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def image_columns(self) -> list[str]:
        return [column.name for column in self.columns if column.is_image]

    @property
    def stages(self) -> list[str]:
        """The stages whose parts fill this table, in the order of their columns; none: it is written whole."""
        if self.stage or self.row_stages:
            return [self.stage] if self.stage else [stage for stage, _ in self.row_stages]
        return list(dict.fromkeys(c.stage for c in self.columns if c.stage))

    def rows_of(self, stage: str, rows: pa.Table) -> pa.Table:
        """Of `rows` of the table those that `stage` made whole: all, but where several stages do."""
        said = dict(self.row_stages).get(stage)
        if said is None:
            return rows
        kinds = dict(self.row_stage_kinds).get(stage)
        own = pc.equal(rows[self.row_stage_by], said)
        return rows.filter(own if kinds is None else pc.and_(own, pc.is_in(rows["kind"], pa.array(kinds))))

    def schema(self) -> pa.Schema:
        """The Arrow schema of a shard; its metadata lets `datasets` decode images and name all types."""
        return _schema(self.columns)

    def part_columns(self, stage: str) -> tuple[Column, ...]:
        """The key columns and those that `stage` fills."""
        if not self.stages or stage == self.stage or stage in dict(self.row_stages):
            return self.columns
        if stage not in self.stages:
            raise KeyError(f"{self.name}: no column is filled by stage {stage!r}; stages: {self.stages}")
        return tuple(column for column in self.columns if column.stage in ("", stage))

    def part_schema(self, stage: str) -> pa.Schema:
        """The Arrow schema of a part that `stage` commits."""
        return _schema(self.part_columns(stage))


def _schema(columns: tuple[Column, ...]) -> pa.Schema:
    features = {column.name: feature(column.type) for column in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": features}}, separators=(",", ":"))}
    return pa.schema([column.field() for column in columns], metadata=metadata)


def feature(arrow: pa.DataType) -> dict[str, Any]:
    """The `datasets` feature of an Arrow type, as its JSON form (`Features.from_dict` reads it)."""
    if arrow == IMAGE:
        return {"_type": "Image"}
    if pa.types.is_struct(arrow):
        return {inner.name: feature(inner.type) for inner in arrow}
    if pa.types.is_list(arrow):
        return {"feature": feature(arrow.value_type), "_type": "List"}
    names = {"float": "float32", "double": "float64"}  # Arrow's names where they differ from numpy's
    return {"dtype": names.get(str(arrow), str(arrow)), "_type": "Value"}
