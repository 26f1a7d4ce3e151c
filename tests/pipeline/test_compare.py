"""The rule of `diff` on neurons whose fate is known: copies, permutations, strangers, and mixtures of them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.compare.fates import Fate, Rule, best_partners, fates, random_pairs
from pipeline.compare.likeness import (
    NO_PARTNER,
    LayerLikeness,
    Partners,
    by_correlation,
    by_images,
)
from pipeline.compare.texts import share_of_texts, texts_of_different_heads

WIDTH, STRONGEST, IMAGES, PARTNERS = 96, 9, 400, 5
RULE = Rule(least=1 / 3)
UNITS = np.arange(WIDTH)


def strongest(seed: int, width: int = WIDTH) -> np.ndarray:
    """(width, STRONGEST): strongest images of neurons that prefer one of 24 kinds of images, some images to all."""
    rng = np.random.default_rng(seed)
    kind, popular = np.arange(IMAGES) % 24, rng.normal(size=IMAGES) * 0.5
    wanted = rng.integers(24, size=width)
    drive = 2.0 * (kind[None] == wanted[:, None]) + popular[None] + rng.normal(size=(width, IMAGES))
    return np.argsort(-drive, axis=1)[:, :STRONGEST]


def alike(images: np.ndarray, there: np.ndarray) -> LayerLikeness:
    return by_images(np.arange(len(images)), images, np.arange(len(there)), there)


def counts(images: np.ndarray, there: np.ndarray) -> dict[str, int]:
    found = fates(alike(images, there), RULE).fate.tolist()
    return {fate: found.count(fate) for fate in Fate}


def correlated(maps: np.ndarray, there: np.ndarray) -> LayerLikeness:
    """From maps (neurons, places), as neuron_matches keeps them: the best few partners of each, all of one layer."""

    def partners(own: np.ndarray, other: np.ndarray) -> Partners:
        correlation = np.corrcoef(own, other)[: len(own), len(own) :]
        if own is other:
            np.fill_diagonal(correlation, -np.inf)
        best = np.argsort(-correlation, axis=1)[:, :PARTNERS]
        return Partners(best, np.take_along_axis(correlation, best, 1))

    units = np.arange(len(maps)), np.arange(len(there))
    return by_correlation(
        *units, partners(maps, there), partners(there, maps), partners(maps, maps), partners(there, there)
    )


def maps_of(seed: int, width: int = WIDTH, places: int = 600) -> np.ndarray:
    """Maps that have 12 causes in common, and one of their own."""
    rng = np.random.default_rng(seed)
    causes = np.random.default_rng(99).normal(size=(12, places))  # the same images for all
    return rng.normal(size=(width, 12)) @ causes + 4 * rng.normal(size=(width, places))


def test_a_model_and_itself_by_images() -> None:
    images = strongest(0)
    assert counts(images, images) == {Fate.KEPT: WIDTH, Fate.MOVED: 0, Fate.GONE: 0}


def test_a_model_and_itself_by_correlation() -> None:
    maps = maps_of(0)
    found = fates(correlated(maps, maps.copy()), Rule(least=0.5))
    assert set(found.fate) == {Fate.KEPT}
    assert np.allclose(found.same, 1)


@pytest.mark.parametrize("measure", ["images", "correlation"])
def test_permuted_neurons_have_moved_to_where_the_permutation_took_them(measure: str) -> None:
    order = np.roll(np.random.default_rng(3).permutation(WIDTH), 1)
    fixed = order == UNITS
    if measure == "images":
        layer, rule = alike(strongest(0), strongest(0)[order]), RULE
    else:
        layer, rule = correlated(maps_of(0), maps_of(0)[order]), Rule(least=0.5)
    for seen, expected in ((layer, np.argsort(order)), (layer.turned(), order)):
        found = fates(seen, rule)
        assert np.array_equal(found.partner, expected)
        assert np.array_equal(found.fate == Fate.MOVED, ~fixed)
        assert found.mutual.all()


def test_unrelated_models_are_at_the_false_discovery_rate() -> None:
    """Over 40 pairs of unrelated layers, at most 5 percent (with room for chance) have any call at all."""
    called = [set(fates(alike(strongest(2 * n), strongest(2 * n + 1)), Rule(least=0.0)).fate) for n in range(40)]
    assert sum(one != {Fate.GONE} for one in called) <= 6
    moved = [set(fates(correlated(maps_of(2 * n), maps_of(2 * n + 1)), Rule(least=0.0)).fate) for n in range(20)]
    assert sum(one != {Fate.GONE} for one in moved) <= 4


def test_a_null_of_single_pairs_would_call_unrelated_neurons_moved() -> None:
    """What the null of the second question is for: the best of many is more alike than one at random."""
    layer = alike(strongest(0), strongest(1))
    _, best, _ = best_partners(layer)
    assert np.mean(best > np.quantile(random_pairs(layer), 0.95)) > 0.5


def test_a_mixture_is_told_apart() -> None:
    """48 neurons stay, 30 change places, the last 18 are replaced by others."""
    before, after = strongest(0), strongest(0)
    after[48:78] = np.roll(before[48:78], 1, axis=0)
    after[78:] = np.random.default_rng(5).integers(IMAGES, 10**6, size=(18, STRONGEST))  # images that excite no other
    for seen in (alike(before, after), alike(before, after).turned()):
        fate = fates(seen, RULE).fate
        assert set(fate[:48]) == {Fate.KEPT}
        assert set(fate[48:78]) == {Fate.MOVED}
        assert set(fate[78:]) == {Fate.GONE}


def test_one_neuron_that_moved_is_found_beside_many_that_stay() -> None:
    before = strongest(0)
    before[:2] = [np.arange(1000, 1009), np.arange(2000, 2009)]
    after = before.copy()
    after[[0, 1]] = after[[1, 0]]
    found = fates(alike(before, after), RULE)
    assert found.partner[:2].tolist() == [1, 0]
    assert set(found.fate[:2]) == {Fate.MOVED}
    assert set(found.fate[2:]) == {Fate.KEPT}


def test_a_nearer_twin_that_is_not_mutual_takes_no_neuron_from_its_address() -> None:
    before = strongest(0)
    before[:2] = [np.arange(1000, 1009), [*range(1000, 1006), 3000, 3001, 3002]]
    after = before.copy()
    after[1] = [*range(1000, 1007), 3000, 3001]  # 8 of 9 with its old self, 7 with the other's
    after[0] = [*range(1000, 1005), 4000, 4001, 4002, 4003]  # 5 of 9 with its old self
    found = fates(alike(before, after), RULE)
    assert (found.best[0], found.same[0], bool(found.mutual[0])) == (7 / 9, 5 / 9, False)
    assert found.fate[:2].tolist() == [Fate.KEPT] * 2


def test_a_neuron_that_was_switched_off_is_not_found_in_its_twin() -> None:
    before = strongest(0)
    before[:2] = [np.arange(1000, 1009), [*range(1000, 1008), 3000]]  # the nearest twins of the layer, by far
    after = before[1:]
    layer = by_images(UNITS, before, UNITS[1:], after)
    found = fates(layer, RULE)
    assert (found.partner[0], found.best[0]) == (0, 8 / 9)
    assert found.best_q[0] <= RULE.discovery_rate
    assert found.fate.tolist() == [Fate.GONE, *[Fate.KEPT] * (WIDTH - 1)]


def test_less_than_what_counts_is_not_kept() -> None:
    before, after = strongest(0), strongest(0)
    after[:, 4:] = np.arange(WIDTH * 5).reshape(WIDTH, 5) + 10_000  # 4 of 9 stay
    assert set(fates(alike(before, after), Rule(least=4 / 9)).fate) == {Fate.KEPT}
    assert set(fates(alike(before, after), Rule(least=5 / 9)).fate) == {Fate.GONE}


def test_equal_sets_in_another_order_are_less_preferred() -> None:
    images = np.array([[1, 2, 3], [3, 2, 1]])
    partner, best, mutual = best_partners(alike(images, images[::-1]))
    assert (partner.tolist(), best.tolist(), mutual.tolist()) == ([1, 0], [1, 1], [True, True])


def test_overlap_is_that_of_sets() -> None:
    first, second = strongest(0, 20), strongest(1, 30)
    naive = [[len(set(a) & set(b)) / STRONGEST for b in second.tolist()] for a in first.tolist()]
    assert np.allclose(alike(first, second).held, naive)
    twins = [max(len(set(a) & set(b)) for j, b in enumerate(first.tolist()) if j != i) for i, a in enumerate(first)]
    assert np.allclose(alike(first, second).strangers, np.array(twins) / STRONGEST)


def test_lists_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="9 and 5 strongest images"):
        by_images(UNITS, strongest(0), UNITS, strongest(1)[:, :5])


def test_correlations_that_are_not_listed_are_bounded() -> None:
    maps, there = maps_of(0, 30), maps_of(1, 30)
    layer = correlated(maps, there)
    true = np.corrcoef(maps, there)[:30, 30:]
    known = np.isfinite(layer.held)
    assert known.sum(axis=1).min() >= PARTNERS
    assert np.allclose(layer.held[known], true[known])
    assert (layer.ceiling >= true - 1e-12).all()
    assert not known.all()


def test_partners_in_other_layers_take_places_but_are_no_partners() -> None:
    units = np.array([3, 7])
    there = Partners(np.array([[NO_PARTNER, 7], [NO_PARTNER, NO_PARTNER]]), np.array([[0.9, 0.6], [0.8, 0.7]]))
    empty = Partners(np.full((2, 2), NO_PARTNER), np.array([[0.5, 0.4], [0.5, -np.inf]]))
    layer = by_correlation(units, units, there, empty, empty, empty)
    assert layer.held.tolist() == [[-np.inf, 0.6], [-np.inf, -np.inf]]
    assert layer.ceiling.tolist() == [[0.4, 0.6], [0.4, -np.inf]]
    assert layer.strangers.tolist() == [0.4, -np.inf]
    assert best_partners(layer)[0].tolist() == [1, NO_PARTNER]


@pytest.mark.parametrize("there", [np.arange(WIDTH), np.zeros(0, dtype=np.int64)], ids=["none here", "none there"])
def test_a_layer_of_silent_neurons(there: np.ndarray) -> None:
    units = np.setdiff1d(UNITS, there)
    layer = by_images(units, strongest(0)[units], there, strongest(0)[there])
    assert fates(layer, RULE).fate.tolist() == [Fate.GONE] * len(units)


def test_shared_texts() -> None:
    assert share_of_texts(["a", "b"], ["b", "a"]) == 1
    assert share_of_texts(["a", "b", "c", "d"], ["b"]) == 0.25
    assert share_of_texts([], []) is None
    assert texts_of_different_heads([["a"], ["b"]], [["a"], ["a"]]) == 0.5  # (0, 1) shares all, (1, 0) none
    assert texts_of_different_heads([["a"]], [["a"]]) is None
