"""A stage with a table of its own, as somebody would add one: one table, one description, one function.

Importing this registers the table, as a worker needs it; the tests take it out again and put it in where they use it.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from atlas_schema.columns import Column, Table
from atlas_schema.tables import NEURONS, TABLES
from jobs.stages import Cost, Stage
from jobs.work import Work

TOYS = Table(
    name="toys",
    row="a neuron as a toy",
    key=("slug", "layer", "unit"),
    shard="layer",
    stage="toy",
    columns=(
        *(NEURONS.column(name) for name in ("address", "slug", "layer", "unit")),
        Column("twice", pa.float32(), "Twice the strongest patch of all probe images", unit="activation"),
    ),
)
TABLES.setdefault("toys", TOYS)


def toy(work: Work, unit: Any) -> list[dict[str, Any]]:
    """Twice the strongest patch of each neuron of the unit."""
    from pipeline.probe.model import site_arrays, site_of

    layer = work.layer(unit)
    high = site_of(work.arrays("probe", unit.slug, site_arrays(layer)), layer).peaks.finalize().high
    return [{"unit": neuron, "twice": 2 * float(high[neuron])} for neuron in range(unit.start, unit.stop)]


TOY = Stage(
    name="toy",
    does="Doubles the strongest patch of each neuron",
    group="toy",
    cut="neurons",
    reads=("probe",),
    facts=("seed",),
    compute=toy,
    cost=lambda sizes: Cost(each=1e6, bytes=8),
    memory=lambda sizes, batch: 1e6,
)
