"""Retrieval: sums over the chosen components, orders, and the command from end to end on the zoo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional

from atlas_schema.errors import BadConfig, NothingThere
from jobs.commands.retrieve import retrieve
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.components import Component, Level
from pipeline.decompose.features import Lens
from pipeline.decompose.stock import Held
from pipeline.draw.contact_sheet import Row, contact_sheet
from pipeline.uses.choosing import merits, named, ranked
from pipeline.uses.retrieval import along, first, likeness, precision, restricted
from pipeline.zoo.world import labels_for, scenes
from tests.pipeline.close import assert_close

COMPONENTS = (
    Component("head", 0, 0),
    Component("head", 0, 1),
    Component("ffn", 0),
    Component("image"),
    Component("constant"),
)
LEVELS = (Level.THROUGH, *(Level.DIRECT for _ in range(4)))
DIRECT = torch.tensor([False, True, True, True, True])


def drawn() -> tuple[torch.Tensor, Alignment]:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(30, 5, 6, generator=generator)
    return vectors, Alignment.of_maps(torch.randn(5, 6, 4, generator=generator), torch.randn(4), 0, 0, 0, 0)


def shuffled(vectors: torch.Tensor):
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(1))
    return ((places, vectors[places]) for places in order.split(7))


def test_sums_over_groups_are_those_of_the_images_in_their_places() -> None:
    vectors, alignment = drawn()
    text = functional.normalize(torch.randn(4, generator=torch.Generator().manual_seed(2)), dim=0)
    groups = [[1, 3], [0], [1, 2, 3, 4]]
    aligned = alignment.apply(vectors)
    found = along(shuffled(vectors), groups, alignment, text)
    wanted = torch.stack([aligned[:, group].sum(1) @ text for group in groups])
    assert_close(found, wanted, 1e-6)
    held = restricted(shuffled(vectors), groups)
    assert_close(held, torch.stack([vectors[:, group].sum(1) for group in groups]), 1e-6)
    cosines = likeness(held, held[:, 3])
    assert torch.allclose(cosines[1], functional.cosine_similarity(vectors[:, 0], vectors[3:4, 0]), atol=1e-5)
    assert torch.allclose(cosines[:, 3], torch.ones(3), atol=1e-5)


def test_orders_are_stable_and_leave_out_the_query() -> None:
    values = torch.tensor([1.0, 3.0, 2.0, 3.0])
    assert first(values, 3) == [1, 3, 2]
    assert first(values, 3, leave_out=1) == [3, 2, 0]
    assert first(values, 99) == [1, 3, 2, 0]
    relevant = torch.tensor([False, True, False, True])
    assert precision(values, relevant, 3) == pytest.approx(2 / 3)
    assert precision(values, relevant, 3, leave_out=1) == pytest.approx(1 / 3)


def test_components_are_chosen_among_those_that_reach() -> None:
    merit = torch.tensor([9.0, 1, 2, 8, 8])
    assert [COMPONENTS[place].name for place in ranked(merit, COMPONENTS, DIRECT)] == ["ffn/0", "head/0/1"]
    assert named(COMPONENTS, ["ffn/0", "head/0/0"]) == [2, 0]
    with pytest.raises(BadConfig, match=r"'head/0/7'.*nearest: head/0/"):
        named(COMPONENTS, ["head/0/7"])


def test_merit_prefers_what_carries_the_feature_alone() -> None:
    """Two components carry a feature equally; one of them carries another feature as well."""
    generator = torch.Generator().manual_seed(3)
    vectors = torch.zeros(200, 5, 6)
    signal, other = torch.randn(2, 200, generator=generator)
    vectors[:, 1, 0] = signal
    vectors[:, 2, 0] = signal
    vectors[:, 2, 1] = other
    texts = {"a": torch.eye(6)[:1], "b": torch.eye(6)[1:2]}
    found = merits(shuffled(vectors), Lens.of(texts, Alignment.own(5, 6), LEVELS))
    assert float(found[1, 0]) == pytest.approx(1.0, abs=1e-5)
    assert float(found[2, 0]) == pytest.approx(float(signal.var() / (signal.var() + other.var())), abs=1e-4)
    assert float(found[3].abs().max()) == 0
    with pytest.raises(BadConfig, match="no images"):
        merits([], Lens.of(texts, Alignment.own(5, 6), LEVELS))


def test_batches_are_held_where_they_fit_and_read_again_where_not() -> None:
    vectors, passes = torch.randn(30, 5, 6), []

    def read():
        passes.append(1)
        return shuffled(vectors)

    fits, does_not = Held(read, vectors.nbytes), Held(read, vectors.nbytes - 1)
    assert sum(len(places) for places, _ in fits()) == sum(len(places) for places, _ in fits()) == 30
    assert len(passes) == 1
    assert sum(len(places) for places, _ in does_not()) == sum(len(places) for places, _ in does_not()) == 30
    assert len(passes) == 3


# -------------------------------------------------------------------------------------------------- the command


def run(capsys: pytest.CaptureFixture[str], **asked) -> dict:
    assert retrieve(**{"model": "zoo/vit", "probe": "zoo:200", "as_json": True, "limit": 5} | asked) == 0
    return json.loads(capsys.readouterr().out)


def test_by_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sheet = tmp_path / "red.png"
    found = run(capsys, feature="colour", text="red", groups=2, sheet=sheet)
    assert [len(group["components"]) for group in found["groups"]] == [3, 3, 1]
    assert found["groups"][-1]["components"] == ["all"]
    colours = labels_for(1, [one["index"] for one in found["groups"][0]["images"]])[:, 1]
    assert (colours == 0).mean() >= 0.8  # red
    values = [one["value"] for one in found["groups"][0]["images"]]
    assert values == sorted(values, reverse=True)
    with Image.open(sheet) as picture:
        assert picture.width > 5 * 112
        assert picture.height > 3 * 112


def test_by_image_of_another_shape_and_colour(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    query = scenes(77, [3], {"shape": "star", "colour": "red", "background": "dark"})
    Image.fromarray(query.images[0]).save(tmp_path / "query.png")
    found = run(capsys, feature="background", image=tmp_path / "query.png", groups=1)
    backgrounds = labels_for(1, [one["index"] for one in found["groups"][0]["images"]])[:, 5]
    assert (backgrounds == 0).all()  # dark
    own = run(capsys, component=["head/0/0"], image=tmp_path / "query.png")
    assert [group["components"] for group in own["groups"]] == [["head/0/0"], ["all"]]


def test_the_query_itself_is_not_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for place, picture in enumerate(scenes(5, range(6)).images):
        Image.fromarray(picture).save(tmp_path / f"{place}.png")
    found = run(capsys, probe=str(tmp_path), component=["ffn/0"], image=tmp_path / "4.png", limit=6)
    assert sorted(one["image"] for one in found["groups"][0]["images"]) == [f"{place}.png" for place in (0, 1, 2, 3, 5)]


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"feature": "colour"}, BadConfig, "--text and --image"),
        ({"feature": "colour", "text": "a", "image": Path("b")}, BadConfig, "--text and --image"),
        ({"feature": "colour", "text": ""}, BadConfig, "--text is empty"),
        ({"text": "red"}, BadConfig, "--feature NAME and --component NAME"),
        ({"feature": "colour", "text": "red", "limit": 0}, BadConfig, "--limit 0"),
        ({"feature": "color", "text": "red"}, BadConfig, "expected one of: colour"),
        ({"feature": "colour", "text": "crimson"}, BadConfig, "crimson"),
        ({"feature": "colour", "text": "red", "embedder": "zoo/vit"}, BadConfig, "no text tower"),
        ({"feature": "colour", "image": Path("nowhere.png")}, BadConfig, "nowhere.png"),
        ({"component": ["head/9/9"], "image": Path(__file__)}, BadConfig, "text, not an image"),
        ({"feature": "colour", "text": "red", "probe": "nowhere"}, NothingThere, "nowhere"),
    ],
)
def test_refused(asked: dict, error: type[Exception], told: str) -> None:
    with pytest.raises(error) as caught:
        retrieve(**{"model": "zoo/vit", "probe": "zoo:12"} | asked)
    assert told in str(caught.value)


def test_a_sheet_has_a_place_for_everything() -> None:
    red, blue = Image.new("RGB", (200, 100), (255, 0, 0)), Image.new("RGB", (50, 80), (0, 0, 255))
    sheet = contact_sheet([Row("title " * 100, [red, blue], ["first", "second " * 50]), Row("", [blue], [""])])
    assert sheet.getpixel((8 + 56, 8 + 26 + 56)) == (255, 0, 0)
    assert sheet.getpixel((8 + 120 + 56, 8 + 26 + 56)) == (0, 0, 255)
    assert sheet.getpixel((8 + 56, 8 + 164 + 26 + 56)) == (0, 0, 255)
    assert sheet.getpixel((sheet.width - 1, 20)) == (255, 255, 255)  # long lines are cut
