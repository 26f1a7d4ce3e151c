"""What a site has of models for browsers: curves of neurons, files, the page's policy, the runtime."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from drawn_atlas import Drawn, draw_atlas
from drawn_evidence import PROBE_SET

from atlas_schema.errors import BadConfig, NothingThere, WorkFailed
from atlas_schema.read import Atlas
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import MODELS
from jobs.commands.site import build as command
from pipeline.models import ModelRequest, load
from pipeline.probe.evidence import EvidenceSettings
from pipeline.uses.in_browser import checked_graph
from site_builder import in_browser, onnxruntime
from site_builder.budget import SiteTooLarge
from site_builder.build import build_site, plan_site
from site_builder.in_browser import Browsing, InBrowser, curves_of

FILES = {"ort.js": b"script", "ort.wasm.gz": b"wasm", "LICENSE.txt": b"MIT"}


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stages = ("visualize", "evidence", "judge", "examples")
    models = (Drawn("drawn-pit", (40, 20), stages=stages, probe_set=PROBE_SET), Drawn("drawn-bare", (8,)))
    return Path(draw_atlas(tmp_path_factory.mktemp("atlas") / "atlas", models))


@pytest.fixture
def asked(tmp_path: Path) -> Browsing:
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"a graph" * 100)
    return Browsing([InBrowser("drawn-pit", graph)], FILES)


def test_the_quantiles_are_those_that_the_atlas_has() -> None:
    assert EvidenceSettings().quantiles == in_browser.QUANTILES


def test_a_curve_counts_the_probe_images_below() -> None:
    rng = np.random.default_rng(0)
    peaks = rng.gamma(0.7, 1, (3, 1000))
    low, quantiles = peaks.min(1), np.quantile(peaks, in_browser.QUANTILES, axis=1).T
    rows = pa.table(
        {
            "unit": [4, 5, 9],
            "probe_images": [1000] * 3,
            "peak_quantiles": quantiles.tolist(),
            "peak_max": peaks.max(1),
            "histogram": [{"low": value, "high": 0.0} for value in low],
        }
    )
    top = np.sort(peaks, 1)[:, :-10:-1]
    examples = pa.table(
        {
            "unit": np.repeat([9, 5, 4], 10),
            "kind": (["quantile"] + ["top"] * 9) * 3,
            "rank": [0, *range(8, -1, -1)] * 3,
            "activation": np.concatenate([[0.1, *own[::-1]] for own in top[::-1]]),
        }
    )
    found = curves_of(rows, examples)
    assert found is not None
    assert found.units == [4, 5, 9]
    assert found.images == 1000
    assert found.shares[0] == 0
    assert found.shares[-9:] == [share / 1000 for share in range(991, 1000)]
    for own, values in zip(peaks, found.values, strict=True):
        assert np.allclose(values[-9:], np.sort(own)[-9:])
        assert (np.diff(values) >= 0).all()
        for value in np.quantile(own, [0.2, 0.6, 0.93, 0.9915]):
            assert abs(np.interp(value, values, found.shares) - (own < value).mean()) < 0.06
    alone = curves_of(rows, None)
    assert alone is not None
    assert alone.shares == [0.0, *in_browser.QUANTILES[:-1], 0.999]
    assert np.allclose(alone.values[:, -1], peaks.max(1))


def test_a_site_has_the_model_the_runtime_and_a_policy_that_lets_them_run(
    atlas: Path, asked: Browsing, tmp_path: Path
) -> None:
    build_site(atlas, tmp_path / "site")
    plain = (tmp_path / "site" / "index.html").read_text()
    assert "wasm" not in plain
    assert "worker-src" not in plain
    assert not (tmp_path / "site" / "o").exists()
    size, _ = plan_site(atlas, browsing=asked)
    report = build_site(atlas, tmp_path / "site", browsing=asked)
    assert "1 model for browsers to run" in report.said
    assert size.files >= report.files
    assert size.bytes >= report.bytes
    page = (tmp_path / "site" / "index.html").read_text()
    assert "script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:;" in page
    assert "'unsafe-eval'" not in page
    manifest = json.loads(page.partition('id="manifest">')[2].partition("</script>")[0])
    told = {model["slug"]: model["browser"] for model in manifest["models"]}
    assert told["drawn-bare"] is None
    assert told["drawn-pit"]["bytes"] == 700
    folder = tmp_path / "site" / told["drawn-pit"]["folder"]
    assert (folder / "model.onnx").read_bytes() == asked.models[0].graph.read_bytes()
    ranks = json.loads(gzip.decompress((folder / "ranks.json.gz").read_bytes()))
    assert [len(layer["units"]) for layer in ranks["layers"].values()] == [40, 20]
    peak_max = Atlas(atlas).neuron("drawn-pit/mlp/1/7", ["peak_max"])["peak_max"]
    assert ranks["layers"]["1"]["values"][7][-1] == pytest.approx(peak_max, rel=1e-5)
    assert {path.name for path in (tmp_path / "site" / manifest["runtime"]["folder"]).iterdir()} == set(FILES)
    build_site(atlas, tmp_path / "site")
    assert not list((tmp_path / "site").glob("o/m/*")), "a site without them keeps none"


def test_a_model_without_evidence_is_refused(atlas: Path, asked: Browsing, tmp_path: Path) -> None:
    bare = Browsing([InBrowser("drawn-bare", asked.models[0].graph)], FILES)
    with pytest.raises(NothingThere, match="--in-browser drawn-bare: no probe image has measured its neurons"):
        build_site(atlas, tmp_path / "site", browsing=bare)


def test_a_dry_run_writes_and_fetches_nothing_and_says_what_a_build_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it says is no less than what the build then takes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")  # no npm
    atlas, out = tmp_path / "atlas", tmp_path / "site"
    owner = load(ModelRequest("zoo/vit")).description
    size = {"input_height": owner.input_size[0], "input_width": owner.input_size[1]}
    draw_atlas(atlas, (Drawn("zoo-vit", (40, 20), stages=("visualize", "evidence", "examples"), probe_set=PROBE_SET),))
    told = Atlas(str(atlas)).models()[0] | {"model_id": "zoo/vit", "parameters": owner.parameters, **size}
    write_rows(Store(str(atlas)), MODELS, "zoo-vit", [told], provenance={"code_version": "test"})
    before = sorted(path for path in tmp_path.rglob("*"))
    assert command(str(atlas), out=out, in_browser=["all"], dry_run=True, as_json=True) == 0
    said = capsys.readouterr()
    assert sorted(path for path in tmp_path.rglob("*")) == before
    assert f"zoo-vit: not written as ONNX yet; by its {owner.parameters:,} parameters" in said.err
    assert "onnxruntime-web" in said.err
    foretold = json.loads(said.out)

    graph, _ = checked_graph(load(ModelRequest("zoo/vit")), torch.rand(1, 3, *owner.input_size))
    (tmp_path / "graph.onnx").write_bytes(graph)
    least, most = InBrowser("zoo-vit", None, owner.parameters).spans
    assert least <= len(graph) <= most
    report = build_site(atlas, out, browsing=Browsing([InBrowser("zoo-vit", tmp_path / "graph.onnx")], FILES))
    assert report.files <= foretold["files"] <= report.files + 1, (
        "but for pictures to start with: nothing here is labelled"
    )
    assert foretold["bytes"] >= report.bytes


def test_a_file_that_github_does_not_take_is_refused_before_anything_is_written(
    atlas: Path, asked: Browsing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_browser, "GITHUB_FILE", 600)
    with pytest.raises(SiteTooLarge, match=r"drawn-pit: its model is one file of .* GitHub takes none above"):
        build_site(atlas, tmp_path / "site", target="github-pages", browsing=asked)
    assert not (tmp_path / "site").exists()


def package(folder: Path) -> Path:
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / onnxruntime.SCRIPT).write_bytes(b"script")
    (folder / "dist" / onnxruntime.WASM).write_bytes(b"wasm" * 100)
    return folder


def test_the_runtime_comes_from_a_folder_that_the_user_names(tmp_path: Path) -> None:
    folder = package(tmp_path / "onnxruntime-web")
    for place in (folder, folder / "dist"):
        files = onnxruntime.runtime_files(place)
        assert files["ort.js"] == b"script"
        assert gzip.decompress(files["ort.wasm.gz"]) == b"wasm" * 100
        assert b"Microsoft" in files["LICENSE.txt"]
    with pytest.raises(NothingThere, match="expected the npm package onnxruntime-web"):
        onnxruntime.runtime_files(tmp_path)


def test_a_package_with_another_hash_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = tmp_path / "fetched.tgz"
    with tarfile.open(found, "w:gz") as archive:
        archive.add(package(tmp_path / "package"), "package")
    monkeypatch.setattr(onnxruntime, "_fetched", lambda place: found)
    with pytest.raises(WorkFailed, match="expected was sha512-q0y"):
        onnxruntime.runtime_files()
    right = base64.b64encode(hashlib.sha512(found.read_bytes()).digest()).decode()
    monkeypatch.setattr(onnxruntime, "INTEGRITY", right)
    assert onnxruntime.runtime_files()["ort.js"] == b"script"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnxruntime, "_fetched", lambda place: pytest.fail("it is in the cache"))
    assert onnxruntime.runtime_files()["ort.js"] == b"script"


def test_without_npm_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadConfig, match=r"npm, which fetches it, is not installed.*--onnxruntime-web FOLDER"):
        onnxruntime.runtime_files()
