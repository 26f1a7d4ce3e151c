"""Random numbers that belong to a neuron, not to a place in a batch.

Every draw comes from a counter-based generator keyed by what the draw is for: the recipe, the neuron's
address, the purpose and the run's seed. The step is the position in that stream. So the same neuron gets
the same numbers alone, in any batch, in any part, on any number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*key: object) -> np.random.Generator:
    """A generator that depends on `key` alone (Philox, keyed by SHA-256 of the parts' text).

    Parts are joined by a character that no address, hash or purpose holds, so two different keys never
    give one text.
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in key).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
