"""From what the stages of heads committed to the rows of the five tables of a model, and from those to shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from atlas_schema.columns import Table
from atlas_schema.head_tables import HEAD_TABLES
from atlas_schema.partials import read_or_remove
from atlas_schema.parts import WorkUnit
from atlas_schema.rows import rows_to_table
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from jobs.head_partials import alignment_at, embedded, root
from jobs.tasks import Row, Surroundings, batch_of


def head_tables(at: Surroundings, unit: WorkUnit) -> dict[str, np.ndarray]:
    """By table, its rows as the bytes of an Arrow stream: what the last partial of a model holds."""
    from pipeline.decompose.moments import ContributionMoments
    from pipeline.decompose.rows import HeadEvidence, head_rows
    from pipeline.decompose.second_pass import SecondPass
    from pipeline.decompose.spans import Spans

    measuring, slug = at.measuring, unit.slug
    evidence = HeadEvidence(
        model=at.model(slug),
        probe_set=measuring.probe_set,
        membership=measuring.membership,
        pool=measuring.texts_of_heads.pool,
        features=measuring.texts_of_heads.features,
        embedded=embedded(at),
        embedder=measuring.embedder_or_fail.slug,
        moments=ContributionMoments.of(at.read_arrays(root(at, "decompose", slug))),
        spans=Spans.of(at.read_arrays(root(at, "spans", slug))),
        second_pass=SecondPass.of(at.read_arrays(root(at, "project", slug))),
        alignment=alignment_at(at, slug),
        panel=measuring.panel,
        batch=batch_of(at),
    )
    rows = head_rows(evidence, at.step)
    return {table.name: _encoded(table, rows[table.name]) for table in HEAD_TABLES.values()}


def _encoded(table: Table, rows: Sequence[Row]) -> np.ndarray:
    ordered = sorted(rows, key=lambda row: tuple(row[name] for name in table.key))
    data = rows_to_table(table.columns, table.schema(), ordered)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema) as stream:
        stream.write_table(data)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def write_heads(store: Store, unit: WorkUnit, provenance: Mapping[str, str]) -> None:
    """Write a model's five tables from its last partial, which is read whole."""
    for name, encoded in read_or_remove(store, unit, list(HEAD_TABLES)).items():
        rows = pa.ipc.open_stream(pa.py_buffer(encoded.tobytes())).read_all().to_pylist()
        facts = {**provenance, "fingerprint": unit.fingerprint, "settings": unit.recipe_hash}
        write_rows(store, name, unit.slug, rows, provenance=facts)
