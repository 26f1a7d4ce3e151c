"""The mean and spread of soft WPMI over shuffles: equal to all permutations, to the exact sums, and to many draws."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from pipeline.label.shuffled import NODES, interpolation
from pipeline.label.similarity import Measured, SoftWpmi
from tests.pipeline.close import assert_close


def measured(images: int, neurons: int, texts: int, views: int) -> Measured:
    g = torch.Generator().manual_seed(images)
    return Measured(
        torch.randn(images, neurons, generator=g),
        torch.randint(0, views, (images, neurons), generator=g),
        0.2 + 0.08 * torch.randn(images, views, texts, generator=g),
    )


def ready(m: Measured, top: int) -> SoftWpmi:
    scorer = SoftWpmi(m, top)
    scorer.normalise(scorer.log_mean(torch.ones(m.neurons, dtype=torch.bool)))
    return scorer


@pytest.mark.parametrize("views", [1, 3])
def test_they_are_those_of_all_permutations(views: int) -> None:
    scorer = ready(measured(6, 4, 5, views), 3)
    all_of_them = torch.stack(
        [scorer.scores(slice(0, 4), torch.tensor(order)).double() for order in permutations(range(6))]
    )
    mean, deviation = scorer.shuffled(slice(0, 4))
    assert_close(mean, all_of_them.mean(0), 1e-5)
    assert_close(deviation, all_of_them.std(0, correction=0), 1e-5)


@pytest.mark.parametrize("views", [1, 10])
def test_interpolated_ranks_give_the_exact_sums(views: int) -> None:
    images, neurons, texts, top = 300, 6, 40, 30
    m = measured(images, neurons, texts, views)
    scorer = ready(m, top)
    mean, deviation = scorer.shuffled(slice(0, neurons))
    p = torch.softmax(10 * m.similarities.double(), dim=2)
    member = scorer.membership.double()
    for neuron in range(neurons):
        seen = m.views[:, neuron].gather(0, scorer.order[:, neuron])
        g = torch.log(1 + member[:, None, None] * (p[:, seen].transpose(0, 1) - 1) + 1e-7)  # (ranks, images, texts)
        expected = g.mean(1).sum(0) - scorer.log_p
        variance = images / (images - 1) * g.var(1, correction=0).sum(0) - g.sum(0).var(0, correction=0) / (images - 1)
        assert ((mean[neuron] - expected).abs() / variance.sqrt()).max() < 1e-3
        assert (deviation[neuron] / variance.sqrt() - 1).abs().max() < 1e-3


def test_two_thousand_shuffles_come_near_and_no_nearer_than_their_noise() -> None:
    images, top, draws = 200, 20, 2000
    scorer = ready(measured(images, 3, 20, 10), top)
    g = torch.Generator().manual_seed(1)
    null = torch.stack([scorer.scores(slice(0, 3), torch.randperm(images, generator=g)) for _ in range(draws)])
    mean, deviation = scorer.shuffled(slice(0, 3))
    off = ((null.mean(0) - mean) / deviation * draws**0.5).flatten()  # standard normal if the formula is right
    assert off.abs().max() < 4.5
    assert 0.7 < off.std() < 1.4
    assert (null.std(0) / deviation - 1).abs().max() < 5 / (2 * draws) ** 0.5


def test_a_polynomial_of_the_logarithm_is_interpolated_exactly() -> None:
    membership = 0.998 - torch.arange(100, dtype=torch.float64) / 100 * 0.028
    nodes, weights = interpolation(membership)
    assert len(nodes) == NODES
    for power in range(NODES):
        assert_close(weights @ torch.log1p(-nodes) ** power, torch.log1p(-membership) ** power, 1e-10)


def test_they_are_not_given_before_the_normaliser() -> None:
    with pytest.raises(ValueError, match="normalise"):
        SoftWpmi(measured(30, 2, 3, 1), 5).shuffled(slice(0, 2))
