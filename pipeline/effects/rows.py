"""Effect columns of `neurons`: what a neuron writes to, and what is lost when it is replaced by its mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch

from pipeline.effects.ablation import AblationEffects, AnsweredImages, ablation_effects, exact_form, matter_most
from pipeline.effects.answers import Answer
from pipeline.effects.last_norm import Traced
from pipeline.effects.readout import Readout
from pipeline.effects.written import DirectEffects
from pipeline.images.probe_set import ProbeSet, batches
from pipeline.models import LoadedModel
from pipeline.models.sites import FfnSite
from pipeline.probe.model import SiteProbe

Row = dict[str, Any]


@dataclass(frozen=True)
class EffectSettings:
    """On how many images and neurons ablations are measured."""

    measured_units: int = 16  # of a layer, whose ablation is measured by running the rest of the network
    measured_images: int = 64  # with an answer, that ablations are measured on


def written_rows(effects: DirectEffects, layer: int, names: Sequence[str], units: Sequence[int]) -> list[Row]:
    """What each unit writes to: the outputs it raises most and lowers most, per unit of activation."""
    writes = effects.layers[layer]
    if writes.reason:
        return [{"unit": unit, "writes_to": None, "effect_note": writes.reason} for unit in units]
    index = np.concatenate([writes.raised, writes.lowered], axis=1)  # (width, outputs named)
    value = np.concatenate([writes.raised_value, writes.lowered_value], axis=1)
    return [
        {
            "unit": unit,
            "writes_to": [
                {"name": names[output], "logit": float(logit)}
                for output, logit in zip(index[unit], value[unit], strict=True)
            ],
            "effect_note": None,
        }
        for unit in units
    ]


@dataclass
class Ablations:
    """What the ablations of all layers of a model share: how its outputs are read, and images with what is right."""

    readout: Readout
    answered: Sequence[AnsweredImages]
    settings: EffectSettings = EffectSettings()
    #: by layer, what the formula needs of the images, whatever the neurons: made when a layer's first unit comes
    forms: dict[int, list[Traced] | None] = field(default_factory=dict)

    def form(self, model: LoadedModel, site: FfnSite, on_step: Callable[[], None]) -> list[Traced] | None:
        """What the formula needs of each batch; None where the site has none."""
        if site.layer not in self.forms:
            self.forms[site.layer] = exact_form(model, site, self.answered, self.readout, on_step)
        return self.forms[site.layer]


def ablated_rows(
    model: LoadedModel,
    site: FfnSite,
    units: Sequence[int],
    probe: SiteProbe,
    shared: Ablations,
    on_step: Callable[[], None] = lambda: None,
    copies: int | None = None,
) -> dict[int, Row]:
    """What ablating each unit costs, by unit: exact for all where the formula holds (`pipeline.effects.last_norm`);
    elsewhere measured, by running the rest of the network, for the units that matter most.

    copies: pictures at a time, as in `pipeline.effects.ablation.ablation_effects`.
    """
    readout, answered, settings = shared.readout, shared.answered, shared.settings
    if readout.reason or not answered:
        return {}
    moments = probe.moments.finalize()
    chosen = list(units)
    form = shared.form(model, site, on_step)
    if form is None:
        # those of the whole layer, however it is cut into units: a row depends on no selection
        most = matter_most(model, site, torch.from_numpy(moments["token_std"]), settings.measured_units)
        wanted = set(units)
        chosen = [unit for unit in most if unit in wanted]
        if not chosen:
            return {}
    means = torch.from_numpy(moments["token_mean"]).float()
    effects: AblationEffects = ablation_effects(
        model, site, chosen, answered, means, readout, form=form, copies=copies, on_step=on_step
    )
    error = effects.standard_error
    return {
        unit: {
            "ablation_effect": float(effects.effect[i]),
            "ablation_se": None if error is None else float(error[i]),
            "ablation_images": effects.images,
            "ablation_kind": effects.kind,
        }
        for i, unit in enumerate(effects.units)
    }


def answered_images(
    model: LoadedModel,
    probe_set: ProbeSet,
    indices: Sequence[int],
    answer: Answer,
    on_step: Callable[[], None] = lambda: None,
    settings: EffectSettings = EffectSettings(),
    batch: int = 16,
) -> list[AnsweredImages]:
    """The first of some images that have an answer, in batches whose answers have one shape.

    indices: in the probe set; on_step: called after each batch of at most `batch` images.
    """
    known = ((index, answer(probe_set.images[index])) for index in indices)
    answers = dict(islice(((index, own) for index, own in known if own is not None), settings.measured_images))
    answered = []
    for numbers, pixels in batches(probe_set, list(answers), model.description, batch):
        on_step()
        for shape in sorted({answers[index].shape for index in numbers}):
            rows = [row for row, index in enumerate(numbers) if answers[index].shape == shape]
            answered.append(AnsweredImages(pixels[rows], torch.stack([answers[numbers[row]] for row in rows])))
    return answered
