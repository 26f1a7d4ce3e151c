"""Counterparts of a layer's neurons -> packs of 64 neurons, with the labels of the counterparts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from site_builder.clusters import Neuron
from site_builder.packs import packs, rounded, with_empty_packs


def match_packs(
    rows: pa.Table, units: Sequence[int], labels: Mapping[Neuron, str], clusters: Mapping[Neuron, int]
) -> dict[str, bytes]:
    """File name -> gzip JSON of the counterparts of 64 neurons, one entry a row of the dataset, in its order.

    rows: the neuron_matches of one layer; units: its neurons that the atlas has; clusters: number of each neuron's
    Rosetta cluster.
    """
    table = {name: rows.column(name).to_pylist() for name in rows.column_names}
    partners = list(zip(table["partner_slug"], table["partner_layer"], table["partner_unit"], strict=True))
    owners = zip(table["slug"], table["layer"], table["unit"], strict=True)
    columns: dict[str, list[Any]] = {
        "unit": table["unit"],
        "slug": table["partner_slug"],
        "layer": table["partner_layer"],
        "partner": table["partner_unit"],
        "label": [labels.get(partner) for partner in partners],
        "correlation": [rounded(value, 4) for value in table["correlation"]],
        "null": [rounded(value, 4) for value in table["null_correlation"]],
        "mutual": [int(value or 0) for value in table["mutual"]],
        "significant": [None if value is None else int(value) for value in table["significant"]],
        "cluster": [clusters.get(owner) for owner in owners],
    }
    return with_empty_packs(packs(columns["unit"], columns, ""), units)
