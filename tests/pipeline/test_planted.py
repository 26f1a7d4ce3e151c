"""A unit with a known optimum gets the picture of that optimum: gratings and colours."""

import pytest

from pipeline.recipes import RECIPES
from pipeline.visualize import visualize
from pipeline.zoo.planted import agreement, load_planted


@pytest.fixture(scope="module")
def planted():
    return load_planted()


@pytest.fixture(scope="module")
def pictures(planted):
    """All sixteen planted units: [(planted unit, visualization)]."""
    model, units = planted
    recipe = RECIPES["fast"]
    found = []
    for site in model.description.ffn_sites[:2]:
        own = [u for u in units if u.layer == site.layer]
        found += zip(own, visualize(model, site, [u.unit for u in own], recipe), strict=True)
    return found


def test_the_picture_correlates_with_the_known_optimum(pictures):
    known = [(unit, v) for unit, v in pictures if unit.optimum is not None]
    assert len(known) >= 8
    agreements = {unit.name: agreement(v.image / 255, unit.optimum) for unit, v in known}
    assert min(agreements.values()) > 0.9, agreements


def test_the_picture_reaches_most_of_the_known_maximum_and_never_more(pictures):
    for unit, v in pictures:
        if unit.optimum is not None:
            assert 0.8 * unit.activation < v.activation <= unit.activation * (1 + 1e-4), unit.name


def test_a_unit_that_nothing_activates_is_said_to_be_inactive(pictures):
    dead = [v for unit, v in pictures if unit.optimum is None]
    assert dead
    assert all(v.status == "inactive" and v.activation <= 0 for v in dead)
