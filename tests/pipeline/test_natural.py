"""Natural changes of a picture are what they say, and the verdict follows from its written rule."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from atlas_schema.tables import NEURONS
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.visualize.ascent import visualize
from pipeline.visualize.natural import (
    CHANGES,
    Change,
    NaturalSettings,
    Picture,
    changed,
    drawn,
    judged,
    natural_rows,
)
from tests.jobs.tiny import TINY

SETTINGS = NaturalSettings()
UNITS = [3, 17, 40]


def still(pictures: torch.Tensor) -> Change:
    """The change that changes nothing."""
    n = len(pictures)
    zeros, ones = torch.zeros(n), torch.ones(n)
    return Change(torch.zeros(n, 2), zeros, ones, torch.zeros(n, 3), torch.ones(n, 3), torch.zeros_like(pictures))


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).uniform(0.2, 0.8, (2, 3, 32, 48)).astype(np.float32))


@pytest.mark.parametrize("kind", [kind for kind in CHANGES if kind != "blur"])
def test_no_change_changes_nothing(pictures: torch.Tensor, kind: str) -> None:
    torch.testing.assert_close(changed(pictures, kind, still(pictures), SETTINGS), pictures)


def test_a_picture_is_shifted_by_its_own_share(pictures: torch.Tensor) -> None:
    by = replace(still(pictures), shift=torch.tensor([[0.125, 0.0], [0.0, -0.25]]))
    moved = changed(pictures, "shift", by, SETTINGS)
    torch.testing.assert_close(moved[0], pictures[0].roll(4, 1))
    torch.testing.assert_close(moved[1], pictures[1].roll(-12, 2))


def test_a_quarter_turn_is_a_quarter_turn() -> None:
    square = torch.rand(1, 3, 16, 16, generator=torch.manual_seed(0))
    by = replace(still(square), turn=torch.tensor([np.pi / 2], dtype=torch.float32))
    turned = changed(square, "turn", by, SETTINGS)
    assert any(torch.allclose(turned, square.rot90(k, (2, 3)), atol=1e-4) for k in (1, 3))


def test_a_turn_keeps_right_angles_in_a_picture_that_is_no_square() -> None:
    """A disc stays a disc: were height and width mixed up, it would become an ellipse."""
    y, x = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(96.0) - 47.5, indexing="ij")
    disc = (x.hypot(y) < 20).float().expand(1, 3, 64, 96)
    by = replace(still(disc), turn=torch.tensor([0.7]))
    inside = x.hypot(y) < 30  # farther out the picture's mirror image comes in
    off = (changed(disc, "turn", by, SETTINGS) - disc).abs()[..., inside]
    assert off.mean() < 0.015  # the rim, interpolated
    assert (off > 0.9).sum() == 0


def test_zoom_enlarges_about_the_middle() -> None:
    y, x = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(64.0) - 31.5, indexing="ij")
    disc = (x.hypot(y) < 16).float().expand(1, 3, 64, 64)
    larger = changed(disc, "turn", replace(still(disc), scale=torch.tensor([1.5])), SETTINGS)
    assert larger.sum() / disc.sum() == pytest.approx(1.5**2, rel=0.02)


def test_colour_noise_and_blur_follow_their_formulas(pictures: torch.Tensor) -> None:
    by = replace(still(pictures), mean=torch.full((2, 3), 0.1), std=torch.full((2, 3), 2.0))
    torch.testing.assert_close(changed(pictures, "colour", by, SETTINGS), (pictures - 0.1) / 2)
    by = replace(still(pictures), noise=torch.ones_like(pictures))
    torch.testing.assert_close(changed(pictures, "noise", by, SETTINGS), pictures + 0.05)
    point = torch.zeros(1, 3, 33, 33)
    point[:, :, 16, 16] = 1
    spread = changed(point, "blur", still(point), replace(SETTINGS, blur=2 / 33))[0, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    places = torch.arange(33.0) - 16
    assert float((spread.sum(0) * places**2).sum()) == pytest.approx(4, rel=0.03)  # variance of a Gaussian of 2 pixels
    assert changed(pictures + 1, "noise", by, SETTINGS).max() == 1, "a camera stores nothing above 1"


def test_numbers_are_the_neurons_own(pictures: torch.Tensor) -> None:
    both, one = (drawn(names, 1, pictures[: len(names)], SETTINGS) for names in (["a", "b"], ["b"]))
    for name in ("shift", "turn", "scale", "mean", "std", "noise"):
        torch.testing.assert_close(getattr(both, name)[1:], getattr(one, name), rtol=0, atol=0)
        assert not torch.equal(getattr(both, name)[0], getattr(both, name)[1])
    other = drawn(["b"], 0, pictures[:1], SETTINGS)
    assert not torch.equal(other.turn, one.turn)
    many = drawn([str(i) for i in range(300)], 0, torch.empty(300, 3, 1, 1), SETTINGS)
    assert many.shift.abs().max() <= SETTINGS.shift
    assert np.rad2deg(float(many.turn.abs().max())) == pytest.approx(SETTINGS.degrees, rel=0.02)
    assert (float(many.scale.min()), float(many.scale.max())) == pytest.approx((0.9, 1.1), rel=0.01)


@pytest.fixture(scope="module")
def zoo_vit() -> LoadedModel:
    return load(ModelRequest(model="zoo/vit"))


def test_rows_do_not_depend_on_neighbours_and_rest_on_the_stored_file(zoo_vit: LoadedModel) -> None:
    site = zoo_vit.description.ffn_sites[1]
    made = [picture.row() for picture in visualize(zoo_vit, site, UNITS, TINY)]
    pictures = {row["unit"]: Picture(row["image"]["bytes"], row["activation_start"]) for row in made}
    rows = natural_rows(zoo_vit, site, {**pictures, 5: None}, SETTINGS)
    assert [row["unit"] for row in rows] == [3, 5, 17, 40]
    assert all(value is None for name, value in rows[1].items() if name != "unit"), "5 has no picture"
    names = {column.name for column in NEURONS.columns if column.stage == "verdict"}
    assert all(set(row) == names | {"unit"} for row in rows)
    alone = natural_rows(zoo_vit, site, {17: pictures[17]}, SETTINGS)[0]
    assert alone["natural_mean"] == pytest.approx(rows[2]["natural_mean"], rel=1e-4, abs=1e-6)
    assert alone["verdict"] == rows[2]["verdict"]
    by_batch = natural_rows(zoo_vit, site, pictures, SETTINGS, batch=2)
    assert [row["natural_mean"] for row in by_batch] == pytest.approx(
        [rows[i]["natural_mean"] for i in (0, 2, 3)], rel=1e-4
    )
    for row, picture in zip((rows[0], rows[2], rows[3]), made, strict=True):
        stored = picture["activation_stored"]
        kinds = {one["kind"]: one for one in row["natural_kinds"]}
        assert list(kinds) == list(CHANGES)
        assert row["natural_mean"] == pytest.approx(np.mean([one["mean"] for one in kinds.values()]), rel=1e-5)
        if stored > 0:
            assert row["natural_kept"] == pytest.approx(row["natural_mean"] / stored, rel=1e-4)


def test_a_picture_of_one_colour_withstands_what_leaves_colours_alone(zoo_vit: LoadedModel) -> None:
    """Shifts, turns and blur leave a plain field as it is, and so the activation."""
    buffer = io.BytesIO()
    Image.new("RGB", zoo_vit.description.input_size, (200, 40, 90)).save(buffer, "WEBP", lossless=True)
    (row,) = natural_rows(zoo_vit, zoo_vit.description.ffn_sites[0], {7: Picture(buffer.getvalue(), 0.0)}, SETTINGS)
    means = {one["kind"]: one["mean"] for one in row["natural_kinds"]}
    assert means["shift"] == pytest.approx(means["turn"], rel=1e-4)
    assert means["shift"] == pytest.approx(means["blur"], rel=1e-4)
    assert means["noise"] != pytest.approx(means["shift"], rel=1e-4)


KEPT = {"shift": 0.9, "turn": 0.6, "colour": 0.9, "blur": 0.8, "noise": 0.9}


@pytest.mark.parametrize(
    ("shares", "kept", "changed_mean", "start", "verdict", "told"),
    [
        (
            (0.82, 0.7),
            KEPT,
            1.6,
            0.1,
            "holds",
            "it keeps 82 % .*strongest patch 70 %.*least when turned and zoomed, 60 %",
        ),
        ((0.82, 0.7), {**KEPT, "blur": 0.2}, 1.6, 0.1, "partly", "least when blurred, 20 %"),
        ((0.82, 0.4), KEPT, 1.6, 0.1, "partly", "strongest patch 40 %"),
        ((0.4, 0.7), KEPT, 0.8, 0.1, "partly", "keeps 40 %"),
        ((0.2, 0.7), KEPT, 0.4, 0.1, "does not", "keeps 20 %"),
        ((0.7, 0.2), KEPT, 1.4, 0.1, "does not", "strongest patch 20 %"),
        ((0.82, 0.7), KEPT, 1.6, 1.7, "does not", "when it is changed, no more is left .*keeps 82 %"),
        ((0.82, 0.7), KEPT, 1.6, 2.0, "does not", "^it excites the neuron no more than the image that"),
        ((-0.1, 0.3), {**KEPT, "noise": -2.0}, -0.2, -0.3, "does not", "keeps 0 %.*noisy, 0 %"),
        (None, dict.fromkeys(KEPT), -0.1, -0.2, "inactive", "does not make the neuron fire"),
    ],
)
def test_the_verdict_follows_its_rule(shares, kept, changed_mean, start, verdict, told) -> None:
    found, reason = judged(shares, kept, (2.0, changed_mean), start, SETTINGS)
    assert found == verdict
    assert re.search(told, reason)
