"""What a run reads beside its models: probe images, the model that compares images with texts, texts, settings.

One frozen record, made by the driver and sent to the workers once. What decides results in it is named in
`jobs.facts`; which of it a run needs follows from the facts that its stages name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.settings import Settings
    from pipeline.decompose.features import FeatureSet
    from pipeline.images.probe_set import ProbeSet
    from pipeline.invert.targets import Target
    from pipeline.label.concepts import ConceptSet
    from pipeline.models import ModelDescription, ModelRequest
    from pipeline.probe.model import Membership
    from pipeline.visualize.recipes import Recipe


@dataclass(frozen=True)
class EmbedderChoice:
    """The model that compares images with texts: how it is asked for, what it is, which weights it has."""

    request: ModelRequest
    description: ModelDescription
    fingerprint: str

    @property
    def slug(self) -> str:
        return self.description.slug


@dataclass(frozen=True)
class HeadTexts:
    """What heads are compared with: a pool of texts, texts by feature, and the names of the probe set's classes."""

    pool: ConceptSet
    features: FeatureSet
    classes: tuple[str, ...]
    class_prompts: tuple[str, ...]

    def prompts(self) -> dict[str, tuple[str, ...]]:
        """All texts as they are embedded, by what they are for."""
        named = {"pool": self.pool.prompts}
        named |= {f"feature/{name}": prompts for name, prompts in self.features.prompts.items()}
        return named | ({"class": self.class_prompts} if self.class_prompts else {})


@dataclass(frozen=True)
class Inputs:
    """Everything that stages read beside models and other stages. What a run does not need is None."""

    recipe: Recipe
    seed: int
    settings: Settings
    match_count: int = 512  # images of the panel on which models are compared
    probe_set: ProbeSet | None = None
    embedder_choice: EmbedderChoice | None = None
    concept_set: ConceptSet | None = None
    texts_of_heads: HeadTexts | None = None
    targets: Mapping[str, tuple[Target, ...]] = field(default_factory=dict)  # by slug, what is inverted of it
    readers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # by slug, who reads that, each with its key
    prompt_pictures: Mapping[str, bytes] = field(default_factory=dict)  # files of images that targets name
    _cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def images(self) -> ProbeSet:
        """The probe images."""
        return _there(self.probe_set, "probe images")

    @property
    def embedder(self) -> EmbedderChoice:
        return _there(self.embedder_choice, "a model that compares images with texts")

    @property
    def concepts(self) -> ConceptSet:
        """The texts that labels are chosen from."""
        return _there(self.concept_set, "texts")

    @property
    def head_texts(self) -> HeadTexts:
        return _there(self.texts_of_heads, "texts of heads")

    @cached_property
    def panel(self) -> list[int]:
        """Indices of the images of which every neuron's number is kept, and which the embedder sees."""
        return self._sample(self.settings.probe.panel)

    @cached_property
    def match_panel(self) -> list[int]:
        """Indices of the images that models are compared on."""
        return self._sample(self.match_count)

    def _sample(self, size: int) -> list[int]:
        from pipeline.probe.panel import panel_of

        return panel_of([image.sha256 for image in self.images.images], size)

    @cached_property
    def membership(self) -> Membership:
        """Which images belong to the panel and to which class."""
        from pipeline.probe.model import Membership

        return Membership.of(self.images, self.settings.probe)

    def count(self, over: str) -> int:
        """How many images a stage passes over that is cut along `images` or along the `panel`."""
        return len(self.images) if over == "images" else len(self.panel)


def _there(value: Any, what: str) -> Any:
    if value is None:
        raise AssertionError(f"a stage reads {what} and names no fact of it")
    return value


def fed(description: ModelDescription) -> Mapping[str, Any]:
    """How a model is fed, built and called, which decides its results beside its weights."""
    built = {"arguments": dict(description.arguments)} if description.arguments else {}
    return built | {
        "id": description.id,
        "input_size": list(description.input_size),
        "mean": list(description.mean),
        "std": list(description.std),
        "interpolation": description.interpolation,
    }
