"""Which architectures a file's tensors fit: every one that some family claims, compared by names and shapes.

The architectures are built without storage, once a process; nothing of a file is loaded into them. Several have the
same names and shapes (ViT and DeiT of one size): the file's own word for its architecture comes first, else the
shortest name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from pipeline.models.catalogue import architectures
from pipeline.models.sources import blueprint
from pipeline.models.weights.layouts import LAYOUTS, NATIVE, Layout
from pipeline.models.weights.names import Names
from pipeline.models.weights.search import Place, prefixes
from pipeline.models.weights.trial import assembled

MOST_BLOCKS = 64  # for which names of another library are tried
MOST_STAGES = 4
#: Parts of names whose shapes follow from the size of the pictures or the number of classes.
SIZED = ("pos_embed", "positional_embedding", "relative_position_bias_table", "head.", "head_dist.")

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Candidate:
    """An architecture, and which share of its tensors and of the file's is the other's by name and shape."""

    id: str
    share: float  # of the architecture's tensors that the file has
    extra: int  # tensors of the file, where the architecture is, that the architecture has not
    same: tuple[str, ...]  # other architectures with the same names and shapes
    layout: str
    prefix: str


@lru_cache(maxsize=1)
def known_shapes() -> dict[frozenset[tuple[str, tuple[int, ...]]], tuple[str, ...]]:
    """Architectures by the names and shapes of their tensors."""
    found: dict[frozenset[tuple[str, tuple[int, ...]]], list[str]] = {}
    for model in architectures():
        with torch.device("meta"):
            state = blueprint(model, own_weights=True).build().state_dict()
        found.setdefault(frozenset((name, tuple(value.shape)) for name, value in state.items()), []).append(model)
    return {shapes: tuple(sorted(models, key=lambda one: (len(one), one))) for shapes, models in found.items()}


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


def _order(candidate: Candidate) -> tuple[float, int, int, str]:
    return -round(candidate.share, 6), candidate.extra, len(candidate.id), candidate.id


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
    share = there / len(fixed) + 1e-4 * exact / len(shapes) if there else 0.0
    best = next((one for one in models if one in said), models[0])
    others = tuple(one for one in models if one != best)
    return Candidate(best, share, extra, others, reading.layout.name, reading.prefix)


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
    """Readings under the prefixes where names of any architecture stand."""
    every = {name for shapes in known_shapes() for name, _ in shapes}
    return [
        _Reading(_shapes(names.tensors, prefix), NATIVE, prefix)
        for prefix, _ in prefixes(names.tensors, every).most_common(8)
    ]


def _shapes(tensors: dict[str, Tensor], prefix: str) -> Shapes:
    return {key[len(prefix) :]: tuple(value.shape) for key, value in tensors.items() if key.startswith(prefix)}


def _translated(names: Names) -> Iterable[_Reading]:
    """Readings in the layouts of other libraries, where such names stand."""
    for layout in dict.fromkeys(layout for layouts in LAYOUTS.values() for layout in layouts):
        own = _names_of_ours(layout)
        sources = {source for name in own for source in (layout.sources(name) or ((), ""))[0] if source[0] != "^"}
        for prefix, found in prefixes(names.tensors, sources).most_common(1):
            place = Place(layout, prefix, found)
            like = dict.fromkeys(own, torch.empty(1, 1, 1, device="meta"))
            state, _ = assembled(place, names.tensors, like)
            yield _Reading({name: _as_own(name, value) for name, value in state.items()}, layout, prefix)


def _as_own(name: str, value: Tensor) -> tuple[int, ...]:
    """The shape as the architecture has it: class tokens and positions with a leading axis."""
    shape = tuple(value.shape)
    tokens = name.rpartition(".")[2] in ("cls_token", "pos_embed", "dist_token", "reg_token")
    return (1,) * (3 - len(shape)) + shape if tokens else shape


@lru_cache(maxsize=64)
def _names_of_ours(layout: Layout) -> tuple[str, ...]:
    """All names of ours that a layout has rules for."""
    found: dict[str, None] = {}
    for rule in layout.rules:
        for stage, block, part in product(range(MOST_STAGES), range(MOST_BLOCKS), ("weight", "bias")):
            name = rule.own.replace("{s}", str(stage)).replace("{i}", str(block)).replace("{p}", part)
            found[name] = None
    return tuple(found)
