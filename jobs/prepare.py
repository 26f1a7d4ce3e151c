"""Before anything is written: describe and load the models, open what stages read, compare all with the folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from atlas_schema.errors import BadConfig, ForeignAtlas, NothingThere, ShardCorrupt
from atlas_schema.read import Atlas
from atlas_schema.store import Store, folder_of
from atlas_schema.units import Identity
from jobs.chunks import named, own_of
from jobs.claim import claimed, claimed_identities, refuse_foreign, refuse_other_folder
from jobs.config import PROBE_CLASSES, RunConfig
from jobs.identities import StageIdentity, stage_identities
from jobs.inputs import Inputs
from jobs.opening import open_inputs
from jobs.plan import Counts, Machine, Plan, make_plan
from jobs.probe_images import footer_of
from jobs.stages import Stage, stages_of
from jobs.targets import Answers, answers_of, heads_of_model, prompts_of, readers_of, targets_of_model

if TYPE_CHECKING:
    from pipeline.invert.targets import Target
    from pipeline.models import LoadedModel, ModelDescription, ModelRequest

Say = Callable[[str], None]
Described = tuple[tuple["ModelRequest", "ModelDescription"], ...]


@dataclass(frozen=True)
class PreparedModel:
    """A model whose weights were seen: its key in every stage, and its row of `models`."""

    description: ModelDescription
    fingerprint: str
    notes: tuple[str, ...]  # what was done to its weights, and why its classes have no names
    keys: Mapping[str, StageIdentity]  # of its stages in this run
    read: Mapping[str, StageIdentity]  # of the embedder's stages that these read
    earlier: Mapping[str, Identity]  # by stage: what the atlas holds of it and this run leaves alone


@dataclass(frozen=True)
class Prepared:
    """A run whose every input was found good."""

    config: RunConfig
    store: Store
    stages: tuple[Stage, ...]
    inputs: Inputs
    described: Described
    models: tuple[PreparedModel, ...]  # in the order of `described`
    left_out: frozenset[tuple[str, str]]  # (stage, slug) that the model cannot do

    def plan(self, machine: Machine) -> Plan:
        """The work of this run, cut for a machine."""
        embedder = self.inputs.embedder_choice
        read = {name for model in self.models for name in model.read}
        return make_plan(
            self.config,
            self.described,
            [stage for stage in self.stages if stage.owner == "model" or stage.name in read],
            self.inputs.recipe,
            counts_of(self.inputs, self.config),
            machine,
            embedder.description if embedder else None,
            self.left_out,
            {slug: named(targets) for slug, targets in self.inputs.targets.items()},
            self.inputs.readers,
        )

    def identity(self, stage: str, slug: str) -> Identity:
        """What the units of a stage of this run are known by; slug: of its owner."""
        for model in self.models:
            if stage in model.read:
                return model.read[stage].identity
            if stage in model.keys and slug == model.description.slug:
                return model.keys[stage].identity
        raise KeyError((stage, slug))


def prepare(config: RunConfig, say: Say) -> Prepared:
    """Describe and load the models, and compare them with the folder. Writes nothing.

    Raises what is the matter with the config, a model, its weights or the folder, as an AtlasError.
    """
    from pipeline.models import load
    from pipeline.visualize.recipes import recipe_named

    store, stages = (
        open_store(config.out),
        stages_of(config.stages, config.also, config.inverting, config.picturing_heads),
    )
    described = describe_all(config)
    # slug clashes and bad selections are told before any download
    make_plan(config, described, stages, recipe_named(config.recipe), Counts(), Machine())
    refuse_other_folder(store)
    inputs = open_inputs(config, stages, say)
    described = _with_probe_classes(config, described, inputs)
    refuse_other_answers(store, inputs)
    prompts, inverting = prompts_of(config), bool(config.inverting)
    seen: list[tuple[Seen, set[str]]] = []
    targets: dict[str, tuple[Target, ...]] = {}
    answers: dict[str, Answers] = {}
    for request, description in described:
        slug = description.slug
        say(f"Loading {description.id}" + (f" with {request.weights}" if request.weights else ""))
        model = load(request)  # and let it go again
        for note in model.remarks:
            say(f"  {slug}: {note}")
        unfit = _unfit(stages, model, say) | _idle(stages, claimed_identities(claimed(store, slug)))
        if inverting:
            answers[slug] = answers_of(model)
            targets[slug], reason = targets_of_model(config, prompts, request, model)
            if reason:
                say(f"{slug} is not inverted: {reason}")
        if config.head_pictures and "spans" not in unfit:
            heads = heads_of_model(config, model, inputs.settings.spans.looked_along)
            targets[slug] = (*targets.get(slug, ()), *heads)
        seen.append((Seen(description, model.fingerprint, model.class_names, model.remarks), unfit))
    if inverting and not any(one.kind != "head" for own in targets.values() for one in own):
        raise BadConfig(
            f"{', '.join(one.slug for _, one in described)}: nothing of what --classes and --prompts name can be "
            "inverted; the lines above say why."
        )
    if config.head_pictures and not any(one.kind == "head" for own in targets.values() for one in own):
        raise BadConfig(
            f"head_pictures: no head of {', '.join(one.slug for _, one in described)} adds to the final representation "
            "directly; the lines above say why."
        )
    inputs = replace(
        inputs, targets=targets, readers=readers_of(targets, answers, say), prompt_pictures=prompts.pictures
    )
    models, left_out = [], set()
    for one, unfit in seen:
        slug = one.description.slug
        own = named(targets.get(slug, ()))
        unfit |= {stage.name for stage in stages if stage.cut == "targets" and not own_of(stage.inverts, own)}
        unfit |= {stage.name for stage in stages if stage.cut == "readings" and not inputs.readers.get(slug)}
        left_out |= {(name, slug) for name in unfit}
        models.append(_prepared(store, [stage for stage in stages if stage.name not in unfit], inputs, one))
    return Prepared(config, store, stages, inputs, described, tuple(models), frozenset(left_out))


@dataclass(frozen=True)
class Seen:
    """What a run keeps of a model that was loaded and let go."""

    description: ModelDescription
    fingerprint: str
    class_names: tuple[str, ...]
    remarks: tuple[str, ...]


def _prepared(store: Store, stages: Iterable[Stage], inputs: Inputs, model: Seen) -> PreparedModel:
    own = [stage for stage in stages if stage.owner == "model"]
    description = model.description
    there = claimed_identities(claimed(store, description.slug))
    keys = stage_identities(own, inputs, description, model.fingerprint, there, model.class_names)
    mine = {stage.name: keys[stage.name] for stage in own}
    refuse_foreign(store, description, model.fingerprint, mine)
    read = {name: key for name, key in keys.items() if name not in mine}
    earlier = {name: identity for name, identity in there.items() if name not in mine}
    return PreparedModel(description, model.fingerprint, model.remarks, mine, read, earlier)


def _idle(stages: Iterable[Stage], there: Mapping[str, Identity]) -> set[str]:
    """Stages that have nothing to do: what they take where it is there is neither in this run nor in the atlas."""
    stages = tuple(stages)
    names = {stage.name for stage in stages} | set(there)
    return {stage.name for stage in stages if stage.reads_if_there and not names & set(stage.reads_if_there)}


def _unfit(stages: Iterable[Stage], model: LoadedModel, say: Say) -> set[str]:
    """Stages that a model cannot do, and those that read them; the reason is told."""
    unfit: set[str] = set()
    for stage in stages:
        reason = stage.unfit(model) if stage.owner == "model" else ""
        if reason:
            say(f"{model.description.slug} is left out of {stage.group or stage.name}: {reason}")
        if reason or (stage.owner == "model" and unfit & set(stage.reads)):
            unfit.add(stage.name)
    return unfit


def counts_of(inputs: Inputs, config: RunConfig) -> Counts:
    """How much there is of what stages read."""
    return Counts.of(
        config,
        images=len(inputs.probe_set) if inputs.probe_set else 0,
        texts=len(inputs.concept_set) if inputs.concept_set else 0,
        pool=len(inputs.texts_of_heads.pool) if inputs.texts_of_heads else 0,
    )


def refuse_other_answers(store: Store, inputs: Inputs) -> None:
    """ForeignAtlas where the atlas knows the probe images with other classes, captions or attributes."""
    images = inputs.probe_set
    if images is None or footer_of(store, images.identity).get("images_said") == images.said:
        return
    columns = ["index", "image", "class", "caption", "attributes"]
    try:
        there = Atlas(store).probe_images(images.identity, columns).to_pylist()
    except (NothingThere, ShardCorrupt):  # a damaged table says nothing, and is written again
        return
    from pipeline.images.probe_set import answers

    for row, now in zip(there, answers(images), strict=False):
        for name in ("class", "caption", "attributes"):
            if row[name] != now[name]:
                raise ForeignAtlas(
                    f"{store.url}: this atlas knows the probe images with another {name}: of {row['image']} it has "
                    f"{row[name]!r}, now it is {now[name]!r}. Nothing was changed. Give the {name} that was given "
                    "before, or write to another folder with --out."
                )


def describe_all(config: RunConfig) -> Described:
    """Descriptions of the models asked for; a pattern such as zoo/* stands for all that it matches."""
    from pipeline.models import describe

    requests = [entry.request() for entry in expand(config).models]
    return tuple((request, describe(request)) for request in requests)


def _with_probe_classes(config: RunConfig, described: Described, inputs: Inputs) -> Described:
    """With the classes of the probe set, sorted, where the names of a model's outputs are to be these."""
    entries = expand(config).models
    if not any(entry.class_names == PROBE_CLASSES for entry in entries):
        return described
    names = inputs.images.classes
    if not names:
        raise BadConfig(f"{inputs.images.spec}: its images have no classes that outputs could be named by.")
    return tuple(
        (replace(request, class_names=names) if entry.class_names == PROBE_CLASSES else request, description)
        for entry, (request, description) in zip(entries, described, strict=True)
    )


def dealt(config: RunConfig) -> RunConfig:
    """Of several drivers of one atlas, this one's models: dealt out by name, the same whatever their order.

    BadConfig where there is none left for it.
    """
    if config.shard is None:
        return config
    place, count = map(int, config.shard.split("/"))
    ordered = sorted(range(len(config.models)), key=lambda at: (config.models[at].model, config.models[at].name or ""))
    own = sorted(ordered[place - 1 :: count])
    if not own:
        raise BadConfig(
            f"--shard {config.shard}: {len(config.models)} models are dealt out, and none is left for this driver. "
            f"Give an N of at most {len(config.models)}."
        )
    return config.model_copy(update={"models": tuple(config.models[at] for at in own)})


def expand(config: RunConfig) -> RunConfig:
    """Replace patterns among the models by what they match, and leave this driver's of them. Raises BadConfig where a
    pattern matches nothing.
    """
    if not any("*" in entry.model for entry in config.models):
        return dealt(config)
    from pipeline.models import known_models

    entries = []
    for entry in config.models:
        names = known_models(entry.model) if "*" in entry.model else [entry.model]
        if not names:
            raise BadConfig(f"{entry.model}: no known model matches. See `neuron-atlas models`.")
        entries += [entry.model_copy(update={"model": name}) for name in names]
    return dealt(config.model_copy(update={"models": tuple(entries)}))


def open_store(url: str) -> Store:
    """The atlas's store; a folder becomes absolute, as workers start elsewhere. Refuses memory://."""
    if url.startswith("memory:"):
        raise BadConfig(
            f"{url}: a memory store lives in one process, but the workers are others. "
            "Give a folder or an object store with --out."
        )
    folder = folder_of(url)
    return Store(url if folder is None else os.path.abspath(folder))
