"""Stages of further pictures: what they read, what their rows say, and a run that adds a recipe to an atlas."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from atlas_schema.errors import BadConfig, ForeignAtlas
from atlas_schema.parts import encode_part
from atlas_schema.picture_recipes import PICTURE_STAGES
from atlas_schema.picture_tables import NEURON_PICTURES
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.units import Neurons, WorkUnit
from atlas_schema.validate import validate
from jobs.config import config_from_mapping
from jobs.inputs import Inputs
from jobs.opening import open_inputs
from jobs.settings import Settings
from jobs.stages import groups, stage_named, stages_of
from pipeline.images.probe_set import open_probe_set
from pipeline.models import ModelRequest, load
from pipeline.visualize.recipes import FAST, RECIPES
from tests.jobs.conftest import Runner
from tests.jobs.tiny import EVIDENCE

SLUG = "zoo-vit"


def work_on(model: Any, inputs: Inputs, examples: list[dict[str, Any]]) -> Any:
    """What a stage's function has at hand, without a worker."""
    return SimpleNamespace(
        model=lambda slug: model,
        inputs=inputs,
        layer=lambda unit: unit.cut.layer,
        rows=lambda stage, unit, columns: iter([{name: row[name] for name in columns} for row in examples]),
        batch=32,
        device="cpu",
        precision="float32",
        step=lambda: None,
    )


def test_recipes_are_asked_for_by_name_and_are_in_no_group() -> None:
    assert not {stage for stage, _ in PICTURE_STAGES} & {stage.name for stage in stages_of(groups())}
    asked = [stage.name for stage in stages_of(["visualize"], ["peak", "accentuated"])]
    assert asked == ["visualize", "probe", "examples", "pictures-peak", "pictures-accentuated"]
    config = config_from_mapping({"models": "zoo/vit", "also": "peak,maco"})
    assert config.also == ("peak", "maco")
    for wrong, message in (
        ({"also": "peek"}, "also: 'peek', expected some of fast, .*nearest: peak"),
        ({"also": "fast"}, "also: fast makes the main pictures already"),
    ):
        with pytest.raises(BadConfig, match=message):
            config_from_mapping({"models": "zoo/vit", **wrong})
    with pytest.raises(BadConfig, match=r"--recipe accentuated makes 3 pictures of a neuron from photographs.*--also"):
        open_inputs(config_from_mapping({"models": "zoo/vit", "recipe": "accentuated"}), (), lambda text: None)
    config = config_from_mapping({"models": "zoo/vit", "also": "accentuated"})
    with pytest.raises(BadConfig, match="--also accentuated: these need real images"):
        open_inputs(config, stages_of(config.stages, config.also), lambda text: None)


@pytest.mark.parametrize("recipe", ["accentuated", "maco"])
def test_rows_say_what_was_begun_with_and_whether_the_picture_holds(recipe: str) -> None:
    model = load(ModelRequest("zoo/vit"))
    inputs = Inputs(FAST, 0, Settings(), probe_set=open_probe_set("zoo:32"))
    chosen = {4: [9, 2, 30], 5: [7]}  # unit 6 has no image that excites it
    examples = [
        {"unit": unit, "kind": kind, "rank": rank, "image_index": index}
        for unit, own in chosen.items()
        for kind in ("top", "quantile")
        for rank, index in enumerate(own)
    ]
    unit = WorkUnit(f"pictures-{recipe}", SLUG, Neurons(2, 4, 7), "f" * 64, "a" * 16)
    rows = stage_named(unit.stage).compute(work_on(model, inputs, examples), unit)
    variants = RECIPES[recipe].variants
    assert [(row["unit"], row["variant"]) for row in sorted(rows, key=lambda row: (row["unit"], row["variant"]))] == [
        (one, variant) for one in (4, 5, 6) for variant in range(variants)
    ]
    by = {(row["unit"], row["variant"]): row for row in rows}
    names = [image.id for image in inputs.images.images]
    if recipe == "accentuated":
        begun = {place: row.get("start_image") for place, row in by.items()}
        assert [begun[4, variant] for variant in range(3)] == [names[9], names[2], names[30]]
        assert [begun[5, variant] for variant in range(3)] == [names[7]] * 3, "fewer than variants: they come again"
        assert {by[6, variant]["status"] for variant in range(3)} == {"failed"}
        assert "no probe image excites the neuron" in by[6, 0]["status_reason"]
    judged = [row for row in rows if row["status"] == "active"]
    assert judged
    for row in judged:
        assert row["recipe"] == recipe
        assert row["verdict"] in ("holds", "partly", "does not")
        assert row["natural_mean"] > 0
        assert (row["likeness"] is None) == (variants == 1)
    provenance = {"code_version": "x", "precision": "float32", "recipe": recipe}
    assert encode_part(unit, NEURON_PICTURES, rows, provenance), "the schema takes them"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_adds_a_recipe_to_an_atlas_and_leaves_the_others(run_into: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    asked = {**EVIDENCE, "models": ["zoo/vit"], "stages": "visualize,verdict,probe"}
    assert run_into(folder, **asked, also="accentuated").exit_code == 0
    shard = folder / "neuron_pictures/zoo-vit/train-00000-of-00004.parquet"
    assert pq.read_table(shard)["variant"].to_pylist() == [0, 1, 2] * 16
    assert run_into(folder, **asked, also="accentuated").units_done == 0
    parts = {path: path.read_bytes() for path in folder.glob(".atlas/parts/pictures-accentuated/zoo-vit/*")}
    assert run_into(folder, **asked, also="maco,accentuated").exit_code == 0
    assert {path: path.read_bytes() for path in folder.glob(".atlas/parts/pictures-accentuated/zoo-vit/*")} == parts
    rows = Atlas(Store(str(folder))).pictures(SLUG, 0)
    assert rows is not None
    assert rows["recipe"].to_pylist() == [*["accentuated"] * 3, "maco"] * 16
    assert validate(Store(str(folder))) == []
    with pytest.raises(ForeignAtlas, match=r"the stage pictures-maco of zoo-vit ran with another seed"):
        run_into(folder, **{**asked, "stages": "probe"}, also="maco", seed=1)
