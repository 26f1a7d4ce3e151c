"""Neurons and heads side by side: put aside on their pages, compared at an address that is the list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Page, Seen, hosting, missing, painted
from drawn_evidence import label_of

from atlas_schema.read import Atlas

pytestmark = [
    pytest.mark.browser,
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]

FOUR = ("drawn-vit/mlp/1/8", "drawn-pit/mlp/1/8", "drawn-vit/mlp/1/15", "drawn-vit/head/1/2")


@pytest.fixture(scope="module")
def seen(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with hosting(tmp_path_factory.mktemp("host"), small=evident_atlas) as seen:
        yield seen


def rows(page: Page) -> dict[str, list[str]]:
    """Name of a row -> the words of its cells."""
    found = page.run("""return [...document.querySelectorAll(".compare-table tbody tr")].map((row) =>
      [row.querySelector("th").innerText, [...row.querySelectorAll("td")].map((cell) => cell.innerText)])""")
    plain = [(" ".join(name.split()).removesuffix("?").strip(), cells) for name, cells in found]
    return {name: [" ".join(text.split()) for text in cells] for name, cells in plain}


def test_what_is_put_aside_is_compared_at_an_address(seen: Seen) -> None:
    page = seen.open("#/n/drawn-vit/1/8", ".picture img")
    assert not page.all(".tray")
    page.key("c")
    page.wait(lambda: page.text(".tray") == "Compare 1")
    page.run("location.hash = '#/h/drawn-vit/1/2'")
    page.wait(lambda: page.all(".level"))
    next(button for button in page.all(".address button") if button.text == "Add to compare").click()
    page.wait(lambda: page.text(".tray") == "Compare 2")
    page.all(".tray")[0].click()
    page.wait(lambda: len(page.all(".compare-table thead th")) == 2)
    assert page.driver.current_url.endswith("#/cmp?u=drawn-vit/mlp/1/8,drawn-vit/head/1/2")
    seen.open("#/n/drawn-vit/1/8", ".picture img")  # kept from visit to visit
    assert page.all("[aria-pressed=true].plain")[0].text == "In the comparison"
    page.key("c")
    page.wait(lambda: page.text(".tray") == "Compare 1")


def test_rows_hold_the_datasets_figures_and_lie_side_by_side(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open(f"#/cmp?u={','.join(FOUR)}&title=Stripes%20%26%20more", ".compare-table .example img")
    assert page.text("h1") == "Stripes & more"
    assert page.driver.title.startswith("Stripes & more")
    told = rows(page)
    atlas = Atlas(str(evident_atlas))
    neurons = [atlas.neuron(address) for address in FOUR[:3]]
    assert told["held-out AUROC"][:3] == [f"{row['label_auroc']:.3g}" for row in neurons]
    assert told["share of variance"][:3] == ["", "", ""]
    assert told["share of variance"][3].endswith("%")
    assert told["in one sentence"][0].startswith(("Fires on", "Probably fires on", "Perhaps fires on"))
    assert label_of(8) in told["in one sentence"][0]
    pair = "0.852 chance 0.35"
    assert told["correlation"][:2] == [f"with 2: {pair} with 3: {pair}", f"with 1: {pair}"]
    tops = page.run("""
      const top = (cell) => Math.round(cell.getBoundingClientRect().top);
      const rows = [...document.querySelectorAll(".compare-table tr")];
      return rows.map((row) => new Set([...row.children].map(top)).size);""")
    assert set(tops) == {1}
    page.through()
    assert painted(page.pixels(".compare-table .neuron-tile .shot", 0))


def test_the_same_images_share_one_heat_scale_that_is_said(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open(f"#/cmp?u={FOUR[0]},{FOUR[2]}", ".compare-table .example img")
    atlas = Atlas(str(evident_atlas))
    kept = {}
    for address in (FOUR[0], FOUR[2]):
        slug, _, layer, unit = address.split("/")
        table = atlas.examples(slug, int(layer))
        assert table is not None
        kept[address] = {row["image_index"]: row for row in table.to_pylist() if row["unit"] == int(unit)}
    both = set(kept[FOUR[0]]) & set(kept[FOUR[2]])
    same = [cells for name, cells in rows(page).items() if name.startswith("same image")]
    assert len(same) == min(8, len(both)) > 0
    assert all("not kept" not in cells for cells in same)
    most = max(row["map_high"] for own in kept.values() for row in own.values())
    assert f"one scale for all, from 0, clear, to {most:.3g}" in page.text(".scroll ~ .note")
    page.run("document.querySelector('[aria-label=\"Heat scale\"] button:last-child').click()")
    page.wait(lambda: "each neuron on its own scale" in page.text(".scroll ~ .note"))


def test_a_list_is_changed_on_its_page_and_mistakes_are_told(seen: Seen) -> None:
    page = seen.open(f"#/cmp?u={FOUR[0]},nonsense,{FOUR[1]},drawn-vit/mlp/1/999", ".compare-table")
    assert "No address: “nonsense”" in page.text(".failure")
    assert "there is no unit 999" in page.all(".compare-table thead th")[2].text
    page.run("document.querySelector('[aria-label=\"Take out drawn-vit/mlp/1/8\"]').click()")
    page.wait(lambda: len(page.all(".compare-table thead th")) == 2)
    assert "u=drawn-pit/mlp/1/8,drawn-vit/mlp/1/999" in page.driver.current_url
    field = page.all("#add-one")[0]
    field.send_keys("somewhere\n")
    page.wait(lambda: any("Expected an address" in note.text for note in page.all(".note")))
    page.run("arguments[0].select()", field)
    field.send_keys("drawn-swin/head/2/3\n")
    page.wait(lambda: page.driver.current_url.endswith("drawn-swin/head/2/3"))
    page.all("#list-title")[0].send_keys("Mine\t")
    page.wait(lambda: page.text("h1") == "Mine")
    many = ",".join(f"drawn-vit/mlp/1/{unit}" for unit in range(9))
    seen.open(f"#/cmp?u={many}", ".compare-table")
    assert len(page.all(".compare-table thead th")) == 6
    assert "The first 6 of 9" in page.text("main")
    seen.open("#/cmp")
    assert "Add one above" in page.text("main")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), pytest.param(1280, "light", marks=pytest.mark.slow)])
def test_nothing_sticks_out(width: int, scheme: str, seen: Seen) -> None:
    seen.page.size(width, 844, phone=width < 600)
    seen.page.scheme(scheme)
    page = seen.open(f"#/cmp?u={','.join(FOUR)}", ".compare-table .example img")
    page.through()
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert not page.all(".failure")
