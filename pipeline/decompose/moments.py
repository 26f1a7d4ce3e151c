"""What a model's components add to its representation, over any number of images: sums that merge.

Means and second moments about the mean, merged by Chan, Golub and LeVeque's formula (1979): nothing cancels, and
neither the split of the images nor the order of merges changes the result, up to rounding of float64. Memory does not
grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.decompose.contributions import Contributions


class ContributionMoments:
    """Of all components; of heads, which come first among the components, the whole second moment.

    images: how many. mean: (components, d), of the contributions. scatter: (heads, d, d), sum over images of the outer
    product of a head's deviation from its mean with itself. trace: (components,), the trace of the same for all
    components. shared: (components,), sum over images of the inner product of a component's deviation with the
    representation's. whole_mean: (d,), whole_scatter: (d, d), of the representation. norm, ratio: (components,),
    sums of the length of the contribution, and of that over the representation's. All float64.
    """

    FIELDS = (
        *("images", "mean", "scatter", "trace", "shared", "whole_mean", "whole_scatter"),
        *("norm", "ratio"),
    )

    def __init__(self, components: int, heads: int, width: int, device: torch.device | str = "cpu") -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.images = zeros()
        self.mean, self.scatter = zeros(components, width), zeros(heads, width, width)
        self.trace, self.shared = zeros(components), zeros(components)
        self.whole_mean, self.whole_scatter = zeros(width), zeros(width, width)
        self.norm, self.ratio = zeros(components), zeros(components)

    @property
    def heads(self) -> int:
        return len(self.scatter)

    def update(self, batch: Contributions) -> None:
        """Take in some images, in the arithmetic of float64."""
        own = self.mean.device  # first to the device, then to float64: Metal has none
        vectors, whole = (one.to(own).to(torch.float64) for one in (batch.vectors, batch.representation))
        one = ContributionMoments(len(self.mean), self.heads, self.mean.shape[1], self.mean.device)
        one.images += len(whole)
        one.mean, one.whole_mean = vectors.mean(0), whole.mean(0)
        apart, whole_apart = vectors - one.mean, whole - one.whole_mean
        heads = apart[:, : self.heads].transpose(0, 1)  # (heads, images, d)
        one.scatter = heads.mT @ heads
        one.trace = apart.square().sum((0, 2))
        one.shared = torch.einsum("nkd,nd->k", apart, whole_apart)
        one.whole_scatter = whole_apart.mT @ whole_apart
        lengths, whole_lengths = vectors.norm(dim=2), whole.norm(dim=1)
        one.norm = lengths.sum(0)
        one.ratio = (lengths / whole_lengths[:, None].clamp_min(torch.finfo(torch.float64).tiny)).sum(0)
        self.merge(one)

    def merge(self, other: ContributionMoments) -> None:
        total = self.images + other.images
        if float(total) == 0:
            return
        weight = self.images * other.images / total
        between, whole = other.mean - self.mean, other.whole_mean - self.whole_mean
        heads = between[: self.heads]
        self.scatter += other.scatter + weight * heads[:, :, None] * heads[:, None, :]
        self.trace += other.trace + weight * between.square().sum(1)
        self.shared += other.shared + weight * between @ whole
        self.whole_scatter += other.whole_scatter + weight * whole[:, None] * whole[None, :]
        self.mean = self.mean + between * (other.images / total)
        self.whole_mean = self.whole_mean + whole * (other.images / total)
        for name in ("norm", "ratio"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.images = total

    # --------------------------------------------------------------------------------------------------- results

    @property
    def covariance(self) -> Tensor:
        """(heads, d, d), over images."""
        return self.scatter / self.images

    def variance_share(self) -> Tensor:
        """(components,): covariance of contribution and representation over the latter's variance. Where all
        components add up to the representation the shares add up to 1."""
        whole = self.whole_scatter.diagonal().sum()
        return self.shared / whole if float(whole) > 0 else torch.zeros_like(self.shared)

    def axes(self, count: int) -> tuple[Tensor, Tensor]:
        """Principal axes of heads: (heads, count, d), each of length 1, and the share of the head's variance along
        each (heads, count). An axis points to the side on which the mean contribution lies, so that it has a sign.
        Axes that carry nothing are zero."""
        values, vectors = torch.linalg.eigh(self.scatter)
        values, vectors = values.flip(1)[:, :count].clamp_min(0), vectors.flip(2)[:, :, :count].mT
        total = self.trace[: self.heads, None]
        share = torch.where(total > 0, values / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
        largest = vectors.gather(2, vectors.abs().argmax(2, keepdim=True))
        along = torch.einsum("hcd,hd->hc", vectors, self.mean[: self.heads])[..., None]
        side = torch.where(along.abs() > 1e-9 * self.mean[: self.heads].norm(dim=1)[:, None, None], along, largest)
        vectors = vectors * torch.where(side < 0, -1.0, 1.0) * (share > 1e-12)[..., None]
        missing = count - vectors.shape[1]
        if missing > 0:
            vectors = torch.nn.functional.pad(vectors, (0, 0, 0, missing))
            share = torch.nn.functional.pad(share, (0, missing))
        return vectors, share

    def dimensions(self) -> Tensor:
        """(heads,): participation ratio, (sum of variances)^2 / sum of squares; 0 for a head that never changes."""
        squares = self.scatter.square().sum((1, 2))
        total = self.trace[: self.heads]
        return torch.where(squares > 0, total.square() / squares.clamp_min(torch.finfo(torch.float64).tiny), 0.0)

    # ------------------------------------------------------------------------------------------- as named arrays

    def arrays(self) -> dict[str, np.ndarray]:
        """By name; symmetric matrices by their upper triangle."""
        named = {name: getattr(self, name).cpu() for name in self.FIELDS}
        for name in ("scatter", "whole_scatter"):
            upper = torch.triu_indices(*named[name].shape[-2:])
            named[name] = named[name][..., upper[0], upper[1]]
        return {name: array.numpy() for name, array in named.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> ContributionMoments:
        named = {name: torch.from_numpy(np.array(arrays[name])) for name in cls.FIELDS}
        components, width = named["mean"].shape
        made = cls(components, len(named["scatter"]), width)
        for name, array in named.items():
            setattr(made, name, _square(array, width) if name.endswith("scatter") else array)
        return made


def _square(upper: Tensor, width: int) -> Tensor:
    row, column = torch.triu_indices(width, width)
    full = upper.new_zeros(*upper.shape[:-1], width, width)
    full[..., row, column] = upper
    full[..., column, row] = upper
    return full
