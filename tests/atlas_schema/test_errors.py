"""Errors survive the way between processes, and near names are found."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys

import pytest

from atlas_schema import errors
from atlas_schema.errors import AtlasError, ShardCorrupt, WorkFailed, nearest

EVERY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AtlasError)]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_an_error_travels_between_processes(kind: type[AtlasError]) -> None:
    back = pickle.loads(pickle.dumps(kind("what, expected, do")))
    assert type(back) is kind
    assert str(back) == "what, expected, do"
    assert back.exit_code == (1 if issubclass(kind, WorkFailed) else 2)
    assert kind.__doc__


def test_a_corrupt_shard_keeps_its_place() -> None:
    assert pickle.loads(pickle.dumps(ShardCorrupt("damaged", "a/b"))).path == "a/b"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deit_tiny_patch16_244", ["deit_tiny_patch16_224"]),
        ("DEIT_TINY", ["deit_tiny_patch16_224"]),
        ("swin", ["swin_base", "swin_tiny"]),
        ("qqqq", []),
        ("", []),
    ],
)
def test_near_names(name: str, expected: list[str]) -> None:
    names = ["swin_tiny", "deit_tiny_patch16_224", "swin_base", "pit_b_224"]
    assert nearest(name, names)[: len(expected)] == expected
    assert bool(nearest(name, names)) == bool(expected)


def test_the_number_of_near_names_is_bounded() -> None:
    assert len(nearest("aaa", (f"aaa{n}" for n in range(50)), 2)) == 2


def test_near_names_of_a_large_registry() -> None:
    names = [
        f"{family}_{size}_patch{n}_224" for family in ("vit", "deit", "swin") for size in "sbl" for n in range(200)
    ]
    assert nearest("vit_b_patch16_242", names)[0].startswith("vit_b_patch16")


@pytest.mark.parametrize(("module", "light"), [("errors", True), ("address", True), ("store", True), ("parts", False)])
def test_names_and_errors_load_nothing_heavy(module: str, light: bool) -> None:
    code = f"import sys, atlas_schema.{module}; sys.exit(3 * bool({{'pyarrow', 'fsspec', 'PIL'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == (0 if light else 3)
