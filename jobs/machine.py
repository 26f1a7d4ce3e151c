"""Decides device, workers and threads, before work is divided into units."""

from __future__ import annotations

import json
import os
import platform
import sys

from atlas_schema.errors import BadConfig
from jobs.config import RunConfig
from jobs.plan import Machine

WORKER_MEMORY = 2 << 30  # bytes a CPU worker may need: torch, a model of the base size, one batch


def local_machine(config: RunConfig) -> Machine:
    """The machine this process runs on, as the config asks for it. Raises BadConfig for an absent device."""
    return arrange(config, gpus=local_gpus(), cores=cores(), memory=memory_bytes(), mps=has_mps())


def arrange(config: RunConfig, *, gpus: int, cores: int, memory: int, mps: bool = False) -> Machine:
    """Device, workers and threads for `gpus` GPUs, `cores` CPU cores and `memory` bytes."""
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
    if device == "cpu":
        threads = config.threads or 1
        workers = config.workers or max(1, min(cores // threads, memory // WORKER_MEMORY))
        return Machine("cpu", workers, config.threads or max(1, cores // workers))
    workers = config.workers or (gpus if device == "cuda" else 1)
    return Machine(device, workers, config.threads or max(1, min(4, cores // workers)))


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Main memory of this machine; no limit is assumed where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return sys.maxsize


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
            "cores": cores(),
            "processor": platform.processor() or platform.machine(),
            "system": platform.platform(terse=True),
            "python": platform.python_version(),
            "cluster": address or "local",
        },
        sort_keys=True,
    )
