"""What an atlas holds for each section of the site, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atlas_schema.read import Atlas
from site_builder.outline import Outline, outline_of
from site_builder.section import Section
from site_builder.sections import SECTIONS


@dataclass(frozen=True)
class Survey:
    """An atlas in outline, and what it holds for each section."""

    outline: Outline
    parts: tuple[tuple[Section[Any], Any], ...]  # each section with the answer of its own survey

    @property
    def counts(self) -> Mapping[str, int]:
        """What the sections can show, by name; all zero: nothing."""
        return {name: count for section, held in self.parts for name, count in section.counts(held).items()}


def survey(atlas: Atlas, sections: Sequence[Section[Any]] = SECTIONS) -> Survey:
    """Ask every section what the atlas has for it: footers and small columns are read. Raises ShardCorrupt."""
    outline = outline_of(atlas)
    return Survey(outline, tuple((section, section.survey(outline)) for section in sections))
