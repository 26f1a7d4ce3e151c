"""The map in a browser: moved and read by keys, neurons drawn around by a pointer, colours, words, the address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Page, Seen, hosting, missing, painted
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]


@pytest.fixture(scope="module")
def seen(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("site_builder.neuron_map.nodes.NODE", 100)  # so that a map is read in several pieces
        with hosting(tmp_path_factory.mktemp("host"), mapped=("evident",), evident=evident_atlas) as seen:
            yield seen


CANVAS = ".plane canvas"


def opened(seen: Seen, where: str) -> Page:
    """A map, once its neurons are drawn."""
    page = seen.open(where, CANVAS, site="evident")
    page.settle()
    page.wait(lambda: painted(page.pixels(CANVAS)), what="for neurons to be drawn")
    return page


def small_pictures(requests: list[str]) -> list[str]:
    """Those asked for by the map of all models."""
    return [url for url in requests if "/map/_all-" in url and url.endswith(".webp")]


def listed(page: Page) -> int:
    """How many neurons the list has, by its heading."""
    found = re.match(r"[\d,]+", page.text(".chosen h2"))
    assert found
    return int(found[0].replace(",", ""))


def test_keys_move_the_map_name_a_neuron_list_what_is_in_view_and_open_one(seen: Seen) -> None:
    page = opened(seen, "#/map")
    whole = page.pixels(CANVAS)
    page.run("document.querySelector('.plane canvas').focus({ focusVisible: true })")
    page.key("l")
    all_of_them = listed(page)
    assert all_of_them == int(re.sub(r"\D", "", page.text(".lede").split(" neurons")[0])), "of all pieces of the map"
    assert len([url for url in page.requests() if url.endswith(".points.gz")]) > 3
    assert page.wait(lambda: page.run("return document.activeElement.id") == "chosen", what="for the list's heading")
    page.run("document.querySelector('.plane canvas').focus({ focusVisible: true })")
    for key in ("+", "+", Keys.ARROW_LEFT, "+"):
        page.key(key)
    named = page.wait(lambda: page.text(".plane-reading a"))
    assert re.fullmatch(r"[a-z-]+/mlp/\d+/\d+", named)
    assert page.all('.plane-reading [aria-live="polite"]'), "what a key leads to is told to those who listen"
    page.key("l")
    page.wait(lambda: listed(page) < all_of_them, what="for fewer neurons")
    assert len(page.all(".chosen li")) == min(40, listed(page))
    page.wait(lambda: "at=" in page.run("return location.hash"), what="for the address")
    address = page.run("return location.hash")
    page.run("document.querySelector('.plane canvas').focus({ focusVisible: true })")
    page.key(Keys.ENTER)
    page.wait(lambda: page.all(".neuron"), what="for the neuron")
    assert named.split("/")[0] in page.run("return location.hash")
    page.driver.back()
    page.wait(lambda: page.all(CANVAS))
    assert page.run("return location.hash") == address
    page.wait(lambda: painted(page.pixels(CANVAS)))
    assert (np.abs(page.pixels(CANVAS).astype(int) - whole) > 40).any(), "the view is that which was left"


def test_a_line_drawn_around_neurons_lists_them_and_some_go_to_the_comparison(seen: Seen) -> None:
    page = opened(seen, "#/map/drawn-vit?by=verdict")
    box = page.all(CANVAS)[0]
    next(button for button in page.all("button") if button.text == "Draw around neurons").click()
    page.run("scrollTo(0, 0)")
    drag = ActionChains(page.driver).move_to_element_with_offset(box, -150, -150).click_and_hold()
    drag.move_by_offset(300, 0).move_by_offset(0, 300).move_by_offset(-300, 0).release().perform()
    page.wait(lambda: "inside the line" in page.text(".chosen h2"))
    assert 0 < listed(page) < 96 + 96 + 70
    address = page.text(".chosen li a")
    page.all(".chosen li button")[0].click()
    page.wait(lambda: page.text(".tray") == "Compare 1")
    assert address in page.all(".tray")[0].get_attribute("href")
    page.run("localStorage.removeItem('neuron-atlas.compare')")
    ActionChains(page.driver).move_to_element(box).click_and_hold().move_by_offset(60, 20).release().perform()
    assert page.run("return location.hash").startswith("#/map/drawn-vit"), "a drag moves and opens nothing"


def test_colours_words_and_kinds_change_what_is_shown_and_the_address_keeps_them(seen: Seen) -> None:
    page = opened(seen, "#/map/drawn-vit")
    before = page.pixels(CANVAS)
    assert [button.text for button in page.all(".plane-legend button")] == ["layer 0", "layer 1", "layer 2"]
    next(button for button in page.all(".choice button") if button.text == "Verdict").click()
    page.wait(lambda: (page.pixels(CANVAS) != before).any(), what="for other colours")
    assert page.text(".plane-legend button") == "picture holds"
    page.all("#map-label")[0].send_keys("disc")
    page.wait(lambda: "have these words" in page.text(".counted") or "has these words" in page.text(".counted"))
    page.wait(lambda: page.run("return location.hash") == "#/map/drawn-vit?by=verdict&q=disc", what="for the address")
    next(button for button in page.all("button") if button.text == "List what is in view").click()
    texts = {one.text for one in page.all(".chosen li .label-small")}
    assert texts
    assert all("disc" in text for text in texts)
    assert not page.all(".chosen li .note"), "those without a label are left out"


def test_on_a_slow_line_pictures_wait_for_room_and_a_list_for_all_its_neurons(seen: Seen) -> None:
    page = seen.page
    with page.holding(*(f"*0000{piece}.points.gz" for piece in range(1, 10))):
        opened(seen, "#/map")  # of a slow line the first piece alone has come: the others will need the room
        assert not small_pictures(page.requests())
        next(button for button in page.all("button") if button.text == "List what is in view").click()
        assert listed(page) == 100, "a piece holds so many"
        assert page.text(".chosen [role=status]") == "More of them are on their way …"
    page.wait(lambda: listed(page) > 100, what="for those that were on their way")
    assert listed(page) == int(re.sub(r"\D", "", page.text(".lede").split(" neurons")[0]))
    assert not page.all(".chosen [role=status]")
    page.settle()
    assert not small_pictures(page.requests())
    page = opened(seen, "#/map?at=0.5,0.5,6")
    assert small_pictures(page.requests())
    page.size(390, phone=True)
    assert painted(opened(seen, "#/map/drawn-vit").pixels(CANVAS))
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")


def test_a_site_without_a_map_says_how_to_have_one_and_the_model_leads_to_its_own(seen: Seen) -> None:
    page = seen.open("#/map/drawn-bare", ".failure", site="evident")
    assert "neuron-atlas site build --map" in page.text(".failure")
    page = seen.open("#/", ".intro", site="evident")
    assert page.all('.intro a[href="#/map"]')
    page = seen.open("#/m/drawn-vit", ".layers > li", site="evident")
    assert page.all('.lede a[href="#/map/drawn-vit"]')
