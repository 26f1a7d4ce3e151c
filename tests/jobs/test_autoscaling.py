"""A cluster whose nodes come with demand and go when idle, by Ray's own autoscaler; slow, as nodes have to start."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from atlas_schema.store import Store
from atlas_schema.validate import validate
from tests.jobs.conftest import Runner, neurons
from tests.jobs.ray_head import until_up
from tests.jobs.test_processes import REPO, wait_until
from tests.jobs.tiny import UNITS, flags

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# One worker is at these for so long that the other's node goes during the first, and has time to come for the second.
LAST = "visualize zoo-vit--random/mlp/1 units 48 to 63"
FIRST_VERDICT, OTHER_VERDICT = (f"verdict zoo-vit--random/mlp/1 units {units}" for units in ("0 to 31", "32 to 63"))
LONG = f"start@{LAST}=sleep:40;start@{FIRST_VERDICT}=sleep:60"
# Prints how many nodes with CPUs are alive, whenever that changes; a process of its own, as Ray ends one that loses its
# head.
WATCH = """
import sys, time
from ray._raylet import GcsClient
client, before = GcsClient(sys.argv[1]), None
while True:
    nodes = client.get_all_node_info().values()
    now = sum(node.state == 0 and node.resources_total.get("CPU", 0) > 0 for node in nodes)
    if now != before:
        print(now, flush=True)
    before = now
    time.sleep(0.2)
"""
BOTH = "visualize,verdict"  # verdicts of a layer can begin when all its pictures are there


class Scaled:
    """A head without CPUs, and up to two nodes of one CPU each that its autoscaler starts and ends."""

    def __init__(self, folder: Path) -> None:
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.address = f"{host}:{probe.getsockname()[1]}"
        node = {"node_config": {}, "resources": {"CPU": 1, "memory": 4 << 30, "object_store_memory": 100 << 20}}
        lists = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
        made = {
            "cluster_name": "small",
            "max_workers": 2,
            "idle_timeout_minutes": 0.1,
            "upscaling_speed": 1.0,
            "provider": {
                "type": "external",
                "module": "tests.jobs.small_nodes.SmallNodes",
                "gcs_address": self.address,
                "use_node_id_as_ip": True,  # all nodes have the address of this machine
                "disable_node_updaters": True,  # nothing is to be installed on them
                "disable_launch_config_check": True,
            },
            "auth": {"ssh_user": "nobody"},
            "docker": {},
            "cluster_synced_files": [],
            "file_mounts": {},
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"node_config": {}, "resources": {"CPU": 0}, "max_workers": 0},
                "small": {**node, "min_workers": 0, "max_workers": 2},
            },
            **{f"{name}_commands": [] for name in lists},
        }
        file = folder / "cluster.json"
        file.write_text(json.dumps(made))
        command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--num-cpus=0"]
        options = ["--num-gpus=0", "--include-dashboard=false", "--object-store-memory=100000000"]
        port = f"--port={self.address.rpartition(':')[2]}"
        self.environment = {**os.environ, "PYTHONPATH": str(REPO), "RAY_AUTH_MODE": "disabled"}
        self.head = subprocess.Popen(
            [*command, *options, port, f"--autoscaling-config={file}", "--disable-usage-stats"],
            env={**self.environment, "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until_up(self.head)
        self.seen = folder / "nodes"
        with self.seen.open("w") as file:
            self.watch = subprocess.Popen(
                [sys.executable, "-c", WATCH, self.address], stdout=file, env=self.environment
            )

    def nodes(self) -> list[int]:
        """How many nodes with CPUs there were, each time that it changed."""
        return [int(line) for line in self.seen.read_text().splitlines()]


@pytest.fixture
def scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scaled]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = Scaled(tmp_path)
    yield made
    try:
        wait_until(lambda: made.nodes()[-1] == 0, 60)  # the nodes are the autoscaler's: it ends them
    finally:
        made.watch.kill()
        made.watch.wait()
        made.head.terminate()
        made.head.wait(timeout=60)


def test_a_node_goes_while_one_worker_is_at_a_long_unit_and_comes_again_for_what_it_leads_to(
    scaled: Scaled, run_into: Runner, tmp_path: Path
):
    folder = tmp_path / "scaled"
    command = [sys.executable, "-m", "tests.jobs.tiny", "run"]
    options = {"out": folder, "address": scaled.address, "idle_seconds": 2, "stages": BOTH}
    marks = {"ATLAS_FAILPOINTS": LONG, "ATLAS_FAILPOINT_MARKS": str(tmp_path)}
    driver = subprocess.Popen(
        [*command, *flags(**options)],
        env={**scaled.environment, **marks},
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = driver.communicate(timeout=400)
    assert driver.returncode == 0, errors
    nodes = " ".join(map(str, scaled.nodes()))
    assert nodes.startswith("0 ")
    assert "2 1 2" in nodes, "one went while the other worked, and one came again"
    assert f"{UNITS + 2} units done" in output or "0 failed" in output
    assert "was lost" not in errors
    log = [json.loads(line) for file in folder.glob(".atlas/logs/*.jsonl") for line in file.open()]
    assert "workers let go" in {line["event"] for line in log}
    done = {line["unit"]: line["worker"] for line in log if line["event"] == "committed"}
    assert done[OTHER_VERDICT] != done[FIRST_VERDICT], "the node that came again took what was ready"

    report = run_into(tmp_path / "here", stages=BOTH)
    assert report.exit_code == 0
    assert neurons(folder).equals(neurons(tmp_path / "here"))
    assert validate(Store(str(folder))) == []
