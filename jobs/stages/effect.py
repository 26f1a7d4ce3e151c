"""The stages that tell what neurons write to the output (once a model), and what the output loses without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.stages.probe import SECOND, layer_memory, sums_of_layer
from jobs.stages.stage import FLOAT, GRAPH, Cost, Sizes, Stage

if TYPE_CHECKING:
    import numpy as np

    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.effects.readout import Readout
    from pipeline.effects.rows import Ablations
    from pipeline.models import LoadedModel

FROZEN_BATCH = 16  # images whose norms are frozen at a time, at most
REPLAYED_BATCH = 16  # images that ablations are measured on at a time, at most
REPLAY = 6.0  # times its widest hidden vectors, what a replay holds of an image,
REPLAY_LAST = 3.0  # ... and of the last site, behind which no other FFN is replayed
BEFORE = 0.5  # times the hidden vectors of the layers before: the outputs of their attention and FFNs
TEXTS = "texts"  # the array in which `writes` keeps a CLIP's own embeddings of the texts that labels are chosen from
DOUBLE = 8.0  # bytes of a number that sums are kept in
PASSES = 7.0  # forwards that the direct effects of all layers cost an image, about (docs/effects.md)


def writes(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """The outputs that each neuron of a model raises and lowers most, through all that is linear behind it; and of a
    CLIP that reads texts those that its outputs are read by, embedded.
    """
    from pipeline.effects.written import written_effects
    from pipeline.images.probe_set import batches
    from pipeline.models.representation import is_clip

    model, inputs = work.model(unit.slug), work.inputs
    settings = inputs.settings.writes
    read = _embedded(work, unit.slug, inputs.concepts.prompts) if is_clip(model) else None
    texts = {} if read is None else {TEXTS: read}
    readout = _readout(work, model, texts)
    work.step()
    chosen = inputs.panel[: settings.frozen_images]
    images = (x for _, x in batches(inputs.images, chosen, model.description, min(work.batch, FROZEN_BATCH)))
    graphs = graph_bytes(work.batch)
    effects = written_effects(model, readout, images, settings.written, memory=graphs, on_step=work.step)
    return effects.arrays() | texts


def effect(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """What the layer's neurons write to, and what ablating them costs."""
    from pipeline.effects.rows import ablated_rows, written_rows
    from pipeline.effects.written import DirectEffects

    model, layer, units = work.model(unit.slug), work.layer(unit), range(unit.start, unit.stop)
    sums = sums_of_layer(work, unit)
    direct = DirectEffects.of(work.arrays("writes", unit.slug, DirectEffects.names(layer)))
    shared = work.shared(unit.slug, ablations)
    rows = written_rows(direct, layer, shared.readout.names, units)
    site, copies = model.description.ffn_sites[layer], copies_at_once(work.batch)
    ablated = ablated_rows(model, site, units, sums, shared, work.step, copies)
    nothing = dict.fromkeys(("ablation_effect", "ablation_se", "ablation_images", "ablation_kind"))
    return [row | ablated.get(row["unit"], nothing) for row in rows]


def ablations(work: Work, slug: str) -> Ablations:
    """What the ablations of all layers of a model share; worked out once a worker and model."""
    import torch

    from pipeline.effects.answers import answers_for, first_captions
    from pipeline.effects.rows import Ablations, answered_images

    inputs, settings = work.inputs, work.inputs.settings.effect
    captions: dict[str, torch.Tensor] = {}
    model = work.model(slug)
    kept = TEXTS in work.sizes_of(work.whole("writes", slug))
    readout = _readout(work, model, work.arrays("writes", slug, [TEXTS]) if kept else {})
    if readout.texts is not None:
        # without captions nothing is right for a CLIP, and its text tower is not loaded
        texts = first_captions((inputs.images.images[index] for index in inputs.panel), settings.measured_images)
        read = _embedded(work, slug, texts) if texts else None
        if read is not None:
            captions = dict(zip(texts, torch.from_numpy(read), strict=True))
    answer = answers_for(readout, captions)
    batch = min(work.batch, REPLAYED_BATCH)
    answered = answered_images(model, inputs.images, inputs.panel, answer, work.step, settings, batch)
    return Ablations(readout, answered, settings)


def _readout(work: Work, model: LoadedModel, texts: Mapping[str, np.ndarray]) -> Readout:
    """What reads a model's outputs. texts: of a CLIP, the embeddings under `TEXTS`."""
    import torch

    from pipeline.effects.readout import readout_of

    if not texts:
        return readout_of(model)
    return readout_of(model, texts=(work.inputs.concepts.texts, torch.from_numpy(texts[TEXTS].copy())))


def _embedded(work: Work, slug: str, texts: Sequence[str]) -> np.ndarray | None:
    """float32 (texts, d), by a CLIP's own text tower; None where its weights came without one."""
    from pipeline.label.embedder import load_embedder

    embedder = load_embedder(work.request(slug), work.device, vision=work.model(slug))
    return None if embedder.language is None else embedder.texts(texts, on_step=work.step).cpu().numpy()


def graph_bytes(batch: int) -> int:
    """Bytes that graphs and gradients may take: what is usual, and less with a small batch."""
    from pipeline.effects.direct import MEMORY

    return max(MEMORY * min(batch, FROZEN_BATCH) // FROZEN_BATCH, 1)


def copies_at_once(batch: int) -> int:
    """Pictures that are replayed at a time, images times ablated neurons: on a GPU twice the batch."""
    from pipeline.effects.ablation import COPIES

    return batch if batch <= COPIES["cpu"] else min(2 * batch, COPIES["cuda"])


def writes_memory(sizes: Sizes, batch: int) -> float:
    """Graphs of as many images as their bound allows, one at least; what is summed up, in float64; and the effects of
    one layer, with what is sorted of them.
    """
    from pipeline.effects.written import UNITS_AT_ONCE

    width = max(site.width for site in sizes.description.ffn_sites)
    sums = sizes.outputs * (4 * DOUBLE * sizes.description.representation_dim + FLOAT * (width + 2 * UNITS_AT_ONCE))
    return sizes.all_weights + max(graph_bytes(batch), GRAPH * sizes.hidden_up_to_site) + sums


def memory(sizes: Sizes, batch: int) -> float:
    """Copies of some pictures, one for each ablated neuron, run behind what was kept of the layers before; the pictures
    themselves; and what is read of the layer.
    """
    from pipeline.effects.rows import EffectSettings

    pictures = EffectSettings().measured_images * sizes.pixels
    last = sizes.site is not None and sizes.site.layer == sizes.description.ffn_sites[-1].layer
    held = (REPLAY_LAST if last else REPLAY) * sizes.hidden
    replayed = copies_at_once(batch) * (held + BEFORE * sizes.hidden_up_to_site)
    return sizes.all_weights + layer_memory(sizes, batch) + pictures + replayed


def writes_cost(sizes: Sizes) -> Cost:
    """Some passes of some images, and the strongest outputs of every neuron."""
    from pipeline.effects.written import WriteSettings

    settings = WriteSettings()
    kept = sizes.description.neurons * settings.written * 2 * 8
    return Cost(each=settings.frozen_images * PASSES * sizes.forward, kept=kept)


def cost(sizes: Sizes) -> Cost:
    """Some neurons of a layer are ablated by running the rest of the network on some images, the others by formula."""
    from pipeline.effects.rows import EffectSettings

    assert sizes.site is not None
    settings = EffectSettings()
    rest = max(sizes.forward - sizes.to_site, 0.0) * settings.measured_images
    share = min(1.0, settings.measured_units / sizes.site.width)
    fixed = settings.measured_images * sizes.forward + 0.07 * SECOND  # what is read of the layer, too
    return Cost(each=share * rest, fixed=fixed, bytes=150)


WRITES = Stage(
    name="writes",
    does="Works out which outputs each neuron of a model raises and lowers most, attention and other FFNs held",
    group="",
    cut="model",
    facts=("images", "panel", "concepts", "write settings"),
    compute=writes,
    cost=writes_cost,
    memory=writes_memory,
    version=3,  # 3: random weights of a CLIP's text tower are drawn without its picture tower before them
)
EFFECT = Stage(
    name="effect",
    does="Tells which classes each neuron raises, and what the right answer loses without the neuron",
    group="effect",
    cut="neurons",
    reads=("probe", "writes"),
    facts=("images", "panel", "classes", "captions", "attributes", "concepts", "effect settings"),
    names_classes=True,
    compute=effect,
    cost=cost,
    memory=memory,
)
