"""The built site in headless Chromium, from the standard library's file server, in a sub-folder."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, Seen, hosting, missing, painted, plain_server, running
from drawn_atlas import Drawn, draw_atlas
from PIL import Image
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.keys import Keys

from atlas_schema.read import Atlas
from site_builder.build import build_site
from site_builder.packs import dump
from site_builder.serve import make_server

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def seen(small_atlas: Path, wide_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    root = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:  # as if its pictures were of real size
        patch.setattr("site_builder.sections.neurons.bundle_size", lambda mean_bytes: 2)
        build_site(wide_atlas, root / "some" / "where" / "wide")
    with hosting(root, small=small_atlas) as seen:
        yield seen


def test_home_shows_the_wall_and_leads_to_a_neuron(seen: Seen) -> None:
    page = seen.open("")
    page.settle()
    assert "678 FFN neurons of 3 models" in page.text(".intro")
    tiles = page.all(".wall-of-models a.tile")
    assert len(tiles) == 15 * 6
    assert painted(page.pixels(".wall-of-models .grid"))
    assert len(page.all(".models > li")) == 3
    assert painted(page.pixels(".models .depth", 0))
    where = tiles[20].get_attribute("href")
    tiles[20].click()
    page.wait(lambda: page.all(".neuron .picture img"))
    assert page.driver.current_url == where


def test_links_lead_from_home_to_model_to_layer_to_neuron_and_back(seen: Seen) -> None:
    page = seen.open("#/")
    page.run("document.querySelector('.models a[href=\"#/m/drawn-vit\"]').click()")
    page.wait(lambda: len(page.all(".layers > li")) == 4)
    assert "90 active · 6 inactive" in page.text(".layers li .sum")
    page.settle()
    assert all(painted(page.pixels(".strip", at)) for at in range(4))
    page.all(".layers .open")[2].click()
    page.wait(lambda: page.all(".wall .tile"))
    page.all(".wall .tile")[3].click()
    page.wait(lambda: page.all(".neuron .picture img"))
    page.driver.back()
    page.wait(lambda: page.all(".wall .tile"))
    assert page.driver.current_url.endswith("#/m/drawn-vit/2")


def test_a_page_opened_as_a_file_says_what_to_do(seen: Seen, small_atlas: Path, tmp_path: Path) -> None:
    page = seen.open("#/", ".wall, .mosaic, main")
    assert not page.all(".unserved"), "gone where scripts run"
    build_site(small_atlas, tmp_path / "site")
    page.driver.get((tmp_path / "site" / "index.html").as_uri())
    page.wait(lambda: page.run("return getComputedStyle(document.querySelector('.unserved')).opacity") == "1")
    assert "neuron-atlas site serve" in page.text(".unserved")
    assert page.console(), "the browser refuses the scripts"


def test_the_large_picture_is_the_datasets(seen: Seen, small_atlas: Path) -> None:
    page = seen.open("#/n/drawn-vit/1/7", ".picture img")
    page.wait(lambda: page.run("return document.querySelector('.picture img').naturalWidth") == 64)
    box = page.run("const b = document.querySelector('.picture').getBoundingClientRect(); return [b.width, b.height]")
    assert box == [448, 448]
    page.run("document.querySelector('.large .choice button:last-child').click()")  # square pixels: exact colours
    page.wait(lambda: page.all("img.pixelated"))
    page.wait(lambda: page.run("return document.getAnimations().length") == 0)
    shown = page.pixels(".picture img")
    truth = np.asarray(Image.open(io.BytesIO(Atlas(str(small_atlas)).picture("drawn-vit/mlp/1/7"))).convert("RGB"))
    assert np.abs(shown[3::7, 3::7].astype(int) - truth.astype(int)).max() <= 2
    page.run("localStorage.clear()")


def test_numbers_are_the_datasets_and_explain_themselves(seen: Seen, small_atlas: Path) -> None:
    row = Atlas(str(small_atlas)).neuron("drawn-vit/mlp/1/7")
    page = seen.open("#/n/drawn-vit/1/7", ".figures")
    assert f"{row['activation']:.3g}" in page.text(".verdict")
    page.unfold()
    assert page.text(".figures .figure .value").startswith(f"{row['activation']:.3g}")
    button = page.all(".figures .why")[0]
    button.click()
    assert "mean over patch tokens" in page.text(".figures .means")
    assert button.get_attribute("aria-expanded") == "true"
    assert f'filters=[("unit", "==", {row["unit"]})]' in page.text(".snippet pre")


def test_an_inactive_neuron_says_so_before_its_picture(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/5", ".picture img")
    note, picture = page.all(".inactive-note")[0], page.all(".picture")[0]
    assert note.text.startswith("Inactive.")
    assert note.location["y"] < picture.location["y"]
    assert "did not fire" in page.text(".verdict")


def test_the_keyboard_moves_between_units_layers_and_up(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/7", ".picture img")
    for key, where, heading in (
        (Keys.ARROW_RIGHT, "#/n/drawn-vit/1/8", "Unit 8 layer 1"),
        (Keys.ARROW_LEFT, "#/n/drawn-vit/1/7", "Unit 7 layer 1"),
        ("]", "#/n/drawn-vit/2/7", "Unit 7 layer 2"),
        ("[", "#/n/drawn-vit/1/7", "Unit 7 layer 1"),
        ("u", "#/m/drawn-vit/1", "Layer 1"),
        ("u", "#/m/drawn-vit", "drawn-vit"),
        ("?", "#/help", ""),
    ):
        page.key(key)
        page.wait(lambda where=where: page.driver.current_url.endswith(where), what=f"for {where}")
        # The next key goes to the page that is shown: wait until it is the new one.
        page.wait(lambda heading=heading: headed(page, heading), what=f"for the heading {heading!r}")


def test_keys_of_one_sign_can_be_switched_off_and_arrows_scroll(seen: Seen) -> None:
    """WCAG 2.1.4; and ArrowDown is how a page is read."""
    page = seen.open("#/help", "h1")
    page.run("document.querySelector('[aria-label^=\"Keys of one\"] button:last-child').click()")
    seen.open("#/n/drawn-vit/1/7", ".picture img")
    page.key("]"), page.key("u"), page.key("?")
    page.run("document.body.focus()")
    page.key(Keys.ARROW_DOWN), page.key(Keys.ARROW_DOWN)
    page.wait(lambda: page.run("return scrollY") > 0)
    assert page.driver.current_url.endswith("#/n/drawn-vit/1/7")
    page.key(Keys.ARROW_RIGHT)  # no sign: it stays
    page.wait(lambda: page.driver.current_url.endswith("#/n/drawn-vit/1/8"))
    page.run("localStorage.clear()")


def test_a_new_page_has_the_focus_and_is_announced(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit", ".layers a.open")
    page.all(".layers a.open")[0].send_keys(Keys.ENTER)
    page.wait(lambda: page.all(".wall .tile"))
    page.wait(lambda: page.run("return document.activeElement.id") == "main")
    page.wait(lambda: page.run("return document.querySelector('.spoken').textContent === document.title"))
    assert page.driver.title


def headed(page: Page, words: str) -> bool:
    """Whether the page's heading holds `words` now, whatever its line breaks."""
    try:
        return any(words in " ".join(found.text.split()) for found in page.all("h1"))
    except StaleElementReferenceException:
        return False


def test_a_layer_described_in_part_steps_over_its_gaps(seen: Seen) -> None:
    page = seen.open("#/n/drawn-part/0/4", ".picture img")
    page.key(Keys.ARROW_RIGHT)
    page.wait(lambda: page.driver.current_url.endswith("#/n/drawn-part/0/64"))
    page.key("]")  # layer 1 is not described
    page.wait(lambda: page.driver.current_url.endswith("#/n/drawn-part/2/64"))
    seen.open("#/n/drawn-part/0/50", ".failure")
    assert "the nearest it has is 64" in page.text(".failure")
    seen.open("#/m/drawn-part/1", ".failure")
    assert "describes no neuron of layer 1" in page.text(".failure")


def test_the_jump_box_takes_an_address_in_many_spellings(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit/1", ".wall .tile")
    for text, where in (
        ("drawn-vit/mlp/2/41", "#/n/drawn-vit/2/41"),
        ("Drawn_ViT@3:7", "#/n/drawn-vit/3/7"),
        ("12", "#/n/drawn-vit/3/12"),
        ("1/9", "#/n/drawn-vit/1/9"),
        ("zoo/drawn-vit/2", "#/m/drawn-vit/2"),
        ("swin", "#/m/drawn-swin-with-a-rather-long-name--tag-in1k"),
        ("https://example.org/x/#/n/drawn-vit/0/3", "#/n/drawn-vit/0/3"),
        ("drawn", "#/s?q=drawn"),
        ("Dráwn-Vit/2", "#/m/drawn-vit/2"),
        ("斑馬", "#/s?q=%E6%96%91%E9%A6%AC"),
        ("---", "#/s?q=---"),
        ("drawn-vit/99/1", "#/s?q=drawn-vit%2F99%2F1"),
    ):
        page.key("/")
        field = page.all("#jump")[0]
        assert page.run("return document.activeElement.id") == "jump"
        page.run("arguments[0].select()", field)
        field.send_keys(text, Keys.ENTER)
        page.wait(lambda where=where: page.driver.current_url.endswith(where), what=f"for {where} from {text}")
        page.wait(lambda: page.all("h1"))
    assert "its layers are 0 to 3" in page.text(".found")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("#/x/y", "This site has no page #/x/y"),
        ("#/m/nobody", "no model “nobody”"),
        ("#/m/drawn-vit/9", "4 layers, 0 to 3"),
        ("#/n/drawn-vit/1/9999", "96 units, 0 to 95"),
        ("#/s?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "No model of this atlas has that name"),
    ],
)
def test_unknown_addresses_say_what_there_is_and_where_to_go(where: str, said: str, seen: Seen) -> None:
    page = seen.open(where)
    page.wait(lambda: said in page.all("main")[0].text, what=f"for {said}")
    assert page.all("main a")
    assert not page.all("main img")


def test_a_file_that_is_missing_is_named_on_the_page(seen: Seen, small_atlas: Path, tmp_path: Path) -> None:
    build_site(small_atlas, tmp_path / "site")
    for pack in (tmp_path / "site").glob("d/drawn-vit/00001-*/00000.json.gz"):
        pack.unlink()
    with plain_server(tmp_path) as (address, _):
        seen.page.open(f"{address}/site/#/n/drawn-vit/1/7", ".failure")
        assert "00000.json.gz: the server answered 404" in seen.page.text(".failure")
        seen.page.leave()
    assert any("404" in line for line in seen.page.console())  # the browser's own line about it
    seen.page.requests()


def test_sort_and_filter_live_in_the_address(seen: Seen, small_atlas: Path) -> None:
    page = seen.open("#/m/drawn-vit/1?sort=activation&show=inactive", ".wall .tile")
    assert len(page.all(".wall .tile.inactive")) == len(page.all(".wall .tile")) == 6
    page.choose("#by-sort", "unit")
    page.wait(lambda: page.driver.current_url.endswith("?sort=unit&show=inactive"))
    units = [int(tile.get_attribute("href").rpartition("/")[2]) for tile in page.all(".wall .tile")]
    assert units == [5, 22, 39, 56, 73, 90]
    seen.open("#/m/drawn-vit/1?sort=activation", ".wall .tile")
    shown = [int(tile.get_attribute("href").rpartition("/")[2]) for tile in page.all(".wall .tile")]
    table = Atlas(str(small_atlas)).neurons("drawn-vit", 1, ["unit", "activation"])
    assert table is not None
    strongest = sorted(zip(table["activation"].to_pylist(), table["unit"].to_pylist(), strict=True), reverse=True)
    assert shown == [unit for _, unit in strongest][: len(shown)]


def test_3072_neurons_keep_the_page_small_and_every_one_can_be_reached(seen: Seen) -> None:
    page = seen.open("#/m/drawn-wide/0?sort=unit", ".wall .tile", site="wide")
    names = page.run("return performance.getEntriesByType('resource').map(({ name }) => name)")
    assert not any("first.json" in name for name in names), "another order waits for nothing but the figures of all"
    assert page.run("return document.querySelectorAll('*').length") < 600
    height = page.run("return document.querySelector('.wall').getBoundingClientRect().height")
    assert height > 20_000
    page.run("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait(lambda: page.all('.wall a[href$="/0/3071"]'))
    assert page.run("return document.querySelectorAll('*').length") < 600
    page.settle()
    assert painted(page.pixels())
    page.run("scrollTo(0, 0)")
    page.wait(lambda: page.all('.wall a[href$="/0/0"]'))
    focused = "return document.activeElement.getAttribute('href')"
    for key, unit in (
        (Keys.ARROW_RIGHT, 0),
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_DOWN, 13),
        (Keys.END, 3071),
        (Keys.ARROW_LEFT, 3070),
        (Keys.ARROW_UP, 3058),
    ):
        page.key(key)
        page.wait(lambda unit=unit: page.run(focused) == f"#/n/drawn-wide/0/{unit}", what=f"for {unit}")
    page.key(Keys.ENTER)
    page.wait(lambda: page.driver.current_url.endswith("#/n/drawn-wide/0/3058"))
    page.wait(lambda: page.all(".picture img"))
    page.driver.back()  # and the wall is where it was left
    page.wait(lambda: page.all('.wall a[href$="/0/3058"]'))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, *(pytest.param(one, marks=pytest.mark.slow) for one in (768, 1280))])
def test_nothing_sticks_out_at_any_width_and_text_has_contrast(seen: Seen, width: int, scheme: str) -> None:
    seen.page.size(width, 844, phone=width < 600)
    seen.page.scheme(scheme)
    for where in (
        "#/",
        "#/m/drawn-part",
        "#/m/drawn-vit/2",
        "#/n/drawn-swin-with-a-rather-long-name--tag-in1k/2/5",
        "#/help",
    ):
        page = seen.open(where)
        page.settle()
        assert page.run("return document.documentElement.scrollWidth") <= width, where
        paper, ink, soft, accent = (
            luminance(
                page.run(
                    f"const probe = document.body.appendChild(document.createElement('i'));"
                    f"probe.style.color = 'var(--{name})'; const c = getComputedStyle(probe).color;"
                    f"probe.remove(); return c"
                )
            )
            for name in ("paper", "ink", "soft", "accent")
        )
        assert (paper < 0.05) == (scheme == "dark")
        for text in (ink, soft, accent):
            assert (max(text, paper) + 0.05) / (min(text, paper) + 0.05) >= 4.5


def luminance(css: str) -> float:
    """Relative luminance (WCAG 2.2) of rgb(r, g, b)."""
    channels = np.array([float(part) for part in css[css.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_touch_targets_are_44_px_on_a_phone(seen: Seen) -> None:
    seen.page.size(390, 844, phone=True)
    page = seen.open("#/n/drawn-vit/1/7", ".figures")
    small = page.run("""
      return [...document.querySelectorAll("button:not(.why), .steps a, header a, summary")]
        .map((element) => [element.textContent.trim(), element.getBoundingClientRect().height])
        .filter(([, height]) => height < 44)""")
    assert small == []


def test_a_chosen_theme_stays(seen: Seen) -> None:
    page = seen.open("#/")
    button = page.all("button.theme")[0]
    button.click()
    button.click()
    page.wait(lambda: page.run("return document.documentElement.dataset.theme") == "dark")
    seen.open("#/m/drawn-vit")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 21, 23)"
    page.run("localStorage.clear()")


def test_pictures_by_range_and_what_a_server_without_it_is_told(seen: Seen, small_atlas: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(small_atlas)
    (tmp_path / "index.html").write_text("")
    with running(make_server(tmp_path, 0)) as address:
        build_site(small_atlas, tmp_path / "site", images="range", dataset_url=f"{address}/data")
        seen.page.open(f"{address}/site/#/n/drawn-vit/1/7", ".picture img")
        seen.page.wait(lambda: seen.page.run("return document.querySelector('.picture img').naturalWidth") == 64)
        assert seen.page.console() == []
    # Chromium cuts the part out of a whole answer that it has kept: this server forbids it to keep any.
    with plain_server(tmp_path, **{"Cache-Control": "no-store"}) as (address, _):
        build_site(small_atlas, tmp_path / "site", images="range", dataset_url=f"{address}/data")
        seen.page.open(f"{address}/site/#/n/drawn-vit/1/7", ".picture .failure")
        assert "--images sprite" in seen.page.text(".picture .failure")
        seen.page.leave()
    seen.page.requests()


def test_python_of_the_page_loads_exactly_this_row(seen: Seen, small_atlas: Path) -> None:
    page = seen.open("#/n/drawn-vit/2/41", ".snippet pre")
    code = page.text(".snippet pre").replace("path/to/atlas", str(small_atlas))
    scope: dict = {}
    exec(code, scope)
    assert scope["row"]["address"] == "drawn-vit/mlp/2/41"
    assert scope["row"]["image"].size == (64, 64)


def test_a_wide_layer_shows_its_first_neurons_before_the_table_of_all_has_come(seen: Seen) -> None:
    """On a slow line the table of all takes half a second; the wall is as long as it will be, and stays where it is."""
    page = seen.open("", ".wall-of-models .tile", site="wide")
    with page.holding("*layer.json.gz"):
        page.run("location.hash = '#/m/drawn-wide/0'")
        page.wait(lambda: page.all(".wall .tile"))
        shown = "return [...document.querySelectorAll('.wall .tile')].slice(0, 50).map((one) => one.outerHTML)"
        height = "return document.querySelector('.wall').getBoundingClientRect().height"
        first = page.run(shown), page.run(height)
        assert page.text(".counted") == "3,072 neurons"
        assert first[1] > 20_000
        page.run("scrollTo(0, document.documentElement.scrollHeight)")
        page.settle()
        assert page.all(".wall .tile") == [], "the last of the wall are on their way"
        page.run("location.replace('#/m/drawn-wide/0?sort=unit')")
        page.wait(lambda: not page.all(".wall"), what="for the wall to wait for all neurons in another order")
        page.run("location.replace('#/m/drawn-wide/0')")
    page.run("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait(lambda: page.all(".wall .tile"), what="for the last of the wall")
    page.run("scrollTo(0, 0)")
    page.wait(lambda: page.run(shown) == first[0], what="for the same first neurons")
    assert page.run(height) == first[1]


def test_a_picture_is_found_in_a_bundle_of_two(seen: Seen, wide_atlas: Path) -> None:
    page = seen.open("#/n/drawn-wide/0/3059", ".neuron .picture img", site="wide")
    page.settle()
    shown = page.run("""
      const image = document.querySelector(".neuron .picture img");
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
      canvas.drawImage(image, 0, 0);
      return [...canvas.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data]""")
    own = Image.open(io.BytesIO(Atlas(str(wide_atlas)).picture("drawn-wide/mlp/0/3059"))).convert("RGBA")
    assert np.abs(np.array(shown) - np.asarray(own).ravel().astype(int)).max() <= 2
    asked = page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any(name.endswith("/01529.pictures") for name in asked)


def test_numbers_are_written_as_people_read_them(seen: Seen) -> None:
    page = seen.open("#/help")
    written = page.driver.execute_async_script("""
      const done = arguments[0];
      import("/modules/format.js").then(({ figure, percent, spread }) => done({
        figures: [0, 8.914, -0.08049, 1234.5, 0.000123, -2.5e7, null].map(figure),
        percents: [0.883, 0.0042, 0, 1.2].map(percent),
        spreads: [0.1283, 12.3, null, 0].map(spread),
      }))""")
    assert written == {
        "figures": ["0", "8.91", "−0.0805", "1,235", "1.2 × 10⁻⁴", "−2.5 × 10⁷", "–"],
        "percents": ["88 %", "0.42 %", "0 %", "120 %"],
        "spreads": ["0.13", "12", "–", "0"],
    }


STAGES = [
    {
        "stage": "evidence",
        "settings": "aaaabbbbccccdddd",
        "facts": '{"probe": "drawn discs"}',
        "precision": "",
        "code_version": "1.2.3",
        "started": "2026-01-02T03:04:00+00:00",
        "software": [{"name": "torch", "version": "2.9.9"}],
    },
    {"stage": "visualize", "settings": "0011223344556677", "precision": "bfloat16", "software": None},
]


def with_model(site: Path, slug: str, unpacked: Callable[[Path], Any], **changes: Any) -> None:
    """Change a model's row in a built site; None takes a column away."""
    (path,) = site.glob(f"d/{slug}/model-*.json.gz")
    facts = unpacked(path)
    model = {name: value for name, value in {**facts["model"], **changes}.items() if value is not None}
    path.write_bytes(dump({**facts, "model": model}))


def cells(page: Page) -> list[list[str]]:
    page.wait(lambda: page.all("table.made"))
    return [
        [cell.text for cell in page.driver.execute_script("return [...arguments[0].children]", row)]
        for row in page.all("table.made tbody tr")
    ]


def test_a_models_page_says_what_each_stage_ran_with(
    seen: Seen, small_atlas: Path, tmp_path: Path, unpacked: Callable[[Path], Any]
) -> None:
    page, versions = seen.page, [{"name": "torch", "version": "2.8.0"}, {"name": "timm", "version": "1.0.20"}]
    build_site(small_atlas, tmp_path / "site")
    build_site(small_atlas, tmp_path / "older")
    with_model(tmp_path / "site", "drawn-vit", unpacked, stages=STAGES, software=None, precision=None)
    older = [{"stage": "visualize", "settings": "00112233aabbccdd"}]  # says it of the model as a whole
    with_model(tmp_path / "older", "drawn-vit", unpacked, stages=older, software=versions, precision="float32")
    with plain_server(tmp_path) as (address, _):
        page.open(f"{address}/site/#/m/drawn-vit", "table.made")
        assert cells(page) == [
            ["evidence", "–", "torch 2.9.9", "1.2.3", "2026-01-02 03:04 UTC", "aaaabbbbccccdddd"],
            ["visualize", "bfloat16", "–", "–", "–", "0011223344556677"],
        ]
        assert "What decided each result" in page.text("main")
        page.open(f"{address}/older/#/m/drawn-vit", "table.made")
        assert cells(page) == [["visualize", "float32", "torch 2.8.0, timm 1.0.20", "00112233aabbccdd"]]
        assert "Not recorded of any stage: code, date" in page.text("main")
        assert "What decided each result" not in page.text("main")
        page.leave()
    page.requests()


def test_what_all_stages_share_is_said_once(
    seen: Seen, small_atlas: Path, tmp_path: Path, unpacked: Callable[[Path], Any]
) -> None:
    build_site(small_atlas, tmp_path / "site")
    stages = [{**STAGES[0], "stage": stage} for stage in ("evidence", "label")]
    with_model(tmp_path / "site", "drawn-vit", unpacked, stages=stages, software=None, precision=None)
    with plain_server(tmp_path) as (address, _):
        page = seen.page
        page.open(f"{address}/site/#/m/drawn-vit", "table.made")
        assert cells(page) == [[stage, "2026-01-02 03:04 UTC", "aaaabbbbccccdddd"] for stage in ("evidence", "label")]
        assert "All stages: software torch 2.9.9; code 1.2.3." in page.text("main")
        page.leave()
    page.requests()


def test_what_no_stage_of_pictures_says_is_a_dash_with_its_reason(
    seen: Seen, small_atlas: Path, tmp_path: Path, unpacked: Callable[[Path], Any]
) -> None:
    """Where no picture was made a model has no recipe and no seed."""
    build_site(small_atlas, tmp_path / "site")
    nothing = dict.fromkeys(("recipe", "recipe_hash", "recipe_json", "seed", "precision", "software", "stages"))
    with_model(tmp_path / "site", "drawn-vit", unpacked, **nothing)
    with plain_server(tmp_path) as (address, _):
        page = seen.page
        for where in ("m/drawn-vit", "n/drawn-vit/1/7"):
            page.open(f"{address}/site/#/{where}", ".facts")
            page.run("document.querySelectorAll('details.fold').forEach((one) => (one.open = true))")
            text = page.text("main")
            for wrong in ("null", "undefined", "NaN", "[object"):
                assert wrong not in text, (where, wrong)
            assert "All settings of the recipe" not in text
        page.open(f"{address}/site/#/m/drawn-vit", ".facts")
        recipe = next(one.text for one in page.all(".facts .figure") if one.text.startswith("Recipe"))
        assert "–" in recipe
        assert "does not record what its stages ran with" in page.text("main")
        page.leave()
    page.requests()


@pytest.mark.slow
def test_home_counts_the_models_that_have_neurons(tmp_path: Path) -> None:
    """Of a run that goes on, all models are there from the beginning."""
    models = (Drawn("drawn-vit", (8,), side=32), Drawn("drawn-later", (8,), side=32, skipped_layers=(0,)))
    atlas = draw_atlas(tmp_path / "atlas", models)
    with hosting(tmp_path / "host", grown=Path(atlas)) as other:
        assert "8 FFN neurons of 1 model:" in other.open("", site="grown").text(".intro")


@pytest.mark.parametrize(
    ("where", "ready", "hinted"),
    [
        ("", ".wall-of-models .tile", [r"d/wall-\w+\.webp"]),
        ("#/m/drawn-wide/0", ".wall .tile", [r"00000-\w+/first\.json\.gz", r"00000-\w+/00000\.webp"]),
        ("#/m/drawn-vit/0", ".wall .tile", [r"00000-\w+/layer\.json\.gz", r"00000-\w+/00000\.webp"]),
        ("#/n/drawn-vit/0/8", ".neuron .picture img", [r"00000-\w+/00000\.json\.gz", r"00000-\w+/00001\.pictures"]),
    ],
)
def test_first_pictures_are_on_their_way_before_the_scripts_run(
    seen: Seen, where: str, ready: str, hinted: list[str]
) -> None:
    """What is hinted at is used, and nothing is fetched twice: else the hint costs what it was to save."""
    page = seen.open(where, ready, site="wide" if "drawn-wide" in where else "small")
    page.settle()
    entries = page.run(
        "return performance.getEntriesByType('resource').map(({ name, initiatorType }) => [name, initiatorType])"
    )
    names = [name for name, _ in entries]
    assert len(names) == len(set(names))
    for form in hinted:
        (found,) = [one for one in entries if re.search(form + "$", one[0])]
        assert found[1] == "link", found
