"""A unit with a known optimum gets the picture of that optimum: gratings and colours."""

import pytest

from pipeline.planted import agreement, load_planted
from pipeline.visualize.ascent import visualize
from pipeline.visualize.recipes import RECIPES


@pytest.fixture(scope="module")
def planted():
    return load_planted()


@pytest.fixture(scope="module", params=[pytest.param("aligned", marks=pytest.mark.slow), "fast"])
def pictures(request, planted):
    """All sixteen planted units in one recipe: its name, and [(planted unit, visualization)]."""
    model, units = planted
    found = []
    for site in model.description.ffn_sites[:2]:
        own = [u for u in units if u.layer == site.layer]
        found += zip(own, visualize(model, site, [u.unit for u in own], RECIPES[request.param]), strict=True)
    return request.param, found


def test_the_picture_correlates_with_the_known_optimum(pictures):
    _, found = pictures
    agreements = {u.name: agreement(v.image / 255, u.optimum) for u, v in found if u.optimum is not None}
    low = {name: value for name, value in agreements.items() if value <= 0.9}
    assert len(agreements) == 15
    assert not low


def test_the_picture_never_reaches_more_than_the_known_maximum(pictures):
    recipe, found = pictures
    for unit, v in found:
        if unit.optimum is not None:
            least = 0.9 if recipe == "aligned" else 0.6
            assert least * unit.activation < v.activation <= unit.activation * (1 + 1e-4), unit.name


def test_a_unit_that_nothing_activates_is_said_to_be_inactive(pictures):
    _, found = pictures
    dead = [v for unit, v in found if unit.optimum is None]
    assert dead
    assert all(v.status == "inactive" and v.activation <= 0 for v in dead)
