"""Clusters that lose a node, or their head, in the middle of a run: slow, as Ray has to be started several times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from atlas_schema.store import Store
from atlas_schema.validate import validate
from tests.jobs.conftest import Runner, neurons, parts
from tests.jobs.test_processes import REPO, Start, start, wait_until
from tests.jobs.tiny import UNITS, flags

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
