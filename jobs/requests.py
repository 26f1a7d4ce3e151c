"""How many requests to an object store a plan comes to: of small units they may cost more than the hours do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atlas_schema.tables import tables_filled_by, tables_of
from atlas_schema.units import Neurons
from jobs.stages import Stage, at_once

OF_READ = 3  # a look-up of the size, the footer, the rest
PUTS_OF_MODEL = 2  # its rows of `models` and `sites`

Place = tuple[str, str, int | None]  # table, slug, layer of a shard


@dataclass(frozen=True)
class Asking:
    """What a stage of a model is cut into."""

    stage: Stage
    slug: str
    cuts: Sequence[object]


def requests_of(jobs: Iterable[Asking], models: int) -> dict[str, int]:
    """Estimated requests: `put` for writes, `get` for reads and look-ups, which cost a tenth.

    A unit looks whether its part is there, reads what earlier stages left, and writes a file for each table; each
    file of rows is read once more as its shard is written; what a shard begins with (`jobs/assembly.py`), twice.
    """
    put = get = 0
    shards: dict[Place, list[Asking]] = {}
    for job in jobs:
        filled = tables_filled_by(job.stage.name)
        sources = len(job.stage.reads) + len(job.stage.reads_if_there)
        put += len(job.cuts) * len(tables_of(job.stage.name))
        get += len(job.cuts) * (1 + OF_READ * (sources + len(filled)))
        for layer in dict.fromkeys(cut.layer if isinstance(cut, Neurons) else None for cut in job.cuts):
            for table in filled:
                shards.setdefault((table.name, job.slug, layer), []).append(job)
    written = len(shards)
    for (_, _, layer), filling in shards.items():
        first = at_once(job.stage for job in filling)
        if 0 < len(first) < len(filling):
            written += 1
            cuts = [cut for job in filling if job.stage.name in first for cut in job.cuts]
            get += OF_READ * sum(isinstance(cut, Neurons) and cut.layer == layer for cut in cuts)
    return {"put": put + written + PUTS_OF_MODEL * models, "get": get + OF_READ * written}
