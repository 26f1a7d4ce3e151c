"""The process's heap: what it keeps of freed memory, given back to the system.

glibc takes blocks of up to 32 MB out of heaps and keeps them there when they are freed, in holes that the next, larger
block does not fit into. Pushing the components of a Twins-L forward one by one, 0.3 GB in use grew heaps of 1.7 GB, in
some runs and not in others (docs/benchmarks/README.md). Giving holes back costs finding their pages again.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
GROWTH = (
    400_000_000  # bytes that a process may grow by before holes are given back: less gives the same pages back often
)


def give_back() -> None:
    """Return to the system what was freed."""
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


class Heap:
    """Gives holes back each time the process has grown; where a system does not tell its size, nothing happens."""

    def __init__(self) -> None:
        self.size = resident()

    def keep_small(self, growth: int = GROWTH) -> None:
        """Give holes back if the process has grown by `growth` bytes since they last were: for inside a long loop."""
        if resident() > self.size + growth:
            give_back()
            self.size = resident()


def resident() -> int:
    """Bytes of this process in main memory; 0 where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
