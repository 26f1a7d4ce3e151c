"""Attention heads in headless Chromium: their pages, the map of a model, features, readers of a neuron, search."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, Seen, hosting, missing, painted
from drawn_evidence import disc_of
from drawn_heads import DIRECTIONS, score_of, texts_of
from selenium.webdriver.common.keys import Keys

from atlas_schema.head_tables import HEAD_EXAMPLES, HEAD_FEATURES, HEAD_READS, HEADS
from atlas_schema.read import Atlas

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def seen(evident_atlas: Path, alone_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with hosting(tmp_path_factory.mktemp("host"), small=evident_atlas, alone=alone_atlas) as seen:
        yield seen


def truth(atlas: Path, table: Any, slug: str, layer: int, head: int) -> list[dict[str, Any]]:
    rows = Atlas(str(atlas)).rows(table, slug).to_pylist()
    return [row for row in rows if (row["layer"], row["head"]) == (layer, head)]


def words(page: Page, selector: str) -> str:
    return " ".join(page.text(selector).split())


def numbers(page: Page) -> str:
    page.unfold()
    return words(page, "[aria-labelledby=numbers] .figures")


def test_a_heads_page_says_what_it_adds_in_the_datasets_order(seen: Seen) -> None:
    page = seen.open("#/h/drawn-vit/1/2", ".texts li")
    assert words(page, "h1") == f"{texts_of(1, 2)[0]} head 2, attention layer 1 of drawn-vit"
    assert words(page, ".tells").startswith(f"What it adds varies most with {texts_of(1, 2)[0]}; ")
    assert words(page, ".address").startswith("drawn-vit/head/1/2")
    assert "explains 36 % of its variance" in words(page, ".label-line .certainty")
    assert [line.text for line in page.all(".texts a")] == texts_of(1, 2)
    assert [line.text for line in page.all(".texts b")][:3] == ["36 %", "14 %", "8.5 %"]
    ends = page.run("""
      return [...document.querySelectorAll(".texts .part")].map((bar) => {
        const [own, whole] = [bar, bar.parentElement].map((one) => one.getBoundingClientRect());
        return [(own.left - whole.left) / whole.width, (own.right - whole.left) / whole.width];
      })""")
    assert [start for start, _ in ends[1:]] == pytest.approx([end for _, end in ends[:-1]], abs=0.01)
    assert ends[-1][1] == pytest.approx(0.71, abs=0.01)


def test_a_heads_images_come_with_one_request(seen: Seen) -> None:
    page = seen.page
    page.open("about:blank", "body")
    page.requests()
    seen.open("#/h/drawn-vit/1/2", ".direction .example")
    page.through()
    page.wait(lambda: len(page.all(".direction .example img")) == len(page.all(".direction .example")))
    asked = [url for url in page.requests() if url.startswith("http")]
    assert [url.partition("/images/")[2] for url in asked if ".images" in url] == ["00001-00002.images"]
    below = [url for url in asked if url.endswith(".pictures")]  # of the neurons that it reads, further down
    assert len(asked) - len(below) <= 14, asked


def test_the_level_is_said_in_plain_words(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/h/drawn-vit/1/2", ".level")
    assert "Direct effect." in page.text(".level")
    row = truth(evident_atlas, HEADS, "drawn-vit", 1, 2)[0]
    said = words(page, ".trust")
    assert f"{row['norm_share'] * 100:.0f} % as long as the final representation" in said
    assert "accuracy falls from 93 %" in said or "accuracy rises from 93 %" in said
    assert ("not told from 0" in said) == (abs(row["ablation_effect"]) < 2 * row["ablation_se"])
    seen.open("#/h/drawn-swin/0/1", ".level")
    assert "Through attention." in page.text(".level")
    assert "through later attention only" in words(page, ".head")
    said = words(page, ".trust")
    assert "of its variance over images" not in said
    assert "there is no answer to measure" in said
    assert "contributions do not add up" in numbers(page)


def test_a_head_is_placed_among_all_of_its_model(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/h/drawn-vit/1/2", ".strips .dot-row")
    rows = Atlas(str(evident_atlas)).rows(HEADS, "drawn-vit").to_pylist()
    own = next(row for row in rows if row["address"] == "drawn-vit/head/1/2")
    above = sum(row["norm_share"] > own["norm_share"] for row in rows)
    assert f"length {own['norm_share'] * 100:.0f} % #{above + 1}" in words(page, ".strips")
    ticks = page.run("return document.querySelectorAll('.strips .dot-row:first-child .tick').length")
    assert ticks == len(rows) == 18


@pytest.mark.parametrize(("where", "at"), [("drawn-vit/1/2", 0), ("drawn-swin/0/1", 1), ("drawn-swin/2/11", 3)])
def test_red_and_blue_lie_where_patches_lead_towards_and_away(
    where: str, at: int, seen: Seen, evident_atlas: Path
) -> None:
    """The drawn maps are positive at the image's disc, negative in its upper left corner."""
    slug, layer, head = where.split("/")
    page = seen.open(f"#/h/{where}", ".direction .example")
    page.run("document.querySelectorAll('.direction')[arguments[0]].scrollIntoView({ block: 'center' })", at)
    selector = f".direction:nth-child({at + 1}) .shot"
    page.wait(lambda: len(page.all(f"{selector} img")) == 6)
    page.settle()
    page.run("document.querySelectorAll('.shot img').forEach((image) => image.remove())")  # what is left is the map
    direction = DIRECTIONS[at]
    rows = [
        row for row in truth(evident_atlas, HEAD_EXAMPLES, slug, int(layer), int(head)) if row["direction"] == direction
    ]
    for place, row in enumerate(rows[:3]):
        pixels = page.pixels(selector, place).astype(float)
        redness = pixels[..., 0] - pixels[..., 2]
        side = redness.shape[0]
        y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
        top, left = disc_of(row["image_index"])
        disc, corner = np.hypot(y - top, x - left), np.hypot(y, x)
        assert redness[disc < 0.06].mean() > 60
        if np.hypot(top, left) > 0.5:
            assert redness[corner < 0.06].mean() < -20
        assert np.abs(redness[(disc > 0.4) & (corner > 0.35)]).mean() < 30


def test_h_takes_the_map_away_and_the_choice_stays(seen: Seen) -> None:
    page = seen.open("#/h/drawn-vit/1/2", ".direction .example")
    page.wait(lambda: len(page.all(".direction img")) >= 6)
    page.settle()
    with_map = page.pixels(".direction .shot", 0).astype(float)
    page.key("h")
    page.wait(lambda: not page.all(".shot.signed"))
    without = page.pixels(".direction .shot", 0).astype(float)
    assert np.abs(with_map - without).mean() > 5
    seen.open("#/h/drawn-vit/1/3", ".direction .example")
    assert page.run("return document.querySelector('[aria-label=Overlay] [aria-pressed=true]').textContent") == "off"
    page.wait(lambda: painted(page.pixels(".direction .shot", 0)), what="for the picture")


def test_directions_have_names_and_images_their_projection(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/h/drawn-vit/1/2", ".direction .example")
    titles = [" ".join(title.text.split()) for title in page.all(".direction h3")]
    share = truth(evident_atlas, HEADS, "drawn-vit", 1, 2)[0]["spectrum"][0]
    assert titles[0].startswith(f"Axis 0, high end {100 * share:.0f} % of its variance")
    classes = [" ".join(line.text.split()) for line in page.all(".direction > .note")]
    assert classes == [
        "classes ? : daisy +2.5, fire truck +1.5, gong +0.5",
        "classes ? : crosswalk +2.25, barn owl +1.25, zebra +0.25",
    ]
    assert titles[2:] == [f"Along “{text}”" for text in texts_of(1, 2)[:3]]
    assert [caption.text.split()[0] for caption in page.all(".direction:nth-child(2) figcaption")][:2] == [
        "+1.6",
        "+1.45",
    ]


def test_arrows_move_between_heads_and_layers_and_u_goes_up(seen: Seen) -> None:
    page = seen.open("#/h/drawn-swin/2/10", ".texts li")
    for key, where in (
        (Keys.ARROW_RIGHT, "#/h/drawn-swin/2/11"),
        (Keys.ARROW_RIGHT, "#/h/drawn-swin/2/11"),
        ("[", "#/h/drawn-swin/1/5"),  # that layer has six heads
        (Keys.ARROW_LEFT, "#/h/drawn-swin/1/4"),
        ("]", "#/h/drawn-swin/2/4"),
        ("u", "#/h/drawn-swin"),
    ):
        page.key(key)
        page.wait(lambda where=where: page.driver.current_url.endswith(where), what=f"for {where}")
    page.wait(lambda: len(page.all(".headmap .cells .cell")) == 21)


def test_the_label_is_the_text_that_explains_most_not_the_first(seen: Seen) -> None:
    page = seen.open("#/h/drawn-vit/2/1", ".texts li")
    first, second = texts_of(2, 1)[:2]
    assert [line.text for line in page.all(".texts a")][:2] == [first, second]
    assert page.text("h1 .label") == second
    assert "explains 36 % of its variance" in words(page, ".label-line .certainty")
    assert page.text(".label-line .next").startswith(f"next: {first}")


def test_without_texts_a_head_says_so_and_has_no_features(seen: Seen) -> None:
    page = seen.open("#/h/drawn-pit/0/3", ".level")
    assert "this atlas has no texts for this head" in page.text(".label-line")
    assert not page.all(".texts, .feature-rows")
    assert len(page.all(".direction")) == 2
    seen.open("#/h/drawn-vit/0/5", ".texts li")  # texts, but none that explains a tenth
    assert page.text(".label-line").startswith("unlabelled: ")
    assert words(page, "h1") == "Head 5 attention layer 0 of drawn-vit"
    assert f"the best, “{texts_of(0, 5)[0]}”, explains 9 %" in words(page, ".label-line")


def test_what_is_not_there_is_said_with_what_is(seen: Seen) -> None:
    for where, said in (
        ("#/h/drawn-vit/1/6", "has 6 heads, 0 to 5; there is no head 6"),
        ("#/h/drawn-vit/7/0", "has 3 attention layers, 0 to 2"),
        ("#/h/drawn-bare/0/0", "has not decomposed the heads of drawn-bare"),
        ("#/h/drawn-bare", "has not decomposed the heads of drawn-bare"),
        ("#/h/nobody/0/0", "no model “nobody”"),
        ("#/f/smell", "no feature “smell”"),
    ):
        page = seen.open(where, ".failure")
        assert said in page.text(".failure"), where


def test_texts_are_text_and_never_markup(seen: Seen) -> None:
    for where, ready in (
        ("#/h/drawn-vit/1/3", ".texts li"),
        ("#/h/drawn-vit", ".ranked li"),
        ("#/f/colour", ".carriers li"),
        ("#/n/drawn-vit/0/4", "#readers"),
        ("#/s?q=owl", ".found-heads li"),
    ):
        page = seen.open(where, ready)
        page.through()
        assert "<b>face</b>" in page.text("main"), where
        assert not page.run("return [...document.querySelectorAll('main b')].some((b) => b.textContent === 'face')")


def scripts(page: Page) -> set[str]:
    """Names of the scripts that the page has asked for; offline.js comes whenever two seconds have passed."""
    asked = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    return {name.rpartition("/")[2] for name in asked if name.endswith(".js")} - {"offline.js"}


def test_scripts_come_in_three_files_each_when_it_is_needed(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit/0", ".wall")
    page.settle()
    assert scripts(page) == {"main.js", "theme.js"}
    page.run("location.hash = '#/n/drawn-vit/0/8'")
    page.wait(lambda: page.all(".neuron .picture img"))
    page.settle()
    assert scripts(page) == {"main.js", "theme.js", "below.js"}
    page.run("location.hash = '#/h/drawn-vit/1/2'")
    page.wait(lambda: page.all(".texts li"))
    assert scripts(page) == {"main.js", "theme.js", "below.js", "late.js"}


def test_a_head_leads_to_its_neurons_and_a_neuron_to_its_heads(seen: Seen, evident_atlas: Path) -> None:
    rows = Atlas(str(evident_atlas)).rows(HEAD_READS, "drawn-vit").to_pylist()
    page = seen.open("#/h/drawn-vit/1/2", "#neurons")
    assert len(page.all("#neurons ~ .counterparts a")) == 12
    page.all("#neurons ~ .counterparts a")[0].click()
    page.wait(lambda: page.all("#readers ~ .ranked li"))
    unit = int(page.driver.current_url.rpartition("/")[2])
    own = [row for row in rows if (row["layer"], row["unit"]) == (0, unit)]
    said = [" ".join(line.text.split()) for line in page.all("#readers ~ .ranked li")]
    assert len(said) == len(own) == 3
    for line, row in zip(said, own, strict=True):
        assert line.startswith(f"layer {row['reader_layer']}, head {row['reader_head']}")
    page.all("#readers ~ .ranked a")[0].click()
    page.wait(lambda: page.driver.current_url.endswith(f"#/h/drawn-vit/1/{own[0]['reader_head']}"))
    seen.open("#/n/drawn-vit/2/4", "#readers")
    page.wait(lambda: "No later attention head reads this neuron" in page.text("main"))


def cells(page: Page) -> list[Any]:
    return page.wait(lambda: page.all(".headmap .cells .cell"))


def test_the_map_is_coloured_by_the_measure_that_the_address_asks_for(seen: Seen) -> None:
    page = seen.open("#/h/drawn-vit?by=feature:colour", ".headmap")
    scores = [score_of("drawn-vit", layer, head, "colour") for layer in range(3) for head in range(6)]
    found = cells(page)
    assert len(found) == len(scores)
    colours = [page.pixels(".headmap .cells .cell", at).reshape(-1, 3).mean(0) for at in range(len(scores))]
    redness = [float(colour[0] - colour[2]) for colour in colours]
    assert np.corrcoef(redness, scores)[0, 1] > 0.95
    listed = [float(value.text.replace("−", "-")) for value in page.all(".ranked .value")]
    assert listed == pytest.approx(sorted(scores, reverse=True), abs=0.0051)
    page.choose("#by-measure", "dimensions")
    page.wait(lambda: page.driver.current_url.endswith("?by=dimensions"))
    page.wait(lambda: "By dimensions" in page.text("#ranked"))


def test_colours_of_a_skewed_measure_follow_its_square_root(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/h/drawn-vit?by=norm_share", ".headmap .cell")
    rows = Atlas(str(evident_atlas)).rows(HEADS, "drawn-vit").to_pylist()
    most = max(row["norm_share"] for row in rows)
    shown = page.run("""
      const cells = [...document.querySelectorAll(".headmap .cells .cell")];
      return cells.map((cell) => cell.style.getPropertyValue("--share"))""")
    assert shown == [f"{100 * (row['norm_share'] / most) ** 0.5:.0f}%" for row in rows]
    assert "square root" in page.text(".headmap > .note")
    assert words(page, ".legend").startswith(f"0 {25 * most:.2g} % {100 * most:.2g} %")


def test_levels_are_told_apart_and_absent_figures_are_no_zeros(seen: Seen) -> None:
    page = seen.open("#/h/drawn-swin?by=variance_share", ".headmap .cell")
    kinds = page.run("""
      return [...document.querySelectorAll('.headmap .cells .cell')]
        .map((cell) => [cell.classList.contains('through'), cell.classList.contains('absent'),
          getComputedStyle(cell).borderRadius])""")
    assert [kind[:2] for kind in kinds] == [[True, True]] * 3 + [[False, False]] * 18
    assert {kind[2] for kind in kinds[:3]} != {kind[2] for kind in kinds[3:]}
    legend = words(page, ".legend")
    assert "direct" in legend
    assert "through attention" in legend
    assert "no figure" in legend
    assert len(page.all(".ranked li")) == 18
    assert "ablation_effect" not in [option.get_attribute("value") for option in page.all("#by-measure option")]


def test_the_map_keeps_its_colours_where_a_reader_forces_others(seen: Seen) -> None:
    """Colour is the figure there: the map was blank."""
    page = seen.open("#/h/drawn-swin?by=norm_share", ".headmap .cell")
    page.settle()
    colours = """return [...document.querySelectorAll('.headmap .cells .cell')]
      .map((cell) => getComputedStyle(cell).backgroundColor)"""
    plain = page.run(colours)
    assert len(set(plain)) > 5
    page.scheme("light", forced=True)
    assert page.run("return matchMedia('(forced-colors: active)').matches")
    assert page.run(colours) == plain


def test_the_map_is_read_and_opened_by_keyboard(seen: Seen) -> None:
    page = seen.open("#/h/drawn-swin?by=norm_share", ".headmap .cell")
    page.settle()  # what is drawn anew would lose the focus
    page.run("document.querySelector('.headmap .cell[tabindex=\"0\"]').focus()")
    page.wait(lambda: page.run("return document.activeElement.matches('.headmap .cell')"), what="for the focus")
    for key, address in (
        (Keys.ARROW_RIGHT, "drawn-swin/head/0/1"),
        (Keys.ARROW_DOWN, "drawn-swin/head/1/1"),
        (Keys.END, "drawn-swin/head/1/5"),
        (Keys.ARROW_DOWN, "drawn-swin/head/2/5"),
        (Keys.END, "drawn-swin/head/2/11"),
        (Keys.ARROW_UP, "drawn-swin/head/1/5"),
    ):
        page.key(key)
        page.wait(lambda address=address: page.text(".reading").startswith(address), what=f"for {address}")
    assert page.run("return document.querySelectorAll('.headmap .cells .cell[tabindex=\"0\"]').length") == 1
    assert "layer 1, head 5" in page.run("return document.activeElement.getAttribute('aria-label')")
    page.key(Keys.ENTER)
    page.wait(lambda: page.driver.current_url.endswith("#/h/drawn-swin/1/5"))


def test_a_finger_reads_a_head_first_and_opens_it_then(seen: Seen) -> None:
    seen.page.size(390, 844, phone=True)
    page = seen.open("#/h/drawn-vit", ".headmap .cell")

    def tap(at: int) -> None:
        x, y = page.run(
            """const box = document.querySelectorAll('.headmap .cells .cell')[arguments[0]].getBoundingClientRect();
               return [box.left + box.width / 2, box.top + box.height / 2]""",
            at,
        )
        touch = {"x": x, "y": y}
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [touch]})
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    page.run("document.querySelector('.headmap').scrollIntoView()")
    tap(7)
    page.wait(lambda: page.text(".reading").startswith("drawn-vit/head/1/1"))
    assert page.driver.current_url.endswith("#/h/drawn-vit")
    tap(7)
    page.wait(lambda: page.driver.current_url.endswith("#/h/drawn-vit/1/1"))


def test_a_models_page_has_the_map_or_says_how_to_get_it(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit?by=dimensions", ".headmap .cell")
    assert len(cells(page)) == 18
    assert page.run("return document.querySelector('#by-measure').value") == "dimensions"
    page.choose("#by-measure", "norm_share")
    page.wait(lambda: page.driver.current_url.endswith("#/m/drawn-vit?by=norm_share"))
    seen.open("#/m/drawn-bare", ".lacking")
    assert not page.all(".headmap")
    assert "heads" in page.text(".lacking")


def carriers(page: Page) -> list[str]:
    return [" ".join(line.text.split()) for line in page.all(".carriers .where")]


def test_a_feature_ranks_its_carriers_across_models(seen: Seen) -> None:
    page = seen.open("#/features", ".feature-list li")
    assert [name.text for name in page.all(".feature-list .name a")] == ["colour", "shape", "texture", "weather/light"]
    page.run("document.querySelectorAll('.feature-list .name a')[3].click()")
    page.wait(lambda: page.all(".carriers li"))
    assert page.driver.current_url.endswith("#/f/weather%2Flight")
    scores = {
        f"{slug} layer {layer}, head {head}": score_of(slug, layer, head, "weather/light")
        for slug, heads in (("drawn-swin", (3, 6, 12)), ("drawn-vit", (6, 6, 6)))
        for layer, count in enumerate(heads)
        for head in range(count)
    }
    page.choose("#by-kind", "head")
    page.wait(lambda: not any("FFN" in line for line in carriers(page)))
    assert [scores[line] for line in carriers(page)] == sorted(scores.values(), reverse=True)[:30]
    page.choose("#by-model", "drawn-vit")
    page.wait(lambda: len(carriers(page)) == 18)
    assert page.text(".counted") == "18 listed"
    assert page.driver.current_url.endswith("#/f/weather%2Flight?model=drawn-vit&kind=head")
    page.all(".carriers .where")[0].click()
    page.wait(lambda: page.all(".texts li"))


def test_features_are_sorted_by_ablation_where_it_was_measured(seen: Seen) -> None:
    page = seen.open("#/f/colour?sort=ablation_margin&kind=head", ".carriers li")
    values = [float(value.text.split()[0].replace("−", "-")) for value in page.all(".carriers .value")]
    assert values == sorted(values, reverse=True)
    assert all(line.startswith("drawn-vit") for line in carriers(page))  # of swin none is known
    assert "agrees with ablation: ρ" in words(page, ".of-models")
    assert "agrees with flips: ρ" in words(page, ".of-models")
    seen.open("#/f/weather%2Flight", ".carriers li")
    assert [option.get_attribute("value") for option in page.all("#by-sort option")] == [
        "score",
        "merit",
        "variance_share",
        "ablation_flips",
    ]


def test_carriers_of_this_feature_alone_come_first_by_score_times_selectivity(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/f/colour?sort=merit&kind=head&model=drawn-vit", ".carriers li")
    rows = Atlas(str(evident_atlas)).rows(HEAD_FEATURES, "drawn-vit").to_pylist()
    own = [row for row in rows if row["feature"] == "colour" and row["kind"] == "head"]
    own.sort(key=lambda row: -row["score"] * row["selectivity"])
    assert carriers(page) == [f"drawn-vit layer {row['layer']}, head {row['head']}" for row in own]
    assert f"score {own[0]['score']:.2f}" in words(page, ".carriers .note")


def test_a_heads_features_lead_to_their_pages(seen: Seen) -> None:
    page = seen.open("#/h/drawn-vit/1/2", ".feature-rows li")
    scores = {name: score_of("drawn-vit", 1, 2, name) for name in ("colour", "shape", "texture", "weather/light")}
    said = [link.text for link in page.all(".feature-rows a")]
    assert said == sorted(scores, key=lambda name: -scores[name])
    page.all(".feature-rows a")[0].click()
    page.wait(lambda: page.all(".carriers li"))
    assert said[0] in page.text("h1")


@pytest.mark.parametrize(
    ("here", "typed", "where"),
    [
        ("#/", "drawn-vit/head/1/3", "#/h/drawn-vit/1/3"),
        ("#/", "drawn_swin/head/2/11", "#/h/drawn-swin/2/11"),
        ("#/", "https://example.org/x/#/h/drawn-vit/0/2", "#/h/drawn-vit/0/2"),
        ("#/", "drawn-vit/head", "#/h/drawn-vit"),
        ("#/", "drawn-vit/mlp/1/3", "#/n/drawn-vit/1/3"),
        ("#/m/drawn-vit", "head/2/1", "#/h/drawn-vit/2/1"),
        ("#/m/drawn-vit", "2/1", "#/n/drawn-vit/2/1"),
        ("#/h/drawn-vit/1/2", "2/1", "#/h/drawn-vit/2/1"),
        ("#/h/drawn-vit/1/2", "4", "#/h/drawn-vit/1/4"),
        ("#/", "textu", "#/f/texture"),
        ("#/", "drawn-vit/head/1/9", "#/s?q=drawn-vit%2Fhead%2F1%2F9"),
    ],
)
def test_the_box_takes_addresses_of_heads(here: str, typed: str, where: str, seen: Seen) -> None:
    page = seen.open(here, "#jump")
    page.all("#jump")[0].send_keys(typed, Keys.ENTER)
    page.wait(lambda: page.driver.current_url.endswith(where), what=f"for {where}")
    if where.startswith("#/s"):
        page.wait(lambda: "attention layer 1 has heads 0 to 5" in page.text(".found"))


def test_search_finds_heads_by_what_they_say(seen: Seen) -> None:
    page = seen.open("#/", "#jump")
    page.all("#jump")[0].send_keys("zebra", Keys.ENTER)
    page.wait(lambda: page.all(".found-heads li"))
    assert "“two zebras”" in page.text(".found-text h3")
    assert page.all(".found-label")  # neurons with a label of the same word
    page.choose("#of-model", "drawn-vit")
    page.wait(lambda: all("drawn-vit" in line.text for line in page.all(".found-heads .where")))
    page.all(".found-heads .where")[0].click()
    page.wait(lambda: page.all(".texts li"))
    assert "two zebras" in [line.text for line in page.all(".texts a")]


def test_the_home_and_help_pages_know_heads(seen: Seen) -> None:
    page = seen.open("#/", ".intro")
    assert "45 attention heads of 3 models" in words(page, ".intro")
    assert "4 features" in words(page, ".intro")
    assert "18 heads" in words(page, ".models")
    seen.open("#/help", ".forms")
    text = page.text("main")
    for word in ("attention head", "contribution", "through attention", "TextSpan", "alignment", "ablation of a head"):
        assert word in text, word
    next(one for one in page.all("details summary") if one.text == "The table heads").click()
    assert "variance_share" in page.text("main")


def test_a_site_of_heads_alone_stands_and_shows_maps_without_pictures(seen: Seen, alone_atlas: Path) -> None:
    page = seen.open("#/", ".intro", site="alone")
    assert words(page, "h1") == "What each attention head of a vision transformer adds"
    seen.open("#/m/drawn-alone", ".headmap .cell", site="alone")
    assert len(cells(page)) == 3
    seen.open("#/h/drawn-alone/0/0", ".direction .example", site="alone")
    page.wait(lambda: "jpg" in page.text(".direction .none"))
    first = truth(alone_atlas, HEAD_EXAMPLES, "drawn-alone", 0, 0)[0]
    assert page.text(".direction .none") == first["image"]
    page.run("document.querySelector('.direction').scrollIntoView({ block: 'center' })")
    assert painted(page.pixels(".direction .shot canvas", 0))
    assert "not part of this atlas" in page.text(".images > .note")
    seen.open("#/h/drawn-alone/1/1", "#neurons", site="alone")
    assert not page.all("#neurons ~ .counterparts a")  # no neuron is described: nothing to lead to


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
        "#/h/drawn-vit/1/2",
        "#/h/drawn-swin/0/2",
        "#/h/drawn-pit/0/3",
        "#/h/drawn-swin?by=ablation_change",
        "#/m/drawn-vit",
        "#/features",
        "#/f/colour",
        "#/n/drawn-vit/0/8",
        "#/s?q=zebra",
    ):
        page = seen.open(where)
        page.through()
        assert page.run("return document.documentElement.scrollWidth") <= width, where
        broken = "return [...document.images].filter((image) => image.complete && image.naturalWidth === 0).length"
        assert page.run(broken) == 0, where
        assert not page.all(".failure"), where


def test_touch_targets_are_44_px_on_a_phone(seen: Seen) -> None:
    seen.page.size(390, 844, phone=True)
    for where in ("#/h/drawn-vit/1/2", "#/h/drawn-vit", "#/f/colour", "#/features"):
        page = seen.open(where, ".example, .headmap .cell, .carriers li, .feature-list li")
        small = page.run("""
          return [...document.querySelectorAll("button:not(.why), .steps a, header a, summary, select, main input")]
            .map((element) => [element.textContent.trim(), element.getBoundingClientRect().height])
            .filter(([, height]) => height < 44)""")
        assert small == [], where
