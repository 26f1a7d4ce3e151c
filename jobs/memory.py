"""What a unit takes of memory, measured: the highest that the process and its device held while it was done."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"  # written to clear_refs, it makes VmHWM begin anew (man 5 proc)


@dataclass(frozen=True)
class Peak:
    """Bytes at the highest: resident in the process, and allocated by torch on a GPU (0 where there is none)."""

    process: int = 0
    device: int = 0


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


def _resident_peak() -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # never falls: of the whole life of the process
    return most if sys.platform == "darwin" else most << 10
