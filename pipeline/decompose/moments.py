"""What a model's components add to its representation, over any number of images: sums that merge.

Means and second moments about the mean, merged by Chan, Golub and LeVeque's formula (1979): nothing cancels, and
neither the split of the images nor the order of merges changes the result, up to rounding of float64. Memory does not
grow with the number of images.

The covariance of a head is kept as few rows whose outer products add up to it. A head writes from head_dim numbers
through fixed matrices, so that its contributions lie in a space of few dimensions: where that space is known
(`paths.Paths`) sums are made in its coordinates, 64 x 64 numbers instead of 768 x 768; elsewhere rows of deviations are
put together, and reduced to the leading ones when they are many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atlas_schema.errors import BadConfig
from pipeline.decompose.alignment import Spaces
from pipeline.decompose.components import Level
from pipeline.decompose.contributions import Contributing, Contributions, indirect_components, levels_of

MOST_ROWS = 192
"""Directions in which a head's contributions may vary; of what varies in more, the leading ones are kept."""
NEGLIGIBLE = 1e-13  # of a head's variance: a direction below this is rounding


@dataclass
class _InCoordinates:
    """Sums of some heads in orthonormal coordinates of the spaces that they write to.

    heads: int64 (h,); basis: (h, d, r); scatter: float64 (h, r, r).
    """

    heads: Tensor
    basis: Tensor
    scatter: Tensor

    def add(self, rows: Tensor) -> None:
        """Take in rows (n, heads, d) of all heads: the outer product of each with itself."""
        along = torch.einsum("nhd,hdr->hnr", rows[:, self.heads], self.basis)
        self.scatter += along.mT @ along

    def rows(self) -> dict[int, Tensor]:
        """Rows (r, d) of each head whose outer products add up to its sums."""
        values, vectors = torch.linalg.eigh(self.scatter)
        factor = values.clamp_min(0).sqrt()[:, :, None] * (vectors.mT @ self.basis.mT)  # (h, r, d)
        return dict(zip(self.heads.tolist(), factor.unbind(), strict=True))


class ContributionMoments:
    """Moments of contributions over images: means and variances of all components, covariances of the heads.

    through: (components,) bool, which have no direct effect, so that their contributions are those through attention.
    images: how many. mean: (components, d), of the contributions. trace: (components,), sum over images of the squared
    deviations from the mean. shared: (components,), sum over images of the inner product of a component's deviation
    with the representation's. whole_mean: (d,), whole_trace: (), of the representation. norm, ratio: (components,),
    sums of the length of the contribution, and of that over the representation's. dropped: (heads,), the squared
    deviations that the rows of a head leave out. All float64.
    """

    FIELDS = ("through", "images", "mean", "trace", "shared", "whole_mean", "whole_trace", "norm", "ratio", "dropped")

    def __init__(
        self,
        through: Tensor,
        heads: int,
        width: int,
        device: torch.device | str = "cpu",
        bases: Mapping[int, Tensor] | None = None,
    ) -> None:
        """bases: (d, r) of some heads, orthonormal, of spaces that all their contributions lie in."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        components = len(through)
        self.through = through.cpu()
        self.images = zeros()
        self.mean, self.trace, self.shared = zeros(components, width), zeros(components), zeros(components)
        self.whole_mean, self.whole_trace = zeros(width), zeros()
        self.norm, self.ratio, self.dropped = zeros(components), zeros(components), zeros(heads)
        self._groups = [
            _group(rank, bases or {}, device) for rank in sorted({b.shape[1] for b in (bases or {}).values()})
        ]
        self._rows: dict[int, list[Tensor]] = {head: [] for head in range(heads) if head not in (bases or {})}
        self._kept: torch.dtype = torch.float64  # of rows: as precise as the contributions themselves

    @property
    def heads(self) -> int:
        return len(self.dropped)

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
                through = indirect_components(contributing.levels)
                moments = cls(through, heads, width, device, contributing.bases(MOST_ROWS))
            moments.update(batch)
        if moments is None:
            raise BadConfig("no images: the moments of contributions are over at least one.")
        return moments

    def update(self, batch: Contributions) -> None:
        """Take in the contributions of some images, in the arithmetic of float64."""
        self._kept = batch.vectors.dtype
        own = self.mean.device  # first to the device, then to float64: Metal has none
        vectors, whole = (given.to(own).to(torch.float64) for given in (batch.vectors, batch.representation))
        new = ContributionMoments(self.through, self.heads, self.mean.shape[1], own)
        new.images += len(whole)
        new.mean, new.whole_mean = vectors.mean(0), whole.mean(0)
        apart, whole_apart = vectors - new.mean, whole - new.whole_mean
        new.trace = apart.square().sum((0, 2))
        new.shared = torch.einsum("nkd,nd->k", apart, whole_apart)
        new.whole_trace = whole_apart.square().sum()
        lengths, whole_lengths = vectors.norm(dim=2), whole.norm(dim=1)
        new.norm = lengths.sum(0)
        new.ratio = (lengths / whole_lengths[:, None].clamp_min(torch.finfo(torch.float64).tiny)).sum(0)
        self._add(apart[:, : self.heads])
        self._merge_sums(new)

    def merge(self, other: ContributionMoments) -> None:
        """Take in other images of the same model. BadConfig for moments of other components."""
        if not torch.equal(self.through, other.through) or self.mean.shape != other.mean.shape:
            raise BadConfig("moments of other components, or of those at another level, do not add up.")
        self._leave_coordinates()
        for head in range(self.heads):
            self._append(head, other.factor(head))
        self.dropped = self.dropped + other.dropped
        self._merge_sums(other)

    def _merge_sums(self, other: ContributionMoments) -> None:
        """All sums but the rows of heads, to which only the difference of both means is added."""
        total = self.images + other.images
        if float(total) == 0:
            return
        weight = self.images * other.images / total
        between, whole = other.mean - self.mean, other.whole_mean - self.whole_mean
        if float(weight) > 0:
            self._add(weight.sqrt() * between[None, : self.heads])
        self.trace = self.trace + other.trace + weight * between.square().sum(1)
        self.shared = self.shared + other.shared + weight * between @ whole
        self.whole_trace = self.whole_trace + other.whole_trace + weight * whole.square().sum()
        self.mean = self.mean + between * (other.images / total)
        self.whole_mean = self.whole_mean + whole * (other.images / total)
        self.norm, self.ratio = self.norm + other.norm, self.ratio + other.ratio
        self.images = total

    # -------------------------------------------------------------------------------------- covariances, as rows

    def _add(self, rows: Tensor) -> None:
        """Add the outer products of rows, (n, heads, d), to the sums of their heads."""
        for group in self._groups:
            group.add(rows)
        for head in self._rows:
            self._append(head, rows[:, head])

    def _append(self, head: int, rows: Tensor) -> None:
        held = self._rows[head]
        held.append(rows.to(self._kept))
        if sum(map(len, held)) > 2 * MOST_ROWS:
            self._reduce(head)

    def _reduce(self, head: int) -> None:
        """Fewer rows with the same sum of outer products; what is dropped is counted."""
        rows = torch.cat([self.mean.new_zeros(0, self.mean.shape[1]), *self._rows[head]]).double()
        if len(self._rows[head]) > 1 and len(rows) > MOST_ROWS // 2:
            rows, left = _leading(rows)
            self.dropped[head] += left
        self._rows[head] = [rows.to(self._kept)]

    def _leave_coordinates(self) -> None:
        for group in self._groups:
            self._rows |= {head: [rows.to(self._kept)] for head, rows in group.rows().items()}
        self._groups = []

    def factor(self, head: int) -> Tensor:
        """Rows F, float64 (r, d), with F^T F the sum over images of the outer product of deviations of a head."""
        self._leave_coordinates()
        self._reduce(head)
        return self._rows[head][0].double()

    # --------------------------------------------------------------------------------------------------- results

    def covariance(self, head: int) -> Tensor:
        """The covariance of a head's contributions over images: (d, d)."""
        factor = self.factor(head)
        return factor.mT @ factor / self.images

    def spaces(self) -> Spaces:
        """The spaces that components write to: of heads those of their mean and deviations, where these have few
        dimensions.
        """
        width = self.mean.shape[1]
        bases: list[Tensor | None] = [None] * len(self.mean)
        for head in range(self.heads):
            spread = self.factor(head) / self.images.sqrt()
            _, values, axes = torch.linalg.svd(torch.cat([spread, self.mean[head][None]]), full_matrices=False)
            axes = axes[values > 1e-6 * values[0]]
            if 0 < len(axes) <= width // 2:
                bases[head] = axes.mT.float().contiguous()
        return Spaces(width, tuple(bases))

    def variance_share(self) -> Tensor:
        """Each component's share of the representation's variance, (components,): its covariance with it. Where all
        components add up to the representation the shares add up to 1."""
        whole = self.whole_trace
        return self.shared / whole if float(whole) > 0 else torch.zeros_like(self.shared)

    def axes(self, count: int) -> tuple[Tensor, Tensor]:
        """Principal axes of heads: (heads, count, d), each of length 1, and the share of the head's variance along
        each (heads, count). An axis points to the side on which the mean contribution lies, so that it has a sign.
        Axes that carry nothing are zero."""
        width, tiny = self.mean.shape[1], torch.finfo(torch.float64).tiny
        vectors = self.mean.new_zeros(self.heads, count, width)
        share = self.mean.new_zeros(self.heads, count)
        for head in range(self.heads):
            _, values, axes = torch.linalg.svd(self.factor(head), full_matrices=False)
            held = min(count, len(values))
            vectors[head, :held] = axes[:held]
            share[head, :held] = values[:held].square() / self.trace[head].clamp_min(tiny)
        largest = vectors.gather(2, vectors.abs().argmax(2, keepdim=True))
        along = torch.einsum("hcd,hd->hc", vectors, self.mean[: self.heads])[..., None]
        side = torch.where(along.abs() > 1e-9 * self.mean[: self.heads].norm(dim=1)[:, None, None], along, largest)
        return vectors * torch.where(side < 0, -1.0, 1.0) * (share > 1e-12)[..., None], share

    def dimensions(self) -> Tensor:
        """The effective dimension of each head, (heads,): participation ratio, (sum of variances)^2 / sum of squares; 0
        for a head that never changes.
        """
        factors = [self.factor(head) for head in range(self.heads)]
        squares = torch.stack([(rows @ rows.mT).square().sum() for rows in factors])
        total = self.trace[: self.heads]
        return torch.where(squares > 0, total.square() / squares.clamp_min(torch.finfo(torch.float64).tiny), 0.0)

    # ------------------------------------------------------------------------------------------- as named arrays

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by name; the rows of all heads one after the other, and how many each has."""
        factors = [self.factor(head).to(self._kept).cpu() for head in range(self.heads)]
        named = {name: getattr(self, name).cpu().numpy() for name in self.FIELDS}
        return named | {
            "rows": torch.cat(factors).numpy(),
            "rows_of": np.array([len(rows) for rows in factors], dtype=np.int32),
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> ContributionMoments:
        named = {name: torch.from_numpy(np.array(arrays[name])) for name in cls.FIELDS}
        moments = cls(named["through"], len(named["dropped"]), named["mean"].shape[1])
        for name, array in named.items():
            setattr(moments, name, array)
        stored = torch.from_numpy(np.array(arrays["rows"]))
        rows, moments._kept = stored.split(arrays["rows_of"].tolist()), stored.dtype
        moments._rows = {head: [own] for head, own in enumerate(rows)}
        return moments


def _group(rank: int, bases: Mapping[int, Tensor], device: torch.device | str) -> _InCoordinates:
    """The heads whose spaces have so many dimensions."""
    own = {head: basis for head, basis in bases.items() if basis.shape[1] == rank}
    stacked = torch.stack(list(own.values())).to(device).double()
    scatter = torch.zeros(len(own), rank, rank, dtype=torch.float64, device=device)
    return _InCoordinates(torch.tensor(list(own), device=device), stacked, scatter)


def _leading(rows: Tensor) -> tuple[Tensor, Tensor]:
    """At most MOST_ROWS rows with nearly the same sum of outer products, the strongest; and the squares left out."""
    gram = rows @ rows.mT
    values, vectors = torch.linalg.eigh(gram)
    kept = values > NEGLIGIBLE * gram.diagonal().sum()
    kept[: max(len(values) - MOST_ROWS, 0)] = False
    return vectors[:, kept].mT @ rows, values[~kept].clamp_min(0).sum()
