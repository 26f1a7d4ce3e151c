"""Where in a checkpoint a model is: the prefix and layout under which its names appear, and which of several is meant.

Nothing is known of wrappers: a prefix is what stands in front of names of the model. Where two whole models are found,
a written rule chooses the one that its authors evaluate, or both are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.models.weights.layouts import NATIVE, Layout, layouts_of

SHARE = 0.5  # of the most names found anywhere: a place with fewer is no candidate
MOST_PLACES = 24

#: Parts of a prefix that say an average over training, which goes before the raw weights.
AVERAGES = frozenset(
    {"ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "ema_weights", "averaged", "swa", "swa_model"}
)
#: (taken, left) as parts of two prefixes: what the authors of each method evaluate.
PREFERRED = (
    ("teacher", "student"),  # DINO, iBOT, DINOv2
    ("teacher_backbone", "student_backbone"),
    ("target_encoder", "encoder"),  # I-JEPA
    ("target_encoder", "context_encoder"),
    ("online_encoder", "target_encoder"),  # BYOL
    ("online_network", "target_network"),
    ("base_encoder", "momentum_encoder"),  # MoCo v3
    ("encoder_q", "encoder_k"),  # MoCo
    ("backbone", "backbone_momentum"),
    ("backbone", "momentum_backbone"),  # solo-learn
    ("encoder", "momentum_encoder"),
)
RULE = (
    "An average over training (" + ", ".join(sorted(AVERAGES)) + ") goes before raw weights; "
    "else " + "; ".join(f"{taken} before {left}" for taken, left in PREFERRED) + "."
)


@dataclass(frozen=True)
class Place:
    """A prefix under which names of a model in some layout stand, and how many of them do."""

    layout: Layout
    prefix: str
    count: int

    @property
    def label(self) -> str:
        """As --which takes it."""
        return self.prefix.rstrip(".")

    @property
    def outer(self) -> str:
        """The prefix of what stands beside the encoder: its classifier or projection."""
        return self.prefix[: self.prefix.rstrip(".").rfind(".") + 1]


def places(tensors: Collection[str], module: nn.Module) -> list[Place]:
    """Where names of a module appear, most names first; with none, the whole checkpoint as the library may know it."""
    own = list(module.state_dict())
    found = [
        Place(layout, prefix, count)
        for layout in layouts_of(module)
        for prefix, count in prefixes(tensors, signature(layout, own)).items()
    ]
    most = max((place.count for place in found), default=0)
    near = sorted((place for place in found if place.count >= max(1, SHARE * most)), key=lambda p: (-p.count, p.prefix))
    return near[:MOST_PLACES]


def library_places(tensors: Iterable[str]) -> list[Place]:
    """Prefixes under which the library's own conversion may know names that are not the architecture's."""
    first = Counter(name.partition(".")[0] + "." for name in tensors if "." in name)
    return [Place(NATIVE, "", 0), *(Place(NATIVE, prefix, 0) for prefix, _ in first.most_common(6))]


def signature(layout: Layout, own: Iterable[str]) -> set[str]:
    """All names inside the encoder that a layout has for tensors of the module."""
    sources = (layout.sources(name) for name in own)
    return {source for found in sources if found for source in found[0] if not source.startswith("^")}


def prefixes(tensors: Collection[str], names: set[str]) -> Counter[str]:
    """How many of some names stand under each prefix."""
    found: Counter[str] = Counter()
    for key in tensors:
        start = 0
        while True:
            if key[start:] in names:
                found[key[:start]] += 1
            start = key.find(".", start) + 1
            if not start:
                break
    return found


def under_best_prefix(tensors: dict[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors under the one prefix where most of some names stand, without it; averages first."""
    found = prefixes(tensors, set(names)).most_common()
    best = [Place(NATIVE, prefix, count) for prefix, count in found if count == found[0][1]]
    prefix = (preferred(best) or best[0]).prefix if best else ""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def within(candidates: Sequence[Place], which: str) -> list[Place]:
    """The candidates that --which names: those whose prefix has its parts, in their order."""
    wanted = which.strip(".").split(".")
    return [place for place in candidates if _contains(place.label.split("."), wanted)]


def _contains(parts: list[str], wanted: list[str]) -> bool:
    return any(parts[at : at + len(wanted)] == wanted for at in range(len(parts) - len(wanted) + 1))


def preferred(candidates: Sequence[Place]) -> Place | None:
    """The one candidate that the rule takes before every other; None where it does not decide."""
    for place in candidates:
        if all(other is place or _before(place.label, other.label) for other in candidates):
            return place
    return None


def _before(one: str, other: str) -> bool:
    ours, theirs = set(one.split(".")), set(other.split("."))
    mine, its = ours - theirs, theirs - ours
    averaged = bool(mine & AVERAGES), bool(its & AVERAGES)
    if averaged[0] != averaged[1]:
        return averaged[0]
    return any(taken in mine and left in its for taken, left in PREFERRED)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two places hold the same tensors: one model under two names."""
    return one.keys() == other.keys() and all(
        one[name].shape == other[name].shape and bool((one[name] == other[name]).all()) for name in one
    )
