"""Rows of neuron_matches, from what two models have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.match.counterparts import Counterparts

Row = dict[str, Any]


def match_rows(
    slug: str,
    widths: Sequence[int],
    partner_slug: str,
    partner_widths: Sequence[int],
    counterparts: Counterparts,
    probe_set: str,
) -> Iterator[Row]:
    """The partners of each neuron of one model in another, by layer, unit and rank.

    widths: neurons of each FFN site of the model, and of its partner. counterparts: of all neurons of the model.
    probe_set: the hash of the images that they were compared on.
    """
    edges, partner_edges = (np.concatenate([[0], np.cumsum(each)]) for each in (widths, partner_widths))
    partner_layers = np.searchsorted(partner_edges, counterparts.partner, side="right") - 1
    significant = counterparts.significant
    for layer, width in enumerate(widths):
        for unit in range(width):
            index = int(edges[layer]) + unit
            for rank, partner in enumerate(counterparts.partner[index].tolist()):
                if partner < 0:
                    continue
                partner_layer = int(partner_layers[index, rank])
                partner_unit = partner - int(partner_edges[partner_layer])
                yield {
                    "address": f"{slug}/mlp/{layer}/{unit}",
                    "slug": slug,
                    "layer": layer,
                    "unit": unit,
                    "partner_slug": partner_slug,
                    "rank": rank,
                    "partner": f"{partner_slug}/mlp/{partner_layer}/{partner_unit}",
                    "partner_layer": partner_layer,
                    "partner_unit": partner_unit,
                    "correlation": float(np.clip(counterparts.correlation[index, rank], -1, 1)),
                    "mutual": bool(rank == 0 and counterparts.mutual[index]),
                    "null_correlation": float(np.clip(counterparts.null_best[index], -1, 1)),
                    "threshold": float(np.clip(counterparts.null_threshold, -1, 1)),
                    "significant": bool(significant[index, rank]),
                    "probe_set": probe_set,
                }
