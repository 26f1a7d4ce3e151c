"""Settings decide results, so they belong to keys: each is frozen data that JSON holds, and each field is heeded."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass
from pathlib import Path

import pytest

import pipeline


def all_settings() -> Iterator[type]:
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.endswith("Settings") and value.__module__ == module.name:
                yield value


SETTINGS = sorted(all_settings(), key=lambda one: one.__name__)


def test_there_is_one_of_each_stage():
    assert [one.__name__ for one in SETTINGS] == [
        "AlignSettings",
        "ClassPromptSettings",
        "EffectSettings",
        "EvidenceSettings",
        "ExampleSettings",
        "HeadSettings",
        "LabelSettings",
        "MatchSettings",
        "NaturalSettings",
        "ProbeSettings",
        "ProjectSettings",
        "ReadSettings",
        "ReadabilitySettings",
        "SketchSettings",
        "SpanSettings",
        "ViewSettings",
        "VisualizeSettings",
        "WriteSettings",
    ]


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_are_frozen_data_that_json_holds(kind: type):
    assert is_dataclass(kind)
    made = kind()
    assert json.loads(json.dumps(asdict(made))).keys() == {field.name for field in fields(kind)}
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(kind)[0].name, None)
    assert made == kind()


def test_each_field_is_heeded():
    """A setting that nothing reads would be in keys and change nothing."""
    folders = [Path(pipeline.__file__).parents[1] / name for name in ("pipeline", "jobs")]
    trees = [ast.parse(path.read_text()) for folder in folders for path in folder.rglob("*.py")]
    read = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for kind in SETTINGS:
        own = {field.name for field in fields(kind) if not is_dataclass(getattr(kind(), field.name))}
        assert own <= read, (kind.__name__, own - read)
