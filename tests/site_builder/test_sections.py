"""A new table's pages are one Python object and one page of JavaScript: a toy section, from its rows to the browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from browser import Page, missing, plain_server
from drawn_atlas import PROVENANCE, Drawn, draw_atlas, write_model

from atlas_schema.columns import Column, Table
from atlas_schema.errors import NothingThere
from atlas_schema.read import Atlas
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from site_builder import app, budget
from site_builder.attribution import worked_on
from site_builder.build import build_site
from site_builder.folders import write_by_content
from site_builder.outline import Outline
from site_builder.packs import dump
from site_builder.reading import count_rows, lists_of
from site_builder.section import Section, Size, Stage, Work, Written
from site_builder.sections import (
    SECTIONS,
    examples,
    excited,
    heads,
    inversions,
    labels,
    matches,
    neurons,
    pictures,
    probes,
)
from site_builder.survey import survey

TOYS = Table(
    name="toys",
    row="a toy of a model",
    key=("slug", "number"),
    columns=(
        Column("slug", pa.string(), "Model that owns the toy"),
        Column("number", pa.int32(), "Index among the toys of the model, from 0"),
        Column("colour", pa.string(), "Colour that the toy is painted in"),
    ),
)


def write_toys(work: Work, held: dict[str, int]) -> Written:
    """A folder a model, one file in it."""
    rows = {slug: lists_of(work.outline.atlas.rows(TOYS, slug)) for slug in held}
    folders = {
        slug: write_by_content(work.folder, f"t/{slug}", {"toys.json.gz": dump(own["colour"])})
        for slug, own in rows.items()
    }
    return Written(
        paths=set(folders.values()),
        manifest={"toy_box": True},
        models={slug: {"toys": {"folder": folders[slug], "count": held[slug]}} for slug in held},
        stages={slug: ["play"] for slug in held},
        counts={"toy_folders": len(folders)},
        said=f"{sum(held.values())} toys",
    )


def survey_toys(outline: Outline) -> dict[str, int]:
    """Toys of each model that has any, from footers."""
    found = {slug: count_rows(outline.atlas, TOYS, slug) for slug in outline.slugs}
    return {slug: count for slug, count in found.items() if count}


TOY_SECTION = Section(
    name="toys",
    tables=(TOYS,),
    entered="t/{slug}",
    folders=("t/*",),
    survey=survey_toys,
    size=lambda held, images: Size(len(held), 100 * sum(held.values()), 1),
    write=write_toys,
    counts=lambda held: {"toys": sum(held.values())},
    stages=(Stage("play", "play", "toys", "something to play with"),),
)

TOY_PAGE = """
import { fetchJson, findModel } from "../data.js";
import { html } from "../vendor/htm-preact.js";
import { Explained, Failure, useLoaded } from "../parts.js";

export function ToyPage({ route }) {
  const { folder } = findModel(route.slug).toys;
  const { value, error } = useLoaded(() => fetchJson(`${folder}/toys.json.gz`), [folder]);
  return html`<h1>Toys of ${route.slug}</h1>${error && html`<${Failure} error=${error} />`}
    <p class="toys"><${Explained} name="colours" table="toys" column="colour" />: ${(value ?? []).join(", ")}</p>`;
}
"""
TOY_LINE = """  { page: "toy", form: "t/{slug}", late: "toy.js",
    entry: ({ slug, toys }, { html, link }) => toys && html`<a href=${link.toy(slug)}>${toys.count} toys</a>` },
"""


@pytest.fixture
def toy_atlas(tmp_path: Path) -> str:
    atlas = draw_atlas(tmp_path / "atlas", (Drawn("one", (8,)), Drawn("two", (8, 8))))
    rows = [{"slug": "two", "number": number, "colour": colour} for number, colour in enumerate(("red", "green"))]
    write_rows(Store(atlas), TOYS, "two", rows, provenance=PROVENANCE)
    return atlas


def manifest_of(site: Path) -> dict[str, Any]:
    found = re.search(r'id="manifest">(.*?)</script>', (site / "index.html").read_text(encoding="utf-8"), re.S)
    assert found
    return json.loads(found[1])


def test_a_new_section_is_surveyed_counted_written_and_told_of(toy_atlas: str, tmp_path: Path) -> None:
    sections = (*SECTIONS, TOY_SECTION)
    held = survey(Atlas(toy_atlas), sections)
    assert held.counts["toys"] == 2
    without = budget.estimate(survey(Atlas(toy_atlas)), "sprite")
    assert budget.estimate(held, "sprite") == without + Size(1, 200, 1)

    report = build_site(toy_atlas, tmp_path / "site", sections=sections)
    assert (report.counts["toys"], report.counts["toy_folders"]) == (2, 1)
    assert "2 toys" in str(report)
    manifest = manifest_of(tmp_path / "site")
    assert manifest["toy_box"] is True
    assert manifest["columns"]["toys"]["colour"]["means"] == "Colour that the toy is painted in"
    assert ["play", "play", "toys", "something to play with"] in manifest["stages"]
    one, two = manifest["models"]
    assert "toys" not in one
    assert (one["stages"], two["stages"]) == (["visualize"], ["visualize", "play"])
    assert (tmp_path / "site" / two["toys"]["folder"] / "toys.json.gz").is_file()


def test_what_a_section_no_longer_names_is_removed_and_the_rest_stays(toy_atlas: str, tmp_path: Path) -> None:
    site, sections = tmp_path / "site", (*SECTIONS, TOY_SECTION)
    build_site(toy_atlas, site, sections=sections)
    old = manifest_of(site)["models"][1]["toys"]["folder"]
    (site / "mine.txt").write_text("not of the site")
    rows = [{"slug": "two", "number": 0, "colour": "blue"}]
    write_rows(Store(toy_atlas), TOYS, "two", rows, provenance=PROVENANCE)
    report = build_site(toy_atlas, site, sections=sections)
    assert not (site / old).exists()
    assert (site / manifest_of(site)["models"][1]["toys"]["folder"]).is_dir()
    assert (site / "mine.txt").exists()
    assert report.counts["layers_reused"] == report.counts["layers"] == 3


def test_a_site_may_have_one_section_alone(toy_atlas: str, tmp_path: Path) -> None:
    report = build_site(toy_atlas, tmp_path / "site", sections=(TOY_SECTION,))
    assert report.counts == {"toys": 2, "toy_folders": 1}
    assert {path.name for path in (tmp_path / "site").iterdir() if path.is_dir() and "app" not in path.name} == {
        "d",
        "t",
    }
    shutil.rmtree(Path(toy_atlas) / "toys")
    with pytest.raises(NothingThere, match="no toys to show yet"):
        build_site(toy_atlas, tmp_path / "other", sections=(TOY_SECTION,))


def test_sections_own_their_names_and_no_two_tell_the_same(evident_atlas: Path, tmp_path: Path) -> None:
    """Of two sections that told the same, pages would read the last one alone."""
    assert len({section.name for section in SECTIONS}) == len(SECTIONS)
    told: list[str] = []
    kinds = ("models", "layers", "facts")

    def telling(section: Section[Any]) -> Section[Any]:
        def write(work: Work, held: Any) -> Written:
            written = section.write(work, held)
            told.extend(written.manifest)
            keys = {name: {key for own in getattr(written, name).values() for key in own} for name in kinds}
            told.extend(f"{name}.{key}" for name, own in keys.items() for key in own)
            told.extend(written.counts)
            return written

        return replace(section, write=write)

    build_site(evident_atlas, tmp_path / "site", sections=[telling(section) for section in SECTIONS])
    assert sorted(told) == sorted(set(told))


@pytest.mark.browser
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_new_page_opens_by_its_address_and_a_model_leads_to_it(
    toy_atlas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = tmp_path / "static"
    shutil.copytree(app.STATIC, static)
    (static / "pages" / "toy.js").write_text(TOY_PAGE)
    pages, begin = (static / "pages" / "index.js").read_text(), "export const PAGES = [\n"
    (static / "pages" / "index.js").write_text(pages.replace(begin, begin + TOY_LINE))
    monkeypatch.setattr(app, "STATIC", static)
    build_site(toy_atlas, tmp_path / "site", sections=(*SECTIONS, TOY_SECTION))
    with plain_server(tmp_path) as (address, asked):
        page = Page()
        try:
            page.open(f"{address}/site/#/t/two", ".toys")
            page.wait(lambda: "red, green" in page.text(".toys"))
            assert page.text("h1") == "Toys of two"
            page.all(".toys .why")[0].click()
            assert "Colour that the toy is painted in" in page.text(".toys .means")
            page.open(f"{address}/site/#/m/two", ".layers")
            asked.clear()
            page.wait(lambda: page.all('.lede a[href="#/t/two"]'))[0].click()
            page.wait(lambda: "red, green" in page.text(".toys"))
            page.open(f"{address}/site/#/m/one", ".lacking")
            assert not page.all('a[href^="#/t/"]')
            assert "has no play stage for one, which adds something to play with" in page.text(".lacking")
            assert page.console() == []
        finally:
            page.close()


def run_of(*entries: dict[str, Any], command: str = "") -> dict[str, Any]:
    return {"config": json.dumps({"models": entries}), "command": command}


def model_of(model_id: str, slug: str) -> dict[str, Any]:
    return {"model_id": model_id, "slug": slug}


SMALL = model_of("timm/vit_small_patch16_224.augreg_in1k", "vit-small-patch16-224--augreg-in1k")


@pytest.mark.parametrize(
    ("entry", "model", "right"),
    [
        ({"model": "zoo/vit"}, model_of("zoo/vit", "zoo-vit"), True),
        ({"model": "zoo/vit-small"}, model_of("zoo/vit", "zoo-vit"), False),
        ({"model": "zoo/vit", "name": "vit-small"}, model_of("zoo/vit", "vit"), False),
        ({"model": "zoo/vit", "name": "vit"}, model_of("zoo/vit", "zoo-vit"), False),
        ({"model": "zoo/vit"}, model_of("zoo/vit", "my-vit"), False),
        ({"model": "zoo/vit", "name": "My ViT"}, model_of("zoo/vit", "my-vit"), True),
        ({"model": "zoo/*"}, model_of("zoo/vit", "zoo-vit"), True),
        ({"model": "timm/vit_*"}, SMALL, True),
        ({"model": "timm/vit_base*"}, SMALL, False),
        ({"model": "timm/vit_small_patch16_224"}, SMALL, True),
        ({"model": "timm/vit_small_patch16_224.augreg_in21k"}, SMALL, False),
        ({"model": "open_clip/ViT-B-32/openai"}, model_of("open_clip/ViT-B-32/openai", "clip-vit-b-32--openai"), True),
        ({"model": "timm/x.tag", "random_weights": True}, model_of("timm/x", "x--random"), True),
        ({"model": "timm/x"}, model_of("timm/x", "x--random"), False),
        ({"model": "timm/x.tag", "random_weights": True}, model_of("timm/x.tag", "x--tag"), False),
        ({"model": "nonsense"}, model_of("nonsense", "nonsense"), False),
        ({"model": "zoo/vit", "name": "???"}, model_of("zoo/vit", "zoo-vit"), False),
    ],
)
def test_a_run_counts_for_the_models_that_its_configuration_asks_for(
    entry: dict[str, Any], model: dict[str, Any], right: bool
) -> None:
    assert worked_on(run_of(entry, command="neuron-atlas run --model zoo/vit --as my-vit"), model) is right


@pytest.mark.parametrize("config", ["", "no JSON", "[]", "null", '{"models": null}', '{"models": ["zoo/vit"]}', None])
def test_a_configuration_that_cannot_be_read_asks_for_no_model(config: str | None) -> None:
    assert not worked_on({"config": config, "command": "zoo/vit"}, model_of("zoo/vit", "zoo-vit"))


def test_the_site_gives_each_model_its_own_runs(tmp_path: Path, unpacked: Callable[[Path], Any]) -> None:
    """The slug of the one is part of the other's: a text search gave both runs to the first."""
    atlas = draw_atlas(tmp_path / "atlas", (Drawn("vit-small", (8,)),))
    write_model(Store(atlas), Drawn("vit", (8,)))
    build_site(atlas, tmp_path / "site")
    runs = {
        entry["slug"]: len(unpacked(tmp_path / "site" / entry["file"])["runs"])
        for entry in manifest_of(tmp_path / "site")["models"]
    }
    assert runs == {"vit": 0, "vit-small": 1}


@pytest.mark.parametrize(
    ("module", "setting", "value", "folders"),
    [
        (neurons, "FIRST", 16, r"d/[\w-]+/\d{5}-[0-9a-f]{12}$"),
        (pictures, "FORMAT", "next", r"d/[\w-]+/\d{5}-pictures-"),
        (examples, "PACK", 32, r"d/[\w-]+/\d{5}-examples-"),
        (matches, "PACK", 32, r"d/[\w-]+/\d{5}-matches-"),
        (matches, "CLUSTER_PACK", 8, "[rs]/clusters-"),
        (excited, "IMAGE_PACK", 8, "x/"),
        (excited, "MOST", 8, "x/"),
        (labels, "TEXT_PACK", 8, "s/(index|faces)-"),
        (probes, "PROBE_BUNDLE", 2, "p/"),
        (heads, "READ_PACK", 64, r"d/[\w-]+/heads-"),
        (inversions, "SHEET", 16, r"d/[\w-]+/inversions-"),
    ],
)
def test_a_folder_is_named_by_every_setting_that_decides_its_files(
    built_evident: frozenset[str],
    evident_atlas: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    setting: str,
    value: object,
    folders: str,
) -> None:
    """Else a site that was built before the setting changed would keep files that the new scripts read otherwise."""
    monkeypatch.setattr(module, setting, value)
    needed = [one for one in SECTIONS if one in (module.SECTION, inversions.SECTION)]  # inversions: something to show
    made = folders_of(evident_atlas, tmp_path, needed)
    own, before = ({one for one in names if re.match(folders, one)} for names in (made, built_evident))
    assert len(own) == len(before) > 0
    assert not own & before


@pytest.fixture(scope="module")
def built_evident(evident_atlas: Path, tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    return folders_of(evident_atlas, tmp_path_factory.mktemp("as-it-is"), SECTIONS)


def folders_of(atlas: Path, folder: Path, sections: Sequence[Section[Any]]) -> frozenset[str]:
    """Paths of all folders that hold files, of a site with these sections."""
    build_site(atlas, folder / "site", workers=1, sections=sections)
    return frozenset(path.parent.relative_to(folder / "site").as_posix() for path in (folder / "site").rglob("*.*"))
