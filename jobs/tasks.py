"""How a worker computes a unit of each stage behind `visualize`: read partials, call the science, commit.

Each function takes the worker's surroundings and a unit and commits the unit's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from atlas_schema.errors import NothingThere
from atlas_schema.partials import commit_partial, read_or_remove
from atlas_schema.parts import PartReceipt, WorkUnit, alike, commit_part, read_part
from atlas_schema.store import Store
from jobs.measuring import SEED, Measuring

if TYPE_CHECKING:
    from pipeline.label.embedder import Embedder
    from pipeline.models import LoadedModel
    from pipeline.probe.model import SiteProbe

Row = dict[str, Any]


@dataclass
class Surroundings:
    """What a task has at hand. `model` and `embedder` load what is not held yet."""

    store: Store
    measuring: Measuring
    model: Callable[[str], LoadedModel]  # by slug
    embedder: Callable[[], Embedder]
    causes: Callable[[str], Causes]  # by slug
    step: Callable[[], None]  # the heartbeat
    provenance: dict[str, str]
    device: str
    before_commit: Callable[[], None] = lambda: None

    def commit_rows(self, unit: WorkUnit, rows: list[Row]) -> PartReceipt:
        self.before_commit()
        return commit_part(self.store, unit, rows, provenance=self.provenance)

    def commit_arrays(self, unit: WorkUnit, arrays: dict[str, np.ndarray], **told: str) -> PartReceipt:
        self.before_commit()
        return commit_partial(self.store, unit, arrays, provenance={**self.provenance, **told})

    def read_arrays(self, unit: WorkUnit, names: list[str] | None = None) -> dict[str, np.ndarray]:
        """A partial's arrays; a damaged one is removed, so that the next run makes it anew."""
        self.step()
        return read_or_remove(self.store, unit, names)


def probe(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """A slice of the probe pass: merged from partials that tile it, else measured."""
    import torch

    from pipeline.accumulators import merged
    from pipeline.images.probe_set import batches
    from pipeline.probe.model import ModelProbe
    from pipeline.probe.model import probe as run_probe

    children = tiles(at.store, unit)
    if children:
        return at.commit_arrays(unit, merged(ModelProbe, map(at.read_arrays, children)).arrays())
    model, measuring = at.model(unit.slug), at.measuring
    indices = range(unit.start, unit.stop)
    whole = ModelProbe.empty(model.description, measuring.probe, measuring.membership, indices, torch.device(at.device))
    source = batches(measuring.probe_set, indices, model.description, batch_of(at))
    return at.commit_arrays(unit, run_probe(model, source, whole, lambda images: at.step()).arrays())


def tiles(store: Store, unit: WorkUnit) -> list[WorkUnit]:
    """Committed partials within `unit`, side by side without a gap, the longest first choice; [] if they do not."""
    inside = [one for one in alike(store, unit) if unit.start <= one.start and one.stop <= unit.stop and one != unit]
    chosen: list[WorkUnit] = []
    for one in sorted(inside, key=lambda one: (one.start, -one.stop)):
        if one.start == (chosen[-1].stop if chosen else unit.start):
            chosen.append(one)
    return chosen if chosen and chosen[-1].stop == unit.stop else []


def batch_of(at: Surroundings) -> int:
    """Images in one forward."""
    return 32 if at.device == "cpu" else 256


def evidence(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    from pipeline.probe.evidence import evidence_rows

    units, measuring = range(unit.start, unit.stop), at.measuring
    return at.commit_rows(
        unit, evidence_rows(_site_probe(at, unit), units, measuring.probe_set.identity, measuring.membership)
    )


def examples(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    from pipeline.probe.evidence import quantile_rows, top_rows

    model, probed, units = at.model(unit.slug), _site_probe(at, unit), range(unit.start, unit.stop)
    site = model.description.ffn_sites[unit.layer]
    rows = list(top_rows(probed, site, units, at.measuring.probe_set))
    at.step()
    rows += quantile_rows(model, probed, site, units, at.measuring.probe_set, batch_of(at))
    return at.commit_rows(unit, rows)


def judge(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """Pictures against real images; what the pictures reach is read from their parts."""
    from pipeline.probe.evidence import Picture, judge_rows

    pictures = {row["unit"]: Picture(row["activation"], row["activation_peak"]) for row in _pictured(at, unit)}
    return at.commit_rows(unit, judge_rows(_site_probe(at, unit), pictures))


def _pictured(at: Surroundings, unit: WorkUnit) -> Iterator[Row]:
    like = WorkUnit("visualize", unit.slug, unit.layer, 0, 1, unit.fingerprint, at.measuring.recipe_hash, unit.seed)
    for part in alike(at.store, like, unit.layer):
        at.step()
        for row in read_part(at.store, part).select(["unit", "activation", "activation_peak"]).to_pylist():
            if unit.start <= row["unit"] < unit.stop:
                yield row


def _site_probe(at: Surroundings, unit: WorkUnit) -> SiteProbe:
    """What the whole probe pass says of the unit's layer."""
    from pipeline.probe.model import site_arrays, site_of

    return site_of(at.read_arrays(_root(at, unit), site_arrays(unit.layer)), unit.layer)


def _root(at: Surroundings, unit: WorkUnit) -> WorkUnit:
    settings = at.measuring.settings("probe")
    images = len(at.measuring.probe_set)
    return WorkUnit("probe", unit.slug, 0, 0, images, unit.fingerprint, settings, SEED)


def embed(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """Views of a slice of the panel's images, embedded; or the merge of slices."""
    from pipeline.accumulators import merged
    from pipeline.label.views import Views

    children = tiles(at.store, unit)
    if children:
        return at.commit_arrays(unit, merged(Views, map(at.read_arrays, children)).arrays())
    panel, probe_set = at.measuring.panel, at.measuring.probe_set
    embedder = at.embedder()
    views = embedder.embed_views(_opened(at, panel[unit.start : unit.stop], probe_set))
    return at.commit_arrays(unit, Views(views).arrays())


def _opened(at: Surroundings, indices: list[int], probe_set: Any) -> Iterator[Any]:
    for index in indices:
        at.step()
        yield probe_set.open(index)


def texts(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """The texts of the concept set, embedded."""
    concepts = at.measuring.concepts
    assert concepts is not None
    return at.commit_arrays(
        unit, {"texts": at.embedder().texts(concepts.prompts[unit.start : unit.stop]).float().cpu().numpy()}
    )


def label(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """Labels and readability of a layer: all its units are labelled together, those of the unit are kept."""
    import torch

    from pipeline.label.rows import label_rows
    from pipeline.label.views import Views

    measuring = at.measuring
    assert measuring.embedder is not None
    assert measuring.concepts is not None
    assert measuring.label is not None
    probed = _site_probe(at, unit)
    choice, panel = measuring.embedder, measuring.panel
    own = (choice.fingerprint, measuring.settings("embed"), SEED)
    views = Views.of(at.read_arrays(WorkUnit("embed", choice.slug, 0, 0, len(panel), *own)))
    own = (choice.fingerprint, measuring.settings("texts"), SEED)
    words = at.read_arrays(WorkUnit("texts", choice.slug, 0, 0, len(measuring.concepts), *own))["texts"]
    if probed.panel.images.tolist() != panel:
        raise NothingThere(f"{unit}: the probe pass holds another panel than the embedder saw; run both anew")
    rows: list[Row] = label_rows(
        probed.panel.peak.float(),
        probed.panel.window,
        views.vectors.to(at.device),
        torch.from_numpy(words.copy()).to(at.device),
        fit=torch.tensor([measuring.probe_set.split(index) == "fit" for index in panel]),
        texts=measuring.concepts.texts,
        settings=measuring.label,
        layer_address=f"{unit.slug}/mlp/{unit.layer}",
        on_step=at.step,
    )
    told = {"concept_set": measuring.concepts.title, "embedder": choice.slug}
    return at.commit_rows(unit, [row | told for row in rows if unit.start <= row["unit"] < unit.stop])


def effect(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """What the layer's neurons write to, and what ablating them costs."""
    from pipeline.effects.rows import ablated_rows, written_rows

    model, probed, units = at.model(unit.slug), _site_probe(at, unit), range(unit.start, unit.stop)
    site = model.description.ffn_sites[unit.layer]
    causes = at.causes(unit.slug)
    rows = written_rows(causes.direct[unit.layer], causes.readout.names, units)
    ablated = ablated_rows(model, site, units, probed, causes.readout, causes.answered)
    nothing = dict.fromkeys(("ablation_effect", "ablation_se", "ablation_images", "ablation_kind"))
    return at.commit_rows(unit, [row | ablated.get(row["unit"], nothing) for row in rows])


@dataclass(frozen=True)
class Causes:
    """What the effects of all layers of a model share; worked out once a worker and model."""

    readout: Any  # pipeline.effects.readout.Readout
    direct: list[Any]  # pipeline.effects.readout.SiteEffect, by layer
    answered: list[Any]  # pipeline.effects.ablation.AnsweredImages


def causes_of(model: LoadedModel, measuring: Measuring, request: Any, device: str, step: Callable[[], None]) -> Causes:
    """Readout, direct effects and answered images of a model."""
    from pipeline.effects.answers import answers_for
    from pipeline.effects.readout import direct_effects, readout_of
    from pipeline.effects.rows import EffectSettings, answered_images
    from pipeline.images.probe_set import batches
    from pipeline.label.embedder import load_embedder
    from pipeline.models.representation import is_clip

    embed_texts = None
    if is_clip(model):
        embed_texts = load_embedder(request, device).texts
        assert measuring.concepts is not None
        readout = readout_of(model, texts=(measuring.concepts.texts, embed_texts(measuring.concepts.prompts)))
    else:
        readout = readout_of(model)
    step()
    frozen = measuring.panel[: EffectSettings.frozen_images]
    images = (x for _, x in batches(measuring.probe_set, frozen, model.description, 16))
    direct = direct_effects(model, readout, images)
    step()
    answer = answers_for(readout, embed_texts)
    return Causes(readout, direct, answered_images(model, measuring.probe_set, measuring.panel, answer, step))


TASKS: dict[str, Callable[[Surroundings, WorkUnit], PartReceipt]] = {
    "probe": probe,
    "evidence": evidence,
    "examples": examples,
    "judge": judge,
    "embed": embed,
    "texts": texts,
    "label": label,
    "effect": effect,
}
