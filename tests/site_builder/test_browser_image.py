"""A visitor's image in headless Chromium: the model gives what torch gives, and the image stays where it is."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Page, missing, painted, plain_server
from drawn_atlas import Drawn, draw_atlas
from drawn_evidence import IMAGES, PROBE_SET, TOP
from PIL import Image

from atlas_schema.errors import AtlasError
from atlas_schema.read import Atlas
from pipeline.hooks.activations import all_ffn_activations
from pipeline.images.world import World
from pipeline.models import LoadedModel
from pipeline.models.preprocess import RESAMPLING, centre_of, pixels_of
from pipeline.probe.evidence import EvidenceSettings
from site_builder.build import build_site
from site_builder.bundling import STATIC
from site_builder.in_browser import Browsing, InBrowser
from site_builder.onnxruntime import runtime_files

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(missing()), reason=missing())]

#: Looks elsewhere, as a page that was tampered with might.
ELSEWHERE = """
  const [address, done] = arguments;
  const words = `fetch(${JSON.stringify(address)}, { mode: "no-cors" })
    .then(() => postMessage("sent"), () => postMessage("refused"))`;
  const script = URL.createObjectURL(new Blob([words], { type: "text/javascript" }));
  new Worker(script, { type: "module" }).onmessage = ({ data }) => done(data);"""


@dataclass(frozen=True)
class Seen:
    page: Page
    address: str
    asked: list[str]
    atlas: Path

    def open(self, where: str, ready: str = "h1") -> Page:
        self.page.size(1280)
        self.page.scheme("light")
        self.page.console()
        self.page.open(f"{self.address}/site/{where}", ready)
        return self.page


@pytest.fixture(scope="module")
def runtime() -> dict[str, bytes]:
    """onnxruntime-web from the folder ONNXRUNTIME_WEB, else by npm, which needs the network once."""
    try:
        return runtime_files(os.environ.get("ONNXRUNTIME_WEB"))
    except AtlasError as error:
        pytest.skip(f"{error} Or let ONNXRUNTIME_WEB name the package's folder.")


@pytest.fixture(scope="module")
def seen(
    vit: LoadedModel, vit_graph: bytes, runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Seen]:
    root = tmp_path_factory.mktemp("host")
    widths = tuple(site.width for site in vit.description.ffn_sites)
    stages = ("evidence", "examples")
    own = Drawn(
        "zoo-vit",
        widths,
        planned=((3, 70),),  # of the others the atlas says nothing
        stages=stages,
        probe_set=PROBE_SET,
        interpolation=vit.description.interpolation,
    )
    atlas = Path(draw_atlas(root / "atlas", (own,)))
    graph = root / "graph.onnx"
    graph.write_bytes(vit_graph)
    build_site(atlas, root / "site", browsing=Browsing([InBrowser("zoo-vit", graph)], runtime))
    shutil.copy(STATIC / "resample.js", root)
    with plain_server(root) as (address, asked):
        page = Page()
        try:
            yield Seen(page, address, asked, atlas)
        finally:
            page.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture larger than the input, wider than high, in a format that loses nothing."""
    scene = World().fetch(3)[0].resize((420, 310), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).integers(-30, 30, (310, 420, 3))
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray((np.asarray(scene).astype(int) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def choose(page: Page, path: Path) -> None:
    page.all("input[type=file]")[0].send_keys(str(path))
    page.wait(lambda: page.all(".neurons-of li"), 60)


def expected(atlas: Path, vit: LoadedModel, path: Path) -> tuple[list[tuple[int, int]], dict[tuple[int, int], float]]:
    """Neurons in the order in which the page must show them, by torch and the atlas's tables; and their activations."""
    with torch.no_grad():
        hidden = all_ffn_activations(vit, vit.normalise(pixels_of(Image.open(path), vit.description)[None]))
    found: dict[tuple[int, int], tuple[float, float]] = {}
    activations = {}
    for layer, (call,) in hidden.items():
        rows = Atlas(atlas).neurons("zoo-vit", layer, ["unit", "peak_quantiles", "histogram"])
        examples = Atlas(atlas).examples("zoo-vit", layer, ["unit", "kind", "rank", "activation"])
        assert rows is not None
        assert examples is not None
        strongest = [one for one in examples.to_pylist() if one["kind"] == "top"]
        for row in rows.to_pylist():
            knots = [(0.0, row["histogram"]["low"])]
            told = zip(EvidenceSettings().quantiles, row["peak_quantiles"], strict=True)
            knots += [(share, value) for share, value in told if share < 1 - TOP / IMAGES]
            own = [one for one in strongest if one["unit"] == row["unit"]]
            knots += [(1 - (one["rank"] + 1) / IMAGES, one["activation"]) for one in own]
            shares, values = (np.asarray(column) for column in zip(*sorted(knots), strict=True))
            values = np.maximum.accumulate(values)
            value = float(call[0, :, row["unit"]].max())
            if value > 0 and values[-1] > 0:
                below = 1.0 if value > values[-1] else float(np.interp(value, values, shares))
                found[layer, row["unit"]] = (-below, -value / values[-1])
                activations[layer, row["unit"]] = value
    return sorted(found, key=lambda one: (found[one], one)), activations


def test_the_page_finds_the_neurons_that_torch_finds(seen: Seen, vit: LoadedModel, photo: Path) -> None:
    page = seen.open("#/image/zoo-vit")
    choose(page, photo)
    shown = page.run("return [...document.querySelectorAll('.neurons-of p a')].map((one) => one.getAttribute('href'))")
    order, activations = expected(seen.atlas, vit, photo)
    beyond = page.text(".found-neurons p[role=status]")
    assert f"{len(order)} neurons fire on it" in beyond
    assert shown[:20] == [f"#/n/zoo-vit/{layer}/{unit}" for layer, unit in order[:20]]
    layer, unit = order[0]
    assert page.text(".mine figcaption").startswith(f"Layer {layer}, unit {unit}: above all")
    assert f"activation {activations[order[0]]:.3g}" in page.text(".mine figcaption")
    assert painted(page.pixels(".mine .shot"))
    page.settle()
    assert page.console() == []


@pytest.mark.slow
def test_a_neuron_is_chosen_and_layers_are_shown_alone(seen: Seen, vit: LoadedModel, photo: Path) -> None:
    page = seen.open("#/image/zoo-vit")
    choose(page, photo)
    order, _ = expected(seen.atlas, vit, photo)
    before = page.pixels(".mine .shot")
    page.all(".neurons-of button")[5].click()
    layer, unit = order[5]
    page.wait(lambda: page.text(".mine figcaption").startswith(f"Layer {layer}, unit {unit}:"))
    assert page.all(".neurons-of button")[5].get_attribute("aria-pressed") == "true"
    assert (page.pixels(".mine .shot") != before).any()
    page.choose(".found-neurons select", "2")
    page.wait(lambda: page.driver.current_url.endswith("#/image/zoo-vit?layer=2"))
    own = [one for one in order if one[0] == 2]
    assert page.text(".mine figcaption").startswith(f"Layer 2, unit {own[0][1]}:")
    page.all(".found-neurons > .mine-and-neurons > div > .plain")[0].click()
    page.wait(lambda: len(page.all(".neurons-of li")) == min(48, len(own)) > 24)


def test_once_the_model_is_there_nothing_is_asked_for_but_files_of_the_site(seen: Seen, photo: Path) -> None:
    before = len(seen.asked)
    page = seen.open("#/image/zoo-vit")
    page.settle()
    assert not [path for path in seen.asked[before:] if "/o/" in path], "nothing before an image is chosen"
    choose(page, photo)
    page.settle()
    own = page.all(".mine img")[0].get_attribute("alt")
    before = len(seen.asked)
    page.requests()
    page.all(".samples button")[2].click()
    page.wait(lambda: page.all(".mine img")[0].get_attribute("alt") != own, 60)
    page.settle()
    asked = seen.asked[before:]
    # plain files of the site: an address that carried anything else would be none (nothing but GET is served)
    assert all((seen.atlas.parent / path.removeprefix("/")).is_file() for path in asked if path != "/site/"), asked
    hosts = {url.split("/")[2] for url in page.requests() if url.startswith("http")}
    assert hosts <= {seen.address.removeprefix("http://")}


@pytest.mark.slow
def test_the_model_is_kept_for_the_next_time(seen: Seen, photo: Path) -> None:
    page = seen.open("#/image/zoo-vit")
    page.wait(lambda: page.run("return navigator.serviceWorker.controller !== null"))
    choose(page, photo)
    page.settle()
    before = len(seen.asked)
    choose(seen.open("#/image/zoo-vit"), photo)
    assert not [path for path in seen.asked[before:] if "/o/" in path]


def test_what_runs_the_model_cannot_reach_another_host(seen: Seen) -> None:
    reached: list[str] = []

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reached.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    other = http.server.HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    try:
        page = seen.open("#/image/zoo-vit")
        said = page.driver.execute_async_script(ELSEWHERE, f"http://127.0.0.1:{other.server_address[1]}/image")
    finally:
        other.shutdown()
        other.server_close()
    assert said == "refused"
    assert reached == []
    page.console()


@pytest.mark.slow
def test_a_file_that_is_no_image_and_one_that_is_too_small_are_told(seen: Seen, photo: Path, tmp_path: Path) -> None:
    page = seen.open("#/image/zoo-vit")
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (12, 40)).save(tmp_path / "small.png")
    for name, said in (("text.png", "cannot read the file as an image"), ("small.png", "12 x 40 pixels: too small")):
        page.all("input[type=file]")[0].send_keys(str(tmp_path / name))
        page.wait(lambda said=said: said in page.text(".failure"))
    choose(page, photo)
    assert not page.all(".failure")


@pytest.mark.slow
def test_a_site_without_models_says_how_to_add_one(seen: Seen, tmp_path: Path) -> None:
    build_site(seen.atlas, tmp_path / "site")
    with plain_server(tmp_path / "site") as (address, _):
        for where in ("#/image/zoo-vit", "#/image"):
            seen.page.open(f"{address}/{where}", ".failure")
            assert "--in-browser" in seen.page.text(".failure")


@pytest.mark.parametrize(
    "method", ["bicubic", "bilinear", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lanczos", "nearest"))]
)
def test_images_are_resized_as_the_pipeline_does_to_the_byte(method: str, seen: Seen) -> None:
    rng = np.random.default_rng(0)
    page = seen.open("#/help")
    for height, width, target in ((90, 130, (32, 32)), (20, 17, (32, 32)), (33, 48, (33, 48)), (61, 40, (24, 40))):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = np.asarray(centre_of(Image.fromarray(pixels), target, RESAMPLING[method]))
        rgba = np.concatenate([pixels, np.full((height, width, 1), 255, np.uint8)], 2)
        found = page.driver.execute_async_script(
            """
            const [rgba, width, height, target, method, done] = arguments;
            import("/resample.js").then(({ centreOf }) =>
              done([...centreOf(Uint8Array.from(rgba), width, height, target[1], target[0], method)]))""",
            rgba.ravel().tolist(),
            width,
            height,
            list(target),
            method,
        )
        assert np.array_equal(np.asarray(found).reshape(*target, 3), expected), (height, width, target)
