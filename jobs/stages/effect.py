"""The stage that tells what a neuron writes to the output, and what the output loses without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.stages.probe import SECOND
from jobs.stages.stage import Cost, Sizes, Stage

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.work import Work


def effect(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """What the layer's neurons write to, and what ablating them costs."""
    from pipeline.effects.rows import ablated_rows, written_rows
    from pipeline.probe.model import site_arrays, site_of

    model, layer, units = work.model(unit.slug), work.layer(unit), range(unit.start, unit.stop)
    sums = site_of(work.arrays("probe", unit.slug, site_arrays(layer)), layer)
    site = model.description.ffn_sites[layer]
    shared = work.shared(unit.slug, read_model)
    settings = work.inputs.settings.effect
    rows = written_rows(shared.direct, layer, shared.readout.names, units)
    ablated = ablated_rows(model, site, units, sums, shared.readout, shared.answered, settings)
    nothing = dict.fromkeys(("ablation_effect", "ablation_se", "ablation_images", "ablation_kind"))
    return [row | ablated.get(row["unit"], nothing) for row in rows]


@dataclass(frozen=True)
class ReadModel:
    """What the effects of all layers of a model share; worked out once a worker and model."""

    readout: Any  # pipeline.effects.readout.Readout
    direct: Any  # pipeline.effects.written.DirectEffects
    answered: list[Any]  # pipeline.effects.ablation.AnsweredImages


def read_model(work: Work, slug: str) -> ReadModel:
    """Readout, direct effects and answered images of a model."""
    from pipeline.effects.answers import answers_for
    from pipeline.effects.readout import readout_of
    from pipeline.effects.rows import answered_images
    from pipeline.effects.written import written_effects
    from pipeline.images.probe_set import batches
    from pipeline.label.embedder import load_embedder
    from pipeline.models.representation import is_clip

    model, inputs = work.model(slug), work.inputs
    embed_texts = None
    if is_clip(model):
        embed_texts = load_embedder(work.request(slug), work.device).texts
        readout = readout_of(model, texts=(inputs.concepts.texts, embed_texts(inputs.concepts.prompts)))
    else:
        readout = readout_of(model)
    work.step()
    settings = inputs.settings.effect
    frozen = inputs.panel[: settings.frozen_images]
    images = (x for _, x in batches(inputs.images, frozen, model.description, 16))
    direct = written_effects(model, readout, images, settings.written, on_step=work.step)
    work.step()
    answer = answers_for(readout, embed_texts)
    answered = answered_images(model, inputs.images, inputs.panel, answer, work.step, settings)
    return ReadModel(readout, direct, answered)


def cost(sizes: Sizes) -> Cost:
    """Some neurons of a layer are ablated by running the rest of the network on some images, the others by formula."""
    from pipeline.effects.rows import EffectSettings

    assert sizes.site is not None
    settings = EffectSettings()
    rest = max(sizes.forward - sizes.to_site, 0.0) * settings.measured_images
    share = min(1.0, settings.measured_units / sizes.site.width)
    return Cost(each=share * rest + 1e-3 * SECOND, fixed=settings.measured_images * sizes.forward, bytes=150)


EFFECT = Stage(
    name="effect",
    does="Tells which classes each neuron raises, and what the right answer loses without the neuron",
    group="effect",
    cut="neurons",
    reads=("probe",),
    facts=("images", "classes", "captions", "attributes", "concepts", "effect settings"),
    compute=effect,
    cost=cost,
)
