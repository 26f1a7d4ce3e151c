"""How alike the neurons of one layer of two models are: by their strongest probe images, or by their activation maps.

Both give the same thing, `LayerLikeness`, from which `pipeline.compare.fates` says what became of each neuron.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NO_PARTNER = -1
NOT_HELD = -np.inf


@dataclass(frozen=True)
class LayerLikeness:
    """How alike the n neurons of a layer of one model and the m of the same layer of another are.

    units, units_there: int (n,), (m,), their indices in the layer: equal ones have one address
    held: (n, m), the likeness; minus infinity where it is not known
    ceiling: (n, m), `held` where it is known, else what the likeness is not above
    order: (n, m), which partner is preferred: as `held`, with ties resolved
    strangers, strangers_there: (n,), (m,), for each neuron the likeness of the other neuron of its own layer and
        model that is most like it (or what this is not above)
    """

    units: Integers
    units_there: Integers
    held: Floats
    ceiling: Floats
    order: Floats
    strangers: Floats
    strangers_there: Floats

    def turned(self) -> LayerLikeness:
        """The same, seen from the other model."""
        return LayerLikeness(
            self.units_there,
            self.units,
            self.held.T,
            self.ceiling.T,
            self.order.T,
            self.strangers_there,
            self.strangers,
        )


@dataclass(frozen=True)
class Partners:
    """The most correlated partners of the n neurons of a layer, the best first, at most k each.

    unit: int (n, k), the partner's unit where it is in the same layer; `NO_PARTNER` where it is in another, or missing
    correlation: (n, k), of every partner in whichever layer; minus infinity where there are fewer than k
    """

    unit: Integers
    correlation: Floats

    @property
    def lowest(self) -> Floats:
        """(n,): what no partner that is not listed is above; minus infinity where all there are are listed."""
        return self.correlation[:, -1] if self.correlation.shape[1] else np.full(len(self.correlation), NOT_HELD)


# ------------------------------------------------------------------------------------------- strongest images


def by_images(units: Integers, images: Integers, units_there: Integers, images_there: Integers) -> LayerLikeness:
    """Likeness of two neurons: the share of their K strongest probe images that both have.

    images, images_there: int (n, K), (m, K), indices of each neuron's strongest images, the strongest first. Among
    partners with as many images in common the one is preferred that has them in the most similar order, then the same
    address. ValueError where the two K differ.
    """
    if images.shape[1] != images_there.shape[1]:
        raise ValueError(f"{images.shape[1]} and {images_there.shape[1]} strongest images: expected as many of both")
    shared, order = _overlap(images, images_there)
    held = shared / images.shape[1]
    return LayerLikeness(
        units=units,
        units_there=units_there,
        held=held,
        ceiling=held,
        order=held + order / (4 * images.shape[1]) + 1e-9 * _one_address(units, units_there),
        strangers=_strangers(images),
        strangers_there=_strangers(images_there),
    )


def _overlap(images: Integers, images_there: Integers) -> tuple[Floats, Floats]:
    """(n, m) images in common, and the cosine of rank weights K, K - 1, ..., 1: 1 only for equal lists."""
    names, places = np.unique(np.concatenate([images, images_there]), return_inverse=True)
    places = places.reshape(-1, images.shape[1])
    count = images.shape[1]
    weights = np.arange(count, 0, -1, dtype=np.float64)
    weights /= np.linalg.norm(weights)
    results = []
    for values in (np.ones(count), weights):
        rows = [
            csr_array(
                (np.tile(values, len(part)), part.ravel(), np.arange(len(part) + 1) * count), (len(part), len(names))
            )
            for part in (places[: len(images)], places[len(images) :])
        ]
        results.append(np.asarray((rows[0] @ rows[1].T).todense()))
    return results[0], results[1]


def _strangers(images: Integers) -> Floats:
    """(n,): of each neuron the share of images in common with the most similar other neuron; 0 where it is alone."""
    shared, _ = _overlap(images, images)
    np.fill_diagonal(shared, 0.0)
    return shared.max(axis=1, initial=0.0) / images.shape[1]


def _one_address(units: Integers, units_there: Integers) -> NDArray[np.bool_]:
    return units[:, None] == units_there[None]


# ------------------------------------------------------------------------------------------- correlations of maps


def by_correlation(
    units: Integers,
    units_there: Integers,
    partners: Partners,
    partners_there: Partners,
    near: Partners,
    near_there: Partners,
) -> LayerLikeness:
    """Likeness of two neurons: the correlation of their activation maps, of which only the highest few are known.

    partners, partners_there: those of each neuron in the other model. near, near_there: those in its own model.
    """
    held = np.full((len(units), len(units_there)), NOT_HELD)
    _enter(held, partners, units_there)
    _enter(held.T, partners_there, units)
    known = np.minimum(partners.lowest[:, None], partners_there.lowest[None])
    return LayerLikeness(
        units=units,
        units_there=units_there,
        held=held,
        ceiling=np.where(np.isfinite(held), held, known),
        order=held + 1e-9 * _one_address(units, units_there),
        strangers=_nearest(near),
        strangers_there=_nearest(near_there),
    )


def _enter(held: Floats, partners: Partners, columns: Integers) -> None:
    """Write what is known of each row into `held`, in place."""
    column_of = {int(unit): column for column, unit in enumerate(columns)}
    for row, rank in zip(*np.nonzero(partners.unit != NO_PARTNER), strict=True):
        column = column_of.get(int(partners.unit[row, rank]))
        if column is not None:
            held[row, column] = partners.correlation[row, rank]


def _nearest(near: Partners) -> Floats:
    """(n,): the correlation with the nearest neuron of the same layer, or what it is not above."""
    inside = np.where(near.unit != NO_PARTNER, near.correlation, NOT_HELD).max(axis=1, initial=NOT_HELD)
    return np.where(np.isfinite(inside), inside, near.lowest)
