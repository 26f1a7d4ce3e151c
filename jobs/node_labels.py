"""On which nodes of a cluster workers may be: those whose labels are as the option `node_label` says."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ONE = re.compile(r"(?P<name>[\w./-]+)=(?P<value>!?[\w.-]+)")


def selector(text: str | None) -> dict[str, str]:
    """`zone=a,ray.io/accelerator-type=!L4` as Ray takes it: each label with its value, `!`: any other, or none.

    ValueError for what is none.
    """
    found = {}
    for one in (text or "").split(",") if text is not None else ():
        match = _ONE.fullmatch(one.strip())
        if match is None:
            raise ValueError(f"{one!r} is no label; give NAME=VALUE, or NAME=!VALUE for all others, commas between")
        found[match["name"]] = match["value"]
    return found


def fits(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a node with these labels is one that is wanted."""
    return all(
        labels.get(name) != value[1:] if value.startswith("!") else labels.get(name) == value
        for name, value in wanted.items()
    )
