"""The tables of the atlas, as data: the only description of the dataset.

Writers, readers, `validate`, the dataset card, docs/tables.md and the site's JSON are derived from this page.
"""

from __future__ import annotations

import math
from functools import partial

import pyarrow as pa

from atlas_schema.columns import IMAGE, SCHEMA_VERSION, Column, Table

__all__ = ["MODELS", "NEURONS", "RUNS", "SCHEMA_VERSION", "SITES", "STAGE_TABLES", "TABLES", "stage_table"]

TEXT, INT16, INT32, INT64, FLOAT = pa.string(), pa.int16(), pa.int32(), pa.int64(), pa.float32()
TIME = pa.timestamp("us", "UTC")
FLOATS, TEXTS = pa.list_(FLOAT), pa.list_(TEXT)


def _list_of(**fields: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct(list(fields.items())))


#: A count or an index may be anything from 0 (or from 1) up.
_count = partial(Column, bounds=(0, math.inf))
_number = partial(Column, bounds=(1, math.inf))
_slug = Column("slug", TEXT, "Model, as addresses name it: lower case letters, digits and hyphens")

MODELS = Table(
    name="models",
    row="a model",
    key=("slug",),
    columns=(
        _slug,
        Column("model_id", TEXT, "Where the model comes from: timm/NAME.TAG, open_clip/NAME/TAG or zoo/NAME"),
        Column("family", TEXT, "Architecture family, which says where its FFN and attention sites are"),
        Column(
            "source",
            TEXT,
            "Library that builds the model; zoo is this project's own",
            choices=("timm", "open_clip", "zoo"),
        ),
        Column(
            "licence",
            TEXT,
            "Licence of the weights, as their source states it",
            absent="the source states none",
        ),
        Column("fingerprint", TEXT, "SHA-256 over the sorted state dict (names, dtypes, shapes, bytes)"),
        _number("parameters", INT64, "Number of parameters"),
        _number("input_height", INT32, "Height of the input image", unit="pixel"),
        _number("input_width", INT32, "Width of the input image", unit="pixel"),
        Column("mean", FLOATS, "Subtracted from the red, green and blue of an image in [0, 1]"),
        Column("std", FLOATS, "Divides red, green and blue after the mean is subtracted"),
        Column("interpolation", TEXT, "How preprocessing resizes images, for example bicubic"),
        _number("representation_dim", INT32, "Length of the final representation, before any classifier"),
        _count("ffn_sites", INT32, "Number of FFN sites"),
        _count("neurons", INT64, "Number of hidden units of all FFN sites together"),
        _count("attention_sites", INT32, "Number of attention sites"),
        _count("heads", INT64, "Number of attention heads of all sites together"),
        Column("recipe", TEXT, "Name of the recipe that visualized this model's neurons"),
        Column("recipe_hash", TEXT, "SHA-256 of the recipe's settings, 16 hex digits; equal means equal settings"),
        Column("recipe_json", TEXT, "All settings of the recipe, as JSON"),
        Column("seed", INT64, "Seed of all random numbers of this model's visualizations"),
        Column(
            "precision",
            TEXT,
            "Arithmetic of the visualizations: float32, float64 or bfloat16",
            absent="each unit chose for its device: see neurons.precision",
        ),
        Column("software", _list_of(name=TEXT, version=TEXT), "Versions of the libraries that ran the model"),
    ),
)

SITES = Table(
    name="sites",
    row="an FFN site or an attention site of a model",
    key=("slug", "kind", "layer"),
    columns=(
        _slug,
        Column("kind", TEXT, "ffn (fc1, activation function, fc2) or attention", choices=("ffn", "attention")),
        _count("layer", INT16, "Index among the sites of its kind, from the input, in order of execution"),
        Column("path", TEXT, "Module path in the unmodified model, for example blocks.11.mlp"),
        Column("depth", FLOAT, "Share of the forward pass's FLOPs done once the site has run", bounds=(0, 1)),
        _number("width", INT32, "Number of hidden units: the neurons of the layer", absent="an attention site"),
        _number("heads", INT32, "Number of attention heads", absent="an FFN site"),
        _number("head_dim", INT32, "Width of one head", absent="an FFN site"),
        Column(
            "attention_kind",
            TEXT,
            "Which tokens see each other, for example global, window, factorised or pooled",
            absent="an FFN site",
        ),
        Column(
            "activation_function",
            TEXT,
            "Function between fc1 and fc2, for example GELU",
            absent="an attention site",
        ),
        Column(
            "grids",
            _list_of(height=INT32, width=INT32),
            "Grid of patch tokens at each call of the module; several where one module serves several scales",
            unit="token",
        ),
        Column("prefix_tokens", TEXTS, "Tokens before the patch tokens, in order: class, distillation, register"),
        _number("calls", INT32, "How often the module runs in one forward pass"),
        Column(
            "planned",
            _list_of(start=INT32, stop=INT32),
            "Ranges of units [start, stop) that this atlas set out to describe; empty: none",
            absent="an attention site",
        ),
    ),
)

#: Columns that the visualization stage fills.
_seen = partial(Column, stage="visualize")
_activation = partial(_seen, unit="activation")
_robust = partial(_activation, absent="the recipe draws no fresh transforms")

NEURONS = Table(
    name="neurons",
    row="an FFN neuron: one hidden unit, after the activation function",
    key=("slug", "layer", "unit"),
    columns=(
        Column("address", TEXT, "Permanent name of the neuron: {slug}/mlp/{layer}/{unit}"),
        _slug,
        _count("layer", INT16, "Index of the FFN site, from the input, in order of execution"),
        _count("unit", INT32, "Index of the hidden unit in its FFN site"),
        _seen("image", IMAGE, "The visualization: an image optimized to activate the neuron, WebP"),
        _seen(
            "status",
            TEXT,
            "inactive where activation is not above 0 after all tries, so that the image shows nothing; else active",
            choices=("active", "inactive"),
        ),
        _activation("activation", FLOAT, "Activation on the clean image, mean over patch tokens"),
        _activation("activation_peak", FLOAT, "Activation on the clean image at its strongest patch token"),
        _activation(
            "activation_stored",
            FLOAT,
            "Activation on the image as stored (WebP, read back), mean over patch tokens",
        ),
        _activation("activation_start", FLOAT, "Activation on the starting image, mean over patch tokens"),
        _activation("activation_start_peak", FLOAT, "Activation on the starting image at its strongest patch token"),
        _robust("robust_mean", FLOAT, "As activation, under fresh random transforms: mean over the draws"),
        _robust(
            "robust_std",
            FLOAT,
            "As activation, under fresh random transforms: standard deviation over the draws",
            bounds=(0, math.inf),
        ),
        _robust("robust_peak", FLOAT, "As activation_peak, under fresh random transforms: mean over the draws"),
        _seen("robust_draws", INT32, "Number of fresh random transforms drawn", bounds=(0, math.inf)),
        _seen(
            "loss_curve",
            _list_of(step=INT16, objective=FLOAT, activation=FLOAT),
            "A few points of the optimization: step, objective, activation under that step's transforms",
        ),
        _seen(
            "rescue",
            TEXT,
            "What made a neuron with a flat gradient move, for example another start",
            absent="none was needed",
        ),
        _seen("start", TEXT, "Which image the optimization started from"),
        _seen("steps", INT16, "Number of optimization steps that led to the image", bounds=(0, math.inf)),
        _seen(
            "image_steps",
            INT32,
            "Forward-backward passes of one image spent on the neuron, all copies and rescues counted",
            bounds=(0, math.inf),
        ),
        _seen(
            "seconds",
            FLOAT,
            "Wall-clock time, the neuron's share of its batch",
            unit="s",
            bounds=(0, math.inf),
            volatile=True,
        ),
        _seen("recipe", TEXT, "Name of the visualization recipe"),
        _seen("recipe_hash", TEXT, "SHA-256 of the recipe's settings, 16 hex digits"),
        _seen("precision", TEXT, "Arithmetic of the optimization: float32, float64 or bfloat16"),
        _seen("seed", INT64, "Seed that, with recipe and address, gives the neuron's random numbers"),
    ),
)

RUNS = Table(
    name="runs",
    row="a run of the pipeline",
    key=("run_id",),
    columns=(
        Column("run_id", TEXT, "Name of the run"),
        Column("command", TEXT, "Command line as it was given"),
        Column("config", TEXT, "Resolved configuration, every setting, as JSON"),
        Column("code_version", TEXT, "Version of this project that ran"),
        Column("machine", TEXT, "Processors, accelerators and system, as JSON", volatile=True),
        Column("started", TIME, "When the run began", volatile=True),
        Column("finished", TIME, "When the run ended", absent="it has not ended, or was killed", volatile=True),
        Column("status", TEXT, "How it stands, for example running, done, failed or interrupted"),
        _count("units_done", INT64, "Work units that this run committed"),
        _count("units_failed", INT64, "Work units given up after retries"),
        _count("units_reused", INT64, "Work units that an earlier run had committed"),
        Column("failures", _list_of(unit=TEXT, error=TEXT), "Each unit that was given up, with its last error"),
    ),
)

#: All tables; the first is the one that the Hub's viewer opens with.
TABLES: dict[str, Table] = {table.name: table for table in (NEURONS, MODELS, SITES, RUNS)}

#: Which table a stage's parts fill.
STAGE_TABLES: dict[str, Table] = {stage: table for table in TABLES.values() for stage in table.stages}


def stage_table(stage: str) -> Table:
    """The table that the parts of `stage` fill; KeyError for an unknown stage."""
    if stage not in STAGE_TABLES:
        raise KeyError(f"no table is filled by stage {stage!r}; stages: {list(STAGE_TABLES)}")
    return STAGE_TABLES[stage]
