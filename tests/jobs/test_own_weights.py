"""Weights of one's own on the command line: what is said of them, what the atlas keeps, and `check weights`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from atlas_schema.errors import BadConfig, ForeignAtlas
from atlas_schema.shards import write_rows
from jobs.claim import claimed, model_row
from jobs.cli import call
from jobs.config import config_from_mapping
from jobs.prepare import prepare


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student and a teacher, as Lightning stores them in half precision."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "run.ckpt"
    models = {name: timm.create_model("test_vit").half().state_dict() for name in ("student", "teacher")}
    state = {f"{name}.{key}": value for name, model in models.items() for key, value in model.items()}
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def config(wrapped: Path, out: Path, **more: object):
    entry = {"model": "timm/test_vit", "weights": str(wrapped), "name": "mine", **more}
    return config_from_mapping({"models": [entry], "out": str(out)})


def test_what_is_done_to_weights_is_said_and_kept(wrapped: Path, tmp_path: Path):
    said: list[str] = []
    prepared = prepare(config(wrapped, tmp_path / "atlas"), said.append)
    (model,) = prepared.models
    notes = [
        "state_dict.teacher taken, not state_dict.student: --which chooses",
        "taken from under state_dict.teacher",
        f"tensors of other modules left out: {len(timm.create_model('test_vit').state_dict())} "
        f"(state_dict.student: {len(timm.create_model('test_vit').state_dict())})",
        "float16 widened to float32",
        "classes are shown by their index: neither the checkpoint nor its id says what its classes are called; "
        "--class-names FILE gives names",
    ]
    assert [line.removeprefix("  mine: ") for line in said if line.startswith("  mine: ")] == notes
    row = model_row(model.description, model.fingerprint, model.notes, model.keys, prepared.inputs, None, None)
    write_rows(prepared.store, "models", "mine", [row], provenance={"code_version": "0"})
    assert claimed(prepared.store, "mine")["notes"] == notes


def test_the_other_model_of_a_file_is_another_model(wrapped: Path, tmp_path: Path):
    prepared = prepare(config(wrapped, tmp_path / "atlas"), lambda text: None)
    (model,) = prepared.models
    row = model_row(model.description, model.fingerprint, model.notes, model.keys, prepared.inputs, None, None)
    write_rows(prepared.store, "models", "mine", [row], provenance={"code_version": "0"})
    with pytest.raises(ForeignAtlas, match=r"another weights \(fingerprint\)"):
        prepare(config(wrapped, tmp_path / "atlas", which="student"), lambda text: None)


def test_sizes_and_arguments_decide_keys(wrapped: Path, tmp_path: Path):
    plain, deep = (
        prepare(config(wrapped, tmp_path / name, **more), lambda text: None).models[0]
        for name, more in (("a", {}), ("b", {"model_args": {"act_layer": "relu"}}))
    )
    assert plain.fingerprint == deep.fingerprint
    assert plain.keys["visualize"].identity != deep.keys["visualize"].identity
    assert '"arguments":{"act_layer":"relu"}' in deep.keys["visualize"].facts
    assert "arguments" not in plain.keys["visualize"].facts  # keys of atlases that are there stay


def test_outputs_are_named_by_a_file_or_by_the_classes_of_the_probe_set(tmp_path: Path):
    (tmp_path / "names.txt").write_text("\n".join(f"kind {index}" for index in range(8)))
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=8).state_dict(), tmp_path / "my.pth")
    own = {"weights": str(tmp_path / "my.pth"), "name": "my"}
    keys = []
    for names in (None, str(tmp_path / "names.txt"), "probe"):
        entry = {"model": "timm/test_vit", **own, "class_names": names}
        options = {"models": [entry], "out": str(tmp_path / "atlas"), "probe": "zoo:64", "stages": ["probe", "effect"]}
        prepared = prepare(config_from_mapping(options), lambda text: None)
        keys.append(prepared.models[0].keys)
        request, _ = prepared.described[0]
    assert request.class_names == tuple(sorted({image.label for image in prepared.inputs.images.images}))
    assert len({key["effect"].identity for key in keys}) == 3
    assert len({key["probe"].identity for key in keys}) == 1
    with pytest.raises(BadConfig, match="class names of the probe set, but there is none"):
        config_from_mapping({"models": [{"model": "timm/test_vit", **own, "class_names": "probe"}], "out": "x"})


def test_plan_takes_rectangles_and_arguments(capsys: pytest.CaptureFixture[str]):
    words = ["--model", "timm/test_vit", "--random-weights", "--input-size", "80x160", "--model-args", "depth=2"]
    assert call(["plan", "--json", *words, "--model-args", "global_pool=avg"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["ffn_sites"] == 2
    assert model["arguments"] == {"depth": 2, "global_pool": "avg"}
    assert call(["plan", *words, "--model-args", "dept=2"]) == 2
    assert "no argument 'dept'; nearest: depth" in capsys.readouterr().err
    assert call(["plan", "--model", "timm/test_vit", "--input-size", "wide"]) == 2
    assert "give a side in pixels such as 224, or HEIGHTxWIDTH" in capsys.readouterr().err


def test_check_weights_says_what_a_file_is_and_the_run_that_works(wrapped: Path, capsys: pytest.CaptureFixture[str]):
    assert call(["check", "weights", str(wrapped)]) == 0
    text = capsys.readouterr().out
    for said in (
        "run.ckpt: torch.save, ",
        "timm/test_vit  ",
        "100.0% of its tensors are there",
        "  state_dict.teacher taken, not state_dict.student: --which chooses",
        "  float16 widened to float32",
        f"  neuron-atlas run --model timm/test_vit --weights {wrapped} --as run --out atlas",
    ):
        assert said in text, said
    assert call(["check", "weights", str(wrapped), "--json", "--model", "timm/test_vit2"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["command"] is None
    assert "does not fit" in found["error"]
    assert call(["check", "weights", str(wrapped.parent / "none.pth")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_every_command_that_loads_a_model_takes_the_same_options(wrapped: Path, capsys: pytest.CaptureFixture[str]):
    words = ["check", "decomposition", "--json", "--images", "1", "--model", "timm/test_vit"]
    for options in (["--weights", str(wrapped), "--which", "student"], ["--random-weights", "--model-args", "depth=2"]):
        assert call([*words, *options, "--input-size", "80x160"]) == 0
        (found,) = json.loads(capsys.readouterr().out)["models"]
        assert found["relative_error"] < 1e-5
    assert call([*words, "--weights", str(wrapped), "--which", "none"]) == 2
    assert "none" in capsys.readouterr().err
    for command in ("heatmap", "retrieve", "spurious"):
        assert call([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert all(f"--{name}" in text for name in ("which", "model-args", "class-names", "input-size", "weights"))
