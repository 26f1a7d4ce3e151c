"""Every `neuron-atlas` command that the pages show is one that the program takes: nothing misspelt, nothing missing.

Here commands are read by the program's own parser, and nothing runs. Carried out are:

- docs/publishing.md, every block in its order, slow: `tests/jobs/publishing/test_docs.py`
- docs/diff.md, its `diff` commands and its Python: `tests/jobs/test_diff_docs.py`
- docs/checkpoints.md and docs/probe-sets.md, every form of a file or folder in their tables:
  `tests/pipeline/test_checkpoint_forms.py`, `tests/pipeline/test_image_forms.py`
- examples/first_look.ipynb, every cell: `tests/test_notebook.py`
- `neuron-atlas demo` as in README.md, on fewer neurons, slow: `tests/jobs/test_demo.py`
- README.md of every atlas (the card), its Python: `tests/atlas_schema/test_card.py`
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from atlas_schema.tables import TABLES
from jobs.cli import COMMANDS, GROUPS, make_app

ROOT = Path(__file__).parents[1]
APP = make_app()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`(neuron-atlas [^`]+)`(?!`)")
NAMES = {*COMMANDS, *GROUPS, *(name for _, commands in GROUPS.values() for name in commands)}
OPERATORS = ("&&", "||", "|", "&", ";", ">", "2>")


def commands_of(text: str) -> Iterator[list[str]]:
    """The words behind `neuron-atlas` of every command in the blocks of a page, comments and operators left out."""
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"\s*(\$ )?neuron-atlas ", line):
                yield from commands_in(line)


def commands_in(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in OPERATORS:
            words.append(word)
            continue
        if words[:1] == ["$"]:
            words = words[1:]
        if words[:1] == ["neuron-atlas"]:
            yield words[1:]
        words = []


def spans_of(text: str) -> Iterator[list[str]]:
    """The same of commands within sentences; not those that name a command alone."""
    for span in SPAN.findall(BLOCK.sub("", text)):
        yield from (words for words in commands_in(" ".join(span.split())) if any(word not in NAMES for word in words))


def all_of(text: str) -> list[list[str]]:
    return [*commands_of(text), *spans_of(text)]


FOUND = [(page.relative_to(ROOT).as_posix(), words) for page in PAGES for words in all_of(page.read_text())]


@pytest.mark.parametrize(("page", "words"), FOUND, ids=[f"{page}: {' '.join(words)[:60]}" for page, words in FOUND])
def test_a_command_of_a_page_is_one_that_the_program_takes(page: str, words: list[str]) -> None:
    command, _, _ = APP.parse_args(words, exit_on_error=False, print_error=False)
    assert command.__module__.startswith("jobs.commands") or words[-1] == "--help", "and not a group of commands"


def test_there_are_commands_to_read_and_a_misspelt_one_is_noticed() -> None:
    assert len(FOUND) > 80
    for line in ("neuron-atlas run --modle zoo/vit", "neuron-atlas rnu", "neuron-atlas site build a b c"):
        (words,) = commands_of(f"```\n{line}  # as a page has it\n```\n")
        with pytest.raises(CycloptsError):
            APP.parse_args(words, exit_on_error=False, print_error=False)
    two = "```\nneuron-atlas plan --model zoo/vit \\\n    --json > plan.json && neuron-atlas status atlas\n```\n"
    assert list(commands_of(two)) == [["plan", "--model", "zoo/vit", "--json"], ["status", "atlas"]]


def test_the_first_page_names_every_table_that_can_be_loaded() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in TABLES if f"`{name}`" not in text and f'"{name}"' not in text] == []
