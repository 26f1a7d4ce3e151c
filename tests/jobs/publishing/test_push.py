"""push: what is published, that it is whole at its tag whatever happens, and that a rerun sends what is missing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.errors import AtlasLocked, BadConfig, ForeignAtlas, NothingThere, NotValid, StoreFailed
from atlas_schema.kept import kept_record
from atlas_schema.lookup import lookup_path
from atlas_schema.parquet import decode, encode
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from atlas_schema.validate import Depth, check
from jobs.cleaning import carry_out, decide
from jobs.cli import call
from jobs.lock import locked
from jobs.publishing import limits
from jobs.publishing.push import push
from jobs.publishing.records import records_of
from jobs.publishing.selection import is_record, is_shard
from jobs.standing import Files, Standing
from tests.atlas_schema.made_atlas import make_atlas
from tests.hub_server import TOKEN, Blob, Fault, HubServer, environment
from tests.jobs.publishing.conftest import files, made_in

LARGE = "PUT /lfs/"


def url(name: str) -> str:
    return f"hf://datasets/{name}"


def slow(value: object) -> object:
    return pytest.param(value, marks=pytest.mark.slow)


def by_batches_of(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(limits, "LARGE_A_COMMIT", count)


# what is published


def test_tables_card_and_records_are_published_and_nothing_else(atlas: Path, hub: HubServer, name: str, tmp_path: Path):
    done = push(str(atlas), url(name), tag="v1")
    published = files(hub.repositories[name])
    shards = {path: (atlas / path).read_bytes() for path in Store(atlas).list() if is_shard(path)}
    assert {path: data for path, data in published.items() if is_shard(path)} == shards
    lookups = {lookup_path(path) for path in shards if path.startswith("neurons/")}
    assert {path for path in published if not is_shard(path) and not is_record(path)} == {
        "README.md",
        ".atlas/files.json",
        *lookups,
    }
    # The records are those that cleaning with --parts would leave.
    cleaned = Store(Path(shutil.copytree(atlas, tmp_path / "cleaned")))
    with locked(cleaned, "test") as lock:
        carry_out(cleaned, decide(cleaned, parts=True), lock)
    records = {path: cleaned.read(path) for path in cleaned.list(".atlas/parts") if is_record(path)}
    assert {path: data for path, data in published.items() if is_record(path)} == records != {}
    assert f'load_dataset("{name}", "neurons"' in published["README.md"].decode()
    assert f'Atlas("{url(name)}")' in published["README.md"].decode()
    assert not hub.repositories[name].private
    assert hub.repositories[name].tags == {"v1": done.revision} == {"v1": hub.repositories[name].commits[-1].id}
    assert (done.files, done.bytes) == (len(published), sum(map(len, published.values())))
    large = sum(len(data) for path, data in published.items() if path in shards or path in lookups)
    assert hub.sent_by_client(LARGE) == large
    assert not (atlas / ".atlas/lock.json").exists()


@pytest.mark.slow
def test_a_published_copy_is_a_valid_atlas(atlas: Path, hub: HubServer, name: str, tmp_path: Path):
    """Every file as anybody downloads them, by whatever means."""
    push(str(atlas), url(name))
    for path, data in files(hub.repositories[name]).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    assert check(Store(tmp_path), Depth.DEEP).violations == []


@pytest.mark.slow
def test_the_listing_tells_size_and_digest_of_every_file(atlas: Path, hub: HubServer, name: str):
    push(str(atlas), url(name))
    published = files(hub.repositories[name])
    listed = json.loads(published.pop(".atlas/files.json"))["files"]
    assert {path: (told["bytes"], told["sha256"]) for path, told in listed.items()} == {
        path: (len(data), Blob(data, False).sha256) for path, data in published.items()
    }


@pytest.mark.parametrize("streaming", [pytest.param(False, marks=pytest.mark.slow), True])
def test_datasets_load_from_the_repository(
    atlas: Path, hub: HubServer, name: str, streaming: bool, tmp_path_factory: pytest.TempPathFactory
):
    import datasets

    push(str(atlas), url(name), tag="v1")
    rows = list(datasets.load_dataset(name, "neurons", split="train", revision="v1", streaming=streaming))
    assert [row["address"] for row in rows] == [
        *(f"zoo-deit/mlp/0/{unit}" for unit in range(8)),
        *(f"zoo-vit/mlp/{layer}/{unit}" for layer, width in enumerate((12, 8)) for unit in range(width)),
    ]
    assert rows[3]["image"].size == (24, 24)


@pytest.mark.slow
@pytest.mark.parametrize("config", TABLES)
@pytest.mark.parametrize("streaming", [False, True])
def test_every_config_loads_from_the_repository(atlas: Path, hub: HubServer, name: str, config: str, streaming: bool):
    import datasets

    push(str(atlas), url(name), tag="v1")
    here = list(datasets.load_dataset(str(atlas), config, split="train"))
    there = list(datasets.load_dataset(name, config, split="train", revision="v1", streaming=streaming))
    assert len(there) == len(here) > 0
    pictures = TABLES[config].image_columns
    assert [{k: v for k, v in row.items() if k not in pictures} for row in there] == [
        {k: v for k, v in row.items() if k not in pictures} for row in here
    ]
    for column in pictures:
        assert [row[column].tobytes() for row in there] == [row[column].tobytes() for row in here]


@pytest.mark.slow
def test_a_private_repository(atlas: Path, hub: HubServer, name: str):
    push(str(atlas), url(name), private=True)
    assert hub.repositories[name].private
    assert push(str(atlas), url(name), private=True).sent_files == 0


def test_a_dry_run_says_what_a_push_does_and_does_nothing(
    atlas: Path, hub: HubServer, name: str, capsys: pytest.CaptureFixture[str]
):
    assert call(["push", str(atlas), url(name), "--tag", "v1", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "100,000 files in a repository" in text
    assert "10,000 in a folder" in text
    assert "128 commits an hour" in text
    assert "nothing was sent" in text
    assert name not in hub.repositories
    foretold = push(str(atlas), url(name), tag="v1", dry_run=True)
    hub.requests.clear()
    done = push(str(atlas), url(name), tag="v1")
    assert (foretold.sent_files, foretold.sent_bytes) == (done.sent_files, done.sent_bytes)
    assert foretold.commits == done.commits == len(hub.repositories[name].commits) - 1 == hub.count("POST .*/commit/")
    assert foretold.requests == len(hub.requests)


def test_a_rerun_sends_what_is_missing(atlas: Path, hub: HubServer, name: str, tmp_path: Path, capsys: Any):
    push(str(atlas), url(name), tag="v1")
    first = hub.repositories[name].tags["v1"]
    hub.requests.clear()
    again = push(str(atlas), url(name), tag="v1")
    assert (again.sent_files, again.sent_bytes, again.commits, again.revision) == (0, 0, 0, first)
    assert hub.sent_by_client("PUT|POST .*(commit|preupload)") == 0
    # A model more: its files, and the card and listing, which tell of it.
    grown = Store(Path(shutil.copytree(atlas, tmp_path / "grown")))
    make_atlas(grown, slug="zoo-pit", widths=(8,), stages=("visualize",))
    assert call(["push", grown.url, url(name), "--tag", "v2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    new = {p: d for p, d in files(hub.repositories[name]).items() if files(hub.repositories[name], "v1").get(p) != d}
    assert {path for path in new if "zoo-pit" not in path} == {"README.md", ".atlas/files.json"}
    assert (told["sent_files"], told["sent_bytes"]) == (len(new), sum(map(len, new.values())))
    assert hub.repositories[name].tags == {"v1": first, "v2": told["revision"]}


# faults


@pytest.mark.parametrize(
    "fault",
    [
        *map(
            slow,
            (
                Fault("POST .*/preupload/", 429, headers={"Retry-After": "0"}),
                Fault("POST .*/objects/batch", 500),
                Fault(LARGE, "lost"),
                Fault("POST .*/commit/", "cut"),
                Fault("POST .*/commit/", 429, headers={"Retry-After": "0"}),
                Fault("POST .*/commit/", 503, times=2),
            ),
        ),
        Fault(LARGE, "cut"),
        Fault("POST .*/commit/", "lost"),
    ],
    ids=lambda fault: f"{fault.pattern} {fault.kind}",
)
def test_faults_in_passing_change_nothing(
    atlas: Path, hub: HubServer, name: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
):
    by_batches_of(monkeypatch, 8)
    hub.faults.append(Fault(**vars(fault)))
    done = push(str(atlas), url(name), tag="v1")
    published, repository = files(hub.repositories[name], "v1"), hub.repositories[name]
    assert {path: data for path, data in published.items() if is_shard(path)} == {
        path: (atlas / path).read_bytes() for path in Store(atlas).list() if is_shard(path)
    }
    assert len(repository.commits) - 1 == done.commits > 1, "no commit was made twice"


def test_what_breaks_off_leaves_no_tag_and_is_ended_by_a_rerun(
    atlas: Path, hub: HubServer, name: str, monkeypatch: pytest.MonkeyPatch
):
    by_batches_of(monkeypatch, 5)
    hub.faults += [Fault("POST .*/commit/", 200, times=2), Fault("POST .*/commit/", 400)]
    with pytest.raises(StoreFailed, match="What is committed stands; run the same command again"):
        push(str(atlas), url(name), tag="v1")
    repository = hub.repositories[name]
    assert repository.tags == {}
    half, uploaded = files(repository), hub.sent_by_client(LARGE)
    assert 0 < len(half) < 20
    assert "README.md" not in half
    hub.requests.clear()
    done = push(str(atlas), url(name), tag="v1")
    whole = files(repository, "v1")
    assert done.sent_bytes == sum(len(data) for path, data in whole.items() if path not in half)
    everything = sum(len(data) for path, data in whole.items() if path.endswith((".parquet", ".rows")))
    assert hub.sent_by_client(LARGE) == everything - uploaded, "not even what was sent for the commit that failed"


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_is_ended_by_the_same_command(
    atlas: Path, hub: HubServer, name: str, tmp_path: Path
):
    words = [sys.executable, "-c", "from jobs.cli import main; main()", "push", str(atlas), url(name), "--tag", "v1"]
    variables = {**os.environ, **environment(hub, str(tmp_path)), "PYTHONPATH": str(Path(__file__).parents[3])}
    hub.faults += [Fault(LARGE, times=5), Fault(LARGE, before=lambda: first.kill())]
    first = subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    repository, arrived = hub.repositories[name], set(hub.large)
    assert repository.tags == {}
    assert 5 <= len(arrived) < 15
    hub.requests.clear()
    done = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"published at revision {repository.tags['v1']}, tag v1" in done.stdout
    sent = {request.path.removeprefix("/lfs/") for request in hub.requests if request.method == "PUT"}
    assert sent == set(hub.large) - arrived, "what had arrived was not sent again"
    assert check(Store(atlas), Depth.QUICK).violations == []
    assert not (atlas / ".atlas/lock.json").exists(), "the dead process's lock was taken over and is gone"


@pytest.mark.parametrize("answer", [200, *map(slow, ("lost", 503))])
def test_a_second_writer_is_noticed(
    atlas: Path, hub: HubServer, name: str, monkeypatch: pytest.MonkeyPatch, answer: int | str
):
    by_batches_of(monkeypatch, 8)

    def somebody_else() -> None:
        repository = hub.repositories[name]
        repository.add("theirs", repository.commits[-1].files | {"theirs.txt": Blob(b"theirs", False)})

    hub.faults += [Fault("POST .*/commit/"), Fault("POST .*/commit/", answer, before=somebody_else)]
    with pytest.raises(AtlasLocked, match=r"somebody else made a commit to it meanwhile.*Push again"):
        push(str(atlas), url(name), tag="v1")
    titles = [commit.title for commit in hub.repositories[name].commits]
    assert titles[2:] == ["theirs"], "ours stands before it, and nothing was laid upon it"
    assert hub.repositories[name].tags == {}
    push(str(atlas), url(name), tag="v1")
    assert files(hub.repositories[name], "v1")["theirs.txt"] == b"theirs"


@pytest.mark.slow
def test_what_the_hub_shows_otherwise_gets_no_tag(atlas: Path, hub: HubServer, name: str):
    def swallow() -> None:
        repository = hub.repositories[name]
        there = {path: blob for path, blob in repository.commits[-1].files.items() if "zoo-deit" not in path}
        object.__setattr__(repository.commits[-1], "files", there)

    hub.faults += [Fault(f"GET .*{name}/revision/", before=swallow)]
    with pytest.raises(StoreFailed, match=r"other bytes than were sent.*No tag was set"):
        push(str(atlas), url(name), tag="v1")
    assert hub.repositories[name].tags == {}


# what is refused


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


# any other place


@pytest.mark.parametrize("kind", ["folder", slow("memory")])
def test_a_push_to_a_store(atlas: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    target = Store(tmp_path / "out" if kind == "folder" else f"memory://push-{tmp_path.name}")
    done = push(str(atlas), target.url)
    assert check(target, Depth.DEEP).violations == []
    assert (done.sent_files, done.sent_bytes) == (done.files, done.bytes)
    assert push(str(atlas), target.url).sent_bytes == 0
    lost = "neurons/zoo-deit/train-00000-of-00001.parquet"
    size = target.size(lost)
    target.replace(lost, target.read(lost)[:-9])
    target.delete("README.md")
    card = len(Store(atlas).read("README.md"))
    again = push(str(atlas), target.url, dry_run=True)
    assert again.sent_files == 2
    assert size < again.sent_bytes < size + 2 * card
    assert not target.exists("README.md")
    push(str(atlas), target.url)
    assert check(target, Depth.DEEP).violations == []
