"""docs/publishing.md: every command and example on it, run in its order, against a Hub of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from atlas_schema.published import MOST_KEPT
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from jobs.publishing import limits
from tests.atlas_schema.made_atlas import make_atlas, webp
from tests.hub_clients import environment
from tests.hub_server import HubServer
from tests.jobs.conftest import committed

REPO = Path(__file__).parents[3]
PAGE = REPO / "docs" / "publishing.md"


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every block of the page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_has_commands_and_examples_and_the_numbers_of_the_code():
    said = " ".join(PAGE.read_text().split())
    assert [language for language, _ in blocks()].count("sh") >= 4
    assert {language for language, _ in blocks()} == {"sh", "python", "sql"}
    assert (
        f"{limits.FILES:,} files in a repository, {limits.FOLDER:,} in a folder, {limits.COMMITS} commits an hour"
        in said
    )
    assert f"{limits.REQUESTS:,} requests in five minutes" in said
    assert f"several commits ({limits.LARGE_A_COMMIT} tables each)" in said
    assert MOST_KEPT == 1 << 30
    assert "at most 1 GiB" in said


def test_every_query_on_the_page_runs_and_finds_what_it_is_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: no query of docs/publishing.md was run")
    make_atlas(Store(tmp_path / "atlas"))
    monkeypatch.chdir(tmp_path)
    (text,) = [text for language, text in blocks() if language == "sql"]
    queries = [query.strip() for query in text.split(";") if query.strip()]
    found = {query.splitlines()[0]: duckdb.sql(query) for query in queries if "COPY" not in query}
    assert len(found) >= 6
    for remark, rows in found.items():
        assert remark.startswith("-- ")
        assert rows.fetchall(), remark
    (copied,) = [query for query in queries if "COPY" in query]
    duckdb.execute(copied)
    assert (tmp_path / "neuron.webp").read_bytes() == webp(5)


def test_the_paths_of_queries_on_the_hub_name_tables():
    paths = re.findall(r"'hf://datasets/[\w-]+/[\w-]+@[\w.]+/([^']+)'", PAGE.read_text())
    assert paths
    for path in paths:
        assert path in {f"{table}/*/*.parquet" for table in TABLES}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_everything_on_the_page_runs(tmp_path: Path):
    hub = HubServer()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "neuron-atlas"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from jobs.cli import main; main()" "$@"\n')
    command.chmod(0o755)
    variables = {
        **os.environ,
        **environment(hub, str(tmp_path / "home")),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(REPO),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    said = []
    for language, text in blocks():
        if language == "sql":  # on an atlas that has all tables, above
            continue
        words = ["bash", "-euxc", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        said.append(done.stdout)
        if "pull hf://" in text:
            _extended(tmp_path)
    hub.close()
    repository = hub.repositories["my-org/my-atlas"]
    assert repository.tags == {"v1": repository.commits[-1].id}
    assert f"published at revision {repository.tags['v1']}, tag v1" in "".join(said)
    assert "zoo-deit/mlp/0/0 (64, 64)" in "".join(said)
    assert {table.name for table in (tmp_path / "part").iterdir() if table.is_dir()} >= {"neurons", "models", "sites"}


def _extended(folder: Path) -> None:
    """What was pulled and run on: no picture was made again, no row was lost, and the probe's columns are there."""
    done = committed(folder / "mine")
    assert done != []
    assert not [unit for unit in done if unit.startswith(("visualize", "verdict"))]
    before, after = Atlas(str(folder / "atlas")), Atlas(str(folder / "mine"))
    assert [row["slug"] for row in after.models()] == ["zoo-vit"]
    for layer in (0, 1):
        old, new = before.neurons("zoo-vit", layer), after.neurons("zoo-vit", layer)
        assert old is not None
        assert new is not None
        for name in ("address", "activation", "seed", "loss_curve", "verdict", "seconds"):
            assert new[name] == old[name]
        assert new["token_mean"].null_count == 0 < old["token_mean"].null_count
        path = f"neurons/zoo-vit/train-{layer:05d}-of-00004.parquet"
        pictures = [pq.read_table(folder / one / path)["image"] for one in ("atlas", "mine")]
        assert pictures[0] == pictures[1]
