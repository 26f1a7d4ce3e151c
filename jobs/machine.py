"""Decides device, workers and threads, before work is divided into units."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from atlas_schema.errors import BadConfig
from jobs.config import RunConfig
from jobs.memory import UNLIMITED
from jobs.plan import Machine

Needs = Callable[[str], float]

USABLE_SHARE = 0.9  # of the memory that is free now: the driver, Ray and others go on taking some


def local_machine(config: RunConfig, needs: Needs) -> Machine:
    """The machine this process runs on, as the config asks for it. Raises BadConfig for an absent device."""
    return arrange(config, gpus=local_gpus(), cores=cores(), memory=free_memory(), needs=needs, mps=has_mps())


def arrange(
    config: RunConfig, *, gpus: int, cores: int, memory: int, needs: Needs = lambda device: 0.0, mps: bool = False
) -> Machine:
    """Device, workers and threads for `gpus` GPUs, `cores` CPU cores and `memory` bytes of main memory.

    needs: bytes of main memory that a worker takes at ease, by device. As many workers as these allow, unless the
    user says how many.
    """
    device = config.device
    if config.address and not gpus and not cores and not (config.workers and device != "auto"):
        raise BadConfig(
            f"--address {config.address}: the cluster offers neither GPU nor CPU now. If it starts nodes on "
            "demand, say what is to come, for example --device cuda --workers 4."
        )
    if device == "auto":
        device = "cuda" if gpus else "mps" if mps else "cpu"
    if device == "cuda" and not gpus and not (config.address and config.workers):
        hint = (
            " On a cluster that starts its GPU nodes on demand, say how many with --workers." if config.address else ""
        )
        raise BadConfig(f"device cuda: no GPU was found here. Use --device cpu or auto.{hint}")
    if device == "mps" and not mps:
        raise BadConfig("device mps: this machine has no Metal device for torch. Use --device cpu or auto.")
    allowed = int(memory // max(needs(device), 1.0))
    if device == "cpu":
        threads = config.threads or 1
        workers = config.workers or max(1, min(cores // threads, allowed))
        return Machine("cpu", workers, config.threads or max(1, cores // workers), memory // workers)
    workers = config.workers or max(1, min(gpus, allowed) if device == "cuda" else 1)
    return Machine(device, workers, config.threads or max(1, min(4, cores // workers)), memory // workers)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of main memory that a run may take: what is free now, within the limit of a container; no limit is
    assumed where the system does not tell.
    """
    offers = [*_system_memory(), *_container_memory()]
    return int(USABLE_SHARE * min(offers)) if offers else UNLIMITED


def _system_memory() -> Iterator[int]:
    """What Linux takes for available; elsewhere all that there is."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) << 10
                return
    with contextlib.suppress(ValueError, OSError, AttributeError):
        yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _container_memory() -> Iterator[int]:
    """What is left below the limit of the control group: version 2, then 1. Its page cache can be given back."""
    for folder, limit, used, cache in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):  # absent, or "max": no limit
            most, taken = (int((Path(folder) / name).read_text()) for name in (limit, used))
            stat = dict(line.split() for line in (Path(folder) / "memory.stat").read_text().splitlines())
            yield max(0, most - taken + int(stat.get(cache, 0)))


def local_gpus() -> int:
    """CUDA devices of this machine, without opening a context on one in the driver."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def has_mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


def machine_json(machine: Machine, address: str | None) -> str:
    """The machine as the runs table keeps it."""
    return json.dumps(
        {
            "device": machine.device,
            "workers": machine.workers,
            "threads": machine.threads,
            "memory": machine.memory if machine.memory < UNLIMITED else None,
            "cores": cores(),
            "processor": platform.processor() or platform.machine(),
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            "cluster": address or "local",
        },
        sort_keys=True,
    )
