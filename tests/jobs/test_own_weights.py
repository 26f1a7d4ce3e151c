"""Weights of one's own on the command line: what is said of them, what the atlas keeps, and `check weights`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from atlas_schema.errors import ForeignAtlas
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
