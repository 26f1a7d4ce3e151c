"""Search while typing: suggestions with pictures, words that somebody mistyped, filters that live in the address."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, Seen, hosting, missing, painted
from drawn_evidence import label_of
from PIL import Image
from selenium.webdriver.common.keys import Keys

from atlas_schema.read import Atlas
from atlas_schema.searching import ranked
from site_builder.build import build_site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def site(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("host")
    build_site(evident_atlas, root / "some" / "where" / "small")
    return root


@pytest.fixture(scope="module")
def seen(site: Path) -> Iterator[Seen]:
    with hosting(site) as seen:
        yield seen


def offered(page: Page) -> list[str]:
    return [" ".join(option.text.split()) for option in page.all("#suggestions li")]


def test_suggestions_come_from_the_first_letter_with_pictures_and_are_chosen_by_keys(seen: Seen) -> None:
    page = seen.open("#/", "#jump")
    page.requests()
    field = page.all("#jump")[0]
    assert not page.all("#suggestions")[0].is_displayed()
    field.send_keys("s")
    page.wait(lambda: len(offered(page)) >= 3)
    shown = offered(page)
    assert any(text.startswith("vertical stripes ") and text.endswith(" neurons") for text in shown)
    assert any(text.endswith(" heads") for text in shown), "what heads say, too"
    page.settle()
    assert painted(page.pixels("#suggestions .tile"))
    asked = [url for url in page.requests() if url.endswith(".pictures")]
    assert asked == [], "small pictures are no large ones"
    assert field.get_attribute("aria-expanded") == "true"
    field.send_keys("hape")
    page.wait(lambda: any(text.startswith("feature shape") for text in offered(page)))
    field.send_keys(Keys.ARROW_UP)  # from the box to the last
    last = page.all("#suggestions li")[-1]
    assert last.get_attribute("aria-selected") == "true"
    assert field.get_attribute("aria-activedescendant") == last.get_attribute("id")
    field.send_keys(Keys.ESCAPE)
    page.wait(lambda: not page.all("#suggestions")[0].is_displayed())
    page.run("arguments[0].select()", field)
    field.send_keys("polk")
    page.wait(lambda: [text for text in offered(page) if text.startswith("polka dots")])
    field.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    page.wait(lambda: page.driver.current_url.endswith("#/s?q=polka%20dots"))
    page.wait(lambda: not page.all("#suggestions")[0].is_displayed())


def test_a_suggestion_is_tapped_and_a_place_leads_there(seen: Seen) -> None:
    page = seen.open("#/", "#jump")
    page.all("#jump")[0].send_keys("drawn-pit/mlp/1/8")
    page.wait(lambda: offered(page) and offered(page)[0].startswith("drawn-pit, layer 1, unit 8"))
    page.all("#suggestions li")[0].click()
    page.wait(lambda: page.driver.current_url.endswith("#/n/drawn-pit/1/8"))


def test_the_picture_of_a_label_is_that_of_its_surest_neuron(
    site: Path, evident_atlas: Path, unpacked: Callable[[Path], Any]
) -> None:
    folder = site / "some/where/small"
    manifest = json.loads(re.search(r'id="manifest">(.*?)</script>', (folder / "index.html").read_text(), re.S)[1])
    about = manifest["search"]
    sheet = np.asarray(Image.open(folder / about["faces"] / "00000.webp").convert("RGB")).astype(float)
    packs = unpacked(folder / about["folder"] / "t/00000.json.gz")
    assert len(packs) == about["texts"] == len({label_of(unit) for unit in range(0, 40, 2)})
    for number, found in enumerate(packs):
        slug, (layer, unit, z) = manifest["models"][found[0][0]]["slug"], found[0][1:4]
        assert z == max(row[3] for row in found)
        truth = Image.open(io.BytesIO(Atlas(str(evident_atlas)).picture(f"{slug}/mlp/{layer}/{unit}"))).convert("RGB")
        small = np.asarray(truth.resize((48, 48), Image.Resampling.LANCZOS)).astype(float)
        top, left = number // 8 * 48, number % 8 * 48
        assert np.abs(sheet[top : top + 48, left : left + 48] - small).mean() < 14, found[0]


def test_mistyped_words_lead_to_the_nearest_that_there_are(seen: Seen) -> None:
    page = seen.open("#/", "#jump")
    field = page.all("#jump")[0]
    field.send_keys("stirpes")
    page.wait(lambda: offered(page) == ["stripes did you mean this?"])
    for typed, meant in (("verticl stripes", "vertical stripes"), ("crosswlak", "crosswalk"), ("ZEBRRA", "zebra")):
        seen.open(f"#/s?q={typed.replace(' ', '%20')}", ".meant a")
        assert meant in [link.text for link in page.all(".meant a")]
    page.all(".meant a")[0].click()
    page.wait(lambda: page.all(".found-label, .found-heads"))
    seen.open("#/s?q=qqqqqqqq")
    page.settle()
    assert not page.all(".meant"), "nothing is near"


def plain_distance(one: str, other: str) -> int:
    """Optimal string alignment, by recursion: a letter put in, left out, exchanged, or two neighbours swapped."""
    if not one or not other:
        return len(one) + len(other)
    steps = [
        plain_distance(one[:-1], other) + 1,
        plain_distance(one, other[:-1]) + 1,
        plain_distance(one[:-1], other[:-1]) + (one[-1] != other[-1]),
    ]
    if len(one) > 1 and len(other) > 1 and one[-1] == other[-2] and one[-2] == other[-1]:
        steps.append(plain_distance(one[:-2], other[:-2]) + 1)
    return min(steps)


def test_the_distance_of_words_is_that_of_the_definition(seen: Seen) -> None:
    words = ["", "a", "ab", "ba", "abc", "acb", "cab", "bcda", "abdc", "éb"]
    pairs = list(itertools.product(words, words))
    page = seen.open("#/help")
    found = page.driver.execute_async_script(
        """
      const [pairs, done] = arguments;
      import("/modules/labels.js").then(({ distance }) => done(pairs.map(([a, b]) => distance(a, b))))""",
        pairs,
    )
    assert found == [plain_distance(one, other) for one, other in pairs]


def test_found_neurons_are_filtered_by_layer_verdict_and_certainty_in_the_address(
    seen: Seen, evident_atlas: Path
) -> None:
    page = seen.open("#/s?q=polka%20dots", ".found-label .neuron-tile")
    page.choose("#of-verdict", "holds")
    page.wait(lambda: page.driver.current_url.endswith("#/s?q=polka%20dots&verdict=holds"))
    page.choose("#of-layer", "1")
    page.choose("#of-certainty", "likely")
    page.wait(lambda: page.driver.current_url.endswith("&layer=1&verdict=holds&certainty=likely"))
    page.wait(lambda: page.all(".found-label h2 .note")[0].text != "")
    atlas, wanted = Atlas(str(evident_atlas)), 0
    for slug in ("drawn-pit", "drawn-swin", "drawn-vit"):
        table = atlas.neurons(slug, 1, ["label", "verdict", "label_auroc"])
        assert table is not None
        wanted += sum(
            row["label"] == "polka dots" and row["verdict"] == "holds" and 0.75 <= round(row["label_auroc"], 3) < 0.9
            for row in table.to_pylist()
        )
    assert wanted > 0
    page.wait(lambda: page.text(".found-label h2 .note").startswith(f"{wanted} neuron"))
    page.choose("#of-layer", "0")
    page.choose("#of-certainty", "weak")
    page.choose("#of-verdict", "does not")
    page.wait(lambda: "verdict=does%20not" in page.driver.current_url)


RANK = """
  const [queries, texts, done] = arguments;
  import("/modules/labels.js").then(({ findAmong }) => {
    const list = texts.map(([text, neurons], number) => ({ text, neurons, number }));
    done(queries.map((query) => findAmong(query, list).map(({ text }) => text)));
  })"""


def test_browser_and_python_rank_texts_alike(seen: Seen) -> None:
    words = ["red", "redder", "disc", "discs", "blue", "éclair", "a"]
    pairs = [f"{a} {b}" for a, b in itertools.product(words, words)]
    texts = {text: 1 + len(text) * 7 % 5 for text in sorted({*words, *pairs, "a red disc", "Red-disc!"})}
    queries = ["red", "re", "disc red", "ECLAIR", "a", "r d", "discs", "zz", "", "red disc"]
    page = seen.open("#/help")
    found = page.driver.execute_async_script(RANK, queries, list(texts.items()))
    assert found == [ranked(query, texts) for query in queries]
    assert sum(map(len, found)) > 50


def test_labels_of_the_index_come_in_that_order(seen: Seen, evident_atlas: Path) -> None:
    """What the files of the site hold is ranked as the atlas's own search ranks it."""
    atlas = Atlas(str(evident_atlas))
    page = seen.open("#/s?q=st", ".found-label h2")
    page.wait(lambda: len(page.all(".found-label")) >= 2)
    shown = [heading.text.partition("\n")[0] for heading in page.all(".found-label h2")]
    labels = atlas.search("st")["label"].to_pylist()
    assert [text.split(" ", 1)[0] for text in shown] == [text.split(" ", 1)[0] for text in dict.fromkeys(labels)]


def test_clusters_are_found_by_what_their_members_are_called(seen: Seen, site: Path) -> None:
    page = seen.open("#/s?q=vertical%20stripes", ".found-clusters .clusters a")
    assert "Cluster " in page.text(".found-clusters .clusters a")
    number = int(re.search(r"/r/(\d+)$", page.all(".found-clusters .clusters a")[0].get_attribute("href"))[1])
    page.all(".found-clusters .clusters .name a")[0].click()
    page.wait(lambda: page.all(".members .label-small"))
    assert "vertical stripes" in [one.text.strip("“”") for one in page.all(".members .label-small")]
    field = page.all("#jump")[0]
    field.send_keys("vertical")
    page.wait(lambda: any(text.endswith("Rosetta clusters") for text in offered(page)))
    page.run("arguments[0].select()", field)
    field.send_keys(f"cluster {number}", Keys.ENTER)
    page.wait(lambda: page.driver.current_url.endswith(f"#/r/{number}"))
    seen.open("#/s?q=cluster%209999", ".found")
    assert "its clusters are 0 to" in page.text(".found")


def test_features_are_found_by_any_of_their_words(seen: Seen) -> None:
    page = seen.open("#/s?q=LIGHT", ".found a")
    assert "feature weather/light" in [link.text for link in page.all(".found a")]
    seen.open("#/s?q=ight")
    page.settle()
    assert not page.all(".found a[href^='#/f/']")
