"""Reading what `push` published, from the Hub, a web server and a bucket: how many requests, how many bytes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from atlas_schema import published
from atlas_schema.errors import BadConfig, NothingThere
from atlas_schema.lookup import encode_lookup, lookup_path, read_lookup
from atlas_schema.published import PinnedStore, opened
from atlas_schema.read import Atlas, to_polars
from atlas_schema.searching import ranked
from atlas_schema.shards import shard_path, write_rows
from atlas_schema.store import Store
from atlas_schema.validate import Depth, check
from jobs.publishing.push import push
from site_builder.serve import RangeHandler
from tests.atlas_schema.conftest import FaultyS3
from tests.atlas_schema.made_atlas import PROVENANCE, SLUG, commit, image_rows, make_atlas, reduce_layer, units_of, webp
from tests.hub_clients import hub_for_this_process
from tests.hub_server import HubServer

MOST_REQUESTS, MOST_BYTES = 3, 200_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "atlas"
    make_atlas(Store(folder), widths=(40, 8), stages=("visualize", "evidence", "label", "examples"))
    return folder


@pytest.fixture(scope="module")
def hub(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with hub_for_this_process(str(tmp_path_factory.mktemp("home"))) as server:
        push(str(made), "hf://datasets/org/read", tag="v1")
        yield server


class CountingHandler(RangeHandler):
    """A web server of a folder that counts what it is asked for."""

    asked: list[tuple[str, int]]  # path, bytes answered

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        self.status = int(code)

    def send_header(self, keyword: str, value: str) -> None:
        if keyword == "Content-Length":
            self.asked.append((self.path, int(value) if self.status < 300 and self.command == "GET" else 0))
        super().send_header(keyword, value)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Callable[[Path], tuple[str, list[tuple[str, int]]]]]:
    servers = []

    def serve(folder: Path) -> tuple[str, list[tuple[str, int]]]:
        asked: list[tuple[str, int]] = []
        handler = type("Handler", (CountingHandler,), {"asked": asked})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}", asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def same_rows(one: Atlas, other: Atlas, widths: tuple[int, ...] = (40, 8)) -> None:
    for layer, width in enumerate(widths):
        for unit in range(0, width, 7):
            address = f"{SLUG}/mlp/{layer}/{unit}"
            assert one.neuron(address) == other.neuron(address)
            assert one.picture(address) == other.picture(address) == webp(unit)


def test_the_hub_at_a_tag_in_few_short_requests_and_then_in_none(made: Path, hub: HubServer, tmp_path: Path) -> None:
    atlas = Atlas("hf://datasets/org/read", revision="v1", cache=tmp_path)
    address = f"{SLUG}/mlp/0/17"
    atlas.neuron(f"{SLUG}/mlp/0/3")  # the layer's head is known now
    hub.requests.clear()
    row, picture = atlas.neuron(address), atlas.picture(address)
    assert (row["unit"], picture) == (17, webp(17))
    assert len(hub.requests) <= MOST_REQUESTS, "row, and for the picture the shard: the Hub sends us on once"
    assert sum(request.sent for request in hub.requests) < MOST_BYTES
    hub.requests.clear()
    again = Atlas("hf://datasets/org/read", revision=hub.repositories["org/read"].tags["v1"], cache=tmp_path)
    assert (again.neuron(address), again.picture(address)) == (row, picture)
    assert hub.requests == [], "a commit does not change: everything is at hand"
    same_rows(atlas, Atlas(str(made)))


def test_everything_else_is_read_from_the_hub_too(made: Path, hub: HubServer, tmp_path: Path) -> None:
    here, there = Atlas(str(made)), Atlas("hf://datasets/org/read@v1", cache=tmp_path)
    assert there.models() == here.models()
    assert there.sites(SLUG) == here.sites(SLUG)
    assert there.layers(SLUG) == [0, 1]
    assert there.neurons(SLUG, 1) == here.neurons(SLUG, 1)
    assert there.head(f"{SLUG}/head/0/1") == here.head(f"{SLUG}/head/0/1")
    assert there.probe_images(there.probe_sets()[0]) == here.probe_images(here.probe_sets()[0])
    with pytest.raises(NothingThere, match=r"zoo-vti: no such model.*nearest: zoo-vit"):
        there.neuron("zoo-vti/mlp/0/0")
    with pytest.raises(NothingThere, match=r"zoo-vit/mlp/7/0: the atlas holds layers 0-1 of zoo-vit"):
        there.neuron("zoo-vit/mlp/7/0")
    with pytest.raises(NothingThere, match=r"zoo-vit/mlp/1/8: .*holds 8 units between 0 and 7"):
        there.picture("zoo-vit/mlp/1/8")


def test_a_commit_is_read_whatever_comes_after(made: Path, hub: HubServer, tmp_path: Path) -> None:
    atlas = Atlas("hf://datasets/org/read", cache=tmp_path)
    repository = hub.repositories["org/read"]
    first = repository.commits[-1]
    repository.add("all gone", {})
    assert atlas.neuron(f"{SLUG}/mlp/1/2")["unit"] == 2
    with pytest.raises(NothingThere, match="no atlas here"):
        Atlas("hf://datasets/org/read", cache=tmp_path).neuron(f"{SLUG}/mlp/1/2")
    repository.add("back", first.files)


def test_revisions_and_repositories_that_are_not_there(hub: HubServer, made: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingThere, match="@v7: no such revision; tags there: v1"):
        Atlas("hf://datasets/org/read", "v7", cache=tmp_path)
    with pytest.raises(NothingThere, match="no such dataset repository, or a private one"):
        Atlas("hf://datasets/org/no-such", cache=tmp_path)
    with pytest.raises(BadConfig, match="only repositories of the Hub have any"):
        Atlas(str(made), "v1")
    with pytest.raises(BadConfig, match="names the revision v1, and v2 is asked for"):
        Atlas("hf://datasets/org/read@v1", "v2")


@pytest.mark.slow
def test_a_damaged_cache_is_asked_for_anew_and_an_old_one_shrinks(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Atlas("hf://datasets/org/read@v1", cache=tmp_path)
    row = first.neuron(f"{SLUG}/mlp/0/5")
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in kept:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert Atlas("hf://datasets/org/read@v1", cache=tmp_path).neuron(f"{SLUG}/mlp/0/5") == row
    assert isinstance(first.store, PinnedStore)
    monkeypatch.setattr(published, "MOST_KEPT", kept[0].stat().st_size)
    opened("hf://datasets/org/read@v1", cache=tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) <= 1
    (tmp_path / "file").write_text("in the way")
    assert Atlas("hf://datasets/org/read@v1", cache=tmp_path / "file").neuron(f"{SLUG}/mlp/0/5") == row


def test_a_web_server_in_three_requests(made: Path, tmp_path: Path, web: Callable[..., Any]) -> None:
    push(str(made), str(tmp_path / "out"))
    url, asked = web(tmp_path / "out")
    atlas = Atlas(url)
    address = f"{SLUG}/mlp/0/17"
    atlas.sites(SLUG)
    atlas._layer_count(SLUG)  # the small index: which models and layers there are
    asked.clear()
    assert (atlas.neuron(address)["unit"], atlas.picture(address)) == (17, webp(17))
    assert len(asked) == MOST_REQUESTS, "the layer's head, the row, the picture"
    assert sum(size for _, size in asked) < MOST_BYTES
    asked.clear()
    atlas.neuron(f"{SLUG}/mlp/0/18")
    assert len(asked) == 1
    same_rows(atlas, Atlas(str(made)))


@pytest.mark.slow
def test_a_bucket_in_three_requests(made: Path, s3: FaultyS3) -> None:
    target = f"s3://{s3.new_bucket()}/atlas"
    push(str(made), target)
    atlas = Atlas(target)
    address = f"{SLUG}/mlp/0/17"
    atlas._layer_count(SLUG)
    s3.requests.clear()
    assert (atlas.neuron(address)["unit"], atlas.picture(address)) == (17, webp(17))
    assert len(s3.requests) == MOST_REQUESTS
    same_rows(atlas, Atlas(str(made)))


@pytest.mark.slow
def test_a_layer_of_real_size_costs_no_more(tmp_path: Path, web: Callable[..., Any]) -> None:
    """3,072 neurons with pictures of 15 kB: the head of the look-up fits into one read."""
    store = Store(tmp_path / "atlas")
    make_atlas(store, widths=(8,), stages=("visualize",))
    big = webp(0, side=160)
    assert 12_000 < len(big) < 25_000
    for unit in units_of(1, 3072, 512):
        commit(store, unit, image={"bytes": big, "path": None})
    path = reduce_layer(store, SLUG, 1, 2, units_of(1, 3072, 512))
    store.replace(lookup_path(path), encode_lookup(store.read(path), path))
    url, asked = web(tmp_path / "atlas")
    atlas = Atlas(url)
    atlas._counts[SLUG] = 2
    assert (atlas.neuron(f"{SLUG}/mlp/1/2900")["unit"], atlas.picture(f"{SLUG}/mlp/1/2900")) == (2900, big)
    assert len(asked) == MOST_REQUESTS
    assert sum(size for _, size in asked) < 100_000
    asked.clear()
    assert (atlas.neuron(f"{SLUG}/mlp/1/7")["unit"], atlas.picture(f"{SLUG}/mlp/1/7")) == (7, big)
    assert len(asked) == 2
    assert sum(size for _, size in asked) < len(big) + 3_000
    # The control: without a look-up the same costs many times as much.
    store.delete(lookup_path(path))
    files = {one: {"bytes": size, "sha256": ""} for one, size in store.sizes("neurons").items()}
    store.replace(".atlas/files.json", json.dumps({"files": files}).encode())
    atlas = Atlas(url)
    atlas._counts[SLUG] = 2
    assert max(atlas.layers(SLUG)) == 1
    asked.clear()
    assert (atlas.neuron(f"{SLUG}/mlp/1/2900")["unit"], atlas.picture(f"{SLUG}/mlp/1/2900")) == (2900, big)
    assert len(asked) > 2 * MOST_REQUESTS
    assert sum(size for _, size in asked) > 500_000


# look-ups


def test_a_look_up_holds_what_the_shard_holds(made: Path) -> None:
    store, atlas = Store(made), Atlas(str(made))
    for layer, width in ((0, 40), (1, 8)):
        path = shard_path("neurons", SLUG, layer, 2)
        copy = Store(f"memory://lookup-{made.parent.name}")
        copy.replace(path, store.read(path))
        copy.replace(lookup_path(path), encode_lookup(store.read(path), path))
        lookup = read_lookup(copy, path)
        assert lookup is not None
        for unit in range(width):
            assert lookup.row(copy, unit) == atlas.neuron(f"{SLUG}/mlp/{layer}/{unit}")
            assert lookup.picture(copy, unit) == webp(unit)
        assert encode_lookup(store.read(path), path) == copy.read(lookup_path(path)), "a function of the shard"


@pytest.mark.parametrize(
    "harm", ["stale", *(pytest.param(harm, marks=pytest.mark.slow) for harm in ("cut", "gone", "other form"))]
)
def test_a_look_up_that_does_not_fit_is_passed_over_and_told(made: Path, tmp_path: Path, harm: str) -> None:
    push(str(made), str(tmp_path / "out"))
    store = Store(tmp_path / "out")
    path, other = (shard_path("neurons", SLUG, layer, 2) for layer in (0, 1))
    data = store.read(lookup_path(path))
    line, _, rest = data.partition(b"\n")
    changed = {
        "stale": store.read(lookup_path(other)),
        "cut": data[:80],
        "other form": json.dumps(json.loads(line) | {"form": 9}).encode() + b"\n" + rest,
    }
    if harm == "gone":
        store.delete(lookup_path(path))
    else:
        store.replace(lookup_path(path), changed[harm])
    bucket = Store(f"memory://passed-{tmp_path.name}")
    for one in store.list():
        bucket.replace(one, store.read(one))
    same_rows(Atlas(bucket), Atlas(str(made)))
    told = check(bucket, Depth.BYTES).violations
    assert [fault.path for fault in told] == ([] if harm == "gone" else [lookup_path(path)])


def test_who_replaces_a_shard_removes_its_look_up(made: Path, tmp_path: Path) -> None:
    store = Store(Path(shutil.copytree(made, tmp_path / "atlas")))
    path = shard_path("neurons", SLUG, 1, 2)
    store.replace(lookup_path(path), encode_lookup(store.read(path), path))
    (wider,) = units_of(1, 12, 12)
    commit(store, wider)
    assert reduce_layer(store, SLUG, 1, 2, [wider]) == path
    assert not store.exists(lookup_path(path))


# what it is read as


def test_labels_are_searched(made: Path) -> None:
    atlas = Atlas(str(made))
    rows = {row["address"]: row for layer in (0, 1) for row in atlas.neurons(SLUG, layer).to_pylist()}  # type: ignore
    some = next(row["label"] for row in rows.values() if row["label"])
    found = atlas.search(some)
    texts = Counter(row["label"] for row in rows.values() if row["label"])
    order = ranked(some, texts)
    assert order[0] == some
    expected = [row for row in rows.values() if row["label"] in order]
    expected.sort(key=lambda row: (order.index(row["label"]), -row["label_z"], row["address"]))
    assert found["address"].to_pylist() == [row["address"] for row in expected]
    assert atlas.search(some, limit=1).num_rows == 1
    assert atlas.search("no such words anywhere").num_rows == 0
    assert atlas.search(some, model=SLUG) == found
    assert list(found.to_pandas()["address"]) == found["address"].to_pylist()
    if importlib.util.find_spec("polars"):
        assert to_polars(found).to_dicts() == found.to_pylist()
    else:
        with pytest.raises(BadConfig, match=r"polars is not installed. `pip install polars`"):
            to_polars(found)
    with pytest.raises(NothingThere, match="zoo-vti"):
        atlas.search(some, model="zoo-vti")


def test_a_notebook_shows_a_neuron_as_a_card(made: Path, tmp_path: Path) -> None:
    store = Store(Path(shutil.copytree(made, tmp_path / "atlas")))
    atlas = Atlas(store)
    assert atlas.neuron(f"{SLUG}/mlp/0/5")._repr_html_().count("data:image/webp;base64,") == 1, "no thumbnails there"
    of_neuron = [{**row, "probe_set": "5"} for row in image_rows()]  # the set that the made examples name
    write_rows(store, "probe_images", "5", of_neuron, provenance=PROVENANCE)
    neuron = atlas.neuron(f"{SLUG}/mlp/0/5")
    shown = neuron._repr_html_()
    assert f"{SLUG}/mlp/0/5" in shown
    assert shown.count("data:image/webp;base64,") > 1, "its picture and images that excite it"
    neuron["label"] = "<script>alert(1)</script>"
    assert "<script>" not in neuron._repr_html_()
    assert "&lt;script&gt;" in neuron._repr_html_()
    assert json.loads(json.dumps(neuron, default=str))["unit"] == 5
