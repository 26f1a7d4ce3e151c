"""Ray: start or join it, and run workers as actors behind the loop's `Executor` interface.

Plain actors with `max_restarts=0` and no task retries: an attempt is ours to count. Results are small
records; images travel as committed files only.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

# Before Ray is imported: it reads its environment once.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves workers wherever anything else runs

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from atlas_schema.errors import BadConfig, WorkFailed
from jobs.config import RunConfig
from jobs.events import Committed, Event, Fault, HeadLost, Ready, UnitFailed, WorkerLost
from jobs.memory import UNLIMITED, in_gigabytes
from jobs.node_labels import fits, selector
from jobs.plan import Machine
from jobs.signals import sigterm_kept
from jobs.task import Task
from jobs.worker import Answer, Worker, WorkerSettings

OBJECT_STORE_BYTES = 100 << 20  # receipts only; Ray refuses less than 75 MiB
BEAT_SECONDS = 5.0
NO_LABELS: Mapping[str, str] = MappingProxyType({})
MOST_RAY_MEMORY = 10**14  # bytes, where no limit is known: more Ray takes for a mistake
_LOW_ON_MEMORY = ("running low on memory", "ran out of memory", "OutOfMemoryError")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
HEAD_SECONDS = 15.0  # without an answer, before the head is taken for lost; after 60 Ray ends the driver's process
LONGEST_TEMP_DIR = 43  # characters: Ray adds up to 64 to make a socket path of at most 107


_ray: Any = ray  # its stubs know neither concurrency groups nor actor handles of a class chosen at run time


class WorkerActor(Worker):
    """`Worker` whose `beat` answers while `run` is busy."""

    @_ray.method(concurrency_group="beat")  # type: ignore[untyped-decorator]
    def beat(self) -> int:
        return super().beat()


@contextlib.contextmanager
def ray_session(address: str | None, machine: Machine | None) -> Iterator[None]:
    """Ray on this machine (`machine` says how large), or a cluster at `address`; shut down on the way out.

    A process that already runs Ray keeps its own.
    """
    if ray.is_initialized():
        yield
        return
    with sigterm_kept(signal.SIG_DFL):  # Ray may wait for a head that has gone, deaf to Python's handlers
        if address is not None:
            _join(address)
        else:
            assert machine is not None
            _start_local(machine)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    if ":" in address and "//" not in address and not Head(address).answers():  # Ray would ask for minutes
        raise BadConfig(
            f"--address {address}: nothing answers there. Give the head node's host:port (6379, unless it was started "
            "with another), or auto on a node of the cluster; leave it out to run on this machine."
        )
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadConfig(
            f"--address {address}: no Ray cluster can be joined there ({error}). Give the head node's "
            "host:port, or auto on a node of the cluster; leave it out to run on this machine."
        ) from error


def _start_local(machine: Machine) -> None:
    """Embedded: `local` whatever RAY_ADDRESS says, no dashboard, nothing written under HOME."""
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # else Ray would write one for all its clusters
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        ray.init(
            address="local",
            num_cpus=machine.workers * machine.threads,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=OBJECT_STORE_BYTES,
            # workers ask for memory by our own account of it; Ray's own of what is free would count twice
            _memory=min(machine.workers * machine.memory, MOST_RAY_MEMORY),
            _temp_dir=_temp_dir(),
        )
    except (RayError, RuntimeError, OSError, ValueError) as error:
        raise WorkFailed(f"Ray does not start on this machine: {_brief(error)}") from error


def _temp_dir() -> str | None:
    """None (Ray's own choice) where that can be written, else a short folder of our own."""
    common = os.path.join(tempfile.gettempdir(), "ray")
    if len(common) <= LONGEST_TEMP_DIR and (not os.path.exists(common) or os.access(common, os.W_OK)):
        return None
    return tempfile.mkdtemp(prefix="atlas-", dir="/tmp" if os.access("/tmp", os.W_OK) else None)


def _resources(labels: Mapping[str, str]) -> list[Mapping[str, float]]:
    """What the nodes with these labels have."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and fits(node.get("Labels", {}), labels)]


def cluster_size(labels: Mapping[str, str]) -> tuple[int, int, int]:
    """(GPUs, CPUs, bytes of memory) that the nodes of the joined cluster with these labels have now."""
    nodes = _resources(labels)
    gpus, cpus, memory = (sum(node.get(name, 0) for node in nodes) for name in ("GPU", "CPU", "memory"))
    return int(gpus), int(cpus), int(memory)


def memory_to_ask(machine: Machine, peak: float, labels: Mapping[str, str] = NO_LABELS) -> int:
    """What each worker asks Ray for: its peak, but no more than lets all of them start on the nodes there are."""
    nodes = [node.get("memory", 0.0) for node in _resources(labels)]
    shares = [max(nodes), sum(nodes) / machine.workers] if any(nodes) else []
    return int(min([peak, float(machine.memory), *shares]))


def on_every_node(do: Callable[..., None], *args: Any, seconds: float = 20.0) -> None:
    """Run a function once on each node; a node that does not do it in time is let be."""
    if not Head(ray.get_runtime_context().gcs_address).answers():
        return
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if nodes == [ray.get_runtime_context().get_node_id()]:  # no process need start for it
        do(*args)
        return
    with contextlib.suppress(RayError):
        tasks = [
            _ray.remote(num_cpus=0, max_retries=0)(do)
            .options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            .remote(*args)
            for node in nodes
        ]
        ray.wait(tasks, num_returns=len(tasks), timeout=seconds)


class Head:
    """Whether the head of the cluster still answers. Ray's own client waits a minute and then ends the process, without
    a word of what was done.
    """

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.address, self.clock = address, clock
        self.heard = self.asked = clock()

    def lost(self) -> bool:
        """Whether it has not answered for `HEAD_SECONDS`; it is asked every five seconds."""
        now = self.clock()
        if now - self.asked >= BEAT_SECONDS:
            if now - self.asked >= HEAD_SECONDS:  # it was not asked: the driver was busy elsewhere
                self.heard = now
            self.asked = now
            if self.answers():
                self.heard = now
        return now - self.heard >= HEAD_SECONDS

    def answers(self) -> bool:
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
        except OSError:
            return False
        return True

    @property
    def reason(self) -> str:
        return (
            f"the head of the Ray cluster at {self.address} does not answer any more; all its workers are lost. Start "
            "the cluster again"
        )


def _kernel_kills() -> int:
    """How often the kernel of this machine killed a process because memory ran out; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


class RayExecutor:
    """Workers as Ray actors; see `jobs.events.Executor`."""

    def __init__(
        self,
        settings: WorkerSettings,
        machine: Machine,
        peak: float = 0.0,
        beat_seconds: float = BEAT_SECONDS,
        labels: Mapping[str, str] = NO_LABELS,
    ):
        """peak: bytes of main memory that a worker takes at most. labels: of the nodes on which workers may be."""
        self._labels = dict(labels)
        self._settings = ray.put(settings)
        self._kills = _kernel_kills()
        self._asks = {
            "GPU": 1 if machine.device == "cuda" else 0,
            "CPU": machine.threads,
            "memory": memory_to_ask(machine, peak, labels),
        }
        self._class = _ray.remote(
            num_cpus=self._asks["CPU"],
            num_gpus=self._asks["GPU"],
            memory=self._asks["memory"] or None,
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={"beat": 1},
            runtime_env=_forwarded(),
        )(WorkerActor)
        self._spread: dict[str, Any] = {"scheduling_strategy": "SPREAD"}
        if self._labels:
            self._spread = {"label_selector": self._labels}  # Ray takes one of the two
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, Task | None]] = {}  # ref of ready(), begin() or run() -> worker, unit
        self._beats: dict[int, int] = {}
        self._beginning: dict[Any, tuple[Task, int, bool]] = {}  # ref of begin() -> what run() is then asked to do
        self._dead: list[Event] = []  # idle workers of whose end a beat told
        self._asked: dict[Any, int] = {}  # ref of beat() -> worker
        self._beat_seconds, self._beat_at = beat_seconds, time.monotonic()
        self._hired = 0

    @cached_property
    def _head(self) -> Head:
        return Head(ray.get_runtime_context().gcs_address)

    def clock(self) -> float:
        return time.monotonic()

    def hire(self) -> int:
        self._hired += 1
        worker = self._hired
        actor = self._class.options(**self._spread).remote(self._settings)
        self._actors[worker], self._beats[worker] = actor, 0
        self._calls[actor.ready.remote()] = (worker, None)
        return worker

    def assign(self, worker: int, unit: Task, attempt: int, *, alone: bool) -> None:
        ref = self._actors[worker].begin.remote()
        self._calls[ref], self._beginning[ref] = (worker, unit), (unit, attempt, alone)

    def wait(self, seconds: float) -> list[Event]:
        self._listen_for_beats()
        dead, self._dead = self._dead, []
        if self._head.lost():
            return [HeadLost(self._head.reason)]
        if dead or not self._calls:
            time.sleep(0.0 if dead else seconds)
            return dead
        ready, _ = ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        if ready:  # whatever else is there already
            ready, _ = ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        events = [self._event(ref, *self._calls.pop(ref)) for ref in ready]
        return [event for event in events if event is not None]

    def _event(self, ref: Any, worker: int, unit: Task | None) -> Event | None:
        """What an answered call means for the loop; None where a worker has come to its unit and is now asked to do it.

        `run` is asked for only then: an answer to `begin` still on its way when the worker dies would be lost with it.
        """
        beginning = self._beginning.pop(ref, None)
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            if unit is None:  # ready() raised: this worker can do no unit
                self.dismiss(worker)
                return WorkerLost(worker, str(error.cause or error), in_constructor=True)
            return UnitFailed(worker, unit, Fault(type(error.cause).__name__, str(error.cause), str(error)))
        except RayError as error:
            in_constructor = isinstance(error, RayActorError) and bool(getattr(error, "actor_init_failed", False))
            begun = unit is not None and beginning is None
            self.dismiss(worker)
            return WorkerLost(worker, _brief(error), in_constructor, self._for_memory(error), begun)
        if unit is None:
            return Ready(worker)
        if beginning is not None:
            self._calls[self._actors[worker].run.remote(*beginning)] = (worker, unit)
            return None
        return self._settled(worker, unit, answer)

    def _for_memory(self, error: RayError) -> bool:
        """Whether a worker was killed because memory ran out: by Ray, which says so, or by this machine's kernel, which
        counts. (Ray names the kernel as one possible reason whatever killed a worker.)
        """
        before, self._kills = self._kills, _kernel_kills()
        said = isinstance(error, OutOfMemoryError) or any(words in str(error) for words in _LOW_ON_MEMORY)
        return said or self._kills > before

    @staticmethod
    def _settled(worker: int, unit: Task, answer: Answer) -> Event:
        if answer.fault is not None:
            return UnitFailed(worker, unit, answer.fault)
        assert answer.receipt is not None
        return Committed(worker, unit, answer.receipt, answer.seconds, answer.peak)

    def _listen_for_beats(self) -> None:
        """Collect the beats that have come; ask again at most every `beat_seconds`."""
        if self._asked:
            come, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
            for ref in come:
                worker = self._asked.pop(ref)
                try:
                    self._beats[worker] = ray.get(ref)
                except RayError as error:
                    if all(called != worker for called, _ in self._calls.values()):  # else that call tells
                        self.dismiss(worker)
                        self._dead.append(
                            WorkerLost(worker, _brief(error), memory=self._for_memory(error), begun=False)
                        )
        if time.monotonic() - self._beat_at >= self._beat_seconds:
            self._beat_at = time.monotonic()
            starting = {worker for worker, unit in self._calls.values() if unit is None}
            for worker in self._actors.keys() - set(self._asked.values()) - starting:
                self._asked[self._actors[worker].beat.remote()] = worker

    def beat(self, worker: int) -> int:
        return self._beats.get(worker, 0)

    def shortage(self) -> str:
        """What a worker asks for, and what the nodes have of it."""
        has, free = _ray.cluster_resources(), _ray.available_resources()
        where = "".join(f" on a node with {name}={value}" for name, value in self._labels.items())
        names = {"GPU": "GPUs", "CPU": "CPUs"}
        asks = [f"{amount} {names[name]}" for name, amount in self._asks.items() if name in names and amount]
        there = [f"{has.get(name, 0):g} {names[name]} ({free.get(name, 0):g} free)" for name in names]
        if self._asks["memory"]:
            asks.append(f"{in_gigabytes(self._asks['memory'])} of memory")
        there.append(f"{in_gigabytes(has.get('memory', 0))} of memory ({in_gigabytes(free.get('memory', 0))} free)")
        return f"A worker asks for {', '.join(asks)}{where}; the nodes there are have {', '.join(there)}."

    def dismiss(self, worker: int) -> None:
        actor = self._actors.pop(worker, None)
        if actor is not None:
            with contextlib.suppress(RayError):
                ray.kill(actor)
        self._beats.pop(worker, None)
        self._calls = {ref: call for ref, call in self._calls.items() if call[0] != worker}
        self._beginning = {ref: asked for ref, asked in self._beginning.items() if ref in self._calls}
        self._asked = {ref: asked for ref, asked in self._asked.items() if asked != worker}


def _forwarded() -> dict[str, Any]:
    """Our own variables reach the workers, wherever they are and whenever they were set."""
    own = {name: value for name, value in os.environ.items() if name.startswith("ATLAS_")}
    return {"env_vars": own} if own else {}


def _brief(error: Exception) -> str:
    """One line: what Ray says, and the exception at the end of the remote traceback if there is one."""
    lines = [_COLOUR.sub("", line).strip() for line in str(error).strip().splitlines()] or [""]
    last = f" {lines[-1]}" if "Traceback" in str(error) or getattr(error, "actor_init_failed", False) else ""
    return f"{type(error).__name__}:{last or ' ' + lines[0]}"


def machine_of_cluster(config: RunConfig, needs: Callable[[str], float]) -> Machine:
    """What the joined cluster offers, as the config asks for it."""
    from jobs.machine import arrange

    gpus, cpus, memory = cluster_size(selector(config.node_label))
    return arrange(config, gpus=gpus, cores=cpus, memory=memory or UNLIMITED, needs=needs)
