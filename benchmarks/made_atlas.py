"""A synthetic atlas of many models with tiny rows, for what costs by the number of files alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
import pyarrow as pa

from atlas_schema.card import write_card
from atlas_schema.columns import Table
from atlas_schema.parquet import encode
from atlas_schema.parts import ROWS_PER_PAGE, Listing, commit_encoded, committed_units, part_footer
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import NEURON_MATCHES, NEURONS
from atlas_schema.units import Identity, Neurons, Pair, WorkUnit
from jobs.assembly import Shards
from jobs.graph import Graph, Job
from jobs.stages import stage_named
from tests.atlas_schema.made_atlas import (
    FINGERPRINT,
    PROVENANCE,
    image_rows,
    model_row,
    run_row,
    settings_of,
    site_rows,
    stage_claim,
    stage_rows,
)
from tests.atlas_schema.made_atlas import neuron_row as picture_row

STAGES = ("visualize", "evidence")
WIDTH, SIZE = 4, 2  # neurons of a layer, and of a unit


def identity(stage: str) -> Identity:
    """Of the stage in every model."""
    return Identity(FINGERPRINT, settings_of(stage))


def slugs(models: int) -> list[str]:
    """The models of the atlas."""
    return [f"m{model:02d}" for model in range(models)]


def cuts_of(layers: int) -> list[Neurons]:
    """The units of a model in one stage."""
    return [Neurons(layer, at, at + SIZE) for layer in range(layers) for at in range(0, WIDTH, SIZE)]


def pair_of(partner: str) -> Pair:
    """The cut of a pair with a model."""
    return Pair(partner, hashlib.sha256(partner.encode()).hexdigest()[:16])


def pairs_of(models: int) -> Iterator[tuple[str, str]]:
    """Every pair of models, and each with itself."""
    return combinations_with_replacement(slugs(models), 2)


def shards_of(store: Store, models: int, layers: int) -> Shards:
    """What a run over all models of the atlas would know of it, from one listing."""
    listing = Listing(store)

    def job(stage: str, slug: str, cuts: list[Neurons] | list[Pair]) -> Job:
        committed = committed_units(listing, stage, slug, identity(stage))
        return Job(stage_named(stage), slug, identity(stage), cuts, committed)

    jobs = [job(stage, slug, cuts_of(layers)) for slug in slugs(models) for stage in STAGES]
    for slug in slugs(models):
        jobs.append(job("pairs", slug, [pair_of(other) for first, other in pairs_of(models) if first == slug]))
    planned = {slug: dict.fromkeys(range(layers), ((0, WIDTH),)) for slug in slugs(models)}
    # evidence reads the pass over images, which this atlas does without: nothing is handed out here
    return Shards(store, Graph(jobs), (), dict.fromkeys(slugs(models), layers), planned)


def make(store: Store, models: int, layers: int) -> None:
    """Write the whole atlas: parts, shards, small tables and card."""
    stages = (*STAGES, "pairs")
    for slug in slugs(models):
        claims = [stage_claim(stage) for stage in stages]
        write_rows(store, "models", slug, [model_row((WIDTH,) * layers, slug, stages=claims)], provenance=PROVENANCE)
        write_rows(store, "sites", slug, site_rows((WIDTH,) * layers, slug, stages), provenance=PROVENANCE)
        for stage in STAGES:
            for cut in cuts_of(layers):
                _commit(store, identity(stage).unit(stage, slug, cut))
    for first, second in pairs_of(models):
        commit_pair(store, identity("pairs").unit("pairs", first, pair_of(second)), layers, WIDTH)
    shards = shards_of(store, models, layers)
    for task in shards.begin():
        task.write(store)
    write_rows(store, "probe_images", image_rows(1)[0]["probe_set"], image_rows(), provenance=PROVENANCE)
    write_rows(store, "runs", "20261121t100000z-a1b2c3", [run_row()], provenance=PROVENANCE)
    write_card(store)


def _commit(store: Store, unit: WorkUnit) -> None:
    assert isinstance(unit.cut, Neurons)
    rows = []
    for neuron in range(unit.start, unit.stop):
        made = [picture_row(neuron)] if unit.stage == "visualize" else stage_rows(unit.stage, neuron)
        keys = {"address": f"{unit.slug}/mlp/{unit.cut.layer}/{neuron}", "slug": unit.slug, "layer": unit.cut.layer}
        rows += [{**row, **keys} for row in made]
    names = NEURONS.part_schema(unit.stage).names
    data = pa.Table.from_pylist(
        [{name: row.get(name) for name in names} for row in rows], NEURONS.part_schema(unit.stage)
    )
    _put(store, unit, NEURONS, data)


def commit_pair(store: Store, unit: WorkUnit, layers: int, width: int, ranks: int = 1) -> None:
    """The part of a pair: every neuron of both models with `ranks` counterparts."""
    assert isinstance(unit.cut, Pair)
    sides = dict.fromkeys([(unit.slug, unit.cut.partner), (unit.cut.partner, unit.slug)])
    tables = [_counterparts(own, other, layers, width, ranks) for own, other in sorted(sides)]
    _put(store, unit, NEURON_MATCHES, pa.concat_tables(tables))


def _counterparts(slug: str, partner: str, layers: int, width: int, ranks: int) -> pa.Table:
    count = layers * width * ranks
    layer = np.repeat(np.arange(layers, dtype=np.int16), width * ranks)
    unit = np.tile(np.repeat(np.arange(width, dtype=np.int32), ranks), layers)
    rank = np.tile(np.arange(ranks, dtype=np.int16), layers * width)
    numbers = np.random.default_rng(0).random((2, count), dtype=np.float32)
    places = [f"mlp/{one}/{other}" for one, other in zip(layer.tolist(), unit.tolist(), strict=True)]
    columns = {
        "address": [f"{slug}/{place}" for place in places],
        "slug": [slug] * count,
        "layer": layer,
        "unit": unit,
        "partner_slug": [partner] * count,
        "rank": rank,
        "partner": [f"{partner}/{place}" for place in places],
        "partner_layer": layer,
        "partner_unit": unit,
        "correlation": numbers[0],
        "mutual": rank == 0,
        "null_correlation": numbers[1],
        "significant": numbers[0] > 0.5,
        "probe_set": ["fedcba9876543210"] * count,
    }
    schema = NEURON_MATCHES.part_schema("pairs")
    return pa.Table.from_arrays([pa.array(columns[one.name], one.type) for one in schema], schema=schema)


def _put(store: Store, unit: WorkUnit, table: Table, data: pa.Table) -> None:
    encoded = encode(table, data, part_footer(unit, PROVENANCE), rows_per_page=ROWS_PER_PAGE)
    commit_encoded(store, unit, {table: encoded}, data.num_rows)
