"""A new stage is one description and one table: everything else that a stage needs follows from these."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import jobs.stages
from atlas_schema.errors import ForeignAtlas
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from atlas_schema.validate import validate
from jobs.cli import call
from jobs.docs import page
from jobs.status import status_of
from tests.jobs.conftest import Runner
from tests.jobs.tiny import EVIDENCE
from tests.jobs.toy import TOY, TOYS

pytestmark = pytest.mark.timeout(900)
TABLES.pop("toys")  # registered by the import, for workers; here only within a test
RUN = {**EVIDENCE, "models": ["zoo/vit"], "stages": "toy"}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLES, "toys", TOYS)
    monkeypatch.setattr(jobs.stages, "STAGES", (*jobs.stages.STAGES, TOY))
    return


def test_it_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "--model", "zoo/vit", "--probe", "zoo:32", "--stages", "toy", "--json"]
    assert call(words) == 0
    stages = {one["stage"]: one for one in json.loads(capsys.readouterr().out)["stages"]}
    assert set(stages) == {"probe", "toy"}, "with what it reads"
    assert (stages["toy"]["count"], stages["toy"]["work_units"]) == (512, 4)
    assert stages["toy"]["estimated_bytes"] == 512 * 8
    assert call([*words[:-3], "--stages", "tyo"]) == 2
    assert "nearest: toy" in capsys.readouterr().err


def test_it_runs_resumes_is_checked_and_is_refused_where_a_fact_changed(run_into: Runner, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    assert run_into(folder, **RUN).exit_code == 0
    shard = folder / "toys/zoo-vit/train-00000-of-00004.parquet"
    assert pq.read_table(shard)["unit"].to_pylist() == list(range(16))
    assert pq.read_table(shard)["twice"].to_pylist()[3] > 0
    store = Store(str(folder))
    assert validate(store) == []
    assert "A row is a neuron as a toy" in store.read("README.md").decode(), "the card describes its table"

    (model,) = status_of(store)["models"]
    told = {one["stage"]: one for one in model["stages"]}
    assert (told["toy"]["committed"], told["toy"]["planned"], told["toy"]["shards"]) == (16, 16, 1)
    claim = next(one for one in Atlas(store).models()[0]["stages"] if one["stage"] == "toy")
    assert json.loads(claim["facts"])["facts"] == {"seed": 0}

    report = run_into(folder, **RUN)
    assert (report.exit_code, report.units_done) == (0, 0)
    good = shard.read_bytes()
    shard.unlink()
    assert [(one.path, one.kind) for one in validate(store)] == [(str(shard.relative_to(folder)), "missing")]
    assert run_into(folder, **RUN).units_done == 0
    assert shard.read_bytes() == good, "built again from its parts"

    (part,) = folder.glob(".atlas/parts/toy/zoo-vit/*")
    part.unlink()
    assert run_into(folder, **{**RUN, "units": "0:24"}).exit_code == 0, "a wider run does what is missing"
    assert pq.read_table(shard)["unit"].to_pylist() == list(range(24))
    with pytest.raises(ForeignAtlas, match=r"the stage toy of zoo-vit ran with another seed \(found 0, expected 1\)"):
        run_into(folder, **RUN, seed=1)


def test_the_docs_page_has_it() -> None:
    text = page()
    assert "## toy\n\nDoubles the strongest patch of each neuron." in text
    assert "- Reads: [`probe`](#probe)" in text.split("## toy")[1]
    assert "[`toys`](tables.md#toys)" in text


def test_the_docs_page_is_not_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # without the toy
    assert page() == (Path(__file__).parents[2] / "docs/stages.md").read_text(), "python -m jobs.docs docs/stages.md"
