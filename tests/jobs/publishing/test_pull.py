"""pull: a part of an atlas is a valid atlas, is checked by its digests, and loses nothing that stands there."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from atlas_schema.errors import AtlasError, BadConfig, ForeignAtlas, NothingThere, ShardCorrupt, StoreFailed
from atlas_schema.lookup import lookup_path
from atlas_schema.parquet import decode, encode
from atlas_schema.parts import parse_part_path
from atlas_schema.read import Atlas
from atlas_schema.shards import parse_shard_path
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from atlas_schema.units import Neurons
from atlas_schema.validate import Depth, check
from jobs.cli import call
from jobs.publishing.pull import Wanted, pull, wanted_of
from jobs.publishing.push import push
from jobs.publishing.selection import is_record, is_shard
from site_builder.serve import RangeHandler
from tests.atlas_schema import made_atlas
from tests.hub_server import Fault, HubServer
from tests.jobs.publishing.conftest import made_in

NEURONS = {"neurons", "neuron_examples", "neuron_matches"}
INVERTED = {"inversions", "inversion_readings"}
HEADS = {"heads", "head_texts", "head_features", "head_examples", "head_reads"}


@pytest.fixture(scope="module")
def published(atlas: Path, server: HubServer) -> str:
    """The atlas in a repository, at the tag v1."""
    push(str(atlas), "hf://datasets/org/published", tag="v1")
    return "hf://datasets/org/published"


@pytest.fixture
def hub(hub: HubServer, published: str) -> HubServer:
    """With the large files of the repository: the other tests begin without any."""
    for blob in hub.repositories["org/published"].commits[-1].files.values():
        if blob.large:
            hub.large[blob.sha256] = blob.data
    hub.requests.clear()
    return hub


def shards(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in Store(folder).list() if is_shard(path)}


def places(folder: Path) -> set[tuple[str, str, int]]:
    return {place[:3] for place in map(parse_shard_path, shards(folder)) if place}


def faults(folder: Path) -> list[object]:
    return list(check(Store(folder), Depth.DEEP).violations)


def test_a_whole_atlas_comes_byte_for_byte(
    atlas: Path, published: str, hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    assert call(["pull", published, "--revision", "v1", "--out", str(out)]) == 0
    assert f"zoo-deit, zoo-vit of revision {hub.repositories['org/published'].tags['v1']}" in capsys.readouterr().out
    assert shards(out) == shards(atlas)
    assert faults(out) == []
    assert (out / "README.md").read_bytes() == (atlas / "README.md").read_bytes()
    done = pull(f"{published}@v1", str(out))
    assert (done.fetched_files, done.fetched_bytes) == (0, 0)
    assert shards(out) == shards(atlas)


@pytest.mark.parametrize(
    ("wanted", "tables"),
    [
        (wanted_of(["zoo-vit"], None, None), {"runs", *NEURONS, *HEADS, *INVERTED}),
        (wanted_of(["zoo-vit"], "-1", None), {"runs", *NEURONS, *HEADS, *INVERTED}),
        pytest.param(wanted_of(["zoo-vit"], "0", "neurons"), {"neurons"}, marks=pytest.mark.slow),
        (wanted_of(["zoo-vit"], "1", "head_texts,neuron_examples"), {"neuron_examples", *HEADS}),
        pytest.param(wanted_of(None, "0", "neurons"), {"neurons"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: f"{value.models} {value.layers} {value.tables}" if isinstance(value, Wanted) else "",
)
def test_a_part_is_a_valid_atlas(
    atlas: Path, published: str, hub: HubServer, tmp_path: Path, wanted: Wanted, tables: set[str]
):
    done = pull(published, str(tmp_path), wanted=wanted)
    assert faults(tmp_path) == []
    assert done.violations == []
    slugs = set(wanted.models) or {"zoo-vit", "zoo-deit"}
    assert {slug for table, slug, _ in places(tmp_path) if table in ("models", "sites")} == slugs
    assert {table for table, _, _ in places(tmp_path)} == {*tables, "models", "sites", "probe_images"}
    layers = {layer for table, slug, layer in places(tmp_path) if table.startswith("neuron") and slug == "zoo-vit"}
    assert layers == {"all": {0, 1}, "-1": {1}, "0": {0}, "1": {1}}[wanted.layers]
    for path, data in shards(tmp_path).items():
        assert path.startswith(("models/", "sites/")) or data == (atlas / path).read_bytes()
    # Records of what came alone, and of all of it.
    came = {(place.stage, place.slug, place.cut) for place in _records(tmp_path)}
    assert {cut.layer for _, slug, cut in came if isinstance(cut, Neurons) and slug == "zoo-vit"} == layers
    stages = {"visualize", "evidence"} if "neurons" in tables else set()
    stages |= {"examples"} if "neuron_examples" in tables else set()
    stages |= {"heads"} if "heads" in tables else set()
    stages |= set(made_atlas.INVERTED) if "inversions" in tables else set()
    stages |= {"pairs"} if "neuron_matches" in tables and wanted.layers == "all" else set()
    assert {stage for stage, slug, _ in came if slug == "zoo-vit"} == stages


def _records(folder: Path) -> Iterator[object]:
    yield from filter(None, (parse_part_path(path) for path in Store(folder).list() if is_record(path)))


def test_parts_are_joined_until_the_atlas_is_whole(atlas: Path, published: str, hub: HubServer, tmp_path: Path):
    for wanted in (
        wanted_of(["zoo-vit"], "1", "neurons"),
        wanted_of(["zoo-vit"], "0", "heads"),
        wanted_of(None, None, None),
    ):
        pull(published, str(tmp_path), wanted=wanted)
        assert faults(tmp_path) == []
    own = {path for path in shards(atlas) if path.startswith(("models/", "sites/"))}
    assert {p: d for p, d in shards(tmp_path).items() if p not in own} == {
        p: d for p, d in shards(atlas).items() if p not in own
    }
    before, after = Atlas(str(atlas)), Atlas(str(tmp_path))
    assert [row["slug"] for row in after.models()] == ["zoo-deit", "zoo-vit"]
    assert after.sites("zoo-vit") == before.sites("zoo-vit")
    for old, new in zip(before.models(), after.models(), strict=True):
        assert {one["stage"] for one in old.pop("stages")} == {one["stage"] for one in new.pop("stages")}
        assert new == old
    hub.requests.clear()
    assert push(str(tmp_path), published, dry_run=True).removed_files == 0, "and nothing is lost on the way back"


def test_what_breaks_off_is_ended_by_a_rerun(atlas: Path, published: str, hub: HubServer, tmp_path: Path):
    hub.faults.append(Fault("GET /cdn/", 404))
    with pytest.raises(StoreFailed, match="404"):
        pull(published, str(tmp_path))
    there = set(shards(tmp_path))
    assert there < set(shards(atlas))
    assert not any(path.startswith(("models/", "sites/")) for path in there)
    size = sum(map(len, shards(tmp_path).values()))
    done = pull(published, str(tmp_path))
    assert (done.fetched_files, done.fetched_bytes) == (done.files - len(there), done.bytes - size)
    assert faults(tmp_path) == []
    assert shards(tmp_path) == shards(atlas)


def test_other_bytes_than_the_digest_says_are_not_taken(published: str, hub: HubServer, tmp_path: Path):
    path = "neurons/zoo-vit/train-00000-of-00002.parquet"
    blob = hub.repositories["org/published"].commits[-1].files[path]
    hub.large[blob.sha256] = blob.data[:600] + bytes([blob.data[600] ^ 1]) + blob.data[601:]
    with pytest.raises(ShardCorrupt, match=path):
        pull(published, str(tmp_path))
    assert not (tmp_path / path).exists()
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_what_stands_there_and_is_more_is_left(published: str, hub: HubServer, tmp_path: Path):
    made_in(tmp_path / "more", widths=(20, 8))
    before = shards(tmp_path / "more")
    with pytest.raises(ForeignAtlas, match=r"holds 20 rows, the new one 12. It was left as it is.*another folder"):
        pull(published, str(tmp_path / "more"), wanted=wanted_of(["zoo-vit"], None, "neurons"))
    assert shards(tmp_path / "more") == before
    (tmp_path / "own").mkdir()
    (tmp_path / "own/thesis.txt").write_text("mine")
    with pytest.raises(ForeignAtlas, match=r"this folder holds other files \(thesis.txt\) and no atlas"):
        pull(published, str(tmp_path / "own"))


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--model", "zoo-vti"], NothingThere, "no model zoo-vti in it; nearest: zoo-vit"),
        (["--layers", "7"], BadConfig, "7: there is no such FFN layer in zoo-deit; there are 1"),
        (["--layers", "a-b"], BadConfig, "--layers a-b: 'a-b' is neither 'all'"),
        (["--tables", "neuron"], BadConfig, "no table 'neuron'; expected one of neurons"),
        (["--revision", "v7"], NothingThere, "no such revision; tags there: v1"),
    ],
)
def test_what_is_not_there_is_named(
    published: str,
    hub: HubServer,
    tmp_path: Path,
    words: list[str],
    error: type[AtlasError],
    said: str,
    capsys: pytest.CaptureFixture[str],
):
    assert call(["pull", published, "--out", str(tmp_path / "out"), *words]) == error.exit_code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_atlas_and_no_repository(hub: HubServer, atlas: Path, tmp_path: Path):
    with pytest.raises(
        NothingThere, match=r"no such dataset repository, or a private one that your token may not read"
    ):
        pull("hf://datasets/org/nothing-here", str(tmp_path))
    with pytest.raises(NothingThere, match="no atlas here"):
        pull(str(tmp_path), str(tmp_path / "out"))
    with pytest.raises(BadConfig, match="cannot be written to; expected a folder"):
        pull(str(atlas), "hf://datasets/org/out")
    with pytest.raises(BadConfig, match="only repositories of the Hub have any"):
        pull(str(atlas), str(tmp_path / "out"), revision="v1")


# other sources


@pytest.fixture(scope="module")
def copy(atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas, pushed to a folder."""
    folder = tmp_path_factory.mktemp("copy") / "atlas"
    push(str(atlas), str(folder))
    return folder


@pytest.fixture(params=["parts", "folder", "https", pytest.param("memory", marks=pytest.mark.slow)])
def source(request: pytest.FixtureRequest, atlas: Path, copy: Path, tmp_path: Path) -> Iterator[str]:
    """An atlas as a run leaves it; one that was pushed to a folder, to a web server, to another store."""
    if request.param == "https":
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=str(copy)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()
    elif request.param == "memory":
        push(str(atlas), f"memory://pull-{tmp_path.name}")
        yield f"memory://pull-{tmp_path.name}"
    else:
        yield str(atlas if request.param == "parts" else copy)


def test_a_pull_from_another_place(atlas: Path, copy: Path, source: str, tmp_path: Path):
    out = tmp_path / "out"
    pull(source, str(out), wanted=wanted_of(["zoo-vit"], None, None))
    assert faults(out) == []
    assert places(out) == {place for place in places(atlas) if place[1] != "zoo-deit"}
    records = {path: (copy / path).read_bytes() for path in Store(copy).list() if is_record(path) and "zoo-vit" in path}
    assert {path: (out / path).read_bytes() for path in Store(out).list() if is_record(path)} == records
    assert pull(source, str(out), wanted=wanted_of(["zoo-vit"], None, None)).fetched_files == 0


def test_a_pull_into_a_published_copy_completes_it(atlas: Path, copy: Path, tmp_path: Path):
    """A shard there lacks rows: it is replaced, and the look-up that told of it goes."""
    target = Store(Path(shutil.copytree(copy, tmp_path / "copy")))
    path = "neurons/zoo-deit/train-00000-of-00001.parquet"
    rows, footer = decode(target.read(path), path)
    told = {key: value for key, value in footer.items() if key not in ("table", "schema_version")}
    target.replace(path, encode(TABLES["neurons"], rows.slice(0, 6), told))
    assert pull(str(atlas), target.url).fetched_files == 1
    assert target.read(path) == (atlas / path).read_bytes()
    assert not target.exists(lookup_path(path))
    assert target.exists(lookup_path("neurons/zoo-vit/train-00000-of-00002.parquet"))
    assert faults(tmp_path / "copy") == []


def test_a_listing_that_is_damaged_is_named(copy: Path, tmp_path: Path):
    folder = Path(shutil.copytree(copy, tmp_path / "copy"))
    (folder / ".atlas/files.json").write_text('{"files": {"a": {}}}')
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(
        ShardCorrupt, match=r"files.json: damaged: sizes or digests are missing. Publish the atlas again"
    ):
        pull(f"http://127.0.0.1:{server.server_port}", str(tmp_path / "out"))
    (folder / ".atlas/files.json").unlink()
    with pytest.raises(NothingThere, match=r"no published atlas here: no .atlas/files.json"):
        pull(f"http://127.0.0.1:{server.server_port}", str(tmp_path / "out"))
    server.shutdown()
    server.server_close()
