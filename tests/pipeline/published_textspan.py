"""TextSpan as published (2310.05916, Algorithm 1), on the contributions of every image: written for comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def published_text_span(contributions: Array, texts: Array, count: int, rank: int) -> tuple[list[int], Array]:
    """contributions: (images, e); texts: (texts, e). Indices of the texts, and what they rebuild (images, e)."""
    _, values, right = np.linalg.svd(contributions, full_matrices=False)
    right = right[: min(rank, int((values**2 > 1e-10 * values[0] ** 2).sum()))]
    pool = texts @ right.T @ right
    mean = contributions.mean(axis=0)
    left = contributions - mean
    rebuilt = np.zeros_like(left)
    chosen = []
    for _ in range(count):
        best = int(np.argmax((left @ pool.T).std(axis=0)))
        chosen.append(best)
        text = pool[best] / np.linalg.norm(pool[best])
        part = np.outer(left @ text, text)
        rebuilt += part
        left = left - part
        pool = pool - np.outer(pool @ text, text)
    return chosen, rebuilt + mean
