"""Before anything is written: describe and load the models, and compare them with what the folder holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from atlas_schema.errors import BadConfig
from atlas_schema.store import Store
from atlas_schema.tables import PARTIAL_STAGES
from jobs.claim import model_row, refuse_foreign, with_earlier
from jobs.config import RunConfig
from jobs.layers import Identity
from jobs.measuring import HEAD_STAGES, PARTS_OF, Measuring, measuring_of
from jobs.pairing import pairs_of
from jobs.plan import Machine, make_plan

if TYPE_CHECKING:
    from pipeline.models import LoadedModel, ModelDescription, ModelRequest
    from pipeline.visualize.recipes import Recipe

Say = Callable[[str], None]
Described = tuple[tuple["ModelRequest", "ModelDescription"], ...]


@dataclass(frozen=True)
class Prepared:
    """A run whose every input was found good."""

    config: RunConfig
    store: Store
    recipe: Recipe
    described: Described
    rows: tuple[dict[str, Any], ...]  # of `models`, in the order of `described`
    measuring: Measuring | None  # where there are stages behind visualize
    decomposed: tuple[str, ...] = ()  # slugs of the models whose heads are decomposed

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this run that fill columns, as work units know them."""
        return tuple(part for stage in self.config.stages for part in PARTS_OF[stage])

    @property
    def identities(self) -> dict[tuple[str, str], Identity]:
        """Of every stage that this run or an earlier one has units of, by stage and slug."""
        return {
            (one["stage"], row["slug"]): Identity(row["fingerprint"], one["settings"], seed_of(one["stage"], row))
            for row in self.rows
            for one in row["stages"]
            if one["stage"] not in PARTIAL_STAGES
        }


def seed_of(stage: str, row: Mapping[str, Any]) -> int:
    """Only what draws random numbers of the run's seed depends on it, and what compares its pictures."""
    return row["seed"] if stage in ("visualize", "judge") else 0


def prepare(config: RunConfig, say: Say) -> Prepared:
    """Describe and load the models, and compare them with the folder. Writes nothing.

    Raises what is the matter with the config, a model, its weights or the folder, as an AtlasError.
    """
    from pipeline.models import load
    from pipeline.visualize.recipes import recipe_named

    recipe = recipe_named(config.recipe)
    store = open_store(config.out)
    described = describe_all(config)
    make_plan(config, described, recipe, Machine())  # slug clashes and bad selections, before any download
    measuring = measuring_of(config, recipe.hash, say)
    stages = [part for stage in config.stages for part in PARTS_OF[stage]]
    rows, decomposed = [], []
    for request, description in described:
        say(f"Loading {description.id}" + (f" with {request.weights}" if request.weights else ""))
        model = load(request)  # and let it go again
        own = list(stages)
        if "decompose" in config.stages and _decomposes(model, say):
            decomposed.append(description.slug)
            own += [stage for stage in HEAD_STAGES if stage != "pool"]  # that one is the embedder's
        rows.append(model_row(model, recipe, config.seed, config.precision, measuring, own))
    refuse_foreign(store, rows)
    rows = [with_earlier(store, row) for row in rows]
    if measuring is not None and "match" in config.stages:
        pairs = pairs_of(rows, measuring.probe_set.identity, measuring.match_images)
        measuring = replace(measuring, pairs=tuple(pairs))
    return Prepared(config, store, recipe, described, tuple(rows), measuring, tuple(decomposed))


def _decomposes(model: LoadedModel, say: Say) -> bool:
    """Whether the representation is a sum of components, tried on one picture; if not, the reason is told."""
    from atlas_schema.errors import UnknownFamily
    from pipeline.decompose import Contributing, random_pictures

    try:
        Contributing(model)(model.normalise(random_pictures(model, 1)))
    except UnknownFamily as error:
        say(f"The heads of {model.description.slug} are left out: {error}")
        return False
    return True


def describe_all(config: RunConfig) -> Described:
    """Descriptions of the models asked for; a pattern such as zoo/* stands for all that it matches."""
    from pipeline.models import describe

    requests = [entry.request() for entry in expand(config).models]
    return tuple((request, describe(request)) for request in requests)


def expand(config: RunConfig) -> RunConfig:
    """Replace patterns among the models by what they match. Raises BadConfig where one matches nothing."""
    if not any("*" in entry.model for entry in config.models):
        return config
    from pipeline.models import known_models

    entries = []
    for entry in config.models:
        names = known_models(entry.model) if "*" in entry.model else [entry.model]
        if not names:
            raise BadConfig(f"{entry.model}: no known model matches. See `neuron-atlas models`.")
        entries += [entry.model_copy(update={"model": name}) for name in names]
    return config.model_copy(update={"models": tuple(entries)})


def open_store(url: str) -> Store:
    """The atlas's store; a folder becomes absolute, as workers start elsewhere. Refuses memory://."""
    if url.startswith("memory:"):
        raise BadConfig(
            f"{url}: a memory store lives in one process, but the workers are others. "
            "Give a folder or an object store with --out."
        )
    return Store(url if "://" in url else os.path.abspath(os.path.expanduser(url)))
