"""The stages that name neurons: embed (images), texts, and label, which finds the text that fits a neuron best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atlas_schema.errors import NothingThere
from jobs.stages.probe import SECOND, layer_memory, sums_of_layer
from jobs.stages.stage import FLOAT, Cost, Sizes, Stage

if TYPE_CHECKING:
    import numpy as np

    from atlas_schema.units import WorkUnit
    from jobs.inputs import Inputs
    from jobs.work import Work

MOST_IMAGES, MOST_VIEWS = 16, 128  # embedded at a time: images, of which each has ten views, and views in a forward
EMBEDDED = 512  # numbers of an embedding, about


def embed(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """Views of a slice of the panel's images, embedded."""
    from pipeline.label.views import Views

    indices = work.inputs.panel[unit.start : unit.stop]
    opened = _opened(work, indices)
    return Views(work.embedder().embed_views(opened, batch=min(work.batch, MOST_IMAGES))).arrays()


def _opened(work: Work, indices: list[int]) -> Iterator[Any]:
    for index in indices:
        work.step()
        yield work.inputs.images.open(index)


def texts(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """The texts that labels are chosen from, embedded."""
    return {"texts": work.embedder().texts(work.inputs.concepts.prompts, on_step=work.step).float().cpu().numpy()}


def label(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Labels and readability of a layer: all its neurons are labelled together, the rows of the unit's are kept."""
    import torch

    from pipeline.label.rows import label_rows
    from pipeline.label.views import Views

    inputs, sums = work.inputs, sums_of_layer(work, unit)
    views, words = Views.of(work.arrays("embed")), work.arrays("texts")["texts"]
    if sums.panel.images.tolist() != inputs.panel:
        raise NothingThere(f"{unit}: the probe pass holds another panel than the embedder saw; run both anew")
    rows = label_rows(
        sums.panel.peak.float(),
        sums.panel.window,
        views.vectors.to(work.device),
        torch.from_numpy(words.copy()).to(work.device),
        fit=torch.tensor([inputs.images.split(index) == "fit" for index in inputs.panel]),
        texts=inputs.concepts.texts,
        settings=inputs.settings.label,
        layer_address=f"{unit.slug}/mlp/{work.layer(unit)}",
        on_step=work.step,
    )
    names = {"concept_set": inputs.concepts.title, "embedder": inputs.embedder.slug}
    return [row | names for row in rows if unit.start <= row["unit"] < unit.stop]


def too_few_halves(inputs: Inputs) -> str:
    """What is wrong where labels cannot be chosen on one half of the panel and checked on the other."""
    from atlas_schema.errors import BadConfig
    from pipeline.label.labels import require_halves

    try:
        require_halves([inputs.images.split(index) == "fit" for index in inputs.panel], inputs.settings.label)
    except BadConfig as error:
        return str(error)
    return ""


def embed_cost(sizes: Sizes) -> Cost:
    """Every view of an image is cut out and goes through the model; the vectors are kept in half precision."""
    from pipeline.images.windows import VIEWS

    return Cost(each=VIEWS * (sizes.forward + sizes.opened), kept_each=VIEWS * 2 * sizes.description.representation_dim)


def embed_memory(sizes: Sizes, batch: int) -> float:
    """A forward of all views of some images at a time, and two copies of the views of the slice."""
    from pipeline.images.windows import VIEWS

    together = min(batch, MOST_IMAGES)
    own = VIEWS * FLOAT * sizes.panel * sizes.description.representation_dim
    return sizes.all_weights + sizes.forward_bytes(min(VIEWS * together, MOST_VIEWS)) + 2 * own


def texts_memory(sizes: Sizes, texts: int) -> float:
    """The text tower, with some texts of 77 tokens at a time, and what they become."""
    from pipeline.label.embedder import TEXTS_AT_ONCE

    width = sizes.description.representation_dim
    return sizes.all_weights + min(texts, TEXTS_AT_ONCE) * 77 * width * 4 * FLOAT * 3 + 2 * texts * width * FLOAT


def label_memory(sizes: Sizes, batch: int) -> float:
    """Likenesses of all views to all texts in some copies, what their moments over shuffles follow from, the embeddings
    of the exciting crops of all neurons of the layer, and the panel's numbers.
    """
    from pipeline.images.windows import VIEWS
    from pipeline.label.readability import ReadabilitySettings
    from pipeline.label.shuffled import NODES

    assert sizes.site is not None
    alike = VIEWS * sizes.panel * sizes.texts * FLOAT
    moments = (VIEWS * NODES) ** 2 * sizes.texts * FLOAT
    crops = sizes.site.width * ReadabilitySettings().crops * EMBEDDED * FLOAT
    return layer_memory(sizes, batch) + 3 * alike + moments + 3 * crops + sizes.panel * sizes.site.width * 24


def label_cost(sizes: Sizes) -> Cost:
    """Each neuron is compared with every text in two views, on real and shuffled images; its crops with each other."""
    assert sizes.site is not None
    compared = 2 * sizes.panel * sizes.texts * 2
    return Cost(each=20 * compared + 4e-3 * SECOND, bytes=290)


EMBED = Stage(
    name="embed",
    does="Embeds views of the panel's images with the model that compares images with texts",
    group="",
    cut="images",
    over="panel",
    owner="embedder",
    facts=("images", "panel", "view settings"),
    merge="pipeline.label.views:Views",
    compute=embed,
    cost=embed_cost,
    memory=embed_memory,
)
TEXTS = Stage(
    name="texts",
    does="Embeds the texts that labels are chosen from",
    group="",
    cut="model",
    owner="embedder",
    facts=("concepts",),
    compute=texts,
    memory=lambda sizes, batch: texts_memory(sizes, sizes.texts),
    cost=lambda sizes: Cost(each=sizes.texts * sizes.forward, kept=4 * sizes.texts * 512),
)
LABEL = Stage(
    name="label",
    does="Finds the text that describes best what fires each neuron, and tests whether it does",
    group="label",
    cut="neurons",
    together=True,
    reads=("probe", "embed", "texts"),
    facts=("label settings",),
    compute=label,
    cost=label_cost,
    memory=label_memory,
    version=2,
    objects=too_few_halves,
)
