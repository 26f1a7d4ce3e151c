"""push: what is published, that it is whole at its tag whatever happens, and that a rerun sends what is missing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.errors import AtlasLocked, StoreFailed
from atlas_schema.lookup import lookup_path
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from atlas_schema.validate import Depth, check
from jobs.cleaning import carry_out, decide
from jobs.cli import call
from jobs.lock import locked
from jobs.publishing import limits
from jobs.publishing.push import push
from jobs.publishing.selection import is_record, is_shard
from tests.atlas_schema.made_atlas import make_atlas
from tests.hub_clients import environment
from tests.hub_server import Blob, Fault, HubServer
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
        "croissant.json",
        ".atlas/files.json",
        *lookups,
    }
    told = json.loads(published["croissant.json"])
    assert told["distribution"][0]["contentUrl"] == f"https://huggingface.co/datasets/{name}/tree/main"
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
def test_every_config_loads_from_the_repository(
    atlas: Path, tmp_path: Path, hub: HubServer, name: str, config: str, streaming: bool
):
    import datasets

    if config == "neuron_pictures":
        atlas = tmp_path / "atlas"
        made_in(atlas, (12, 8), "pictures-placed")
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
    # A model more: its files, and card, description and listing, which tell of it.
    grown = Store(Path(shutil.copytree(atlas, tmp_path / "grown")))
    make_atlas(grown, slug="zoo-pit", widths=(8,), stages=("visualize",))
    assert call(["push", grown.url, url(name), "--tag", "v2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    new = {p: d for p, d in files(hub.repositories[name]).items() if files(hub.repositories[name], "v1").get(p) != d}
    assert {path for path in new if "zoo-pit" not in path} == {"README.md", "croissant.json", ".atlas/files.json"}
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
                Fault("POST /api/repos/create", 503),
                Fault("GET /api/datasets/.*/tree/", 502, times=2),
                Fault("GET /api/datasets/.*/revision/", "cut"),
                Fault("POST .*/tag/", "lost"),
                Fault("GET .*/refs", 429, headers={"Retry-After": "0"}),
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
