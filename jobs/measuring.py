"""What the stages behind `visualize` measure with: probe set, embedder, texts, and the settings of each stage.

One frozen record, made by the driver and sent to the workers once. Each stage's settings have a hash, which
stands in its work units: what was computed with other settings is never taken for this run's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from atlas_schema.errors import BadConfig
from atlas_schema.parts import WorkUnit
from jobs.config import RunConfig
from jobs.pairing import Pair

if TYPE_CHECKING:
    from pipeline.decompose.features import FeatureSet
    from pipeline.images.probe_set import ProbeSet
    from pipeline.label.concepts import ConceptSet
    from pipeline.label.embedder import Embedder
    from pipeline.label.labels import LabelSettings
    from pipeline.models import ModelRequest
    from pipeline.probe.model import Membership, ProbeSettings

#: What a user's stage consists of, as work units know it.
PARTS_OF: dict[str, tuple[str, ...]] = {
    "visualize": ("visualize",),
    "probe": ("evidence", "examples", "judge"),
    "label": ("label",),
    "effect": ("effect",),
    "match": (),
    "decompose": (),
}

#: Stages behind the tables of heads, in the order in which one reads another (`jobs.heads`).
HEAD_STAGES = ("pool", "decompose", "align", "spans", "project", "heads")

SEED = 0  # of units in which nothing is random


@dataclass(frozen=True)
class EmbedderChoice:
    """The model that compares pictures with texts."""

    request: ModelRequest
    slug: str
    fingerprint: str


@dataclass(frozen=True)
class HeadTexts:
    """What heads are compared with: a pool of texts, texts by feature, and the names of the probe set's classes."""

    pool: ConceptSet
    features: FeatureSet
    classes: tuple[str, ...]

    def prompts(self) -> dict[str, tuple[str, ...]]:
        """All texts as they are embedded, by what they are for."""
        named = {"pool": self.pool.prompts}
        named |= {f"feature/{name}": prompts for name, prompts in self.features.prompts.items()}
        from pipeline.label.concepts import class_prompts

        return named | ({"class": class_prompts(self.classes)} if self.classes else {})


@dataclass(frozen=True)
class Measuring:
    """Everything that workers need beside a model."""

    probe_set: ProbeSet
    probe: ProbeSettings
    recipe_hash: str
    label: LabelSettings | None = None
    embedder: EmbedderChoice | None = None
    concepts: ConceptSet | None = None
    match_images: int = 512  # of the panel, compared across models
    pairs: tuple[Pair, ...] = ()
    head_texts: HeadTexts | None = None  # where heads are decomposed

    @cached_property
    def match_panel(self) -> list[int]:
        """Indices of the images that models are compared on: a smaller panel."""
        from pipeline.probe.panel import panel_of

        return panel_of([image.sha256 for image in self.probe_set.images], self.match_images)

    @cached_property
    def membership(self) -> Membership:
        from pipeline.probe.model import Membership

        return Membership.of(self.probe_set, self.probe)

    @cached_property
    def panel(self) -> list[int]:
        """Indices of the panel's images."""
        from pipeline.probe.panel import panel_of

        return panel_of([image.sha256 for image in self.probe_set.images], self.probe.panel)

    def settings(self, stage: str) -> str:
        """The hash of all that decides the result of a stage, beside the model: 16 hex digits."""
        probe = self.probe.hash(self.probe_set.identity)
        if stage in ("probe", "evidence", "examples"):
            return probe
        if stage == "judge":
            return _hash(probe, self.recipe_hash)
        if stage == "effect":
            return _hash(probe, "effect 1", self.concepts.identity if self.concepts else "")
        if stage == "embed":
            return _hash(self.probe_set.identity, self.panel_size, self.embedder_or_fail.fingerprint, "views 1")
        if stage == "texts":
            return _hash(self._concepts.identity, self.embedder_or_fail.fingerprint)
        if stage in HEAD_STAGES:
            return self._head_settings(stage)
        if stage == "label":
            assert self.label is not None
            return _hash(probe, self.settings("embed"), self.settings("texts"), asdict(self.label))
        raise KeyError(stage)

    def _head_settings(self, stage: str) -> str:
        """Of the stages behind the tables of heads; each depends on those before it."""
        if stage == "decompose":
            return _hash(self.probe_set.identity, "decompose 1")
        if stage == "pool":
            return _hash(self.texts_of_heads.prompts(), self.embedder_or_fail.fingerprint)
        if stage == "align":
            from pipeline.decompose.align import AlignSettings

            before = [self.settings(one) for one in ("decompose", "embed", "pool")]
            return _hash(before, asdict(AlignSettings()), "align 1")
        return _hash(self.settings("align"), f"{stage} 1")

    def root(self, stage: str, slug: str, fingerprint: str) -> WorkUnit:
        """The unit that stands for the whole of a partial stage."""
        counts = {"probe": len(self.probe_set), "embed": self.panel_size}
        counts |= dict.fromkeys(("decompose", "project"), len(self.probe_set))
        return WorkUnit(stage, slug, 0, 0, counts.get(stage, 1), fingerprint, self.settings(stage), SEED)

    @property
    def panel_size(self) -> int:
        return min(self.probe.panel, len(self.probe_set))

    @property
    def embedder_or_fail(self) -> EmbedderChoice:
        assert self.embedder is not None
        return self.embedder

    @property
    def texts_of_heads(self) -> HeadTexts:
        assert self.head_texts is not None
        return self.head_texts

    @property
    def _concepts(self) -> ConceptSet:
        assert self.concepts is not None
        return self.concepts


def _hash(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def measuring_of(config: RunConfig, recipe_hash: str, say: Callable[[str], None]) -> Measuring | None:
    """Open the probe set and load the embedder that the config names; None where no stage needs them.

    Raises BadConfig, NothingThere and what loading a model raises.
    """
    if set(config.stages) <= {"visualize"}:
        return None
    from pipeline.images.probe_set import open_probe_set
    from pipeline.probe.model import ProbeSettings

    if not config.probe:
        raise BadConfig(
            f"--stages {','.join(config.stages)}: these need real images. Name them with --probe: zoo, a folder, "
            "a Parquet file or hf:NAME."
        )
    say(f"Reading the probe images of {config.probe}")
    probe_set = open_probe_set(config.probe)
    for line in _told(probe_set):
        say(line)
    settings = ProbeSettings(top=config.examples, panel=config.panel)
    made = Measuring(probe_set, settings, recipe_hash, match_images=config.match_images)
    if "label" in config.stages or "decompose" in config.stages:
        return _with_texts(made, config, say)
    if "effect" in config.stages:
        from pipeline.label.concepts import read_concepts

        return replace(made, concepts=read_concepts(config.concepts_or_default))
    return made


def _told(probe_set: ProbeSet) -> list[str]:
    """What a user should know of the set before hours are spent on it."""
    lines = [f"{len(probe_set):,} probe images, set {probe_set.identity}"]
    if probe_set.skipped:
        lines.append(f"{len(probe_set.skipped)} images cannot be used:")
        lines += [f"  {image.id}: {image.reason}" for image in probe_set.skipped[:10]]
        lines += [f"  and {len(probe_set.skipped) - 10} more"] if len(probe_set.skipped) > 10 else []
    if probe_set.duplicates:
        lines.append(f"{probe_set.duplicates} images are byte for byte copies of others; each counts")
    return lines


def _with_texts(made: Measuring, config: RunConfig, say: Callable[[str], None]) -> Measuring:
    from pipeline.label.concepts import read_concepts
    from pipeline.label.embedder import load_embedder
    from pipeline.label.labels import LabelSettings, require_halves
    from pipeline.models import ModelRequest

    request = ModelRequest(model=config.embedder)
    say(f"Loading {config.embedder}, which compares images with texts")
    embedder = load_embedder(request)
    concepts = read_concepts(config.concepts_or_default)
    embedder.check_texts(concepts.prompts)
    fit = [made.probe_set.split(index) == "fit" for index in made.panel]
    if "label" in config.stages:
        require_halves(fit)
    elif sum(fit) < 2 or all(fit):
        raise BadConfig(
            f"{config.probe}: {sum(fit)} images to fit an alignment on and {len(fit) - sum(fit)} to check it; expected "
            "at least 2 and 1. Give more images."
        )
    choice = EmbedderChoice(request, embedder.slug, embedder.vision.fingerprint)
    made = replace(made, embedder=choice, concepts=concepts)
    if "label" in config.stages:
        made = replace(made, label=LabelSettings())
    return replace(made, head_texts=_head_texts(made, config, embedder)) if "decompose" in config.stages else made


def _head_texts(made: Measuring, config: RunConfig, embedder: Embedder) -> HeadTexts:
    """Read and try all texts that heads are compared with: the zoo's CLIP knows few words."""
    from pipeline.decompose.features import read_features
    from pipeline.label.concepts import knows_few_words, read_concepts

    pool = read_concepts(config.texts) if config.texts else made.concepts
    assert pool is not None
    classes = () if knows_few_words(config.embedder) else made.probe_set.classes
    texts = HeadTexts(pool, read_features(config.features_or_default), classes)
    for prompts in texts.prompts().values():
        embedder.check_texts(prompts)
    return texts
