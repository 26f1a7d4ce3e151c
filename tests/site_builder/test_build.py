"""From a dataset to files: what is written, what is left alone, what is refused."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import os
import re
import shutil
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from browser import running
from drawn_atlas import SMALL, Drawn, draw_atlas, write_model
from PIL import Image

from atlas_schema.errors import AtlasError, BadConfig, ForeignAtlas, NothingThere
from atlas_schema.read import Atlas
from atlas_schema.store import Store
from site_builder import app, budget, bundling, layers
from site_builder.build import SiteReport, build_site, measure, plan_site
from site_builder.sections import examples, excited, heads, labels, matches
from site_builder.serve import make_server
from site_builder.survey import survey

STATIC = Path(__file__).parents[2] / "site_builder" / "static"


@pytest.fixture(scope="module")
def built(small_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SiteReport]:
    out = tmp_path_factory.mktemp("site") / "pages"
    return out, build_site(small_atlas, out)


def manifest_of(site: Path) -> dict:
    page = (site / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="manifest">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def stamps(site: Path) -> dict[str, int]:
    return {path.relative_to(site).as_posix(): path.stat().st_mtime_ns for path in site.rglob("*") if path.is_file()}


def test_where_nothing_changed_a_build_reads_no_rows_of_what_grows_with_neurons(
    evident_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counterparts, readers, examples and labels of large atlases are many rows: footers say that they are the same."""
    build_site(evident_atlas, tmp_path / "site")
    before = stamps(tmp_path / "site")

    def read(*_: object, **__: object) -> None:
        raise AssertionError("rows were read")

    monkeypatch.setattr(matches, "read_clusters", read)
    monkeypatch.setattr(matches, "match_packs", read)
    monkeypatch.setattr(labels, "_labelled", read)
    monkeypatch.setattr(excited, "read_places", read)
    monkeypatch.setattr(examples, "example_packs", read)
    monkeypatch.setattr(heads.HeadRows, "of", read)
    build_site(evident_atlas, tmp_path / "site")
    after = stamps(tmp_path / "site")
    assert {path: stamp for path, stamp in after.items() if path.endswith(".gz")} == {
        path: stamp for path, stamp in before.items() if path.endswith(".gz")
    }


def test_the_report_counts_what_is_there(built: tuple[Path, SiteReport]) -> None:
    out, report = built
    neurons = sum(sum(model.widths) for model in SMALL[:2]) + 2 * (2 + 26)
    assert (report.models, report.counts["layers"], report.counts["neurons"], report.images) == (
        3,
        9,
        neurons,
        "sprite",
    )
    found = measure(out)
    assert (report.files, report.bytes) == (found.files, found.bytes)
    assert str(out) in str(report)
    assert f"{neurons:,} neurons" in str(report)


def test_every_file_the_page_names_is_there(built: tuple[Path, SiteReport]) -> None:
    out, _ = built
    manifest = manifest_of(out)
    page = (out / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert (out / name).is_file(), name
    assert (out / manifest["wall"]["file"]).is_file()
    for model in manifest["models"]:
        assert (out / model["file"]).is_file()
        assert (out / model["depth"]).is_file()
        for entry in model["layers"]:
            for start, stop in entry["ranges"]:
                for unit in range(start, stop):
                    pack = json.loads(
                        gzip.decompress((out / entry["folder"] / f"{unit // 64:05d}.json.gz").read_bytes())
                    )
                    assert unit in pack["columns"]["unit"]


def test_pictures_of_bundles_are_the_datasets_bytes(built: tuple[Path, SiteReport], small_atlas: Path) -> None:
    out, _ = built
    entry = manifest_of(out)["models"][0]["layers"][0]
    assert entry["ranges"] == [[3, 5], [64, 90]]
    assert entry["bundle"] == 8, "pictures of some hundred bytes"
    data = (out / entry["folder"] / "00000.pictures").read_bytes()
    lengths = np.frombuffer(data[:32], "<u4")
    assert [bool(length) for length in lengths] == [False, False, False, True, True, False, False, False]
    expected = Atlas(str(small_atlas)).picture("drawn-part/mlp/0/4")
    assert data[32 + lengths[3] :] == expected


def test_thumbnails_are_those_of_their_neurons(built: tuple[Path, SiteReport], small_atlas: Path) -> None:
    """Each tile of the sheets against the picture in the dataset, through the order the layer table gives."""
    out, _ = built
    slug, layer = "drawn-vit", 2
    entry = next(m for m in manifest_of(out)["models"] if m["slug"] == slug)["layers"][layer]
    table = json.loads(gzip.decompress((out / entry["folder"] / "layer.json.gz").read_bytes()))
    sheets = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((out / entry["folder"]).glob("0*.webp"))]
    atlas = Atlas(str(small_atlas))
    for place in range(0, len(table["unit"]), 9):
        number = table["thumb"][place]
        top, left = number % 64 // 8 * 64, number % 8 * 64
        tile = sheets[number // 64][top : top + 64, left : left + 64].astype(float)
        webp = atlas.picture(f"{slug}/mlp/{layer}/{table['unit'][place]}")
        truth = np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")).astype(float)
        assert np.abs(tile - truth).mean() < 12
        mean = [int(table["color"][6 * place + 2 * i : 6 * place + 2 * i + 2], 16) for i in range(3)]
        assert np.abs(np.array(mean) - truth.reshape(-1, 3).mean(0)).max() <= 1


def test_the_first_table_of_a_wide_layer_says_what_the_whole_says(wide_atlas: Path, tmp_path: Path) -> None:
    build_site(wide_atlas, tmp_path / "site")
    folder = tmp_path / "site" / manifest_of(tmp_path / "site")["models"][0]["layers"][0]["folder"]
    names = ("first.json.gz", "layer.json.gz")
    first, whole = (json.loads(gzip.decompress((folder / name).read_bytes())) for name in names)
    places = [whole["thumb"].index(place) for place in range(128)]
    assert (first["of"], first["thumb"]) == (3072, list(range(128)))
    assert first["inactive"] == [at for at, place in enumerate(places) if place in whole["inactive"]]
    assert first["color"] == "".join(whole["color"][6 * place : 6 * place + 6] for place in places)
    figures = first.keys() - {"of", "thumb", "inactive", "color", "texts", "label"}
    assert figures >= {"unit", "activation", "robust_mean"}
    assert {name: first[name] for name in figures} == {name: [whole[name][at] for at in places] for name in figures}


def test_building_again_writes_nothing_new(small_atlas: Path, tmp_path: Path) -> None:
    first = build_site(small_atlas, tmp_path / "site")
    before = stamps(tmp_path / "site")
    second = build_site(small_atlas, tmp_path / "site")
    after = stamps(tmp_path / "site")
    assert (first.counts["layers_reused"], second.counts["layers_reused"]) == (0, 9)
    changed = {name for name in after if before.get(name) != after[name]}
    assert changed <= {"index.html", "404.html", ".neuron-atlas-site", ".nojekyll"}
    assert before.keys() == after.keys()


def test_building_again_reads_no_shard_whole_and_makes_no_pack(
    evident_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_site(evident_atlas, tmp_path / "site")
    read: list[str] = []
    whole = Store.read
    monkeypatch.setattr(Store, "read", lambda self, path: read.append(path) or whole(self, path))
    for module in (layers, examples, matches):
        monkeypatch.setattr(module, "packs", None)  # whoever makes one fails
    assert build_site(evident_atlas, tmp_path / "site").bytes == first.bytes
    assert not [path for path in read if path.endswith(".parquet")]


def test_a_site_can_be_sized_without_being_written(
    small_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, mode = plan_site(small_atlas)
    report = build_site(small_atlas, tmp_path / "site", title="Ours & yours", workers=1)
    assert mode == "sprite"
    assert size.bytes / 2 < report.bytes <= size.bytes
    assert "<title>Ours &amp; yours</title>" in (tmp_path / "site" / "index.html").read_text()
    monkeypatch.setitem(budget.HOSTS, "github-pages", budget.Host("github-pages", bytes=500_000, source="as if"))
    with pytest.raises(budget.SiteTooLarge):
        plan_site(small_atlas, target="github-pages")


def test_a_changed_layer_alone_is_built_again_and_the_old_one_goes(tmp_path: Path) -> None:
    models = (Drawn("one", (40, 40)), Drawn("two", (24,)))
    atlas = draw_atlas(tmp_path / "atlas", models)
    build_site(atlas, tmp_path / "site")
    before = manifest_of(tmp_path / "site")
    write_model(Store(atlas), Drawn("three", (16,)))
    shutil.rmtree(Path(atlas) / "neurons" / "one")
    shutil.rmtree(Path(atlas) / "models" / "one")
    report = build_site(atlas, tmp_path / "site")
    after = manifest_of(tmp_path / "site")
    assert [model["slug"] for model in after["models"]] == ["three", "two"]
    assert report.counts["layers_reused"] == 1
    assert not (tmp_path / "site" / "d" / "one").exists()
    assert not (tmp_path / "site" / before["wall"]["file"]).exists()
    assert after["models"][1]["layers"][0]["folder"] == before["models"][1]["layers"][0]["folder"]


def test_an_interrupted_build_leaves_the_old_site_and_the_next_one_completes(
    small_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    real = os.rename

    def fail(*paths: str) -> None:
        if "drawn-vit/00002" in str(paths[1]):
            raise KeyboardInterrupt
        real(*paths)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        build_site(small_atlas, out)
    assert not (out / "index.html").exists()
    monkeypatch.undo()
    report = build_site(small_atlas, out)
    assert report.counts["layers"] == 9
    assert not list(out.rglob("*.tmp"))


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("depth-", "wall-", "model-", "strip.webp")]


@pytest.mark.parametrize("name", ["index.html", *_SLOW])
def test_a_file_is_there_whole_or_not_at_all(
    name: str, small_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that is killed while it writes: files are named by their content, so half a one would stay for ever."""
    real = Path.write_bytes

    def half(path: Path, data: bytes) -> int:
        if name in path.name:
            real(path, data[: len(data) // 2])
            raise KeyboardInterrupt
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        build_site(small_atlas, tmp_path / "site")
    monkeypatch.undo()
    build_site(small_atlas, tmp_path / "site")
    build_site(small_atlas, tmp_path / "whole")
    assert contents(tmp_path / "site") == contents(tmp_path / "whole")


def contents(site: Path) -> dict[str, bytes]:
    return {path.relative_to(site).as_posix(): path.read_bytes() for path in site.rglob("*") if path.is_file()}


def test_range_mode_points_at_the_pictures_in_the_dataset(small_atlas: Path, tmp_path: Path) -> None:
    report = build_site(small_atlas, tmp_path / "site", target="s3", dataset_url="https://example.org/atlas/")
    manifest = manifest_of(tmp_path / "site")
    assert report.images == "range"
    assert manifest["images"] == {"mode": "range", "base": "https://example.org/atlas"}
    assert not list((tmp_path / "site").rglob("*.pictures"))
    folder = tmp_path / "site" / manifest["models"][2]["layers"][1]["folder"]
    pack = json.loads(gzip.decompress((folder / "00001.json.gz").read_bytes()))
    shard = (small_atlas / pack["shard"]).read_bytes()
    for unit, offset, length in zip(*(pack["columns"][name] for name in ("unit", "offset", "length")), strict=True):
        assert shard[offset : offset + length] == Atlas(str(small_atlas)).picture(f"drawn-vit/mlp/1/{unit}")
    assert "connect-src &#39;self&#39; https://example.org;" in (tmp_path / "site" / "index.html").read_text()


def test_files_mode_is_one_webp_a_neuron(small_atlas: Path, tmp_path: Path) -> None:
    build_site(small_atlas, tmp_path / "site", images="files")
    entry = manifest_of(tmp_path / "site")["models"][2]["layers"][3]
    picture = (tmp_path / "site" / entry["folder"] / "00001" / "69.webp").read_bytes()
    assert picture == Atlas(str(small_atlas)).picture("drawn-vit/mlp/3/69")


def test_a_space_gets_its_card(small_atlas: Path, tmp_path: Path) -> None:
    build_site(small_atlas, tmp_path / "site", target="hf-space", title='Our "atlas"')
    card = (tmp_path / "site" / "README.md").read_text()
    assert "sdk: static" in card
    assert "title: \"Our 'atlas'\"" in card


def test_the_page_cannot_be_broken_by_text_of_the_dataset(small_atlas: Path, tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><!--"
    build_site(small_atlas, tmp_path / "site", title=hostile)
    page = (tmp_path / "site" / "index.html").read_text()
    assert "<script>alert" not in page
    assert manifest_of(tmp_path / "site")["title"] == hostile


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": "github-page"}, "nearest: github-pages"),
        ({"images": "sprites"}, "nearest: sprite"),
        ({"images": "range"}, "--dataset-url"),
        ({"images": "range", "target": "github-pages", "dataset_url": "https://x.org"}, "use sprite"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_written(
    settings: dict, said: str, small_atlas: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match=re.escape(said)):
        build_site(small_atlas, tmp_path / "site", **settings)
    assert not (tmp_path / "site").exists()


def test_a_folder_of_somebody_else_is_left_alone(small_atlas: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ForeignAtlas, match="holds no site"):
        build_site(small_atlas, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_no_atlas_and_an_empty_atlas_say_so(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="no neurons"):
        build_site(tmp_path / "nothing", tmp_path / "site")


def test_a_site_too_large_for_its_host_is_refused_before_it_is_written(
    small_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(budget.HOSTS, "github-pages", budget.Host("github-pages", bytes=500_000, source="as if"))
    with pytest.raises(budget.SiteTooLarge, match=r"allowed are 0\.5 MB"):
        build_site(small_atlas, tmp_path / "site", target="github-pages")
    assert not (tmp_path / "site").exists()


def test_the_size_is_foretold_from_above(small_atlas: Path, tmp_path: Path) -> None:
    """The estimate that guards a host's limits is never below the truth, nor far above it."""
    for mode in ("sprite", "files"):
        report = build_site(small_atlas, tmp_path / mode, images=mode)
        size = budget.estimate(survey(Atlas(str(small_atlas))), mode)
        assert report.bytes <= size.bytes < 2 * report.bytes
        assert report.files <= size.files <= report.files + 5


def test_no_place_of_this_machine_is_in_the_site(built: tuple[Path, SiteReport], small_atlas: Path) -> None:
    out, _ = built
    for path in out.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            text = gzip.decompress(data) if path.suffix == ".gz" else data
            assert str(small_atlas).encode() not in text, path


def test_modules_stay_small_and_name_no_other_host() -> None:
    for path in STATIC.rglob("*.js"):
        if "vendor" in path.parts:
            continue
        text = path.read_text()
        assert len(text.splitlines()) < 200, path.name
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path.name
    assert (STATIC / "vendor" / "LICENSE-htm.txt").read_text().strip().startswith("Apache License")
    assert "MIT" in (STATIC / "vendor" / "LICENSE-preact.txt").read_text()


def test_what_comes_with_the_page_does_not_grow(built: tuple[Path, SiteReport]) -> None:
    """Before the first picture a browser reads these, in one wave; lower the limits when there is less to read."""
    page = (built[0] / "index.html").read_text()
    names = set(re.findall(r'(?:src|href)="(app-[^"]+\.(?:js|css))"', page))
    assert len(names) <= 3
    assert sum((built[0] / name).stat().st_size for name in names) <= 124_000


def test_the_joined_scripts_are_made_of_the_modules_as_they_are() -> None:
    assert bundling.bundled() is not None, "a script or the style changed: run `make bundle` (it needs node)"


def test_where_a_module_changed_a_site_gets_the_modules(
    small_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = tmp_path / "static"
    shutil.copytree(STATIC, static)
    (static / "format.js").write_text((static / "format.js").read_text() + "// changed\n")
    monkeypatch.setattr(app, "STATIC", static)
    build_site(small_atlas, tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    preloaded = set(re.findall(r'modulepreload" href="app-[^/]*/([^"]+)"', page))
    assert {"main.js", "format.js", "pages/load.js", "pages/home.js"} <= preloaded
    assert "pages/head.js" not in preloaded, "it comes when it is opened"
    changed = next((tmp_path / "site").glob("app-*/format.js"))
    assert changed.read_text().endswith("// changed\n")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm missing")
def test_the_joined_scripts_are_what_the_tools_make(tmp_path: Path) -> None:
    """Fetches the tools (npm)."""
    bundling.make(tmp_path / "bundled")
    made = {path.name: path.read_bytes() for path in (tmp_path / "bundled").iterdir()}
    assert made == {path.name: path.read_bytes() for path in bundling.BUNDLED.iterdir()}


def get(address: str, path: str, **headers: str) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read(), response.headers


def test_the_server_compresses_text_for_those_who_take_it(built: tuple[Path, SiteReport]) -> None:
    out, _ = built
    with running(make_server(out, 0)) as address:
        for path in ("/", f"/{next(out.glob('app-*')).name}/main.js"):
            whole = (out / ("index.html" if path == "/" else path[1:])).read_bytes()
            status, body, headers = get(address, path, **{"Accept-Encoding": "br, gzip"})
            assert (status, headers["Content-Encoding"], headers["Vary"]) == (200, "gzip", "Accept-Encoding")
            assert gzip.decompress(body) == whole
            assert len(body) < 0.5 * len(whole)
            assert get(address, path)[1] == whole
        pack = next(out.glob("d/*/*/00000.json.gz")).relative_to(out).as_posix()
        _, body, headers = get(address, f"/{pack}", **{"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] is None, "the page unpacks these itself"
        assert body == (out / pack).read_bytes()
        assert get(address, "/none.js", **{"Accept-Encoding": "gzip"})[0] == 404


def test_the_server_answers_ranges(built: tuple[Path, SiteReport]) -> None:
    out, _ = built
    whole = (out / "index.html").read_bytes()
    with running(make_server(out, 0)) as address:
        assert get(address, "/")[:2] == (200, whole)
        status, body, headers = get(address, "/index.html", Range="bytes=5-14")
        assert (status, body, headers["Content-Range"]) == (206, whole[5:15], f"bytes 5-14/{len(whole)}")
        assert get(address, "/index.html", Range="bytes=-9")[1] == whole[-9:]
        assert get(address, "/index.html", Range=f"bytes={len(whole)}-")[0] == 416
        assert get(address, "/index.html", Range="lines=1-2")[:2] == (200, whole)
        assert get(address, "/missing.json", Range="bytes=0-1")[0] == 404
        assert get(address, "/../../etc/passwd")[0] == 404


def test_the_server_keeps_connections_shows_no_folders_and_takes_any_address(built: tuple[Path, SiteReport]) -> None:
    out, _ = built
    with running(make_server(out, 0)) as address:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
        for path, status in (("/", 200), ("/%00", 400), ("/d/", 404), ("/index.html", 200), ("/d", 301)):
            connection.request("GET", path)
            connection.sock.settimeout(5)
            used = connection.sock
            response = connection.getresponse()
            body = response.read()
            assert response.status == status, path
            assert b"Directory listing" not in body
            if status == 200:
                assert connection.sock is used, "the connection is kept"
    for port in (99999, -1):
        with pytest.raises(BadConfig, match=rf"port {port}: expected a number from 0"):
            make_server(out, port)


def test_a_reader_who_hangs_up_leaves_no_traceback(
    built: tuple[Path, SiteReport], capfd: pytest.CaptureFixture[str]
) -> None:
    """Browsers cut connections when a page is closed; a terminal full of tracebacks hides what matters."""
    out, _ = built
    with running(make_server(out, 0)) as address:
        host, port = address.removeprefix("http://").split(":")
        for _ in range(3):
            reader = socket.create_connection((host, int(port)), timeout=5)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends a reset
            reader.sendall(b"GET /index.html HTTP/1.1\r\nHost: here\r\n\r\n")
            reader.recv(1)
            reader.close()
        assert get(address, "/index.html")[0] == 200  # and goes on serving
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "url",
    ["https://a.org/x; script-src *", "https://a.org/' onclick='", "ftp://a.org/x", "a.org/x", "hf://datasets/one"],
)
def test_an_address_that_would_change_the_pages_policy_is_refused(url: str, small_atlas: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"--dataset-url .*expected an address that browsers read"):
        build_site(small_atlas, tmp_path / "site", dataset_url=url)
    assert not (tmp_path / "site").exists()


def test_a_missing_page_is_told(built: tuple[Path, SiteReport]) -> None:
    page = (built[0] / "404.html").read_text()
    assert "Nothing lies at this address" in page
    assert "<script" not in page


def test_serving_what_is_no_site_or_on_a_taken_port_is_an_error(built: tuple[Path, SiteReport], tmp_path: Path) -> None:
    with pytest.raises(NothingThere, match="site build"):
        make_server(tmp_path)
    with running(make_server(built[0], 0)) as address, pytest.raises(AtlasError, match="--port"):
        make_server(built[0], int(address.rpartition(":")[2]))
