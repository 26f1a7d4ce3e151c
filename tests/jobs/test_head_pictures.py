"""Pictures of heads as a stage: the option, targets of a plan, rows beside those of classes, and later additions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atlas_schema.errors import BadConfig
from atlas_schema.inversion_tables import INVERSIONS
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.validate import validate
from jobs.chunks import named, own_of
from jobs.config import RunConfig, config_from_mapping
from jobs.driver import run
from jobs.plan import Counts, Machine, make_plan
from jobs.stages import stages_of
from jobs.targets import guessed, guessed_readers, readers_of
from pipeline.decompose import Contributing
from pipeline.invert.targets import Target
from pipeline.models import ModelRequest, describe, load
from pipeline.visualize.picture import stored_pixels
from pipeline.visualize.recipes import FAST

DIRECTIONS = ("axis-0-high", "axis-0-low", "text-0", "text-1", "text-2")


def config(**options: object) -> RunConfig:
    return config_from_mapping({"models": "zoo/vit", "probe": "zoo:32", "stages": [], **options})


def test_heads_are_named_and_what_they_need_comes_with_them() -> None:
    asked = config(head_pictures="3.1, 0.2")
    assert asked.head_pictures == ("3.1", "0.2")
    assert asked.inverting == ()
    stages = [stage.name for stage in stages_of(asked.stages, asked.also, asked.inverting, asked.picturing_heads)]
    assert stages == ["embed", "pool", "decompose", "align", "spans", "invert-heads-fast"]
    both = config(head_pictures="all", classes="all", inversions="fast,pii")
    assert both.picturing_heads == both.inverting == ("fast", "pii")
    assert RunConfig.model_validate_json(asked.to_json()) == asked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head_pictures": "3/1"}, "head_pictures: '3/1' is no head; give LAYER.HEAD such as 3.2, or all"),
        ({"head_pictures": "all,3.1"}, "head_pictures: all stands alone"),
        ({"head_pictures": "all", "probe": None}, "directions are those in which it varies over images; give --probe"),
        ({"inversions": "pii"}, "or --head-pictures"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        config(**options)


def test_the_plan_parts_heads_from_classes_and_no_model_reads_heads() -> None:
    asked = config(head_pictures="all", classes="0-4")
    described = [(ModelRequest(name), describe(ModelRequest(name))) for name in ("zoo/vit", "zoo/pit")]
    targets = {"zoo-vit": guessed(asked, (), described[0][1])}
    stages = stages_of((), (), asked.inverting, asked.picturing_heads)
    counts = Counts(images=32, panel=32, pool=100, texts=100)
    plan = make_plan(asked, described, stages, FAST, counts, Machine("cuda"), targets=targets)
    classes, heads = (plan.job(name, "zoo-vit") for name in ("invert-fast", "invert-heads-fast"))
    assert classes is not None
    assert heads is not None
    assert (classes.size, heads.size) == (5, 16 * len(DIRECTIONS))
    readers = guessed_readers({"zoo-vit": ("head 0.0/text-0",), "zoo-pit": ("class 1",)}, [one for _, one in described])
    assert readers == {"zoo-pit": {"zoo-vit": "0" * 16}}
    mixed = [Target("class", 3, "cat"), Target("head", 0, "0.0/text-0")]
    assert named(mixed) == ("class 3", "head 0.0/text-0")
    assert own_of(("head",), named(mixed)) == ("head 0.0/text-0",)
    assert readers_of({"a": mixed[1:]}, {}, lambda text: None) == {"a": {}}


@pytest.fixture(scope="module")
def some(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with pictures of a class and of a head of one model."""
    folder = tmp_path_factory.mktemp("heads") / "atlas"
    asked = config(head_pictures="3.1", classes="8", workers=2, out=str(folder))
    assert run(asked, command="test", say=lambda text: None).exit_code == 0
    return folder


@pytest.mark.slow
def test_directions_become_rows_beside_those_of_classes(some: Path) -> None:
    assert validate(Store(str(some))) == []
    table = Atlas(str(some)).inversions("zoo-vit", INVERSIONS.names)
    assert table is not None
    rows = table.to_pylist()
    own = [row for row in rows if row["kind"] == "head"]
    assert [row["address"] for row in rows] == ["zoo-vit/class/8", *(f"zoo-vit/head/3.1/{one}" for one in DIRECTIONS)]
    assert {row["head"] for row in own} == {"zoo-vit/head/3/1"}
    assert [row["direction"].replace(" ", "-") for row in own] == list(DIRECTIONS)
    assert own[0]["target"] == "head 3.1, axis 0 high"
    assert own[2]["target"].startswith("head 3.1, along “")
    assert rows[0]["head"] is rows[0]["projection"] is own[0]["rank"] is own[0]["natural_right"] is None
    assert min(row["deviations"] for row in own[:2]) > 0.5, "each end of the axis is approached"
    high, low = (stored_pixels(row["image"]["bytes"]) for row in own[:2])
    model = load(ModelRequest("zoo/vit"))
    vectors = Contributing(model)(model.normalise(torch.stack([high, low]))).vectors
    number = 3 * 4 + 1
    apart = vectors[0, number] - vectors[1, number]
    assert float(apart.norm()) > own[0]["projection"] + own[1]["projection"] - 1e-3, "they lie so far apart at least"


@pytest.mark.slow
def test_other_heads_are_added_and_none_is_lost(some: Path) -> None:
    before = Atlas(str(some)).inversions("zoo-vit", INVERSIONS.names)
    report = run(config(head_pictures="0.2", workers=2, out=str(some)), command="test", say=lambda text: None)
    assert report.exit_code == 0
    assert report.units_done == 1, "directions are there already"
    after = Atlas(str(some)).inversions("zoo-vit", INVERSIONS.names)
    assert before is not None
    assert after is not None
    kept = {row["address"]: row for row in after.to_pylist()}
    assert len(kept) == 6 + len(DIRECTIONS)
    assert all(kept[row["address"]] == row for row in before.to_pylist())
    assert validate(Store(str(some))) == []


def test_a_head_that_cannot_be_is_told_before_any_work(ray_here: None, tmp_path: Path) -> None:
    asked = config(models="zoo/convit", head_pictures="0.1", out=str(tmp_path / "atlas"))
    with pytest.raises(BadConfig, match=r"head 0\.1 of zoo-convit has no direct effect"):
        run(asked, command="test", say=lambda text: None)
    assert not (tmp_path / "atlas").exists()
