"""From tables to arrays: the neurons of one layer of both models, and how alike they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_schema.errors import BadConfig, NothingThere
from jobs.diffing.sides import Side
from pipeline.compare.likeness import NO_PARTNER, NOT_HELD, LayerLikeness, Partners, by_correlation, by_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORRELATION, OVERLAP = "correlation", "overlap"
LEAST = {CORRELATION: 0.5, OVERLAP: 1 / 3}
"""Likeness under which no partner counts, whatever its significance, by measure."""

FACTS = (
    *("unit", "address", "probe_set", "token_std", "fires_on", "status", "verdict"),
    *("label", "label_status", "concept_set", "embedder"),
)


@dataclass(frozen=True)
class LayerOfSide:
    """The neurons of a layer by unit. facts: `FACTS` of each; silent: those that no probe image fires."""

    facts: dict[int, dict[str, Any]]
    silent: frozenset[int]

    @property
    def audible(self) -> NDArray[np.int64]:
        return np.array(sorted(set(self.facts) - self.silent), dtype=np.int64)


def measure_of(first: Side, second: Side, wanted: str | None = None) -> str:
    """Correlation where both are models of one atlas whose neurons were matched, else overlap; or what is wanted.

    NothingThere where the correlations that are asked for are not there.
    """
    why = no_correlations(first, second)
    if wanted == CORRELATION and why:
        raise NothingThere(f"--by correlation: {why}")
    return wanted or (OVERLAP if why else CORRELATION)


def no_correlations(first: Side, second: Side) -> str:
    """Why neuron_matches says nothing of the two; empty where it does."""
    if first.atlas is not second.atlas or first.slug == second.slug:
        return "only two models of one atlas have correlations. Leave --by out to compare strongest images."
    for side, other in ((first, second), (second, first)):
        for site in side.sites:
            if site["kind"] == "ffn":
                rows = side.atlas.matches(side.slug, site["layer"], ["partner_slug", "probe_set"])
                wanted = {(slug, side.model["probe_set"]) for slug in (side.slug, other.slug)}
                held = set() if rows is None else {(row["partner_slug"], row["probe_set"]) for row in _distinct(rows)}
                if not wanted <= held:
                    return (
                        f"layer {site['layer']} of {side.name} was not matched with {other.slug} on its probe set. Run "
                        "the same `neuron-atlas run` with both models and --stages match first."
                    )
    return ""


def _distinct(rows: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.group_by(["partner_slug", "probe_set"]).aggregate([]).to_pylist()
    return found


def layer_of(side: Side, layer: int) -> LayerOfSide:
    """NothingThere where the layer has no neurons or was not measured; BadConfig where on other images than the model.

    Silent is a neuron that never changes, or no patch of any probe image of which is over 0.
    """
    rows = side.atlas.neurons(side.slug, layer, FACTS)
    facts = {} if rows is None else {row["unit"]: row for row in rows.to_pylist() if row["probe_set"] is not None}
    if not facts:
        raise NothingThere(
            f"{side.name}: the neurons of layer {layer} were not measured on images. Run the stage probe on it first "
            "(neuron-atlas run --probe SET --stages probe)."
        )
    sets = {row["probe_set"] for row in facts.values()}
    if sets != {side.model["probe_set"]}:
        raise BadConfig(
            f"{side.name}: layer {layer} was measured on {', '.join(sorted(sets))}, the model says "
            f"{side.model['probe_set']}. `neuron-atlas validate {side.url}` says more."
        )
    silent = {unit for unit, row in facts.items() if row["fires_on"] is None or not row["token_std"]}
    return LayerOfSide(facts, frozenset(silent))


def likeness_of(
    first: Side, second: Side, layer: int, neurons: LayerOfSide, neurons_there: LayerOfSide, measure: str
) -> LayerLikeness:
    """How alike the neurons of a layer that fire are, by `measure`. NothingThere where the tables lack them."""
    units, units_there = neurons.audible, neurons_there.audible
    if measure == CORRELATION:
        return by_correlation(
            units,
            units_there,
            _partners(first, layer, units, second.slug),
            _partners(second, layer, units_there, first.slug),
            _partners(first, layer, units, first.slug),
            _partners(second, layer, units_there, second.slug),
        )
    lists = [_strongest(side, layer, own) for side, own in ((first, units), (second, units_there))]
    count = min(images.shape[1] for images in lists)
    return by_images(units, lists[0][:, :count], units_there, lists[1][:, :count])


def _strongest(side: Side, layer: int, units: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, K): indices of the strongest probe images of each unit, the strongest first."""
    rows = side.atlas.examples(side.slug, layer, ["unit", "kind", "rank", "image_index", "probe_set"])
    if rows is None:
        raise NothingThere(
            f"{side.name}: the strongest images of layer {layer} are not there (neuron_examples). Run the stage probe "
            "on it first (neuron-atlas run --probe SET --stages probe), or pull this table."
        )
    rows = rows.filter(pc.and_(pc.equal(rows["kind"], "top"), pc.is_in(rows["unit"], pa.array(units, pa.int32()))))
    if rows.num_rows and rows["probe_set"].unique().to_pylist() != [side.model["probe_set"]]:
        raise BadConfig(
            f"{side.name}: the strongest images of layer {layer} are of another probe set than the model's "
            f"{side.model['probe_set']}. `neuron-atlas validate {side.url}` says more."
        )
    rows = rows.sort_by([("unit", "ascending"), ("rank", "ascending")])
    unit, image = rows["unit"].to_numpy(), rows["image_index"].to_numpy().astype(np.int64)
    counts = np.bincount(np.searchsorted(units, unit), minlength=len(units))
    if len(counts) and (counts.min() == 0 or counts.min() != counts.max()):
        raise NothingThere(
            f"{side.name}: layer {layer} has {counts.min()} to {counts.max()} strongest images a neuron, expected as "
            f"many for each. `neuron-atlas validate {side.url}` says more."
        )
    return image.reshape(len(units), -1) if len(units) else np.zeros((0, 64), dtype=np.int64)


def _partners(side: Side, layer: int, units: NDArray[np.int64], other: str) -> Partners:
    """The partners of each unit in the model `other`, from neuron_matches."""
    names = ["unit", "partner_slug", "rank", "partner_layer", "partner_unit", "correlation"]
    rows = side.atlas.matches(side.slug, layer, names)
    assert rows is not None, "measure_of saw them"
    rows = rows.filter(pc.equal(rows["partner_slug"], other))
    columns = {name: rows[name].to_numpy() for name in names if name != "partner_slug"}
    depth = int(columns["rank"].max()) + 1 if rows.num_rows else 1
    unit = np.full((len(units), depth), NO_PARTNER, dtype=np.int64)
    correlation = np.full((len(units), depth), NOT_HELD)
    place = np.searchsorted(units, columns["unit"])
    ours = np.isin(columns["unit"], units)
    at = (place[ours], columns["rank"][ours])
    inside = columns["partner_layer"][ours] == layer
    unit[at] = np.where(inside, columns["partner_unit"][ours], NO_PARTNER)
    correlation[at] = columns["correlation"][ours]
    return Partners(unit, correlation)
