"""Rows of the stage `effect`: what a neuron writes to, and what is lost when it is replaced by its mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from pipeline.effects.ablation import AblationEffects, AnsweredImages, ablation_effects, matter_most
from pipeline.effects.answers import Answer
from pipeline.effects.last_norm import only_readout_follows
from pipeline.effects.readout import Readout, SiteEffect
from pipeline.images.probe_set import ProbeSet, batches
from pipeline.models import LoadedModel
from pipeline.models.sites import FfnSite
from pipeline.probe.model import SiteProbe

WRITTEN = 5  # classes told that a neuron raises most, and as many that it lowers most
MEASURED_UNITS = 16  # of a layer whose effect is measured by running the rest of the network
MEASURED_IMAGES = 64


def written_rows(effect: SiteEffect, names: Sequence[str], units: Sequence[int]) -> list[dict[str, Any]]:
    """Per unit the outputs it raises most and lowers most, per unit of activation."""
    if effect.effect is None:
        return [{"unit": unit, "writes_to": None, "effect_note": effect.reason} for unit in units]
    strength = effect.effect[:, list(units)].double().cpu().numpy()  # (names, units)
    order = np.argsort(-strength, axis=0, kind="stable")
    ends = np.concatenate([order[:WRITTEN], order[WRITTEN:][-WRITTEN:]])
    return [
        {
            "unit": unit,
            "writes_to": [{"name": names[place], "logit": float(strength[place, i])} for place in ends[:, i]],
            "effect_note": None,
        }
        for i, unit in enumerate(units)
    ]


def ablated_rows(
    model: LoadedModel,
    site: FfnSite,
    units: Sequence[int],
    probe: SiteProbe,
    readout: Readout,
    answered: Sequence[AnsweredImages],
) -> dict[int, dict[str, Any]]:
    """By unit: exact for all where only the readout follows, measured for the units that matter most elsewhere."""
    if readout.reason or not answered:
        return {}
    moments = probe.moments.finalize()
    chosen = list(units)
    if not only_readout_follows(model, site):
        std = torch.from_numpy(moments["token_std"])
        wanted = set(units)
        chosen = [unit for unit in matter_most(model, site, std, site.width) if unit in wanted][:MEASURED_UNITS]
    means = torch.from_numpy(moments["token_mean"]).float()
    found: AblationEffects = ablation_effects(model, site, chosen, answered, means, readout)
    error = found.standard_error
    return {
        unit: {
            "ablation_effect": float(found.effect[i]),
            "ablation_se": None if error is None else float(error[i]),
            "ablation_images": found.images,
            "ablation_kind": found.kind,
        }
        for i, unit in enumerate(found.units)
    }


def answered_images(
    model: LoadedModel, probe_set: ProbeSet, indices: Sequence[int], answer: Answer, step: Callable[[], None]
) -> list[AnsweredImages]:
    """The first MEASURED_IMAGES of the images that have an answer, in batches whose answers have one shape."""
    answers = {}
    for index in indices:
        found = answer(probe_set.images[index])
        if found is not None:
            answers[index] = found
        if len(answers) == MEASURED_IMAGES:
            break
    made = []
    for numbers, pixels in batches(probe_set, list(answers), model.description, 16):
        step()
        shapes = {answers[index].shape for index in numbers}
        for shape in sorted(shapes):
            rows = [row for row, index in enumerate(numbers) if answers[index].shape == shape]
            told = torch.stack([answers[numbers[row]] for row in rows])
            made.append(AnsweredImages(pixels[rows], told))
    return made
