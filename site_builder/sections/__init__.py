"""Sections of the site, in the order in which they are surveyed, written and told of.

A new table's pages are a module here (its description last), its line in SECTIONS, and a page in static/pages.
"""

from __future__ import annotations

from typing import Any

from site_builder.section import Section
from site_builder.sections import (
    examples,
    excited,
    heads,
    inversions,
    labels,
    matches,
    neuron_map,
    neurons,
    pictures,
    probes,
)

SECTIONS: tuple[Section[Any], ...] = (
    neurons.SECTION,
    pictures.SECTION,
    labels.SECTION,
    examples.SECTION,
    matches.SECTION,
    probes.SECTION,
    excited.SECTION,
    heads.SECTION,
    inversions.SECTION,
)

#: What a site has only where it is asked for, and which builds without it take away.
ON_REQUEST: tuple[Section[Any], ...] = (neuron_map.SECTION,)
