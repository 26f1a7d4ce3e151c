"""Refuses a run that would mix its results with others'; makes the rows of `models` and `sites` that say what is whose.

A stage of a model carries its own settings, arithmetic, software and date. A run is refused only where it would mix
what it itself computes: other weights, or other facts of a stage that it has units of. What it leaves alone stays.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas_schema.columns import SCHEMA_VERSION
from atlas_schema.errors import BadConfig, ForeignAtlas, ShardCorrupt
from atlas_schema.parquet import decode, versions_agree
from atlas_schema.shards import shard_path
from atlas_schema.store import Store, folder_of
from atlas_schema.tables import MODELS, SITES
from atlas_schema.units import Identity
from jobs.facts import differences
from jobs.identities import StageIdentity
from jobs.ranges import Range, union
from jobs.stages import place_of
from jobs.version import code_version, software

if TYPE_CHECKING:
    from jobs.inputs import Inputs
    from pipeline.models import ModelDescription

Row = dict[str, Any]
PICTURES = "visualize"

#: Fields of a model's row that all its stages share, and what messages call them.
SHARED = {
    "fingerprint": "weights (fingerprint)",
    "input_height": "input height",
    "input_width": "input width",
}


def model_row(
    description: ModelDescription,
    fingerprint: str,
    notes: Sequence[str],
    keys: Mapping[str, StageIdentity],
    inputs: Inputs,
    precision: str | None,
    there: Row | None,
) -> Row:
    """The row of `models` of a model; keys: of its own stages in this run; there: the row that the atlas holds.

    notes: on what was done to its weights.
    """
    before = there or {}
    row: Row = {
        "slug": description.slug,
        "model_id": description.id,
        "family": description.family,
        "source": description.source,
        "licence": description.licence or None,
        "fingerprint": fingerprint,
        "notes": list(notes) or None,
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
        "stages": _stages(keys, precision, before.get("stages", [])),
    }
    return row | _pictures(keys, inputs, before) | _probe_set(keys, inputs, before)


def _pictures(keys: Mapping[str, StageIdentity], inputs: Inputs, before: Row) -> Row:
    """Recipe and seed belong to the pictures: another stage leaves them as they are."""
    if PICTURES in keys:
        recipe = inputs.recipe
        return {"recipe": recipe.name, "recipe_hash": recipe.hash, "recipe_json": recipe.to_json(), "seed": inputs.seed}
    return {name: before.get(name) for name in ("recipe", "recipe_hash", "recipe_json", "seed")}


def _probe_set(keys: Mapping[str, StageIdentity], inputs: Inputs, before: Row) -> Row:
    """The set that measured the neurons; of a model whose neurons were not measured, that of its heads."""
    images = inputs.probe_set
    if images is not None and ("probe" in keys or not before.get("probe_set")):
        return {"probe_set": images.identity, "probe_name": images.name}
    return {name: before.get(name) for name in ("probe_set", "probe_name")}


def _stages(keys: Mapping[str, StageIdentity], precision: str | None, before: Sequence[Row]) -> list[Row]:
    """What this run claims and what earlier ones did, in the order of the pipeline.

    A stage that was claimed before stays as it was; where its units now mix two kinds of arithmetic, none is named.
    """
    claims = {one["stage"]: dict(one) for one in before}
    for name, key in keys.items():
        told = precision if name == PICTURES or precision == "float64" else "float32"
        if name in claims:
            claims[name]["precision"] = told if claims[name]["precision"] == told else None
        else:
            claims[name] = {
                "stage": name,
                "settings": key.identity.settings,
                "facts": key.facts,
                "precision": told,
                "code_version": code_version(),
                "software": software(),
                "started": datetime.datetime.now(datetime.UTC),
            }
    return sorted(claims.values(), key=lambda one: place_of(one["stage"]))


def claimed_identities(row: Mapping[str, Any] | None) -> dict[str, Identity]:
    """By stage, what the units of a model are known by that its row of `models` claims."""
    return {one["stage"]: Identity(row["fingerprint"], one["settings"]) for one in row["stages"]} if row else {}


def site_rows(
    description: ModelDescription,
    planned: Mapping[int, Sequence[Range]],
    by_stage: Mapping[int, Mapping[str, Sequence[Range]]],
) -> list[Row]:
    """The rows of `sites`; of FFN layers with the neurons that the atlas, and each stage, sets out to describe."""
    rows: list[Row] = []
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
                "planned_stages": [
                    {"stage": stage, "start": start, "stop": stop}
                    for stage, ranges in by_stage.get(ffn.layer, {}).items()
                    for start, stop in ranges
                ],
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
                "planned_stages": None,
            }
        )
    return rows


def _site(slug: str, kind: str, site: Any) -> Row:
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


def refuse_foreign(
    store: Store, description: ModelDescription, fingerprint: str, keys: Mapping[str, StageIdentity]
) -> Row | None:
    """The row of `models` that the atlas holds of a model, None where it holds none. Nothing is touched.

    Raises ForeignAtlas, naming what was found and what was expected, where the row is of other weights or another
    schema, or a stage of this run ran with other facts.
    """
    there = claimed(store, description.slug)
    if there is None:
        return None
    slug, size = description.slug, description.input_size
    own = {"fingerprint": fingerprint, "input_height": size[0], "input_width": size[1]}
    for field, name in SHARED.items():
        if there[field] != own[field]:
            raise ForeignAtlas(
                f"{store.url}: {slug} in this atlas has another {name}: found {_brief(there[field])}, expected "
                f"{_brief(own[field])}. Nothing was changed. Write to another folder with --out, give the model "
                f"another name with --as, or ask for {name} {_brief(there[field])}."
            )
    for one in there["stages"]:
        key = keys.get(one["stage"])
        if key is not None and key.identity.settings != one["settings"]:
            told = "; ".join(differences(one["facts"], key.facts)) or "another version of the code's algorithm"
            raise ForeignAtlas(
                f"{store.url}: the stage {one['stage']} of {slug} ran with another {told}. Nothing was changed. Give "
                "what the run that is there was given (see its config in the runs table), leave the stage out with "
                "--stages, give the model another name with --as, or write to another folder with --out."
            )
    return there


def claimed(store: Store, slug: str) -> Row | None:
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
    row: Row = table.to_pylist()[0]
    return row


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:16] + "..."


def refuse_other_folder(store: Store) -> None:
    """A folder with visible files and no trace of an atlas is somebody's own: a README.md would be lost."""
    folder = folder_of(store.url)
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


def planned_before(store: Store, slug: str) -> dict[int, dict[str, tuple[Range, ...]]]:
    """By layer and stage, the neurons that the atlas set out to describe; under "" those that any stage did."""
    path = shard_path(SITES, slug)
    before: dict[int, dict[str, tuple[Range, ...]]] = {}
    with contextlib.suppress(FileNotFoundError, ShardCorrupt):
        for row in decode(store.read(path), path)[0].to_pylist():
            if row["kind"] == "ffn":
                spans = {"": planned_ranges(row)}
                for one in row["planned_stages"] or ():
                    spans[one["stage"]] = union(spans.get(one["stage"], ()), [(one["start"], one["stop"])])
                before[row["layer"]] = spans
    return before


def planned_ranges(site_row: Mapping[str, Any]) -> tuple[Range, ...]:
    """The neurons of a layer that the atlas set out to describe."""
    return tuple((one["start"], one["stop"]) for one in site_row["planned"] or ())


def planned_with(
    before: Mapping[int, Mapping[str, Sequence[Range]]], wanted: Iterable[tuple[str, int, Sequence[Range]]]
) -> tuple[dict[int, tuple[Range, ...]], dict[int, dict[str, tuple[Range, ...]]]]:
    """By layer, and by layer and stage: what was planned before, and what is committed or wanted now.

    wanted: (stage, layer, neurons). Committed ranges are to be named too, so that a lost table of sites loses no plan.
    """
    stages: dict[int, dict[str, tuple[Range, ...]]] = {}
    for layer, spans in before.items():
        stages[layer] = {stage: tuple(ranges) for stage, ranges in spans.items() if stage}
    whole = {layer: tuple(spans.get("", ())) for layer, spans in before.items()}
    for stage, layer, ranges in wanted:
        own = stages.setdefault(layer, {})
        own[stage] = union(own.get(stage, ()), ranges)
        whole[layer] = union(whole.get(layer, ()), ranges)
    ordered = {
        layer: dict(sorted(own.items(), key=lambda item: place_of(item[0]))) for layer, own in sorted(stages.items())
    }
    return dict(sorted(whole.items())), ordered
