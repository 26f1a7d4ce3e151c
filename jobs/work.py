"""What a stage's function has at hand in a worker: the run's inputs, models, and what other stages committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa

from atlas_schema.errors import NothingThere, PartLost, ShardCorrupt
from atlas_schema.kept import Shelf, read_rows, rows_in_shards
from atlas_schema.parquet import tried_twice
from atlas_schema.partials import partial_sizes, read_partial
from atlas_schema.parts import committed_units
from atlas_schema.store import Store
from atlas_schema.tables import tables_of
from atlas_schema.units import Cut, Identity, Neurons, Targets, WorkUnit
from jobs.inputs import Inputs

if TYPE_CHECKING:
    import torch

    from pipeline.label.embedder import Embedder
    from pipeline.models import LoadedModel, ModelRequest

Shared = TypeVar("Shared")


@dataclass
class Work:
    """The surroundings of one unit. `model` and `embedder` load what the worker does not hold yet."""

    store: Store
    inputs: Inputs
    identities: Mapping[tuple[str, str], Identity]  # by stage and slug
    whole: Callable[[str, str], WorkUnit]  # (stage, slug) -> the unit that stands for all of a stage of a model
    device: str
    precision: str | None  # asked for by the user; None: the device's own
    model: Callable[[str], LoadedModel]  # by slug
    request: Callable[[str], ModelRequest]  # by slug
    embedder: Callable[[], Embedder]
    batch: int  # images in one forward: of speed and memory, never of results beyond rounding
    room: float  # bytes that the unit may take, weights included
    sizes: Any  # jobs.stages.Sizes, of the unit
    step: Callable[[], None]  # the heartbeat: to be called at least every few seconds
    held: dict[Any, Any]  # what `shared` made, of the model used last

    @property
    def torch_device(self) -> torch.device:
        import torch

        return torch.device(self.device)

    @staticmethod
    def layer(unit: WorkUnit) -> int:
        """The layer of a unit that is cut along neurons."""
        assert isinstance(unit.cut, Neurons)
        return unit.cut.layer

    def arrays(self, stage: str, slug: str = "", names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays that a whole stage committed, `names` or all; the embedder's own stages need no slug.

        PartLost where they are damaged or gone: the stage is then done again before whoever asked.
        """
        self.step()
        return self.arrays_of(self.whole(stage, slug), names)

    def arrays_of(self, unit: WorkUnit, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """The arrays of one committed unit."""
        names = None if names is None else list(names)
        with _lost(unit):
            return tried_twice(lambda: read_partial(self.store, unit, names))

    def sizes_of(self, unit: WorkUnit) -> dict[str, int]:
        """The names of the arrays of one committed unit, and the bytes of each. PartLost as in `arrays`."""
        with _lost(unit):
            return tried_twice(lambda: partial_sizes(self.store, unit))

    def rows(self, stage: str, unit: WorkUnit, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Rows that another stage committed of the neurons of `unit`. PartLost as in `arrays`."""
        layer = self.layer(unit)
        for part in committed_units(self.store, stage, unit.slug, self.identities[stage, unit.slug]):
            if part.layer == layer and part.start < unit.stop and unit.start < part.stop:
                self.step()
                rows = self._rows_of(part).select(columns).to_pylist()
                yield from (row for row in rows if unit.start <= row["unit"] < unit.stop)

    def rows_of(self, stage: str, slug: str, cut: Cut) -> pa.Table:
        """The rows that another stage committed of a cut of its own. PartLost as in `arrays`."""
        self.step()
        return self._rows_of(self.identities[stage, slug].unit(stage, slug, cut))

    def _rows_of(self, part: WorkUnit) -> pa.Table:
        """The rows of a part; where it is damaged, those that an intact shard holds of it."""
        try:
            return read_rows(self.store, part)
        except (ShardCorrupt, FileNotFoundError) as error:
            table = tables_of(part.stage)[0]
            rows = rows_in_shards(Shelf(self.store), part, table)
            if rows.num_rows == part.size and (table.key[-1] == "unit" or isinstance(part.cut, Targets)):
                return rows
            raise PartLost(str(error), part) from error

    def shared(self, slug: str, make: Callable[[Work, str], Shared]) -> Shared:
        """What all units of a model share, made once by a worker and kept while it stays at this model."""
        key = (slug, make.__name__)
        if key not in self.held:
            for other in [held for held in self.held if held[0] != slug]:
                del self.held[other]  # before the next is made: those of two models need not fit
            self.held[key] = make(self, slug)
        result: Shared = self.held[key]
        return result


@contextmanager
def _lost(unit: WorkUnit) -> Iterator[None]:
    """PartLost, which names `unit`, for what is damaged or gone."""
    try:
        yield
    except (ShardCorrupt, NothingThere) as error:
        raise PartLost(str(error), unit) from error
