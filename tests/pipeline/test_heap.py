"""What a process keeps of freed memory is given back in the middle of a long loop."""

import platform
import subprocess
import sys

import pytest

HOLES = """
import ctypes
from pipeline.heap import Heap, resident

LIBC = ctypes.CDLL(None)
LIBC.malloc.restype, LIBC.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
LIBC.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: from here on blocks come out of the heap, as after large ones were freed
heap, before = Heap(), resident()
blocks = []
for _ in range(100):  # 400 MB with something small between any two blocks, so that none of them is the heap's end
    blocks.append(LIBC.malloc(4 << 20))
    ctypes.memset(blocks[-1], 1, 4 << 20)
    LIBC.malloc(64)
for block in blocks:
    LIBC.free(block)
kept = resident() - before
heap.keep_small(growth=800 << 20)
untouched = resident() - before
heap.keep_small(growth=100 << 20)
print(kept >> 20, untouched >> 20, (resident() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps such holes")
def test_holes_are_given_back_once_the_process_has_grown() -> None:
    told = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True).stdout
    kept, untouched, left = map(int, told.split())
    assert kept > 350, "without this the heap keeps what was freed"
    assert untouched > 350, "not before it has grown by so much"
    assert left < 40
