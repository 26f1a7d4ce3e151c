"""What passes leave behind: written, read back and merged in order, it is what one pass over all images leaves."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_schema.errors import BadConfig
from pipeline.accumulators import groups_of, merged
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.moments import ContributionMoments
from pipeline.images.probe_set import batches, open_probe_set
from pipeline.images.windows import VIEWS
from pipeline.label.views import Views
from pipeline.models import ModelRequest, load
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, probe

IMAGES = 24


def test_views_are_appended_in_the_order_of_slices():
    vectors = torch.randn(7, VIEWS, 5, generator=torch.Generator().manual_seed(0))
    parts = [Views(part).arrays() for part in vectors.split((3, 1, 3))]
    whole = merged(Views, parts)
    assert torch.equal(whole.vectors, vectors.half().float())
    assert torch.equal(whole.whole, vectors[:, 0].half().float())
    assert len(whole) == 7
    assert torch.equal(Views.of(whole.arrays()).half, whole.half)


def test_views_of_another_number_are_refused():
    with pytest.raises(BadConfig, match=r"views of shape \(2, 9, 4\)"):
        Views(torch.zeros(2, 9, 4))


def test_nothing_to_merge_is_refused():
    with pytest.raises(BadConfig, match="ContributionMoments: no slice"):
        merged(ContributionMoments, [])


@given(st.lists(st.integers(1, IMAGES - 1), max_size=4, unique=True).map(sorted))
@settings(max_examples=8)
def test_a_model_probe_of_slices_is_that_of_all_images(cuts: list[int]):
    model, probe_set = load(ModelRequest("zoo/vit")), open_probe_set(f"zoo:{IMAGES}")
    asked = ProbeSettings(top=3, panel=10, least_class=1)
    membership = Membership.of(probe_set, asked)

    def of(first: int, last: int) -> dict[str, np.ndarray]:
        indices = range(first, last)
        sums = ModelProbe.empty(model.description, asked, membership, indices, torch.device("cpu"))
        return probe(model, batches(probe_set, indices, model.description, 8), sums).arrays()

    whole = of(0, IMAGES)
    slices = merged(ModelProbe, [of(*edges) for edges in pairwise([0, *cuts, IMAGES])]).arrays()
    assert slices.keys() == whole.keys()
    for name, array in whole.items():
        np.testing.assert_allclose(slices[name], array, rtol=1e-5, atol=1e-5 * _scale(array), err_msg=name)
    for name, array in ModelProbe.of(whole).arrays().items():
        np.testing.assert_array_equal(array, whole[name], err_msg=name)
    # a group at a time, as a worker merges them
    parts = [of(*edges) for edges in pairwise([0, *cuts, IMAGES])]
    for names in ModelProbe.apart(whole):
        some = merged(ModelProbe, [{name: part[name] for name in names} for part in parts]).arrays()
        for name in names:
            np.testing.assert_array_equal(some[name], slices[name], err_msg=name)


def test_small_groups_of_arrays_are_merged_together_and_large_ones_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.accumulators.MERGED_AT_ONCE", 100)
    sizes = {"10/a": 40, "2/a": 30, "2/b": 20, "0/a": 90, "1/a": 300, "images": 8}
    assert groups_of(ModelProbe, sizes) == [["0/a"], ["1/a"], ["10/a", "2/a", "2/b", "images"]]
    assert groups_of(Views, {"views": 1000}) == [["views"]], "others do not come apart"


def _scale(array: np.ndarray) -> float:
    finite = array[np.isfinite(array)].astype(np.float64) if array.dtype.kind == "f" else np.zeros(0)
    return float(np.abs(finite).max()) if finite.size else 0.0


@pytest.mark.parametrize("name", ["vit", "convit"])
def test_moments_carry_which_components_have_no_direct_effect(name: str):
    model, probe_set = load(ModelRequest(f"zoo/{name}")), open_probe_set("zoo:12")
    contributing = Contributing(model)

    def of(indices: range) -> ContributionMoments:
        read = (model.normalise(x) for _, x in batches(probe_set, indices, model.description, 4))
        return ContributionMoments.over(contributing, map(contributing, read))

    whole = of(range(12))
    assert whole.levels == contributing.levels
    assert bool(whole.through.any()) == (name == "convit")
    parts = merged(ContributionMoments, [of(range(8)).arrays(), of(range(8, 12)).arrays()])
    for field in whole.FIELDS:
        torch.testing.assert_close(getattr(parts, field), getattr(whole, field), rtol=1e-9, atol=1e-9)
    for head in range(whole.heads):
        own = whole.covariance(head)
        torch.testing.assert_close(parts.covariance(head), own, rtol=0, atol=1e-6 * float(own.diagonal().sum()))
    again = ContributionMoments.of(whole.arrays())
    for field in whole.FIELDS:
        assert torch.equal(getattr(again, field), getattr(whole, field))
    assert all(torch.equal(again.factor(head), whole.factor(head)) for head in range(whole.heads))


def test_moments_of_other_components_do_not_add_up():
    one = ContributionMoments(torch.tensor([False, True]), 1, 3)
    other = ContributionMoments(torch.tensor([False, False]), 1, 3)
    with pytest.raises(BadConfig, match="another level"):
        one.merge(other)


def test_no_image_has_no_moments():
    with pytest.raises(BadConfig, match="no images"):
        ContributionMoments.over(Contributing(load(ModelRequest("zoo/vit"))), [])
