"""merge: two atlases become one that a single run would have made, or are left as they are and it is said why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from atlas_schema.card import write_card
from atlas_schema.errors import AtlasError, AtlasLocked, BadConfig, ForeignAtlas, NothingThere, NotValid, StoreFailed
from atlas_schema.parts import is_committed, part_path
from atlas_schema.read import Atlas
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import LAYER_TABLES
from atlas_schema.units import Neurons, WorkUnit
from atlas_schema.validate import Depth, check
from jobs.cli import call
from jobs.lock import locked
from jobs.publishing.merge import merge
from jobs.publishing.pull import pull, wanted_of
from jobs.publishing.selection import is_shard
from tests.atlas_schema.made_atlas import (
    FINGERPRINT,
    PROBE_SET,
    PROVENANCE,
    SLUG,
    commit,
    image_rows,
    model_row,
    reduce_layer,
    run_row,
    settings_of,
    site_rows,
    stage_claim,
)
from tests.jobs.publishing.conftest import made_in

WIDTHS = (16, 8)
PICTURES, MEASURED = ("visualize",), ("evidence", "examples")


def shards(store: Store) -> dict[str, bytes]:
    """By path, but for the rows of runs: each maker has their own."""
    return {path: store.read(path) for path in store.list() if is_shard(path) and not path.startswith("runs/")}


def faults(store: Store) -> list[str]:
    return [str(one) for one in check(store, Depth.DEEP).violations]


def some(folder: Path, units: range, stages: Sequence[str], run: str = "r", **model: object) -> Store:
    """An atlas of some neurons of each layer of a model, as far as some stages describe them."""
    store, claims = Store(folder), [stage_claim(stage) for stage in stages]
    write_rows(store, "models", SLUG, [model_row(WIDTHS, stages=claims, **model)], provenance=PROVENANCE)
    rows = site_rows(WIDTHS, SLUG, stages)
    for row in rows:
        if row["kind"] == "ffn":
            span = {"start": units.start, "stop": min(units.stop, row["width"])}
            there = span["start"] < span["stop"]
            row["planned"] = [span] if there else []
            row["planned_stages"] = [{"stage": stage, **span} for stage in stages] if there else []
    write_rows(store, "sites", SLUG, rows, provenance=PROVENANCE)
    for layer, width in enumerate(WIDTHS):
        spans = [(at, min(at + 8, width)) for at in range(units.start, min(units.stop, width), 8)]
        for table in LAYER_TABLES.values():
            own = [
                WorkUnit(
                    stage, SLUG, Neurons(layer, *span), str(model.get("fingerprint", FINGERPRINT)), settings_of(stage)
                )
                for stage in stages
                if stage in table.stages
                for span in spans
            ]
            for unit in own:
                commit(store, unit)
            if own:
                reduce_layer(store, SLUG, layer, len(WIDTHS), own)
    images = str(model.get("probe_set", PROBE_SET))
    rows = [{**row, "probe_set": images} for row in image_rows()]
    write_rows(store, "probe_images", images, rows, provenance=PROVENANCE)
    write_rows(store, "runs", f"run-{run}", [run_row(f"run-{run}")], provenance=PROVENANCE)
    write_card(store)
    return store


def test_models_of_two_people_become_one_atlas(tmp_path: Path):
    whole = made_in(tmp_path / "whole")
    parts = [tmp_path / name for name in ("zoo-vit", "zoo-deit")]
    for folder in parts:
        pull(whole.url, str(folder), wanted=wanted_of([folder.name], None, None))
    before = [shards(Store(folder)) for folder in parts]
    done = merge(str(parts[0]), str(parts[1]), str(tmp_path / "out"))
    out = Store(tmp_path / "out")
    assert done.models == ["zoo-deit", "zoo-vit"]
    assert shards(out) == shards(whole)
    assert faults(out) == done.violations == []
    assert [shards(Store(folder)) for folder in parts] == before, "the sources stay as they are"
    merge(str(parts[0]), str(parts[1]), str(tmp_path / "out"))  # counterparts now say for which neurons they are
    again = merge(str(parts[0]), str(parts[1]), str(tmp_path / "out"))
    assert (again.copied_files, again.units, again.assembled) == (0, 0, 0)
    assert faults(out) == []


SPLITS: dict[str, tuple[tuple[range, Sequence[str]], tuple[range, Sequence[str]]]] = {
    "neurons": ((range(8), PICTURES), (range(8, 16), PICTURES)),
    "stages": ((range(16), PICTURES), (range(16), MEASURED)),
    "neurons of other stages": ((range(8), PICTURES), (range(8, 16), MEASURED)),
}


@pytest.mark.parametrize("cleaned", [False, True], ids=["parts", "records"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_model_that_two_people_share(tmp_path: Path, split: str, cleaned: bool):
    """... is described as by a run of both: neurons, or stages, that only one of them has come to the other's."""
    first, second = (
        some(tmp_path / name, *own, run=name) for name, own in zip(("one", "other"), SPLITS[split], strict=True)
    )
    if cleaned:  # as they come from a published copy: their rows stand in the shards alone
        for store in (first, second):
            pull(store.url, f"{store.url}-pulled")
        first, second = Store(f"{first.url}-pulled"), Store(f"{second.url}-pulled")
    rows = {store.url: Atlas(store).neurons(SLUG, 0).to_pylist() for store in (first, second)}
    done = merge(first.url, second.url, say=lambda text: None)
    assert done.out == first.url
    assert done.units > 0
    assert faults(first) == done.violations == []
    if split != "neurons of other stages":
        stages = PICTURES if split == "neurons" else (*PICTURES, *MEASURED)
        whole = some(tmp_path / "both", range(16), stages)
        merged, expected = Atlas(first), Atlas(whole)
        for layer in range(len(WIDTHS)):
            assert merged.neurons(SLUG, layer).equals(expected.neurons(SLUG, layer))
        assert shards(first).keys() == shards(whole).keys()
    described = {row["unit"]: row for row in Atlas(first).neurons(SLUG, 0).to_pylist()}
    for row in rows[first.url]:
        filled = {name: value for name, value in row.items() if value is not None}
        assert filled.items() <= described[row["unit"]].items(), "nothing of the first is lost"
    assert len(described) == 16
    runs = [f"runs/run-{name}/train-00000-of-00001.parquet" for name in ("one", "other")]
    assert first.list("runs") == runs


def test_rows_that_no_unit_stands_for_are_said_and_stay_where_they_are(tmp_path: Path):
    one = some(tmp_path / "one", range(8), PICTURES)
    two = some(tmp_path / "two", range(8, 16), PICTURES)
    lost = WorkUnit("visualize", SLUG, Neurons(0, 8, 16), FINGERPRINT, settings_of("visualize"))
    before = shards(two)
    two.delete(part_path(lost))  # as of an atlas that was downloaded without its memory
    done = merge(one.url, two.url, str(tmp_path / "both"))
    (told,) = done.left
    assert told.startswith("8 rows of neurons/zoo-vit/train-00000-of-00002.parquet (visualize): ")
    assert "has no record of the units that made them" in told
    assert shards(two) == before
    assert merge(one.url, some(tmp_path / "three", range(8, 16), PICTURES).url, str(tmp_path / "all")).left == []


def test_where_both_describe_a_neuron_the_first_stays(tmp_path: Path):
    first = some(tmp_path / "one", range(16), PICTURES)
    second = some(tmp_path / "other", range(8), PICTURES)
    before = shards(first)
    done = merge(first.url, second.url)
    assert done.units == 0
    assert shards(first) == before


def test_a_run_finds_all_units_of_both_done(tmp_path: Path):
    first, second = (some(tmp_path / str(at), range(at, at + 8), PICTURES, run=str(at)) for at in (0, 8))
    merge(first.url, second.url, str(tmp_path / "out"))
    for at in (0, 8):
        unit = WorkUnit("visualize", SLUG, Neurons(0, at, at + 8), FINGERPRINT, settings_of("visualize"))
        assert is_committed(Store(tmp_path / "out"), unit)
    assert Atlas(tmp_path / "out").neurons(SLUG, 0).num_rows == 16


@pytest.mark.parametrize(
    "at", [0, 3, 6, pytest.param(1, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]
)
def test_what_breaks_off_is_ended_by_a_rerun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int):
    """At any write: no row of the first is lost meanwhile, and the same command ends it."""
    first = some(tmp_path / "one", range(8), PICTURES, run="one")
    second = some(tmp_path / "other", range(8, 16), (*PICTURES, *MEASURED), run="other")
    expected = some(tmp_path / "again", range(8), PICTURES, run="one")
    merge(expected.url, second.url)
    left, was = [at], {name: getattr(Store, name) for name in ("replace", "create")}

    def failing(name: str) -> Callable[..., object]:
        def write(self: Store, path: str, data: bytes) -> object:
            if "lock" not in path:
                if not left[0]:
                    raise StoreFailed("the store went away")
                left[0] -= 1
            return was[name](self, path, data)

        return write

    with monkeypatch.context() as patched:
        for name in was:
            patched.setattr(Store, name, failing(name))
        with pytest.raises(AtlasError):
            merge(first.url, second.url)
    there = {row["unit"] for row in Atlas(first).neurons(SLUG, 0).to_pylist()}
    assert set(range(8)) <= there
    merge(first.url, second.url)
    assert shards(first) == shards(expected)
    assert faults(first) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"probe_set": "f" * 16, "probe_name": "elsewhere"}, r"other probe images: made .* elsewhere \(ffff"),
        ({"fingerprint": "e" * 64}, "zoo-vit has other weights"),
        ({"input_height": 96}, "zoo-vit has other input height: 64, and 96"),
    ],
)
def test_why_two_atlases_do_not_fit_is_said(tmp_path: Path, other: dict[str, object], said: str):
    first, second = some(tmp_path / "one", range(8), PICTURES), some(tmp_path / "other", range(8), PICTURES, **other)
    before = {path: first.read(path) for path in first.list()}
    with pytest.raises(ForeignAtlas, match=said) as error:
        merge(first.url, second.url)
    assert "Nothing was changed" in str(error.value)
    assert {path: first.read(path) for path in first.list()} == before


def test_a_stage_that_ran_otherwise_is_named(tmp_path: Path):
    first, second = (some(tmp_path / name, range(8), PICTURES) for name in ("one", "other"))
    claims = [stage_claim("visualize", settings="0" * 16, facts=json.dumps({"seed": 7}))]
    write_rows(second, "models", SLUG, [model_row(WIDTHS, stages=claims)], provenance=PROVENANCE)
    with pytest.raises(AtlasError, match=r"the stage visualize of zoo-vit ran with other .*seed|not valid"):
        merge(first.url, second.url)


def test_what_is_no_sound_atlas_is_not_merged(tmp_path: Path):
    first, second = some(tmp_path / "one", range(8), PICTURES), some(tmp_path / "other", range(8, 16), PICTURES)
    with pytest.raises(NothingThere, match="no atlas here"):
        merge(first.url, str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    with pytest.raises(BadConfig, match="cannot be written to"):
        merge(first.url, second.url, "hf://datasets/org/name")
    with locked(second, "run-7"), pytest.raises(AtlasLocked, match="run-7 is writing"):
        merge(first.url, second.url)
    shutil.rmtree(tmp_path / "other" / "neurons")
    with pytest.raises(NotValid, match="not merged, as it is not valid"):
        merge(first.url, second.url)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, second = (some(tmp_path / str(at), range(at, at + 8), PICTURES, run=str(at)) for at in (0, 8))
    out = tmp_path / "out"
    assert call(["merge", first.url, second.url, "--out", str(out)]) == 0
    assert "zoo-vit" in capsys.readouterr().out
    assert call(["merge", first.url, second.url, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["units"] == 0
    assert call(["merge", first.url, str(tmp_path / "none")]) == 2
    assert "no atlas here" in capsys.readouterr().err
