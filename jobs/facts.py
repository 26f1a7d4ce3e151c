"""Every input and setting that decides a result, under one name; and how a stage's facts become a hash.

A stage names its facts (`jobs.stages`); their values, with the stage's version and the settings of what it reads,
make the hash that stands in its work units. What only decides speed or place is no fact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas_schema.inversion_recipes import INVERSION_RECIPES
from atlas_schema.picture_recipes import PICTURE_RECIPES
from jobs.digests import digest
from jobs.inputs import fed

if TYPE_CHECKING:
    from jobs.inputs import Inputs
    from jobs.stages import Stage
    from pipeline.models import ModelDescription


@dataclass(frozen=True)
class Fact:
    """One thing that decides results."""

    name: str
    means: str  # for the docs
    value: Callable[[Inputs], Any]  # JSON; of long things a digest
    needs: tuple[str, ...] = ()  # inputs that must be opened for it


def _of_images(value: Callable[[Any], Any]) -> Callable[[Inputs], Any]:
    """A digest of something that the set says of each image."""
    return lambda inputs: digest([value(image) for image in inputs.images.images])


def _settings_of_recipe(name: str, inputs: Inputs) -> str:
    """What stands for a recipe by which further pictures are made, whatever the run's own recipe is."""
    from pipeline.visualize.recipes import recipe_named

    return f"{name} {recipe_named(name).hash}"


def _settings_of_inversion(name: str, _: Inputs) -> str:
    from pipeline.invert.recipes import inversion_recipe

    return f"{name} {inversion_recipe(name).hash}"


def _section(name: str, field: str, means: str) -> Fact:
    return Fact(name, means, lambda inputs: asdict(getattr(inputs.settings, field)))


FACTS: Mapping[str, Fact] = {
    fact.name: fact
    for fact in (
        Fact("recipe", "Settings of the visualization recipe", lambda i: f"{i.recipe.name} {i.recipe.hash}"),
        *(
            Fact(f"recipe {name}", f"Settings of the recipe {name}", partial(_settings_of_recipe, name))
            for name in PICTURE_RECIPES
        ),
        *(
            Fact(
                f"inversion recipe {name}",
                f"Settings of the recipe of inversion {name}",
                partial(_settings_of_inversion, name),
            )
            for name in INVERSION_RECIPES
        ),
        Fact("seed", "Seed of the random numbers of visualizations and inversions", lambda i: i.seed),
        Fact("images", "Names and bytes of the probe images", lambda i: i.images.identity, ("images",)),
        Fact("classes", "Class of every probe image", _of_images(lambda image: image.label), ("images",)),
        Fact("captions", "Caption of every probe image", _of_images(lambda image: image.caption), ("images",)),
        Fact("attributes", "Attributes of every probe image", _of_images(lambda image: image.attributes), ("images",)),
        Fact("panel", "How many images every neuron's numbers are kept of", lambda i: i.settings.probe.panel),
        Fact("match images", "How many images models are compared on", lambda i: i.match_count),
        Fact("concepts", "Texts that labels are chosen from", lambda i: i.concepts.identity, ("concepts",)),
        Fact(
            "texts of heads",
            "Texts and features that heads are described with, as they are embedded",
            lambda i: digest(i.head_texts.prompts()),
            ("images", "texts of heads"),
        ),
        Fact(
            "features",
            "Texts of every feature, and what images' attributes call them ([values] of the file)",
            lambda i: digest({"features": i.head_texts.features.features, "values": i.head_texts.features.values}),
            ("images", "texts of heads"),
        ),
        _section("picture settings", "visualize", "How a picture is stored and chosen, beside the recipe"),
        _section(
            "natural settings", "natural", "How far a picture is changed to see whether it holds, and when it does"
        ),
        _section("probe settings", "probe", "How many examples, panel images and images of a class count"),
        _section("evidence settings", "evidence", "Which quantiles, how many bins and classes are kept of a neuron"),
        _section("example settings", "examples", "Which lower quantiles are shown, and from how many images"),
        _section("view settings", "views", "Which windows of an image are embedded"),
        _section("label settings", "label", "How texts are scored, tested and checked, and crops compared"),
        _section("write settings", "writes", "How many classes a neuron names, and images that hold the norms"),
        _section("effect settings", "effect", "How many neurons are ablated, and on how many images"),
        _section("match settings", "match", "Grid on which maps are compared, number of partners, null quantile"),
        _section("align settings", "align", "How the maps to the embedder's space are fitted"),
        _section("span settings", "spans", "How many texts and axes describe a head, and how they are chosen"),
        _section("project settings", "project", "How many example images are kept of each direction"),
        _section(
            "read settings", "reads", "On how many images neurons are followed into heads, how many heads are named"
        ),
        _section("head settings", "heads", "What share of variance makes a label; classes named"),
    )
}


def facts_of(
    stage: Stage,
    inputs: Inputs,
    owner: ModelDescription,
    reads: Mapping[str, Any],
    weights: str = "",
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """All that decides a stage's result beside the weights in its units: what its settings are the hash of.

    owner: the model that the stage runs. reads: by name, the settings of each stage of the model that it reads, and of
    the embedder's all their facts, which stand nowhere else. weights: the fingerprint of the embedder, of whose stages
    others read results; of a model's own stages the units hold it. class_names: of the classifier's outputs, where its
    id does not say them.
    """
    names = [*stage.facts, *(["panel"] if stage.samples(owner) and "panel" not in stage.facts else [])]
    named = {"class names": digest(list(class_names))} if class_names and stage.names_classes else {}
    return {
        "version": stage.version,
        "model": {**fed(owner), **named, **({"weights": weights} if weights else {})},
        "facts": {name: FACTS[name].value(inputs) for name in names},
        "reads": dict(reads),
    }


def facts_text(facts: Mapping[str, Any]) -> str:
    """The facts as the models table keeps them: JSON with sorted keys."""
    return json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def settings_hash(text: str) -> str:
    """16 hex digits that stand for the facts, as `facts_text` writes them, in every work unit's key."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(before: str, now: str) -> list[str]:
    """What differs between two texts of `facts_text`, in words: `classes (found ab12, expected cd34)`."""
    old, new = _flat(json.loads(before)), _flat(json.loads(now))
    order = list(FACTS)
    names = sorted(old.keys() | new.keys(), key=lambda name: (order.index(name) if name in order else 0, name))
    names = [name for name in names if old.get(name) != new.get(name)]
    own = [name for name in names if not name.startswith("stage ")]
    return [f"{name} (found {_short(old.get(name))}, expected {_short(new.get(name))})" for name in own or names]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf under the words that lead to it; facts without a prefix, settings of other stages as `stage NAME`."""
    leaves: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            leaves |= _flat(value, {"facts": "", "reads": "stage "}.get(name, f"{prefix}{name} "))
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
