"""How near two tensors are, measured by the scale of what is expected: the same digits whatever the unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch


def assert_close(found: Any, expected: Any, digits: float, what: str = "", *, at_most: float = math.inf) -> None:
    """The largest difference is at most `digits` times the largest expected number, and at most `at_most` whatever the
    scale; shapes and gaps (NaN) are equal.
    """
    one, other = (
        torch.as_tensor(np.array(given) if isinstance(given, np.ndarray) else given).double()
        for given in (found, expected)
    )
    assert one.shape == other.shape, what
    assert torch.equal(one.isnan(), other.isnan()), what
    scale = float(other.nan_to_num().abs().max()) if other.numel() else 0.0
    worst = float((one - other).nan_to_num().abs().max()) if other.numel() else 0.0
    allowed = min(digits * scale, at_most)
    assert worst <= allowed, f"{what}: off by {worst:.1e} where {allowed:.1e} is allowed, at a scale of {scale:.1e}"
