"""The manifest, which every page begins with, and a file of facts for each model.

What is in them comes from the models, sites and runs tables, and from what each section wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atlas_schema.columns import Table
from atlas_schema.tables import MODELS, RUNS, SCHEMA_VERSION, SITES
from site_builder.attribution import worked_on
from site_builder.folders import write_file
from site_builder.outline import Outline
from site_builder.packs import dump
from site_builder.section import Section, Size, Written

#: Tables that no section reads: their rows are what every section starts from.
TABLES = (MODELS, SITES, RUNS)
#: The page with its manifest, mark, card and .nojekyll; and the facts of a model.
SITE_SIZE, MODEL_SIZE = Size(4, 80_000), Size(1, 20_000)
#: Where the facts lie.
FOLDERS = ("d/*", "d/*/*")

#: Each section with what it wrote.
Made = Sequence[tuple[Section[Any], Written]]


@dataclass(frozen=True)
class Overview:
    """What the pages are told, and the files that it names beside those of the sections."""

    manifest: dict[str, Any]
    paths: set[str]


def write(folder: Path, outline: Outline, made: Made) -> Overview:
    """Write the facts of every model into the site at `folder`, except those that are there, and the manifest."""
    runs = outline.atlas.runs()
    entries = [_model_entry(folder, outline, model, made, runs) for model in outline.models]
    manifest: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "columns": {table.name: explanations(table) for table in tables_of(section for section, _ in made)},
        "stages": [[one.name, one.command, one.has, one.adds] for section, _ in made for one in section.stages],
        "models": entries,
    }
    for _, written in made:
        manifest |= written.manifest
    return Overview(manifest, {entry["file"] for entry in entries})


def size(outline: Outline) -> Size:
    """Of the page and of all models' facts, from above."""
    return sum((MODEL_SIZE for _ in outline.models), SITE_SIZE)


def tables_of(sections: Any) -> list[Table]:
    """Tables that the pages show, each once."""
    found = (*(table for section in sections for table in section.tables), *TABLES)
    return list({table.name: table for table in found}.values())


def explanations(table: Table) -> dict[str, dict[str, str]]:
    """The sentences of a table's columns, which stand behind every figure."""
    return {
        column.name: {"means": column.means, "unit": column.unit, "absent": column.absent} for column in table.columns
    }


def _model_entry(
    folder: Path, outline: Outline, model: Mapping[str, Any], made: Made, runs: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    slug, sites = model["slug"], outline.sites[model["slug"]]
    facts: dict[str, Any] = {"model": model, "sites": sites, "attention": outline.attention.get(slug, [])}
    entry: dict[str, Any] = {name: model[name] for name in ("slug", "model_id", "family", "source", "neurons")}
    entry["stages"] = [name for _, written in made for name in written.stages.get(slug, ())]
    for _, written in made:
        facts |= written.facts.get(slug, {})
        entry |= written.models.get(slug, {})
    facts["runs"] = [run for run in runs if worked_on(run, model)]
    entry["file"] = write_file(folder, f"d/{slug}/model", ".json.gz", dump(facts))
    entry["layers"] = [_layer_entry(site, made) for site in sites]
    return entry


def _layer_entry(site: Mapping[str, Any], made: Made) -> dict[str, Any]:
    entry: dict[str, Any] = {"width": site["width"]}
    for _, written in made:
        entry |= written.layers.get((site["slug"], site["layer"]), {})
    return entry
