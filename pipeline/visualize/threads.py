"""What the processor does for many pictures while a device waits for it: noise, encoding, decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def each(do: Callable[[Given], Made], items: Iterable[Given]) -> list[Made]:
    """`do` of every item, in their order, in as many threads as torch computes with here.

    Pillow's encoders and NumPy's generators let other threads run meanwhile; a worker with one thread starts none. What
    `do` raises for the first item that fails is raised.
    """
    wanted = list(items)
    if min(torch.get_num_threads(), len(wanted)) <= 1:
        return [do(item) for item in wanted]
    return list(_pool(torch.get_num_threads()).map(do, wanted))


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Kept: inversions ask for noise in every step."""
    return ThreadPoolExecutor(threads)
