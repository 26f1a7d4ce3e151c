"""Where a new reader starts: one neuron of each kind that is worth knowing, and a head, chosen by a rule from figures.

    clear     of the neurons whose picture holds and whose label tells firing from silent images (held-out AUROC of 0.9
              or more): the one whose exciting crops are most alike (`clarity`)
    several   of the neurons whose exciting crops fall into two clusters (`polysemanticity_p` of 0.05 or less): the one
              where they do so most (`polysemanticity`)
    fails     of the neurons that fire on their picture, but not when it is changed a little (`verdict`: does not): the
              one whose label is surest, so that it is the picture that fails and not the neuron
    head      of the labelled heads: the one whose ablation costs most accuracy, if that is told from 0; where no answer
              is known, the one whose ablation moves the representation most

Ties go to the lower address. Where nothing fits a rule, there is no such start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from site_builder.folders import replace
from site_builder.section import Work
from site_builder.sprites import sheet, thumbnail

#: Kinds of neurons, in the order in which they are shown.
KINDS = ("clear", "several", "fails")
#: Side of a picture in pixels, shown at about half of it.
SIDE = 160
SURE, TOLD = 0.9, 0.05
Columns = Mapping[str, Sequence[Any]]
#: Of each kind the layer's best: its unit and the figure that it is best by.
Candidates = dict[str, tuple[int, float]]


def candidates(columns: Columns) -> Candidates:
    """The best of a layer for each kind; columns: of the neurons table, those that an atlas lacks without values."""
    scored: dict[str, list[tuple[int, float]]] = {kind: [] for kind in KINDS}
    nothing = [None] * len(columns["unit"])
    names = ("status", "verdict", "label_status", "label_auroc", "clarity", "polysemanticity", "polysemanticity_p")
    figures = [columns.get(name, nothing) for name in names]
    for unit, status, verdict, labelled, auroc, clarity, several, chance in zip(columns["unit"], *figures, strict=True):
        sure = (auroc or 0.0) if labelled == "labelled" else 0.0
        if status != "active":
            continue
        if verdict == "holds" and sure >= SURE and clarity is not None:
            scored["clear"].append((unit, clarity))
        if several is not None and chance is not None and chance <= TOLD:
            scored["several"].append((unit, several))
        if verdict == "does not":
            scored["fails"].append((unit, sure))
    return {kind: _best(found) for kind, found in scored.items() if found}


def _best(found: Sequence[tuple[Any, float]]) -> tuple[Any, float]:
    """The first of those with the highest figure."""
    return max(found, key=lambda one: one[1])


def neuron_starts(layers: Mapping[tuple[str, int], Candidates]) -> dict[str, tuple[str, int, int]]:
    """(slug, layer, unit) of each kind that the atlas has; layers: the candidates of each, by slug and layer."""
    starts = {}
    for kind in KINDS:
        found = [((*key, layers[key][kind][0]), layers[key][kind][1]) for key in sorted(layers) if kind in layers[key]]
        if found:
            starts[kind] = _best(found)[0]
    return starts


def write_starts(work: Work, starts: Mapping[str, tuple[str, int, int]]) -> dict[str, Any] | None:
    """Write their pictures side by side; what the manifest says of them, None where there is none."""
    if not starts:
        return None
    order, atlas = work.outline.slugs, work.outline.atlas
    listed = [[kind, order.index(slug), layer, unit] for kind, (slug, layer, unit) in starts.items()]
    addresses = [f"{slug}/mlp/{layer}/{unit}" for slug, layer, unit in starts.values()]
    pictures = [atlas.picture(address) for address in addresses]
    digest = hashlib.sha256(json.dumps([SIDE, addresses]).encode() + b"".join(pictures)).hexdigest()[:12]
    name = f"d/start-{digest}.webp"
    if not (work.folder / name).exists():
        replace(work.folder / name, sheet([thumbnail(one, SIDE) for one in pictures], len(pictures), SIDE))
    labels = [work.outline.labels.get(one) for one in starts.values()]
    return {"file": name, "neurons": [[*one, label] for one, label in zip(listed, labels, strict=True)]}


def head_start(heads: Mapping[str, Columns]) -> tuple[str, int, int, str] | None:
    """Slug, layer, head and label of the head to start with; heads: columns of the table, by slug."""
    answered, moved = [], []
    for slug, columns in sorted(heads.items()):
        names = ("layer", "head", "label", "ablation_effect", "ablation_se", "ablation_change")
        for layer, head, label, effect, error, change in zip(*(columns[name] for name in names), strict=True):
            if label is None:
                continue
            if effect is not None and effect >= 2 * (error or 0) > 0:
                answered.append(((slug, layer, head, label), effect))
            moved.append(((slug, layer, head, label), change))
    found = answered or moved
    return _best(found)[0] if found else None
