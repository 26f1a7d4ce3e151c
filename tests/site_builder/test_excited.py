"""Which neurons a probe image excites most: against the table of examples, row by row, and in the browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from browser import Seen, hosting, missing
from drawn_evidence import IMAGES, PROBE_SET, PROBE_SET_UNFREE, TOP
from test_build import manifest_of, stamps

from atlas_schema.read import Atlas
from site_builder.build import build_site
from site_builder.sections import excited
from site_builder.survey import survey


@pytest.fixture(scope="module")
def site(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "pages"
    build_site(evident_atlas, out)
    return out


def plainly(atlas: Path, probe_set: str, image: int) -> list[tuple[str, int, int, int]]:
    """Slug, layer, unit and rank of the neurons that keep an image among their strongest, in their order."""
    reader, found = Atlas(str(atlas)), []
    for slug in (row["slug"] for row in reader.models()):
        for layer in reader.layers(slug):
            rows = reader.examples(slug, layer)
            kept: dict[int, list[dict[str, Any]]] = {}
            for row in rows.to_pylist() if rows is not None else ():
                if row["kind"] == "top" and row["probe_set"] == probe_set:
                    kept.setdefault(row["unit"], []).append(row)
            for unit, own in kept.items():
                activations = [row["activation"] for row in own]
                span = max(abs(max(activations)), 1e-12)
                for row in own:
                    if row["image_index"] == image:
                        lead = (row["activation"] - min(activations)) / span
                        found.append((row["rank"], -round(lead, 4), slug, layer, unit))
    return [(slug, layer, unit, rank) for rank, _, slug, layer, unit in sorted(found)]


def packed(site: Path, unpacked: Callable[[Path], Any], probe_set: str, image: int) -> tuple[int, list[dict[str, Any]]]:
    """How many neurons there are of an image, and those that its pack lists."""
    manifest = manifest_of(site)
    about = manifest["excited"][probe_set]
    pack = unpacked(site / about["folder"] / "00" / f"{image // about['pack']:05d}.json.gz")
    columns = pack["columns"]
    places = [at for at, one in enumerate(columns["unit"]) if one == image]
    rows = [pack["shared"] | {name: values[at] for name, values in columns.items()} for at in places]
    slugs = [model["slug"] for model in manifest["models"]]
    return pack["counts"][image % about["pack"]], [row | {"slug": slugs[row["model"]]} for row in rows]


@pytest.mark.parametrize("probe_set", [PROBE_SET, PROBE_SET_UNFREE])
def test_an_image_has_the_neurons_that_keep_it_among_their_strongest(
    probe_set: str, site: Path, evident_atlas: Path, unpacked: Callable[[Path], Any]
) -> None:
    reader = Atlas(str(evident_atlas))
    for image in (0, 7, IMAGES - 1):
        expected = plainly(evident_atlas, probe_set, image)
        count, rows = packed(site, unpacked, probe_set, image)
        assert count == len(expected) > 0
        assert [(row["slug"], row["layer"], row["neuron"], row["rank"]) for row in rows] == expected
        for row in rows[:5]:
            address = f"{row['slug']}/mlp/{row['layer']}/{row['neuron']}"
            assert row["label"] == reader.neuron(address, ["label"])["label"]


def test_of_many_neurons_those_that_come_first_are_listed_and_all_are_counted(
    evident_atlas: Path, tmp_path: Path, unpacked: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(excited, "MOST", 5)
    build_site(evident_atlas, tmp_path)
    expected = plainly(evident_atlas, PROBE_SET, 7)
    count, rows = packed(tmp_path, unpacked, PROBE_SET, 7)
    assert (count, len(rows)) == (len(expected), 5)
    assert [row["neuron"] for row in rows] == [unit for _, _, unit, _ in expected[:5]]
    assert manifest_of(tmp_path)["excited"][PROBE_SET]["most"] == 5


def test_the_size_is_foretold_and_nothing_is_made_twice(site: Path, evident_atlas: Path) -> None:
    held = excited.survey(survey(Atlas(str(evident_atlas))).outline)
    said = excited.size(held, "sprite")
    files = [path for path in site.glob("x/**/*") if path.is_file()]
    assert said.files == len(files)
    written = sum(path.stat().st_size for path in files)
    assert written <= said.bytes < 6 * written
    before = stamps(site)
    build_site(evident_atlas, site)
    after = stamps(site)
    assert {path: after[path] for path in before if path.startswith("x/")} == {
        path: stamp for path, stamp in before.items() if path.startswith("x/")
    }


def test_equal_ranks_follow_how_far_the_image_stands_out() -> None:
    """Unit 1's strongest image is twice its weakest, unit 2's ten times."""
    rows = {"unit": [1, 1, 2, 2], "rank": [0, 1, 0, 1], "activation": [2.0, 1.0, 5.0, 0.5], "image_index": [3, 4, 3, 4]}
    found = excited.places_of(pa.table(rows), 0, 6).ordered()
    assert found.image.tolist() == [3, 3, 4, 4]
    assert found.unit.tolist() == [2, 1, 1, 2]
    assert found.lead.tolist() == pytest.approx([0.9, 0.5, 0, 0])


def test_an_atlas_without_examples_has_no_such_pages(small_atlas: Path, tmp_path: Path) -> None:
    build_site(small_atlas, tmp_path / "site")
    assert manifest_of(tmp_path / "site")["excited"] == {}
    assert not list((tmp_path / "site").glob("x/*"))


@pytest.fixture(scope="module")
def seen(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    if missing():
        pytest.skip(missing())
    with hosting(tmp_path_factory.mktemp("host"), small=evident_atlas) as seen, seen.quiet():
        yield seen


@pytest.mark.browser
def test_an_image_beside_a_neuron_leads_to_all_that_it_excites(seen: Seen, evident_atlas: Path) -> None:
    page = seen.open("#/n/drawn-vit/1/8", ".example img")
    page.run("document.querySelector('.example .class a').focus()")
    address = page.run("return document.activeElement.getAttribute('href')")
    page.key("\ue007")  # Enter
    page.wait(lambda: page.all(".probe img"))
    number = int(address.rpartition("/")[2])
    expected = plainly(evident_atlas, PROBE_SET, number)
    assert f"{len(expected)} neurons" in page.text("[role=status]:not(.spoken)")
    shown = [one.get_attribute("href").partition("#")[2] for one in page.all(".counterparts a")]
    assert shown == [f"/n/{slug}/{layer}/{unit}" for slug, layer, unit, _ in expected[:24]]
    assert page.text(".counterparts .note") == "its strongest image"
    assert f"its {TOP} strongest of {IMAGES} images" in page.text("section[aria-labelledby=excited]")
    page.choose("#of-model", "drawn-pit")
    page.wait(lambda: page.driver.current_url.endswith("?m=drawn-pit"))
    wanted = [one for one in expected if one[0] == "drawn-pit"]
    page.wait(lambda: len(page.all(".counterparts .neuron-tile")) == len(wanted[:24]))
    page.key("\ue014")  # to the next image
    page.wait(lambda: page.driver.current_url.endswith(f"/{number + 1}"))


@pytest.mark.browser
def test_images_of_a_set_are_leafed_through_and_one_that_is_not_there_is_told(seen: Seen) -> None:
    page = seen.open(f"#/p/{PROBE_SET}", ".probes img")
    assert len(page.all(".probes a")) == 48
    page.all(".pager a")[-1].click()
    page.wait(lambda: page.driver.current_url.endswith("?page=2"))
    page.wait(lambda: page.all(".probes a") and page.all(".probes a")[0].get_attribute("href").endswith("/48"))
    page.all(".probes a")[3].click()
    page.wait(lambda: page.text("h1 .of") == "probe image 51")
    seen.open(f"#/p/{PROBE_SET_UNFREE}/3", ".counterparts .neuron-tile")
    assert "is not part of this atlas" in page.text(".probe .note")
    seen.open(f"#/p/{PROBE_SET}/{IMAGES}", ".failure")
    assert f"has {IMAGES} images, 0 to {IMAGES - 1}" in page.text(".failure")
    seen.open("#/", ".intro .more")
    assert f"{IMAGES} probe images" in page.text(".intro")
