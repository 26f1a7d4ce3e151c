"""Inversions of a model: the files of its section, and its pages in headless Chromium."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Seen, hosting, missing
from PIL import Image
from selenium.webdriver.common.keys import Keys

from atlas_schema.read import Atlas
from atlas_schema.tables import INVERSIONS
from site_builder.class_links import MOST_HEADS, MOST_WRITERS, class_links
from site_builder.sections.inversions import inversion_files

IN_BROWSER = pytest.mark.skipif(bool(missing()), reason=missing())
SLUG = "drawn-vit"


def test_files_hold_all_in_one_order(evident_atlas: Path, unpacked: Callable[[Path], Any], tmp_path: Path) -> None:
    rows = Atlas(str(evident_atlas)).inversions(SLUG, INVERSIONS.names)
    assert rows is not None
    by_address = {row["address"]: row for row in rows.to_pylist() if row["recipe"] == "fast"}
    assert list(by_address) != sorted(by_address, key=lambda one: int(one.rpartition("/")[2])), "10 comes before 2"
    files = dict(inversion_files(rows.to_pylist(), Atlas(str(evident_atlas)).inversion_readings(SLUG)))
    bundles, sheets = [f"{k:05d}.images" for k in range(10)], ["00000.webp", "00001.webp"]
    assert sorted(files) == sorted([*bundles, *sheets, "index.json.gz"])
    (tmp_path / "index").write_bytes(files["index.json.gz"])
    index = unpacked(tmp_path / "index")
    assert index["id"] == [f"class/{number}" for number in (*range(70), 69, 69, 69)]
    assert index["variant"][69:] == [0, 2, 1, 0], "of the variants the one that most others read, then by their scores"
    assert [pair[0] for pair in index["read"][69:]] == [1, 2, 1, 1]
    assert index["score"][5] is None
    assert index["read"][3:7] == [[1, 2], [0, 2], None, [1, 2]]
    assert Image.open(io.BytesIO(files["00001.webp"])).size == (8 * 64, 2 * 64), (
        "nine of the last sheet, in rows of eight"
    )
    head = struct.unpack("<I", files["00001.images"][:4])[0]
    assert files["00001.images"][4 + head :].startswith(by_address[f"{SLUG}/class/8"]["image"]["bytes"])


def test_a_class_leads_to_the_neurons_and_heads_of_their_tables(evident_atlas: Path) -> None:
    atlas = Atlas(str(evident_atlas))
    links = class_links(atlas, SLUG, (0, 1, 2), {"zebra", "gong", "class 3"})
    assert set(links) == {"zebra", "gong"}, "no table speaks of class 3"
    written = [
        (one["logit"], layer, row["unit"])
        for layer in (0, 1, 2)
        for row in (atlas.neurons(SLUG, layer, ["unit", "writes_to"]) or pytest.fail("no neurons")).to_pylist()
        for one in row["writes_to"] or ()
        if one["name"] == "zebra" and one["logit"] > 0
    ]
    best = sorted(written, reverse=True)[:MOST_WRITERS]
    assert [(layer, unit) for layer, unit, _ in links["zebra"]["neurons"]] == [place[1:] for place in best]
    assert [logit for *_, logit in links["zebra"]["neurons"]] == pytest.approx([one[0] for one in best], rel=1e-3)
    carried = [
        (row["layer"], row["head"], one["mean"])
        for row in atlas.heads(SLUG)
        for one in row["axis_classes"]
        if one["name"] == "zebra"
    ]
    assert len(links["zebra"]["heads"]) == MOST_HEADS < len(carried)
    assert {tuple(one) for one in links["zebra"]["heads"]} <= set(carried)
    lengths = [abs(one[2]) for one in links["zebra"]["heads"]]
    assert lengths == sorted((abs(one[2]) for one in carried), reverse=True)[:MOST_HEADS]
    assert min(one[2] for one in carried) < 0, "the low end counts as the high one does"
    assert class_links(atlas, "drawn-bare", (0,), {"zebra"}) == {}


@pytest.fixture(scope="module")
def seen(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with hosting(tmp_path_factory.mktemp("host"), small=evident_atlas) as seen:
        yield seen


@pytest.mark.browser
@IN_BROWSER
def test_a_model_leads_to_its_classes_and_a_class_to_its_picture(seen: Seen) -> None:
    with seen.quiet():
        page = seen.open(f"#/m/{SLUG}")
        assert "73 inversions" in page.text(".lede")
        page = seen.open(f"#/i/{SLUG}", "main a .tile")
        assert len(page.all("main a .tile")) == 70
        assert "Other models take 18 % of these pictures" in page.text(".lede ~ p")
        page.all("#of-target")[0].send_keys("CLASS 6")
        page.wait(lambda: len(page.all("main a .tile")) == 16)
        page = seen.open(f"#/i/{SLUG}/class/9", "main img")
        assert page.text("h1").startswith("class 9")
        assert "takes this picture for the class, and goes on doing so" in page.text(".lede")
        assert page.run("return document.querySelector('main img').naturalWidth") == 64
        page.wait(lambda: page.all("#read ~ ol li"))
        assert "1 of 2 models that did not make it take it for the class; a guess is right once in 70" in page.text(
            "#read ~ p"
        )
        page.all("body")[0].send_keys(Keys.ARROW_RIGHT)
        page.wait(lambda: page.text("h1").startswith("class 10"))
        assert "it comes 2nd of 70" in page.text(".lede")
        page = seen.open(f"#/i/{SLUG}/class/5", ".lede")
        page.wait(lambda: "There is no picture: the ascent left the finite numbers" in page.text(".lede"))


@pytest.mark.browser
@IN_BROWSER
def test_the_variants_of_a_class_stand_side_by_side_the_best_read_first(seen: Seen) -> None:
    with seen.quiet():
        page = seen.open(f"#/i/{SLUG}?by=varied", "main a .tile")
        assert len(page.all("main a .tile")) == 1
        assert "the best read of 3 each" in page.text(".sortbar [role=status]")
        assert "Other models take 67 % of these pictures" in page.text(".lede ~ p"), "of all, not of the best"
        page = seen.open(f"#/i/{SLUG}/class/69?by=varied", "#variants")
        assert "2 of 2 models that did not make it" in page.text("#read ~ p")
        assert [one.text for one in page.all("#variants ~ ul li > .note")] == [
            "variant 2, above",
            "variant 1",
            "variant 0",
        ]
        other = page.all("#variants ~ ul li > a")[1].get_attribute("href")
        assert other.endswith("by=varied&v=1")
        page = seen.open(other[other.index("#") :], "#variants")
        page.wait(lambda: "1 of 2 models" in page.text("#read ~ p"))
        assert [one.text for one in page.all("#recipes ~ ul li > .note")] == ["fast", "varied"]


@pytest.mark.browser
@IN_BROWSER
def test_a_class_leads_to_a_neuron_and_the_neuron_back(seen: Seen) -> None:
    with seen.quiet():
        page = seen.open(f"#/i/{SLUG}/class/25", "#writers")
        assert page.text("h1").startswith("zebra")
        page.wait(lambda: len(page.all("#writers ~ .counterparts img")) > 3)
        assert len(page.all("#carriers ~ ol a")) == MOST_HEADS
        neuron = page.all("#writers ~ .counterparts a")[0].get_attribute("href")
        page = seen.open(neuron[neuron.index("#") :], "#classes")
        page.wait(lambda: page.all("#classes ~ .columns-2 a[href$='/class/25']"))
        assert page.all("#classes ~ .columns-2 a[href$='/class/25']")[0].text == "zebra"
        page = seen.open(f"#/i/{SLUG}/class/3", "#made")
        assert not page.all("#writers, #carriers")


@pytest.mark.browser
@IN_BROWSER
def test_a_head_leads_to_what_it_looks_like_and_back(seen: Seen) -> None:
    with seen.quiet():
        page = seen.open("#/h/drawn-swin/1/2", "#pictures")
        assert [one.text for one in page.all("#pictures ~ .counterparts .where")] == [
            "axis 0 high",
            "axis 0 low",
            "text 0",
        ]
        said = [one.text for one in page.all("#pictures ~ .counterparts .note")]
        assert len(said) == 2, "what has no picture says so, and no figures"
        assert said[0].startswith("2.5 deviations; +2.5, the strongest real image +")
        page.all("#pictures ~ .counterparts a")[1].click()
        page.wait(lambda: page.text("h1").startswith("head 1.2, axis 0 low"))
        assert "adds 2.5 standard deviations more along the direction" in page.text(".lede")
        assert page.all(".lede a")[0].get_attribute("href").endswith("#/h/drawn-swin/1/2")
        assert "--head-pictures 1.2" in page.text("#made ~ *:has(pre), #made ~ div")
        assert not page.all("#read, #elsewhere")
        page = seen.open("#/i/drawn-swin", "main a .tile")
        assert [one.text for one in page.all("main h2")] == ["Head 1.2"]
        page = seen.open("#/h/drawn-swin/1/1", "#images")
        assert not page.all("#pictures")


@pytest.mark.browser
@IN_BROWSER
def test_the_same_words_lead_to_another_model_and_are_never_markup(seen: Seen) -> None:
    with seen.quiet():
        page = seen.open(f"#/i/{SLUG}/class/3", "#elsewhere")
        assert (
            page.all("#elsewhere ~ ul a")[0].get_attribute("href").endswith("#/i/drawn-swin/text/000000000000?by=fast")
        )
        page = seen.open("#/i/drawn-swin/text/000000000001", "h1")
        page.wait(lambda: "<b>bold</b> & so on" in page.text("h1"))
        assert not page.all("main b b")
        page = seen.open("#/s?q=bold", "#found-inversions")
        assert len(page.all("#found-inversions ~ ul a")) == 1
        page = seen.open("#/i/drawn-pit", ".failure")
        assert "no inversions of drawn-pit" in page.text(".failure")
        page = seen.open(f"#/i/{SLUG}/class/700", "main p a")
        assert "no inversion of class/700" in page.text("main p")


@pytest.mark.browser
@IN_BROWSER
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
@pytest.mark.slow
def test_nothing_sticks_out(seen: Seen, width: int, scheme: str) -> None:
    with seen.quiet():
        seen.page.size(width, 844, phone=width < 600)
        seen.page.scheme(scheme)
        head = "drawn-swin/head/1.2/axis-0-low"
        for where in (f"#/i/{SLUG}", f"#/i/{SLUG}/class/25", "#/i/drawn-swin/text/000000000001", f"#/i/{head}"):
            page = seen.open(where)
            page.through()
            assert page.run("return document.documentElement.scrollWidth") <= width, where
