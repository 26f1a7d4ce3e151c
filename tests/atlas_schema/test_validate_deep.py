"""`validate --deep`: what lies under `.atlas` is read as its readers do, and each finding says what to do."""

from __future__ import annotations

import json
import threading

import numpy as np
import pyarrow as pa
import pytest

from atlas_schema.kept import Kept, counts, write_kept
from atlas_schema.parquet import encode
from atlas_schema.partials import commit_partial
from atlas_schema.parts import decode_part, kept_path, part_footer, part_path
from atlas_schema.rows import rows_to_table
from atlas_schema.store import Store
from atlas_schema.tables import NEURONS, PARTIALS
from atlas_schema.units import Images, WorkUnit
from atlas_schema.validate import Depth, Violation, check, what_to_do
from jobs.cli import call
from tests.atlas_schema.made_atlas import FINGERPRINT, PROVENANCE, SLUG, units_of

PROBE = WorkUnit("probe", SLUG, Images(0, 64), FINGERPRINT, "d" * 16)
FIRST = units_of(0, 40, 16)[0]


def found(store: Store, depth: Depth = Depth.DEEP) -> set[tuple[str, str]]:
    return {(fault.path, fault.kind) for fault in check(store, depth).violations}


def test_a_sound_atlas_has_no_faults_and_all_its_files_are_counted(atlas: Store):
    commit_partial(atlas, PROBE, {"a": np.arange(4.0), "b": np.zeros((2, 3))}, provenance=PROVENANCE)
    report = check(atlas, Depth.DEEP)
    assert report.violations == []
    assert report.files == len(atlas.list())


def test_arrays_that_their_own_bytes_contradict_are_found_by_reading_them(atlas: Store):
    """The digest is right, as whoever wrote it was wrong: only a reader of the array sees it."""
    row = {"array": "a", "piece": 0, "dtype": "<f8", "shape": [5], "data": b"\0" * 24}
    data = rows_to_table(PARTIALS.columns, PARTIALS.schema(), [row])
    atlas.create(part_path(PROBE), encode(PARTIALS, data, part_footer(PROBE, PROVENANCE), rows_per_group=1))
    assert found(atlas, Depth.BYTES) == set()
    assert found(atlas) == {(part_path(PROBE), "corrupt")}
    (fault,) = check(atlas, Depth.DEEP).violations
    assert "24 bytes of an array of 40" in fault.message
    assert "its unit is done anew" in what_to_do(fault)


def test_a_partial_under_another_name_is_found(atlas: Store):
    commit_partial(atlas, PROBE, {"a": np.arange(4.0)}, provenance=PROVENANCE)
    other = PROBE.identity.unit("probe", SLUG, Images(64, 128))
    atlas.create(part_path(other), atlas.read(part_path(PROBE)))
    foreign_key = part_path(PROBE).replace(PROBE.key, "0" * 16)
    atlas.create(foreign_key, atlas.read(part_path(PROBE)))
    assert found(atlas) == {(part_path(other), "corrupt"), (foreign_key, "corrupt")}


def test_values_and_pictures_of_parts_are_looked_at(atlas: Store):
    """A picture that was never one, in a part whose shard was not assembled since."""
    rows, _, footer = decode_part(atlas.read(part_path(FIRST)), part_path(FIRST))
    images = [{"bytes": b"no picture", "path": None}, *rows["image"].to_pylist()[1:]]
    spoilt = rows.set_column(
        rows.schema.get_field_index("image"), "image", pa.array(images, rows.schema.field("image").type)
    ).replace_schema_metadata(rows.schema.metadata)
    own = {name: value for name, value in footer.items() if name not in ("table", "schema_version")}
    atlas.replace(part_path(FIRST), encode(NEURONS, spoilt, own))
    assert found(atlas, Depth.BYTES) == set()
    assert found(atlas) == {(part_path(FIRST), "image")}


def test_records_of_failures(atlas: Store):
    names = {"a.json": b'{"name": "cut', "b.json": b"{}", "c.json": json.dumps({"unit": FIRST.metadata()}).encode()}
    paths = {f".atlas/failed/visualize/{SLUG}/{name}": content for name, content in names.items()}
    for path, content in paths.items():
        atlas.replace(path, content)
    own = f".atlas/failed/visualize/{SLUG}/{FIRST.cut.name}-{FIRST.key}.json"
    atlas.replace(own, names["c.json"])
    report = check(atlas, Depth.DEEP)
    assert {(fault.path, fault.kind) for fault in report.violations} == {(path, "corrupt") for path in paths}
    assert {what_to_do(fault) for fault in report.violations} == {
        "`neuron-atlas clean --yes` removes it; so does the next run."
    }


def record(store: Store, unit: WorkUnit) -> None:
    """Clean the part of a unit of `neurons` away."""
    rows, _, footer = decode_part(store.read(part_path(unit)), part_path(unit))
    write_kept(store, unit, Kept({"neurons": footer}, {"neurons": counts(rows, SLUG)}))
    store.delete(part_path(unit))


def test_records_of_parts_against_the_shards(atlas: Store):
    for unit in units_of(0, 40, 16):
        record(atlas, unit)
    assert found(atlas) == set()
    path = kept_path(FIRST)
    told = json.loads(atlas.read(path))
    told["rows"]["neurons"][SLUG] += 1
    atlas.replace(path, json.dumps(told).encode())
    assert found(atlas, Depth.BYTES) == set()
    assert found(atlas) == {(path, "corrupt")}
    for content in (b"{", b"[]", atlas.read(kept_path(units_of(0, 40, 16)[1]))):
        atlas.replace(path, content)
        assert found(atlas, Depth.BYTES) == {(path, "corrupt")}
    atlas.replace(f".atlas/parts/visualize/{SLUG}/notes.kept.json", b"{}")
    assert (f".atlas/parts/visualize/{SLUG}/notes.kept.json", "stray") in found(atlas)


def test_several_files_are_read_at_once(atlas: Store, monkeypatch: pytest.MonkeyPatch):
    """Two threads meet in the reading of parts: were they read in turn, the barrier would break."""
    barrier, read = threading.Barrier(2, timeout=60), Store.read
    met = threading.Event()

    def meeting(self: Store, path: str) -> bytes:
        if "/parts/visualize/" in path and not met.is_set():
            barrier.wait()
            met.set()
        return read(self, path)

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(Store, "read", meeting)
    assert check(atlas, Depth.DEEP).violations == []
    assert met.is_set()


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("notes.txt", "stray", "delete it"),
        (f"neurons/{SLUG}/train-00000-of-00002.parquet", "missing", "does what is missing"),
        (f"neurons/{SLUG}/train-00000-of-00002.parquet", "corrupt", "written anew"),
        (f"neurons/{SLUG}/train-00000-of-00002.parquet", "value", "report it"),
        (f"models/{SLUG}/train-00000-of-00001.parquet", "corrupt", "Run the command"),
        ("runs/2026-11-21-a1b2/train-00000-of-00001.parquet", "corrupt", "puts it aside"),
        ("README.md", "card", "Write the card again"),
        (f"neurons/{SLUG}/train-00000-of-00002.parquet", "version", "release"),
    ],
)
def test_each_finding_says_what_to_do(path: str, kind: str, words: str):
    assert words in what_to_do(Violation(path, kind, ""))


def test_the_command(atlas: Store, capsys: pytest.CaptureFixture[str]):
    assert call(["validate", atlas.url, "--deep"]) == 0
    assert capsys.readouterr().out == f"{atlas.url}: valid, {len(atlas.list())} files\n"
    atlas.replace(part_path(FIRST), b"PAR1")
    assert call(["validate", atlas.url, "--deep"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{part_path(FIRST)}: corrupt: ")
    assert lines[1].startswith("    `neuron-atlas clean --yes` puts it aside; then run")
    assert lines[2] == f"{atlas.url}: 1 violations, {len(atlas.list())} files"
    assert call(["validate", atlas.url, "--deep", "--json"]) == 1
    (told,) = json.loads(capsys.readouterr().out)
    assert told.keys() == {"path", "kind", "message", "what_to_do"}
    assert call(["validate", atlas.url, "--deep", "--quick"]) == 2
    assert "expected one of them" in capsys.readouterr().err
