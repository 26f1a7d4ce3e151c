"""Links that show what they lead to: pages with a picture for previews, as fine as the host's limits allow."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import Page, Seen, missing, plain_server
from drawn_evidence import label_of
from PIL import Image, ImageOps
from test_build import manifest_of

from atlas_schema.errors import BadConfig
from atlas_schema.read import Atlas
from site_builder import cards
from site_builder.build import build_site, measure, plan_site
from site_builder.survey import survey

URL = "https://example.org/atlas"


@pytest.fixture(scope="module")
def built(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("host")
    build_site(evident_atlas, root / "site", url=URL)
    return root / "site"


def told(page: Path) -> dict[str, str]:
    """What a preview reads: the properties of a page."""
    text = page.read_text()
    return dict(re.findall(r'<meta (?:property|name)="([\w:]+)" content="([^"]*)">', text))


def test_a_neurons_link_shows_its_picture_nine_images_and_its_label(built: Path, evident_atlas: Path) -> None:
    page = built / "c/drawn-vit/mlp/1/8.html"
    said = told(page)
    assert said["og:title"] == "“crosswalk &lt;b&gt;stripes&lt;/b&gt;”, unit 8, layer 1 of drawn-vit"
    assert label_of(8) not in page.read_text(), "text of the dataset is never markup"
    assert said["og:url"] == f"{URL}/c/drawn-vit/mlp/1/8.html"
    assert said["og:image"] == f"{URL}/c/drawn-vit/mlp/1/8.jpg"
    assert said["twitter:card"] == "summary_large_image"
    card = np.asarray(Image.open(built / "c/drawn-vit/mlp/1/8.jpg").convert("RGB")).astype(float)
    assert card.shape == (int(said["og:image:height"]), int(said["og:image:width"]), 3)
    picture = Image.open(io.BytesIO(Atlas(str(evident_atlas)).picture("drawn-vit/mlp/1/8"))).convert("RGB")
    shown = np.asarray(picture.resize((315, 315), Image.Resampling.LANCZOS)).astype(float)
    assert np.abs(card[:, :315] - shown).mean() < 12
    places = [(row * 105, 315 + column * 95) for row in range(3) for column in range(3)]
    corners = [card[top : top + 100, left : left + 90] for top, left in places]
    assert all(tile.reshape(-1, 3).std(0).max() > 10 for tile in corners), "nine images"
    assert len({tile.mean().round(2) for tile in corners}) == 9


def test_every_neuron_layer_head_and_model_has_one_and_the_sitemap_lists_them(built: Path, evident_atlas: Path) -> None:
    held = survey(Atlas(str(evident_atlas)))
    counted = held.counts
    pages = {path.relative_to(built).as_posix() for path in built.glob("c/**/*.html")}
    clusters = {page for page in pages if page.startswith("c/_rosetta/")}
    assert clusters == {f"c/_rosetta/{number}.html" for number in range(manifest_of(built)["clusters"]["clusters"])}
    pages_of_units = counted["neurons"] + counted["layers"] + counted["heads"]
    assert len(pages - clusters) == pages_of_units + len(held.outline.models)
    names = {element.text for element in ElementTree.parse(built / "sitemap.xml").iter() if element.tag.endswith("loc")}
    assert names == {f"{URL}/", *(f"{URL}/{re.sub('index.html$', '', page)}" for page in pages)}
    for page in pages:
        leads = re.search(r'href="((?:\.\./)+)#/([^"]+)"', (built / page).read_text())
        assert leads
        assert leads[1].count("../") == page.count("/"), page


def test_a_clusters_link_shows_the_pictures_of_its_neurons(built: Path, evident_atlas: Path) -> None:
    said = told(built / "c/_rosetta/0.html")
    assert re.fullmatch(r"Rosetta cluster 0(: “.+”)?", said["og:title"])
    members = re.findall(r"drawn-\w+/mlp/\d+/\d+", said["og:description"])
    assert len(members) == 3
    card = np.asarray(Image.open(built / "c/_rosetta/0.jpg").convert("RGB")).astype(float)
    picture = Image.open(io.BytesIO(Atlas(str(evident_atlas)).picture(members[0]))).convert("RGB")
    size = (600 // 3 - 2, 315 - 2)
    shown = np.asarray(ImageOps.fit(picture, size, Image.Resampling.LANCZOS)).astype(float)
    assert np.abs(card[: size[1], : size[0]] - shown).mean() < 12


def test_the_size_is_foretold_and_nothing_is_made_twice(built: Path, evident_atlas: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(built, site)
    before = {path: path.stat().st_mtime_ns for path in site.glob("c/**/*.jpg")}
    report = build_site(evident_atlas, site, url=URL)
    assert {path: path.stat().st_mtime_ns for path in site.glob("c/**/*.jpg")} == before
    assert "link previews by neurons" in str(report)
    size, _ = plan_site(evident_atlas, url=URL)
    bare, _ = plan_site(evident_atlas)
    own = measure(site / "c")
    more = size.files - bare.files
    outline = survey(Atlas(str(evident_atlas))).outline
    neurons, clusters = sum(len(layer.units) for layer in outline.layers), manifest_of(site)["cluster_cards"]
    assert own.files + 1 <= more <= own.files + 12 + 2 * (neurons // 3 - clusters), (
        "as if all were in clusters of three"
    )
    assert own.bytes <= size.bytes - bare.bytes
    build_site(evident_atlas, site)  # nobody asks for them any longer
    assert not (site / "c").exists()
    assert not (site / "sitemap.xml").exists()


@pytest.mark.parametrize(
    ("most", "level", "page"), [(700, "packs", "pack-0"), (160, "layers", "index"), (20, None, "")]
)
@pytest.mark.slow
def test_as_fine_as_the_limits_allow(
    most: int, level: str | None, page: str, evident_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "MOST_FILES", most)
    report = build_site(evident_atlas, tmp_path / "site", url=URL)
    manifest = re.search(r'id="manifest">(.*?)</script>', (tmp_path / "site/index.html").read_text(), re.S)
    assert manifest
    assert json.loads(manifest[1])["cards"] == level
    if level is None:
        assert "no link previews: they do not fit the host" in str(report)
        assert not (tmp_path / "site/c").exists()
    else:
        found = list((tmp_path / "site/c").glob(f"drawn-vit/mlp/1/{page}*.html"))
        assert found
        assert f"link previews by {level}" in str(report)
        assert not (tmp_path / "site/c/drawn-vit/mlp/1/8.html").exists()


def test_a_host_that_is_full_takes_none(evident_atlas: Path) -> None:
    outline = survey(Atlas(str(evident_atlas))).outline
    assert cards.choose(outline, URL, lambda size: size.files < 1000, None).level == "packs"
    assert cards.choose(outline, URL, lambda size: False, None) is None
    assert cards.choose(outline, URL, lambda size: True, 800).level == "packs", "a quarter of its files"


@pytest.mark.parametrize(
    "url", ["example.org", "https://a.org/x?y", 'https://a.org/"', "ftp://a.org/", "https://a.org/ b"]
)
def test_an_address_that_cannot_be_one_is_refused_before_anything_is_written(
    url: str, evident_atlas: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadConfig, match=r"--url .*expected the address that the site will have"):
        build_site(evident_atlas, tmp_path / "site", url=url)
    assert not (tmp_path / "site").exists()


@pytest.fixture(scope="module")
def seen(built: Path) -> Iterator[Seen]:
    if missing():
        pytest.skip(missing())
    with plain_server(built.parent) as (address, _):
        page = Page()
        try:
            yield Seen(page, address)
        finally:
            page.close()


def address_copied(page: Page) -> str:
    """What Copy link hands on."""
    page.run("navigator.clipboard.writeText = (text) => ((window.copied = text), Promise.resolve())")
    next(button for button in page.all(".address button") if button.text == "Copy link").click()
    return page.wait(lambda: page.run("return window.copied"))


@pytest.mark.browser
def test_copy_link_hands_on_the_page_with_a_preview_and_that_leads_back(seen: Seen) -> None:
    page = seen.page
    for where, shared, ready in (
        ("n/drawn-vit/1/8", "c/drawn-vit/mlp/1/8.html", ".tells"),
        ("h/drawn-vit/1/2", "c/drawn-vit/head/1-2.html", ".tells"),
        ("r/0", "c/_rosetta/0.html", ".members"),
    ):
        page.open(f"{seen.address}/site/#/{where}", ready)
        copied = address_copied(page)
        assert copied == f"{seen.address}/site/{shared}"
        page.driver.get(copied)
        page.wait(lambda where=where: page.driver.current_url.endswith(f"/site/#/{where}"))
    assert page.console() == []


@pytest.mark.browser
@pytest.mark.slow
def test_a_packs_page_leads_to_the_neuron_that_was_meant(
    seen: Seen, evident_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "MOST_FILES", 700)
    build_site(evident_atlas, tmp_path / "site", url=URL)
    with plain_server(tmp_path) as (address, _):
        page = seen.page
        page.open(f"{address}/site/#/n/drawn-vit/1/70", ".tells")
        assert address_copied(page) == f"{address}/site/c/drawn-vit/mlp/1/pack-1.html#70"
        for fragment, leads in (("#70", "n/drawn-vit/1/70"), ("", "m/drawn-vit/1"), ("#x%2F", "m/drawn-vit/1")):
            page.driver.get("about:blank")
            page.driver.get(f"{address}/site/c/drawn-vit/mlp/1/pack-1.html{fragment}")
            page.wait(lambda leads=leads: page.driver.current_url.endswith(f"/site/#/{leads}"), what=f"for {leads}")


@pytest.mark.browser
def test_a_neuron_and_a_head_stand_in_another_page(seen: Seen) -> None:
    page = seen.page
    page.open(f"{seen.address}/site/#/n/drawn-vit/1/8", ".snippet")
    frame = next(text for text in (block.text for block in page.all(".snippet pre")) if text.startswith("<iframe"))
    source = re.search(r'src="([^"]+)"', frame)
    assert source
    assert source[1] == f"{seen.address}/site/#/e/n/drawn-vit/1/8"
    for where, images in (("e/n/drawn-vit/1/8", 6), ("e/h/drawn-vit/1/2", 4)):
        page.size(640, 300)
        page.open(f"{seen.address}/site/#/{where}", ".embed .example img")
        page.settle()
        assert not page.all("header, .trail")
        assert len(page.all(".embed .example img")) >= images
        assert page.run("return document.documentElement.scrollWidth") <= 640
        assert page.all(".embed a")[0].get_attribute("target") == "_blank"
    page.size(1280)


@pytest.mark.browser
def test_the_row_is_there_as_json_and_bibtex_names_the_revision(seen: Seen, built: Path, evident_atlas: Path) -> None:
    page = seen.page
    page.open(f"{seen.address}/site/#/n/drawn-vit/1/8", ".snippet")
    blocks: list[Any] = page.run("return [...document.querySelectorAll('.snippet pre')].map((one) => one.textContent)")
    row = json.loads(next(block for block in blocks if block.startswith('{\n "address"')))
    truth = Atlas(str(evident_atlas)).neuron("drawn-vit/mlp/1/8")
    assert (row["address"], row["label"], row["verdict"]) == ("drawn-vit/mlp/1/8", truth["label"], truth["verdict"])
    assert row["label_auroc"] == pytest.approx(truth["label_auroc"], rel=1e-4)
    manifest = re.search(r'id="manifest">(.*?)</script>', (built / "index.html").read_text(), re.S)
    assert manifest
    bibtex = next(block for block in blocks if block.startswith("@misc{drawn-vit-mlp-1-8,"))
    assert f"revision {json.loads(manifest[1])['revision']}" in bibtex
    assert bibtex.count("{") == bibtex.count("}")
