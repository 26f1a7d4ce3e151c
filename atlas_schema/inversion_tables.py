"""The tables of inversions: pictures of what a class, a text or a head looks like to a model, and what others read."""

from __future__ import annotations

import math

import pyarrow as pa

from atlas_schema.columns import IMAGE, Column, Table
from atlas_schema.inversion_recipes import (
    HEAD_PICTURE_STAGES,
    INVERSION_RECIPES,
    INVERSION_STAGES,
    READING_STAGES,
)
from atlas_schema.picture_tables import SECONDS

TEXT, INT16, INT32, INT64, FLOAT = pa.string(), pa.int16(), pa.int32(), pa.int64(), pa.float32()
_KINDS = pa.list_(pa.struct([("kind", TEXT), ("score", FLOAT), ("right", FLOAT)]))
_NO_PICTURE = "there is no picture: see status_reason"
_OF_TEXT = "the target is no class: texts and heads exclude nothing; or there is no picture"
_OF_ANSWER = "the target is a class or a text"
_NO_HEAD_PICTURE = "the target is a class or a text, or there is no picture"
_ANSWERS, _HEAD = ("class", "text"), ("head",)
_COSINE = (-1 - 2**-10, 1 + 2**-10)  # and a probability; what rounding adds is allowed
_FAILED = ("status", ("failed",))

_ADDRESS = Column(
    "address",
    TEXT,
    "Permanent name of the target: {slug}/class/{index}, {slug}/text/{hash of the text}, or "
    "{slug}/head/{layer}.{head}/{direction}",
)
_SLUG = Column("slug", TEXT, "Model, as addresses name it: lower case letters, digits and hyphens")
_RECIPE = Column("recipe", TEXT, "Name of the recipe of inversion", choices=INVERSION_RECIPES)
_VARIANT = Column(
    "variant", INT16, "Which of the pictures that the recipe makes of a target, from 0", bounds=(0, math.inf)
)
_TOGETHER = Column(
    "together", TEXT, "Hash of the list of targets that were done in one unit of work; it decides nothing"
)

INVERSIONS = Table(
    name="inversions",
    row="a picture that was made from noise until the model took it for a class, or for what a text says, or until a "
    "head of it added as much as it could along one of its directions",
    key=("slug", "address", "recipe", "variant"),
    row_stages=(*INVERSION_STAGES, *HEAD_PICTURE_STAGES),
    row_stage_by="recipe",
    row_stage_kinds=(
        *((stage, _ANSWERS) for stage, _ in INVERSION_STAGES),
        *((stage, _HEAD) for stage, _ in HEAD_PICTURE_STAGES),
    ),
    columns=(
        _ADDRESS,
        _SLUG,
        _RECIPE,
        _VARIANT,
        Column(
            "kind",
            TEXT,
            "What was inverted: a class of the model's classifier, a text, or a direction of what a head adds",
            choices=("class", "text", "head"),
        ),
        Column(
            "index",
            INT32,
            "Index of the class among the model's outputs",
            bounds=(0, math.inf),
            absent="the target is no class",
            absent_if=("kind", ("text", "head")),
        ),
        Column(
            "target",
            TEXT,
            "Name of the class (its index where it has none), the text itself, or head and direction in words",
        ),
        Column(
            "head",
            TEXT,
            "Address of the head",
            absent=_OF_ANSWER,
            absent_if=("kind", _ANSWERS),
        ),
        Column(
            "direction",
            TEXT,
            "Which direction of the head, as in head_examples: either end of its first axis, or a text by its rank",
            absent=_OF_ANSWER,
            absent_if=("kind", _ANSWERS),
        ),
        Column("image", IMAGE, "The picture, WebP", absent=_NO_PICTURE, absent_if=_FAILED),
        Column(
            "status",
            TEXT,
            "failed where the ascent left the finite numbers, or a head has no such direction, so that there is no "
            "picture; else made",
            choices=("made", "failed"),
        ),
        Column(
            "status_reason", TEXT, "Why there is no picture", absent="there is one", absent_if=("status", ("made",))
        ),
        Column(
            "score",
            FLOAT,
            "What the model says of the picture as stored: its probability of the class among those that compete with "
            "it, or the cosine of picture and text; of a head the cosine of the direction and what the head adds to "
            "the representation, less its mean over probe images",
            bounds=_COSINE,
            absent=_NO_PICTURE,
            absent_if=_FAILED,
        ),
        Column(
            "rank",
            INT32,
            "Place of the class among those that compete with it, for the picture as stored, from 1",
            bounds=(1, math.inf),
            absent=_OF_TEXT,
        ),
        Column(
            "rivals",
            INT32,
            "Number of classes that compete with one another, the target among them: a guess is right once in so many",
            bounds=(1, math.inf),
            absent=_OF_TEXT,
        ),
        Column(
            "natural_score",
            FLOAT,
            "As score, under natural changes (small shifts, turns with zoom, mild colour, blur, noise): mean over all",
            bounds=_COSINE,
            absent=_NO_PICTURE,
            absent_if=_FAILED,
        ),
        Column(
            "natural_right",
            FLOAT,
            "Share of the naturally changed pictures for which the class still comes first",
            bounds=(0, 1),
            absent=_OF_TEXT,
        ),
        Column(
            "natural_kinds",
            _KINDS,
            "The same by kind of change: shift, turn, colour, blur, noise; right is empty where there is no class",
            absent=_NO_PICTURE,
            absent_if=_FAILED,
        ),
        Column(
            "projection",
            FLOAT,
            "What the head adds along the direction for the picture as stored, less its mean over probe images: to be "
            "compared with the projection of real images in head_examples",
            absent=_NO_HEAD_PICTURE,
        ),
        Column(
            "deviations",
            FLOAT,
            "projection in standard deviations of the probe images: their mean is 0",
            absent=_NO_HEAD_PICTURE,
        ),
        Column(
            "natural_deviations",
            FLOAT,
            "As deviations, under the natural changes: mean over all",
            absent=_NO_HEAD_PICTURE,
        ),
        Column("image_steps", INT32, "Forward-backward passes of one image spent on the picture", bounds=(0, math.inf)),
        SECONDS,
        Column("recipe_hash", TEXT, "SHA-256 of the recipe's settings, 16 hex digits"),
        Column("precision", TEXT, "Arithmetic of the optimization: float32 or float64"),
        Column("seed", INT64, "Seed that, with recipe, address and variant, gives the picture's random numbers"),
        _TOGETHER,
    ),
)

INVERSION_READINGS = Table(
    name="inversion_readings",
    row="what another model of the run makes of an inversion: whether it shows the class, or only moves its own model",
    key=("slug", "address", "recipe", "variant", "reader"),
    row_stages=READING_STAGES,
    row_stage_by="recipe",
    columns=(
        _ADDRESS,
        _SLUG,
        _RECIPE,
        _VARIANT,
        Column("reader", TEXT, "Model that was shown the picture; it has a class of the same name, or reads texts too"),
        Column(
            "score",
            FLOAT,
            "What the reader says of the picture as stored: its probability of the class among those that compete with "
            "it, or the cosine of picture and text",
            bounds=_COSINE,
            absent="there is no picture",
        ),
        Column(
            "rank",
            INT32,
            "Place of the class among those that compete with it, from 1; after those that it ties with",
            bounds=(1, math.inf),
            absent=_OF_TEXT,
        ),
        Column(
            "rivals",
            INT32,
            "Number of classes that compete with one another in the reader: a guess is right once in so many",
            bounds=(1, math.inf),
            absent=_OF_TEXT,
        ),
        _TOGETHER,
    ),
)
