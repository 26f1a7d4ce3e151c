"""Memory as a resource: what a unit took of it, measured, and how many images fit at a time into what there is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import heap

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # written to clear_refs, it makes VmHWM begin anew (man 5 proc)


@dataclass(frozen=True)
class Peak:
    """What a unit took: bytes at the highest, the images in a forward that it was done with in the end, and seconds of
    processors, which do not count what others took of this machine meanwhile.
    """

    process: int = 0  # resident
    device: int = 0  # allocated by torch on a GPU; 0 where there is none
    batch: int = 0
    cpu_seconds: float = 0.0


class Gauge:
    """Measures from the moment it is made; one at a time in a process, as the system keeps one peak."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        with contextlib.suppress(OSError):  # where this is not allowed, the peak is that since the process began
            _CLEAR.write_text(_FORGET_PEAK)
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()

    @property
    def peak(self) -> Peak:
        """The highest since then."""
        if not self._cuda:
            return Peak(_resident_peak())
        import torch

        return Peak(_resident_peak(), torch.cuda.max_memory_allocated())


def give_back() -> None:
    """Return to the system what was freed: allocators keep it, over a GB after large sums, and count as taking it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    heap.give_back()


def _resident_peak() -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # never falls: of the whole life of the process
    return most if sys.platform == "darwin" else most << 10


BASE = {"cpu": 1.2e9, "mps": 1.2e9, "cuda": 3.5e9}
"""Bytes of a worker's process beside models and batches: Python, torch and its libraries, Ray. On Linux 0.87 GB were
measured before the first unit and 1.2 GB after some; what CUDA adds was not measured."""

MOST_BATCH = {"cpu": 32, "mps": 32, "cuda": 256}
"""Images in one forward where memory allows; more makes no device quicker."""

EASY_BATCH = {"cpu": 8, "mps": 8}
"""Images in one forward that are enough to be quick: rather fewer workers than smaller batches."""

ENOUGH = {"cpu": 3.4e9}
"""Bytes of a worker's process beyond which a larger batch is not asked for, nor is kept what other units loaded: it
makes no CPU quicker, and others live there too. Stages take up to 1.2 times what they say, so that a worker of a model
of usual size stays within 4 GB. A GPU is its worker's own.
"""

UNLIMITED = sys.maxsize
"""Bytes, where nobody says how many there are."""


def batches(device: str) -> tuple[int, ...]:
    """The batches that may be chosen, the largest first: each half the one before, so that nearly the same memory
    gives the same batch, and with it the same last bits of every number.
    """
    most = MOST_BATCH[device]
    return tuple(most >> halvings for halvings in range(most.bit_length()))


def fitting_batch(need: Callable[[int], float], room: float, device: str) -> int:
    """The largest batch for which `need(batch)` bytes fit into `room`, and into what is enough; 1 where none does."""
    room = enough(room, device)
    return next((batch for batch in batches(device) if need(batch) <= room), 1)


def enough(room: float, device: str) -> float:
    """Of `room` bytes for models and batches those that a worker takes as long as a unit needs no more."""
    return min(room, ENOUGH.get(device, UNLIMITED) - BASE[device])


def in_gigabytes(amount: float) -> str:
    """Bytes as people say them."""
    return f"{amount / 1e9:,.1f} GB"
