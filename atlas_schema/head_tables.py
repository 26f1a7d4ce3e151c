"""The tables of attention heads: what each adds to the final representation, in numbers, words and images.

One shard of each table a model, all from the part of one stage.
"""

from __future__ import annotations

import math
from functools import partial

import pyarrow as pa

from atlas_schema.columns import Column, Table

TEXT, INT16, INT32, FLOAT = pa.string(), pa.int16(), pa.int32(), pa.float32()
FLOATS = pa.list_(FLOAT)

_count = partial(Column, bounds=(0, math.inf))
_share = partial(Column, bounds=(0, 1))
_no_answers = "the probe images tell no right answer, or nothing reads one from the representation"
_only_direct = "a head without direct effect: at its level contributions do not add up"

LEVELS = ("direct", "through attention")
"""What is held when a contribution is taken: attention and FFNs; or attention weights and FFNs."""

_slug = Column("slug", TEXT, "Model, as addresses name it")
_layer = _count("layer", INT16, "Index of the attention site, from the input, in order of execution")
_head = _count("head", INT16, "Index of the head in its attention site")
_address = Column("address", TEXT, "Permanent name of the head: {slug}/head/{layer}/{head}")

HEADS = Table(
    name="heads",
    row="an attention head",
    key=("slug", "layer", "head"),
    stage="heads",
    columns=(
        _address,
        _slug,
        _layer,
        _head,
        Column(
            "level",
            TEXT,
            "What all numbers of the head are: its direct effect on the final representation; or, where it has none, "
            "the effect through the values of later attention",
            choices=LEVELS,
        ),
        Column("probe_set", TEXT, "Hash of the probe set, as in probe_images"),
        _count(
            "probe_images",
            INT32,
            "Number of probe images that contributions were measured on: all; of models of which an image costs many "
            "forwards, the panel",
        ),
        _count("norm", FLOAT, "Length of the contribution, mean over images", unit="activation"),
        _count("norm_share", FLOAT, "Length of the contribution over that of the final representation, mean of ratios"),
        Column(
            "variance_share",
            FLOAT,
            "Share of the variance of the final representation over images: the covariance of contribution and "
            "representation over the latter's variance; over all components of a model it adds up to 1, and may be "
            "negative",
            absent=_only_direct,
        ),
        Column(
            "spectrum",
            FLOATS,
            "Share of the variance of the contribution along each of its leading principal axes, at most 16",
        ),
        _count(
            "dimensions", FLOAT, "How many axes the contribution varies along: (sum of variances)^2 / sum of squares"
        ),
        Column(
            "axis_classes",
            pa.list_(pa.struct([("name", TEXT), ("mean", FLOAT), ("images", INT32)])),
            "Mean of the contribution along the first axis, less that of all images, for the three classes of probe "
            "images at the high end, then the three at the low end",
            absent="the probe set has no classes",
        ),
        Column(
            "ablation_effect",
            FLOAT,
            "Fall of the accuracy when the contribution is replaced by its mean over images; downstream parts held",
            bounds=(-1, 1),
            absent=_no_answers,
        ),
        Column("ablation_se", FLOAT, "Standard error of ablation_effect", bounds=(0, 1), absent=_no_answers),
        _share("accuracy", FLOAT, "Accuracy of the model on the probe images, nothing ablated", absent=_no_answers),
        Column(
            "answered_by",
            TEXT,
            "What reads the answer: the model's classifier, or the likeness of the (aligned) representation with texts",
            choices=("classifier", "texts"),
            absent=_no_answers,
        ),
        _count(
            "ablation_change",
            FLOAT,
            "Cosine distance between the representation with and without the contribution's deviation from its mean, "
            "mean over images",
        ),
        Column(
            "label",
            TEXT,
            "The text that explains most of the head's variance",
            absent="no text explains a tenth of it, or there is none",
        ),
        _share("texts_explain", FLOAT, "Share of the variance that all texts in head_texts explain together"),
        Column("text_pool", TEXT, "Name and hash of the list of texts"),
        Column("embedder", TEXT, "Slug of the CLIP in whose space texts and contributions are compared"),
        Column(
            "alignment_cosine",
            FLOAT,
            "Cosine between the representation mapped to the CLIP's space and the CLIP's embedding, mean over images "
            "that the maps were not fitted on; the same for all heads of a model; 1 for the CLIP itself",
            bounds=(-1, 1),
        ),
        Column(
            "alignment_chance",
            FLOAT,
            "The same cosine with the CLIP's embeddings of other images: what alignment_cosine is to be compared with",
            bounds=(-1, 1),
            absent="the CLIP itself, which needs no map",
        ),
        _share(
            "alignment_accuracy",
            FLOAT,
            "Accuracy of texts about the mapped representation, on images that the maps were not fitted on",
            absent="the CLIP itself (see accuracy), or no text answers the probe images",
        ),
        _count(
            "alignment_keeps",
            FLOAT,
            "Variance of the contribution after its map to the CLIP's space over that before: 1 where the map keeps "
            "lengths",
        ),
        Column("feature", TEXT, "The feature with the head's highest score", absent="no feature has a positive score"),
        Column(
            "feature_score",
            FLOAT,
            "The score of that feature, as in head_features",
            bounds=(-1, 1),
            absent="no feature has a positive score",
        ),
    ),
)

HEAD_TEXTS = Table(
    name="head_texts",
    row="a text that describes what a head adds",
    key=("slug", "layer", "head", "rank"),
    stage="heads",
    columns=(
        _address,
        _slug,
        _layer,
        _head,
        _count("rank", INT16, "Order in which TextSpan chose the text, from 0"),
        Column("text", TEXT, "The text, as the pool has it"),
        _share(
            "explained",
            FLOAT,
            "Share of the variance of the contribution along the text, what was chosen before taken out",
        ),
        _share("cumulative", FLOAT, "Share of the variance that this text and those before it explain"),
        _count(
            "deviation",
            FLOAT,
            "Standard deviation over images of the contribution along the text: what the choice is made by",
        ),
    ),
)

HEAD_FEATURES = Table(
    name="head_features",
    row="how much a head, or an FFN as a whole, matters for a feature",
    key=("slug", "component", "feature"),
    stage="heads",
    columns=(
        _slug,
        Column("component", TEXT, "The component: head/LAYER/HEAD or ffn/LAYER"),
        Column("feature", TEXT, "The feature, for example colour, shape or texture"),
        Column("kind", TEXT, "head or ffn", choices=("head", "ffn")),
        _count("layer", INT16, "Index of the attention or FFN site, from the input"),
        _count("head", INT16, "Index of the head in its attention site", absent="an FFN"),
        Column("level", TEXT, "As in heads", choices=LEVELS),
        Column(
            "score",
            FLOAT,
            "Correlation over images between the contribution and the whole representation along the feature's texts, "
            "mean over an orthonormal basis of the texts",
            bounds=(-1, 1),
        ),
        _count("rank", INT16, "Order by score among all components of the model, from 0"),
        Column(
            "variance_share",
            FLOAT,
            "Share of the representation's variance along the feature's texts: adds up to 1 over all components",
            absent=_only_direct,
        ),
        _share(
            "selectivity",
            FLOAT,
            "Of what the contribution varies along the texts of all features, the share along those of this one",
        ),
        Column(
            "ablation_effect",
            FLOAT,
            "Fall of the accuracy for this feature when the contribution is replaced by its mean; the rest held",
            bounds=(-1, 1),
            absent="the probe images do not tell this feature",
        ),
        Column(
            "ablation_margin",
            FLOAT,
            "Fall of the margin of the right answer over the best other, in standard deviations of that margin over "
            "images: tells more than ablation_effect where hardly an answer changes",
            absent="the probe images do not tell this feature",
        ),
        Column(
            "ablation_flips",
            FLOAT,
            "Share of images for which another text of the feature becomes the nearest when the contribution is "
            "replaced by its mean",
            bounds=(0, 1),
        ),
        Column("feature_set", TEXT, "Name and hash of the file of features"),
    ),
)

HEAD_EXAMPLES = Table(
    name="head_examples",
    row="a probe image that a head says much about, with where in the image",
    key=("slug", "layer", "head", "direction", "rank"),
    stage="heads",
    columns=(
        _address,
        _slug,
        _layer,
        _head,
        Column(
            "direction",
            TEXT,
            "Along what images are ordered: a principal axis of the contribution (axis 0 high: the images at its "
            "positive end), or a text (text 0, by rank in head_texts)",
        ),
        _count("rank", INT16, "Order, the strongest first"),
        Column("image", TEXT, "Name of the image in probe_images"),
        _count("image_index", INT32, "Its index in the probe set"),
        Column("probe_set", TEXT, "Hash of the probe set, as in probe_images"),
        Column(
            "projection",
            FLOAT,
            "Contribution towards the direction (of a low end: towards that end), less its mean over images",
        ),
        Column(
            "map",
            pa.binary(),
            "What each patch token passes through the head along the direction, row by row, one byte each: 128 is "
            "nothing, 255 map_scale, 1 its negative",
        ),
        _count("map_height", INT16, "Rows of the map", unit="token"),
        _count("map_width", INT16, "Columns of the map", unit="token"),
        _count("map_scale", FLOAT, "What byte 255 of the map stands for"),
        Column(
            "elsewhere", FLOAT, "What tokens that are no patches pass along the direction: class tokens and the like"
        ),
    ),
)

HEAD_READS = Table(
    name="head_reads",
    row="a head that reads a neuron",
    key=("slug", "layer", "unit", "rank"),
    stage="heads",
    columns=(
        Column("address", TEXT, "Permanent name of the neuron: {slug}/mlp/{layer}/{unit}"),
        _slug,
        _count("layer", INT16, "Index of the neuron's FFN site"),
        _count("unit", INT32, "Index of the neuron in its FFN site"),
        _count("rank", INT16, "Order among the heads, the one that reads most first"),
        Column("reader", TEXT, "Address of the head"),
        _count("reader_layer", INT16, "Index of the head's attention site"),
        _count("reader_head", INT16, "Index of the head"),
        _count(
            "share",
            FLOAT,
            "Standard deviation over images of what the neuron passes through the head's values along the head's "
            "first axis, over the standard deviation of the head's contribution along it",
        ),
        Column("level", TEXT, "As in heads, of the reading head", choices=LEVELS),
    ),
)

HEAD_TABLES: dict[str, Table] = {
    table.name: table for table in (HEADS, HEAD_TEXTS, HEAD_FEATURES, HEAD_EXAMPLES, HEAD_READS)
}
