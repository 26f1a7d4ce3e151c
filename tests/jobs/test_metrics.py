"""What a run tells a monitor: the counters are true, and the dashboard and the docs name what the code exports."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.units import Identity, Images, Neurons, WorkUnit
from jobs import metrics
from jobs.graph import Graph, Job
from jobs.metrics import METRICS, Meters, Metric, by_ray
from jobs.plan import Job as PlannedJob
from jobs.plan import Machine, Plan
from jobs.progress import Progress
from jobs.stages import STAGES
from tests.jobs.conftest import Runner
from tests.jobs.tiny import UNITS

REPO = Path(__file__).parents[2]
OWN = Identity("f", "s")
STAGE = {stage.name: stage for stage in STAGES}
PICTURES = [Neurons(0, 0, 16), Neurons(0, 16, 32)]
SLICES = [Images(0, 60), Images(60, 100)]


class Kept:
    """What Ray keeps, in a dictionary: values by name and tags."""

    def __init__(self) -> None:
        self.values: Counter[tuple[Any, ...]] = Counter()

    def __call__(self, metric: Metric) -> Any:
        kept = self

        class One:
            def inc(self, value: float, tags: dict[str, str]) -> None:
                assert metric.counts
                assert value > 0, "Ray takes no 0"
                assert tuple(tags) == metric.tags
                kept.values[metric.name, *tags.values()] += value

            def set(self, value: float) -> None:
                assert not metric.counts
                kept.values[metric.name,] = value

        return One()


def begun() -> Progress:
    wanted = [("visualize", PICTURES, (16.0, 16.0)), ("probe", SLICES, (0.6, 0.4))]
    planned = tuple(PlannedJob(STAGE[name], "zoo-vit", tuple(cuts), flops) for name, cuts, flops in wanted)
    graph = Graph([Job(STAGE[name], "zoo-vit", OWN, cuts, []) for name, cuts, _ in wanted])
    return Progress(Plan((), planned, Machine(), {}), graph, io.StringIO())


def unit(stage: str, cut: Neurons | Images) -> WorkUnit:
    return OWN.unit(stage, "zoo-vit", cut)


def test_units_seconds_neurons_and_images_by_stage_and_model() -> None:
    kept, progress = Kept(), begun()
    meters = Meters(kept)
    done = [(unit("visualize", PICTURES[0]), 8.0), *((unit("probe", cut), 1.5) for cut in SLICES)]
    done.append((unit("probe", Images(0, 100)), 0.0))  # the merge of the slices: no image again, and no time
    for one, seconds in done:
        meters.committed(one, seconds, counts=progress.committed(one, seconds))
    meters.retrying(unit("visualize", PICTURES[1]))
    meters.gave_up(unit("visualize", PICTURES[1]))
    meters.lost()
    assert kept.values == {
        ("atlas_units", "visualize", "zoo-vit"): 1,
        ("atlas_units", "probe", "zoo-vit"): 3,
        ("atlas_worker_seconds", "visualize", "zoo-vit"): 8.0,
        ("atlas_worker_seconds", "probe", "zoo-vit"): 3.0,
        ("atlas_neurons", "visualize", "zoo-vit"): 16,
        ("atlas_images", "probe", "zoo-vit"): 100,
        ("atlas_retries", "visualize", "zoo-vit"): 1,
        ("atlas_failures", "visualize", "zoo-vit"): 1,
        ("atlas_workers_lost",): 1,
    }


def test_the_state_of_a_run_is_told_now_and_then_and_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, progress = Kept(), begun()
    meters, now = Meters(kept), [100.0]
    monkeypatch.setattr(metrics.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "outlook", lambda: (0.25, 90.0))
    progress.workers, progress.at_work = 3, 2
    meters.tick(progress)
    told = {"atlas_workers": 3, "atlas_units_at_work": 2, "atlas_work_share": 0.25, "atlas_seconds_left": 90.0}
    assert {name: value for (name,), value in kept.values.items()} == told
    progress.workers = 4
    now[0] += metrics.EVERY_SECONDS / 2
    meters.tick(progress)
    assert kept.values["atlas_workers",] == 3
    now[0] += metrics.EVERY_SECONDS / 2
    meters.tick(progress)
    assert kept.values["atlas_workers",] == 4
    for count in progress.stages.values():
        count.done = count.total
    meters.tell(progress)
    assert (kept.values["atlas_work_share",], kept.values["atlas_seconds_left",]) == (1.0, 0.0)


def test_without_a_cluster_nothing_is_kept() -> None:
    meters, progress = Meters(), begun()
    meters.committed(unit("probe", SLICES[0]), 1.0)
    meters.gave_up(unit("probe", SLICES[0]))
    meters.lost()
    meters.tick(progress)
    meters.tell(progress)
    assert not meters._kept


def test_rays_own_take_what_is_told() -> None:
    made = {metric: by_ray(metric).info for metric in METRICS}
    assert all(info["name"] == metric.name and info["tag_keys"] == metric.tags for metric, info in made.items())
    meters = Meters(by_ray)
    meters.committed(unit("visualize", PICTURES[0]), 2.0)
    meters.lost()
    meters.tell(begun())


def test_the_dashboard_asks_for_what_the_code_exports() -> None:
    board = json.loads((REPO / "examples" / "grafana.json").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    exported = {metric.exported: metric for metric in METRICS}
    assert {name for expression in asked for name in re.findall(r"ray_\w+", expression)} == set(exported)
    for panel in board["panels"]:
        for target in panel["targets"]:
            (name,) = re.findall(r"ray_\w+", target["expr"])
            grouped = re.search(r"by \(([^)]+)\)", target["expr"])
            labels = grouped[1].split(", ") if grouped else []
            assert set(labels) <= set(exported[name].tags)
            assert re.findall(r"{{(\w+)}}", target["legendFormat"]) == labels
            assert ("rate(" in target["expr"]) <= exported[name].counts
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_the_docs_name_every_metric_with_its_sentence() -> None:
    page = (REPO / "docs" / "cluster.md").read_text()
    for metric in METRICS:
        assert f"| `{metric.exported}` | {metric.means} | {', '.join(metric.tags) or '-'} |" in page
    assert set(re.findall(r"`(ray_atlas\w+)`", page)) == {metric.exported for metric in METRICS}


@pytest.mark.slow
def test_a_run_on_a_cluster_counts_what_it_did(
    run_into: Runner, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept()
    monkeypatch.setattr("jobs.driver.by_ray", kept)
    report = run_into(tmp_path / "atlas", "start=raise", address="auto")
    assert report.exit_code == 0
    slug = "zoo-vit--random"
    assert kept.values["atlas_units", "visualize", slug] == report.units_done == UNITS
    assert kept.values["atlas_neurons", "visualize", slug] == 128
    assert kept.values["atlas_worker_seconds", "visualize", slug] > 0
    assert kept.values["atlas_retries", "visualize", slug] == 1
    assert (kept.values["atlas_work_share",], kept.values["atlas_seconds_left",]) == (1.0, 0.0)
    assert kept.values["atlas_workers",] > 0

    alone = Kept()
    monkeypatch.setattr("jobs.driver.by_ray", alone)
    assert run_into(tmp_path / "alone").exit_code == 0
    assert not alone.values
