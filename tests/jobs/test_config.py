"""RunConfig: TOML and flags, and what a typo is told."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_schema.errors import BadConfig
from jobs.config import RunConfig, config_from_mapping, load_config, select


def refused(mapping: dict, where: str = "run.toml") -> str:
    with pytest.raises(BadConfig) as caught:
        config_from_mapping(mapping, where)
    return str(caught.value)


def test_defaults():
    config = config_from_mapping({"models": ["zoo/vit"]})
    assert [entry.model for entry in config.models] == ["zoo/vit"]
    assert (config.recipe, config.seed, config.layers, config.units, config.out) == (
        "fast",
        0,
        "all",
        "all",
        "atlas",
    )


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('models = "zoo/vit"\nseed = 3\nunits = [0, "4:8"]\n')
    config = load_config(file, {"seed": 5, "recipe": None})
    assert (config.seed, config.units, config.recipe) == (5, "0,4:8", "fast")


def test_models_as_tables_with_their_own_weights():
    text = """
    random_weights = false
    [[models]]
    model = "timm/vit_small_patch14_dinov2"
    weights = "mine.safetensors"
    name = "my-dino"
    [[models]]
    model = "zoo/vit"
    random_weights = true
    """
    config = config_from_mapping(tomllib.loads(text))
    assert [(entry.name, entry.weights, entry.random_weights) for entry in config.models] == [
        ("my-dino", "mine.safetensors", False),
        (None, None, True),
    ]


def test_a_misspelt_key_is_named_with_the_nearest():
    assert refused({"models": ["zoo/vit"], "recipie": "fast"}) == "run.toml: recipie: unknown key; nearest: recipe"


def test_a_misspelt_key_of_a_model_is_named_with_its_place():
    message = refused({"models": [{"model": "zoo/vit", "wieghts": "x"}]})
    assert "models.0.wieghts: unknown key; nearest: weights" in message


def test_all_faults_are_told_at_once():
    message = refused({"models": ["zoo/vit"], "seed": -1, "device": "gpu", "workers": "many"})
    assert "seed" in message
    assert "(found -1)" in message
    assert "device: 'gpu', expected 'auto', 'cpu', 'cuda' or 'mps'" in message
    assert "workers" in message


@pytest.mark.parametrize("selection", ["a", "0..4", "1-3", "0:4:2", "", [0, "x"]])
def test_a_selection_that_is_none_is_quoted(selection):
    assert "neither 'all', an index such as 5, nor a range such as 0:16" in refused(
        {"models": ["zoo/vit"], "units": selection}
    )


def test_no_model_says_how_to_name_one():
    assert "--model zoo/vit" in refused({})


def test_weights_and_names_belong_to_one_model():
    message = refused({"models": ["zoo/vit", "zoo/pit"], "name": "mine"})
    assert "--as belongs to one model, but 2 were given" in message
    assert "[[models]]" in message


def test_weights_exclude_random_weights():
    assert "exclude each other" in refused({"models": ["zoo/vit"], "weights": "x.pth", "random_weights": True})


def test_a_file_that_is_not_there_or_not_toml(tmp_path):
    with pytest.raises(BadConfig, match="cannot be read"):
        load_config(tmp_path / "none.toml", {})
    (tmp_path / "bad.toml").write_text("models = [")
    with pytest.raises(BadConfig, match="not valid TOML"):
        load_config(tmp_path / "bad.toml", {})


def test_the_stored_config_reads_back_equal():
    config = config_from_mapping({"models": ["zoo/vit", "zoo/clip"], "units": [1, 2], "workers": 3})
    assert RunConfig.model_validate(json.loads(config.to_json())) == config


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ("all", [0, 1, 2, 3, 4]),
        ("0", [0]),
        ("-1", [4]),
        ("1:3", [1, 2]),
        (":2,4", [0, 1, 4]),
        ("3:", [3, 4]),
        ("2:99", [2, 3, 4]),
        ("4,0,0", [0, 4]),
    ],
)
def test_select(selection, chosen):
    assert select(selection, 5, "unit") == chosen


@pytest.mark.parametrize(
    ("selection", "message"),
    [("5", "5: there is no such unit; there are 5"), ("-6", "no such unit"), ("7:9", "selects no unit")],
)
def test_select_refuses_what_is_not_there(selection, message):
    with pytest.raises(BadConfig, match=message):
        select(selection, 5, "unit")


@given(st.lists(st.integers(0, 30), min_size=1), st.integers(31, 40))
def test_a_list_of_indices_selects_exactly_them(indices, count):
    config = config_from_mapping({"models": ["zoo/vit"], "units": indices})
    assert select(config.units, count, "unit") == sorted(set(indices))


@pytest.mark.parametrize(
    ("given", "pixels"), [(224, 224), ("224", 224), ("224x448", (224, 448)), ([224, 448], (224, 448)), ("64X64", 64)]
)
def test_sizes_are_a_side_or_height_and_width(given, pixels):
    config = load_config(None, {"models": ["zoo/vit"], "input_size": given})
    assert config.models[0].input_size == pixels
    assert config.models[0].request().input_size == pixels
    assert config_from_mapping(json.loads(config.to_json())) == config


@pytest.mark.parametrize("given", ["wide", "224x", "224x3x3", 4, "0x64", True, 2.5])
def test_a_size_that_is_none_is_quoted(given):
    with pytest.raises(BadConfig, match="size"):
        load_config(None, {"models": ["zoo/vit"], "input_size": given})


def test_arguments_of_the_constructor_from_flags_and_tables(tmp_path):
    from_flags = load_config(
        None, {"models": ["timm/test_vit"], "model_args": ["global_pool=avg", "depth=2", "qk_norm=true"]}
    )
    file = tmp_path / "run.toml"
    file.write_text(
        '[[models]]\nmodel = "timm/test_vit"\nmodel_args = { global_pool = "avg", depth = 2, qk_norm = true }\n'
    )
    from_table = load_config(file, {})
    assert from_flags == from_table
    assert from_table.models[0].request().arguments == (("depth", 2), ("global_pool", "avg"), ("qk_norm", True))
    with pytest.raises(BadConfig, match="--model-args avg: expected NAME=VALUE"):
        load_config(None, {"models": ["timm/test_vit"], "model_args": ["avg"]})


def test_which_belongs_to_weights():
    with pytest.raises(BadConfig, match="give one with weights"):
        load_config(None, {"models": ["zoo/vit"], "which": "teacher"})
    entry = {"model": "zoo/vit", "weights": "w.pth", "name": "mine", "which": "teacher"}
    assert load_config(None, {"models": [entry]}).models[0].request().which == "teacher"
