"""Names of a classifier's outputs: from a file, from the checkpoint, or none, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from atlas_schema.errors import BadConfig
from pipeline.effects.readout import readout_of
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.class_names import read_class_names

NAMES = ("cat", "dog", "e.g. a dot", "鳥", "crane")


def model(tmp_path: Path, beside: dict[str, Any], classes: int = len(NAMES), **request: Any) -> LoadedModel:
    torch.manual_seed(0)
    state = timm.create_model("test_vit", num_classes=classes).state_dict()
    torch.save({"model": state, **beside}, tmp_path / "my.pth")
    return load(ModelRequest("timm/test_vit", str(tmp_path / "my.pth"), "my", **request))


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": list(NAMES)},
        {"hyper_parameters": {"class_names": list(NAMES)}},
        {"class_to_idx": {name: index for index, name in enumerate(NAMES)}},
        {"meta": {"idx_to_class": dict(enumerate(NAMES))}},
        {"args": {"id2label": {str(index): name for index, name in enumerate(NAMES)}, "classes": 5}},
    ],
    ids=lambda beside: "/".join(next(iter(beside.items()))[0:1]),
)
def test_names_that_a_trainer_stored_are_read(tmp_path: Path, beside: dict[str, Any]) -> None:
    found = model(tmp_path, beside)
    assert found.class_names == NAMES
    assert readout_of(found).names == NAMES
    assert "its 5 classes have the names that the checkpoint holds" in found.remarks


@pytest.mark.parametrize(
    "config",
    [
        {"id2label": {str(index): name for index, name in enumerate(NAMES)}},
        {
            "label_names": ["n1", "n2", "n3", "n4", "n5"],
            "label_descriptions": dict(zip(["n1", "n2"], NAMES, strict=False)),
        },
    ],
)
def test_names_in_the_config_beside_the_weights_are_read(tmp_path: Path, config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", num_classes=5).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = load(ModelRequest("timm/test_vit", str(tmp_path), "my"))
    assert found.class_names == (NAMES if "id2label" in config else ("cat", "dog", "n3", "n4", "n5"))


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({}, "neither the checkpoint nor its id says what its classes are called"),
        ({"classes": ["cat", "dog"]}, "the checkpoint names 2 classes, the classifier has 5 outputs"),
        ({"id2label": {index: f"LABEL_{index}" for index in range(5)}}, "neither the checkpoint nor its id says"),
        ({"classes": [["cat"], 3, 4, 5, 6]}, "neither the checkpoint nor its id says"),
        ({"class_to_idx": {"cat": 0, "dog": 7}}, "neither the checkpoint nor its id says"),
    ],
)
def test_without_names_outputs_are_indices_and_it_is_said_why(
    tmp_path: Path, beside: dict[str, Any], told: str
) -> None:
    found = model(tmp_path, beside)
    assert found.class_names == ()
    assert readout_of(found).names[:2] == ("class 0", "class 1")
    assert any(f"shown by their index: {told}" in note and "--class-names FILE" in note for note in found.remarks)


def test_given_names_come_before_those_of_the_checkpoint(tmp_path: Path) -> None:
    given = ("a", "b", "c", "d", "e")
    assert model(tmp_path, {"classes": list(NAMES)}, class_names=given).class_names == given
    with pytest.raises(BadConfig, match="2 class names were given, its classifier has 5 outputs"):
        model(tmp_path, {}, class_names=("a", "b"))
    with pytest.raises(BadConfig, match="it has no classifier"):
        model(tmp_path, {}, classes=0, class_names=("a", "b"))


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\n e.g. a dot \n鳥\ncrane\n\n",
        "\ufeffcat\r\ndog\r\ne.g. a dot\r\n鳥\r\ncrane",
        json.dumps(NAMES),
        json.dumps(dict(enumerate(NAMES))),
        json.dumps({name: index for index, name in enumerate(NAMES)}),
        json.dumps({"id2label": dict(enumerate(NAMES)), "hidden_size": 192}),
    ],
)
def test_files_of_names(tmp_path: Path, text: str) -> None:
    (tmp_path / "names").write_bytes(text.encode())
    assert read_class_names(str(tmp_path / "names")) == NAMES


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "cannot be read"),
        (b"", "it holds no names"),
        (b"caf\xe9\n", "not UTF-8 .byte 3."),
        (b"cat\n\ndog", "name 2 is empty"),
        (b"[1, 2]", "it holds no names"),
        (b'{"a": ', "not valid JSON"),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: bytes | None, told: str) -> None:
    if data is not None:
        (tmp_path / "names").write_bytes(data)
    with pytest.raises(BadConfig, match=told):
        read_class_names(str(tmp_path / "names"))
