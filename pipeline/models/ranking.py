"""Which architectures a file's tensors fit: every one that some family claims, compared by names and shapes.

Names and shapes of all of them stand in a list beside this module; to write it again (some minutes):

    python -m pipeline.models.ranking

Several architectures have the same names and shapes (ViT and DeiT of one size): the file's own word for its
architecture comes first, else the shortest name.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from pipeline.models.catalogue import architectures
from pipeline.models.sources import blueprint
from pipeline.models.weights.layouts import LAYOUTS, NATIVE, Layout
from pipeline.models.weights.names import Names
from pipeline.models.weights.search import SHARE, Place, prefixes
from pipeline.models.weights.trial import assembled

MOST_BLOCKS = 64  # for which names of another library are tried
MOST_STAGES = 4
MOST_READINGS = 4  # prefixes under which a file is compared
LEAST_NAMES = 16  # of another library's, before a file is read as one of its
#: Parts of names whose shapes follow from the size of the pictures or the number of classes.
SIZED = ("pos_embed", "positional_embedding", "relative_position_bias_table", "head.", "head_dist.")

Shapes = dict[str, tuple[int, ...]]
LIST = Path(__file__).with_name("architectures.json.gz")


@dataclass(frozen=True)
class Candidate:
    """An architecture, and which share of its tensors and of the file's is the other's by name and shape."""

    id: str
    share: float  # of the architecture's tensors that the file has, but for those that follow from sizes and classes
    exact: float  # the same of all of its tensors
    extra: int  # tensors of the file, where the architecture is, that the architecture has not
    same: tuple[str, ...]  # other architectures with the same names and shapes
    layout: str
    prefix: str


@lru_cache(maxsize=1)
def known_shapes() -> dict[frozenset[tuple[str, tuple[int, ...]]], tuple[str, ...]]:
    """Architectures by the names and shapes of their tensors, from the list that `python -m pipeline.models.ranking`
    writes.
    """
    with gzip.open(LIST, "rt", encoding="utf-8") as file:
        kept = json.load(file)
    return {frozenset(_expanded(one["tensors"])): tuple(one["ids"]) for one in kept["architectures"]}


def ranked(names: Names, count: int = 3) -> list[Candidate]:
    """The architectures that a file fits best, best first; none where nothing of it has a name of any."""
    readings = [*_native(names), *_translated(names)]
    said = _said(names)
    found = [
        _candidate(shapes, models, reading, said) for shapes, models in known_shapes().items() for reading in readings
    ]
    best: dict[str, Candidate] = {}
    for candidate in sorted((one for one in found if one.share), key=_order):
        best.setdefault(candidate.id, candidate)
    return list(best.values())[:count]


def _order(candidate: Candidate) -> tuple[float, int, float, int, str]:
    return -candidate.share, candidate.extra, -candidate.exact, len(candidate.id), candidate.id


@dataclass(frozen=True)
class _Reading:
    """The tensors of a file under one prefix, by the names of an architecture."""

    shapes: Shapes
    layout: Layout
    prefix: str


def _candidate(
    shapes: frozenset[tuple[str, tuple[int, ...]]], models: Sequence[str], reading: _Reading, said: Sequence[str]
) -> Candidate:
    fixed = [(name, shape) for name, shape in shapes if not _sized(name)]
    there = sum(reading.shapes.get(name) == shape for name, shape in fixed)
    exact = sum(reading.shapes.get(name) == shape for name, shape in shapes)
    own = {name for name, _ in shapes}
    extra = sum(name not in own and not _sized(name) for name in reading.shapes)
    best = next((one for one in models if one in said), models[0])
    others = tuple(one for one in models if one != best)
    share, all_of = there / len(fixed), exact / len(shapes)
    return Candidate(best, share, all_of, extra, others, reading.layout.name, reading.prefix)


def _sized(name: str) -> bool:
    return any(part in name for part in SIZED)


def _said(names: Names) -> list[str]:
    """Architectures that the file's own settings name."""
    keys = ("arch", "model", "architecture", "model_name", "backbone")
    values = [value for name, value in names.values.items() if name.rpartition(".")[2] in keys]
    values += [names.config[key] for key in keys if key in names.config]
    texts = [value for value in values if isinstance(value, str)]
    return [f"{source}/{text.partition('.')[0]}" for source, text in product(("timm", "open_clip"), texts)]


def _native(names: Names) -> list[_Reading]:
    """Readings under the prefixes where most names of any architecture stand."""
    every = {name for shapes in known_shapes() for name, _ in shapes}
    found = prefixes(names.tensors, every).most_common(MOST_READINGS)
    return [_Reading(_shapes(names.tensors, prefix), NATIVE, prefix) for prefix, n in found if n >= found[0][1] * SHARE]


def _shapes(tensors: dict[str, Tensor], prefix: str) -> Shapes:
    return {key[len(prefix) :]: tuple(value.shape) for key, value in tensors.items() if key.startswith(prefix)}


def _translated(names: Names) -> Iterable[_Reading]:
    """Readings in the layouts of other libraries, where such names stand."""
    for layout in dict.fromkeys(layout for layouts in LAYOUTS.values() for layout in layouts):
        own = _names_of_ours(layout)
        sources = {source for name in own for source in (layout.sources(name) or ((), ""))[0] if source[0] != "^"}
        for prefix, found in prefixes(names.tensors, sources).most_common(1):
            if found < LEAST_NAMES:
                continue
            place = Place(layout, prefix, found)
            like = {name: torch.empty((1, 1, 1) if _of_tokens(name) else (), device="meta") for name in own}
            state, _ = assembled(place, names.tensors, like)
            yield _Reading({name: _as_own(name, value) for name, value in state.items()}, layout, prefix)


def _as_own(name: str, value: Tensor) -> tuple[int, ...]:
    """The shape as the architecture has it: class tokens and positions with a leading axis."""
    shape = tuple(value.shape)
    return (1,) * (3 - len(shape)) + shape if _of_tokens(name) else shape


def _of_tokens(name: str) -> bool:
    return name.rpartition(".")[2] in ("cls_token", "pos_embed", "dist_token", "reg_token")


@lru_cache(maxsize=64)
def _names_of_ours(layout: Layout) -> tuple[str, ...]:
    """All names of ours that a layout has rules for."""
    found: dict[str, None] = {}
    for rule in layout.rules:
        for stage, block, part in product(range(MOST_STAGES), range(MOST_BLOCKS), ("weight", "bias")):
            name = rule.own.replace("{s}", str(stage)).replace("{i}", str(block)).replace("{p}", part)
            found[name] = None
    return tuple(found)


# ------------------------------------------------------------------------------------------------------------ the list


def shapes_of(model: str) -> Shapes:
    """Names and shapes of an architecture's tensors, built without storage."""
    with torch.device("meta"):
        state = blueprint(model, own_weights=True).build().state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def kept(models: Iterable[str]) -> dict[str, object]:
    """The list of some architectures: those of the same names and shapes together, the shortest name first."""
    import open_clip
    import timm

    groups: dict[str, list[str]] = {}
    for model in models:
        folded = json.dumps(_folded(shapes_of(model)), sort_keys=True)
        groups.setdefault(folded, []).append(model)
    made = [
        {"ids": sorted(ids, key=lambda one: (len(one), one)), "tensors": json.loads(folded)}
        for folded, ids in groups.items()
    ]
    versions = {"timm": timm.__version__, "open_clip": open_clip.__version__}
    return {"made_with": versions, "architectures": sorted(made, key=lambda one: str(one["ids"]))}


_INDEX = re.compile(r"^(.*\.|)(\d+)(\..*|)$")


def _folded(shapes: Shapes) -> dict[str, list[int]]:
    """Blocks of equal shapes in one line: `blocks.{0:12}.norm1.weight`."""
    runs: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
    folded: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        found = _INDEX.match(name)
        if found:
            runs.setdefault((found.group(1), found.group(3), shape), []).append(int(found.group(2)))
        else:
            folded[name] = list(shape)
    for (before, after, shape), indices in runs.items():
        first, last = min(indices), max(indices) + 1
        if len(indices) == last - first:
            folded[f"{before}{{{first}:{last}}}{after}"] = list(shape)
        else:
            folded |= {f"{before}{index}{after}": list(shape) for index in indices}
    return folded


def _expanded(folded: dict[str, list[int]]) -> Iterable[tuple[str, tuple[int, ...]]]:
    for name, shape in folded.items():
        before, brace, rest = name.partition("{")
        if not brace:
            yield name, tuple(shape)
            continue
        run, _, after = rest.partition("}")
        first, last = map(int, run.split(":"))
        for index in range(first, last):
            yield f"{before}{index}{after}", tuple(shape)


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("usage: python -m pipeline.models.ranking")
    text = json.dumps(kept(architectures()), separators=(",", ":"), sort_keys=True)
    LIST.write_bytes(gzip.compress(text.encode(), mtime=0))
