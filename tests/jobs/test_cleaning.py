"""What `clean` removes and what it leaves, on a folder and an object store: nothing before what stands in its place."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from atlas_schema.errors import AtlasLocked, NothingThere
from atlas_schema.kept import read_rows
from atlas_schema.partials import commit_partial
from atlas_schema.parts import PARTS, committed_units, kept_path, part_path
from atlas_schema.quarantine import QUARANTINE, put_aside
from atlas_schema.shards import ShardPlace, assemble, shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import HEADS, NEURON_MATCHES, NEURONS, TABLES
from atlas_schema.units import Identity, Images, Neurons, Pair, Whole, WorkUnit
from atlas_schema.validate import Depth, check, validate
from jobs.cleaning import KINDS, Cleaning, carry_out, decide
from jobs.cli import call
from jobs.events import Fault
from jobs.lock import Lock, locked
from jobs.records import FAILED, failed_path, record_failure
from jobs.status import status_of
from tests.atlas_schema.made_atlas import (
    FINGERPRINT,
    INVERTED,
    PROVENANCE,
    SLUG,
    commit,
    make_atlas,
    model_row,
    settings_of,
    site_rows,
    stage_claim,
    units_of,
)

SHARD = shard_path("neurons", SLUG, 0, 2)
ROWS = ("visualize", "verdict", "evidence", "judge", "label", "effect", "examples", "pictures-peak", "pictures-maco")
OWN = {
    stage: Identity(FINGERPRINT, settings_of(stage)) for stage in (*ROWS, "probe", "writes", "pairs", "heads", "spans")
}
ALL_IMAGES = Images(0, 64)


def sums(store: Store, stage: str, cut: Any, slug: str = SLUG) -> WorkUnit:
    unit = OWN[stage].unit(stage, slug, cut) if stage in OWN else WorkUnit(stage, slug, cut, "e" * 64, "d" * 16)
    commit_partial(store, unit, {"a": np.arange(20.0)}, provenance=PROVENANCE)
    return unit


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "atlas" if request.param == "folder" else f"memory://clean-{time.monotonic_ns()}")


@pytest.fixture
def atlas(store: Store) -> Store:
    """All stages, with the sums that they were made of."""
    make_atlas(store)
    claims = [stage_claim(stage) for stage in (*ROWS, "pairs", "heads", *INVERTED, "probe", "writes")]
    write_rows(store, "models", SLUG, [model_row((40, 24), stages=claims)], provenance=PROVENANCE)
    sums(store, "probe", ALL_IMAGES)
    sums(store, "writes", Whole())
    return store


def clean(store: Store, **options: bool) -> Cleaning:
    with locked(store, "clean") as lock:
        cleaning = decide(store, **options)
        carry_out(store, cleaning, lock)
    return cleaning


def kinds(cleaning: Cleaning) -> dict[str, list[str]]:
    found = {kind: sorted(one.path for one in cleaning.removals if one.kind == kind) for kind in KINDS}
    return {kind: paths for kind, paths in found.items() if paths}


def shards(store: Store) -> dict[str, bytes]:
    return {path: store.read(path) for path in store.list() if path.partition("/")[0] in TABLES}


def probe_part() -> str:
    return part_path(OWN["probe"].unit("probe", SLUG, ALL_IMAGES))


def test_sums_go_when_all_that_reads_them_stands(atlas: Store):
    before = shards(atlas)
    decided = decide(atlas)
    writes = part_path(OWN["writes"].unit("writes", SLUG, Whole()))
    assert kinds(decided) == {"partials": [probe_part(), writes]}
    assert decided.again == (f"probe, writes of {SLUG}, by a run that adds neurons, stages or models",)
    assert atlas.exists(probe_part()), "deciding removes nothing"
    assert clean(atlas) == decided
    assert not atlas.exists(probe_part())
    assert shards(atlas) == before
    assert validate(atlas) == []
    assert decide(atlas).removals == (), "and then there is nothing to do"
    assert status_of(atlas)["models"][0]["missing"] == [], "what nobody needs is not missing"


def test_sums_stay_while_a_reader_is_not_in_the_shards(atlas: Store):
    unit = OWN["label"].unit("label", SLUG, Neurons(1, 0, 16))
    atlas.delete(part_path(unit))
    decided = decide(atlas)
    assert kinds(decided) == {"partials": [part_path(OWN["writes"].unit("writes", SLUG, Whole()))]}
    assert f"probe of {SLUG}: read by label of {SLUG}, not yet in shards" in decided.stays
    assert "probe" not in str(decided.again)


def test_sums_stay_while_a_shard_that_holds_what_is_made_of_them_is_damaged(atlas: Store):
    spoilt = bytearray(atlas.read(SHARD))
    spoilt[len(spoilt) // 2] ^= 1
    atlas.replace(SHARD, bytes(spoilt))
    decided = decide(atlas, parts=True)
    assert "partials" not in kinds(decided)
    assert not any("layer-00000" in path and ".neurons." in path for path in kinds(decided)["parts"])


def test_sums_stay_where_shards_say_otherwise_than_a_part(atlas: Store):
    """A row in the shard that is not the part's: the part is no copy of it."""
    unit = OWN["evidence"].unit("evidence", SLUG, Neurons(1, 0, 16))
    atlas.delete(part_path(unit))
    from tests.atlas_schema.made_atlas import stage_rows

    rows = [row for neuron in range(16) for row in stage_rows("evidence", neuron + 1 - (neuron == 15))]
    rows = [{**row, "unit": neuron} for neuron, row in enumerate(rows)]
    commit(atlas, unit, rows)
    decided = decide(atlas, parts=True)
    assert "partials" not in kinds(decided) or probe_part() not in kinds(decided)["partials"]
    assert part_path(unit) not in kinds(decided)["parts"]
    assert f"1 parts of evidence of {SLUG}: shards do not hold all their rows" in decided.stays


def test_a_reader_that_never_ran_keeps_the_sums_and_is_named(atlas: Store):
    claims = [stage_claim(stage) for stage in (*ROWS[:5], "examples", "probe")]
    write_rows(atlas, "models", SLUG, [model_row((40, 24), stages=claims)], provenance=PROVENANCE)
    assert f"probe of {SLUG}: read by effect of {SLUG}, not yet in shards" in decide(atlas).stays


def test_what_an_option_of_its_own_asks_for_keeps_sums_only_where_it_was_asked_for(atlas: Store):
    claims = [stage_claim(stage) for stage in (*ROWS, "pairs", "heads", *INVERTED, "probe", "writes", "spans")]
    write_rows(atlas, "models", SLUG, [model_row((40, 24), stages=claims)], provenance=PROVENANCE)
    spans = sums(atlas, "spans", Whole())
    assert part_path(spans) in kinds(decide(atlas))["partials"], "heads stand, and nobody asked for their pictures"
    claims.append(stage_claim("invert-heads-fast"))
    write_rows(atlas, "models", SLUG, [model_row((40, 24), stages=claims)], provenance=PROVENANCE)
    decided = decide(atlas)
    assert part_path(spans) not in kinds(decided)["partials"]
    assert f"spans of {SLUG}: read by invert-heads-fast of {SLUG}, not yet in shards" in decided.stays


def test_sums_of_the_embedder_wait_for_every_model(atlas: Store):
    embed = sums(atlas, "embed", ALL_IMAGES, "zoo-clip")
    texts = sums(atlas, "texts", Whole(), "zoo-clip")
    decided = decide(atlas)
    assert part_path(texts) in kinds(decided)["partials"]
    assert part_path(embed) in kinds(decided)["partials"], "heads stand as well"
    assert "embed, texts of zoo-clip, by a run that adds neurons, stages or models" in decided.again
    row = model_row((40, 24), "zoo-other", stages=[stage_claim("visualize")])
    write_rows(atlas, "models", "zoo-other", [row], provenance=PROVENANCE)
    write_rows(atlas, "sites", "zoo-other", site_rows((40, 24), "zoo-other"), provenance=PROVENANCE)
    assert part_path(texts) not in kinds(decide(atlas)).get("partials", [])
    assert "texts of zoo-clip: read by label of zoo-other, not yet in shards" in decide(atlas).stays


def test_slices_go_when_their_merge_is_sound(atlas: Store):
    atlas.delete(part_path(OWN["label"].unit("label", SLUG, Neurons(0, 0, 16))))  # so that the sums are needed
    slices = [sums(atlas, "probe", Images(start, start + 32)) for start in (0, 32)]
    foreign = WorkUnit("probe", SLUG, Images(0, 32), FINGERPRINT, "c" * 16)
    commit_partial(atlas, foreign, {"a": np.arange(3.0)}, provenance=PROVENANCE)
    assert kinds(decide(atlas))["slices"] == sorted(map(part_path, slices)), "those of other settings have no merge"
    spoilt = atlas.read(part_path(slices[0]))[:-30]
    atlas.replace(part_path(slices[0]), spoilt)
    assert kinds(decide(atlas))["slices"] == sorted(map(part_path, slices)), "a damaged slice is not needed either"
    whole = bytearray(atlas.read(probe_part()))
    whole[60] ^= 1
    atlas.replace(probe_part(), bytes(whole))
    assert "slices" not in kinds(decide(atlas)), "they are all there is"


def test_what_attempts_and_failures_left_goes(atlas: Store, monkeypatch: pytest.MonkeyPatch):
    done = OWN["visualize"].unit("visualize", SLUG, Neurons(0, 5, 9))  # another cut than those that are committed
    open_ = OWN["visualize"].unit("visualize", SLUG, Neurons(0, 39, 50))
    for unit in (done, open_):
        record_failure(atlas, unit, Fault("RuntimeError", "x"), "run")
    atlas.replace(f"{FAILED}/visualize/{SLUG}/cut-off.json", b'{"name": "cut o')
    heads = WorkUnit("heads", SLUG, Whole(), FINGERPRINT, "b" * 16)
    torn = part_path(heads, TABLES["head_texts"])
    atlas.replace(torn, b"x")
    decided = kinds(decide(atlas))
    assert decided["failures"] == sorted([failed_path(done), f"{FAILED}/visualize/{SLUG}/cut-off.json"])
    assert "torn" not in decided, "its writer may be at work"
    now = atlas.now()
    monkeypatch.setattr(Store, "now", lambda self: now + 86_500)
    assert kinds(decide(atlas))["torn"] == [torn]
    assert torn in [one.path for one in clean(atlas).removals]
    assert atlas.exists(failed_path(open_))


def test_hidden_files_go_by_the_stores_clock(tmp_path: Path):
    store = make_atlas(Store(tmp_path / "atlas"))
    old, new = (Path(store.url) / f"neurons/{SLUG}/.a.{name}.tmp" for name in ("1-a", "2-b"))
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - 90_000
    os.utime(old, (long_ago, long_ago))
    assert kinds(decide(store)) == {"unfinished": [f"neurons/{SLUG}/.a.1-a.tmp"]}
    clean(store)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_damaged_file_that_was_put_aside_stays_until_its_replacement_stands(atlas: Store):
    unit = OWN["evidence"].unit("evidence", SLUG, Neurons(1, 0, 16))
    good = atlas.read(part_path(unit))
    atlas.replace(part_path(unit), good[:-9])
    place = put_aside(atlas, part_path(unit))
    assert place.startswith(f"{QUARANTINE}/parts/evidence/")
    decided = decide(atlas)
    assert "quarantine" not in kinds(decided)
    assert f"{place}: damaged, and nothing stands in its place yet. Run again" in decided.stays
    atlas.replace(part_path(unit), good)
    assert kinds(clean(atlas))["quarantine"] == [place]


# With --parts.


def test_parts_go_when_shards_hold_every_row_and_records_stay(atlas: Store):
    before, units = shards(atlas), committed_units(atlas, "visualize", SLUG, OWN["visualize"])
    heads = OWN["heads"].unit("heads", SLUG, Whole())
    rows = {unit: read_rows(atlas, unit) for unit in [*units, heads]}
    texts = read_rows(atlas, heads, TABLES["head_texts"])
    count = len(atlas.list(PARTS))
    decided = clean(atlas, parts=True)
    assert sorted({path.rpartition(".")[2] for path in atlas.list(PARTS)}) == ["json"], "records, and no part"
    assert len(decided.removals) == count
    assert committed_units(atlas, "visualize", SLUG, OWN["visualize"]) == units
    for unit, held in rows.items():
        assert read_rows(atlas, unit).equals(held), "read from the shards"
    assert read_rows(atlas, heads, TABLES["head_texts"]).equals(texts)
    assert validate(atlas) == []
    assert decide(atlas, parts=True).removals == ()
    assert shards(atlas) == before
    assert status_of(atlas)["models"][0]["missing"] == []


def test_shards_assembled_from_records_are_the_same_byte_for_byte(atlas: Store):
    before = shards(atlas)
    clean(atlas, parts=True)
    for layer, width in enumerate((40, 24)):
        for table in (NEURONS, TABLES["neuron_examples"]):
            units = [
                unit
                for stage in table.stages
                for unit in units_of(layer, width, 16, SLUG, stage, settings=settings_of(stage))
            ]
            assemble(atlas, [ShardPlace(table, SLUG, layer, 2)], units)
    pairs = OWN["pairs"].unit("pairs", SLUG, Pair(SLUG, "b" * 16))
    assemble(atlas, [ShardPlace(NEURON_MATCHES, SLUG, layer, 2) for layer in range(2)], [pairs])
    assemble(atlas, [ShardPlace(HEADS, SLUG)], [OWN["heads"].unit("heads", SLUG, Whole())])
    assert shards(atlas) == before


@pytest.mark.parametrize("harm", ["damaged", "gone", "rebuilt without"])
def test_a_record_without_its_rows_is_a_damaged_part(atlas: Store, harm: str):
    from atlas_schema.errors import ShardCorrupt

    clean(atlas, parts=True)
    unit = OWN["evidence"].unit("evidence", SLUG, Neurons(0, 0, 16))
    if harm == "damaged":
        atlas.replace(SHARD, atlas.read(SHARD)[:-40])
    else:
        atlas.delete(SHARD)
    if harm == "rebuilt without":
        other = units_of(0, 40, 40, stage="visualize")
        for one in other:
            commit(atlas, one)
        assemble(atlas, [ShardPlace(NEURONS, SLUG, 0, 2)], other)
    with pytest.raises(ShardCorrupt, match=r"was cleaned away, and the neurons shards hold 0 of its 16 rows") as told:
        read_rows(atlas, unit)
    assert told.value.path == part_path(unit)
    assert (kept_path(unit), "corrupt") in {(one.path, one.kind) for one in check(atlas, Depth.DEEP).violations}


def test_a_damaged_record_is_a_damaged_part(atlas: Store):
    from atlas_schema.errors import ShardCorrupt

    clean(atlas, parts=True)
    unit = OWN["evidence"].unit("evidence", SLUG, Neurons(0, 0, 16))
    other = OWN["evidence"].unit("evidence", SLUG, Neurons(0, 16, 32))
    for content in (b"{", b"[]", b"{}", atlas.read(kept_path(other))):
        atlas.replace(kept_path(unit), content)
        with pytest.raises(ShardCorrupt, match="Run again") as told:
            read_rows(atlas, unit)
        assert told.value.path == part_path(unit)


@pytest.mark.parametrize("after", [0, 1, 7, 30, 31, 33, 45])
def test_killed_half_way_it_has_lost_nothing_and_ends_when_done_again(
    atlas: Store, after: int, monkeypatch: pytest.MonkeyPatch
):
    before, everything = shards(atlas), _all_rows(atlas)
    done = 0
    delete, replace = Store.delete, Store.replace

    def counted(call: Any) -> Any:
        def step(self: Store, path: str, *rest: bytes) -> Any:
            nonlocal done
            if path.startswith(PARTS):
                done += 1
                if done > after:
                    raise KeyboardInterrupt
            return call(self, path, *rest)

        return step

    with monkeypatch.context() as patched:
        patched.setattr("jobs.cleaning.AT_ONCE", 1)
        patched.setattr(Store, "delete", counted(delete))
        patched.setattr(Store, "replace", counted(replace))
        with pytest.raises(KeyboardInterrupt):
            clean(atlas, parts=True)
    assert shards(atlas) == before
    assert _all_rows(atlas) == everything
    clean(atlas, parts=True)
    assert _all_rows(atlas) == everything
    assert not [path for path in atlas.list(PARTS) if path.endswith(".parquet")]


def _all_rows(store: Store) -> dict[WorkUnit, list[dict[str, Any]]]:
    units = [unit for stage in (*ROWS, "pairs", "heads") for unit in committed_units(store, stage, SLUG, OWN[stage])]
    return {unit: read_rows(store, unit).to_pylist() for unit in units}


def test_a_pair_of_two_models_stands_in_the_shards_of_both(store: Store):
    from tests.atlas_schema.made_atlas import made_rows

    slugs = (SLUG, "zoo-b")
    unit = OWN["pairs"].unit("pairs", SLUG, Pair("zoo-b", "b" * 16))
    rows = [
        {**row, "slug": one, "layer": 0, "address": f"{one}/mlp/0/{neuron}", "partner_slug": other}
        for one, other in (slugs, slugs[::-1])
        for neuron in range(4)
        for row in made_rows(NEURON_MATCHES, "pairs", neuron)
    ]
    commit(store, unit, rows)
    for slug in slugs:
        claims = [stage_claim("pairs")]
        write_rows(store, "models", slug, [model_row((40, 24), slug, stages=claims)], provenance=PROVENANCE)
        write_rows(store, "sites", slug, site_rows((40, 24), slug, ["pairs"]), provenance=PROVENANCE)
    assemble(store, [ShardPlace(NEURON_MATCHES, SLUG, 0, 2)], [unit])
    assert "parts" not in kinds(decide(store, parts=True)), "the other model's rows stand nowhere yet"
    assemble(store, [ShardPlace(NEURON_MATCHES, "zoo-b", 0, 2)], [unit])
    before, part = shards(store), read_rows(store, unit)
    assert kinds(clean(store, parts=True))["parts"] == [part_path(unit)]
    assert isinstance(part, pa.Table)
    assert read_rows(store, unit).equals(part)
    for slug in slugs:
        assemble(store, [ShardPlace(NEURON_MATCHES, slug, 0, 2)], [unit])
    assert shards(store) == before


# The command.


def test_the_command_is_dry_unless_told(atlas: Store, capsys: pytest.CaptureFixture[str]):
    before = atlas.list()
    assert call(["clean", atlas.url]) == 0
    said = capsys.readouterr().out
    assert "partials" in said
    assert "2 files" in said
    assert "of which all that is made stands in shards" in said
    assert f"Would be computed again: probe, writes of {SLUG}, by a run that adds neurons" in said
    assert "Nothing was removed; --yes removes them." in said
    assert atlas.list() == before
    assert call(["clean", atlas.url, "--parts", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["removed"], told["files"]) == (False, len(told["paths"]))
    assert {one["kind"] for one in told["kinds"]} == {"partials", "parts"}
    assert atlas.list() == before
    assert call(["clean", atlas.url, "--parts", "--yes"]) == 0
    assert "removed" in capsys.readouterr().out
    assert set(told["paths"]).isdisjoint(atlas.list())
    assert call(["clean", atlas.url, "--parts", "--remove"]) == 0
    assert "removed 0 files" in capsys.readouterr().out


def test_never_while_a_run_is_at_work(atlas: Store, capsys: pytest.CaptureFixture[str]):
    with locked(atlas, "the-run"):
        before = atlas.list()
        assert call(["clean", atlas.url, "--yes"]) == AtlasLocked.exit_code
        assert "run the-run" in capsys.readouterr().err
        assert atlas.list() == before


def test_a_lock_that_is_lost_ends_it(atlas: Store):
    lock = Lock(atlas, "clean")
    lock.lost = True
    with pytest.raises(AtlasLocked, match="took over"):
        carry_out(atlas, decide(atlas), lock)
    assert atlas.exists(probe_part())


def test_where_there_is_no_atlas(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert call(["clean", str(tmp_path / "none"), "--yes"]) == NothingThere.exit_code
    assert "no atlas here" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_nothing_goes_of_a_model_whose_row_is_damaged(atlas: Store):
    path = shard_path("models", SLUG)
    atlas.replace(path, atlas.read(path)[:-10])
    decided = decide(atlas, parts=True)
    assert decided.removals == ()
    assert f"everything of {SLUG}: its row of `models` is damaged" in decided.stays[0]
