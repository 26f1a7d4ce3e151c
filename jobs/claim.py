"""The claim a run lays on a slug: its rows of `models` and `sites`; the refusal to touch another's atlas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.errors import BadConfig, ForeignAtlas, ShardCorrupt
from atlas_schema.parquet import decode, versions_agree
from atlas_schema.shards import shard_path
from atlas_schema.store import Store
from atlas_schema.tables import MODELS, SITES
from jobs.plan import Range, union
from jobs.records import local_folder
from jobs.version import software

if TYPE_CHECKING:
    from jobs.measuring import Measuring
    from pipeline.models import LoadedModel, ModelDescription
    from pipeline.visualize.recipes import Recipe

# What makes an atlas of a slug this run's own: field of the models row -> what it is called in messages.
IDENTITY = {
    "fingerprint": "weights (fingerprint)",
    "recipe": "recipe",
    "recipe_hash": "settings of the recipe (hash)",
    "seed": "seed",
    "input_height": "input height",
    "input_width": "input width",
}

OF_PICTURES = ("recipe", "recipe_hash", "seed")  # fields that only visualizations depend on


def model_row(
    model: LoadedModel,
    recipe: Recipe,
    seed: int,
    precision: str | None,
    measuring: Measuring | None,
    stages: Iterable[str],
) -> dict[str, Any]:
    """The row of `models` for a loaded model; `stages` are those that this run has units of."""
    description = model.description
    return {
        "slug": description.slug,
        "model_id": description.id,
        "family": description.family,
        "source": description.source,
        "licence": description.licence or None,
        "fingerprint": model.fingerprint,
        "parameters": description.parameters,
        "input_height": description.input_size[0],
        "input_width": description.input_size[1],
        "mean": list(description.mean),
        "std": list(description.std),
        "interpolation": description.interpolation,
        "representation_dim": description.representation_dim,
        "ffn_sites": len(description.ffn_sites),
        "neurons": description.neurons,
        "attention_sites": len(description.attention_sites),
        "heads": description.heads,
        "recipe": recipe.name,
        "recipe_hash": recipe.hash,
        "recipe_json": recipe.to_json(),
        "seed": seed,
        "precision": precision,
        "probe_set": measuring.probe_set.identity if measuring else None,
        "probe_name": measuring.probe_set.name if measuring else None,
        "stages": [{"stage": stage, "settings": settings_of(stage, recipe, measuring)} for stage in stages],
        "software": software(),
    }


def settings_of(stage: str, recipe: Recipe, measuring: Measuring | None) -> str:
    """The hash of a stage's settings."""
    if stage == "visualize":
        return recipe.hash
    assert measuring is not None
    return measuring.settings(stage)


def site_rows(description: ModelDescription, planned: Mapping[int, Sequence[Range]]) -> list[dict[str, Any]]:
    """The rows of `sites`; FFN sites with the ranges of units that the atlas sets out to describe."""
    rows: list[dict[str, Any]] = []
    for ffn in description.ffn_sites:
        rows.append(
            _site(description.slug, "ffn", ffn)
            | {
                "width": ffn.width,
                "heads": None,
                "head_dim": None,
                "attention_kind": None,
                "activation_function": ffn.activation,
                "planned": [{"start": start, "stop": stop} for start, stop in planned.get(ffn.layer, ())],
            }
        )
    for attention in description.attention_sites:
        rows.append(
            _site(description.slug, "attention", attention)
            | {
                "width": None,
                "heads": attention.heads,
                "head_dim": attention.head_dim,
                "attention_kind": attention.kind,
                "activation_function": None,
                "planned": None,
            }
        )
    return rows


def _site(slug: str, kind: str, site: Any) -> dict[str, Any]:
    return {
        "slug": slug,
        "kind": kind,
        "layer": site.layer,
        "path": site.path,
        "depth": site.depth,
        "grids": [{"height": height, "width": width} for height, width in site.grids],
        "prefix_tokens": list(site.prefix_tokens),
        "calls": max(1, len(site.grids)),
    }


def refuse_foreign(store: Store, wanted: Sequence[Mapping[str, Any]]) -> set[str]:
    """Compare the models rows this run would write with those in the folder; the slugs that are there.

    Raises ForeignAtlas, naming field, found and expected, before anything was touched: for a slug that holds
    other weights, another recipe or schema, and for a folder whose files are no atlas.
    """
    _refuse_other_folder(store)
    known = set()
    for row in wanted:
        there = _claimed(store, row["slug"])
        if there is None:
            continue
        known.add(row["slug"])
        seen = any(one["stage"] == "visualize" for one in there["stages"])
        for field, name in IDENTITY.items():
            if field in OF_PICTURES and not seen:  # no picture is there yet: any recipe may make them
                continue
            if there[field] != row[field]:
                raise ForeignAtlas(
                    f"{store.url}: {row['slug']} in this atlas has another {name}: "
                    f"found {_brief(there[field])}, expected {_brief(row[field])}. Nothing was changed. "
                    f"Write to another folder with --out, give the model another name with --as, or "
                    f"ask for {name} {_brief(there[field])}."
                )
        _refuse_other_settings(store, row, there)
    return known


def _refuse_other_settings(store: Store, row: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Stages that are there keep their settings: a table never mixes two probe sets or two lists of texts."""
    if row["probe_set"] and there["probe_set"] not in (None, row["probe_set"]):
        raise ForeignAtlas(
            f"{store.url}: {row['slug']} in this atlas was measured on another probe set: found {there['probe_name']} "
            f"({there['probe_set']}), expected {row['probe_name']} ({row['probe_set']}). Nothing was changed. Give the "
            "images it was measured on, or write to another folder with --out."
        )
    before = {one["stage"]: one["settings"] for one in there["stages"]}
    for one in row["stages"]:
        if before.get(one["stage"], one["settings"]) != one["settings"]:
            raise ForeignAtlas(
                f"{store.url}: the stage {one['stage']} of {row['slug']} ran with other settings: found "
                f"{before[one['stage']]}, expected {one['settings']}. Nothing was changed. Give the settings of "
                "the run that is there (see its config in the runs table), or write to another folder with --out."
            )


def with_earlier(store: Store, row: dict[str, Any]) -> dict[str, Any]:
    """The row with what earlier runs said of stages that this one leaves alone."""
    there = _claimed(store, row["slug"])
    if there is None:
        return row
    own = {one["stage"] for one in row["stages"]}
    stages = [*row["stages"], *(one for one in there["stages"] if one["stage"] not in own)]
    kept = {} if row["probe_set"] else {name: there[name] for name in ("probe_set", "probe_name")}
    return {**row, **kept, "stages": sorted(stages, key=lambda one: str(one["stage"]))}


def _claimed(store: Store, slug: str) -> dict[str, Any] | None:
    """The row of `models` that is there, if any; a damaged one claims nothing and is written again."""
    path = shard_path(MODELS, slug)
    try:
        table, metadata = decode(store.read(path), path)
    except (FileNotFoundError, ShardCorrupt):
        return None
    version = metadata.get("schema_version", "")
    if not versions_agree(version):
        raise ForeignAtlas(
            f"{store.url}: {slug} in this atlas follows another schema: found {version}, expected "
            f"{SCHEMA_VERSION}. Nothing was changed. Use the release of neuron-atlas that wrote it, or "
            "write to another folder with --out."
        )
    row: dict[str, Any] = table.to_pylist()[0]
    return row


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:16] + "..."


def _refuse_other_folder(store: Store) -> None:
    """A folder with visible files and no trace of an atlas is somebody's own: a README.md would be lost."""
    folder = local_folder(store)
    if folder is None or not folder.exists():
        return
    if not folder.is_dir():
        raise BadConfig(f"{store.url}: this is a file. Give --out a folder or a URL.")
    names = {path.name for path in folder.iterdir()}
    visible = sorted(name for name in names if not name.startswith("."))
    if visible and not names & {".atlas", "models"}:
        raise ForeignAtlas(
            f"{store.url}: this folder holds other files ({visible[0]}) and no atlas. Nothing was "
            "changed. Give an empty or new folder with --out."
        )


def planned_ranges(site_row: Mapping[str, Any]) -> tuple[Range, ...]:
    return tuple((one["start"], one["stop"]) for one in site_row["planned"] or ())


def planned_with(
    store: Store, slug: str, ranges: Mapping[int, Sequence[Range]], committed: Mapping[int, Sequence[Range]]
) -> dict[int, tuple[Range, ...]]:
    """By layer: what the atlas set out to describe before, what is committed, and what this run adds.

    Committed ranges are named too, so that a lost or damaged table of sites loses no plan but of gaps.
    """
    path = shard_path(SITES, slug)
    before: dict[int, tuple[Range, ...]] = {}
    with contextlib.suppress(FileNotFoundError, ShardCorrupt):
        rows = decode(store.read(path), path)[0].to_pylist()
        before = {row["layer"]: planned_ranges(row) for row in rows if row["kind"] == "ffn"}
    layers = sorted({*before, *ranges, *committed})
    return {layer: union(before.get(layer, ()), ranges.get(layer, ()), committed.get(layer, ())) for layer in layers}
