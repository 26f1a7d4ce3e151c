"""The first thing that a run writes: whose atlas this is, its probe images, and what it sets out to describe."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_schema.shards import write_rows
from atlas_schema.tables import MODELS, SITES
from jobs.claim import model_row, planned_before, planned_with, refuse_foreign, site_rows
from jobs.graph import Graph, Job
from jobs.plan import Plan
from jobs.prepare import Prepared
from jobs.probe_images import write_probe_images
from jobs.ranges import Range, union
from jobs.version import code_version


def claim(
    prepared: Prepared, plan: Plan, graph: Graph, earlier: Sequence[Job]
) -> dict[str, dict[int, tuple[Range, ...]]]:
    """Write the rows that say whose atlas this is and what it sets out to describe.

    Gives by slug and layer the neurons that any stage, of this run or an earlier one, describes.
    """
    store, provenance = prepared.store, {"code_version": code_version()}
    write_probe_images(store, prepared.inputs.probe_set, prepared.config.probe_images)
    planned: dict[str, dict[int, tuple[Range, ...]]] = {}
    selected = {model.slug: model.ranges for model in plan.models}
    for model in prepared.models:
        slug, description, keys = model.description.slug, model.description, model.keys
        there = refuse_foreign(store, description, model.fingerprint, keys)
        precision, inputs = prepared.config.precision, prepared.inputs
        row = model_row(description, model.fingerprint, model.notes, keys, inputs, precision, there)
        own = [job for job in (*graph.jobs.values(), *earlier) if job.slug == slug and job.stage.cut == "neurons"]
        wanted = [
            (job.stage.name, layer, union(job.wanted(layer), job.covered(layer)))
            for job in own
            for layer in dict.fromkeys((*job.layers, *job.held_layers))
            if layer is not None
        ]
        whole, by_stage = planned_with(planned_before(store, slug), wanted)
        for job in graph.jobs.values():
            if job.stage.cut == "pair" and job.slug == slug:  # of whatever is described, else of what is selected
                whole = whole or dict(selected[slug])
                for layer, ranges in whole.items():
                    by_stage.setdefault(layer, {})[job.stage.name] = ranges
        planned[slug] = whole
        write_rows(store, MODELS, slug, [row], provenance=provenance)
        write_rows(store, SITES, slug, site_rows(description, whole, by_stage), provenance=provenance)
    return planned
