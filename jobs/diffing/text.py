"""A comparison, for people."""

from __future__ import annotations

from typing import Any

from jobs.diffing.diff import ModelDiff
from jobs.diffing.layers import OVERLAP

SHOWN = 10  # labels that changed, and heads whose texts did, at most


def text_of(diff: ModelDiff) -> str:
    """What was compared and how, a line a layer, the labels and heads that changed, and the overall line last."""
    lines = [f"A: {diff.first.name}", f"B: {diff.second.name}", how(diff), "", *_layers(diff)]
    for title, found in (
        ("Labels of kept neurons that changed", _labels(diff)),
        ("Heads whose texts changed", _heads(diff)),
    ):
        if found:
            more = [f"  ... and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
            lines += ["", f"{title}:", *found[:SHOWN], *more]
    return "\n".join([*lines, "", *diff.notes, overall(diff)])


def overall(diff: ModelDiff) -> str:
    """One line that says it all."""
    neurons = sum(one["neurons"] for one in diff.layers)
    counts = {fate: diff.count("a", fate) for fate in ("kept", "moved", "died", "silent")}
    parts = [f"{count:,} {fate} ({count / neurons:.1%})" for fate, count in counts.items()]
    line = f"Of {neurons:,} neurons of A: {', '.join(parts)}; in B {diff.count('b', 'appeared'):,} appeared."
    compared = sum(one[f"labels_{change}"] for one in diff.layers for change in ("same", "changed"))
    if compared:
        line += (
            f" {sum(one['labels_changed'] for one in diff.layers):,} of {compared:,} labels of kept neurons changed."
        )
    heads = [row for row in diff.rows if row["kind"] == "head"]
    if heads:
        line += f" The texts of {sum(row['fate'] == 'changed' for row in heads):,} of {len(heads):,} heads changed."
    return line


def how(diff: ModelDiff) -> str:
    """By what neurons were called alike."""
    by = "the share of strongest probe images in common" if diff.measure == OVERLAP else "the correlation of maps"
    return f"By {by}, at least {diff.rule.least:.2f}, at a false discovery rate of {diff.rule.discovery_rate:g} a layer"


_COLUMNS = (
    *(("layer", "layer"), ("neurons", "neurons"), ("kept", "a_kept"), ("moved", "a_moved"), ("died", "a_died")),
    *(("silent", "a_silent"), ("appeared", "b_appeared"), ("same", "median_same"), ("random", "median_random_pair")),
    *(("partner", "median_partner"), ("own twin", "median_stranger"), ("labels", "labels_changed")),
    *(("status", "status_changed"), ("verdict", "verdict_changed")),
)


def _layers(diff: ModelDiff) -> list[str]:
    head = " ".join(f"{title:>8}" for title, _ in _COLUMNS)
    return [head, *(" ".join(f"{_cell(one[name]):>8}" for _, name in _COLUMNS) for one in diff.layers)]


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def _labels(diff: ModelDiff) -> list[str]:
    kept = (row for row in diff.rows if row["kind"] == "neuron" and row["side"] == "a" and row["fate"] == "kept")
    rows = [row for row in kept if row["label_change"] == "changed"]
    return [f"  {row['address']}: {row['label']} -> {row['label_there']}" for row in rows]


def _heads(diff: ModelDiff) -> list[str]:
    rows = [row for row in diff.rows if row["kind"] == "head" and row["fate"] == "changed"]
    rows.sort(key=lambda row: row["same_likeness"] or 0.0)
    return [f"  {row['address']}: {_first(row['texts'])} -> {_first(row['texts_there'])}" for row in rows]


def _first(texts: list[str]) -> str:
    return "; ".join(texts[:2]) or "no text"
