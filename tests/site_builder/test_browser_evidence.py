"""The evidence of neurons in headless Chromium: overlays, search by label, filters, counterparts, clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, Seen, hosting, missing, painted
from drawn_atlas import EVIDENT
from drawn_evidence import disc_of, has_label, label_of
from selenium.webdriver.common.keys import Keys

from atlas_schema.read import Atlas
from atlas_schema.searching import words_of
from site_builder.layers import beats_all

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def seen(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with hosting(tmp_path_factory.mktemp("host"), small=evident_atlas) as seen:
        yield seen


def rows(atlas: Path, slug: str, layer: int, unit: int, kind: str = "top") -> list[dict[str, Any]]:
    table = Atlas(str(atlas)).examples(slug, layer)
    assert table is not None
    return [row for row in table.to_pylist() if (row["unit"], row["kind"]) == (unit, kind)]


def images_open(seen: Seen, where: str) -> Page:
    """A neuron's page with its exciting images loaded."""
    page = seen.open(where, ".examples .example")
    page.run("document.querySelector('.examples').scrollIntoView({ block: 'center' })")
    page.wait(lambda: len(page.all(".example img")) == len(page.all(".example")))
    page.settle()
    return page


def tile(page: Page, at: int) -> np.ndarray:
    """float (height, width, 3): what is seen of an exciting image, its frame taken away."""
    page.run("document.querySelectorAll('.patch').forEach((patch) => patch.style.visibility = 'hidden')")
    return page.pixels(".example .shot", at).astype(float)


def test_exciting_images_are_the_datasets_strongest_first(seen: Seen, evident_atlas: Path) -> None:
    page = images_open(seen, "#/n/drawn-vit/1/8")
    truth = rows(evident_atlas, "drawn-vit", 1, 8)
    assert [figure.text.split()[0] for figure in page.all(".example figcaption")] == [
        f"{row['activation']:.3g}".rstrip("0").rstrip(".") for row in truth
    ]
    assert [figure.text.splitlines()[-1] for figure in page.all(".example figcaption")] == [
        row["image"].split("/")[0] for row in truth
    ]
    assert all(painted(page.pixels(".example .shot", at)) for at in range(9))
    assert page.run(
        "return [...document.querySelectorAll('.example img')].every((image) => image.naturalWidth === 112)"
    )


@pytest.mark.parametrize("where", ["drawn-vit/1/8", "drawn-swin/0/24", "drawn-swin/2/3"])
def test_heat_lies_where_the_image_fires(where: str, seen: Seen, evident_atlas: Path) -> None:
    """The drawn maps rise at the images' discs: heat must change the picture there, and little elsewhere."""
    slug, layer, unit = where.split("/")
    page = images_open(seen, f"#/n/{where}")
    page.key("h")  # spotlight, heat, crop, off
    page.wait(lambda: "true" in str(page.all(".images [aria-label=Overlay] button")[1].get_attribute("aria-pressed")))
    heat = [tile(page, at) for at in range(3)]
    page.key("h"), page.key("h")
    page.wait(lambda: "true" in str(page.all(".images [aria-label=Overlay] button")[3].get_attribute("aria-pressed")))
    for at, row in enumerate(rows(evident_atlas, slug, int(layer), int(unit))[:3]):
        change = np.abs(heat[at] - tile(page, at)).sum(-1)
        side = change.shape[0]
        y, x = np.mgrid[0:side, 0:side] / side
        top, left = disc_of(row["image_index"])
        distance = np.hypot(y - top, x - left)
        assert change[distance < 0.08].mean() > 4 * change[distance > 0.35].mean() + 5
        weight = np.where(change > change.max() / 2, change, 0)
        found = (weight * y).sum() / weight.sum(), (weight * x).sum() / weight.sum()
        assert np.hypot(found[0] - top, found[1] - left) < 0.5 / row["map_height"] + 0.05


def test_pictures_in_other_ways_stand_beside_the_main_one(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/14", ".other img")
    page.wait(lambda: len(page.all(".other img")) == 4)
    names = [one.text.splitlines()[0] for one in page.all(".other figcaption")]
    assert names == ["drawn, above", "accentuated 1", "accentuated 2", "peak"]
    pictures = [one.get_attribute("src") for one in page.all(".other img")]
    assert len(set(pictures)) == 4
    seen.open("#/n/drawn-vit/1/13", ".other img")  # a neuron without a photograph says so
    page.wait(lambda: [one.text for one in page.all(".other .note")] == ["no probe image"] * 2)
    seen.open("#/n/drawn-probed/0/3", ".example")
    assert not page.all(".other"), "nothing is shown, and no script read, where there are none"


def test_h_goes_through_the_overlays_and_the_choice_stays(seen: Seen) -> None:
    page = images_open(seen, "#/n/drawn-vit/1/8")
    pressed = "return document.querySelector('[aria-label=Overlay] [aria-pressed=true]').textContent"
    shown = {}
    for overlay in ("spotlight", "heat", "crop", "off"):
        page.wait(lambda overlay=overlay: page.run(pressed) == overlay, what=f"for {overlay}")
        shown[overlay] = tile(page, 0)
        page.key("h")
    page.wait(lambda: page.run(pressed) == "spotlight")
    assert shown["spotlight"].mean() < 0.6 * shown["off"].mean()
    for one, other in (("heat", "off"), ("crop", "off"), ("crop", "heat"), ("spotlight", "heat")):
        assert np.abs(shown[one] - shown[other]).mean() > 2, (one, other)
    page.key("h")
    images_open(seen, "#/n/drawn-vit/1/9")
    assert page.run(pressed) == "heat"


def test_a_crop_is_the_window_that_labels_look_at(seen: Seen, evident_atlas: Path) -> None:
    page = images_open(seen, "#/n/drawn-vit/1/8")
    page.key("h"), page.key("h")
    page.wait(lambda: page.run("return document.querySelector('.stack').style.transform") != "")
    row = rows(evident_atlas, "drawn-vit", 1, 8)[0]
    bands = [
        sum(4 * (2 * place + 1) > bound * 8 for bound in (3, 5)) + (4 * (2 * place + 1) == 24)
        for place in (row["column"], row["row"])
    ]
    left, top, scale = page.run("""
      const box = (selector) => document.querySelector(selector).getBoundingClientRect();
      const [whole, part] = [box(".stack"), box(".shot")];
      const share = whole.width / part.width;
      return [(part.left - whole.left) / whole.width, (part.top - whole.top) / whole.height, share]""")
    assert (left, top, scale) == pytest.approx((bands[0] / 4, bands[1] / 4, 2), abs=0.01)


def test_images_near_lower_quantiles_are_a_tab_away(seen: Seen) -> None:
    page = images_open(seen, "#/n/drawn-vit/1/8")
    page.all("[aria-label=Images] button")[1].click()
    page.wait(lambda: len(page.all(".example")) == 5)
    assert "above 99 %" in page.text(".example figcaption")
    page.settle()
    assert all(painted(page.pixels(".example .shot", at)) for at in range(5))


def test_without_thumbnails_a_tile_has_the_name_and_the_map(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/n/drawn-probed/0/7", ".example .none")
    page.wait(lambda: "jpg" in page.text(".example .none"))
    assert page.text(".example .none") == rows(evident_atlas, "drawn-probed", 0, 7)[0]["image"]
    assert not page.all(".example img")
    page.run("document.querySelector('.examples').scrollIntoView({ block: 'center' })")
    assert painted(page.pixels(".example .shot canvas", 0))
    assert "not part of this atlas" in page.text(".images > .note")


def test_the_label_stands_under_the_name_with_its_certainty(seen: Seen, evident_atlas: Path) -> None:
    row = Atlas(str(evident_atlas)).neuron("drawn-vit/mlp/1/8")
    page = seen.open("#/n/drawn-vit/1/8", ".label-line")
    assert label_of(8) == "crosswalk <b>stripes</b>"
    assert page.text("h1 .label") == f"{label_of(8)}"
    page.wait(lambda: page.driver.title.startswith(f"{label_of(8)} · drawn-vit/mlp/1/8 · "))
    said = page.text(".label-line .certainty")
    assert ("certain" if row["label_auroc"] >= 0.9 else "likely" if row["label_auroc"] >= 0.75 else "weak") in said
    assert f"z {row['label_z']:.3g}" in said.replace("\n", " ")
    page.all(".label-line .why")[2].click()
    assert "not used to choose it" in page.text(".label-line .means")
    seen.open("#/n/drawn-vit/1/9", ".label-line")
    assert "unlabelled" in page.text(".label-line")
    assert "best try is “fence”" in page.text(".label-line")


def test_real_images_are_beside_the_picture(seen: Seen, evident_atlas: Path) -> None:
    row = Atlas(str(evident_atlas)).neuron("drawn-vit/mlp/1/8")
    page = seen.open("#/n/drawn-vit/1/8", ".fires-on")
    text = page.text(".trust")
    assert f"{row['ratio_to_best']:.3g} times the best" in text
    assert "best real image" in text
    assert f"Fires on {round(100 * row['fires_on'])} % of images" in text
    bars = page.all(".histogram rect")
    assert len(bars) == sum(count > 0 for count in row["histogram"]["counts"])
    assert page.all(".histogram line.mark")


NUMBERS = "[aria-labelledby=numbers] .figures"


def test_missing_stages_are_named_with_the_command_that_adds_them(seen: Seen) -> None:
    page = seen.open("#/n/drawn-bare/0/3", ".lacking")
    assert [line.text.split(" stage")[0].split()[-1] for line in page.all(".lacking dt")] == [
        "verdict",
        "probe",
        "label",
        "effect",
        "match",
        "decompose",
    ]
    assert "neuron-atlas run --model zoo/drawn-bare --stages probe --probe" in page.text(".lacking")
    assert not page.all(".images, .label-line, #matches, #classes")
    seen.open("#/n/drawn-unseen/0/3", ".example img")
    assert page.text(".trust").startswith("This neuron has no picture yet.")
    assert not page.all(".large")
    page.unfold()
    assert "Rescue" not in page.text(NUMBERS)
    assert "Kurtosis" in page.text(NUMBERS)
    assert "no visualize stage" in page.text(".lacking")
    seen.open("#/n/drawn-vit/1/8", ".fold")
    assert not page.all(".lacking")


def test_counterparts_lead_to_the_same_neuron_elsewhere(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/8", "#matches")
    page.wait(lambda: len(page.all(".counterparts .neuron-tile")) == 3)
    tiles = [" ".join(found.text.split()) for found in page.all(".counterparts .neuron-tile")]
    assert tiles[0].startswith("drawn-pit layer 1, unit 8")
    assert "0.852 chance 0.35" in tiles[0]
    assert ["mutual best" in text for text in tiles] == [True, True, False]
    assert tiles[2].startswith("drawn-vit layer 1, unit 15")  # a near-duplicate in the model itself
    page.through()
    page.wait(lambda: len(page.all(".counterparts img")) == 3)
    page.all(".counterparts a")[0].click()
    page.wait(lambda: page.driver.current_url.endswith("#/n/drawn-pit/1/8"))
    page.wait(lambda: any("drawn-vit" in found.text for found in page.all(".counterparts .neuron-tile")))


def test_a_cluster_shows_its_members_and_their_images(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/8", ".cluster-line a")
    page.all(".cluster-line a")[0].click()
    page.wait(lambda: len(page.all(".members > li")) == 3)
    assert "“crosswalk <b>stripes</b>”" in page.text("h1")
    page.through()
    page.wait(lambda: len(page.all(".members .example img")) == 15)
    assert all(painted(page.pixels(".members .shot", at)) for at in range(0, 18, 5))
    assert page.text(".matrix tbody td:nth-child(3)") == "0.852"
    page.key("u")
    page.wait(lambda: len(page.all(".clusters > li")) == 10)
    page.through()
    assert len(page.all(".clusters img")) == 30


@pytest.mark.parametrize(
    ("asked", "label"), [("polka dots", "polka dots"), ("POLK", "polka dots"), ("eclair", "éclair")]
)
def test_search_by_label_finds_its_neurons_in_all_models(asked: str, label: str, seen: Seen) -> None:
    page = seen.open("#/", "#jump")
    page.all("#jump")[0].send_keys(asked, Keys.ENTER)
    page.wait(lambda: page.all(".found-label .neuron-tile"))
    assert page.text(".found-label h2").startswith(label)
    labelled = sum(
        has_label(unit) and label_of(unit) == label
        for model in EVIDENT
        if "label" in model.stages
        for width in model.widths
        for unit in range(width)
    )
    assert f"{labelled} neurons of 3 models" in page.text(".found-label h2")
    page.through()
    assert len(page.all(".found-label img")) == 8
    page.choose("#of-model", "drawn-pit")
    page.wait(lambda: page.driver.current_url.endswith("&m=drawn-pit"))
    page.wait(lambda: "of 1 model" in page.text(".found-label h2"))
    page.all(".found-label a")[0].click()
    page.wait(lambda: page.all("h1 .label"))
    assert page.text("h1 .label") == label


def test_the_browser_parts_texts_into_the_words_of_the_index(seen: Seen) -> None:
    texts = [
        "Éclair à-la_carte",
        "ẞtraße İzmir",
        "x² ½ Ⅳ",
        "日本 の犬",
        "हिन्दी",
        "don't  stop!",
        "<b>dog</b>",
        "",
        "🐕 dog",
    ]
    page = seen.open("#/help")
    found = page.driver.execute_async_script(
        """
      const [texts, done] = arguments;
      import("/modules/labels.js").then(({ wordsOf }) => done(texts.map(wordsOf)))""",
        texts,
    )
    assert found == [words_of(text) for text in texts]


def test_a_word_that_is_a_model_and_a_label_shows_both_and_an_address_still_jumps(seen: Seen) -> None:
    page = seen.open("#/s?q=stripes", ".found-label")
    assert len(page.all(".found-label")) == 2
    assert not page.all(".found-label h2 b")  # the label's own markup is text
    for text, where in (("drawn-vit/1/8", "#/n/drawn-vit/1/8"), ("bare", "#/m/drawn-bare")):
        field = page.all("#jump")[0]
        page.run("arguments[0].select()", field)
        field.send_keys(text, Keys.ENTER)
        page.wait(lambda where=where: page.driver.current_url.endswith(where), what=f"for {where}")
    seen.open("#/s?q=nothing+of+the+kind")
    page.wait(lambda: "none of its" in page.text("main"))


def units_shown(page: Page) -> list[int]:
    return [int(tile.get_attribute("href").rpartition("/")[2]) for tile in page.all(".wall .tile")]


def above(row: dict[str, Any]) -> str | None:
    """By which measures a page may say that the picture is above every real image; None: it may not compare."""
    if row["percentile"] is None or row["verdict"] in ("does not", "inactive") or row["status"] == "inactive":
        return None
    mean = row["percentile"] >= 100 if row["ratio_to_best"] is None else row["ratio_to_best"] > 1
    peak = mean if row["peak_ratio"] is None else row["peak_ratio"] > 1
    return {(True, True): "both", (True, False): "mean", (False, True): "peak"}.get((mean, peak), "neither")


SAYS = """
  const done = arguments[arguments.length - 1];
  import("/modules/trust.js").then(({ against, sentence }) =>
    done(arguments[0].map((row) => [sentence(row), against(row)])), (error) => done(String(error)));
"""


def test_no_neuron_page_contradicts_itself(seen: Seen, evident_atlas: Path) -> None:
    """A page leads with the verdict; it compares with real images by one measure on both sides, and never where the
    picture does not hold."""
    page = seen.open("#/m/drawn-vit/1", ".wall .tile")
    columns = ["unit", "status", "verdict", "percentile", "ratio_to_best", "peak_ratio"]
    atlas = Atlas(str(evident_atlas))
    found = set()
    for layer in atlas.layers("drawn-vit"):
        table = atlas.neurons("drawn-vit", layer, columns)
        assert table is not None
        rows = table.to_pylist()
        said = page.driver.execute_async_script(SAYS, rows)
        assert [against for _, against in said] == [above(row) for row in rows]
        assert all(sentence for sentence, _ in said)
        columns_of = {name: [row[name] for row in rows] for name in columns}
        assert [beats_all(columns_of, at) for at in range(len(rows))] == [above(row) == "both" for row in rows]
        found |= {(row["verdict"], above(row)) for row in rows}
    assert {verdict for verdict, _ in found} == {"holds", "partly", "does not", "inactive"}
    assert {against for _, against in found} == {"both", "neither", None}
    apart = [{"percentile": 99, "ratio_to_best": a, "peak_ratio": 2 - a, "verdict": "holds"} for a in (1.4, 0.6)]
    silent = {
        "percentile": [100],
        "ratio_to_best": [None],
        "peak_ratio": [None],
        "verdict": [None],
        "status": ["inactive"],
    }
    assert not beats_all(silent, 0), "no image fires it, and neither does the picture"
    assert page.driver.execute_async_script(SAYS, apart) == [["The picture holds.", one] for one in ("mean", "peak")]
    units = {row["verdict"]: row["unit"] for row in rows}
    for verdict, sentence in {"holds": "holds.", "partly": "holds in part.", "does not": "does not hold."}.items():
        seen.open(f"#/n/drawn-vit/{layer}/{units[verdict]}", ".trust .verdict")
        lines = [line.text for line in page.all(".trust .verdict")]
        assert lines[0].startswith(f"The picture {sentence} ")
        assert any("real images" in line for line in lines) == (verdict != "does not")


def test_a_layer_is_sorted_and_filtered_by_evidence_and_the_address_says_how(seen: Seen, evident_atlas: Path) -> None:
    table = Atlas(str(evident_atlas)).neurons("drawn-vit", 1)
    assert table is not None
    neurons = table.to_pylist()
    page = seen.open("#/m/drawn-vit/1", ".wall .tile")
    named = page.run("""return [...document.querySelectorAll(".sortbar select, .sortbar input")]
      .map((one) => one.labels[0]?.textContent)""")
    assert named == ["Order by", "Show", "Label", "Fires on", "Verdict", "Picture", "Label text"]
    page.choose("#by-sort", "certainty")
    page.choose("#by-label", "labelled")
    page.wait(lambda: page.driver.current_url.endswith("?sort=certainty&label=labelled"))
    wanted = sorted((row for row in neurons if row["label"]), key=lambda row: -row["label_z"])
    assert units_shown(page) == [row["unit"] for row in wanted]
    page.all("#by-text")[0].send_keys("dis")
    page.wait(lambda: "text=dis" in page.driver.current_url)
    page.wait(lambda: len(page.all(".wall .tile")) < 20)
    assert units_shown(page) == [row["unit"] for row in wanted if row["label"] == "red disc"]
    seen.open("#/m/drawn-vit/1?sort=sparsity&fires=0.05&show=active", ".wall .tile")
    rare = [
        row for row in neurons if row["fires_on"] is not None and row["fires_on"] <= 0.05 and row["status"] == "active"
    ]
    assert units_shown(page) == [row["unit"] for row in sorted(rare, key=lambda row: (row["fires_on"], row["unit"]))]
    assert page.text(".counted") == f"{len(rare)} of 96 neurons"
    seen.open("#/m/drawn-vit/1?picture=below", ".wall .tile, main > .note")
    assert set(units_shown(page)) == {row["unit"] for row in neurons if above(row) != "both"}
    seen.open("#/m/drawn-vit/1?verdict=does+not", ".wall .tile")
    assert set(units_shown(page)) == {row["unit"] for row in neurons if row["verdict"] == "does not"}
    seen.open("#/m/drawn-vit/1", ".wall .tile")
    order = {"holds": 0, "partly": 1, "does not": 2, "inactive": 3}
    shown = {row["unit"]: order[row["verdict"]] for row in neurons}
    first = [shown[unit] for unit in units_shown(page)]
    assert first == sorted(first), "what holds comes first"


def test_the_label_shows_under_the_focused_neuron(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit/1?sort=unit", ".wall .tile")
    page.key(Keys.ARROW_RIGHT)
    page.wait(lambda: page.all(".under-tile"))
    assert page.text(".under-tile") == label_of(0)
    bottom, top = page.run("""
      const label = document.querySelector(".under-tile");
      return [document.activeElement.getBoundingClientRect().bottom, label.getBoundingClientRect().top]""")
    assert abs(bottom - top) < 3
    page.key(Keys.ARROW_RIGHT)  # unit 1 has no label
    page.wait(lambda: not page.all(".under-tile"))


def test_a_layer_without_evidence_offers_none(seen: Seen) -> None:
    page = seen.open("#/m/drawn-bare/0", ".wall .tile")
    assert [found.get_attribute("id") for found in page.all(".sortbar select")] == ["by-sort", "by-show"]
    assert [option.get_attribute("value") for option in page.all("#by-sort option")] == ["robust", "activation", "unit"]


def test_a_model_and_the_home_page_say_what_there_is(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit", ".layers .sum")
    assert "45 labelled · 45 unlabelled · 6 inactive" in page.text(".layers .sum")
    assert "% of pictures beat every real image" in page.text(".layers .sum")
    seen.open("#/", ".models")
    text = page.text(".models").replace("\n", " ")
    assert "has pictures; no verdicts, statistics on real images" in text
    assert "10 Rosetta clusters" in page.text(".intro")
    assert "a label" in page.text(".intro")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "light"),
        pytest.param(1280, "dark", marks=pytest.mark.slow),
        pytest.param(390, "dark", marks=pytest.mark.slow),
        pytest.param(1280, "light", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_nothing_sticks_out_and_every_image_is_painted(seen: Seen, width: int, scheme: str) -> None:
    seen.page.size(width, 844, phone=width < 600)
    seen.page.scheme(scheme)
    for where in (
        "#/",
        "#/m/drawn-swin",
        "#/m/drawn-vit/1?sort=certainty",
        "#/n/drawn-vit/1/8",
        "#/n/drawn-probed/0/7",
        "#/n/drawn-unseen/0/5",
        "#/s?q=stripes",
        "#/rosetta",
        "#/r/0",
    ):
        page = seen.open(where)
        page.through()
        assert page.run("return document.documentElement.scrollWidth") <= width, where
        broken = "return [...document.images].filter((image) => image.complete && image.naturalWidth === 0).length"
        assert page.run(broken) == 0, where
        assert not page.all(".failure"), where


def test_touch_targets_are_44_px_on_a_phone(seen: Seen) -> None:
    seen.page.size(390, 844, phone=True)
    for where in ("#/n/drawn-vit/1/8", "#/m/drawn-vit/1", "#/r/0", "#/s?q=stripes"):
        page = seen.open(where, ".example, .wall .tile, .found-label .neuron-tile")
        small = page.run("""
          return [...document.querySelectorAll("button:not(.why), .steps a, header a, summary, select, main input")]
            .map((element) => [element.textContent.trim(), element.getBoundingClientRect().height])
            .filter(([, height]) => height < 44)""")
        assert small == [], where


#: What a row says of the neuron, and the sentence that its page begins with.
TOLD: list[tuple[dict[str, Any], str]] = [
    (
        {"label_status": "labelled", "label": "red", "label_auroc": 0.95, "status": "active", "verdict": "holds"},
        "Fires on red; the picture holds.",
    ),
    (
        {"label_status": "labelled", "label": "red", "label_auroc": 0.8, "status": "active", "verdict": "does not"},
        "Probably fires on red; the picture does not hold.",
    ),
    (
        {"label_status": "labelled", "label": "red", "label_auroc": 0.6, "status": "active"},
        "Perhaps fires on red; nobody has judged its picture yet.",
    ),
    (
        {"label_status": "unlabelled", "probe_images": 9, "fires_on": 0.1, "status": "active", "verdict": "partly"},
        "Fires on something that no text of the list says; the picture holds in part.",
    ),
    (
        {"label_status": "unlabelled", "probe_images": 9, "fires_on": None, "status": "inactive", "verdict": "holds"},
        "No real image of the probe set fires it; no start made it fire.",
    ),
    (
        {"probe_images": 9, "fires_on": 0.031, "status": None},
        "Fires on 3 % of real images; nobody has looked for words yet; it has no picture yet.",
    ),
    ({"status": "failed"}, "Nobody has measured it on real images yet; its picture could not be made."),
]


def test_the_verdict_is_one_sentence_of_what_was_measured(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/8", ".tells")
    script = SAYS.replace("({ against, sentence })", "({ telling })").replace(
        "[sentence(row), against(row)]", "telling(row)"
    )
    assert page.driver.execute_async_script(script, [row for row, _ in TOLD]) == [said for _, said in TOLD]


@pytest.mark.parametrize(("width", "height", "images"), [(1280, 900, 9), (390, 844, 2)])
def test_verdict_picture_and_images_are_seen_without_scrolling(
    width: int, height: int, images: int, seen: Seen
) -> None:
    """The page begins with what was found; how it was found stands below."""
    seen.page.size(width, height, phone=width < 600)
    page = seen.open("#/n/drawn-vit/1/8", ".example img")
    page.settle()
    whole = """
      const boxes = (selector) => [...document.querySelectorAll(selector)].map((one) => one.getBoundingClientRect());
      const seen = (box) => box.top >= 0 && box.bottom <= innerHeight && box.width > 40;
      return Object.fromEntries(arguments[0].map((selector) => [selector, boxes(selector).filter(seen).length]));"""
    found = page.run(whole, ["h1 .label", ".tells", ".large img", ".example img", "details[open].fold"])
    assert found == {"h1 .label": 1, ".tells": 1, ".large img": 1, ".example img": images, "details[open].fold": 0}
    picture, image = (page.all(selector)[0].rect for selector in (".large img", ".example img"))
    assert image["x"] >= picture["x"] + picture["width"], "beside the picture"
    assert image["y"] < picture["y"] + picture["height"]


def test_sections_are_a_tap_away_on_a_phone_and_open_there(seen: Seen) -> None:
    seen.page.size(390, 844, phone=True)
    page = seen.open("#/n/drawn-vit/1/8", ".fold")
    page.settle()
    names = [button.text for button in page.all(".contents button")]
    assert names[0] == "Exciting images"
    assert {"How far to trust the picture", "Same in other models", "Numbers", "Use this"} <= set(names)
    page.run("arguments[0].click()", page.all(".contents button")[names.index("Numbers")])
    page.wait(lambda: page.all("#numbers")[0].is_displayed() and page.all("details[open] #numbers"))
    page.wait(lambda: abs(page.run("return document.activeElement.getBoundingClientRect().top")) < 40)
    assert page.run("return document.activeElement.textContent").startswith("Numbers")
    seen.page.size(1280)
    assert not page.all(".contents")[0].is_displayed()


def test_every_chart_has_words_beside_it(seen: Seen) -> None:
    bare = """
      const words = "figcaption, caption, .note, .shares p";
      const charts = ".dots, .histogram, .curve, table.bars, .shares, .scores, .bar-of";
      return [...document.querySelectorAll(charts)]
        .filter((one) => !one.closest("figure, section, .one-head > div, main").querySelector(words))
        .map((one) => one.outerHTML.slice(0, 120));"""
    for where in ("n/drawn-vit/1/8", "h/drawn-vit/1/2", "h/drawn-vit", "m/drawn-vit", "features", "f/colour", "r/0"):
        page = seen.open(f"#/{where}")
        page.settle()
        assert page.all("svg, canvas"), where
        assert page.run(bare) == [], where


def test_home_leads_to_one_neuron_of_each_kind_and_a_head(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/", ".starts li")
    assert [entry.text for entry in page.all(".starts b")] == [
        "A clear neuron",
        "A neuron of several things",
        "A picture that does not hold",
        "An attention head",
    ]
    assert "nothing holds them to how real scenes look" in page.text(".wall-of-models")
    hrefs = [entry.get_attribute("href").partition("#/n/")[2] for entry in page.all(".starts a")][:3]
    atlas = Atlas(str(evident_atlas))
    clear, several, fails = (atlas.neuron(href.replace("/", "/mlp/", 1)) for href in hrefs)
    assert (clear["verdict"], clear["label_status"]) == ("holds", "labelled")
    assert clear["label_auroc"] >= 0.9
    assert several["polysemanticity_p"] <= 0.05
    assert fails["verdict"] == "does not"
    page.settle()
    assert all(painted(page.pixels(".starts .tile", at)) for at in range(3))
