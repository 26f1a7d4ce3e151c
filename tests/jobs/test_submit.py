"""`neuron-atlas submit` against a head with its dashboard, in processes of their own; slow, as a head takes a while."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlas_schema.read import Atlas
from atlas_schema.store import Store
from jobs.run_log import logged_runs, read_log
from tests.jobs.conftest import Runner, neurons, parts
from tests.jobs.ray_head import until_up
from tests.jobs.test_processes import REPO, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
BIN = Path(sys.executable).parent
SMALL = {"models": ["zoo/vit"], "recipe": "fast", "layers": "0", "units": "0:8", "stages": "visualize", "device": "cpu"}
WORDS = ("--model", "zoo/vit", "--random-weights", "--layers", "0", "--stages", "visualize", "--device", "cpu")
FEW = (*WORDS, "--units", "0:8", "--threads", "1")
MANY = (*WORDS, "--units", "0:64", "--threads", "1", "--unit-seconds", "0.1")


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Cluster:
    """A head of two CPUs whose dashboard takes jobs."""

    def __init__(self) -> None:
        port, dashboard, agent = free_ports(3)
        self.address = f"http://127.0.0.1:{dashboard}"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPO), os.environ.get("PYTHONPATH", "")]),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "0" * 32,
            "RAY_worker_niceness": "0",
        }
        options = ["--num-cpus=2", "--num-gpus=0", "--object-store-memory=100000000", "--disable-usage-stats"]
        command = [str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
        options.append(f"--dashboard-agent-listen-port={agent}")  # other heads of this machine have Ray's own choice
        self.head = subprocess.Popen(
            [*command, "--include-dashboard=true", "--dashboard-host=127.0.0.1", *options],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until_up(self.head)

    def submit(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "neuron-atlas"), "submit", "--address", self.address, *words],
            env={**self.environment, **environment},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=400,
        )

    def jobs(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ray's own command for jobs, as `submit` tells users to call it."""
        command = [str(BIN / "ray"), "job", *words, "--address", self.address]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.head.terminate()
    made.head.wait(timeout=60)


def job_of(done: subprocess.CompletedProcess[str]) -> str:
    assert "Job atlas-" in done.stderr, done.stderr
    return done.stderr.split("Job ")[1].split(":")[0]


def test_plan_run_and_status_of_a_cluster_from_outside(cluster: Cluster, run_into: Runner, tmp_path: Path):
    """The same atlas as a run here; the texts of a config go with the job; exit codes come back."""
    here, there = tmp_path / "here", tmp_path / "shared" / "there"
    config = tmp_path / "run.toml"
    config.write_text('recipe = "fast"\nunit_seconds = 0.5\n')
    mounted = ("--mounted", str(tmp_path / "shared"))

    planned = cluster.submit("--", "plan", *FEW, "--json", "--config", str(config))
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout[planned.stdout.index("{\n") :])["models"][0]["id"] == "zoo/vit"

    done = cluster.submit("--follow", *mounted, "--", "run", "--out", str(there), *FEW, "--config", str(config))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"8 neurons in {there}" in done.stdout
    state = cluster.jobs("status", job_of(done))
    assert "succeeded" in (state.stdout + state.stderr).lower()
    options = {**SMALL, "random_weights": True, "threads": 1, "workers": None, "unit_seconds": 0.5}
    assert run_into(here, **options).exit_code == 0
    assert neurons(there).equals(neurons(here))

    told = cluster.submit(*mounted, "--", "status", str(there))
    assert told.returncode == 0, told.stderr
    assert "zoo-vit--random" in told.stdout
    refused = cluster.submit("--wait", *mounted, "--", "run", "--out", str(there), *FEW, "--seed", "3")
    assert refused.returncode == 2, refused.stdout
    assert "another seed" in refused.stdout


def test_a_job_that_is_stopped_drains_and_the_same_command_goes_on(cluster: Cluster, tmp_path: Path):
    folder = tmp_path / "atlas"
    words = ("--mounted", str(tmp_path), "--", "run", "--out", str(folder), *MANY)
    marks = {"ATLAS_FAILPOINTS": "before_commit=sleep:6!", "ATLAS_FAILPOINT_MARKS": str(tmp_path)}
    begun = cluster.submit(*words, **marks)
    assert begun.returncode == 0, begun.stderr
    job = job_of(begun)
    wait_until(lambda: parts(folder), 200)
    stopped = cluster.jobs("stop", job)
    assert stopped.returncode == 0, stopped.stderr
    store = Store(str(folder))
    (run_id,) = logged_runs(store)
    log = list(read_log(store, run_id))
    events = [line["event"] for line in log]
    (stopping,) = [line for line in log if line["event"] == "stopping"]
    assert (stopping["signal"], stopping["in_flight"]) == (15, 2)
    assert events[events.index("stopping") :].count("committed") == 2, "longer than the 3 s that Ray would wait"
    assert "started" not in events[events.index("stopping") :]
    assert Atlas(str(folder)).runs()[-1]["status"] == "interrupted"
    said = cluster.jobs("logs", job).stdout
    assert "Run the same command again" in said
    done = cluster.submit("--wait", *words)  # without the failpoints
    assert done.returncode == 0, done.stdout
    assert Atlas(str(folder)).runs()[-1]["status"] == "done"
