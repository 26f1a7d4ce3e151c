"""Heads whose texts changed: by how many of their first texts both models' heads of one address share."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from jobs.diffing.sides import Side
from pipeline.compare.texts import share_of_texts, texts_of_different_heads

FIRST_TEXTS = 5
LEAST_SHARED = 0.5


def head_rows(first: Side, second: Side) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of model_diffs of all heads that both describe, by layer and head; and what is to be said of them.

    None where one model's heads are not described, or by other texts, another embedder or other images.
    """
    heads = [{(row["layer"], row["head"]): row for row in side.atlas.heads(side.slug)} for side in (first, second)]
    if not all(heads):
        lacking = [side.name for side, rows in zip((first, second), heads, strict=True) if not rows]
        return [], [f"Heads were not compared: those of {', '.join(lacking)} are not described (stage decompose)."]
    for name, option in (("text_pool", "texts"), ("embedder", "embedder"), ("probe_set", "probe set")):
        found = [{row[name] for row in rows.values()} for rows in heads]
        if found[0] != found[1]:
            named = " and ".join(", ".join(sorted(map(str, one))) for one in found)
            return [], [f"Heads were not compared: they are described by another {option} ({named})."]
    texts = [_texts(side) for side in (first, second)]
    both = sorted(heads[0].keys() & heads[1].keys())
    a, b = ([held.get(place, []) for place in both] for held in texts)
    chance = texts_of_different_heads(a, b)
    rows = []
    for place, ours, theirs in zip(both, a, b, strict=True):
        shared = share_of_texts(ours, theirs)
        rows.append(
            {
                "kind": "head",
                "side": "a",
                "address": heads[0][place]["address"],
                "address_there": heads[1][place]["address"],
                "layer": place[0],
                "unit": place[1],
                "fate": "kept" if shared is not None and shared >= LEAST_SHARED else "changed",
                "measure": "texts",
                "same_likeness": shared,
                "label": heads[0][place]["label"],
                "label_there": heads[1][place]["label"],
                "texts": ours,
                "texts_there": theirs,
            }
        )
    notes = (
        []
        if chance is None
        else [f"Two different heads share {chance:.0%} of their first {FIRST_TEXTS} texts, on average."]
    )
    return rows, notes


def _texts(side: Side) -> dict[tuple[int, int], list[str]]:
    """The first texts of each head, in the order in which they were chosen."""
    found: dict[tuple[int, int], list[str]] = defaultdict(list)
    for row in side.atlas.head_texts(side.slug):  # by layer, head and rank
        if row["rank"] < FIRST_TEXTS:
            found[row["layer"], row["head"]].append(row["text"])
    return found
