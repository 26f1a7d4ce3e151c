"""Work units: what one task does and one part holds, named by all that decides its result.

A unit is a stage of a model, cut along one of six axes: neurons of a layer, images of the probe set, targets of
inversion (classes and texts), what another model reads off these, the whole model, or the pair that it makes with
another. Its key covers the
weights (`fingerprint`) and the hash of everything else that decides the result (`settings`); what only decides speed or
place is in neither.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from atlas_schema.columns import SCHEMA_VERSION


@dataclass(frozen=True, order=True)
class Neurons:
    """Hidden units [start, stop) of the FFN site `layer`."""

    layer: int
    start: int
    stop: int
    axis: ClassVar[str] = "neurons"

    @property
    def name(self) -> str:
        """As file names spell it."""
        return f"layer-{self.layer:05d}-{self.start:06d}-{self.stop:06d}"

    def __str__(self) -> str:
        return f"layer {self.layer}, neurons {self.start} to {self.stop - 1}"


@dataclass(frozen=True, order=True)
class Images:
    """Images [start, stop) of those that the stage passes over."""

    start: int
    stop: int
    axis: ClassVar[str] = "images"

    @property
    def name(self) -> str:
        """As file names spell it."""
        return f"images-{self.start:09d}-{self.stop:09d}"

    def __str__(self) -> str:
        return f"images {self.start} to {self.stop - 1}"


@dataclass(frozen=True, order=True)
class Targets:
    """A list of `stop` targets of inversion; `digest`: 16 hex digits that stand for the list."""

    stop: int
    digest: str
    start: ClassVar[int] = 0
    axis: ClassVar[str] = "targets"

    @property
    def name(self) -> str:
        """As file names spell it."""
        return f"targets-{self.stop:06d}-{self.digest}"

    def __str__(self) -> str:
        return f"{self.stop} targets ({self.digest[:6]})"


@dataclass(frozen=True, order=True)
class Readings:
    """What the model `partner`, a slug, reads off the pictures of a list of `stop` targets, for which `digest` stands;
    partner_key: 16 hex digits of its weights.
    """

    stop: int
    digest: str
    partner: str
    partner_key: str
    start: ClassVar[int] = 0
    axis: ClassVar[str] = "readings"

    @property
    def name(self) -> str:
        """As file names spell it."""
        return f"readings-{self.stop:06d}-{self.digest}-by-{self.partner}-{self.partner_key}"

    def __str__(self) -> str:
        return f"{self.stop} targets ({self.digest[:6]}) by {self.partner}"


@dataclass(frozen=True, order=True)
class Whole:
    """All of a model at once."""

    start: ClassVar[int] = 0
    stop: ClassVar[int] = 1
    axis: ClassVar[str] = "model"

    @property
    def name(self) -> str:
        """As file names spell it."""
        return "whole"

    def __str__(self) -> str:
        return "whole"


@dataclass(frozen=True, order=True)
class Pair:
    """A model and `partner`, a slug; `partner_key`: 16 hex digits of the partner's weights and settings."""

    partner: str
    partner_key: str
    start: ClassVar[int] = 0
    stop: ClassVar[int] = 1
    axis: ClassVar[str] = "pair"

    @property
    def name(self) -> str:
        """As file names spell it."""
        return f"with-{self.partner}-{self.partner_key}"

    def __str__(self) -> str:
        return f"with {self.partner}"


Cut = Neurons | Images | Targets | Readings | Whole | Pair
AXES = tuple(kind.axis for kind in (Neurons, Images, Targets, Readings, Whole, Pair))

_FORMS = (
    (re.compile(r"layer-(\d{5,})-(\d{6,})-(\d{6,})"), lambda *found: Neurons(*map(int, found))),
    (re.compile(r"images-(\d{9,})-(\d{9,})"), lambda *found: Images(*map(int, found))),
    (re.compile(r"targets-(\d{6,})-([0-9a-f]{16})"), lambda count, digest: Targets(int(count), digest)),
    (
        re.compile(r"readings-(\d{6,})-([0-9a-f]{16})-by-([a-z0-9-]+)-([0-9a-f]{16})"),
        lambda count, *others: Readings(int(count), *others),
    ),
    (re.compile(r"whole"), lambda: Whole()),
    (re.compile(r"with-([a-z0-9-]+)-([0-9a-f]{16})"), Pair),
)


def cut_named(name: str) -> Cut | None:
    """The cut that a file name spells; None where it spells none."""
    for form, make in _FORMS:
        match = form.fullmatch(name)
        if match:
            cut: Cut = make(*match.groups())
            return cut if cut.name == name else None
    return None


@dataclass(frozen=True)
class Identity:
    """What the units of one stage of a model share: the weights, and the hash of all else that decides the result."""

    fingerprint: str
    settings: str

    def unit(self, stage: str, slug: str, cut: Cut) -> WorkUnit:
        """The work unit of one cut."""
        return WorkUnit(stage, slug, cut, self.fingerprint, self.settings)


@dataclass(frozen=True)
class WorkUnit:
    """One cut of one stage of a model."""

    stage: str
    slug: str
    cut: Cut
    fingerprint: str  # of the checkpoint
    settings: str  # 16 hex digits: the hash of the stage's facts and of the settings of what it reads

    @property
    def identity(self) -> Identity:
        return Identity(self.fingerprint, self.settings)

    @property
    def layer(self) -> int | None:
        """The FFN layer of a unit that is cut along neurons; None for every other."""
        return self.cut.layer if isinstance(self.cut, Neurons) else None

    @property
    def start(self) -> int:
        return self.cut.start

    @property
    def stop(self) -> int:
        return self.cut.stop

    @property
    def size(self) -> int:
        """How many neurons, images, targets, models or pairs it is."""
        return self.cut.stop - self.cut.start

    @cached_property
    def key(self) -> str:
        """16 hex digits of the SHA-256 of all that decides the rows: equal keys, interchangeable parts."""
        facts = {**self.metadata(), "schema": SCHEMA_VERSION.split(".")[0]}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        if isinstance(self.cut, Neurons):
            return f"{self.stage} {self.slug}/mlp/{self.cut.layer} units {self.start} to {self.stop - 1}"
        return f"{self.stage} {self.slug}" + ("" if isinstance(self.cut, Whole) else f" {self.cut}")

    def metadata(self) -> dict[str, str]:
        """The unit as footer metadata; `unit_of` is the way back."""
        return {
            "stage": self.stage,
            "slug": self.slug,
            "cut": self.cut.name,
            "fingerprint": self.fingerprint,
            "settings": self.settings,
        }


def unit_of(metadata: Mapping[str, str]) -> WorkUnit:
    """The work unit that metadata names; KeyError or ValueError where it names none."""
    cut = cut_named(metadata["cut"])
    if cut is None:
        raise ValueError(f"{metadata['cut']!r} is no cut of a stage")
    return WorkUnit(metadata["stage"], metadata["slug"], cut, metadata["fingerprint"], metadata["settings"])
