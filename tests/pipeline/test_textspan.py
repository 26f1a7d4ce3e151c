"""TextSpan from the mean and the covariance gives what the published algorithm gives on every image's contribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.decompose.contributions import Contributing, Contributions, indirect_components
from pipeline.decompose.moments import ContributionMoments
from pipeline.decompose.textspan import text_span
from pipeline.label.concepts import read_concepts
from pipeline.label.embedder import load_embedder
from pipeline.models import ModelRequest, load
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.pipeline.published_textspan import published_text_span

IMAGES, COUNT = 192, 12


def contributions_of(name: str) -> tuple[ContributionMoments, Tensor]:
    """Moments and, to compare, the contributions (images, heads, d) themselves."""
    model = load(ModelRequest(f"zoo/{name}"), dtype=torch.float64)
    contributing, kept = Contributing(model), []
    made: ContributionMoments | None = None
    for start in range(0, IMAGES, 64):
        x = model.normalise(pixels(scenes(HELD_OUT_SEED, range(start, start + 64))).double())
        found = contributing(x)
        heads = model.description.heads
        made = made or ContributionMoments(indirect_components(contributing.levels), heads, found.vectors.shape[2])
        made.update(found)
        kept.append(found.vectors[:, :heads])
    assert made is not None
    return made, torch.cat(kept)


def pool_for(name: str, width: int) -> Tensor:
    """The CLIP's own texts; for other models random ones, in the space of their representation."""
    if name == "clip":
        return load_embedder(ModelRequest("zoo/clip")).texts(read_concepts("zoo").prompts).double()
    texts = torch.randn(300, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.nn.functional.normalize(texts, dim=1)


@pytest.mark.parametrize(("name", "heads"), [("clip", 16), ("vit", 16), ("swin", 18), ("pit", 12), ("deit", 16)])
def test_the_same_texts_in_the_same_order(name: str, heads: int) -> None:
    made, stored = contributions_of(name)
    assert made.heads == heads
    texts = pool_for(name, stored.shape[2])
    for head in range(heads):
        span = text_span(made.mean[head], made.factor(head) / made.images.sqrt(), texts, count=COUNT)
        own = stored[:, head].numpy()
        published, rebuilt = published_text_span(own, texts.numpy(), len(span.text), rank=80)
        assert span.text.tolist() == published, f"{name} head {head}"
        assert len(span.text) == COUNT
        left = ((own - rebuilt) ** 2).sum() / ((own - own.mean(0)) ** 2).sum()
        # second moments are squares of singular values: axes are known to the root of their precision
        assert float(span.explained.sum()) == pytest.approx(1 - left, abs=1e-6)
        first = (own @ texts[span.text[0]].numpy()).std()
        assert float(span.deviation[0]) == pytest.approx(first, rel=1e-6), "texts are not scaled anew"


def moments_of(vectors: np.ndarray) -> tuple[Tensor, Tensor]:
    found = torch.from_numpy(vectors)[:, None]
    made = ContributionMoments(torch.zeros(1, dtype=torch.bool), 1, vectors.shape[1])
    made.update(Contributions(found, found[:, 0]))
    return made.mean[0], made.factor(0) / made.images.sqrt()


def test_it_stops_where_nothing_is_left_to_explain() -> None:
    """A head of rank 3 has three texts, however many are asked for."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 8))
    span = text_span(*moments_of(vectors), torch.eye(8, dtype=torch.float64), count=8)
    assert len(span.text) == 3
    assert float(span.explained.sum()) == pytest.approx(1, abs=1e-9)


def test_fewer_images_than_the_rank_of_a_head() -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 8))
    span = text_span(*moments_of(vectors), torch.eye(8, dtype=torch.float64), count=8)
    assert 2 <= len(span.text) <= 3, "three images span three axes, and vary along two"
    assert float(span.explained.sum()) == pytest.approx(1, abs=1e-9)


def test_a_head_that_never_changes_has_no_texts() -> None:
    span = text_span(*moments_of(np.ones((20, 8))), torch.eye(8, dtype=torch.float64))
    assert len(span.text) == 0
    span = text_span(*moments_of(np.zeros((20, 8))), torch.eye(8, dtype=torch.float64))
    assert len(span.text) == 0


def test_the_rank_bounds_what_texts_are_projected_on() -> None:
    """With one axis kept every text is a multiple of it: one text explains it, and a second finds nothing."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 4)) * np.array([5.0, 1.0, 0.5, 0.2])
    span = text_span(*moments_of(vectors), torch.eye(4, dtype=torch.float64), rank=1)
    assert span.text.tolist() == [0]
