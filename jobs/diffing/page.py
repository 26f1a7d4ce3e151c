"""A comparison as one HTML page that stands by itself: counts by layer, pairs of pictures, texts of heads."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from atlas_schema.address import NeuronAddress
from atlas_schema.errors import NothingThere
from atlas_schema.read import Atlas
from jobs.diffing.diff import ModelDiff, Row
from jobs.diffing.sides import Side
from jobs.diffing.text import how, overall

MOST = 24  # pairs of pictures of a group, and heads
IMAGES = 3  # that excite a neuron most
_PAGE = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


@dataclass(frozen=True)
class _Group:
    """Neurons of one fate: which, in which order, and whom each is shown beside."""

    title: str
    says: str
    belongs: Callable[[Row], bool]
    told: Callable[[Row], str]
    side: str = "a"
    order: str = "the least alike first"
    rank: Callable[[Row], Any] = lambda row: row["same_likeness"] or 0.0
    beside: str = "address_there"  # what says the address of the neuron of the other model


def _same(row: Row) -> str:
    if row["same_likeness"] is None:
        return "not among the most alike of each other"
    return f"likeness with the same address {row['same_likeness']:.2f}"


def _gone(row: Row, there: str) -> str:
    nearest = row.get("partner")
    near = f"; the nearest is {nearest} ({figure(row['partner_likeness'])}), no nearer than neurons that differ are"
    return f"{_same(row)}{f'; silent in {there}' if row['silent_there'] else ''}{near if nearest else ''}"


def _partner(row: Row) -> str:
    return f"likeness {figure(row['partner_likeness'])}; {_same(row)}"


def _fate(name: str) -> Callable[[Row], bool]:
    return lambda row: bool(row["fate"] == name)


GROUPS = (
    _Group(
        title="Neurons that moved",
        says="Left the neuron of A, right the unit of B that is like it.",
        belongs=_fate("moved"),
        told=_partner,
        order="the most alike first",
        rank=lambda row: -(row["partner_likeness"] or 0.0),
        beside="partner",
    ),
    _Group(
        title="Neurons that died",
        says="Left the neuron of A, right what is at its address in B.",
        belongs=_fate("died"),
        told=lambda row: _gone(row, "B"),
    ),
    _Group(
        title="Neurons that appeared",
        says="Left the neuron of B, right what is at its address in A.",
        belongs=_fate("appeared"),
        told=lambda row: _gone(row, "A"),
        side="b",
    ),
    _Group(
        title="Kept neurons with another label",
        says="Left A, right B, the same address.",
        belongs=lambda row: row["fate"] == "kept" and row["label_change"] == "changed",
        told=_same,
    ),
)


def page_of(diffs: Sequence[ModelDiff]) -> str:
    """The page; pictures are read from the atlases and stand in it."""
    title = " and ".join(dict.fromkeys(f"{diff.first.slug} → {diff.second.slug}" for diff in diffs))
    told = [_told(diff) for diff in diffs]
    return _PAGE.get_template("page.html").render(title=f"What changed: {title}", diffs=told, figure=figure)


def figure(value: float | None) -> str:
    """A likeness as the page prints it; a dash where it is not among the known."""
    return "–" if value is None else f"{value:.2f}"


def _told(diff: ModelDiff) -> dict[str, Any]:
    heads = [row for row in diff.rows if row["kind"] == "head" and row["fate"] == "changed"]
    heads.sort(key=lambda row: row["same_likeness"] or 0.0)
    return {
        "a": _named(diff.first),
        "b": _named(diff.second),
        "overall": overall(diff),
        "how": how(diff),
        "notes": diff.notes,
        "layers": diff.layers,
        "groups": [_group(diff, group) for group in GROUPS],
        "heads": heads[:MOST],
        "heads_left": max(0, len(heads) - MOST),
    }


def _named(side: Side) -> str:
    """The model and its atlas; of a folder the last name alone, as the page may go to others."""
    atlas = side.url if "://" in side.url else Path(side.url).resolve().name
    return f"{side.slug} in {atlas}"


def _group(diff: ModelDiff, group: _Group) -> dict[str, Any]:
    own = (row for row in diff.rows if row["kind"] == "neuron" and row["side"] == group.side)
    rows = sorted(filter(group.belongs, own), key=group.rank)
    shown = rows[:MOST]
    models = (diff.first, diff.second) if group.side == "a" else (diff.second, diff.first)
    names = ("A", "B") if group.side == "a" else ("B", "A")
    labels = ("label", "partner_label" if group.beside == "partner" else "label_there")
    sides = [
        _shown(side, name, [row[key] for row in shown], [row[label] for row in shown])
        for side, name, key, label in zip(models, names, ("address", group.beside), labels, strict=True)
    ]
    return {
        "title": group.title,
        "says": group.says,
        "order": group.order,
        "left": len(rows) - len(shown),
        "pairs": [{"sides": pair, "says": group.told(row)} for row, *pair in zip(shown, *sides, strict=True)],
    }


def _shown(side: Side, name: str, addresses: Sequence[str], labels: Sequence[str | None]) -> list[dict[str, Any]]:
    """Neurons of one model as the page shows them; the images that excite them are read together."""
    images = side.atlas.exciting(addresses, IMAGES)
    return [
        {
            "of": name,
            "address": address,
            "label": label,
            "picture": _picture(side.atlas, address),
            "images": [_url(one) for one in images[NeuronAddress.parse(address)]],
        }
        for address, label in zip(addresses, labels, strict=True)
    ]


def _picture(atlas: Atlas, address: str) -> str | None:
    """The neuron's own picture; None where it has none."""
    try:
        return _url(atlas.picture(address))
    except NothingThere:
        return None


def _url(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
