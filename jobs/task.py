"""What a worker can be given: a work unit, or an assembly, which writes shards from the parts of units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from atlas_schema.errors import NothingThere, PartLost, ShardCorrupt
from atlas_schema.parts import PartReceipt, is_committed, part_path
from atlas_schema.shards import Planned, ShardPlace, assemble, stands
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from atlas_schema.units import WorkUnit


@dataclass(frozen=True)
class Assembly:
    """Shards of one table of a model, to be written from committed parts.

    Two of the same table, model and layer are the same task, whatever parts there are by then.
    """

    table: str
    slug: str
    layer: int | None  # None: all shards that the model has of this table
    layers: tuple[int, ...] = field(default=(0,), compare=False)  # of the shards
    depth: int = field(default=1, compare=False)  # FFN layers of the model, 1 where the table has one shard a model
    units: tuple[WorkUnit, ...] = field(default=(), compare=False, repr=False)  # all whose parts hold rows of them
    planned: Planned | None = field(default=None, compare=False, repr=False)  # whose rows are kept; None: all

    def __str__(self) -> str:
        return f"assemble {self.table}/{self.slug}" + ("" if self.layer is None else f" layer {self.layer}")

    @property
    def places(self) -> list[ShardPlace]:
        """The shards that it writes."""
        return [ShardPlace(TABLES[self.table], self.slug, layer, self.depth) for layer in self.layers]

    def stands(self, store: Store) -> bool:
        """Whether the shards are there already, by their footers. ForeignAtlas where others are in their place."""
        return stands(store, self.places, self.units, self.planned)

    def write(self, store: Store, step: Callable[[], None] = lambda: None) -> ShardReceipt:
        """Write them; step is called after each file that was read or written.

        PartLost, naming the unit, where a part is damaged or gone; else what `assemble` raises.
        """
        try:
            paths = assemble(store, self.places, self.units, self.planned, step)
        except (ShardCorrupt, NothingThere) as error:
            lost = self._unreadable(store, error)
            if lost is None:
                raise
            raise PartLost(str(error), lost) from error
        return ShardReceipt(self, len(paths), sum(map(store.size, paths)))

    def _unreadable(self, store: Store, error: ShardCorrupt | NothingThere) -> WorkUnit | None:
        """The unit whose part the error is about; None where it is about something else."""
        table = TABLES[self.table]
        if isinstance(error, ShardCorrupt):
            return next((unit for unit in self.units if error.path in (part_path(unit, table), part_path(unit))), None)
        return next((unit for unit in self.units if not is_committed(store, unit)), None)


@dataclass(frozen=True)
class ShardReceipt:
    """Shards that stand, written or found equal."""

    unit: Assembly
    shards: int
    bytes: int


Task = WorkUnit | Assembly
Receipt = PartReceipt | ShardReceipt
