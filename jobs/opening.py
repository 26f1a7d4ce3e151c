"""Opens the probe images, the embedder and the texts that the stages of a run need, and tries them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from atlas_schema.errors import BadConfig
from jobs.config import RunConfig
from jobs.facts import FACTS
from jobs.inputs import EmbedderChoice, HeadTexts, Inputs
from jobs.plan import Counts
from jobs.stages import Stage

if TYPE_CHECKING:
    from jobs.settings import Settings
    from pipeline.images.probe_set import ProbeSet
    from pipeline.label.concepts import ConceptSet
    from pipeline.label.embedder import Embedder

Say = Callable[[str], None]


def open_inputs(config: RunConfig, stages: Collection[Stage], say: Say) -> Inputs:
    """Open what the stages read, as the config names it. Raises BadConfig, NothingThere, and what loading raises."""
    from pipeline.models import ModelRequest
    from pipeline.visualize.recipes import recipe_named

    recipe = recipe_named(config.recipe)
    if recipe.variants > 1 or recipe.photographs:
        raise BadConfig(
            f"--recipe {recipe.name} makes {recipe.variants} pictures of a neuron"
            + (" from photographs" if recipe.photographs else "")
            + f", and a neuron has one main picture: ask for it with --also {recipe.name}."
        )
    inputs = Inputs(recipe, config.seed, _settings(config), match_count=config.match_images)
    needs = {need for stage in stages for name in stage.facts for need in FACTS[name].needs}
    embeds = any(stage.owner == "embedder" for stage in stages)
    if needs & {"images"}:
        inputs = replace(inputs, probe_set=_probe_set(config, say))
    embedder = _embedder(config, say) if embeds else None
    if embedder is not None:
        request, vision = ModelRequest(model=config.embedder), embedder.vision
        choice = EmbedderChoice(request, vision.description, vision.fingerprint)
        inputs = replace(inputs, embedder_choice=choice)
    if "concepts" in needs:
        inputs = replace(inputs, concept_set=_concepts(config, embedder))
    if "texts of heads" in needs:
        inputs = replace(inputs, texts_of_heads=_head_texts(config, inputs, embedder))
    for stage in stages:
        objection = stage.objects(inputs)
        if objection:
            raise BadConfig(objection)
    return inputs


def _settings(config: RunConfig) -> Settings:
    """The settings of a run: the defaults, and what its config says otherwise."""
    from jobs.settings import Settings
    from pipeline.probe.model import ProbeSettings

    return Settings(probe=ProbeSettings(top=config.examples, panel=config.panel))


def _probe_set(config: RunConfig, say: Say) -> ProbeSet:
    from atlas_schema.published import cache_folder

    if not config.probe:
        raise BadConfig(
            f"--stages {','.join(config.stages)}{' --also ' if config.also else ''}{','.join(config.also)}: these need "
            "real images. Name them with --probe: zoo, a folder, "
            "a Parquet file or hf:NAME."
        )
    return opened_set(config.probe, say, memory=cache_folder("images"))


def opened_set(spec: str, say: Say, memory: Path | None = None) -> ProbeSet:
    """A probe set, opened, and what a user should know of it said. Raises BadConfig, NothingThere."""
    from pipeline.images.probe_set import open_probe_set

    say(f"Reading the probe images of {spec}")
    probe_set = open_probe_set(spec, memory=memory)
    for line in summary_of(probe_set):
        say(line)
    return probe_set


def summary_of(probe_set: ProbeSet) -> list[str]:
    """What a user should know of a set before hours are spent on it: what is in it, what was left out, and why."""
    from pipeline.images.naming import counted

    labelled = sum(bool(image.label) for image in probe_set.images)
    captions = sum(bool(image.caption) for image in probe_set.images)
    without = (
        f" (and {counted(len(probe_set) - labelled, 'image')} without one)" if 0 < labelled < len(probe_set) else ""
    )
    classes = "1 class" if len(probe_set.classes) == 1 else f"{len(probe_set.classes):,} classes"
    images, texts = counted(len(probe_set), "probe image"), counted(captions, "caption")
    lines = [f"{images}, {classes}{without}, {texts}, set {probe_set.identity}"]
    if probe_set.skipped:
        lines.append(f"{counted(len(probe_set.skipped), 'image')} cannot be used:")
        lines += [f"  {image.id}: {image.reason}" for image in probe_set.skipped[:10]]
        lines += [f"  and {len(probe_set.skipped) - 10} more"] if len(probe_set.skipped) > 10 else []
    lines += probe_set.remarks
    if probe_set.duplicates:
        copies = "1 image is a byte for byte copy of another" if probe_set.duplicates == 1 else ""
        copies = copies or f"{probe_set.duplicates:,} images are byte for byte copies of others"
        lines.append(f"{copies}; each counts")
    return lines


def _embedder(config: RunConfig, say: Say) -> Embedder:
    """The model that compares images with texts; BadConfig where it reads none."""
    from pipeline.label.embedder import load_embedder
    from pipeline.models import ModelRequest

    say(f"Loading {config.embedder}, which compares images with texts")
    embedder = load_embedder(ModelRequest(model=config.embedder))
    embedder.check_texts(["a"])
    return embedder


def _concepts(config: RunConfig, embedder: Embedder | None) -> ConceptSet:
    """The texts that labels are chosen from; BadConfig where the embedder does not know their words."""
    from pipeline.label.concepts import read_concepts, suited_set

    concepts = read_concepts(config.concepts or suited_set(config.embedder))
    if embedder is not None:
        embedder.check_texts(concepts.prompts)
    return concepts


def _head_texts(config: RunConfig, inputs: Inputs, embedder: Embedder | None) -> HeadTexts:
    """All texts that heads are compared with; BadConfig where the embedder does not know their words."""
    from pipeline.decompose.features import read_features
    from pipeline.label.concepts import class_prompts, knows_few_words, read_concepts, suited_set

    suited = suited_set(config.embedder)
    pool = read_concepts(config.texts or config.concepts or suited)
    classes = () if knows_few_words(config.embedder) else inputs.images.classes
    prompts = class_prompts(classes, inputs.settings.class_prompts)
    texts = HeadTexts(pool, read_features(config.features or suited), classes, prompts)
    if embedder is not None:
        for own in texts.prompts().values():
            embedder.check_texts(own)
    return texts


def counts_of(config: RunConfig, stages: Collection[Stage], say: Say) -> Counts:
    """How much there is of what the stages read, without weights: probe images are opened where they are named."""
    from pipeline.label.concepts import read_concepts, suited_set

    needs = {need for stage in stages for name in stage.facts for need in FACTS[name].needs}
    images = len(_probe_set(config, say)) if config.probe and "images" in needs else 0
    concepts = config.concepts or suited_set(config.embedder)
    return Counts.of(
        config,
        images=images,
        texts=len(read_concepts(concepts)) if "concepts" in needs else 0,
        pool=len(read_concepts(config.texts or concepts)) if "texts of heads" in needs else 0,
    )
