"""docs/diff.md: its commands and its Python run, its figures of the rule are the code's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from jobs.cli import call
from jobs.config import load_config
from jobs.diffing.layers import CORRELATION, LEAST, OVERLAP
from jobs.stages import stages_of
from pipeline.compare.fates import Rule
from tests.jobs.diff_atlas import made, orders
from tests.jobs.test_diff import atlas

PAGE = (Path(__file__).parents[2] / "docs/diff.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def commands(name: str) -> list[list[str]]:
    words = [shlex.split(line)[1:] for block in blocks("") for line in block.splitlines()]
    return [line for line in words if line[0] == name]


def test_commands_and_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"zoo-vit": made(0), "tuned": made(0).permuted(orders())}
    for name, matched in (("atlas", True), ("atlas-v1", False), ("atlas-v2", False)):
        atlas(tmp_path / name, models, matched=matched)
    monkeypatch.chdir(tmp_path)
    assert len(commands("diff")) == 6
    for words in commands("diff"):
        assert call(words) == 0
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    assert len(names["moved"]) == 2 * 64  # type: ignore[arg-type]


def test_the_run_is_one_that_the_code_takes(tmp_path: Path) -> None:
    (toml,) = blocks("toml")
    (tmp_path / "both.toml").write_text(toml)
    config = load_config(tmp_path / "both.toml", {})
    assert [entry.name for entry in config.models] == [None, "tuned"]
    assert commands("run") == [["run", "--config", "both.toml"]]
    assert {stage.group for stage in stages_of(config.stages or (), config.also)} >= {
        "probe",
        "label",
        "match",
        "decompose",
    }


def test_the_thresholds_are_those_of_the_code() -> None:
    assert f"q(i) ≤ {Rule(0).discovery_rate:g} (`--discovery-rate`)" in PAGE
    assert (LEAST[CORRELATION], LEAST[OVERLAP]) == (0.5, 1 / 3)
    assert "at least 0.5 (correlation) or a third (overlap; `--least`)" in PAGE
