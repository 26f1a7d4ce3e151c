"""Whole drivers in processes of their own: kill -9, Ctrl-C, and two on one folder."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.errors import AtlasLocked
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.validate import validate
from jobs.lock import LOCK_PATH
from jobs.run_log import logged_runs, read_log
from tests.jobs.conftest import Runner, neurons, parts, snapshot
from tests.jobs.tiny import UNITS, flags

pytestmark = pytest.mark.timeout(900)
REPO = Path(__file__).parents[2]
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(folder, failpoints, **options): `neuron-atlas run` as a process; killed at the end if it is alive."""
    running = []

    def begin(folder: Path, failpoints: str, **options: Any) -> subprocess.Popen:
        marks = tmp_path / "process marks"
        marks.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "ATLAS_FAILPOINTS": failpoints,
            "ATLAS_FAILPOINT_MARKS": str(marks),
            "PYTHONPATH": str(REPO),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        }
        command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(out=str(folder), **options)]
        process = subprocess.Popen(
            command, env=environment, cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()


def wait_until(true: Callable[[], object], seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def workers_of(folder: Path) -> list[int]:
    """Workers of runs that keep the marks of their failpoints in this folder."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            told = environment.read_bytes().decode(errors="replace")
            title = (environment.parent / "cmdline").read_bytes().decode(errors="replace")
            if f"ATLAS_FAILPOINT_MARKS={folder}" in told and title.startswith("ray::WorkerActor"):
                found.append(int(environment.parent.name))
    return found


def test_a_killed_driver_is_resumed_where_it_stood(start: Start, run_into: Runner, clean: Path, tmp_path: Path):
    folder = tmp_path / "atlas"
    process = start(folder, "receipt#3=kill")
    _, errors = process.communicate(timeout=400)
    assert process.returncode == -signal.SIGKILL, errors
    assert (folder / LOCK_PATH).exists()
    wait_until(lambda: not workers_of(tmp_path))  # they notice and end; what they commit until then counts
    before = parts(folder)
    assert 3 <= len(before) < UNITS

    report = run_into(folder)
    assert (report.exit_code, report.units_done, report.units_reused) == (0, UNITS - len(before), len(before))
    assert before.items() <= parts(folder).items(), "nothing committed was done again"
    assert validate(Store(str(folder))) == []
    assert neurons(folder).equals(neurons(clean))
    assert [row["status"] for row in Atlas(str(folder)).runs()] == ["interrupted", "done"]


def test_a_second_driver_is_told_and_ctrl_c_ends_the_first_cleanly(
    start: Start, run_into: Runner, clean: Path, tmp_path: Path
):
    folder = tmp_path / "atlas"
    process = start(folder, "start=sleep:3!")
    wait_until(lambda: parts(folder) or process.poll() is not None)
    assert process.poll() is None, process.communicate()

    with pytest.raises(AtlasLocked, match=f"process {process.pid} on .*is writing to this atlas. Nothing was changed"):
        run_into(folder)

    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 130
    assert "Stopping: no new units" in errors
    assert "Traceback" not in errors
    assert "Run the same command again" in output
    assert not (folder / LOCK_PATH).exists()
    before = parts(folder)
    assert 0 < len(before) < UNITS
    assert Atlas(str(folder)).runs()[-1]["status"] == "interrupted"

    report = run_into(folder)
    assert (report.exit_code, report.units_done) == (0, UNITS - len(before))
    assert neurons(folder).equals(neurons(clean))


@pytest.mark.slow
def test_the_second_ctrl_c_ends_it_at_once(start: Start, tmp_path: Path):
    folder = tmp_path / "atlas"
    process = start(folder, "step=sleep:100!")
    log = folder / ".atlas/logs"
    wait_until(lambda: any('"started"' in file.read_text() for file in log.glob("*")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: any('"stopping"' in file.read_text() for file in log.glob("*")))
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 130
    assert time.monotonic() - began < 100, "the unit at work would have taken 400 s"
    assert "Traceback" not in errors
    assert not (folder / LOCK_PATH).exists()


@pytest.mark.slow
def test_sigterm_drains_for_as_long_as_it_is_told_to_and_ends_with_143(start: Start, run_into: Runner, tmp_path: Path):
    """Units at work are committed and none is begun; but nobody waits longer than the option says."""
    for drain_seconds, committed in ((60, 2), (1, 0)):
        folder = tmp_path / f"drained in {drain_seconds}"
        process = start(folder, "before_commit=sleep:12!", drain_seconds=drain_seconds)
        # both workers have done one: what they are at now has just begun
        wait_until(lambda: len(parts(folder)) >= 2 or process.poll() is not None)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        output, errors = process.communicate(timeout=200)
        took = time.monotonic() - began
        assert process.returncode == 143, errors
        assert f"have {drain_seconds} s to end" in errors
        assert "Run the same command again to do what is missing" in output
        assert not (folder / LOCK_PATH).exists()
        store = Store(str(folder))
        (run_id,) = logged_runs(store)
        events = [line["event"] for line in read_log(store, run_id)]
        after = events[events.index("stopping") :]
        assert (after.count("committed"), after.count("started")) == (committed, 0), f"within {took:.0f} s"
        wait_until(lambda: not workers_of(tmp_path))
        report = run_into(folder)
        assert (report.exit_code, report.units_done) == (0, UNITS - events.count("committed"))


STOPPED_BEFORE_UNITS = """
import os, signal, sys, time
import jobs.driver
from jobs.lock import LOCK_PATH
from jobs.cli import call
from tests.jobs import tiny

def signalled(*_):
    assert os.path.exists(os.path.join(sys.argv[1], LOCK_PATH)), "the lock is held"
    os.kill(os.getpid(), signal.{name})
    time.sleep(100)

jobs.driver.claim = signalled
sys.exit(call(["run", *tiny.flags(out=sys.argv[1])]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_before_there_are_units_ends_the_run_at_once_and_gives_the_lock_back(
    name: str, code: int, tmp_path: Path
):
    command = [sys.executable, "-c", STOPPED_BEFORE_UNITS.format(name=name), str(tmp_path / "atlas")]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=90)
    assert done.returncode == code, done.stderr
    assert "Stopped at once. What is committed stays. Run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "atlas" / LOCK_PATH).exists()


@pytest.mark.slow
def test_home_need_not_be_writable(tmp_path: Path):
    """As in a container with a read-only root: Ray may write no token under HOME."""
    home = tmp_path / "no" / "such" / "home"
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(REPO)}
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        environment.pop(name, None)
    (tmp_path / "no").write_text("a file where the folder would be")
    command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(out=str(tmp_path / "atlas"), units="0:2")]
    done = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="mounting a small file system of one's own needs user namespaces",
)
def test_a_full_disk_stops_the_run_and_a_larger_one_resumes_it(tmp_path: Path):
    """A real file system of 150 kB; then the same one, larger."""
    disk, atlas = tmp_path / "disk", tmp_path / "disk" / "atlas"
    disk.mkdir()
    run = shlex.join([sys.executable, "-m", "tests.jobs.tiny", "run", *flags(out=str(atlas))])
    validate_it = shlex.join([sys.executable, "-m", "tests.jobs.tiny", "validate", str(atlas)])
    script = f"""
        mount -t tmpfs -o size=150k none {disk} || exit 99
        {run}; echo "first $?"
        find {disk} -name '.*.tmp' | grep . && exit 98
        mount -o remount,size=20m {disk}
        {run}; echo "second $?"
        {validate_it}; echo "valid $?"
    """
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], env=environment, cwd=REPO, capture_output=True, text=True, timeout=800
    )
    said = done.stdout + done.stderr
    assert "first 1" in done.stdout, said
    assert "no space left" in said
    assert "Traceback" not in said
    assert "second 0" in done.stdout, said
    assert "valid 0" in done.stdout, said


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A cluster of one node, started as an administrator would, with a token: its address, and the environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPO),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 32,
        "RAY_worker_niceness": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}"]
    options = ["--num-cpus=2", "--num-gpus=0", "--include-dashboard=false", "--object-store-memory=100000000"]
    head = subprocess.Popen(
        [*command, *options, "--disable-usage-stats"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert head.stdout is not None
    said = []
    for line in head.stdout:
        said.append(line)
        if "--block" in line:  # it says so when all is up
            break
    assert head.poll() is None, said
    yield f"127.0.0.1:{port}", environment
    head.terminate()
    head.wait(timeout=60)


@pytest.mark.slow
def test_a_run_on_a_cluster_equals_one_on_this_machine(cluster, clean: Path, tmp_path: Path):
    address, environment = cluster
    folder = tmp_path / "atlas"
    command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(out=str(folder), address=address)]
    done = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert neurons(folder).equals(neurons(clean))


def test_a_refused_run_leaves_a_foreign_atlas_untouched_from_the_command_line(clean: Path):
    before = snapshot(clean)
    command = [sys.executable, "-m", "tests.jobs.tiny", "run", *flags(out=str(clean), seed=3)]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, env=environment, cwd=REPO, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "another seed (found 0, expected 3)" in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshot(clean) == before
