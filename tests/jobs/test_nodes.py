"""Clusters that lose a node, or their head, in the middle of a run: slow, as Ray has to be started several times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from atlas_schema.store import Store
from atlas_schema.validate import Depth, check, validate
from jobs.run_log import LOGS, logged_runs, read_log
from jobs.stages import groups, stages_of
from tests.jobs.conftest import Runner, committed, neurons, parts
from tests.jobs.test_drivers import tables
from tests.jobs.test_processes import REPO, Start, start, wait_until
from tests.jobs.tiny import SLICE, UNITS, flags

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
__all__ = ["start"]  # a fixture


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that does no work, for nodes to join."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def test_a_node_that_goes_costs_its_units_and_one_that_comes_does_them(cluster: Cluster, clean: Path, tmp_path: Path):
    first, _ = cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)
    folder = tmp_path / "atlas"
    environment = {
        **os.environ,
        "ATLAS_FAILPOINTS": "start=sleep:2!",
        "ATLAS_FAILPOINT_MARKS": str(tmp_path),
        "PYTHONPATH": str(REPO),
    }
    command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(out=str(folder), address=cluster.address)]
    driver = subprocess.Popen(
        command, env=environment, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: parts(folder) or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    cluster.remove_node(first, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    output, errors = driver.communicate(timeout=600)
    assert driver.returncode == 0, errors
    assert "was lost" in errors
    assert f"{UNITS} units done" in output
    assert neurons(folder).equals(neurons(clean))


def test_a_slice_of_the_demo_with_every_stage_on_two_nodes_of_which_one_is_killed_is_that_of_one_machine(
    cluster: Cluster, tmp_path: Path
):
    """All tables of all stages, row by row; texts to invert come from a file, as the demo's do from its own."""
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    (tmp_path / "prompts.txt").write_text("a red square\n")
    options = {**SLICE, "prompts": str(tmp_path / "prompts.txt")}

    def driver(out: Path, **more: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPO), **more.pop("environment", {})}
        command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(**{**options, "out": str(out), **more})]
        return subprocess.Popen(
            command, env=environment, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    shared, alone = tmp_path / "shared", tmp_path / "alone"
    slowly = {"ATLAS_FAILPOINTS": "start@probe*=sleep:3!", "ATLAS_FAILPOINT_MARKS": str(tmp_path)}
    first = driver(shared, address=cluster.address, environment=slowly)

    def at_the_probe() -> bool:
        return any('"started", "unit": "probe' in file.read_text() for file in (shared / LOGS).glob("*"))

    wait_until(lambda: first.poll() is not None or at_the_probe())
    assert first.poll() is None, first.communicate()
    cluster.remove_node(nodes[0], allow_graceful=False)
    cluster.add_node(num_cpus=1)
    output, errors = first.communicate(timeout=600)
    assert first.returncode == 0, errors
    assert "was lost" in errors
    assert "0 failed" in output
    second = driver(alone)
    output, errors = second.communicate(timeout=600)
    assert second.returncode == 0, errors

    every = {stage.name for stage in stages_of(groups(), ("placed",), ("fast",))}
    assert {unit.split()[0] for unit in committed(shared)} == every
    assert {unit.split()[0] for unit in committed(alone)} == every
    assert tables(Store(str(shared))) == tables(Store(str(alone)))
    assert list(check(Store(str(shared)), Depth.DEEP).violations) == []


def test_workers_are_on_nodes_with_the_label_alone(cluster: Cluster, tmp_path: Path):
    """Two are asked for, and the node with the label has room for one; the other node is left alone."""
    cluster.add_node(num_cpus=1, labels={"kind": "big"}), cluster.add_node(num_cpus=2, labels={"kind": "small"})
    command = [sys.executable, "-m", "tests.jobs.tiny", "run"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    for label, workers in (("kind=big", 1), ("kind=!big", 2), ("kind=none", 0)):
        folder = tmp_path / label
        words = flags(out=str(folder), address=cluster.address, node_label=label, workers=None)
        done = subprocess.run(
            [*command, *words], env=environment, cwd=REPO, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == (0 if workers else 2), done.stderr
        if not workers:
            assert "the cluster offers neither GPU nor CPU now" in done.stderr
            continue
        store = Store(str(folder))
        (run_id,) = logged_runs(store)
        lines = [line for line in read_log(store, run_id) if line["event"] == "started"]
        assert len({line["worker"] for line in lines}) == workers, "as many as the labelled nodes have CPUs"


def test_the_loss_of_the_head_ends_a_run_with_a_report(start: Start, run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    driver = start(folder, "start=sleep:5!")
    wait_until(lambda: parts(folder) or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    os.kill(head_of(driver.pid), signal.SIGKILL)
    output, errors = driver.communicate(timeout=120)
    assert driver.returncode == 1, errors
    assert "the head of the Ray cluster at" in output
    assert "Run the same command again" in output
    assert "Traceback" not in errors
    done = len(parts(folder))
    report = run_into(folder)
    assert (report.exit_code, report.units_done) == (0, UNITS - done)
    assert neurons(folder).equals(neurons(clean))
    assert validate(Store(str(folder))) == []


def head_of(driver: int) -> int:
    """The process of the head that a driver started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if name.endswith("(gcs_server") and int(rest.split()[1]) == driver:
            return int(stat.parent.name)
    raise AssertionError("the driver started no head")
