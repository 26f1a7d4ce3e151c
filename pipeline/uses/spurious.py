"""Removing a feature that a classifier should not rely on: the components that carry it are replaced by their means.

After Gandelsman et al. (2310.05916, section 5.1) and Balasubramanian, Basu, Feizi (2406.01583, section 5.3), who do it
on Waterbirds. The classifier stays as it was trained: what it reads changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.decompose import Component
from pipeline.uses.choosing import ranked

SHARE = 0.15
"""Of the components, that are left out: the published 10 of 66."""


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on standardised representations. mean, deviation: (d,); weights: (classes, d); bias:
    (classes,). float64.
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor
    bias: Tensor

    def __call__(self, representation: Tensor) -> Tensor:
        """(images, d) -> (images, classes), logits."""
        return (representation.double() - self.mean) / self.deviation @ self.weights.T + self.bias


def fit_probe(representation: Tensor, labels: Tensor, *, penalty: float = 0.1) -> LinearProbe:
    """Logistic regression: mean cross-entropy + penalty / 2 x squared weights of all classes, to its minimum.

    representation: (images, d); labels: int64 (images,), from 0. A class without images is never the answer.
    BadConfig with fewer than two classes.
    """
    present = np.unique(labels.cpu().numpy())
    if len(present) < 2:
        raise BadConfig(f"a probe of {len(present)} classes: expected at least two among the labels.")
    z = representation.double()
    mean, deviation = z.mean(0), z.std(0, correction=0)
    deviation = torch.where(deviation > 1e-9 * z.abs().amax(), deviation, 1.0)
    inputs, answers = ((z - mean) / deviation).cpu().numpy(), labels.cpu().numpy()
    # of two classes the library fits one logit, the difference of ours: half the weights, twice the squares
    strength = 1 / (penalty * len(answers)) if len(present) > 2 else 2 / (penalty * len(answers))
    fitted = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(inputs, answers)
    rows, offsets = fitted.coef_, fitted.intercept_
    if len(present) == 2:
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    classes = int(present[-1]) + 1
    weights, bias = np.zeros((classes, z.shape[1])), np.full(classes, -np.inf)
    weights[present], bias[present] = rows, offsets
    return LinearProbe(mean, deviation, torch.from_numpy(weights).to(z), torch.from_numpy(bias).to(z))


def spurious_components(
    merit: Tensor, spurious: int, core: int, components: Sequence[Component], direct: Tensor, share: float = SHARE
) -> list[int]:
    """Indices of the components that matter for the spurious feature more than for the core one, the most so first;
    `share` of those that can be chosen, at least one.

    merit: (components, features), as `choosing.merits`, or the published score.
    """
    order = ranked(merit[:, spurious] - merit[:, core], components, direct)
    return order[: max(1, round(share * len(order)))]


def without(vectors: Tensor, direct: Tensor, chosen: Sequence[int], means: Tensor) -> Tensor:
    """(images, d): the representation where the chosen components are replaced by their means.

    vectors: (images, components, d), contributions; means: (components, d).
    """
    indices = list(chosen)
    return vectors[:, direct].sum(1) - (vectors[:, indices] - means[indices]).sum(1)


def group_accuracies(logits: Tensor, labels: Tensor, attribute: Tensor) -> Tensor:
    """(groups,): accuracy in each combination of label and attribute that occurs, in the order of both.

    logits: (images, classes); labels, attribute: int64 (images,).
    """
    right = (logits.argmax(1) == labels).double()
    pairs = torch.stack([labels, attribute], dim=1)
    return torch.stack([right[(pairs == pair).all(1)].mean() for pair in pairs.unique(dim=0)])
