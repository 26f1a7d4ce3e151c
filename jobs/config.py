"""What a run was asked to do: one frozen, validated record from a TOML file and flags.

No torch, ray or pyarrow here: the command line imports this module before it knows what to do.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from atlas_schema.errors import BadConfig, nearest
from atlas_schema.inversion_recipes import INVERSION_RECIPES
from atlas_schema.picture_recipes import PICTURE_RECIPES
from jobs.node_labels import selector
from jobs.stages import groups

if TYPE_CHECKING:
    from pipeline.models import ModelRequest

PROBE_CLASSES = "probe"  # in place of a file of class names
CLOSING_SECONDS = 15.0  # after units in flight have ended: shards that can be, the card and the run's row are written
IDLE_SECONDS = 60.0  # on a cluster, before a worker without a unit is let go: autoscalers count from then
_HEAD = re.compile(r"\d+\.\d+")
_SELECTION_ITEM = re.compile(r"^(-?\d+|(-?\d+)?:(-?\d+)?)$")


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelEntry(_Frozen):
    """One checkpoint: the fields of `pipeline.models.ModelRequest`."""

    model: str = Field(
        description="Model id: timm/deit_tiny_patch16_224, open_clip/ViT-B-32/openai, hf://ORG/NAME, zoo/*; repeatable."
    )
    weights: str | None = Field(
        default=None, description="Your own weights (safetensors or pth; file or URL) for the one --model."
    )
    name: str | None = Field(default=None, description="Name of the one model in addresses; needed with --weights.")
    random_weights: bool = Field(default=False, description="Untrained weights from a fixed seed.")
    input_size: int | tuple[int, int] | None = Field(
        default=None, description="Pixels of the input: a side, or HEIGHTxWIDTH (default: the model's)."
    )
    which: str | None = Field(
        default=None,
        description="Where --weights holds several models (student, teacher): the prefix of the one meant.",
    )
    model_args: dict[str, Any] = Field(
        default_factory=dict, description="NAME=VALUE for the architecture's constructor: global_pool=avg; repeatable."
    )

    class_names: str | None = Field(
        default=None,
        description="Names of the classifier's outputs: a file, one a line or JSON; or probe, for the probe set's "
        "classes in order (default: what the checkpoint says).",
    )

    @field_validator("input_size", mode="before")
    @classmethod
    def _pixels(cls, value: Any) -> Any:
        """224, "224", "224x448" and [224, 448]."""
        parts = re.split("[xX]", value) if isinstance(value, str) else value
        sides = list(parts) if isinstance(parts, list | tuple) else [parts]
        if value is None:
            return None
        if len(sides) not in (1, 2) or any(isinstance(s, bool) or not str(s).strip().isdigit() for s in sides):
            raise ValueError(f"{value!r} is no size; give a side in pixels such as 224, or HEIGHTxWIDTH")
        pixels = [int(side) for side in sides]
        if min(pixels) < 8:
            raise ValueError(f"{value!r}: a side has at least 8 pixels")
        return pixels[0] if len(set(pixels)) == 1 else tuple(pixels)

    @field_validator("model_args", mode="before")
    @classmethod
    def _arguments(cls, value: Any) -> Any:
        """A list of NAME=VALUE, as flags give it, becomes a table."""
        if isinstance(value, list | tuple):
            from pipeline.models.arguments import parsed

            try:
                return parsed(value)
            except BadConfig as error:
                raise ValueError(str(error)) from error
        return value

    def request(self) -> ModelRequest:
        """As `pipeline` takes it; a weights file becomes absolute, as workers start elsewhere."""
        from pipeline.models import ModelRequest
        from pipeline.models.arguments import as_arguments
        from pipeline.models.class_names import read_class_names

        fields = self.model_dump()
        fields["arguments"] = as_arguments(fields.pop("model_args"))
        named = fields.pop("class_names")
        fields["class_names"] = read_class_names(named) if named and named != PROBE_CLASSES else ()
        prefix = "open_clip/local-dir:" if self.model.startswith("open_clip/local-dir:") else ""
        if os.path.isdir(self.model.removeprefix(prefix)):  # a model's folder; workers start elsewhere
            fields["model"] = prefix + os.path.abspath(self.model.removeprefix(prefix))
        if self.weights and "://" not in self.weights:
            fields["weights"] = os.path.abspath(os.path.expanduser(self.weights))
        return ModelRequest(**fields)


class RunConfig(_Frozen):
    """Everything that decides what a run computes, where, and how patiently.

    `layers` and `units` are selections: "all", or a comma-separated list of indices and half-open
    ranges counted from 0 ("0,5,11", "0:16", "-1"); TOML lists ([0, 5, "8:11"]) are read too.
    """

    models: tuple[ModelEntry, ...] = Field(min_length=1)
    recipe: str = Field(
        default="fast",
        description="How pictures are made: fast, placed, peak, maco, aligned, or reference (as published, slower).",
    )
    also: tuple[str, ...] = Field(
        default=(),
        description=f"Recipes of further pictures beside the main one: some of {','.join(PICTURE_RECIPES)}.",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of all random numbers.")
    layers: str = Field(default="all", description="FFN layers: all, or a list such as 0,5,-1 or 0:4.")
    units: str = Field(default="all", description="Neurons of each layer: all, or a list such as 0:16.")
    stages: tuple[str, ...] = Field(
        default=("visualize", "verdict"),
        description=f"{','.join(groups())} or some (default: visualize,verdict; with --probe: all).",
    )
    probe: str | None = Field(
        default=None,
        description="Real images to measure on: zoo, zoo:N, a folder or URL, *.parquet, *.tar, hf:NAME[:SPLIT].",
    )
    probe_images: Literal["auto", "embed", "reference", "none"] = Field(
        default="auto",
        description="What the atlas shows of them: embed (thumbnails), reference (names), none (default: by licence).",
    )
    examples: int = Field(default=9, ge=1, le=64, description="Strongest images kept of each neuron.")
    panel: int = Field(
        default=2048, ge=64, description="Images of which every neuron's numbers are kept, for labels and alignment."
    )
    match_images: int = Field(
        default=512, ge=16, description="Probe images on which neurons of two models are compared."
    )
    embedder: str = Field(default="zoo/clip", description="Compares images with texts: zoo/clip, open_clip/NAME/TAG.")
    concepts: str | None = Field(
        default=None,
        description="Texts for labels: general, zoo, or a file, one a line (default: words that the embedder knows).",
    )
    texts: str | None = Field(default=None, description="Texts that heads are described with (default: as --concepts).")
    features: str | None = Field(
        default=None,
        description="What heads are scored for, such as colour: general, zoo, or a TOML file (default: as suits).",
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="Classes to invert into pictures: all, or names, indices and ranges (12, 0-9); repeatable.",
    )
    prompts: str | None = Field(
        default=None,
        description="Texts, and images (`image: cat.jpg`), that a CLIP is inverted for: a file, one a line, or zoo.",
    )
    head_pictures: tuple[str, ...] = Field(
        default=(),
        description="Heads to make pictures of, along their directions: all, or LAYER.HEAD (3.2); needs --probe.",
    )
    inversions: tuple[str, ...] = Field(
        default=("fast",),
        description=f"Recipes of inversion, some of {','.join(INVERSION_RECIPES)}: with --classes, --prompts or "
        "--head-pictures.",
    )
    out: str = Field(default="atlas", description="The atlas: a folder, or a URL such as s3://bucket/atlas.")
    shard: str | None = Field(
        default=None,
        description="I/N: this driver does its share of the models, of N that write to one atlas side by side.",
    )
    address: str | None = Field(
        default=None, description="The Ray cluster to run on, HOST:PORT or auto (default: this machine)."
    )
    node_label: str | None = Field(
        default=None,
        description="With --address: only nodes with this label, NAME=VALUE or NAME=!VALUE, commas between several.",
    )
    workers: int | None = Field(default=None, ge=1, description="Workers (default: one per GPU, or one per core).")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of a worker (default: cores / workers).")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="auto, cpu, cuda or mps.")
    precision: Literal["float64", "float32", "bfloat16"] | None = Field(
        default=None, description="float32, bfloat16 or float64 (default: the fastest of the first two on the device)."
    )
    unit_seconds: float = Field(default=60.0, gt=0, description="Aimed length of one task in seconds.")
    retries: int = Field(default=2, ge=0, description="Attempts after the first, for a task that fails.")
    hang_seconds: float = Field(
        default=600.0, gt=0, description="A worker that shows no progress for so many seconds is replaced."
    )
    idle_seconds: float | None = Field(
        default=None,
        gt=0,
        description="A worker without a task for so many seconds is let go (default: with --address "
        f"{IDLE_SECONDS:g}, else never).",
    )
    drain_seconds: float = Field(
        default=20.0, ge=0, description="After Ctrl-C or SIGTERM, seconds that tasks at work are given to end."
    )

    @field_validator("models", mode="before")
    @classmethod
    def _models_from_names(cls, value: Any) -> Any:
        """A bare string is a model id; one string alone is a list of one."""
        entries = [value] if isinstance(value, str | Mapping) else value
        if not isinstance(entries, list | tuple):
            return value
        return [{"model": entry} if isinstance(entry, str) else entry for entry in entries]

    @field_validator("classes", mode="before")
    @classmethod
    def _classes_from_text(cls, value: Any) -> Any:
        """One name, or indices and ranges with commas between; names may hold commas themselves."""
        items = [value] if isinstance(value, str | int) and not isinstance(value, bool) else value
        if not isinstance(items, list | tuple):
            return value
        found: list[Any] = []
        for item in map(str, items):
            found += re.split(r"\s*,\s*", item.strip()) if re.fullmatch(r"[\d\s,-]+", item) else [item.strip()]
        return tuple(found)

    @model_validator(mode="after")
    def _inversions_known(self) -> RunConfig:
        _require_known("inversions", self.inversions, INVERSION_RECIPES)
        for option in ("classes", "head_pictures"):
            if "all" in getattr(self, option) and len(getattr(self, option)) > 1:
                raise ValueError(f"{option}: all stands alone; leave the others out")
        wrong = [one for one in self.head_pictures if one != "all" and not _HEAD.fullmatch(one)]
        if wrong:
            raise ValueError(f"head_pictures: {wrong[0]!r} is no head; give LAYER.HEAD such as 3.2, or all")
        if self.head_pictures and not self.probe:
            raise ValueError(
                "head_pictures: a head's directions are those in which it varies over images; give --probe"
            )
        if self.inversions != ("fast",) and not (self.classes or self.prompts or self.head_pictures):
            raise ValueError(
                "inversions: nothing is named that is to be inverted; give --classes (of classifiers), --prompts "
                "(of CLIPs) or --head-pictures"
            )
        return self

    @property
    def inverting(self) -> tuple[str, ...]:
        """The recipes by which classes or texts are to be inverted."""
        return self.inversions if self.classes or self.prompts else ()

    @property
    def picturing_heads(self) -> tuple[str, ...]:
        """The recipes by which pictures of heads are to be made."""
        return self.inversions if self.head_pictures else ()

    @field_validator("stages", "also", "inversions", "head_pictures", mode="before")
    @classmethod
    def _names_from_text(cls, value: Any) -> Any:
        return [one.strip() for one in value.split(",")] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _other_recipes(self) -> RunConfig:
        _require_known("also", self.also, PICTURE_RECIPES)
        if self.recipe in self.also:
            raise ValueError(f"also: {self.recipe} makes the main pictures already; name other recipes")
        return self

    @field_validator("shard")
    @classmethod
    def _share(cls, value: str | None) -> str | None:
        found = re.fullmatch(r"(\d{1,4})/(\d{1,4})", value or "1/1")
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"{value!r} is no share; give I/N with I from 1 to N, such as 2/3")
        return value

    @field_validator("node_label")
    @classmethod
    def _label(cls, value: str | None) -> str | None:
        selector(value)
        return value

    @model_validator(mode="after")
    def _labels_of_a_cluster(self) -> RunConfig:
        if self.node_label is not None and self.address is None:
            raise ValueError("node_label: one machine has no nodes to choose from; give --address, or leave it out")
        return self

    @field_validator("layers", "units", mode="before")
    @classmethod
    def _selection_text(cls, value: Any) -> Any:
        """Lists and integers become the canonical text, so that equal selections compare equal."""
        if isinstance(value, bool) or value is None:
            return value
        items = value if isinstance(value, list | tuple) else str(value).split(",")
        texts = [str(item).strip() for item in items]
        if texts == ["all"] or texts == [":"]:
            return "all"
        wrong = [text for text in texts if not _SELECTION_ITEM.match(text)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is neither 'all', an index such as 5, nor a range such as 0:16")
        return ",".join(texts)

    @model_validator(mode="after")
    def _one_name_one_model(self) -> RunConfig:
        known = groups()
        for name in self.stages or (() if self.inverting or self.head_pictures else ("",)):
            if name not in known:
                close = nearest(name, known, 1)
                hint = f"; nearest: {close[0]}" if close else ""
                raise ValueError(f"stages: {name!r}, expected one or more of {', '.join(known)}{hint}")
        if "label" in self.stages and "probe" not in self.stages:
            raise ValueError(
                "stages: label reads what probe measures; give --stages probe,label (nothing is done twice)"
            )
        for entry in self.models:
            if entry.which and not entry.weights:
                raise ValueError(f"{entry.model}: which chooses in a file of weights; give one with weights")
            if entry.class_names == PROBE_CLASSES and not self.probe:
                raise ValueError(f"{entry.model}: class names of the probe set, but there is none; give --probe")
            if entry.weights and entry.random_weights:
                raise ValueError(f"{entry.model}: weights and random_weights exclude each other; give one")
        return self

    @property
    def idle_patience(self) -> float:
        """Seconds that a worker may be without a unit."""
        if self.idle_seconds is not None:
            return self.idle_seconds
        return IDLE_SECONDS if self.address is not None else math.inf  # on one machine nobody takes what it gives back

    def to_json(self) -> str:
        """The resolved config as it is stored with the run, keys sorted."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def _require_known(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    """ValueError, with the nearest name, where one of those that were given is none of the known."""
    for name in given:
        if name not in known:
            close = nearest(name, known, 1)
            hint = f"; nearest: {close[0]}" if close else ""
            raise ValueError(f"{option}: {name!r}, expected some of {', '.join(known)}{hint}")


_PER_MODEL = ("weights", "name", "random_weights", "input_size", "which", "model_args", "class_names")


def _with_defaults(mapping: dict[str, Any]) -> dict[str, Any]:
    """Without `stages`: inversions alone where some are asked for, with a probe set everything, else pictures."""
    if "stages" not in mapping and mapping.get("probe"):
        return {**mapping, "stages": list(groups())}
    if "stages" not in mapping and not mapping.get("also") and (mapping.get("classes") or mapping.get("prompts")):
        return {**mapping, "stages": []}
    return mapping


def load_config(path: str | Path | None, flags: Mapping[str, Any]) -> RunConfig:
    """The TOML file (if any) overridden by the flags that were given (values not None).

    In the file as on the command line, `weights`, `name`, `random_weights`, `input_size`, `which`, `model_args` and
    `class_names` may stand beside `models`; `weights` and `name` only where there is one model. Raises BadConfig.
    """
    mapping = _read_toml(path) if path is not None else {}
    mapping.update({key: value for key, value in flags.items() if value is not None})
    where = str(path) if path is not None else "the options"
    return config_from_mapping(mapping, where)


def _read_toml(path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadConfig(f"{path}: cannot be read ({error.strerror}). Give --config a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: not valid TOML: {error}.") from error


def config_from_mapping(mapping: Mapping[str, Any], where: str = "the options") -> RunConfig:
    """Validate a mapping; every fault is named at once, a misspelt key with its nearest valid name."""
    data = _with_defaults(dict(mapping))
    per_model = {key: data.pop(key) for key in _PER_MODEL if key in data}
    models = data.get("models")
    if not models:
        raise BadConfig(f"{where}: no model given. Name one, e.g. --model zoo/vit (see `neuron-atlas models`).")
    if per_model:
        data["models"] = _spread(models, per_model)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise BadConfig(_explain(error, where)) from error


def _spread(models: Any, per_model: dict[str, Any]) -> Any:
    """Apply weights, name and the other fields of a model given beside `models` to the entries."""
    entries = RunConfig._models_from_names(models)
    if not isinstance(entries, list):
        return models
    alone = [key for key in ("weights", "name") if per_model.get(key) is not None]
    if alone and len(entries) > 1:
        flag = "--as" if alone[0] == "name" else "--weights"
        raise BadConfig(
            f"{flag} belongs to one model, but {len(entries)} were given. Run them one by one, or "
            "give each its own [[models]] table in a TOML file."
        )
    return [{**per_model, **entry} if isinstance(entry, Mapping) else entry for entry in entries]


def _explain(error: ValidationError, where: str) -> str:
    """One line a fault: path of the key, what is wrong, what would be right."""
    lines = []
    for fault in error.errors():
        place = ".".join(str(step) for step in fault["loc"])
        if fault["type"] == "extra_forbidden":
            known = ModelEntry if fault["loc"][0] == "models" else RunConfig
            names = list(known.model_fields) + (list(_PER_MODEL) if known is RunConfig else [])
            close = nearest(str(fault["loc"][-1]), names, 1)
            hint = f"nearest: {close[0]}" if close else "known: " + ", ".join(sorted(names))
            lines.append(f"{place}: unknown key; {hint}")
        elif fault["type"] == "literal_error":
            close = nearest(str(fault["input"]), re.findall(r"'([^']*)'", fault["ctx"]["expected"]), 1)
            hint = f"; nearest: {close[0]}" if close else ""
            lines.append(f"{place}: {fault['input']!r}, expected {fault['ctx']['expected']}{hint}")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            found = "" if fault["type"] == "value_error" else f" (found {fault['input']!r})"
            lines.append(f"{place}: {message}{found}" if place else message)
    return f"{where}: " + ("\n  " if len(lines) > 1 else "") + "\n  ".join(lines)


def select(selection: str, count: int, what: str) -> list[int]:
    """Indices that a selection names among `count` things, ascending, without duplicates.

    Ranges are cut at the end as slices are; an index that does not exist raises BadConfig. Negative
    numbers count from the end.
    """
    if selection == "all":
        return list(range(count))
    chosen: set[int] = set()
    for item in selection.split(","):
        if ":" in item:
            start, stop = (int(text) if text else None for text in item.split(":"))
            chosen.update(range(count)[start:stop])
        else:
            index = int(item)
            if not -count <= index < count:
                raise BadConfig(f"{item}: there is no such {what}; there are {count} (0 to {count - 1}).")
            chosen.add(index % count)
    if not chosen:
        raise BadConfig(f"{selection!r} selects no {what}; there are {count} (0 to {count - 1}).")
    return sorted(chosen)
