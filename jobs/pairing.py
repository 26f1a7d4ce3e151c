"""Which models of a run are compared: every pair, each with the hash that names the comparison."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

from atlas_schema.parts import WorkUnit


@dataclass(frozen=True)
class Pair:
    """Two models (or one, with itself) and the hash that names their comparison."""

    first: str
    second: str
    settings: str


def pairs_of(rows: Sequence[Mapping[str, Any]], probe_set: str, images: int) -> list[Pair]:
    """Every pair of the models, each model with itself too. rows: of the models table."""
    from pipeline.match.counterparts import MatchSettings

    made = []
    for first, second in combinations_with_replacement(sorted(rows, key=lambda row: str(row["slug"])), 2):
        facts = (second["slug"], second["fingerprint"], probe_set, images, MatchSettings.grid, MatchSettings.partners)
        settings = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        made.append(Pair(first["slug"], second["slug"], settings))
    return made


def pair_units(pairs: Sequence[Pair], rows: Sequence[Mapping[str, Any]], images: int) -> list[WorkUnit]:
    prints = {row["slug"]: row["fingerprint"] for row in rows}
    return [WorkUnit("pairs", one.first, 0, 0, images, prints[one.first], one.settings, 0) for one in pairs]
