"""The stages that tell what neurons write to the output (once a model), and what the output loses without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.stages.probe import SECOND, sums_of_layer
from jobs.stages.stage import Cost, Sizes, Stage

if TYPE_CHECKING:
    import numpy as np

    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.effects.readout import Readout
    from pipeline.effects.rows import Ablations
    from pipeline.models import LoadedModel

TEXTS = "texts"  # the array in which `writes` keeps a CLIP's own embeddings of the texts that labels are chosen from
PASSES = 10.0  # forwards that the direct effects of all layers cost an image, about (docs/effects.md)


def writes(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """The outputs that each neuron of a model raises and lowers most, through all that is linear behind it; and of a
    CLIP the texts that its outputs are read by, embedded.
    """
    from pipeline.effects.written import written_effects
    from pipeline.images.probe_set import batches
    from pipeline.models.representation import is_clip

    model, inputs = work.model(unit.slug), work.inputs
    settings = inputs.settings.writes
    texts = {TEXTS: _embedded(work, unit.slug, inputs.concepts.prompts)} if is_clip(model) else {}
    readout = _readout(work, model, texts)
    work.step()
    images = (x for _, x in batches(inputs.images, inputs.panel[: settings.frozen_images], model.description, 16))
    return written_effects(model, readout, images, settings.written, on_step=work.step).arrays() | texts


def effect(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """What the layer's neurons write to, and what ablating them costs."""
    from pipeline.effects.rows import ablated_rows, written_rows
    from pipeline.effects.written import DirectEffects

    model, layer, units = work.model(unit.slug), work.layer(unit), range(unit.start, unit.stop)
    sums = sums_of_layer(work, unit)
    direct = DirectEffects.of(work.arrays("writes", unit.slug, DirectEffects.names(layer)))
    shared = work.shared(unit.slug, ablations)
    rows = written_rows(direct, layer, shared.readout.names, units)
    ablated = ablated_rows(model, model.description.ffn_sites[layer], units, sums, shared, work.step)
    nothing = dict.fromkeys(("ablation_effect", "ablation_se", "ablation_images", "ablation_kind"))
    return [row | ablated.get(row["unit"], nothing) for row in rows]


def ablations(work: Work, slug: str) -> Ablations:
    """What the ablations of all layers of a model share; worked out once a worker and model."""
    import torch

    from pipeline.effects.answers import answers_for, first_captions
    from pipeline.effects.rows import Ablations, answered_images
    from pipeline.models.representation import is_clip

    inputs, settings = work.inputs, work.inputs.settings.effect
    captions: dict[str, torch.Tensor] = {}
    model = work.model(slug)
    readout = _readout(work, model, work.arrays("writes", slug, [TEXTS]) if is_clip(model) else {})
    if readout.texts is not None:
        # without captions nothing is right for a CLIP, and its text tower is not loaded
        texts = first_captions((inputs.images.images[index] for index in inputs.panel), settings.measured_images)
        if texts:
            captions = dict(zip(texts, torch.from_numpy(_embedded(work, slug, texts)), strict=True))
    answer = answers_for(readout, captions)
    answered = answered_images(model, inputs.images, inputs.panel, answer, work.step, settings)
    return Ablations(readout, answered, settings)


def _readout(work: Work, model: LoadedModel, texts: Mapping[str, np.ndarray]) -> Readout:
    """What reads a model's outputs. texts: of a CLIP, the embeddings under `TEXTS`."""
    import torch

    from pipeline.effects.readout import readout_of

    if not texts:
        return readout_of(model)
    return readout_of(model, texts=(work.inputs.concepts.texts, torch.from_numpy(texts[TEXTS].copy())))


def _embedded(work: Work, slug: str, texts: Sequence[str]) -> np.ndarray:
    """float32 (texts, d), by a CLIP's own text tower."""
    from pipeline.label.embedder import load_embedder

    vectors = load_embedder(work.request(slug), work.device).texts(texts, on_step=work.step)
    return vectors.cpu().numpy()


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
    return Cost(each=share * rest + 1e-3 * SECOND, fixed=settings.measured_images * sizes.forward, bytes=150)


WRITES = Stage(
    name="writes",
    does="Works out which outputs each neuron of a model raises and lowers most, attention and other FFNs held",
    group="",
    cut="model",
    facts=("images", "panel", "concepts", "write settings"),
    compute=writes,
    cost=writes_cost,
    version=2,
)
EFFECT = Stage(
    name="effect",
    does="Tells which classes each neuron raises, and what the right answer loses without the neuron",
    group="effect",
    cut="neurons",
    reads=("probe", "writes"),
    facts=("images", "panel", "classes", "captions", "attributes", "concepts", "effect settings"),
    compute=effect,
    cost=cost,
)
