"""Atlases for tests of the site: written through atlas_schema like real ones, their pictures drawn.

No model is behind these figures. Pictures are gratings, rings and blobs whose period falls with the unit's
index, so that neighbours differ and a wrong tile or a wrong order is seen at once.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from drawn_evidence import (
    CLASSES,
    PROBE_SET,
    PROBE_SET_UNFREE,
    effect_row,
    evidence_row,
    example_rows,
    judge_row,
    label_row,
    match_rows,
    probe_rows,
)
from drawn_heads import head_tables
from PIL import Image

from atlas_schema.columns import Table
from atlas_schema.parts import commit_part
from atlas_schema.shards import ShardPlace, assemble, write_rows
from atlas_schema.store import Store
from atlas_schema.tables import (
    INVERSION_READINGS,
    INVERSIONS,
    MODELS,
    NEURON_MATCHES,
    NEURON_PICTURES,
    NEURONS,
    PROBE_IMAGES,
    RUNS,
    SITES,
    tables_of,
)
from atlas_schema.units import Neurons, Pair, WorkUnit
from pipeline.visualize.natural import CHANGES, NaturalSettings, Picture, row_of

PROVENANCE = {"code_version": "test", "precision": "float32", "recipe": "drawn"}
FINGERPRINT = "0123456789abcdef" * 4
RECIPE_HASH = "00112233aabbccdd"
SETTINGS = "a0b1c2d3e4f50617"
SOFTWARE = [{"name": "torch", "version": "2.8.0"}, {"name": "timm", "version": "1.0.20"}]
BEGAN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@dataclass(frozen=True)
class Drawn:
    """A model of an atlas that is drawn: its layers' widths, the ranges of units described, picture size."""

    slug: str
    widths: tuple[int, ...]
    side: int = 64
    grain: float = 0.03  # of the neurons' pictures: deviation of the noise
    planned: tuple[tuple[int, int], ...] | None = None  # None: all units
    family: str = "vit"
    skipped_layers: tuple[int, ...] = ()
    stages: tuple[str, ...] = ("visualize",)
    probe_set: str | None = None
    heads: tuple[int, ...] = ()  # of each attention layer
    interpolation: str = "bicubic"
    tokens: int = 8  # a side of its patch grid
    ranks: int = 2  # counterparts of a neuron in each other model
    concepts: int = 40  # units below it may be one concept across models

    def grid(self, layer: int) -> tuple[int, int]:
        """Rows and columns of patch tokens; Swin begins fine and ends coarse, the others never change."""
        side = max(5, 40 >> layer) if self.family == "swin" else self.tokens
        return side, side


#: What gives the rows of each stage's part, of some units of a layer.
RowsOf = Callable[[Drawn, int, range], dict[str, list[Any]]]
FURTHER = ("pictures-peak", "pictures-accentuated")
ALL_STAGES = ("visualize", "verdict", "evidence", "judge", "label", "effect", "examples", *FURTHER, "matches", "heads")
INVERTED = "invert-fast"
#: Stages whose tables are written whole, without parts.
WHOLE = ("matches", "heads", INVERTED)
SMALL = (
    Drawn("drawn-vit", (96, 96, 160, 70)),
    Drawn("drawn-swin-with-a-rather-long-name--tag-in1k", (80, 80, 40), family="swin"),
    Drawn("drawn-part", (128, 128, 128), side=112, planned=((3, 5), (64, 90)), skipped_layers=(1,)),
)
WIDE = (Drawn("drawn-wide", (3072,), side=32),)
#: Three models with everything (one of them without texts for its heads), one without thumbnails or labels, one with
#: pictures alone, one without pictures.
EVIDENT = (
    Drawn("drawn-bare", (48,)),
    Drawn("drawn-pit", (72, 64), stages=ALL_STAGES, probe_set=PROBE_SET, heads=(4, 2)),
    Drawn("drawn-probed", (64,), stages=("visualize", "evidence", "judge", "examples"), probe_set=PROBE_SET_UNFREE),
    Drawn(
        "drawn-swin", (80, 80, 40), family="swin", stages=(*ALL_STAGES, INVERTED), probe_set=PROBE_SET, heads=(3, 6, 12)
    ),
    Drawn("drawn-unseen", (40,), stages=("evidence", "examples"), probe_set=PROBE_SET),
    Drawn("drawn-vit", (96, 96, 70), stages=(*ALL_STAGES, INVERTED), probe_set=PROBE_SET, heads=(6, 6, 6)),
)
#: Heads alone: no neuron is described, a layer has one head, and the probe images have no thumbnails.
HEADS_ALONE = (Drawn("drawn-alone", (16, 16), stages=("heads",), probe_set=PROBE_SET_UNFREE, heads=(1, 2)),)


def picture(rng: np.random.Generator, unit: int, side: int, depth: float, grain: float = 0.03) -> np.ndarray:
    """uint8 (side, side, 3): a coloured grating early in the network, rings and blobs later."""
    y, x = np.mgrid[0:side, 0:side] / side
    angle, frequency = rng.uniform(0, np.pi), 2 + 10 * rng.random()
    wave = np.sin(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y))
    centre = rng.uniform(0.2, 0.8, 2)
    rings = np.cos(2 * np.pi * frequency * np.hypot(x - centre[0], y - centre[1]))
    pattern = (1 - depth) * wave + depth * rings * np.exp(-3 * depth * np.hypot(x - centre[0], y - centre[1]))
    low, high = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    mixed = low + (high - low) * (pattern[..., None] + 1) / 2 + rng.normal(0, grain, (side, side, 3))
    return (np.clip(mixed, 0, 1) * 255).astype(np.uint8)


def webp(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=75)
    return buffer.getvalue()


def neuron_row(slug: str, layer: int, unit: int, side: int, depth: float, grain: float) -> dict[str, Any]:
    """One row of the neurons table, a function of its address."""
    rng = np.random.default_rng([layer, unit, len(slug)])
    inactive = unit % 17 == 5
    start = float(rng.normal(0.02, 0.05))
    end = start if inactive else float(rng.lognormal(0.8, 0.6))
    robust = end * float(rng.uniform(0.3, 0.98))
    steps = [0, 8, 16, 32, 64]
    curve = [start + (end - start) * (1 - np.exp(-step / 12)) for step in steps]
    image = {"bytes": webp(picture(rng, unit, side, depth, grain)), "path": f"{slug}-{layer}-{unit}.webp"}
    return {
        "address": f"{slug}/mlp/{layer}/{unit}",
        "slug": slug,
        "layer": layer,
        "unit": unit,
        "image": image,
        "status": "inactive" if inactive else "active",
        "activation": end,
        "activation_peak": abs(end) * 2.1,
        "activation_stored": end * 0.97,
        "activation_start": start,
        "activation_start_peak": abs(start) * 3,
        "robust_mean": robust,
        "robust_std": abs(robust) * 0.08,
        "robust_peak": robust * 1.9,
        "robust_draws": 16,
        "loss_curve": [{"step": s, "objective": -v / 8, "activation": v} for s, v in zip(steps, curve, strict=True)],
        "rescue": "value before the activation function" if unit % 11 == 3 else None,
        "start": "fourier noise",
        "steps": 64,
        "image_steps": 80,
        "seconds": 0.21,
        "recipe": "drawn",
        "recipe_hash": RECIPE_HASH,
        "precision": "float32",
        "seed": 7,
    }


def verdict_row(layer: int, unit: int, seen: dict[str, Any]) -> dict[str, Any]:
    """Columns of the stage verdict; a picture keeps anything from nothing to all of what it reaches."""
    rng = np.random.default_rng([7, layer, unit])
    shares = {kind: float(rng.uniform(0, 1) ** rng.choice([0.05, 0.2, 1.5])) for kind in CHANGES}
    shares = dict.fromkeys(shares, 0.04) if unit % 13 == 6 else shares
    mean, peak = seen["activation_stored"], seen["activation_peak"]
    left = {kind: (share * mean, share**0.9 * peak) for kind, share in shares.items()}
    shown = Picture(seen["image"]["bytes"], seen["activation_start"])
    return {"unit": unit, **row_of((mean, peak), left, shown, NaturalSettings())}


def further_rows(stage: str, layer: int, unit: int, seen: dict[str, Any], model: Drawn) -> list[dict[str, Any]]:
    """Rows of neuron_pictures: one picture, or two that began with photographs of which every ninth neuron has none."""
    recipe, variants = stage.removeprefix("pictures-"), 2 if stage == "pictures-accentuated" else 1
    rows = []
    for variant in range(variants):
        failed = variants > 1 and unit % 9 == 4
        rng = np.random.default_rng([3, layer, unit, variant, len(recipe)])
        image = {"bytes": webp(picture(rng, unit, model.side, 0.5)), "path": f"{unit}.webp"}
        told = verdict_row(layer, unit + variant, seen | {"image": image})
        row = {name: (told | seen).get(name) for name in NEURON_PICTURES.names} | {"image": image, "status": "active"}
        if failed:
            kept = ("address", "slug", "layer", "unit", "image_steps", "seconds", "recipe_hash", "precision", "seed")
            row = {name: seen[name] for name in kept} | {"status": "failed", "status_reason": "no probe image"}
        elif variants > 1:
            row |= {"likeness": 0.75, "start_image": f"disc {unit}.png"}
        rows.append(row | {"recipe": recipe, "variant": variant})
    return rows


def filled(table: Table, row: dict[str, Any], stage: str = "") -> dict[str, Any]:
    """The row with a plain value in every column that came to the table after these drawings."""
    plain: dict[str, Any] = {"string": "drawn", "float": 0.5, "double": 0.5, "bool": False}
    for column in table.part_columns(stage) if stage else table.columns:
        if column.name not in row and not column.absent:
            row[column.name] = [] if str(column.type).startswith("list") else plain.get(str(column.type), 1)
    return row


def write_model(
    store: Store, model: Drawn, widths: dict[str, tuple[int, ...]] | None = None, rows: RowsOf | None = None
) -> None:
    """The model's row, its sites, and all its shards. widths: of the models that may hold counterparts; rows: what
    draws the rows of some neurons of a layer.
    """
    layers, rows = len(model.widths), rows or rows_of
    for layer, width in enumerate(model.widths):
        if layer in model.skipped_layers:
            continue
        own, examples, further = [], [], []
        for start, stop in _ranges(model, width):
            made = rows(model, layer, range(start, stop))
            for stage in (stage for stage in model.stages if stage not in WHOLE):
                unit = WorkUnit(stage, model.slug, Neurons(layer, start, stop), FINGERPRINT, SETTINGS)
                commit_part(store, unit, made[stage], provenance=PROVENANCE)
                (examples if stage == "examples" else further if stage in FURTHER else own).append(unit)
        for units in (own, examples, further):
            if units:
                table = tables_of(units[0].stage)[0]
                assemble(store, [ShardPlace(table, model.slug, layer, layers)], units)
    if "matches" in model.stages:
        _write_matches(store, model, widths or {})
    if model.heads and model.probe_set:
        grids = [model.grid(layer) for layer in range(len(model.heads))]
        for table, told in head_tables(model.slug, model.widths, model.heads, grids, model.probe_set).items():
            if told:
                write_rows(store, table, model.slug, told, provenance=PROVENANCE)
    if INVERTED in model.stages:
        inverted = inversion_rows(model)
        write_rows(store, INVERSIONS, model.slug, inverted, provenance=PROVENANCE)
        if model.family != "swin":
            write_rows(store, INVERSION_READINGS, model.slug, reading_rows(inverted), provenance=PROVENANCE)
    sites = [filled(SITES, _site(model, layer)) for layer in range(layers)]
    sites += [filled(SITES, _attention(model, layer)) for layer in range(len(model.heads))]
    write_rows(store, SITES, model.slug, sites, provenance=PROVENANCE)
    write_rows(store, MODELS, model.slug, [filled(MODELS, _model(model))], provenance=PROVENANCE)


#: Directions of the head whose pictures are drawn.
HEAD_PICTURES = ("axis-0-high", "axis-0-low", "text-0")


def inversion_rows(model: Drawn) -> list[dict[str, Any]]:
    """Seventy classes of a Vision Transformer, six of the images, the last in three variants too; of a Swin two texts,
    one hostile, and what a head of it looks like, in one direction of three without a picture.
    """
    if model.family == "swin":
        targets = [("text", f"{number:012x}", text) for number, text in enumerate(("class 3", "<b>bold</b> & so on"))]
        targets += [("head", f"1.2/{one}", f"head 1.2, {one.replace('-', ' ')}") for one in HEAD_PICTURES]
    else:
        names = {20 + at: name for at, name in enumerate(CLASSES)}  # those that neurons write to, and heads carry
        targets = [("class", str(number), names.get(number, f"class {number}")) for number in range(70)]
    rows = []
    for number, (kind, name, text) in enumerate(targets):
        there, is_class, of_head = number != 5 and name != "1.2/text-0", kind == "class", kind == "head"
        pixels = picture(np.random.default_rng(number), number, model.side, 0.5)
        row = {
            "address": f"{model.slug}/{kind}/{name}",
            "slug": model.slug,
            "recipe": "fast",
            "variant": 0,
            "kind": kind,
            "index": number if is_class else None,
            "target": text,
            "head": f"{model.slug}/head/1/2" if of_head else None,
            "direction": text.partition(", ")[2] if of_head else None,
            **dict.fromkeys(("projection", "deviations", "natural_deviations"), 2.5 if of_head and there else None),
            "image": {"bytes": webp(pixels), "path": None} if there else None,
            "status": "made" if there else "failed",
            "status_reason": None if there else "the ascent left the finite numbers",
            "score": 0.5 + number / 200 if there else None,
            "rank": 1 + number % 3 if there and is_class else None,
            "rivals": 70 if there and is_class else None,
            "natural_score": 0.4 if there else None,
            "natural_right": 0.1 * (number % 11) if there and is_class else None,
            "natural_kinds": [{"kind": "shift", "score": 0.4, "right": 0.5 if is_class else None}] if there else None,
            "together": "0" * 16,
        }
        rows.append(filled(INVERSIONS, row))
    last = [] if model.family == "swin" else [rows[-1] | {"recipe": "varied", "variant": at} for at in range(VARIANTS)]
    return rows + last


#: Pictures of the last class by the recipe `varied`.
VARIANTS = 3


def reading_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two readers of every class; the first is right of every third class, the second of none but variant 2."""
    told = []
    for row in rows:
        for reader, every in (("drawn-pit", 3), ("drawn-swin", 1000)):
            there = row["image"] is not None
            right = row["index"] % every == 0 or row["variant"] == 2
            said = {"score": 0.25 + row["variant"] / 10, "rank": 1 if right else 7, "rivals": 70} if there else {}
            own = {name: row[name] for name in ("address", "slug", "recipe", "variant", "together")}
            told.append(filled(INVERSION_READINGS, own | {"reader": reader} | said))
    return told


def _write_matches(store: Store, model: Drawn, widths: dict[str, tuple[int, ...]]) -> None:
    """The model's shards of counterparts: one part a partner, then a shard a layer."""
    layers = [layer for layer in range(len(model.widths)) if layer not in model.skipped_layers]
    addresses = [
        {"address": f"{model.slug}/mlp/{layer}/{unit}", "slug": model.slug, "layer": layer, "unit": unit}
        for layer in layers
        for start, stop in _ranges(model, model.widths[layer])
        for unit in range(start, stop)
    ]
    units = []
    for partner in sorted(widths):
        unit = WorkUnit("pairs", model.slug, Pair(partner, "0" * 16), FINGERPRINT, SETTINGS)
        there = {partner: widths[partner]}
        own = [
            owner | row
            for owner in addresses
            for row in match_rows(model.slug, owner["layer"], owner["unit"], there, model.ranks, model.concepts)
        ]
        commit_part(store, unit, own, provenance=PROVENANCE)
        units.append(unit)
    if units:
        places = [ShardPlace(NEURON_MATCHES, model.slug, layer, len(model.widths)) for layer in layers]
        assemble(store, places, units)


def rows_of(model: Drawn, layer: int, units: range) -> dict[str, list[Any]]:
    """Stage -> the rows that its part holds, of some units of a layer."""
    made: dict[str, list[Any]] = {stage: [] for stage in model.stages}
    depth = layer / max(1, len(model.widths) - 1)
    for unit in units:
        seen: dict[str, Any] = {}
        if "visualize" in made:
            seen = filled(NEURONS, neuron_row(model.slug, layer, unit, model.side, depth, model.grain), "visualize")
            made["visualize"].append(seen)
            if "verdict" in made:
                made["verdict"].append(verdict_row(layer, unit, seen))
            for stage in (stage for stage in made if stage in FURTHER):
                made[stage] += further_rows(stage, layer, unit, seen, model)
        if model.probe_set is None or "evidence" not in made:
            continue
        measured = evidence_row(layer, unit, model.probe_set)
        made["evidence"].append(measured)
        if "judge" in made:
            made["judge"].append(judge_row(measured, seen["activation"], seen["activation_peak"]))
        made["examples"] += example_rows(layer, unit, model.grid(layer), model.probe_set, measured["peak_max"])
        if "label" in made:
            label = label_row(layer, unit)
            if label["twin"] is not None:
                label["twin"] = model.slug + label["twin"]
            made["label"].append(label)
            made["effect"].append(effect_row(layer, unit, last=layer == len(model.widths) - 1))
    return made


def _ranges(model: Drawn, width: int) -> list[tuple[int, int]]:
    return [(0, width)] if model.planned is None else [(a, min(b, width)) for a, b in model.planned]


def _site(model: Drawn, layer: int) -> dict[str, Any]:
    height, width = model.grid(layer)
    planned = [] if layer in model.skipped_layers else _ranges(model, model.widths[layer])
    return {
        "slug": model.slug,
        "kind": "ffn",
        "layer": layer,
        "path": f"blocks.{layer}.mlp",
        "depth": (layer + 1) / len(model.widths),
        "width": model.widths[layer],
        "heads": None,
        "head_dim": None,
        "attention_kind": None,
        "activation_function": "GELU",
        "grids": [{"height": height, "width": width}],
        "prefix_tokens": ["class"],
        "calls": 1,
        "planned": [{"start": a, "stop": b} for a, b in planned],
    }


def _attention(model: Drawn, layer: int) -> dict[str, Any]:
    window = model.family == "swin"
    return _site(model, layer) | {
        "kind": "attention",
        "path": f"blocks.{layer}.attn",
        "width": None,
        "heads": model.heads[layer],
        "head_dim": 16,
        "attention_kind": "window" if window else "global",
        "activation_function": None,
        "planned": None,
    }


def _model(model: Drawn) -> dict[str, Any]:
    row = {
        "slug": model.slug,
        "model_id": f"zoo/{model.slug}",
        "family": model.family,
        "source": "zoo",
        "licence": "Apache-2.0",
        "fingerprint": FINGERPRINT,
        "parameters": 123456,
        "input_height": model.side,
        "input_width": model.side,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": model.interpolation,
        "representation_dim": 64,
        "ffn_sites": len(model.widths),
        "neurons": sum(model.widths),
        "attention_sites": len(model.heads),
        "heads": sum(model.heads),
        "recipe": "drawn",
        "recipe_hash": RECIPE_HASH,
        "recipe_json": json.dumps({"name": "drawn", "steps": 64}),
        "seed": 7,
        "precision": "float32",
        "probe_set": model.probe_set,
        "probe_name": model.probe_set and "drawn discs",
        "software": SOFTWARE,
        "stages": [_stage(stage) for stage in sorted(model.stages)],
    }
    return {name: value for name, value in row.items() if name in MODELS.names}


def _stage(stage: str) -> dict[str, Any]:
    """What a model's row says of a stage, as far as the table has a field for it."""
    said = {
        "stage": stage,
        "settings": RECIPE_HASH,
        "facts": json.dumps({"drawn": stage}),
        "precision": "float32",
        "code_version": "test",
        "software": SOFTWARE,
        "started": BEGAN,
    }
    fields = MODELS.column("stages").type.value_type
    return {fields.field(i).name: said.get(fields.field(i).name) for i in range(fields.num_fields)}


def draw_atlas(folder: Path | str, models: tuple[Drawn, ...] = SMALL, command: str = "neuron-atlas run") -> str:
    """Write an atlas of drawn pictures into `folder` (or a memory:// URL); its address."""
    store = Store(str(folder))
    widths = {model.slug: model.widths for model in models if "matches" in model.stages}
    for model in models:
        write_model(store, model, widths)
    for probe_set in sorted({model.probe_set for model in models if model.probe_set}):
        write_rows(store, PROBE_IMAGES, probe_set, probe_rows(probe_set), provenance=PROVENANCE)
    run = {
        "run_id": "20260102-030400-test",
        "command": command,
        "config": json.dumps({"models": [{"model": f"zoo/{m.slug}", "name": m.slug} for m in models]}),
        "code_version": "test",
        "machine": json.dumps({"cpus": 2}),
        "started": BEGAN,
        "finished": BEGAN + timedelta(minutes=3),
        "status": "done",
        "units_done": 9,
        "units_failed": 0,
        "units_reused": 0,
        "failures": [],
    }
    write_rows(store, RUNS, run["run_id"], [filled(RUNS, run)], provenance=PROVENANCE)
    return str(folder)


if __name__ == "__main__":
    import sys

    print(
        draw_atlas(
            sys.argv[1], {"wide": WIDE, "evident": EVIDENT, "alone": HEADS_ALONE}.get("".join(sys.argv[2:]), SMALL)
        )
    )
