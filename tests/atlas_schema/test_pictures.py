"""Further pictures: rows of several stages under one another, a stage a recipe, and none of them in another's way."""

from __future__ import annotations

import itertools

import pytest

from atlas_schema.card import card_text
from atlas_schema.errors import BadRow, ForeignAtlas
from atlas_schema.kept import Shelf, rows_in_shards
from atlas_schema.parts import commit_part, read_part
from atlas_schema.picture_recipes import PICTURE_STAGES
from atlas_schema.read import Atlas
from atlas_schema.shards import ShardPlace, assemble, shard_path, stands
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_PICTURES, tables_of
from atlas_schema.validate import validate
from tests.atlas_schema.made_atlas import ALL, PROVENANCE, SLUG, commit, make_atlas, settings_of, stage_rows, units_of

NUMBER = itertools.count()
PEAK, MACO = "pictures-peak", "pictures-maco"
PLACE = ShardPlace(NEURON_PICTURES, SLUG, 0, 2)


@pytest.fixture
def store() -> Store:
    return Store(f"memory://pictures-{next(NUMBER)}")


def units(stage: str):
    return units_of(0, 24, 16, stage=stage, settings=settings_of(stage))


def rows_of(store: Store) -> list[tuple[int, str, int]]:
    rows = Atlas(store).pictures(SLUG, 0, ["unit", "recipe", "variant"])
    return [] if rows is None else list(zip(*(rows[name].to_pylist() for name in rows.column_names), strict=True))


def expected(*recipes: str, stop: int = 24) -> list[tuple[int, str, int]]:
    """As many variants as `made_rows` makes of a unit."""
    return [(u, recipe, v) for u in range(stop) for recipe in sorted(recipes) for v in range(1 + u % 3)]


def test_every_stage_of_pictures_fills_the_table_with_whole_rows() -> None:
    assert NEURON_PICTURES.stages == [stage for stage, _ in PICTURE_STAGES]
    for stage, recipe in PICTURE_STAGES:
        assert tables_of(stage) == (NEURON_PICTURES,)
        assert NEURON_PICTURES.part_columns(stage) == NEURON_PICTURES.columns
        assert stage == f"pictures-{recipe}"
    with pytest.raises(KeyError, match="no column is filled by stage 'visualize'"):
        NEURON_PICTURES.part_columns("visualize")


def test_a_recipe_is_added_to_a_shard_without_the_parts_of_another(store: Store) -> None:
    for unit in units(PEAK):
        commit(store, unit)
    assemble(store, [PLACE], units(PEAK))
    assert rows_of(store) == expected("peak")
    for unit in units(MACO):
        commit(store, unit)
    assert not stands(store, [PLACE], [*units(PEAK), *units(MACO)])
    assemble(store, [PLACE], units(MACO))  # the parts of the first were not downloaded with the shard
    assert rows_of(store) == expected("maco", "peak")
    both = store.read(PLACE.path)
    assemble(store, [PLACE], [*units(PEAK), *units(MACO)])
    assert rows_of(store) == expected("maco", "peak")
    assert stands(store, [PLACE], [*units(PEAK), *units(MACO)])
    assemble(store, [PLACE], [*units(MACO), *units(PEAK)])
    assert len(store.read(PLACE.path)) == len(both)


def test_rows_of_a_part_are_found_in_the_shard_and_no_others(store: Store) -> None:
    for unit in (*units(PEAK), *units(MACO)):
        commit(store, unit)
    assemble(store, [PLACE], [*units(PEAK), *units(MACO)])
    for unit in (*units(PEAK), *units(MACO)):
        assert rows_in_shards(Shelf(store), unit, NEURON_PICTURES).equals(read_part(store, unit))


def test_settings_of_two_recipes_stand_apart(store: Store) -> None:
    for unit in units(PEAK):
        commit(store, unit)
    assemble(store, [PLACE], units(PEAK))
    others = units_of(0, 24, 16, stage=PEAK, settings="9" * 16)
    for unit in others:
        commit(store, unit)
    with pytest.raises(ForeignAtlas, match="pictures-peak_settings"):
        assemble(store, [PLACE], others)


def test_a_whole_atlas_with_further_pictures_is_sound_and_described() -> None:
    atlas = make_atlas(Store(f"memory://pictures-{next(NUMBER)}"))
    assert {PEAK, MACO} < set(ALL)
    assert validate(atlas) == []
    assert "A row is a further picture of a neuron" in card_text(atlas)
    atlas.delete(shard_path(NEURON_PICTURES, SLUG, 1, 2))
    (fault,) = validate(atlas)
    assert (fault.path, fault.kind) == (shard_path(NEURON_PICTURES, SLUG, 1, 2), "missing")


def test_a_recipe_that_the_schema_does_not_know_is_refused(store: Store) -> None:
    unit = units(PEAK)[1]
    rows = [row for neuron in range(unit.start, unit.stop) for row in stage_rows(PEAK, neuron)]
    with pytest.raises(BadRow, match="'wavelets' is none of fast"):
        commit_part(store, unit, [{**row, "recipe": "wavelets"} for row in rows], provenance=PROVENANCE)
