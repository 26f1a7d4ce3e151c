"""The wheel holds all that it needs: from it alone a model runs and its site is built."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wheel_runs_a_model_and_builds_its_site(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "uv", "build", "--wheel", "--out-dir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", ".venv"))]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}  # in front of the checkout
    where = subprocess.run(
        [sys.executable, "-c", "import jobs, pipeline, site_builder; print(jobs.__file__, site_builder.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(ROOT) not in where.stdout
    for words in (
        [
            "run",
            "--model",
            "zoo/vit",
            "--layers",
            "0",
            "--units",
            "0:2",
            "--stages",
            "visualize",
            "--workers",
            "1",
            "--out",
            "atlas",
        ],
        ["validate", "atlas"],
        ["site", "build", "atlas", "--out", "site"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", "from jobs.cli import main; main()", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").stat().st_size > 1000
