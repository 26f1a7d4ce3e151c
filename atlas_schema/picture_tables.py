"""What is said of pictures: the verdict columns of `neurons`, and the table of a neuron's further pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pyarrow as pa

from atlas_schema.columns import IMAGE, Column, Table
from atlas_schema.picture_recipes import PICTURE_RECIPES, PICTURE_STAGES

TEXT, INT16, INT32, INT64, FLOAT = pa.string(), pa.int16(), pa.int32(), pa.int64(), pa.float32()
_KINDS = pa.list_(pa.struct([("kind", TEXT), ("mean", FLOAT), ("peak", FLOAT), ("kept", FLOAT)]))
_count = partial(Column, bounds=(0, math.inf))

#: Columns that the verdict stage fills, from what the stored picture reaches under natural changes.
_kept = partial(Column, stage="verdict", absent="there is no picture")
_kept_of = partial(_kept, absent="there is no picture, or as stored it does not make the neuron fire")

VERDICT_COLUMNS = (
    _kept(
        "verdict",
        TEXT,
        "Whether the picture holds under natural changes: holds where it keeps at least half of its activation on "
        "average (by natural_kept and natural_kept_peak) and a quarter under every kind of change; does not where it "
        "reaches no more than activation_start, or keeps under a quarter by either measure; inactive where it does not "
        "make the neuron fire; else partly",
        choices=("holds", "partly", "does not", "inactive"),
    ),
    _kept("verdict_reason", TEXT, "The figures that the verdict rests on, in words"),
    _kept(
        "natural_mean",
        FLOAT,
        "As activation_stored, under natural changes (small shifts, turns with zoom, mild colour, blur, noise): mean "
        "over all",
        unit="activation",
    ),
    _kept("natural_peak", FLOAT, "As natural_mean, at the strongest patch token", unit="activation"),
    _kept_of("natural_kept", FLOAT, "natural_mean as a share of activation on the same stored picture unchanged"),
    _kept_of("natural_kept_peak", FLOAT, "As natural_kept, at the strongest patch token"),
    _kept(
        "natural_kinds",
        _KINDS,
        "The same by kind of change: shift, turn, colour, blur, noise; kept is empty where nothing was to keep",
    ),
)


_seen = partial(Column, stage="visualize")
_shown = partial(_seen, absent="there is no picture: see status_reason", absent_if=("status", ("failed",)))
_activation = partial(_shown, unit="activation")

#: By name, columns that are said of a neuron's main picture (in `neurons`) and of its further ones alike.
MADE = {
    column.name: column
    for column in (
        _seen(
            "status",
            TEXT,
            "inactive where activation is not above 0 after all tries, so that the image shows nothing; failed where "
            "there is no image; else active",
            choices=("active", "inactive", "failed"),
        ),
        _seen(
            "status_reason",
            TEXT,
            "Why there is no image",
            absent="there is one",
            absent_if=("status", ("active", "inactive")),
        ),
        _activation("activation", FLOAT, "Activation on the clean image, mean over patch tokens"),
        _activation("activation_peak", FLOAT, "Activation on the clean image at its strongest patch token"),
        _activation(
            "activation_start",
            FLOAT,
            "Activation on the image that the first attempt began with, mean over patches",
        ),
        _seen(
            "rescue",
            TEXT,
            "What found the picture where the first attempt did not make the neuron fire, or reached less than a "
            "generated picture does (plain colours, gratings, blobs, noise): another start, for example",
            absent="none was needed, or there is no picture",
        ),
        _shown("start", TEXT, "Which image the optimization started from"),
        _shown("steps", INT16, "Number of optimization steps that led to the image", bounds=(0, math.inf)),
        _seen("recipe_hash", TEXT, "SHA-256 of the recipe's settings, 16 hex digits"),
        _seen(
            "precision",
            TEXT,
            "Arithmetic of the optimization: float32, float64 or bfloat16. What it reaches is measured in float64 "
            "where that is named, else in float32, which a GPU may multiply with 10 bits of mantissa (TF32): figures "
            "then move by 0.1 % as a rule",
        ),
    )
}


#: Of tables whose rows are pictures.
SECONDS = Column(
    "seconds",
    FLOAT,
    "Wall-clock time, the picture's share of its batch",
    unit="s",
    bounds=(0, math.inf),
    volatile=True,
)


def _own(column: Column) -> Column:
    """The same of a table whose rows are all of one stage."""
    return replace(column, stage="")


NEURON_PICTURES = Table(
    name="neuron_pictures",
    row="a further picture of a neuron, by another recipe or one of several by the same; the main one is in neurons",
    key=("slug", "layer", "unit", "recipe", "variant"),
    shard="layer",
    row_stages=PICTURE_STAGES,
    row_stage_by="recipe",
    columns=(
        Column("address", TEXT, "Permanent name of the neuron: {slug}/mlp/{layer}/{unit}"),
        Column("slug", TEXT, "Model, as addresses name it: lower case letters, digits and hyphens"),
        _count("layer", INT16, "Index of the FFN site, from the input, in order of execution"),
        _count("unit", INT32, "Index of the hidden unit in its FFN site"),
        Column("recipe", TEXT, "Name of the visualization recipe", choices=PICTURE_RECIPES),
        _count("variant", INT16, "Which of the pictures that the recipe makes of a neuron, from 0"),
        _own(_shown("image", IMAGE, "The picture, WebP")),
        _own(MADE["status"]),
        _own(MADE["status_reason"]),
        _own(MADE["activation"]),
        _own(MADE["activation_peak"]),
        _own(_activation("activation_stored", FLOAT, "Activation on the image as stored, mean over patch tokens")),
        _own(MADE["activation_start"]),
        *(_own(column) for column in VERDICT_COLUMNS if column.name != "natural_kinds"),
        Column(
            "likeness",
            FLOAT,
            "How alike this picture is to the most similar other one of its recipe: cosine of the Gram matrices of the "
            "site's hidden activations over patch tokens, 1 for the same",
            bounds=(0, 1),
            absent="the recipe makes one picture of a neuron, or there is no picture",
        ),
        Column(
            "start_image",
            TEXT,
            "Name, in probe_images, of the probe image that the picture began with",
            absent="it began with none, or there is no picture",
        ),
        _own(MADE["rescue"]),
        _own(MADE["start"]),
        _own(MADE["steps"]),
        _count("image_steps", INT32, "Forward-backward passes of one image spent on the picture"),
        SECONDS,
        _own(MADE["recipe_hash"]),
        _own(MADE["precision"]),
        Column("seed", INT64, "Seed that, with recipe, address and variant, gives the picture's random numbers"),
    ),
)
