"""Inversions as a stage: options, targets, units, and what other targets do to an atlas that has some."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from atlas_schema.errors import BadConfig
from atlas_schema.inversion_tables import INVERSIONS
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.units import Targets, cut_named
from atlas_schema.validate import validate
from jobs.chunks import MOST_TOGETHER, UNIT_SECONDS, chunk_of, cuts, named
from jobs.config import RunConfig, config_from_mapping
from jobs.driver import run
from jobs.plan import Counts, Machine, make_plan
from jobs.stages import stages_of
from jobs.targets import Answers, guessed, prompts_of, readers_of
from pipeline.invert.recipes import INVERSION_RECIPES as RECIPES
from pipeline.invert.targets import Target, class_outputs, text_targets, zoo_prompts
from pipeline.invert.transfer import read
from pipeline.models import ModelRequest, describe, load
from pipeline.visualize.picture import stored_pixels
from pipeline.visualize.recipes import FAST
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.jobs.conftest import Runner

ALONE = {"stages": None, "recipe": None, "layers": None, "units": None, "random_weights": None}


def config(**options: object) -> RunConfig:
    return config_from_mapping({"models": "zoo/vit", **options})


def test_what_is_inverted_is_said_by_options_and_needs_no_other_stage() -> None:
    assert config().inverting == ()
    assert config(prompts="zoo").inverting == ("fast",)
    assert config(classes="0-9, 12").classes == ("0-9", "12")
    assert config(classes="tench, Tinca tinca").classes == ("tench, Tinca tinca",)
    assert config(classes=[3, "colour: red"]).classes == ("3", "colour: red")
    alone = config(classes="all", inversions="fast,pii")
    assert [stage.name for stage in stages_of(alone.stages, alone.also, alone.inverting)] == [
        "invert-fast",
        "invert-pii",
        "transfer-fast",
        "transfer-pii",
    ]
    beside = config(classes="all", stages="visualize")
    assert [stage.name for stage in stages_of(beside.stages, beside.also, beside.inverting)] == [
        "visualize",
        "invert-fast",
        "transfer-fast",
    ]
    assert RunConfig.model_validate_json(alone.to_json()) == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"classes": "all", "inversions": "fats"},
            "inversions: 'fats', expected some of fast, pii, clip-inversion, varied; nearest: fast",
        ),
        ({"inversions": "pii"}, "nothing is named that is to be inverted; give --classes"),
        ({"classes": ["all", "3"]}, "all stands alone"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        config(**options)


def test_units_are_the_same_wherever_they_are_cut_and_are_found_by_name() -> None:
    targets = [Target("class", index, f"c{index}") for index in range(150)] + text_targets(["a cat", "a dog"])
    units = list(cuts(named(targets), UNIT_SECONDS / 40))
    assert [unit.stop for unit in units] == [40, 40, 40, 32]
    assert [target for unit in units for target in chunk_of(targets, unit)] == targets
    assert {cut_named(unit.name) for unit in units} == set(units)
    assert next(cuts(named(targets), 1e-6)).stop == MOST_TOGETHER
    assert next(cuts(named(targets), 1e6)).stop == 1
    assert list(cuts(named(targets[:40]), UNIT_SECONDS / 40)) == units[:1], (
        "more targets leave those before as they are"
    )


def test_the_plan_knows_how_much_there_will_be_without_weights() -> None:
    asked = config_from_mapping({"models": ["zoo/vit", "zoo/clip"], "classes": "all", "prompts": "zoo"})
    described = [(ModelRequest(name), describe(ModelRequest(name))) for name in ("zoo/vit", "zoo/clip")]
    prompts = prompts_of(asked).texts
    assert prompts == zoo_prompts()
    targets = {one.slug: guessed(asked, prompts, one) for _, one in described}
    assert {slug: len(names) for slug, names in targets.items()} == {"zoo-vit": 40, "zoo-clip": 40}
    some = config(classes=["0-9", "size: small", "39"])
    assert len(guessed(some, (), described[0][1])) == 12
    stages = stages_of((), (), ["fast", "pii"])
    plan = make_plan(asked, described, stages, FAST, Counts(), Machine("cuda"), targets=targets)
    fast, pii = (plan.job(f"invert-{name}", "zoo-vit") for name in ("fast", "pii"))
    assert fast is not None
    assert pii is not None
    assert fast.size == pii.size == 40
    steps = [RECIPES[name].image_steps for name in ("fast", "pii")]
    assert pii.total / fast.total == pytest.approx(steps[1] / steps[0], rel=0.25)


@pytest.fixture(scope="module")
def some(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with inversions of two classes of two classifiers, and of two texts of a CLIP."""
    folder = tmp_path_factory.mktemp("inverted") / "atlas"
    texts = folder.parent / "texts.txt"
    texts.write_text("a red object\nimage: blue.png\n")
    Image.fromarray(scenes(HELD_OUT_SEED, [0], {"colour": "blue"}).images[0]).save(folder.parent / "blue.png")
    asked = config_from_mapping(
        {
            "models": ["zoo/vit", "zoo/swin", "zoo/clip"],
            "classes": "8-9",
            "prompts": str(texts),
            "workers": 2,
            "out": str(folder),
        }
    )
    assert run(asked, command="test", say=lambda text: None).exit_code == 0
    return folder


def test_classes_and_texts_become_rows(some: Path) -> None:
    assert validate(Store(str(some))) == []
    classes, texts = (Atlas(str(some)).inversions(slug) for slug in ("zoo-vit", "zoo-clip"))
    assert classes is not None
    assert texts is not None
    assert classes.column_names == [name for name in INVERSIONS.names if name != "image"]
    assert classes["address"].to_pylist() == ["zoo-vit/class/8", "zoo-vit/class/9"]
    assert classes["target"].to_pylist() == ["colour: red", "colour: orange"]
    assert all(rank == 1 for rank in classes["rank"].to_pylist())
    assert set(classes["rivals"].to_pylist()) == {8}, "colours compete with colours alone"
    assert min(classes["natural_right"].to_pylist()) > 0.5
    named = {text.partition(" (")[0]: text for text in texts["target"].to_pylist()}
    assert set(named) == {"a red object", "image: blue.png"}
    assert str(some.parent) not in named["image: blue.png"]
    assert texts["rank"].null_count == texts["index"].null_count == texts["natural_right"].null_count == 2
    assert min(texts["score"].to_pylist()) > 0.3


def test_models_read_the_pictures_of_one_another_and_no_model_its_own(some: Path) -> None:
    atlas = Atlas(str(some))
    for slug, reader in (("zoo-vit", "zoo-swin"), ("zoo-swin", "zoo-vit")):
        rows = atlas.inversion_readings(slug)
        assert [(row["address"], row["reader"]) for row in rows] == [(f"{slug}/class/{one}", reader) for one in (8, 9)]
        assert {row["rivals"] for row in rows} == {8}
        assert all(0 <= row["score"] <= 1 for row in rows)
    assert atlas.inversion_readings("zoo-clip") == [], "there is no other model that reads texts"
    rows = atlas.inversion_readings("zoo-vit")
    pixels = torch.stack(
        [stored_pixels(one["bytes"]) for one in atlas.inversions("zoo-vit", ["image"])["image"].to_pylist()]
    )
    swin = load(ModelRequest("zoo/swin"))
    own = read(swin, class_outputs(swin), [8, 9], pixels)
    assert [row["score"] for row in rows] == pytest.approx(own.score.tolist(), abs=1e-5)
    assert [row["rank"] for row in rows] == own.rank.tolist()


def test_classes_without_names_are_compared_with_none() -> None:
    named, unnamed = Answers("class", ("cat", "dog"), "a"), Answers("class", ("0", "1"), "b")
    targets = {"one": [Target("class", 0, "cat")], "two": [Target("class", 0, "0")]}
    said: list[str] = []
    assert readers_of(targets, {"one": named, "two": unnamed}, said.append) == {"one": {}, "two": {}}
    assert said[0] == (
        "two does not read the pictures of one: the classes of two have no names to find them by. Give them with "
        "--class-names."
    )
    other = Answers("class", ("fox", "dog"), "c")
    assert readers_of({"one": targets["one"]}, {"one": named, "two": other}, said.append) == {"one": {}}
    assert "it has not exactly one class called 'cat'" in said[-1]
    assert readers_of({"one": targets["one"]}, {"one": named, "two": named}, said.append) == {"one": {"two": "a"}}


def test_other_targets_are_added_and_none_is_lost(some: Path, tmp_path: Path, run_into: Runner) -> None:
    folder = tmp_path / "atlas"
    shutil.copytree(some, folder)
    before = Atlas(str(folder)).inversions("zoo-vit", INVERSIONS.names)
    shutil.rmtree(folder / ".atlas/parts")  # as of an atlas that was downloaded without its memory
    report = run_into(folder, **ALONE, classes=["9", "shape: star"])
    assert report.exit_code == 0
    after = Atlas(str(folder)).inversions("zoo-vit", INVERSIONS.names)
    assert before is not None
    assert after is not None
    assert after["target"].to_pylist() == ["shape: star", "colour: red", "colour: orange"]
    kept = {row["address"]: row for row in after.to_pylist()}
    for row in before.to_pylist():
        assert kept[row["address"]]["score"] == pytest.approx(row["score"], abs=1e-4)
    assert kept["zoo-vit/class/8"] == before.to_pylist()[0], "what no part says stays as it is"
    assert validate(Store(str(folder))) == []
    again = run_into(folder, **ALONE, classes=["9", "shape: star"])
    assert (again.units_done, again.units_reused) == (0, 1)


@pytest.mark.slow
def test_each_variant_is_a_row_and_is_read_by_itself(tmp_path: Path, run_into: Runner) -> None:
    folder = tmp_path / "atlas"
    asked = {**ALONE, "model": None, "models": ["zoo/vit", "zoo/deit"], "classes": "8-9", "inversions": "varied"}
    assert run_into(folder, **asked).exit_code == 0
    assert validate(Store(str(folder))) == []
    rows = Atlas(str(folder)).inversions("zoo-vit")
    assert rows is not None
    assert [(row["index"], row["variant"]) for row in rows.to_pylist()] == [(c, v) for c in (8, 9) for v in range(4)]
    assert len({row["natural_score"] for row in rows.to_pylist()}) == 8
    readings = Atlas(str(folder)).inversion_readings("zoo-vit")
    assert [(row["variant"], row["reader"]) for row in readings] == [(v, "zoo-deit") for v in range(4)] * 2
    assert len({row["score"] for row in readings}) == 8


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path: Path, run_into: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.chunks.MOST_TOGETHER", 2)
    options = {**ALONE, "models": ["zoo/vit"], "classes": "8-13", "retries": 0}
    unit = next(cuts(["class 10", "class 11"], 1e-6))
    failed = run_into(tmp_path / "atlas", failpoints=f"before_commit@*{unit.digest[:6]}*=raise!", **options)
    assert failed.exit_code == 1
    assert (failed.units_done, failed.units_failed) == (2, 1)
    rows = Atlas(str(tmp_path / "atlas")).inversions("zoo-vit")
    assert rows is not None
    assert rows.num_rows == 4, "what is done is shown"
    healed = run_into(tmp_path / "atlas", **options)
    assert (healed.units_done, healed.units_reused, healed.exit_code) == (1, 2, 0)
    rows = Atlas(str(tmp_path / "atlas")).inversions("zoo-vit")
    assert rows is not None
    assert sorted(rows["index"].to_pylist()) == list(range(8, 14))


def test_a_model_that_cannot_is_named_with_what_works(tmp_path: Path, run_into: Runner) -> None:
    with pytest.raises(BadConfig, match="nothing of what --classes and --prompts name can be inverted"):
        run_into(tmp_path / "atlas", **{**ALONE, "models": ["zoo/clip"]}, classes="all")
    with pytest.raises(BadConfig, match=r"'colour: rad' is no class of the model.*nearest: 'colour: red'"):
        run_into(tmp_path / "atlas", **ALONE, classes="colour: rad")
    told = tmp_path / "twice.txt"
    told.write_text("a red object\na red object\n")
    with pytest.raises(BadConfig, match="line 2 says 'a red object', as line 1 does"):
        run_into(tmp_path / "atlas", **{**ALONE, "models": ["zoo/clip"]}, prompts=str(told))
    assert not (tmp_path / "atlas").exists()


def test_the_name_of_a_cut_is_read_back() -> None:
    cut = Targets(7, "0123456789abcdef")
    assert cut_named(cut.name) == cut
    assert cut_named("targets-000007-0123") is None
