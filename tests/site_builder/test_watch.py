"""A site that follows its atlas while that grows: built when there is more, noticed by open pages, whole at the end."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Page, missing, running
from drawn_atlas import Drawn, draw_atlas
from drawn_evidence import PROBE_SET

from atlas_schema.errors import BadConfig, NothingThere
from atlas_schema.store import Store
from site_builder.build import SiteReport, build_site
from site_builder.serve import make_server
from site_builder.watch import BEGIN_SECONDS, Watch


class Growing:
    """An atlas that gets the layers of another one by one, on a clock of its own; each build takes two seconds."""

    def __init__(self, whole: Path, atlas: Path, site: Path) -> None:
        self.whole, self.atlas, self.site = whole, atlas, site
        self.now = 0.0
        self.steps: list[tuple[float, Callable[[], None]]] = []  # when, what
        self.began: list[float] = []
        self.built: list[tuple[bool, SiteReport]] = []
        self.said: list[str] = []

    def take(self, pattern: str) -> None:
        for path in [one for one in self.whole.glob(pattern) if one.is_file()]:
            target = self.atlas / path.relative_to(self.whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def build(self, growing: bool, keep: frozenset[str]) -> SiteReport:
        report = build_site(self.atlas, self.site, growing=growing, keep=keep)
        self.began.append(self.now)
        self.now += 2
        self.built.append((growing, report))
        return report

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.steps and self.steps[0][0] <= self.now:
            self.steps.pop(0)[1]()

    def watch(self) -> Watch:
        store = Store(str(self.atlas))
        return Watch(
            store, self.build, lambda: bool(self.steps), 5, self.said.append, clock=lambda: self.now, sleep=self.sleep
        )


@pytest.fixture
def growing(small_atlas: Path, tmp_path: Path) -> Growing:
    return Growing(small_atlas, tmp_path / "atlas", tmp_path / "site")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_site_follows_its_atlas_and_ends_with_the_run(growing: Growing, tmp_path: Path) -> None:
    growing.steps = [
        (10, lambda: growing.take("models/*/*")),
        (20, lambda: growing.take("sites/*/*")),
        (30, lambda: growing.take("neurons/drawn-vit/train-00000-*")),
        (100, lambda: growing.take("neurons/drawn-vit/train-00001-*")),
        (105, lambda: growing.take("neurons/drawn-vit/train-00002-*")),
        (200, lambda: growing.take("*/*/*")),
    ]
    report = growing.watch().follow()
    assert [one for one, _ in growing.built] == [True, True, True, False], "and not where nothing changed"
    assert growing.said == ["Nothing to show yet; waiting for the first layer of neurons."]
    assert [one.counts["layers"] for _, one in growing.built] == [1, 2, 3, 9]
    assert growing.built[1][1].counts["layers_reused"] == 1, "a layer that stood is not made again"
    assert growing.began == [30, 102, 144, 201], (
        "soon, but after a pause that is long beside a build; at once at the end"
    )
    assert report is growing.built[-1][1]

    build_site(growing.atlas, tmp_path / "alone")
    made, alone = files(growing.site), files(tmp_path / "alone")
    assert made.pop("revision.txt").endswith(b" whole\n")
    assert made == alone, "what it ends with is the site that one build makes"


def test_an_open_page_finds_what_it_names_one_build_longer(growing: Growing) -> None:
    growing.take("*/*/*")
    first = growing.build(True, frozenset())
    shard = next((growing.atlas / "neurons" / "drawn-vit").glob("train-00000-*"))
    other = next((growing.atlas / "neurons" / "drawn-vit").glob("train-00001-*"))
    shard.unlink()
    second = growing.build(True, first.paths)
    gone = first.paths - second.paths
    assert gone, "layer 0 is not there any more"
    assert all((growing.site / path).exists() for path in first.paths | second.paths)
    other.unlink()
    third = growing.build(True, second.paths)
    assert not any((growing.site / path).exists() for path in gone - third.paths)
    manifest = re.search(r'id="manifest">(.*?)</script>', (growing.site / "index.html").read_text())
    assert manifest is not None
    told = json.loads(manifest[1])
    assert told["growing"] is True
    assert (growing.site / "revision.txt").read_text() == f"{told['revision']} growing\n"


def test_nothing_to_show_and_nobody_at_work_is_waited_for_a_while_and_told(growing: Growing) -> None:
    with pytest.raises(NothingThere):
        growing.watch().follow()
    assert BEGIN_SECONDS <= growing.now < BEGIN_SECONDS + 10
    assert len(growing.said) == 1
    assert "no run is at work" in growing.said[0]


def test_what_no_other_try_would_change_is_raised_at_once(growing: Growing) -> None:
    growing.take("*/*/*")
    growing.steps = [(50, lambda: None)]

    def refuse(growing_: bool, keep: frozenset[str]) -> SiteReport:
        return build_site(growing.atlas, growing.site, target="nowhere", growing=growing_, keep=keep)

    watch = growing.watch()
    watch.build = refuse
    with pytest.raises(BadConfig, match="nowhere"):
        watch.follow()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_an_open_page_says_that_there_is_more_and_shows_it_with_the_next_page(growing: Growing) -> None:
    growing.take("[ms]*/*/*")
    growing.take("neurons/drawn-vit/train-0000[01]-*")
    first = growing.build(True, frozenset())
    page = Page()
    try:
        with running(make_server(growing.site, 0)) as address:
            page.driver.get(f"{address}/#/m/drawn-vit")
            page.wait(lambda: "still being computed" in page.text(".growing"))
            page.wait(lambda: len(page.all(".layers .strip")) == 2)
            assert "A run is adding to this atlas" in page.text("#lacking + p"), (
                "not all that it lacks is to be asked for"
            )
            page.run("location.hash = '#/n/drawn-vit/3/0'")
            page.wait(lambda: "no neuron of layer 3 of drawn-vit so far; more of it" in page.text(".failure"))
            page.run("location.hash = '#/m/drawn-vit'")
            page.wait(lambda: len(page.all(".layers .strip")) == 2)
            growing.take("*/*/*")
            growing.build(False, first.paths)
            page.wait(lambda: "complete now" in page.text(".growing"), 12)
            assert len(page.all(".layers .strip")) == 2, "what one reads stays"
            page.run("location.hash = '#/m/drawn-vit/3'")
            page.wait(lambda: page.all("a.tile") and not page.all(".growing"))
            page.run("location.hash = '#/m/drawn-vit'")
            page.wait(lambda: len(page.all(".layers .strip")) == 4)
            assert not page.all("#lacking + p")
    finally:
        page.close()


@pytest.mark.browser
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_neuron_whose_images_came_before_its_figures_does_not_say_that_nobody_measured_it(
    evident_atlas: Path, tmp_path: Path
) -> None:
    """While an atlas grows, a layer has its pictures, and its exciting images, before what sums these up."""
    atlas, site = tmp_path / "atlas", tmp_path / "site"
    draw_atlas(atlas, (Drawn("drawn-vit", (96, 96, 70), probe_set=PROBE_SET),))
    shutil.copytree(evident_atlas / "neuron_examples" / "drawn-vit", atlas / "neuron_examples" / "drawn-vit")
    build_site(atlas, site)
    page = Page()
    try:
        with running(make_server(site, 0)) as address:
            page.open(f"{address}/#/n/drawn-vit/1/8", ".example img")
            told = [page.text(".tells")]
            page.open(f"{address}/#/e/n/drawn-vit/1/8", ".embed p")
            told.append(page.text(".embed p"))
            page.open(f"{address}/#/cmp?u=drawn-vit/mlp/1/8,drawn-vit/mlp/0/3", ".compare-table tbody")
            told += page.wait(lambda: [one.text for one in page.all(".compare-table tbody tr:nth-child(2) td")])
    finally:
        page.close()
    tried = "Tried on real images, its figures are still to come"
    assert told == [f"{tried}; nobody has judged its picture yet."] * 4
