"""The difference of two models, neuron by neuron and head by head, with totals a layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from atlas_schema.errors import NothingThere
from jobs.diffing.heads import head_rows
from jobs.diffing.layers import CORRELATION, LEAST, LayerOfSide, layer_of, likeness_of, measure_of, no_correlations
from jobs.diffing.sides import Side, require_comparable
from pipeline.compare.fates import Fate, Fates, Rule, fates, random_pairs
from pipeline.compare.likeness import NO_PARTNER, LayerLikeness

Row = dict[str, Any]

SILENT = "silent"
GONE = {"a": "died", "b": "appeared"}
FATES = {"a": ("kept", "moved", "died", SILENT), "b": ("kept", "moved", "appeared", SILENT)}


@dataclass(frozen=True)
class ModelDiff:
    """What became of the neurons and heads of one model in another.

    measure, rule: by what, and above which likeness and at which false discovery rate, neurons were compared
    rows: those of the table model_diffs (jobs/diffing/table.py), of neurons by side, layer and unit, then of heads
    layers: totals of each FFN layer
    notes: what was not compared, or is to be known beside the figures, a sentence each
    """

    first: Side
    second: Side
    measure: str
    rule: Rule
    rows: list[Row]
    layers: list[Row]
    notes: list[str]

    def count(self, side: str, fate: str) -> int:
        """Neurons of one side, a or b, with this fate, over all layers."""
        return sum(one[f"{side}_{fate}"] for one in self.layers)


def compare(
    first: Side, second: Side, *, by: str | None = None, least: float | None = None, discovery_rate: float = 0.05
) -> ModelDiff:
    """Everything that the tables of two models tell of their difference.

    by: the measure, or None for the better of those at hand. least: likeness that counts (None: that of the measure).
    Raises BadConfig and NothingThere where the two cannot be compared, naming the cause and what to do.
    """
    require_comparable(first, second)
    measure = measure_of(first, second, by)
    rule = Rule(LEAST[measure] if least is None else least, discovery_rate)
    rows: dict[str, list[Row]] = {"a": [], "b": []}
    layers, notes = [], [*_weights(first, second), *_by_images(first, second, measure, by)]
    for layer in (site["layer"] for site in first.sites if site["kind"] == "ffn"):
        if layer not in first.atlas.layers(first.slug) and layer not in second.atlas.layers(second.slug):
            notes.append(f"Layer {layer} is in neither atlas: it was not compared.")
            continue
        whole = [layer_of(side, layer) for side in (first, second)]
        a, b = _shared(*whole)
        if not a.facts:
            raise NothingThere(f"layer {layer}: {first.name} and {second.name} hold none of the same units")
        alike = likeness_of(first, second, layer, a, b, measure)
        found = {"a": fates(alike, rule), "b": fates(alike.turned(), rule)}
        rows["a"] += _rows("a", (first, second), layer, (a, b), (alike, found["a"]), measure)
        rows["b"] += _rows("b", (second, first), layer, (b, a), (alike.turned(), found["b"]), measure)
        only = [len(one.facts) - len(a.facts) for one in whole]
        layers.append(_totals(layer, rows, alike, found["a"], only))
    if not layers:
        raise NothingThere(f"{first.name} and {second.name}: no neuron of either is there. Run --stages probe first.")
    left_out = [sum(one[f"only_{side}"] for one in layers) for side in "ab"]
    if any(left_out):
        notes.append(f"Neurons of one atlas alone, not compared: {left_out[0]:,} of A, {left_out[1]:,} of B.")
    notes += _labels_comparable(rows["a"])
    heads, about_heads = head_rows(first, second)
    return ModelDiff(first, second, measure, rule, [*rows["a"], *rows["b"], *heads], layers, notes + about_heads)


def _weights(first: Side, second: Side) -> list[str]:
    same = first.model["fingerprint"] == second.model["fingerprint"]
    return ["Both have the same weights (fingerprint)."] if same else []


def _by_images(first: Side, second: Side, measure: str, wanted: str | None) -> list[str]:
    """Why images were compared where two models of one atlas could have had correlations."""
    if measure == CORRELATION or wanted or first.atlas is not second.atlas or first.slug == second.slug:
        return []
    return [f"By strongest images, since {no_correlations(first, second)}"]


def _shared(a: LayerOfSide, b: LayerOfSide) -> tuple[LayerOfSide, LayerOfSide]:
    """Both, of the units that both atlases hold."""
    both = a.facts.keys() & b.facts.keys()
    one, other = (
        LayerOfSide({unit: row for unit, row in side.facts.items() if unit in both}, side.silent & both)
        for side in (a, b)
    )
    return one, other


def _rows(
    side: str,
    models: tuple[Side, Side],
    layer: int,
    neurons: tuple[LayerOfSide, LayerOfSide],
    compared: tuple[LayerLikeness, Fates],
    measure: str,
) -> list[Row]:
    """A row for each neuron of a layer of the first of `models`, by unit."""
    (own, there), (alike, found) = neurons, compared
    place = {int(unit): index for index, unit in enumerate(alike.units)}
    made = []
    for unit in sorted(own.facts):
        facts, other = own.facts[unit], there.facts[unit]
        row = {
            "kind": "neuron",
            "side": side,
            "address": facts["address"],
            "address_there": other["address"],
            "layer": layer,
            "unit": unit,
            "fate": SILENT,
            "measure": measure,
            "silent_there": unit in there.silent,
            **{name: facts[name] for name in ("label", "status", "verdict")},
            **{f"{name}_there": other[name] for name in ("label", "status", "verdict")},
            "label_change": _label_change(facts, other),
        }
        if unit in place:
            row |= _fate(found, alike, place[unit], side)
            partner = int(found.partner[place[unit]])
            if partner != NO_PARTNER:
                nearest = there.facts[int(alike.units_there[partner])]
                row |= {"partner": nearest["address"], "partner_label": nearest["label"]}
        made.append(row)
    return made


def _fate(found: Fates, alike: LayerLikeness, index: int, side: str) -> Row:
    fate = found.fate[index]
    return {
        "fate": GONE[side] if fate == Fate.GONE else str(fate),
        "same_likeness": _finite(found.same[index]),
        "same_q": _finite(found.same_q[index]),
        "partner_likeness": _finite(found.best[index]),
        "partner_q": _finite(found.best_q[index]),
        "mutual": bool(found.mutual[index]),
    }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _label_change(facts: Row, other: Row) -> str | None:
    """same, changed, lost or gained, from A to B or from B to A as the row's side is; None where neither has one, or
    the labels are not of one list of texts and one embedder.
    """
    if any(facts[name] is None or facts[name] != other[name] for name in ("concept_set", "embedder")):
        return None
    ours, theirs = facts["label"], other["label"]
    if ours is None or theirs is None:
        return None if ours == theirs else ("gained" if ours is None else "lost")
    return "same" if ours == theirs else "changed"


def _labels_comparable(rows: Iterable[Row]) -> list[str]:
    apart = sum(bool(row["label"] and row["label_there"] and row["label_change"] is None) for row in rows)
    if not apart:
        return []
    return [
        f"The labels of {apart:,} neurons are of other texts or another embedder in B: they were not compared. Run the "
        "stage label with the same --concepts and --embedder on both."
    ]


def _totals(layer: int, rows: dict[str, list[Row]], alike: LayerLikeness, found: Fates, only: Sequence[int]) -> Row:
    """Counts of a layer (labels: of kept neurons), and the medians of likeness beside those of the nulls."""
    mine = {side: [row for row in rows[side] if row["layer"] == layer] for side in "ab"}
    total: Row = {"layer": layer, "neurons": len(mine["a"]), "only_a": only[0], "only_b": only[1]}
    for side in "ab":
        fate_counts = Counter(row["fate"] for row in mine[side])
        total |= {f"{side}_{fate}": fate_counts[fate] for fate in FATES[side]}
    changes = Counter(row["label_change"] for row in mine["a"] if row["fate"] == "kept")
    total |= {f"labels_{change}": changes[change] for change in ("same", "changed", "lost", "gained")}
    for name in ("status", "verdict"):
        both = [(row[name], row[f"{name}_there"]) for row in mine["a"]]
        total[f"{name}_changed"] = sum(x != y and x is not None and y is not None for x, y in both)
    null = random_pairs(alike)
    total |= {
        "median_same": _median(found.same),
        "median_random_pair": _median(null),
        "median_partner": _median(found.best),
        "median_stranger": _median(np.concatenate([alike.strangers, alike.strangers_there])),
    }
    return total


def _median(values: Any) -> float | None:
    """The median of values of which some may be unknown: minus infinity, below all others. None where it is unknown."""
    return _finite(np.median(values)) if len(values) else None
