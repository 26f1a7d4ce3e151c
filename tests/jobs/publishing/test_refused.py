"""push: what is not published, and why; which records of what is done go with what is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from atlas_schema.errors import AtlasLocked, BadConfig, ForeignAtlas, NothingThere, NotValid
from atlas_schema.kept import kept_record
from atlas_schema.parquet import decode, encode
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from jobs.cleaning import carry_out, decide
from jobs.lock import locked
from jobs.publishing import limits
from jobs.publishing.push import push
from jobs.publishing.records import records_of
from jobs.standing import Files, Standing
from tests.hub_server import TOKEN, Blob, HubServer
from tests.jobs.publishing.conftest import files, made_in


def url(name: str) -> str:
    return f"hf://datasets/{name}"


def slow(value: object) -> object:
    return pytest.param(value, marks=pytest.mark.slow)


def change(folder: Path, path: str, edit: Callable[[bytes], bytes]) -> None:
    (folder / path).write_bytes(edit((folder / path).read_bytes()))


def test_no_atlas_no_token_no_repository(atlas: Path, hub: HubServer, name: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(NothingThere, match="/nowhere: no atlas here: expected"):
        push("/nowhere", url(name))
    for wrong in ("hf://name", "hf://datasets/name", "hf://models/org/name", "hf://datasets/org/name/neurons"):
        with pytest.raises(BadConfig, match="Expected hf://datasets/ORGANISATION/NAME"):
            push(str(atlas), wrong)
    with pytest.raises(BadConfig, match="a push goes to the branch main"):
        push(str(atlas), f"{url(name)}@v1")
    for tag in ("main", "v 1", ""):
        with pytest.raises(BadConfig, match="not the name of a tag"):
            push(str(atlas), url(name), tag=tag)
    with pytest.raises(BadConfig, match=r"is published already; `neuron-atlas pull"):
        push(url(name), "memory://elsewhere")
    with pytest.raises(BadConfig, match="is the atlas itself"):
        push(str(atlas), f"{atlas}/")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    with pytest.raises(BadConfig, match=r"no token to publish with. Log in with `hf auth login`, or set HF_TOKEN"):
        push(str(atlas), url(name))
    monkeypatch.setenv("HF_TOKEN", f"not-{TOKEN}")
    with pytest.raises(BadConfig, match=r"does not let this token make it \(401\)"):
        push(str(atlas), url(name))
    assert name not in hub.repositories


def test_what_is_not_valid_is_not_published(atlas: Path, hub: HubServer, name: str, tmp_path: Path):
    folder = Path(shutil.copytree(atlas, tmp_path / "atlas"))
    shard = "neurons/zoo-vit/train-00001-of-00002.parquet"
    change(folder, shard, lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:])
    with pytest.raises(NotValid, match=rf"{shard}: corrupt: .*neuron-atlas validate {folder}"):
        push(str(folder), url(name))
    (folder / shard).unlink()
    with pytest.raises(NotValid, match="missing") as told:
        push(str(folder), str(tmp_path / "out"))
    assert told.value.exit_code == 1
    assert name not in hub.repositories
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("harm", ["none", "fewer rows", "part cut", "shard cut", "shard gone", "cleaned"])
def test_records_are_of_what_stands_and_those_that_cleaning_leaves(atlas: Path, tmp_path: Path, harm: str):
    store = Store(Path(shutil.copytree(atlas, tmp_path / "atlas")))
    shard, match = (
        "neurons/zoo-deit/train-00000-of-00001.parquet",
        "neuron_matches/zoo-vit/train-00001-of-00002.parquet",
    )
    if harm == "fewer rows":
        for path, table in ((shard, TABLES["neurons"]), (match, TABLES["neuron_matches"])):
            rows, footer = decode(store.read(path), path)
            told = {key: value for key, value in footer.items() if key not in ("table", "schema_version")}
            store.replace(path, encode(table, rows.slice(0, rows.num_rows - 2), told))
    elif harm == "part cut":
        part = next(path for path in store.list(".atlas/parts") if "zoo-deit" in path)
        store.replace(part, store.read(part)[:-9])
    elif harm == "shard cut":
        store.replace(shard, store.read(shard)[:-9])
    elif harm == "shard gone":
        store.delete(shard)
    elif harm == "cleaned":
        with locked(store, "test") as lock:
            carry_out(store, decide(store, parts=True), lock)
    whole = {unit for unit, _ in records_of(Store(atlas))}
    found = {unit: kept_record(unit, kept) for unit, kept in records_of(store)}
    assert found == {unit: kept_record(unit, kept) for unit, kept in Standing(store, Files(store)).held.items()}
    lacking = {(unit.stage, unit.slug) for unit in whole - found.keys()}
    visualized = {("visualize", "zoo-deit")}
    assert lacking == {"none": set(), "cleaned": set(), "fewer rows": visualized | {("pairs", "zoo-vit")}}.get(
        harm, visualized
    )


@pytest.mark.slow
def test_damaged_parts_are_no_matter(atlas: Path, tmp_path: Path):
    folder = Path(shutil.copytree(atlas, tmp_path / "atlas"))
    part = next(path for path in folder.rglob(".atlas/parts/visualize/**/*.parquet"))
    part.write_bytes(part.read_bytes()[:-9])
    push(str(folder), str(tmp_path / "out"))
    there = {path for path in Store(tmp_path / "out").list() if "/visualize/zoo-" in path}
    assert len(there) == len(list(part.parent.parent.rglob("*.parquet"))) - 1, "all records but that one's"


def test_not_while_a_run_is_at_work(atlas: Path, hub: HubServer, name: str, tmp_path: Path):
    store = Store(Path(shutil.copytree(atlas, tmp_path / "atlas")))
    with locked(store, "a-run"), pytest.raises(AtlasLocked, match=r"a-run .*is writing to this atlas"):
        push(store.url, url(name))
    target = Store(tmp_path / "out")
    with locked(target, "another-push"), pytest.raises(AtlasLocked, match="another-push"):
        push(store.url, target.url)


def test_tags_stay_and_privacy_is_no_afterthought(atlas: Path, hub: HubServer, name: str):
    push(str(atlas), url(name), tag="v1")
    repository = hub.repositories[name]
    repository.add("theirs", {**repository.commits[-1].files, "theirs.txt": Blob(b"theirs", False)})
    with pytest.raises(BadConfig, match=r"the tag v1 stands at .*is not moved. Choose another: there are v1"):
        push(str(atlas), url(name), tag="v1")
    with pytest.raises(BadConfig, match="is public already; --private is for a new repository"):
        push(str(atlas), url(name), private=True)
    for words in ({"tag": "v1"}, {"private": True}):
        with pytest.raises(BadConfig, match=r"--(tag|private) is of the Hub"):
            push(str(atlas), "memory://somewhere", **words)


@pytest.mark.slow
def test_what_the_host_would_not_take(atlas: Path, hub: HubServer, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "FOLDER", 10)
    with pytest.raises(BadConfig, match=r"entries in the folder .*; the Hub takes 10"):
        push(str(atlas), url(name))
    monkeypatch.setattr(limits, "FILES", 20)
    with pytest.raises(BadConfig, match=r"files to publish; the Hub takes 20 in a repository"):
        push(str(atlas), url(name), dry_run=True)
    assert name not in hub.repositories


@pytest.mark.parametrize("kind", ["hub", slow("folder")])
def test_a_push_loses_nothing_unless_told_to(atlas: Path, hub: HubServer, name: str, tmp_path: Path, kind: str):
    target = url(name) if kind == "hub" else str(tmp_path / "out")
    push(str(atlas), target)
    one = Store(Path(shutil.copytree(atlas, tmp_path / "one", ignore=shutil.ignore_patterns("zoo-deit"))))
    with pytest.raises(ForeignAtlas, match=r"holds 3 tables that .*, of zoo-deit; its card would leave them out"):
        push(one.url, target)
    less = made_in(tmp_path / "less", widths=(8, 8))
    with pytest.raises(ForeignAtlas, match=r"zoo-vit/train-00000-of-00002.parquet: holds \d+ rows, the new one"):
        push(less.url, target)
    done = push(one.url, target, replace=True)
    assert done.removed_files == 5
    left = files(hub.repositories[name]) if kind == "hub" else Store(target).list()
    assert [path for path in left if "zoo-deit" in path] == []
