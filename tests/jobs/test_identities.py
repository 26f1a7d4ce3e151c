"""Keys tell all: what decides a result changes the keys of exactly the stages that read it, and of their readers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest

import jobs.stages
from atlas_schema.inversion_recipes import HEAD_PICTURE_STAGES, INVERSION_RECIPES, INVERSION_STAGES, READING_STAGES
from atlas_schema.picture_recipes import PICTURE_RECIPES, PICTURE_STAGES
from jobs.config import ModelEntry, RunConfig
from jobs.facts import FACTS, differences, facts_text, settings_hash
from jobs.identities import stage_identities
from jobs.inputs import EmbedderChoice, HeadTexts, Inputs
from jobs.settings import Settings
from jobs.stages import STAGES
from pipeline.decompose.features import FeatureSet
from pipeline.images.probe_set import ProbeImage, ProbeSet
from pipeline.invert.recipes import INVERSION_RECIPES as RECIPES_OF_INVERSION
from pipeline.label.concepts import ConceptSet, class_prompts
from pipeline.models import ModelDescription, ModelRequest, describe
from pipeline.visualize.recipes import FAST, RECIPES

VIT, CLIP = describe(ModelRequest("zoo/vit")), describe(ModelRequest("zoo/clip"))
IMAGES = tuple(
    ProbeImage(
        id=f"{index:02}.png",
        sha256=f"{index:064x}",
        width=64,
        height=64,
        label="cat" if index % 2 else "dog",
        caption=f"picture {index}",
        licence="cc0",
        source="somewhere",
        attributes=(("colour", "red"),),
    )
    for index in range(12)
)


SETTINGS = Settings()
CONCEPTS = ConceptSet("mine", ("a cat", "a dog"), source="me", licence="cc0", template="one {}")
POOL = ConceptSet("pool", ("fur", "grass"), template="some {}")
FEATURES = FeatureSet("f", {"colour": ("red", "blue")}, template="a {} thing", values={"colour": ("r", "b")})


@dataclass(frozen=True)
class Given:
    """All that a run is given, in the form in which it can be changed one thing at a time."""

    recipe: Any = FAST
    seed: int = 0
    settings: Settings = SETTINGS
    match_count: int = 8
    images: tuple[ProbeImage, ...] = IMAGES
    probe_name: str = "my images"
    probe_spec: str = "/somewhere/images"
    concepts: ConceptSet = CONCEPTS
    pool: ConceptSet = POOL
    features: FeatureSet = FEATURES
    embedder: ModelDescription = CLIP
    embedder_weights: str = "e" * 64
    model: ModelDescription = VIT
    weights: str = "f" * 64

    def inputs(self) -> Inputs:
        probe_set = ProbeSet(self.probe_name, self.probe_spec, self.images, (), None, ())  # type: ignore[arg-type]
        classes = probe_set.classes
        texts = HeadTexts(self.pool, self.features, classes, class_prompts(classes, self.settings.class_prompts))
        choice = EmbedderChoice(ModelRequest("zoo/clip"), self.embedder, self.embedder_weights)
        return Inputs(self.recipe, self.seed, self.settings, self.match_count, probe_set, choice, self.concepts, texts)

    def keys(self) -> dict[str, tuple[str, str]]:
        """Of every stage, what stands in its units' keys."""
        made = stage_identities(jobs.stages.STAGES, self.inputs(), self.model, self.weights)
        return {name: (key.identity.fingerprint, key.identity.settings) for name, key in made.items()}


BEFORE = Given()


def changed(now: Given) -> set[str]:
    old, new = BEFORE.keys(), now.keys()
    assert old.keys() == new.keys() == {stage.name for stage in STAGES}
    return {name for name in old if old[name] != new[name]}


def with_readers(*names: str) -> set[str]:
    """These stages, and all that read them, directly or not."""
    found = set(names)
    for stage in STAGES:  # a stage stands behind those that it reads
        if found & {*stage.reads, *stage.reads_if_there}:
            found.add(stage.name)
    return found


ALL = {stage.name for stage in STAGES}
FURTHER = {stage for stage, _ in PICTURE_STAGES}
INVERTING = {stage for stage, _ in INVERSION_STAGES}
PICTURING_HEADS = {stage for stage, _ in HEAD_PICTURE_STAGES}
READING = {stage for stage, _ in READING_STAGES}
#: Which stages read each record of settings: a new record without an answer here fails.
READ_BY = {
    "visualize": {"visualize", *FURTHER},
    "natural": {"verdict", *FURTHER, *INVERTING, *PICTURING_HEADS},
    "probe": {"probe"},
    "evidence": {"evidence"},
    "examples": {"examples"},
    "views": {"embed"},
    "label": {"label"},
    "writes": {"writes"},
    "effect": {"effect"},
    "match": {"pairs"},
    "class_prompts": {"pool"},
    "align": {"align"},
    "spans": {"spans"},
    "project": {"project"},
    "reads": {"reads"},
    "heads": {"heads"},
}
#: Fields that more stages read than the record they stand in.
BESIDE = {("probe", "panel"): {"embed", "writes", "effect", "align", "reads"}}


def leaves(record: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in fields(record):
        value = getattr(record, field.name)
        yield from leaves(value, (*path, field.name)) if is_dataclass(value) else [(*path, field.name)]


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value[:-1], other(value[-1]))
    return {"both": "crop"}.get(value, f"{value} another {{}}")


def changed_at(record: Any, path: tuple[str, ...]) -> Any:
    """A copy of a frozen record with one field changed, also where nobody can set it."""
    made = copy.copy(record)
    name, *rest = path
    value = getattr(record, name)
    object.__setattr__(made, name, changed_at(value, tuple(rest)) if rest else other(value))
    return made


def test_every_record_of_settings_has_an_answer() -> None:
    assert READ_BY.keys() == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("path", list(leaves(Settings())), ids=".".join)
def test_every_number_that_decides_a_result_changes_the_keys_of_who_reads_it(path: tuple[str, ...]) -> None:
    now = replace(BEFORE, settings=changed_at(BEFORE.settings, path))
    direct = READ_BY[path[0]] | BESIDE.get(path[:2], set())
    assert changed(now) == with_readers(*direct)


def image_with(**changes: Any) -> Callable[[Given], Given]:
    return lambda given: replace(given, images=(replace(given.images[0], **changes), *given.images[1:]))


def features_with(**changes: Any) -> Callable[[Given], Given]:
    return lambda given: replace(given, features=replace(given.features, **changes))


SEEN = {
    "probe",
    "embed",
    "writes",
    "effect",
    "pairs",
    "decompose",
    "align",
    "project",
    "heads",
    "pictures-accentuated",
}  # these read the images
CLASSED = {"probe", "effect", "align", "project", "heads"}  # these read the images' classes
TOLD = {"pool", "align", "project", "heads"}  # these read the features' texts
CHANGES: dict[str, tuple[Callable[[Given], Given], set[str]]] = {
    "the recipe": (
        lambda g: replace(g, recipe=replace(g.recipe, robust_draws=g.recipe.robust_draws + 1)),
        {"visualize"},
    ),
    "the seed": (lambda g: replace(g, seed=1), {"visualize", *FURTHER, *INVERTING, *PICTURING_HEADS}),
    "the bytes of an image": (image_with(sha256="1" * 64), SEEN),
    "the name of an image": (image_with(id="x.png"), SEEN),
    "one image less": (lambda g: replace(g, images=g.images[1:]), {*SEEN}),
    "a new class of an image": (image_with(label="fox"), {*CLASSED, "pool"}),
    "the class of an image, of those there are": (
        image_with(label="cat"),
        {"probe", "effect", "align", "project", "heads"},
    ),
    "the caption of an image": (image_with(caption="a fox"), {"effect"}),
    "the attributes of an image": (image_with(attributes=(("colour", "blue"),)), {"effect", "align", "project"}),
    "the images to compare models on": (lambda g: replace(g, match_count=9), {"pairs"}),
    "a text of the labels": (
        lambda g: replace(g, concepts=replace(g.concepts, texts=("a cat", "a fox"))),
        {"texts", "writes", "effect"},
    ),
    "the template of the labels": (
        lambda g: replace(g, concepts=replace(g.concepts, template="{}")),
        {"texts", "writes", "effect"},
    ),
    "a text of the pool": (lambda g: replace(g, pool=replace(g.pool, texts=("fur", "sand"))), {"pool"}),
    "a text of a feature": (features_with(features={"colour": ("red", "green")}), TOLD),
    "the template of the features": (features_with(template="{}"), {"pool"}),
    "a value of a feature": (features_with(values={"colour": ("r", "g")}), {"align", "project", "heads"}),
    "the embedder's weights": (lambda g: replace(g, embedder_weights="0" * 64), {"embed", "texts", "pool"}),
    "how the embedder is fed": (
        lambda g: replace(g, embedder=replace(g.embedder, mean=(0.1, 0.2, 0.3))),
        {"embed", "texts", "pool"},
    ),
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_whatever_else_decides_a_result(what: str) -> None:
    change, direct = CHANGES[what]
    assert changed(change(BEFORE)) == with_readers(*direct)


OWN = {stage.name for stage in STAGES if stage.owner == "model"}


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "0" * 64},
        *({"model": replace(VIT, **one)} for one in (
            {"input_size": (96, 96)}, {"mean": (0.1, 0.2, 0.3)}, {"std": (1.0, 1.0, 2.0)},
            {"interpolation": "bicubic"}, {"id": "timm/other"}, {"arguments": (("global_pool", "avg"),)},
        )),
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_weights_and_how_a_model_is_fed_are_in_all_its_keys(change: dict[str, Any]) -> None:
    assert changed(replace(BEFORE, **change)) == OWN


@pytest.mark.parametrize("name", [stage.name for stage in STAGES])
def test_a_new_version_of_an_algorithm_changes_its_keys_and_those_of_its_readers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = BEFORE.keys()
    stages = tuple(replace(one, version=one.version + (one.name == name)) for one in STAGES)
    monkeypatch.setattr(jobs.stages, "STAGES", stages)
    new = BEFORE.keys()
    assert {one for one in old if old[one] != new[one]} == with_readers(name)


@pytest.mark.parametrize(
    "change",
    [
        {"probe_name": "others"},
        {"probe_spec": "elsewhere"},
        {"concepts": replace(BEFORE.concepts, name="x", source="y", licence="z")},
        {"pool": replace(BEFORE.pool, name="x", source="y", licence="z")},
        {"features": replace(BEFORE.features, name="x", source="y", licence="z")},
        {"images": tuple(replace(one, licence="mit", source="x", width=1, height=1) for one in IMAGES)},
        {"model": replace(VIT, licence="mit", parameters=1, forward_flops=1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_only_names_things_is_in_no_key(change: dict[str, Any]) -> None:
    assert changed(replace(BEFORE, **change)) == set()


#: Options of a run, and what they decide: stages (some of those whose keys they change), the choice of models or of
#: neurons, of stages, or nothing but speed, place and patience. A new option without an answer fails.
DECIDES: dict[str, str] = {
    **dict.fromkeys(("recipe", "seed", "probe", "examples", "panel", "match_images"), "keys"),
    **dict.fromkeys(("embedder", "concepts", "texts", "features"), "keys"),
    **dict.fromkeys(("models", "shard", "layers", "units", "stages", "also"), "what is done"),
    **dict.fromkeys(("classes", "prompts", "head_pictures", "inversions"), "what is done"),
    "precision": "rounding: it stands in each row, and in the claim of each stage",
    "probe_images": "what of the probe images is shown",
    **dict.fromkeys(("out", "address", "node_label", "workers", "threads", "device"), "place and speed"),
    "unit_seconds": "speed",
    **dict.fromkeys(("retries", "hang_seconds", "idle_seconds", "drain_seconds"), "patience"),
}


def test_every_option_of_a_run_has_an_answer() -> None:
    assert DECIDES.keys() == RunConfig.model_fields.keys()
    assert ModelEntry.model_fields.keys() == {
        *("model", "weights", "name", "random_weights", "input_size", "which", "model_args", "class_names"),
    }


def test_names_of_classes_are_in_the_keys_of_stages_that_say_them() -> None:
    before, after = (
        stage_identities(STAGES, BEFORE.inputs(), VIT, "f" * 64, class_names=names) for names in ((), ("cat", "dog"))
    )
    other = {name for name in before if before[name].identity != after[name].identity}
    assert other == {"effect", "project", "maps", "heads", *INVERTING, *READING}


def test_the_panel_decides_heads_only_where_they_are_measured_on_it_alone() -> None:
    convit = describe(ModelRequest("zoo/convit"))
    smaller = replace(BEFORE, settings=changed_at(BEFORE.settings, ("probe", "panel")))
    for model, direct in ((VIT, set()), (convit, {"decompose", "project", "maps"})):
        one, other = (stage_identities(STAGES, given.inputs(), model, "f" * 64) for given in (BEFORE, smaller))
        found = {name for name in one if one[name].identity != other[name].identity}
        assert found == with_readers("probe", *BESIDE["probe", "panel"], *direct)


@pytest.mark.parametrize("recipe", PICTURE_RECIPES)
def test_settings_of_a_recipe_are_in_the_keys_of_its_own_further_pictures(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = BEFORE.keys()
    monkeypatch.setitem(RECIPES, recipe, replace(RECIPES[recipe], robust_draws=99))
    after = BEFORE.keys()
    assert {name for name in before if before[name] != after[name]} == {f"pictures-{recipe}"}


@pytest.mark.parametrize("recipe", INVERSION_RECIPES)
def test_settings_of_a_recipe_of_inversion_are_in_the_keys_of_its_pictures(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = BEFORE.keys()
    monkeypatch.setitem(RECIPES_OF_INVERSION, recipe, replace(RECIPES_OF_INVERSION[recipe], noise=0.5))
    after = BEFORE.keys()
    assert {name for name in before if before[name] != after[name]} == {
        *(f"invert-{recipe}", f"transfer-{recipe}", f"invert-heads-{recipe}"),
    }
    assert set(RECIPES_OF_INVERSION) == set(INVERSION_RECIPES)


def test_every_recipe_that_there_is_may_make_further_pictures() -> None:
    assert {name for name in RECIPES if name != "tiny"} == set(PICTURE_RECIPES)  # tests add tiny
    starts = {f"pictures-{name}" for name in PICTURE_RECIPES if RECIPES[name].photographs}
    assert starts == {stage.name for stage in STAGES if stage.name in FURTHER and "examples" in stage.reads}


def test_every_fact_is_read_by_some_stage_and_every_stage_knows_its_facts() -> None:
    read = {name for stage in STAGES for name in stage.facts}
    assert read == set(FACTS)


def test_stages_stand_behind_those_that_they_read() -> None:
    seen: set[str] = set()
    for stage in STAGES:
        assert {*stage.reads, *stage.reads_if_there} <= seen
        seen.add(stage.name)


def test_settings_are_the_hash_of_the_facts_that_the_atlas_keeps() -> None:
    for key in stage_identities(STAGES, BEFORE.inputs(), VIT, "f" * 64).values():
        assert settings_hash(key.facts) == key.identity.settings


def test_differences_are_said_in_words() -> None:
    def text(given: Given, name: str) -> str:
        return stage_identities(STAGES, given.inputs(), given.model, given.weights)[name].facts

    assert differences(text(BEFORE, "visualize"), text(replace(BEFORE, seed=5), "visualize")) == [
        "seed (found 0, expected 5)"
    ]
    wider = replace(BEFORE, settings=changed_at(BEFORE.settings, ("probe", "panel")))
    assert differences(text(BEFORE, "probe"), text(wider, "probe")) == [
        "probe settings panel (found 2048, expected 2049)"
    ]
    told = differences(text(BEFORE, "evidence"), text(wider, "evidence"))
    assert [one.partition(" (")[0] for one in told] == ["stage probe"], (
        "what it read is named where nothing else differs"
    )
    assert differences(facts_text({"version": 1}), facts_text({"version": 2})) == ["version (found 1, expected 2)"]


def test_a_stage_that_is_left_alone_is_taken_as_the_atlas_has_it() -> None:
    from atlas_schema.units import Identity

    later = replace(BEFORE, recipe=replace(FAST, robust_draws=99))
    theirs = stage_identities(STAGES, BEFORE.inputs(), VIT, "f" * 64)
    claimed = {"visualize": Identity("f" * 64, theirs["visualize"].identity.settings)}
    judged = [stage for stage in STAGES if stage.name in ("probe", "judge")]
    now = stage_identities(judged, later.inputs(), VIT, "f" * 64, claimed)
    assert now["judge"] == theirs["judge"], "the pictures that are there are judged, whatever recipe is named"
    assert now["judge"] != stage_identities(judged, later.inputs(), VIT, "f" * 64)["judge"], (
        "without pictures it is another"
    )
