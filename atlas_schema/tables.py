"""The tables of the atlas, as data: the only description of the dataset.

Writers, readers, `validate`, the dataset card, docs/tables.md and the site's JSON are derived from this page.
"""

from __future__ import annotations

import math

import pyarrow as pa

from atlas_schema.columns import IMAGE, SCHEMA_VERSION, Column, Table

__all__ = ["MODELS", "NEURONS", "RUNS", "SCHEMA_VERSION", "SITES", "STAGE_TABLES", "TABLES", "stage_table"]

INF = math.inf
VISUALIZE = "visualize"


def _sizes(*names: str) -> pa.DataType:
    return pa.list_(pa.struct([(name, pa.int32()) for name in names]))


_SLUG = Column(
    name="slug", type=pa.string(), means="Model, as it stands in addresses: lower case, digits and hyphens"
)

MODELS = Table(
    name="models",
    row="a model",
    key=("slug",),
    columns=(
        _SLUG,
        Column(
            name="model_id",
            type=pa.string(),
            means="Where the model comes from: timm/NAME.TAG, open_clip/NAME/TAG or zoo/NAME",
        ),
        Column(
            name="family",
            type=pa.string(),
            means="Architecture family, which says where its FFN and attention sites are",
        ),
        Column(
            name="source",
            type=pa.string(),
            choices=("timm", "open_clip", "zoo"),
            means="Library that builds the model: timm, open_clip, or the zoo of this project",
        ),
        Column(
            name="licence",
            type=pa.string(),
            means="Licence of the weights, as their source states it",
            absent="the source states none",
        ),
        Column(
            name="fingerprint",
            type=pa.string(),
            means="SHA-256 over the sorted state dict (names, dtypes, shapes, bytes); it identifies the weights",
        ),
        Column(name="parameters", type=pa.int64(), bounds=(1, INF), means="Number of parameters"),
        Column(
            name="input_height", type=pa.int32(), unit="pixel", bounds=(1, INF), means="Height of the input"
        ),
        Column(
            name="input_width", type=pa.int32(), unit="pixel", bounds=(1, INF), means="Width of the input"
        ),
        Column(
            name="mean",
            type=pa.list_(pa.float32()),
            means="What preprocessing subtracts from each channel (red, green, blue) of an image in [0, 1]",
        ),
        Column(
            name="std",
            type=pa.list_(pa.float32()),
            means="What preprocessing divides each channel (red, green, blue) by, after subtracting the mean",
        ),
        Column(
            name="interpolation",
            type=pa.string(),
            means="How preprocessing resizes images, for example bicubic",
        ),
        Column(
            name="representation_dim",
            type=pa.int32(),
            bounds=(1, INF),
            means="Length of the final representation, before any classifier",
        ),
        Column(name="ffn_sites", type=pa.int32(), bounds=(0, INF), means="Number of feed-forward modules"),
        Column(
            name="neurons", type=pa.int64(), bounds=(0, INF), means="Hidden units of all FFN sites together"
        ),
        Column(name="attention_sites", type=pa.int32(), bounds=(0, INF), means="Number of attention modules"),
        Column(name="heads", type=pa.int64(), bounds=(0, INF), means="Attention heads of all sites together"),
        Column(
            name="recipe", type=pa.string(), means="Name of the visualization recipe of this model's neurons"
        ),
        Column(
            name="recipe_hash",
            type=pa.string(),
            means="SHA-256 of the recipe's settings (16 hex digits); equal hashes mean equal settings",
        ),
        Column(name="recipe_json", type=pa.string(), means="All settings of the recipe, as JSON"),
        Column(
            name="seed", type=pa.int64(), means="Seed of all random numbers of this model's visualizations"
        ),
        Column(
            name="precision",
            type=pa.string(),
            means="Arithmetic of the visualizations: float32, float64 or bfloat16",
            absent="each unit chose for its device; the neurons table says which",
        ),
        Column(
            name="software",
            type=pa.list_(pa.struct([("name", pa.string()), ("version", pa.string())])),
            means="Versions of the libraries that ran the model",
        ),
    ),
)

SITES = Table(
    name="sites",
    row="an FFN site or an attention site of a model",
    key=("slug", "kind", "layer"),
    columns=(
        _SLUG,
        Column(
            name="kind",
            type=pa.string(),
            choices=("ffn", "attention"),
            means="ffn (fc1, activation function, fc2) or attention",
        ),
        Column(
            name="layer",
            type=pa.int16(),
            bounds=(0, INF),
            means="Index among the sites of its kind from the input, in the order of execution",
        ),
        Column(
            name="path",
            type=pa.string(),
            means="Module path in the unmodified model, for example blocks.11.mlp",
        ),
        Column(
            name="depth",
            type=pa.float32(),
            unit="share",
            bounds=(0, 1),
            means="Place in the network: 0 at the input, 1 at the output",
        ),
        Column(
            name="width",
            type=pa.int32(),
            bounds=(1, INF),
            means="Number of hidden units, which are the neurons of the layer",
            absent="an attention site",
        ),
        Column(
            name="heads",
            type=pa.int32(),
            bounds=(1, INF),
            means="Number of attention heads",
            absent="an FFN site",
        ),
        Column(
            name="head_dim", type=pa.int32(), bounds=(1, INF), means="Width of one head", absent="an FFN site"
        ),
        Column(
            name="attention_kind",
            type=pa.string(),
            means="Which tokens see each other: global, window, factorised, pooled, positional, ...",
            absent="an FFN site",
        ),
        Column(
            name="activation_function",
            type=pa.string(),
            means="Function between fc1 and fc2, for example GELU",
            absent="an attention site",
        ),
        Column(
            name="grids",
            type=_sizes("height", "width"),
            unit="token",
            means="Patch-token grid at each call of the module; several where one module serves several scales",
        ),
        Column(
            name="prefix_tokens",
            type=pa.list_(pa.string()),
            means="Tokens in front of the patch tokens, in order: class, distillation, register",
        ),
        Column(
            name="calls", type=pa.int32(), bounds=(1, INF), means="How often the module runs in one forward"
        ),
        Column(
            name="planned",
            type=_sizes("start", "stop"),
            means="Ranges of units [start, stop) that this atlas set out to describe; empty: none",
            absent="an attention site",
        ),
    ),
)

NEURONS = Table(
    name="neurons",
    row="an FFN neuron: one hidden unit, after the activation function",
    key=("slug", "layer", "unit"),
    columns=(
        Column(
            name="address", type=pa.string(), means="Permanent name of the neuron: {slug}/mlp/{layer}/{unit}"
        ),
        _SLUG,
        Column(name="layer", type=pa.int16(), bounds=(0, INF), means="Index of the FFN site from the input"),
        Column(
            name="unit", type=pa.int32(), bounds=(0, INF), means="Index of the hidden unit in its FFN site"
        ),
        Column(
            name="image",
            type=IMAGE,
            stage=VISUALIZE,
            means="The visualization: an image optimized to activate the neuron, WebP",
        ),
        Column(
            name="status",
            type=pa.string(),
            stage=VISUALIZE,
            choices=("active", "inactive"),
            means="active, or inactive where no start made the neuron fire: its image then shows nothing",
        ),
        Column(
            name="activation",
            type=pa.float32(),
            unit="activation",
            stage=VISUALIZE,
            means="Activation on the clean image, mean over patch tokens",
        ),
        Column(
            name="activation_peak",
            type=pa.float32(),
            unit="activation",
            stage=VISUALIZE,
            means="Activation on the clean image at its strongest patch token",
        ),
        Column(
            name="activation_start",
            type=pa.float32(),
            unit="activation",
            stage=VISUALIZE,
            means="Activation before the first step, on the image the optimization started from, mean over patches",
        ),
        Column(
            name="activation_start_peak",
            type=pa.float32(),
            unit="activation",
            stage=VISUALIZE,
            means="Activation before the first step at the strongest patch token of the starting image",
        ),
        Column(
            name="robust_mean",
            type=pa.float32(),
            unit="activation",
            stage=VISUALIZE,
            means="Mean, over fresh random transforms of the image, of the activation averaged over patches",
            absent="the recipe draws no fresh transforms",
        ),
        Column(
            name="robust_std",
            type=pa.float32(),
            unit="activation",
            bounds=(0, INF),
            stage=VISUALIZE,
            means="Standard deviation, over fresh random transforms, of the activation averaged over patches",
            absent="the recipe draws no fresh transforms",
        ),
        Column(
            name="robust_peak",
            type=pa.float32(),
            unit="activation",
            stage=VISUALIZE,
            means="Mean, over fresh random transforms, of the activation at the strongest patch token",
            absent="the recipe draws no fresh transforms",
        ),
        Column(
            name="robust_draws",
            type=pa.int32(),
            bounds=(0, INF),
            stage=VISUALIZE,
            means="Number of fresh random transforms behind the three robust figures",
        ),
        Column(
            name="loss_curve",
            type=pa.list_(
                pa.struct([("step", pa.int16()), ("objective", pa.float32()), ("activation", pa.float32())])
            ),
            stage=VISUALIZE,
            means="A few points of the optimization: step, objective, activation under that step's transforms",
        ),
        Column(
            name="rescue",
            type=pa.string(),
            stage=VISUALIZE,
            means="What made a neuron with a flat gradient move, for example another start",
            absent="no rescue was needed",
        ),
        Column(
            name="start", type=pa.string(), stage=VISUALIZE, means="The image the optimization started from"
        ),
        Column(
            name="steps",
            type=pa.int16(),
            bounds=(0, INF),
            stage=VISUALIZE,
            means="Optimization steps that led to the image",
        ),
        Column(
            name="image_steps",
            type=pa.int32(),
            bounds=(0, INF),
            stage=VISUALIZE,
            means="Forward-backward passes of one image spent on this neuron, all copies and rescues counted",
        ),
        Column(
            name="seconds",
            type=pa.float32(),
            unit="s",
            bounds=(0, INF),
            stage=VISUALIZE,
            volatile=True,
            means="Wall-clock time of this neuron's share of its batch",
        ),
        Column(name="recipe", type=pa.string(), stage=VISUALIZE, means="Name of the visualization recipe"),
        Column(
            name="recipe_hash",
            type=pa.string(),
            stage=VISUALIZE,
            means="SHA-256 of the recipe's settings (16 hex digits)",
        ),
        Column(
            name="precision",
            type=pa.string(),
            stage=VISUALIZE,
            means="Arithmetic of the optimization: float32, float64 or bfloat16",
        ),
        Column(
            name="seed",
            type=pa.int64(),
            stage=VISUALIZE,
            means="Seed that, with recipe and address, gives this neuron's random numbers",
        ),
    ),
)

RUNS = Table(
    name="runs",
    row="a run of the pipeline",
    key=("run_id",),
    columns=(
        Column(name="run_id", type=pa.string(), means="Name of the run; also the folder of its row"),
        Column(name="command", type=pa.string(), means="Command line as it was given"),
        Column(name="config", type=pa.string(), means="Resolved configuration, every setting, as JSON"),
        Column(name="code_version", type=pa.string(), means="Version of this project's code that ran"),
        Column(
            name="machine",
            type=pa.string(),
            means="Processors, accelerators and system, as JSON",
            volatile=True,
        ),
        Column(name="started", type=pa.timestamp("us", "UTC"), means="When the run began", volatile=True),
        Column(
            name="finished",
            type=pa.timestamp("us", "UTC"),
            means="When the run ended",
            absent="the run has not ended, or was killed",
            volatile=True,
        ),
        Column(
            name="status",
            type=pa.string(),
            means="How it stands: running, done, failed (some unit could not be done) or interrupted",
        ),
        Column(name="units_done", type=pa.int64(), bounds=(0, INF), means="Work units this run committed"),
        Column(
            name="units_failed", type=pa.int64(), bounds=(0, INF), means="Work units given up after retries"
        ),
        Column(
            name="units_reused",
            type=pa.int64(),
            bounds=(0, INF),
            means="Work units found committed by an earlier run and left as they were",
        ),
        Column(
            name="failures",
            type=pa.list_(pa.struct([("unit", pa.string()), ("error", pa.string())])),
            means="Each unit that was given up, with its last error; empty: none",
        ),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in (NEURONS, MODELS, SITES, RUNS)}

#: Which table a stage's parts fill.
STAGE_TABLES: dict[str, Table] = {stage: table for table in TABLES.values() for stage in table.stages}


def stage_table(stage: str) -> Table:
    """The table that the parts of `stage` fill; KeyError for an unknown stage."""
    if stage not in STAGE_TABLES:
        raise KeyError(f"no table is filled by stage {stage!r}; stages: {list(STAGE_TABLES)}")
    return STAGE_TABLES[stage]
