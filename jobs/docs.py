"""docs/stages.md, generated from the stages: `python -m jobs.docs docs/stages.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from atlas_schema.card import markdown_table
from atlas_schema.tables import tables_filled_by
from jobs import stages
from jobs.facts import FACTS
from jobs.stages import Stage
from jobs.stages.stage import never

_HEAD = """# Stages

This page is generated from `jobs/stages/` and `jobs/facts.py`; do not edit it. To write it again:

    python -m jobs.docs docs/stages.md

A run does the stages of the groups that `--stages` names, and all stages that these read. Each stage of a model is
divided into work units along one axis; what a unit computed is committed as a part, and a part is used again exactly
where its key is the same: the weights, how the model is fed, the version of the stage, the values of its facts, and
the same of every stage that it reads. The facts of a model's stages stand in the column `stages` of the table
`models`, so that it can be seen what an atlas was made with."""

_ALONG = {
    "neurons": "neurons of a layer",
    "images": "images",
    "model": "the whole model",
    "targets": "classes and texts",
    "readings": "classes and texts, by each reader",
    "pair": "pairs of models",
}


def page() -> str:
    """The whole page, as Markdown."""
    return "\n\n".join([_HEAD, _overview(), *map(_section, stages.STAGES), _facts()]) + "\n"


def _overview() -> str:
    rows = [(f"[`{one.name}`](#{one.name})", _group(one), _along(one), one.does) for one in stages.STAGES]
    return markdown_table(("stage", "group", "divided along", "what it does"), rows)


def _group(stage: Stage) -> str:
    return f"`{stage.group}`" if stage.group else "where it is read"


def _along(stage: Stage) -> str:
    if stage.cut == "images" and stage.over == "panel":
        return "images of the panel"
    if stage.samples is not never:
        return "images, of some families of the panel"
    return "layers" if stage.together else _ALONG[stage.cut]


def _section(stage: Stage) -> str:
    return "\n".join([f"## {stage.name}", "", f"{stage.does}.", "", *_lines(stage)])


def _lines(stage: Stage) -> Iterator[str]:
    owner = "the model that compares images with texts" if stage.owner == "embedder" else "each model of the run"
    yield f"- Runs on: {owner}"
    if stage.reads:
        yield f"- Reads: {', '.join(_link(name) for name in stage.reads)}"
    if stage.reads_if_there:
        yield f"- Reads where it is there: {', '.join(_link(name) for name in stage.reads_if_there)}"
    facts = "; ".join(f"{FACTS[name].means[0].lower()}{FACTS[name].means[1:]}" for name in stage.facts)
    if stage.samples is not never:
        facts += "; of models whose heads are measured on the panel, how many images that is"
    yield f"- Decided by: {facts or 'what it reads, and nothing else'} (version {stage.version})"
    tables = [table.name for table in tables_filled_by(stage.name)]
    filled = ", ".join(f"[`{name}`](tables.md#{name})" for name in tables)
    yield f"- Fills: {filled or 'no table; later stages read what it keeps'}"


def _link(name: str) -> str:
    return f"[`{name}`](#{name})"


def _facts() -> str:
    rows = [(f"`{fact.name}`", fact.means) for fact in FACTS.values()]
    return "## Facts\n\n" + markdown_table(("fact", "what it is"), rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m jobs.docs docs/stages.md")
    Path(sys.argv[1]).write_text(page())
