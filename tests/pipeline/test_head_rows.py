"""Rows of heads: what they hold follows from the passes, written out anew here, and from the settings alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from atlas_schema.rows import rows_to_table
from atlas_schema.tables import HEAD_TABLES
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.components import Level, decompose
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.features import read_features
from pipeline.decompose.head_maps import HeadMaps, maps_of_images
from pipeline.decompose.moments import ContributionMoments
from pipeline.decompose.reads import reads
from pipeline.decompose.rows import HeadEvidence, HeadSettings, asked_maps, head_rows
from pipeline.decompose.second_pass import SecondPassRunner
from pipeline.decompose.spans import spans_of
from pipeline.images.probe_set import batches, open_probe_set
from pipeline.label.concepts import read_concepts
from pipeline.label.embedder import load_embedder
from pipeline.models import ModelRequest, load
from pipeline.probe.model import Membership, ProbeSettings
from tests.pipeline.close import assert_close

IMAGES = 24
SETTINGS = HeadSettings(labelled_share=0.2, end_classes=1)
READERS = 2


@pytest.fixture(scope="module")
def evidence() -> HeadEvidence:
    """Of the zoo's CLIP, whose space needs no alignment."""
    model, probe_set = load(ModelRequest("zoo/clip")), open_probe_set(f"zoo:{IMAGES}")
    embedder, pool, features = load_embedder(ModelRequest("zoo/clip")), read_concepts("zoo"), read_features("zoo")
    membership = Membership.of(probe_set, ProbeSettings(least_class=1))
    contributing = Contributing(model)
    x = model.normalise(next(batches(probe_set, range(IMAGES), model.description, IMAGES))[1])
    found = contributing(x)
    moments = ContributionMoments.over(contributing, [found])
    alignment = Alignment.own(len(moments.levels), model.description.representation_dim)
    spans = spans_of(moments, alignment, embedder.texts(pool.prompts))
    embedded = {f"feature/{name}": embedder.texts(prompts) for name, prompts in features.prompts.items()}
    given = (moments.mean, alignment, moments.levels, spans.directions, features, embedded, probe_set.images)
    passing = SecondPassRunner.of(model, *given, membership)
    passing.update(found, range(IMAGES))
    maps = HeadMaps()
    asked = asked_maps(passing.sums.top, spans.directions, IMAGES)
    maps.add(maps_of_images(contributing, x, range(IMAGES), asked, spans.directions))
    return HeadEvidence(
        model=model,
        probe_set=probe_set,
        membership=membership,
        pool=pool,
        features=features,
        embedded=embedded,
        embedder=embedder.slug,
        moments=moments,
        spans=spans,
        second_pass=passing.sums,
        alignment=alignment,
        maps=maps,
        readers=reads(contributing, [x[:8]], spans.directions[:, 0]).readers(model, READERS),
        settings=SETTINGS,
    )


def test_rows_are_those_of_the_five_tables(evidence: HeadEvidence):
    rows = head_rows(evidence)
    assert rows.keys() == HEAD_TABLES.keys()
    for name, table in HEAD_TABLES.items():
        assert len(rows_to_table(table.columns, table.schema(), rows[name])) == len(rows[name]) > 0
        keys = Counter(tuple(row[column] for column in table.key) for row in rows[name])
        assert max(keys.values()) == 1, name


def test_a_label_is_the_text_that_explains_enough(evidence: HeadEvidence):
    rows = head_rows(evidence)
    for head, row in enumerate(rows["heads"]):
        texts = [one for one in rows["head_texts"] if one["address"] == row["address"]]
        best = max(texts, key=lambda one: one["explained"])
        assert row["label"] == (best["text"] if best["explained"] >= SETTINGS.labelled_share else None)
        assert row["texts_explain"] == pytest.approx(min(1, sum(one["explained"] for one in texts)), abs=1e-9)
        assert len(row["axis_classes"]) == 2 * SETTINGS.end_classes
        assert row["axis_classes"][0]["mean"] >= row["axis_classes"][1]["mean"]
        assert row["norm"] == pytest.approx(float(evidence.moments.norm[head]) / IMAGES)
    none = head_rows(replace(evidence, settings=replace(SETTINGS, labelled_share=1.1)))
    assert {row["label"] for row in none["heads"]} == {None}


def test_a_map_and_what_passes_elsewhere_add_up_to_the_contribution(evidence: HeadEvidence):
    names = {"axis 0 high": 0, "axis 0 low": 1, "text 0": 2, "text 1": 3, "text 2": 4}
    heads = {row["address"]: head for head, row in enumerate(head_rows(evidence)["heads"])}
    for row in head_rows(evidence)["head_examples"][::17]:
        head, (_, pixels) = (
            heads[row["address"]],
            next(batches(evidence.probe_set, [row["image_index"]], evidence.model.description, 1)),
        )
        direction = evidence.spans.directions[head, names[row["direction"]]]
        scores = decompose(evidence.model, evidence.model.normalise(pixels), Level.DIRECT).scores(direction)
        steps = np.frombuffer(row["map"], dtype=np.uint8).astype(float)
        total = ((steps - 128) / 127 * row["map_scale"]).sum() + row["elsewhere"]
        rounding = row["map_scale"] / 254 * len(steps)
        assert abs(total - float(scores[0, head])) <= rounding + 1e-5 * float(scores[0].abs().max())
        mean = float(evidence.moments.mean[head] @ direction.double())
        assert_close(row["projection"], float(scores[0, head]) - mean, 1e-4)


def test_readers_are_as_many_as_asked_for(evidence: HeadEvidence):
    rows = head_rows(evidence)["head_reads"]
    ranks = Counter(row["address"] for row in rows)
    assert max(ranks.values()) == READERS
    shares = torch.tensor([row["share"] for row in rows if row["rank"] == 0])
    assert (shares > 0).all()
