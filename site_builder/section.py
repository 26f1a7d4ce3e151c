"""What a section is: a table of the dataset, or a few that belong together, on its way to the pages that show them.

Data flows one way, and each step of a section sees no more than what came before:

    survey(outline)     what the atlas has for it, read from footers and small columns
    size(held, images)  the files and bytes that it will write, from above; nothing is written until the sum fits
    write(work, held)   its files, in folders named by their content, and what the manifest says of them

`site_builder.sections.SECTIONS` lists them; everything else loops over that list and names no section.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from atlas_schema.columns import Table
from site_builder.outline import Outline

Held = TypeVar("Held")


@dataclass(frozen=True)
class Size:
    """Files, their bytes, and the entries of the fullest folder."""

    files: int = 0
    bytes: int = 0
    largest_folder: int = 0

    def __add__(self, other: Size) -> Size:
        largest = max(self.largest_folder, other.largest_folder)
        return Size(self.files + other.files, self.bytes + other.bytes, largest)

    def __str__(self) -> str:
        return f"{self.files:,} files, {megabytes(self.bytes)}"


def megabytes(size: int) -> str:
    """Bytes in words: 23.1 MB, 1.50 GB."""
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.2f} GB"


@dataclass(frozen=True)
class Stage:
    """A stage of the pipeline whose work a section shows, as the pages speak of it."""

    name: str  # as the dataset's columns and `Written.stages` name it
    command: str  # of `neuron-atlas run --stages`
    has: str  # what a model has of it, in two or three words
    adds: str  # what it adds where a model has none, in a sentence


@dataclass(frozen=True)
class Work:
    """What writing needs: the atlas in outline, the folder of the site, where large pictures lie, and threads."""

    outline: Outline
    folder: Path
    images: str  # sprite, files or range
    pool: Executor


@dataclass(frozen=True)
class Written:
    """What a section wrote, and what the pages are told of it. A model's entry and a layer's are in the manifest."""

    paths: set[str] = field(default_factory=set)  # files and folders in the site, kept when old ones are removed
    manifest: Mapping[str, Any] = field(default_factory=dict)  # of the whole site
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # joins the entry of a model, by slug
    layers: Mapping[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)  # of a layer, by slug and layer
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # joins the file of a model, by slug
    stages: Mapping[str, Sequence[str]] = field(default_factory=dict)  # names of `Stage` that a model has, by slug
    counts: Mapping[str, int] = field(default_factory=dict)  # for the report, beside those of the survey
    said: str = ""  # a phrase of the report


@dataclass(frozen=True, kw_only=True)
class Section(Generic[Held]):
    """A part of the site, from the tables that it reads to the pages that show it."""

    name: str  # what it shows, in the plural
    tables: tuple[Table, ...]  # that it reads: the sentences of their columns come with the manifest
    entered: str  # form of address of the page that shows it
    folders: tuple[str, ...]  # patterns of what it writes in the site: there, what no page names any longer is removed
    survey: Callable[[Outline], Held]
    size: Callable[[Held, str], Size]
    write: Callable[[Work, Held], Written]
    counts: Callable[[Held], Mapping[str, int]] = lambda _: {}  # what it can show by itself; all zero: nothing
    stages: tuple[Stage, ...] = ()
