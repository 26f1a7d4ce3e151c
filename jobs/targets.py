"""Which classes, texts and directions of heads a run makes pictures of, of each of its models."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlas_schema.errors import BadConfig
from jobs.config import RunConfig
from jobs.digests import digest
from jobs.inputs import fed

if TYPE_CHECKING:
    from pipeline.invert.prompts import Prompts
    from pipeline.invert.targets import Target
    from pipeline.models import LoadedModel, ModelDescription, ModelRequest

_RANGE = re.compile(r"(\d+)-(\d+)")


def prompts_of(config: RunConfig) -> Prompts:
    """What a CLIP is inverted for: the lines of a file, or with `zoo` a sentence for each value of its attributes."""
    from pipeline.invert.prompts import Prompts, read_prompts
    from pipeline.invert.targets import zoo_prompts
    from pipeline.label.concepts import fetched

    if config.prompts is None:
        return Prompts()
    if config.prompts == "zoo":
        return Prompts(zoo_prompts())
    folder = config.prompts.rpartition("/")[0]
    return read_prompts(
        fetched(config.prompts, "prompts", ("zoo",)), config.prompts, lambda name: _image_file(folder, name)
    )


def _image_file(folder: str, name: str) -> bytes:
    """The bytes of an image that a file of prompts in `folder` names, by a path from there, a whole path or a URL."""
    import fsspec

    whole = "://" in name or name.startswith("/") or not folder
    location = name if whole else f"{folder}/{name}"
    try:
        with fsspec.open(location, "rb") as file:
            content: bytes = file.read()
            return content
    except (OSError, ImportError, ValueError) as error:
        raise BadConfig(
            f"{name}: no such image ({error}). Expected a URL, or a file beside the list, such as image: cat.jpg."
        ) from error


def targets_of_model(
    config: RunConfig, prompts: Prompts, request: ModelRequest, model: LoadedModel
) -> tuple[tuple[Target, ...], str]:
    """What is inverted of a model, and where that is nothing, why. BadConfig for a class or text that cannot be."""
    from pipeline.invert.prompts import check_prompts
    from pipeline.invert.targets import class_outputs, targets_of, text_targets
    from pipeline.models.representation import is_clip

    if is_clip(model):
        if not prompts.texts:
            return (), "it has no classes; a CLIP is inverted for texts: give them with --prompts FILE"
        from pipeline.label.embedder import load_embedder

        check_prompts(load_embedder(request, vision=model), prompts.texts)
        return tuple(text_targets(prompts.texts)), ""
    if not config.classes:
        return (), "it reads no texts; a classifier is inverted for classes: name some with --classes, or all"
    try:
        outputs = class_outputs(model)
    except BadConfig as error:
        return (), str(error)
    wanted = () if config.classes == ("all",) else config.classes
    return tuple(targets_of(outputs, wanted)), ""


def heads_of_model(config: RunConfig, model: LoadedModel, looked_along: int) -> tuple[Target, ...]:
    """The directions of a model's heads that pictures are made of. BadConfig for a head that cannot be.

    looked_along: how many texts of each head.
    """
    from pipeline.decompose.spans import direction_names
    from pipeline.invert.heads import head_targets

    return tuple(head_targets(model, config.head_pictures, direction_names(2 + looked_along)))


@dataclass(frozen=True)
class Answers:
    """How a model answers to a picture."""

    kind: str  # "class", "text", or "" where it does not
    names: tuple[str, ...]  # of its classes
    key: str  # 16 hex digits of its weights, of these names and of how it is fed

    @property
    def named(self) -> bool:
        """Whether its classes have names, not indices alone."""
        return any(name != str(index) for index, name in enumerate(self.names))


def answers_of(model: LoadedModel) -> Answers:
    """How a model answers, by its classes or by texts."""
    from pipeline.invert.targets import class_outputs
    from pipeline.models.representation import is_clip

    key = digest([model.fingerprint, list(model.class_names), fed(model.description)])
    if is_clip(model):
        return Answers("text", (), key)
    try:
        return Answers("class", class_outputs(model).names, key)
    except BadConfig:
        return Answers("", (), key)


def readers_of(
    targets: Mapping[str, Sequence[Target]], answers: Mapping[str, Answers], say: Callable[[str], None]
) -> dict[str, dict[str, str]]:
    """By slug, the other models that can read the pictures of its targets, each with its key.

    Of classes those that have all of them by name, of texts those that read texts, of heads none. Why a classifier
    cannot is said.
    """
    from pipeline.invert.transfer import counterpart_classes

    found: dict[str, dict[str, str]] = {}
    for slug, wanted in targets.items():
        own = [one for one in wanted if one.kind != "head"]
        found[slug] = {}
        for reader, how in answers.items():
            if not own or reader == slug or how.kind != own[0].kind:
                continue
            if how.kind == "class":
                unnamed = [one for one in (slug, reader) if not answers[one].named]
                if unnamed:
                    say(
                        f"{reader} does not read the pictures of {slug}: the classes of {' and '.join(unnamed)} have "
                        "no names to find them by. Give them with --class-names."
                    )
                    continue
                try:
                    counterpart_classes(own, how.names, (slug, reader))
                except BadConfig as error:
                    say(str(error))
                    continue
            found[slug][reader] = how.key
    return found


def guessed(config: RunConfig, prompts: Sequence[str], description: ModelDescription) -> tuple[str, ...]:
    """As many stand-ins as a model will have targets, from what is known without its weights."""
    heads = _guessed_heads(config, description)
    if description.family == "clip":
        return (*(f"text {prompt}" for prompt in prompts), *heads)
    if config.classes == ("all",):
        return (*(f"class {index}" for index in range(description.classes)), *heads)
    counts = [_RANGE.fullmatch(one) for one in config.classes]
    count = sum(int(one[2]) - int(one[1]) + 1 if one else 1 for one in counts)
    return (*(f"class {index}" for index in range(min(count, description.classes))), *heads)


def _guessed_heads(config: RunConfig, description: ModelDescription) -> list[str]:
    """Of all heads the directions of each: which of them have a direct effect only the weights tell."""
    from pipeline.decompose.spans import SpanSettings, direction_names

    if not config.head_pictures:
        return []
    named = [f"{site.layer}.{head}" for site in description.attention_sites for head in range(site.heads)]
    heads = named if config.head_pictures == ("all",) else config.head_pictures
    return [f"head {head}/{one}" for head in heads for one in direction_names(2 + SpanSettings().looked_along)]


def guessed_readers(targets: Mapping[str, Sequence[str]], descriptions: Iterable[ModelDescription]) -> dict[str, Any]:
    """As many readers as there may be: of a classifier's pictures all others, of a CLIP's all others."""
    clips = {one.slug: one.family == "clip" for one in descriptions}
    return {
        slug: {reader: "0" * 16 for reader in clips if reader != slug and clips[reader] == clips[slug]}
        for slug, own in targets.items()
        if any(not name.startswith("head ") for name in own)
    }
