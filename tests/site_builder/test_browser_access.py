"""Who reads by keys or by ear: focus after Back, everything within reach of the keyboard, and axe-core's rules."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Seen, hosting, missing
from selenium.webdriver.common.keys import Keys

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

#: A page of every kind, one without evidence and one that tells of a mistake.
PLACES = {
    "home": "#/",
    "model": "#/m/drawn-pit",
    "layer": "#/m/drawn-pit/1",
    "neuron": "#/n/drawn-pit/1/9",
    "neuron without evidence": "#/n/drawn-bare/0/5",
    "heads": "#/h/drawn-swin",
    "head": "#/h/drawn-swin/2/3",
    "features": "#/features",
    "feature": "#/f/colour",
    "map": "#/map?at=0.5,0.5,4",
    "map of a model": "#/map/drawn-vit?by=verdict&q=disc",
    "clusters": "#/rosetta",
    "cluster": "#/r/0",
    "search": "#/s?q=disc",
    "probe images": "#/p/5e7a11ce5e7a11ce",
    "probe image": "#/p/5e7a11ce5e7a11ce/7",
    "nothing found": "#/s?q=zzzz",
    "comparison": "#/cmp?u=drawn-vit/mlp/1/8,drawn-pit/mlp/1/8,drawn-vit/head/1/2",
    "embedded neuron": "#/e/n/drawn-vit/1/8",
    "embedded head": "#/e/h/drawn-vit/1/2",
    "images without a model": "#/image",
    "help": "#/help",
    "unknown": "#/x/y",
    "failure": "#/n/drawn-pit/1/999",
}


@pytest.fixture(scope="module")
def seen(small_atlas: Path, evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with hosting(
        tmp_path_factory.mktemp("host"), mapped=("evident",), small=small_atlas, evident=evident_atlas
    ) as seen:
        yield seen


FOCUSED = "return document.activeElement.getAttribute('href')"


def test_back_gives_the_focus_to_the_tile_that_was_left_and_the_wall_its_place(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit/2?sort=unit", ".wall .tile")
    page.size(600, 500)
    page.key(Keys.ARROW_RIGHT)  # to the wall
    page.key(Keys.END)
    page.wait(lambda: page.run(FOCUSED) == "#/n/drawn-vit/2/159")
    page.key(Keys.ARROW_LEFT)
    page.wait(lambda: page.run(FOCUSED) == "#/n/drawn-vit/2/158")
    place = page.run("return scrollY")
    assert place > 500
    page.key(Keys.ENTER)
    page.wait(lambda: page.all(".neuron .picture img"))
    page.driver.back()
    page.wait(lambda: page.run(FOCUSED) == "#/n/drawn-vit/2/158", what="for the tile that was left")
    assert abs(page.run("return scrollY") - place) <= 2
    page.key(Keys.ARROW_LEFT)  # and arrows go on from there
    page.wait(lambda: page.run(FOCUSED) == "#/n/drawn-vit/2/157")


def test_back_finds_the_same_of_several_links_to_one_page(seen: Seen) -> None:
    page = seen.open("#/m/drawn-vit", ".layers > li")
    page.run("document.querySelectorAll('.layers .open')[3].focus()")
    page.key(Keys.ENTER)
    page.wait(lambda: page.all(".wall .tile"))
    page.driver.back()
    page.wait(lambda: page.run("return document.activeElement === document.querySelectorAll('.layers .open')[3]"))
    tiles = page.all(".layers .strip a")
    tiles[9].click()  # by a finger or a mouse
    page.wait(lambda: page.all(".neuron .picture img"))
    page.driver.back()
    page.wait(lambda: page.run("return document.activeElement === document.querySelectorAll('.layers .strip a')[9]"))


def test_a_new_page_begins_at_its_own_heading_not_at_a_link_of_another(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/7", ".picture img")
    page.run("document.querySelector('.trail a[href=\"#/m/drawn-vit/1\"]').focus()")
    page.key(Keys.ENTER)
    page.wait(lambda: page.all(".wall .tile"))
    page.wait(lambda: page.run("return document.activeElement.id") == "main")
    page.driver.back()
    page.wait(lambda: page.run(FOCUSED) == "#/m/drawn-vit/1", what="for the link of the trail")


#: What can be operated and is seen; a group that arrows move in (a wall, a map) counts by the one that Tab comes to.
OPERABLE = """
  const shown = (one) => one.checkVisibility({ visibilityProperty: true }) && one.getClientRects().length > 0;
  return [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")]
    .filter((one) => shown(one) && !one.disabled && !one.matches("main, #skip"))
    .map((one) => { one.dataset.seen ??= ""; return one; })
    .filter((one) => one.tabIndex >= 0 || !one.closest(".wall, .headmap")).length"""


#: Mark what has the focus; whether it had it before.
VISIT = """
  const at = document.activeElement;
  const before = at.dataset.seen === "yes";
  at.dataset.seen = "yes";
  return before;"""
MISSED = """
  return [...document.querySelectorAll('[data-seen=""]')]
    .filter((one) => one.isConnected && (one.tabIndex >= 0 || !one.closest(".wall, .headmap")))
    .map((one) => one.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("kind", [k if k == "neuron" else pytest.param(k, marks=pytest.mark.slow) for k in PLACES])
def test_tab_reaches_everything(kind: str, seen: Seen) -> None:
    page = seen.open(PLACES[kind], site="evident")
    page.through()
    wanted = page.run(OPERABLE)
    assert wanted > 0
    page.run("document.activeElement.blur()")
    for _ in range(2 * wanted + 20):
        page.key(Keys.TAB)
        if page.run(VISIT):
            break
    assert page.run(MISSED) == []


AXE = "axe-core@4.14.1"


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core as text: a copy that AXE_CORE names, else fetched by npm from its registry, which needs the network."""
    if "AXE_CORE" in os.environ:
        return Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8")
    if shutil.which("npm") is None:
        pytest.skip("npm is missing: install it, or let AXE_CORE name a copy of axe.min.js")
    folder = tmp_path_factory.mktemp("axe")
    done = subprocess.run(["npm", "pack", AXE, "--silent"], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot fetch {AXE}: {done.stderr[-200:]} Let AXE_CORE name a copy of axe.min.js")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


RUN_AXE = """
  const done = arguments[0];
  const rules = { "label-content-name-mismatch": { enabled: true } };
  const told = ({ html, failureSummary }) => `${html} ${failureSummary}`;
  axe.run(document, { preload: false, resultTypes: ["violations"], rules })
    .then(({ violations }) => done(violations.map(({ id, nodes }) => [id, nodes.map(told)])));"""


@pytest.mark.slow
@pytest.mark.parametrize("look", ["light", "dark", "forced", "phone"])
def test_no_page_breaks_a_rule_of_axe(look: str, seen: Seen, axe: str) -> None:
    page = seen.page
    page.size(390 if look == "phone" else 1280, phone=look == "phone")
    page.scheme("dark" if look == "dark" else "light", forced=look == "forced")
    broken: dict[str, Any] = {}
    for kind, where in PLACES.items():
        seen.open(where, site="evident")
        page.through()
        page.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        page.run(axe)
        found = page.driver.execute_async_script(RUN_AXE)
        if found:
            broken[kind] = found
    assert broken == {}
