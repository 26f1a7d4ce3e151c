"""What becomes of a damaged part: it is put aside, done again, and goes when what replaces it is committed."""

from __future__ import annotations

from collections.abc import Callable

from atlas_schema.errors import NothingThere, ShardCorrupt
from atlas_schema.parquet import tried_twice
from atlas_schema.partials import read_partial
from atlas_schema.parts import PartPlace, kept_path, parse_part_path, part_path
from atlas_schema.quarantine import QUARANTINE, origin, put_aside
from atlas_schema.store import Store
from atlas_schema.units import WorkUnit
from jobs.graph import Graph


def put_part_aside(store: Store, unit: WorkUnit, damaged: str = "") -> None:
    """Put aside what says that `unit` is committed, and the file of its part that is damaged: it is done again.

    What says so is the main file, or the record of a part that was cleaned away: without these it is not there.
    """
    for path in dict.fromkeys([kept_path(unit), part_path(unit), damaged]):
        if path:
            put_aside(store, path)


def is_sound(store: Store, unit: WorkUnit) -> bool:
    """Whether the arrays of a committed partial can be read, when tried a second time too."""
    try:
        tried_twice(lambda: read_partial(store, unit))
    except (NothingThere, ShardCorrupt):
        return False
    return True


def release(store: Store, stands: Callable[[PartPlace], bool]) -> list[str]:
    """Remove the damaged files whose replacement is committed; their paths."""
    gone = []
    for path in store.list(QUARANTINE):
        place = parse_part_path(origin(path))
        if place is not None and stands(place):
            store.delete(path)
            gone.append(path)
    return gone


def replaced_in(graph: Graph) -> Callable[[PartPlace], bool]:
    """Whether committed parts of a run hold what a file that was put aside held."""

    def stands(place: PartPlace) -> bool:
        job = graph.jobs.get((place.stage, place.slug))
        return job is not None and job.unit(place.cut).key == place.key and job.covers(job.unit(place.cut))

    return stands
