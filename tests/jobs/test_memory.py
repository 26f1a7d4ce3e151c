"""How much memory a unit takes: measured as it is done."""

from __future__ import annotations

import gc
import json
import re
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray.exceptions import OutOfMemoryError, RayActorError

from atlas_schema.units import Whole, WorkUnit
from jobs.config import load_config
from jobs.inputs import Inputs
from jobs.memory import BASE, UNLIMITED, Gauge, fitting_batch
from jobs.opening import counts_of
from jobs.plan import Machine, make_plan
from jobs.prepare import describe_all
from jobs.ray_run import RayExecutor, memory_to_ask
from jobs.report import RunReport
from jobs.settings import Settings
from jobs.stages import Cost, Sizes, Stage, stages_of
from jobs.worker import Worker, WorkerSettings
from pipeline.models import ModelRequest, describe, load
from pipeline.models.device import in_precision
from pipeline.visualize.recipes import RECIPES
from tests.jobs.conftest import Runner, neurons
from tests.jobs.tiny import OPTIONS

MB = 1 << 20


def log_of(folder: Path, report: RunReport) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ".atlas/logs" / f"{report.run_id}.jsonl").read_text().splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak")
def test_a_peak_is_of_its_own_time_alone() -> None:
    first = Gauge("cpu")
    held = np.ones(200 * MB // 8)
    large = first.peak.process
    del held
    second = Gauge("cpu").peak.process
    held = np.ones(50 * MB // 8)
    assert 150 * MB < large - second < 250 * MB, "what was freed before is not counted"
    assert held.sum() > 0


@pytest.mark.timeout(900)
def test_the_log_tells_what_each_unit_took(run_into: Runner, tmp_path) -> None:
    report = run_into(tmp_path / "atlas", layers="0", units="0:2", workers=1)
    lines = [line for line in log_of(tmp_path / "atlas", report) if line["event"] == "committed"]
    peaks = [line["peak_bytes"] for line in lines]
    assert len(peaks) == report.units_done > 0
    assert all(100 * MB < peak < 4096 * MB for peak in peaks), peaks


def test_batches_halve_until_they_fit() -> None:
    def need(batch: int) -> float:
        return 100.0 + 10 * batch

    assert [fitting_batch(need, room, "cpu") for room in (1e6, 420, 419, 200, 120, 110, 50)] == [32, 32, 16, 8, 2, 1, 1]
    assert fitting_batch(need, 1e6, "cuda") == 256


def settings(**options: Any) -> WorkerSettings:
    """Of a worker that has one model and one stage, whose function says with how many images it was called."""
    description = describe(ModelRequest("zoo/vit"))
    made: dict[str, Any] = {
        "store_url": "memory://memory",
        "requests": {},
        "fingerprints": {},
        "identities": {},
        "inputs": Inputs(RECIPES["tiny"], 0, Settings()),
        "device": "cpu",
        "threads": 1,
        "threads_fixed": True,
        "precision": None,
        "nonce": "",
        "memory": UNLIMITED,
        "sizes": {"zoo-vit": Sizes(description, RECIPES["tiny"])},
    }
    return WorkerSettings(**{**made, **options})


def counting(fits: int) -> tuple[Stage, list[int]]:
    """A stage for which memory suffices for so many images in a forward, and the batches that it was called with."""
    tried: list[int] = []

    def compute(work: Any, unit: WorkUnit) -> dict[str, np.ndarray]:
        tried.append(work.batch)
        if work.batch > fits:
            if work.batch == 32:
                torch.empty(1 << 46)  # as torch says it, not as we think it does
            raise MemoryError
        return {"batch": np.array(work.batch)}

    stage = Stage(
        name="texts", does="", group="", cut="model", compute=compute, cost=lambda sizes: Cost(1), memory=by_batch
    )
    return stage, tried


def by_batch(sizes: Sizes, batch: int) -> float:
    return batch * 1e6


UNIT = WorkUnit("texts", "zoo-vit", Whole(), "f" * 64, "r" * 16)


def test_a_worker_that_is_ready_multiplies_float32_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions too, which torch leaves to a GPU's TF32 units."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # and as it was before, afterwards
    Worker(settings(stages=(), store_url=str(tmp_path))).ready()
    assert torch.backends.cudnn.allow_tf32 is False
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_worker_whose_memory_runs_out_halves_the_batch_and_goes_on(tmp_path: Path) -> None:
    stage, tried = counting(fits=5)
    answer = Worker(settings(stages=(stage,), store_url=str(tmp_path))).run(UNIT, 1)
    assert answer.fault is None
    assert tried == [32, 16, 8, 4]
    assert answer.peak.batch == 4
    assert answer.receipt is not None


def test_a_worker_for_which_one_image_is_too_much_says_that_memory_ran_out(tmp_path: Path) -> None:
    stage, tried = counting(fits=0)
    answer = Worker(settings(stages=(stage,), store_url=str(tmp_path))).run(UNIT, 1)
    assert answer.receipt is None
    assert answer.fault is not None
    assert answer.fault.memory
    assert tried == [32, 16, 8, 4, 2, 1]


def test_a_batch_follows_from_what_the_worker_may_take_and_is_one_where_a_unit_is_done_alone(tmp_path: Path) -> None:
    for memory, alone, batch in ((BASE["cpu"] + 9e6, False, 8), (BASE["cpu"] + 9e6, True, 1), (0, False, 1)):
        stage, tried = counting(fits=32)
        store = tmp_path / f"{memory}-{alone}"
        answer = Worker(settings(stages=(stage,), store_url=str(store), memory=int(memory))).run(UNIT, 1, alone)
        assert answer.fault is None
        assert tried == [batch]


def test_what_other_units_loaded_is_dropped_where_memory_is_short(tmp_path: Path) -> None:
    def compute(work: Any, unit: WorkUnit) -> dict[str, np.ndarray]:
        return {"a": np.zeros(1)}

    pit = describe(ModelRequest("zoo/pit"))
    sizes = {**settings(stages=()).sizes, "zoo-pit": Sizes(pit, RECIPES["tiny"])}
    stage, _ = counting(fits=32)
    stage = replace(stage, compute=compute, memory=lambda sizes, batch: 1e6)
    for spare, held in ((1e6 + 4 * pit.parameters, {"zoo-pit"}), (1e6 + 4 * pit.parameters - 1, set())):
        store = str(tmp_path / str(spare))
        worker = Worker(settings(stages=(stage,), store_url=store, memory=int(BASE["cpu"] + spare), sizes=sizes))
        worker.models["zoo-pit"] = object()
        assert worker.run(UNIT, 1).fault is None
        assert set(worker.models) == held


def test_a_worker_keeps_no_model_in_another_precision_for_the_next_stage(tmp_path: Path) -> None:
    first, _ = counting(fits=32)
    second = replace(first, name="pool")
    worker = Worker(settings(stages=(first, second), store_url=str(tmp_path)))
    model = load(ModelRequest("zoo/vit"))
    assert worker.run(UNIT, 1).fault is None
    cast = weakref.ref(in_precision(model, "bfloat16").module)
    assert worker.run(replace(UNIT, settings="s" * 16), 1).fault is None
    gc.collect()
    assert cast() is not None, "kept for other units of the stage"
    assert worker.run(replace(UNIT, stage="pool"), 1).fault is None
    gc.collect()
    assert cast() is None


def test_on_a_cpu_a_worker_keeps_what_others_loaded_while_there_is_room(tmp_path: Path) -> None:
    pit = describe(ModelRequest("zoo/pit"))
    large = replace(pit, parameters=int(0.5e9))  # 2 GB
    sizes = {**settings(stages=()).sizes, "zoo-pit": Sizes(large, RECIPES["tiny"])}
    stage, _ = counting(fits=32)
    for need, held in ((1e5, {"zoo-pit"}), (6e8, set())):
        stage = replace(stage, memory=lambda sizes, batch, need=need: need)
        worker = Worker(settings(stages=(stage,), store_url=str(tmp_path / str(need)), sizes=sizes))
        worker.models["zoo-pit"] = object()
        assert worker.run(UNIT, 1).fault is None
        assert set(worker.models) == held


FIRST = "visualize zoo-vit--random/mlp/0 units 0 to 15"


@pytest.mark.timeout(900)
def test_memory_that_runs_out_once_costs_half_a_batch_and_no_row(run_into: Runner, clean: Path, tmp_path: Path) -> None:
    folder = tmp_path / "atlas"
    report = run_into(folder, f"step@{FIRST}=memory")
    assert (report.exit_code, report.workers_lost, report.units_failed) == (0, 0, 0)
    batches = {line["unit"]: line["batch"] for line in log_of(folder, report) if line["event"] == "committed"}
    assert batches.pop(FIRST) == 16
    assert set(batches.values()) == {32}
    assert neurons(folder).equals(neurons(clean))


@pytest.mark.timeout(900)
def test_a_unit_for_which_memory_never_suffices_is_done_alone_and_given_up(run_into: Runner, tmp_path: Path) -> None:
    report = run_into(tmp_path / "atlas", f"step@{FIRST}=memory!")
    assert (report.exit_code, report.units_failed) == (1, 1)
    log = log_of(tmp_path / "atlas", report)
    assert [line["unit"] for line in log if line["event"] == "put aside"] == [FIRST]
    started = [line["unit"] for line in log if line["event"] == "started" and not line["unit"].startswith("assemble")]
    assert started.count(FIRST) == 2
    assert started[-1] == FIRST, "after all others"
    record = json.loads(next((tmp_path / "atlas").glob(".atlas/failed/**/*.json")).read_text())
    assert re.search(r"OutOfMemory: needs.* \d+\.\d GB, has \d+\.\d GB, alone and with one image", record["error"])


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (OutOfMemoryError("1 worker(s) were killed"), True),
        (RayActorError(error_msg="1 worker(s) were killed due to the node running low on memory."), True),
        (
            RayActorError(error_msg="causes: (1) killed by the OOM killer due to high memory usage, (2)"),
            False,
        ),
    ],
)
def test_what_ray_says_of_a_worker_tells_whether_memory_killed_it(error, memory, monkeypatch) -> None:
    counts = iter([7, 7])
    monkeypatch.setattr("jobs.ray_run._kernel_kills", lambda: next(counts))
    monkeypatch.setattr("jobs.ray_run.ray.put", lambda value: value)
    monkeypatch.setattr("jobs.ray_run.ray.nodes", list)
    assert RayExecutor(settings(stages=()), Machine())._for_memory(error) is memory


def test_a_kill_that_the_kernel_counts_is_one_for_memory(monkeypatch) -> None:
    counts = iter([7, 8, 8])
    monkeypatch.setattr("jobs.ray_run._kernel_kills", lambda: next(counts))
    monkeypatch.setattr("jobs.ray_run.ray.put", lambda value: value)
    monkeypatch.setattr("jobs.ray_run.ray.nodes", list)
    executor = RayExecutor(settings(stages=()), Machine())
    assert executor._for_memory(RayActorError()) is True
    assert executor._for_memory(RayActorError()) is False


def test_workers_ask_for_no_more_than_lets_all_of_them_start(monkeypatch) -> None:
    nodes = [{"Alive": True, "Resources": {"memory": 8e9}}, {"Alive": True, "Resources": {"memory": 4e9}}]
    monkeypatch.setattr("jobs.ray_run.ray.nodes", lambda: nodes)
    assert memory_to_ask(Machine("cpu", 2, 1, int(6e9)), 3e9) == 3e9
    assert memory_to_ask(Machine("cpu", 6, 1, int(6e9)), 3e9) == 2e9
    nodes.clear()  # a cluster that starts nodes on demand
    assert memory_to_ask(Machine("cpu", 6, 1, int(6e9)), 3e9) == 3e9


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("model", "stages"),
    [
        ("timm/deit_small_patch16_224", "visualize,probe,label,effect"),
        ("timm/swin_tiny_patch4_window7_224", "visualize,probe"),
        ("timm/vit_base_patch16_224", "probe"),
    ],
)
def test_what_stages_say_they_take_is_what_they_take(run_into: Runner, tmp_path: Path, model: str, stages: str) -> None:
    """Every unit's measured peak against its stage's formula, within a factor of 1.5."""
    options: dict[str, Any] = {
        "models": [model],
        "stages": stages,
        "layers": "-1",
        "units": "0:16",
        "probe": "zoo:64",
        "panel": 64,
        "unit_seconds": 60,
        "workers": 1,
    }
    report = run_into(tmp_path / "atlas", **options)
    assert report.exit_code == 0
    config = load_config(None, {**OPTIONS, **options})
    chosen = stages_of(config.stages)
    counts, embedder = counts_of(config, chosen, say=print), describe(ModelRequest(config.embedder))
    plan = make_plan(config, describe_all(config), chosen, RECIPES["tiny"], counts, Machine(), embedder)
    told = {}
    for line in log_of(tmp_path / "atlas", report):
        if line["event"] == "committed":
            stage, slug, *_ = line["unit"].replace("/", " ").split()
            job = plan.job(stage, slug)
            assert job is not None
            told[line["unit"]] = (BASE["cpu"] + job.needs[line["batch"]]) / line["peak_bytes"]
    done, planned = {unit.split()[0] for unit in told}, {job.stage.name for job in plan.jobs if job.cuts}
    assert done == planned - (set() if "visualize" in stages else {"judge"}), "without pictures there are none to judge"
    assert all(1 / 1.5 < ratio < 1.5 for ratio in told.values()), told
