"""What is damaged heals in the next run, or is said; and nothing is deleted before what replaces it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.errors import StoreFailed
from atlas_schema.parts import PARTS
from atlas_schema.quarantine import QUARANTINE
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from atlas_schema.validate import validate
from jobs.assembly import Shards
from jobs.config import load_config
from jobs.driver import run as carry_out
from jobs.prepare import open_store
from jobs.records import failures
from jobs.status import status_of
from tests.jobs.conftest import Runner, evidence, neurons
from tests.jobs.tiny import EVIDENCE, OPTIONS

pytestmark = pytest.mark.timeout(900)

SMALL = {"workers": 1, "layers": "0", "units": "0:32"}
PROBED = {**EVIDENCE, "models": ["zoo/vit"], "probe": "zoo:64", "panel": 64, "units": "0:8", "workers": 1}
FULL = {**PROBED, "stages": "visualize,probe,label,effect"}


def made(out: Path, **options: Any) -> Path:
    config = load_config(None, {**OPTIONS, **options, "out": str(out)})
    assert carry_out(config, command="test", say=lambda text: None).exit_code == 0
    return out


@pytest.fixture(scope="module")
def small(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 32 neurons."""
    return made(tmp_path_factory.mktemp("small") / "atlas", **SMALL)


@pytest.fixture(scope="module")
def full(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is said of 8 neurons of one model."""
    return made(tmp_path_factory.mktemp("full") / "atlas", **FULL)


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "atlas"))


@pytest.fixture
def probed(full: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(full, tmp_path / "atlas"))


def spoil(path: Path) -> bytes:
    """Change one byte in the middle of a file; what it was before."""
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :])
    return good


def aside(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / QUARANTINE).rglob("*") if path.is_file())


def sound(folder: Path) -> None:
    assert validate(Store(str(folder))) == []


def test_a_damaged_part_is_kept_until_its_replacement_is_committed(
    run_into: Runner, copy: Path, small: Path, monkeypatch: pytest.MonkeyPatch
):
    """The run that finds it cannot do it again: its bytes stay, and what the shard holds of it does too."""
    part = sorted(copy.glob(f"{PARTS}/visualize/**/*.parquet"))[0]
    spoil(part)
    bad = part.read_bytes()
    wider = {**SMALL, "units": "0:48"}  # so that the shard is written again, and its parts are read
    report = run_into(copy, "start@visualize*units 0 to 15=raise!", retries=0, **wider)
    assert (report.exit_code, report.units_failed) == (1, 1)
    assert not part.exists()
    assert [path.read_bytes() for path in aside(copy)] == [bad]
    assert neurons(copy).slice(0, 32).equals(neurons(small)), "the shard kept the rows"
    report = run_into(copy, **wider)
    assert (report.exit_code, report.units_done) == (0, 1)
    assert part.exists()
    assert aside(copy) == [], "its replacement stands"
    assert neurons(copy).slice(0, 32).equals(neurons(small))
    sound(copy)


def test_a_read_that_fails_in_passing_is_no_damage(
    run_into: Runner, copy: Path, small: Path, monkeypatch: pytest.MonkeyPatch
):
    read, met = Store.read, set()

    def unsure(self: Store, path: str) -> bytes:
        data = read(self, path)
        if path.endswith(".parquet") and path not in met:
            met.add(path)
            return data[:-5]
        return data

    monkeypatch.setattr(Store, "read", unsure)
    for path in copy.glob("neurons/*/*.parquet"):
        path.unlink()  # so that the parts are read; by the driver, as its store is the one that is unsure
    monkeypatch.setattr(Shards, "begin", lambda self: [])
    report = run_into(copy, **SMALL)
    monkeypatch.undo()
    assert (report.exit_code, report.units_done) == (0, 0)
    assert any(PARTS in path for path in met)
    assert neurons(copy).equals(neurons(small))
    assert aside(copy) == []


def test_a_damaged_sum_is_kept_until_it_is_made_again(run_into: Runner, probed: Path, full: Path):
    (probe,) = probed.glob(f"{PARTS}/probe/**/*.parquet")
    probe.write_bytes(probe.read_bytes()[:-20])
    bad = probe.read_bytes()
    for path in probed.glob(f"{PARTS}/evidence/**/*.parquet"):
        path.unlink()  # so that somebody reads the sums
    report = run_into(probed, "start@probe*=raise!", retries=0, **FULL)
    assert report.exit_code == 1
    assert [path.read_bytes() for path in aside(probed)] == [bad]
    assert run_into(probed, **FULL).exit_code == 0
    assert aside(probed) == []
    assert evidence(probed) == evidence(full)
    sound(probed)


def test_a_part_of_a_stage_that_the_run_leaves_alone_is_read_from_the_shard(run_into: Runner, probed: Path, full: Path):
    """`judge` compares pictures; the run that does it again does not make pictures, and their part is damaged."""
    (picture,) = probed.glob(f"{PARTS}/visualize/**/*.parquet")
    spoil(picture)
    for path in probed.glob(f"{PARTS}/judge/**/*.parquet"):
        path.unlink()
    report = run_into(probed, **{**FULL, "stages": "probe"})
    assert report.exit_code == 0
    assert evidence(probed) == evidence(full)
    assert run_into(probed, **FULL).exit_code == 0
    sound(probed)


def test_a_part_that_nobody_can_make_or_read_ends_its_reader_with_a_report(run_into: Runner, probed: Path):
    (picture,) = probed.glob(f"{PARTS}/visualize/**/*.parquet")
    spoil(picture)
    for path in [*probed.glob(f"{PARTS}/judge/**/*.parquet"), *probed.glob("neurons/**/*.parquet")]:
        path.unlink()
    report = run_into(probed, **{**FULL, "stages": "probe"}, retries=0)
    assert report.exit_code == 1
    assert report.missing == ["zoo-vit/mlp/0 units 0 to 7 (judge)"]
    assert "visualize" in json.loads(next(probed.glob(".atlas/failed/judge/**/*.json")).read_text())["error"]
    assert run_into(probed, **FULL).exit_code == 0
    sound(probed)


def test_a_damaged_slice_whose_merge_stands_goes_unread(run_into: Runner, probed: Path, full: Path):
    (merge,) = probed.glob(f"{PARTS}/probe/**/*.parquet")
    unit = _slice_beside(Store(str(probed)), merge)
    report = run_into(probed, **FULL)
    assert (report.exit_code, report.units_done) == (0, 0)
    assert not (probed / unit).exists()
    assert evidence(probed) == evidence(full)


def test_slices_stay_where_their_merge_is_damaged(run_into: Runner, probed: Path, full: Path):
    """A run was killed between a merge and the removal of its slices; then the merge was damaged."""
    (merge,) = probed.glob(f"{PARTS}/probe/**/*.parquet")
    unit = _slice_beside(Store(str(probed)), merge)
    spoil(merge)
    for path in probed.glob(f"{PARTS}/evidence/**/*.parquet"):
        path.unlink()
    report = run_into(probed, "start@probe*=raise!", retries=0, **FULL)
    assert report.exit_code == 1
    assert (probed / unit).exists(), "it is all there is"
    assert len(aside(probed)) == 1
    (probed / unit).unlink()  # it was no true slice
    assert run_into(probed, **FULL).exit_code == 0
    assert evidence(probed) == evidence(full)


def _slice_beside(store: Store, merge: Path) -> str:
    """A damaged slice of the first images beside a merge; its path."""
    import numpy as np

    from atlas_schema.partials import commit_partial
    from atlas_schema.parts import decode_part, part_path
    from atlas_schema.units import Images

    whole = decode_part(merge.read_bytes(), str(merge.relative_to(store.url)))[1]
    unit = whole.identity.unit("probe", whole.slug, Images(0, 32))
    commit_partial(store, unit, {"a": np.zeros(3)}, provenance={})
    spoil(Path(store.url) / part_path(unit))
    return part_path(unit)


def test_a_damaged_table_of_probe_images_is_written_again(run_into: Runner, probed: Path, full: Path):
    (table,) = probed.glob("probe_images/**/*.parquet")
    good = table.read_bytes()
    for spoilt in (good[:-30], b"", good[:3000] + b"?" + good[3001:]):
        table.write_bytes(spoilt)
        report = run_into(probed, **FULL)
        assert (report.exit_code, report.units_done) == (0, 0)
        assert table.read_bytes() == good


def test_a_damaged_row_of_a_run_is_put_aside_and_others_are_closed(run_into: Runner, copy: Path):
    folder = copy / "runs"
    (row,) = folder.iterdir()
    killed = Atlas(str(copy)).runs()[0] | {"run_id": "20200101t000000z-killed", "status": "running", "finished": None}
    from atlas_schema.shards import write_rows

    write_rows(Store(str(copy)), "runs", killed["run_id"], [killed], provenance={"code_version": "0"})
    spoil(next(row.iterdir()))
    said: list[str] = []
    config = load_config(None, {**OPTIONS, **SMALL, "out": str(copy)})
    report = carry_out(config, command="test", say=said.append)
    assert (report.exit_code, report.error) == (0, "")
    assert any("was damaged and was put aside (.atlas/quarantine)" in line for line in said)
    assert [path.relative_to(copy / QUARANTINE).parts[0] for path in aside(copy)] == ["runs"]
    assert [one["status"] for one in Atlas(str(copy)).runs()] == ["interrupted", "done"]
    sound(copy)


@pytest.mark.parametrize("content", [b'{"name": "cut o', b"", b"{}", b"[]", b"\xff\xfe", b'{"name": "x", "unit": 3}'])
def test_a_failure_record_that_cannot_be_read_stops_nobody(run_into: Runner, copy: Path, content: bytes):
    record = copy / ".atlas/failed/visualize/zoo-vit--random/layer-00000-000000-000016-0123456789abcdef.json"
    record.parent.mkdir(parents=True)
    record.write_bytes(content)
    store = Store(str(copy))
    assert [one["error"] for one in failures(store)] == ["this record cannot be read"]
    assert "cannot be read" in status_of(store)["failed"][0]["error"]
    assert run_into(copy, **SMALL).exit_code == 0
    assert not record.exists()


@pytest.mark.parametrize("form", ["file://{}", pytest.param("file:{}", marks=pytest.mark.slow)])
def test_a_run_into_a_file_url(
    run_into: Runner, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
):
    """Workers start elsewhere: a relative one means the driver's folder all the same."""
    monkeypatch.chdir(tmp_path)
    out = form.format("deep/atlas" if form == "file:{}" else tmp_path / "deep/atlas")
    assert open_store(out).url == str(tmp_path / "deep/atlas")
    report = run_into(Path("unused"), **{**SMALL, "out": out})
    assert (report.exit_code, report.atlas) == (0, str(tmp_path / "deep/atlas"))
    assert neurons(tmp_path / "deep/atlas").equals(neurons(small))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "marks"]


@pytest.mark.parametrize("after", ["the first commit", "the last commit"])
@pytest.mark.slow
def test_a_folder_deleted_in_the_middle_of_a_run_ends_it_with_a_report(run_into: Runner, tmp_path: Path, after: str):
    """Writers make folders that are not there: without a look the run would fill the ruin, and blame a part."""
    from jobs.driver import Run

    folder = tmp_path / "atlas"
    settle, seen = Run.committed, []

    def then_gone(self: Run, *args: Any) -> Any:
        units = settle(self, *args)
        seen.append(1)
        if (after == "the first commit" and len(seen) == 1) or not self.graph.missing():
            shutil.rmtree(folder)
        return units

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Run, "committed", then_gone)
        with pytest.raises(StoreFailed, match="the atlas was deleted or moved while this run wrote to it") as told:
            run_into(folder, **SMALL)
    assert told.value.exit_code == 1
    shutil.rmtree(folder, ignore_errors=True)
    assert run_into(folder, **SMALL).exit_code == 0
    sound(folder)


def test_a_long_run_notices_soon_that_its_folder_is_gone(run_into: Runner, tmp_path: Path):
    from jobs.driver import Run

    folder = tmp_path / "atlas"

    def then_gone(self: Run, worker: int, unit: Any, attempt: int) -> None:
        shutil.rmtree(folder)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Run, "started", then_gone)
        patched.setattr("jobs.driver.LOOK_SECONDS", 0.0)
        with pytest.raises(StoreFailed, match="the atlas was deleted or moved"):
            run_into(folder, "start@*=sleep:300", **SMALL)
