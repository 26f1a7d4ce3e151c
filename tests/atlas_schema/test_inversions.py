"""The table of inversions: parts that overlap, shards that outlive their parts, and what validate says."""

from __future__ import annotations

from atlas_schema.inversion_recipes import HEAD_PICTURE_STAGES, INVERSION_STAGES
from atlas_schema.kept import Shelf, rows_in_shards
from atlas_schema.parts import commit_part, part_path, read_part
from atlas_schema.read import Atlas
from atlas_schema.shards import ShardPlace, assemble, shard_path
from atlas_schema.store import Store
from atlas_schema.tables import INVERSION_READINGS, INVERSIONS, tables_of
from atlas_schema.units import Readings, Targets, WorkUnit, cut_named, unit_of
from atlas_schema.validate import validate
from tests.atlas_schema.made_atlas import (
    FINGERPRINT,
    PROVENANCE,
    SLUG,
    inversion_rows,
    inversion_unit,
    make_atlas,
    reading_rows,
    settings_of,
)

FIRST, SECOND, THIRD = (inversion_unit(SLUG, letter * 16, count) for letter, count in (("c", 3), ("d", 1), ("e", 2)))
PLACE = ShardPlace(INVERSIONS, SLUG)


def classes(store: Store) -> list[tuple[str, str, str]]:
    rows = Atlas(store).inversions(SLUG)
    assert rows is not None
    return [(row["recipe"], row["address"].rpartition("/")[2], row["together"][0]) for row in rows.to_pylist()]


def test_a_stage_for_each_recipe_fills_the_table() -> None:
    assert INVERSIONS.stages == [stage for stage, _ in (*INVERSION_STAGES, *HEAD_PICTURE_STAGES)]
    assert all(tables_of(stage) == (INVERSIONS,) for stage in INVERSIONS.stages)


def test_a_unit_is_named_by_its_list_and_read_back() -> None:
    assert cut_named(FIRST.cut.name) == FIRST.cut == Targets(3, "c" * 16)
    assert unit_of(FIRST.metadata()) == FIRST
    assert (FIRST.size, FIRST.start, FIRST.stop) == (3, 0, 3)
    assert FIRST.key != SECOND.key


def test_a_target_that_several_parts_hold_comes_from_the_first_by_name(folder: Store) -> None:
    store = make_atlas(folder)
    made = [("fast", "0", "c"), ("fast", "10", "c"), ("fast", "2", "c"), ("fast", "5", "d")]
    assert classes(store) == made
    commit_part(store, THIRD, inversion_rows(SLUG, "e" * 16, (2, 7)), provenance=PROVENANCE)
    assemble(store, [PLACE], [FIRST, SECOND, THIRD])
    assert classes(store) == [*made[:2], ("fast", "2", "e"), made[3], ("fast", "7", "e")]
    assert validate(store) == []
    shelf = Shelf(store)
    for unit in (SECOND, THIRD):
        assert rows_in_shards(shelf, unit, INVERSIONS).equals(read_part(store, unit))
    assert rows_in_shards(shelf, FIRST, INVERSIONS).num_rows == 2, "its third row is another unit's"


def test_a_shard_loses_no_target_that_no_part_holds_any_more(folder: Store) -> None:
    store = make_atlas(folder)
    before = store.read(shard_path(INVERSIONS, SLUG))
    for unit in (FIRST, SECOND):
        store.delete(part_path(unit))
    commit_part(store, THIRD, inversion_rows(SLUG, "e" * 16, (5, 7)), provenance=PROVENANCE)
    other = inversion_unit(SLUG, "f" * 16, 1, "pii")
    commit_part(store, other, inversion_rows(SLUG, "f" * 16, (0,), "pii"), provenance=PROVENANCE)
    assemble(store, [PLACE], [THIRD, other])
    kept = [("fast", "0", "c"), ("pii", "0", "f"), ("fast", "10", "c"), ("fast", "2", "c"), ("fast", "5", "e")]
    assert classes(store) == [*kept, ("fast", "7", "e")]
    after = store.read(shard_path(INVERSIONS, SLUG))
    assert assemble(store, [PLACE], [THIRD, other]) == [PLACE.path]
    assert store.read(PLACE.path) == after != before, "doing it again changes nothing"


def head_rows(digest: str, names: tuple[str, ...]) -> list[dict[str, object]]:
    """Rows of pictures of a head, one a direction."""
    rows = inversion_rows(SLUG, digest, range(len(names)))
    none = dict.fromkeys(("index", "rank", "rivals", "natural_right"))
    for row, name in zip(rows, names, strict=True):
        row |= {"kind": "head", "head": f"{SLUG}/head/0/1", "direction": name, "projection": 0.5, "deviations": 2.0}
        row |= {"address": f"{SLUG}/head/0.1/{name}", "natural_deviations": 1.5, **none}
    return rows


def test_pictures_of_heads_and_of_classes_by_one_recipe_are_told_apart(folder: Store) -> None:
    store = make_atlas(folder)
    before = classes(store)
    heads = WorkUnit("invert-heads-fast", SLUG, Targets(2, "a" * 16), FINGERPRINT, settings_of("invert-heads-fast"))
    commit_part(store, heads, head_rows("a" * 16, ("axis-0-high", "text-0")), provenance=PROVENANCE)
    assemble(store, [PLACE], [FIRST, SECOND, heads])
    own = [("fast", "axis-0-high", "a"), ("fast", "text-0", "a")]
    assert classes(store) == [*before, *own]
    assert validate(store) == []
    rows = Atlas(store).inversions(SLUG, INVERSIONS.names)
    assert rows is not None
    assert INVERSIONS.rows_of("invert-heads-fast", rows).num_rows == len(own)
    assert INVERSIONS.rows_of("invert-fast", rows).num_rows == len(before)
    assert rows_in_shards(Shelf(store), heads, INVERSIONS).equals(read_part(store, heads))
    for unit in (FIRST, SECOND, heads):
        store.delete(part_path(unit))
    again = WorkUnit("invert-heads-fast", SLUG, Targets(1, "b" * 16), FINGERPRINT, settings_of("invert-heads-fast"))
    commit_part(store, again, head_rows("b" * 16, ("text-0",)), provenance=PROVENANCE)
    assemble(store, [PLACE], [again])
    assert classes(store) == [*before, own[0], ("fast", "text-0", "b")], "each once, whatever no part says any more"


def test_readings_of_a_reader_that_is_not_asked_again_stay(folder: Store) -> None:
    store = make_atlas(folder)
    cut = Readings(3, "c" * 16, "zoo-pit", "f" * 16)
    unit = WorkUnit("transfer-fast", SLUG, cut, FINGERPRINT, settings_of("transfer-fast"))
    assert cut_named(cut.name) == cut
    (old,) = store.list(".atlas/parts/transfer-fast")
    store.delete(old)
    commit_part(store, unit, reading_rows(SLUG, "c" * 16, (0, 10, 2), "zoo-pit"), provenance=PROVENANCE)
    assemble(store, [ShardPlace(INVERSION_READINGS, SLUG)], [unit])
    rows = Atlas(store).inversion_readings(SLUG)
    readers = [(row["address"].rpartition("/")[2], row["reader"]) for row in rows]
    assert readers == [(one, reader) for one in ("0", "10", "2") for reader in ("zoo-pit", "zoo-swin")]
    assert rows_in_shards(Shelf(store), unit, INVERSION_READINGS).equals(read_part(store, unit))


def test_validate_misses_the_table_of_a_stage_that_ran(folder: Store) -> None:
    store = make_atlas(folder)
    store.delete(shard_path(INVERSIONS, SLUG))
    (fault,) = [one for one in validate(store) if one.path.startswith(INVERSIONS.name)]
    assert (fault.path, fault.kind) == (shard_path(INVERSIONS, SLUG), "missing")
