"""What a model's components add to its representation, over any number of images: sums that merge.

Means and second moments about the mean, merged by Chan, Golub and LeVeque's formula (1979): nothing cancels, and
neither the split of the images nor the order of merges changes the result, up to rounding of float64. Memory does not
grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.decompose.components import Level
from pipeline.decompose.contributions import Contributing, Contributions, indirect_components, levels_of


class ContributionMoments:
    """Moments of contributions over images: means and variances of all components, covariances of the heads.

    through: (components,) bool, which have no direct effect, so that their contributions are those through attention.
    images: how many. mean: (components, d), of the contributions. scatter: (heads, d, d), sum over images of the outer
    product of a head's deviation from its mean with itself. trace: (components,), the trace of the same for all
    components. shared: (components,), sum over images of the inner product of a component's deviation with the
    representation's. whole_mean: (d,), whole_scatter: (d, d), of the representation. norm, ratio: (components,),
    sums of the length of the contribution, and of that over the representation's. All float64.
    """

    SYMMETRIC = ("scatter", "whole_scatter")
    FIELDS = ("through", "images", "mean", *SYMMETRIC, "trace", "shared", "whole_mean", "norm", "ratio")

    def __init__(self, through: Tensor, heads: int, width: int, device: torch.device | str = "cpu") -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        components = len(through)
        self.through = through.cpu()
        self.images = zeros()
        self.mean, self.scatter = zeros(components, width), zeros(heads, width, width)
        self.trace, self.shared = zeros(components), zeros(components)
        self.whole_mean, self.whole_scatter = zeros(width), zeros(width, width)
        self.norm, self.ratio = zeros(components), zeros(components)

    @property
    def heads(self) -> int:
        return len(self.scatter)

    @property
    def levels(self) -> tuple[Level, ...]:
        """At which level each component contributes."""
        return levels_of(self.through)

    @classmethod
    def over(
        cls, contributing: Contributing, batches: Iterable[Contributions], device: torch.device | str = "cpu"
    ) -> ContributionMoments:
        """The moments of what `contributing` gave of some images, summed on a device with float64.

        BadConfig without images.
        """
        moments: ContributionMoments | None = None
        for batch in batches:
            if moments is None:
                heads, width = contributing.model.description.heads, batch.vectors.shape[2]
                moments = cls(indirect_components(contributing.levels), heads, width, device)
            moments.update(batch)
        if moments is None:
            raise BadConfig("no images: the moments of contributions are over at least one.")
        return moments

    def update(self, batch: Contributions) -> None:
        """Take in the contributions of some images, in the arithmetic of float64."""
        own = self.mean.device  # first to the device, then to float64: Metal has none
        vectors, whole = (given.to(own).to(torch.float64) for given in (batch.vectors, batch.representation))
        new = ContributionMoments(self.through, self.heads, self.mean.shape[1], self.mean.device)
        new.images += len(whole)
        new.mean, new.whole_mean = vectors.mean(0), whole.mean(0)
        apart, whole_apart = vectors - new.mean, whole - new.whole_mean
        heads = apart[:, : self.heads].transpose(0, 1)  # (heads, images, d)
        new.scatter = heads.mT @ heads
        new.trace = apart.square().sum((0, 2))
        new.shared = torch.einsum("nkd,nd->k", apart, whole_apart)
        new.whole_scatter = whole_apart.mT @ whole_apart
        lengths, whole_lengths = vectors.norm(dim=2), whole.norm(dim=1)
        new.norm = lengths.sum(0)
        new.ratio = (lengths / whole_lengths[:, None].clamp_min(torch.finfo(torch.float64).tiny)).sum(0)
        self.merge(new)

    def merge(self, other: ContributionMoments) -> None:
        """Take in other images of the same model. BadConfig for moments of other components."""
        if not torch.equal(self.through, other.through) or self.mean.shape != other.mean.shape:
            raise BadConfig("moments of other components, or of those at another level, do not add up.")
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
        """The covariance of each head's contributions over images: (heads, d, d)."""
        return self.scatter / self.images

    def variance_share(self) -> Tensor:
        """Each component's share of the representation's variance, (components,): its covariance with it. Where all
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
        """The effective dimension of each head, (heads,): participation ratio, (sum of variances)^2 / sum of squares; 0
        for a head that never changes.
        """
        squares = self.scatter.square().sum((1, 2))
        total = self.trace[: self.heads]
        return torch.where(squares > 0, total.square() / squares.clamp_min(torch.finfo(torch.float64).tiny), 0.0)

    # ------------------------------------------------------------------------------------------- as named arrays

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by name; symmetric matrices by their upper triangle."""
        named = {name: getattr(self, name).cpu() for name in self.FIELDS}
        for name in self.SYMMETRIC:
            upper = torch.triu_indices(*named[name].shape[-2:])
            named[name] = named[name][..., upper[0], upper[1]]
        return {name: array.numpy() for name, array in named.items()}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> ContributionMoments:
        named = {name: torch.from_numpy(np.array(arrays[name])) for name in cls.FIELDS}
        width = named["mean"].shape[1]
        moments = cls(named["through"], len(named["scatter"]), width)
        for name, array in named.items():
            setattr(moments, name, _square(array, width) if name in cls.SYMMETRIC else array)
        return moments


def _square(upper: Tensor, width: int) -> Tensor:
    row, column = torch.triu_indices(width, width)
    full = upper.new_zeros(*upper.shape[:-1], width, width)
    full[..., row, column] = upper
    full[..., column, row] = upper
    return full
