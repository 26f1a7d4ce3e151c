"""The tables of the atlas, as data: the only description of the dataset.

Writers, readers, `validate`, the dataset card, docs/tables.md and the site's JSON are derived from this page.
"""

from __future__ import annotations

import math
from functools import partial

import pyarrow as pa

from atlas_schema.columns import IMAGE, SCHEMA_VERSION, Column, Table
from atlas_schema.head_tables import HEAD_FEATURES, HEAD_TABLES, HEAD_TEXTS, HEADS
from atlas_schema.inversion_tables import INVERSION_READINGS, INVERSIONS
from atlas_schema.picture_tables import MADE, NEURON_PICTURES, VERDICT_COLUMNS

__all__ = [
    "HEADS",
    "HEAD_FEATURES",
    "HEAD_TABLES",
    "HEAD_TEXTS",
    "INVERSIONS",
    "INVERSION_READINGS",
    "LAYER_TABLES",
    "MODELS",
    "NEURONS",
    "NEURON_EXAMPLES",
    "NEURON_MATCHES",
    "NEURON_PICTURES",
    "PARTIALS",
    "PROBE_IMAGES",
    "RUNS",
    "SCHEMA_VERSION",
    "SITES",
    "TABLES",
    "VERDICT_COLUMNS",
    "tables_of",
]

TEXT, INT16, INT32, INT64, FLOAT = pa.string(), pa.int16(), pa.int32(), pa.int64(), pa.float32()
TIME = pa.timestamp("us", "UTC")
BOOL = pa.bool_()
FLOATS, TEXTS = pa.list_(FLOAT), pa.list_(TEXT)


def _list_of(**fields: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct(list(fields.items())))


#: A count or an index may be anything from 0 (or from 1) up.
_count = partial(Column, bounds=(0, math.inf))
_number = partial(Column, bounds=(1, math.inf))
_slug = Column("slug", TEXT, "Model, as addresses name it: lower case letters, digits and hyphens")

_pictured = partial(Column, absent="no pictures were made: the stage visualize has not run")
_VERSIONS = _list_of(name=TEXT, version=TEXT)
_STAGES = _list_of(
    stage=TEXT, settings=TEXT, facts=TEXT, precision=TEXT, code_version=TEXT, software=_VERSIONS, started=TIME
)

MODELS = Table(
    name="models",
    row="a model",
    key=("slug",),
    columns=(
        _slug,
        Column(
            "model_id", TEXT, "Where the model comes from: timm/NAME.TAG, open_clip/NAME/TAG, zoo/NAME or hf://ORG/NAME"
        ),
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
        Column(
            "notes",
            TEXTS,
            "What was done to the weights on the way in, a sentence each: from under which name they were taken, what "
            "was left out, resampled, widened or set to zero, and which activation function was chosen; and why the "
            "classes of its classifier are shown by index, where they are",
            absent="they were taken as they are, or the atlas is of 2.1.0 or before",
        ),
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
        _pictured("recipe", TEXT, "Name of the recipe that visualized this model's neurons"),
        _pictured("recipe_hash", TEXT, "SHA-256 of the recipe's settings, 16 hex digits; equal means equal settings"),
        _pictured("recipe_json", TEXT, "All settings of the recipe, as JSON"),
        _pictured("seed", INT64, "Seed of all random numbers of this model's visualizations"),
        Column("probe_set", TEXT, "Hash of the probe set that measured the neurons", absent="no probe stage has run"),
        Column("probe_name", TEXT, "Name of the probe set", absent="no probe stage has run"),
        Column(
            "stages",
            _STAGES,
            "Stages that have run on the model: each with the hash of all that decides its result beside the weights "
            "(16 hex digits), these facts as JSON, the arithmetic (empty: chosen by each worker for its device), the "
            "version of this project, the versions of its libraries, and when it was first begun",
            volatile=True,
        ),
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
        Column(
            "planned_stages",
            _list_of(stage=TEXT, start=INT32, stop=INT32),
            "By stage, the ranges of units that it set out to describe",
            absent="an attention site",
        ),
    ),
)

#: Columns that the visualization stage fills.
_seen = partial(Column, stage="visualize")
_shown = partial(_seen, absent="there is no picture: see status_reason", absent_if=("status", ("failed",)))
_activation = partial(_shown, unit="activation")
_robust = partial(
    _seen, unit="activation", absent="the recipe draws no fresh transforms, or there is no picture: see status_reason"
)

#: Columns that the evidence stage fills, from what a probe pass measured.
_measured = partial(Column, stage="evidence")
_level = partial(_measured, unit="activation")
#: Columns that compare the visualization with the probe images: filled where there are both.
_judged = partial(Column, stage="judge")

EVIDENCE_COLUMNS = (
    _measured("probe_set", TEXT, "Which images the neuron was measured on: SHA-256 of their names and bytes, 16 hex"),
    _measured("probe_images", INT32, "Number of probe images", bounds=(1, math.inf)),
    _level("token_mean", FLOAT, "Mean over all patch tokens of all probe images"),
    _level("token_std", FLOAT, "Standard deviation over all patch tokens of all probe images", bounds=(0, math.inf)),
    _measured(
        "token_kurtosis",
        FLOAT,
        "Kurtosis over all patch tokens of all probe images: 3 for a normal distribution, high for rare firing",
        bounds=(0, math.inf),
        absent="the neuron never changes",
    ),
    _measured("fraction_active", FLOAT, "Share of patch tokens with an activation over 0", bounds=(0, 1)),
    _measured(
        "fires_on",
        FLOAT,
        "Share of probe images whose strongest patch is over half of the strongest patch of all, from the sketch "
        "of peak_quantiles",
        bounds=(0, 1),
        absent="no patch of any probe image is over 0",
    ),
    _level("peak_max", FLOAT, "Strongest patch of all probe images"),
    _level("mean_max", FLOAT, "Highest mean over patch tokens that a probe image reaches"),
    _level(
        "peak_quantiles",
        FLOATS,
        "Quantiles over probe images of the strongest patch, at 1, 5, 25, 50, 75, 90, 95, 99 and 99.9 percent, from a "
        "sketch with bins at most an eighth wide",
    ),
    _level("mean_quantiles", FLOATS, "As peak_quantiles, of the mean over patch tokens"),
    _measured(
        "histogram",
        pa.struct([("low", FLOAT), ("high", FLOAT), ("counts", pa.list_(INT32))]),
        "Probe images by their strongest patch, in bins of equal width from low to high, from the same sketch",
    ),
    _judged(
        "percentile",
        FLOAT,
        "Share of probe images whose mean over patch tokens is below that of the visualization, from the "
        "sketch of mean_quantiles",
        unit="percent",
        bounds=(0, 100),
        absent="there is no picture",
    ),
    _judged(
        "ratio_to_best",
        FLOAT,
        "Activation of the visualization over that of the best probe image, both mean over patch tokens",
        absent="no probe image has a mean over 0, or there is no picture",
    ),
    _judged(
        "peak_ratio",
        FLOAT,
        "As ratio_to_best, at the strongest patch",
        absent="no patch of a probe image is over 0, or there is no picture",
    ),
    _measured(
        "exciting_classes",
        pa.list_(pa.struct([("name", TEXT), ("mean", FLOAT), ("images", INT32)])),
        "The classes of probe images with the highest mean of the strongest patch, at most five",
        absent="the probe set has no classes",
    ),
)

#: Columns that the label stage fills.
_named = partial(Column, stage="label")
_candidates = pa.list_(pa.struct([("text", TEXT), ("score", FLOAT), ("z", FLOAT), ("auroc", FLOAT)]))
_no_label = "the neuron is unlabelled"
_no_embedding = "no image fires the neuron, so there is nothing to compare"

LABEL_COLUMNS = (
    _named(
        "label_status",
        TEXT,
        "labelled where a text passes both the permutation test and the held-out check, else unlabelled",
        choices=("labelled", "unlabelled"),
    ),
    _named("label", TEXT, "The text that describes best what fires the neuron", absent=_no_label),
    _named("label_score", FLOAT, "Soft WPMI of the best text with the neuron's strongest images", absent=_no_embedding),
    _named(
        "label_z",
        FLOAT,
        "How many standard deviations the best text's score is above its own mean over all shuffles of the images",
        absent=_no_embedding,
    ),
    _named(
        "label_p",
        FLOAT,
        "Share of shuffles, of all neurons of the layer together, in which some text stands out as far as the label",
        bounds=(0, 1),
        absent=_no_embedding,
    ),
    _named("label_q", FLOAT, "label_p after Benjamini-Hochberg over the layer", bounds=(0, 1), absent=_no_embedding),
    _named(
        "label_auroc",
        FLOAT,
        "How well the text's similarity tells firing from silent images among those not used to choose it: 0.5 is "
        "chance, 1 perfect",
        bounds=(0, 1),
        absent="too few held-out images to tell",
    ),
    _named(
        "label_view",
        TEXT,
        "Whether texts were compared with whole images or with crops around the strongest patch",
        choices=("crop", "image"),
    ),
    _named("label_candidates", _candidates, "The five best texts, significant or not, with their numbers"),
    _named("concept_set", TEXT, "Name and hash of the list of texts"),
    _named("embedder", TEXT, "Slug of the model that compares texts and images"),
    _named(
        "clarity",
        FLOAT,
        "How alike the neuron's exciting crops are, against random crops of the probe set: 0 no more alike, 1 equal",
        absent=_no_embedding,
    ),
    _named(
        "polysemanticity",
        FLOAT,
        "How far the neuron's exciting crops fall into two clusters, beyond what a cloud without clusters and random "
        "crops do: 0 one meaning or none, 1 two tight clusters as unlike as random crops",
        absent=_no_embedding,
    ),
    _named(
        "polysemanticity_p",
        FLOAT,
        "Share of clouds without clusters, or of random crops, that split into two as clearly",
        bounds=(0, 1),
        absent=_no_embedding,
    ),
    _named(
        "redundancy",
        FLOAT,
        "Cosine between the mean embeddings of this neuron's exciting crops and its nearest twin's in the layer",
        absent=_no_embedding,
    ),
    _named("twin", TEXT, "Address of that nearest twin", absent=_no_embedding),
)

#: Columns that the effect stage fills.
_caused = partial(Column, stage="effect")
_written = pa.list_(pa.struct([("name", TEXT), ("logit", FLOAT)]))
_unmeasured = "not among the neurons that were ablated"

EFFECT_COLUMNS = (
    _caused(
        "writes_to",
        _written,
        "The classes that one unit of activation raises most, and lowers most, through the frozen readout",
        absent="the neuron's output does not reach a linear readout directly: see effect_note",
    ),
    _caused("effect_note", TEXT, "Why writes_to is empty", absent="writes_to is filled"),
    _caused(
        "ablation_effect",
        FLOAT,
        "Fall of the correct class's logit, mean over probe images, when the activation is replaced by its mean",
        absent=_unmeasured,
    ),
    _caused("ablation_se", FLOAT, "Standard error of ablation_effect", bounds=(0, math.inf), absent=_unmeasured),
    _caused("ablation_images", INT32, "Number of images behind ablation_effect", absent=_unmeasured),
    _caused(
        "ablation_kind",
        TEXT,
        "exact: only the readout follows; measured: the rest of the network ran again",
        choices=("exact", "measured"),
        absent=_unmeasured,
    ),
)

NEURONS = Table(
    name="neurons",
    row="an FFN neuron: one hidden unit, after the activation function",
    key=("slug", "layer", "unit"),
    shard="layer",
    columns=(
        Column("address", TEXT, "Permanent name of the neuron: {slug}/mlp/{layer}/{unit}"),
        _slug,
        _count("layer", INT16, "Index of the FFN site, from the input, in order of execution"),
        _count("unit", INT32, "Index of the hidden unit in its FFN site"),
        _shown("image", IMAGE, "The visualization: an image optimized to activate the neuron, WebP"),
        MADE["status"],
        MADE["status_reason"],
        MADE["activation"],
        MADE["activation_peak"],
        _activation(
            "activation_stored",
            FLOAT,
            "Activation on the image as stored (WebP, read back), mean over patch tokens",
        ),
        MADE["activation_start"],
        _activation("activation_start_peak", FLOAT, "Strongest patch of the image that the first attempt began with"),
        _robust("robust_mean", FLOAT, "As activation, under fresh random transforms: mean over the draws"),
        _robust(
            "robust_std",
            FLOAT,
            "As activation, under fresh random transforms: standard deviation over the draws",
            bounds=(0, math.inf),
        ),
        _robust("robust_peak", FLOAT, "As activation_peak, under fresh random transforms: mean over the draws"),
        _shown("robust_draws", INT32, "Number of fresh random transforms drawn", bounds=(0, math.inf)),
        _shown(
            "loss_curve",
            _list_of(step=INT16, objective=FLOAT, activation=FLOAT),
            "A few points of the optimization: step, objective, activation under that step's transforms",
        ),
        MADE["rescue"],
        MADE["start"],
        MADE["steps"],
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
        MADE["recipe_hash"],
        MADE["precision"],
        _seen("seed", INT64, "Seed that, with recipe and address, gives the neuron's random numbers"),
        *VERDICT_COLUMNS,
        *EVIDENCE_COLUMNS,
        *LABEL_COLUMNS,
        *EFFECT_COLUMNS,
    ),
)

_box = pa.struct([("left", FLOAT), ("top", FLOAT), ("right", FLOAT), ("bottom", FLOAT)])
_address = Column("address", TEXT, "Permanent name of the neuron: {slug}/mlp/{layer}/{unit}")
_layer = _count("layer", INT16, "Index of the FFN site, from the input, in order of execution")
_unit = _count("unit", INT32, "Index of the hidden unit in its FFN site")

NEURON_EXAMPLES = Table(
    name="neuron_examples",
    row="a probe image that shows what a neuron does",
    key=("slug", "layer", "unit", "kind", "rank"),
    shard="layer",
    stage="examples",
    columns=(
        _address,
        _slug,
        _layer,
        _unit,
        Column(
            "kind",
            TEXT,
            "top: among the strongest of all probe images; quantile: near a lower quantile, from the panel",
            choices=("top", "quantile"),
        ),
        _count("rank", INT16, "Order within the kind, the strongest first"),
        Column("image", TEXT, "Name of the image in probe_images"),
        Column("image_index", INT32, "Its index in the probe set", bounds=(0, math.inf)),
        Column("probe_set", TEXT, "Hash of the probe set, as in probe_images"),
        Column("activation", FLOAT, "Activation at the image's strongest patch token", unit="activation"),
        Column("activation_mean", FLOAT, "Activation, mean over the image's patch tokens", unit="activation"),
        Column(
            "quantile",
            FLOAT,
            "Share of probe images (top) or of the panel (quantile) with a weaker strongest patch",
            bounds=(0, 1),
        ),
        Column("map", pa.binary(), "Activation at every patch token, row by row, one byte each"),
        Column("map_height", INT16, "Rows of the map", unit="token"),
        Column("map_width", INT16, "Columns of the map", unit="token"),
        Column("map_low", FLOAT, "Activation that byte 0 of the map stands for", unit="activation"),
        Column("map_high", FLOAT, "Activation that byte 255 of the map stands for", unit="activation"),
        Column("row", INT16, "Row of the strongest patch in the map", bounds=(0, math.inf)),
        Column("column", INT16, "Column of the strongest patch in the map", bounds=(0, math.inf)),
        Column("scale", INT16, "Which call of a shared module fired; 0 elsewhere", bounds=(0, math.inf)),
        Column("box", _box, "The strongest patch as shares of the model's square input, from left and top"),
    ),
)

NEURON_MATCHES = Table(
    name="neuron_matches",
    row="a neuron's counterpart: a neuron that fires on the same places of the same images",
    key=("slug", "layer", "unit", "partner_slug", "rank"),
    shard="layer",
    stage="pairs",
    columns=(
        _address,
        _slug,
        _layer,
        _unit,
        Column("partner_slug", TEXT, "Model of the counterpart; the neuron's own for near-duplicates"),
        _count("rank", INT16, "Order among the counterparts in that model, the most alike first"),
        Column("partner", TEXT, "Address of the counterpart"),
        Column("partner_layer", INT16, "Layer of the counterpart", bounds=(0, math.inf)),
        Column("partner_unit", INT32, "Unit of the counterpart", bounds=(0, math.inf)),
        Column(
            "correlation",
            FLOAT,
            "Correlation of both activation maps over all places of a sample of the probe images",
            bounds=(-1, 1),
        ),
        Column("mutual", BOOL, "Whether each is the other's best counterpart: a Rosetta pair"),
        Column(
            "null_correlation",
            FLOAT,
            "Best correlation of this neuron with any neuron of that model when the images are shuffled",
            bounds=(-1, 1),
        ),
        Column(
            "threshold",
            FLOAT,
            "What 99 percent of the model's neurons stay below in null_correlation: significant is what is above",
            bounds=(-1, 1),
            absent="it was compared before schema 2.2.0",
        ),
        Column("significant", BOOL, "Whether the correlation is above the threshold"),
        Column("probe_set", TEXT, "Hash of the probe set, as in probe_images"),
    ),
)

PROBE_IMAGES = Table(
    name="probe_images",
    row="a probe image",
    key=("probe_set", "index"),
    columns=(
        Column("probe_set", TEXT, "Which set: SHA-256 of its images' names and bytes, 16 hex digits"),
        _count("index", INT32, "Index in the set, by name"),
        Column("image", TEXT, "Name of the image in its source"),
        Column("sha256", TEXT, "SHA-256 of the image file"),
        Column(
            "thumbnail",
            IMAGE,
            "The centre square, which is what models see, small, WebP",
            absent="the licence of the images does not allow it, or it was not asked for",
        ),
        _number("width", INT32, "Width of the image", unit="pixel"),
        _number("height", INT32, "Height of the image", unit="pixel"),
        Column("class", TEXT, "Class of the image", absent="the set has no classes"),
        Column("caption", TEXT, "Caption of the image", absent="the set has no captions"),
        Column("attributes", _list_of(name=TEXT, value=TEXT), "What else is known of the image", absent="nothing is"),
        Column("split", TEXT, "fit: labels are chosen on it; test: labels are checked on it", choices=("fit", "test")),
        Column("licence", TEXT, "Licence of the image", absent="the source states none"),
        Column("source", TEXT, "Where the image comes from", absent="the source does not say"),
    ),
)

#: What the parts of a stage hold that fills no table: named arrays that later stages read. Not in the dataset.
PARTIALS = Table(
    name="partials",
    row="a piece of an array",
    key=("array", "piece"),
    columns=(
        Column("array", TEXT, "Name of the array"),
        _count("piece", INT32, "Index of the piece along the flattened array"),
        Column("dtype", TEXT, "numpy dtype, little-endian"),
        Column("shape", pa.list_(INT64), "Shape of the whole array"),
        Column("data", pa.binary(), "Bytes of the piece"),
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
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        *(NEURONS, NEURON_PICTURES, NEURON_EXAMPLES, NEURON_MATCHES),
        *HEAD_TABLES.values(),
        *(INVERSIONS, INVERSION_READINGS),
        *(MODELS, SITES, PROBE_IMAGES, RUNS),
    )
}

#: Tables with one shard a layer; the others have one a model, a run or a probe set.
LAYER_TABLES: dict[str, Table] = {name: table for name, table in TABLES.items() if table.shard == "layer"}


def tables_filled_by(stage: str) -> tuple[Table, ...]:
    """The tables of the dataset whose rows the parts of `stage` hold, the main one first; () where they hold sums."""
    return tuple(table for table in TABLES.values() if stage in table.stages)


def tables_of(stage: str) -> tuple[Table, ...]:
    """The tables that the parts of `stage` fill, the main one first; PARTIALS where they fill none."""
    return tables_filled_by(stage) or (PARTIALS,)
