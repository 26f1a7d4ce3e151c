"""Where a new reader starts: the rules, on figures that are plain to see."""

from __future__ import annotations

from typing import Any

import pytest

from site_builder.start import candidates, head_start, neuron_starts

#: unit, status, verdict, label_status, label_auroc, clarity, polysemanticity, polysemanticity_p
NEURONS: list[tuple[Any, ...]] = [
    (0, "active", "holds", "labelled", 0.95, 0.5, 0.1, 0.9),
    (1, "active", "holds", "labelled", 0.91, 0.8, 0.9, 0.2),  # the clearest; in two clusters, but so are clouds
    (2, "active", "holds", "labelled", 0.89, 0.9, 0.2, 0.01),  # label not sure enough
    (3, "active", "holds", "unlabelled", 0.99, 0.9, 0.6, 0.05),  # the most of several things; no label
    (4, "active", "does not", "unlabelled", 0.99, 0.9, 0.5, 0.01),
    (5, "active", "does not", "labelled", 0.7, 0.9, None, None),  # fails, with a label
    (6, "inactive", "does not", "labelled", 0.99, 0.9, 0.9, 0.01),  # never fired on it
    (7, "active", None, None, None, None, None, None),
]
NAMES = ("unit", "status", "verdict", "label_status", "label_auroc", "clarity", "polysemanticity", "polysemanticity_p")


def columns(rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return dict(zip(NAMES, map(list, zip(*rows, strict=True)), strict=True))


def test_each_kind_of_neuron_is_chosen_by_its_rule() -> None:
    assert candidates(columns(NEURONS)) == {"clear": (1, 0.8), "several": (3, 0.6), "fails": (5, 0.7)}
    assert candidates(columns(NEURONS[7:])) == {}
    assert candidates({"unit": [0], "status": ["active"]}) == {}, "an atlas of pictures alone"


@pytest.mark.parametrize("first", [("a", 1), ("b", 0)])
def test_the_best_layer_wins_and_ties_go_to_the_lower_address(first: tuple[str, int]) -> None:
    layers = {("b", 0): {"clear": (9, 0.5)}, ("a", 1): {"clear": (3, 0.5), "fails": (8, 0.0)}}
    layers[first] = layers[first] | {"several": (4, 0.2)}
    found = neuron_starts(layers)
    assert found == {"clear": ("a", 1, 3), "several": (*first, 4), "fails": ("a", 1, 8)}
    assert list(found) == ["clear", "several", "fails"]


#: layer, head, label, ablation_effect, ablation_se, ablation_change
HEADS: list[tuple[Any, ...]] = [
    (0, 0, None, 0.5, 0.01, 0.9),
    (0, 1, "red", 0.02, 0.02, 0.1),  # not told from 0
    (1, 0, "dogs", 0.01, 0.004, 0.05),
    (1, 1, "cats", -0.2, 0.004, 0.2),  # the model does better without it
]


def heads(rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    names = ("layer", "head", "label", "ablation_effect", "ablation_se", "ablation_change")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def test_the_head_is_one_whose_ablation_costs_and_has_words() -> None:
    assert head_start({"vit": heads(HEADS)}) == ("vit", 1, 0, "dogs")
    unknown = [(*row[:3], None, None, row[5]) for row in HEADS]
    assert head_start({"vit": heads(unknown)}) == ("vit", 1, 1, "cats"), "where no answer is known"
    assert head_start({"vit": heads(HEADS[:1])}) is None
    assert head_start({}) is None
