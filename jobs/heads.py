"""The stages behind the tables of heads: how a worker computes a unit of each, and what the next one reads of it.

    pool (texts embedded) ───────┐
    decompose (slices, merges) ──┼─> align ─> spans ─> project (slices, merges) ─> heads
    embed (slices, merges) ──────┘

All are partials. The last one holds the finished rows of the five tables of a model (`jobs.head_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from atlas_schema.parts import PartReceipt, WorkUnit
from jobs.head_partials import alignment_at, embedded, root
from jobs.head_rows import head_tables
from jobs.tasks import Surroundings, batch_of, tiles

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.decompose.align import Question
    from pipeline.decompose.contributions import Contributing
    from pipeline.decompose.second_pass import SecondPassRunner


def pool(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """All texts that heads are compared with, embedded: the pool, each feature's, the names of the classes."""
    embedder, measuring = at.embedder(), at.measuring
    arrays = {
        name: embedder.texts(prompts).float().cpu().numpy()
        for name, prompts in measuring.texts_of_heads.prompts().items()
    }
    return at.commit_arrays(unit, arrays)


def decompose(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """Moments of the contributions of all components over a slice of the probe images, or the merge of slices."""
    from pipeline.accumulators import merged
    from pipeline.decompose.moments import ContributionMoments

    children = tiles(at.store, unit)
    if children:
        return at.commit_arrays(unit, merged(ContributionMoments, map(at.read_arrays, children)).arrays())
    contributing = _contributing(at, unit.slug)
    found = (batch for _, batch in _contributions(at, contributing, range(unit.start, unit.stop)))
    device = "cpu" if at.device == "mps" else at.device
    return at.commit_arrays(unit, ContributionMoments.over(contributing, found, device).arrays())


def _contributing(at: Surroundings, slug: str) -> Contributing:
    from pipeline.decompose.contributions import Contributing

    return Contributing(at.model(slug))


def _contributions(
    at: Surroundings, contributing: Contributing, indices: Sequence[int]
) -> Iterator[tuple[Sequence[int], Any]]:
    from pipeline.images.probe_set import batches

    model = contributing.model
    for places, pixels in batches(at.measuring.probe_set, indices, model.description, batch_of(at)):
        x = model.normalise(pixels.to(model.device))
        yield places, contributing(x)
        at.step()


def align(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """The maps of a model's components to the embedder's space; the embedder itself needs none."""
    import torch

    from pipeline.decompose.align import Alignment, fit_alignment
    from pipeline.decompose.contributions import levels_of
    from pipeline.label.views import Views

    measuring = at.measuring
    choice = measuring.embedder_or_fail
    contributing, panel = _contributing(at, unit.slug), measuring.panel
    views = Views.of(at.read_arrays(root(at, "embed", choice.slug)))
    place = {index: i for i, index in enumerate(panel)}

    def again() -> Iterator[tuple[Tensor, Tensor]]:
        for indices, found in _contributions(at, contributing, panel):
            yield torch.tensor([place[index] for index in indices]), found.vectors.float()

    levels = levels_of(at.read_arrays(root(at, "decompose", unit.slug), ["through"])["through"])
    if unit.fingerprint == choice.fingerprint:
        width = contributing.model.description.representation_dim
        return at.commit_arrays(unit, Alignment.own(len(levels), width).arrays())
    fit = torch.tensor([measuring.probe_set.split(index) == "fit" for index in panel])
    fitted = fit_alignment(
        again,
        views.whole.to(at.device),
        fit,
        levels,
        questions=_questions(at, panel),
        on_step=at.step,
    )
    return at.commit_arrays(unit, fitted.arrays())


def _questions(at: Surroundings, panel: Sequence[int]) -> list[Question]:
    """What the aligned representation is asked on images that it was not fitted on."""
    from pipeline.decompose.align import Question
    from pipeline.decompose.classifiers import zero_shot_classifier
    from pipeline.decompose.second_pass import zero_shot_texts

    measuring = at.measuring
    texts = embedded(at)
    images = [measuring.probe_set.images[index] for index in panel]
    classifier = zero_shot_classifier(zero_shot_texts(measuring.texts_of_heads.features, texts, images), images)
    if classifier is None:
        return []
    return [Question(one, answers) for one, answers in zip(classifier.texts, classifier.labels.unbind(1), strict=True)]


def spans(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """Texts and axes of every head, and the directions along which the next pass orders images."""
    from pipeline.decompose.moments import ContributionMoments
    from pipeline.decompose.spans import spans_of

    moments = ContributionMoments.of(at.read_arrays(root(at, "decompose", unit.slug)))
    found = spans_of(moments, alignment_at(at, unit.slug), embedded(at)["pool"], at.step)
    return at.commit_arrays(unit, found.arrays())


def project(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """The second pass over a slice of the images, or the merge of slices."""
    from pipeline.accumulators import merged
    from pipeline.decompose.second_pass import SecondPass

    children = tiles(at.store, unit)
    if children:
        return at.commit_arrays(unit, merged(SecondPass, map(at.read_arrays, children)).arrays())
    contributing = _contributing(at, unit.slug)
    passing = _passing(at, unit.slug)
    for indices, found in _contributions(at, contributing, range(unit.start, unit.stop)):
        passing.update(found, indices)
    return at.commit_arrays(unit, passing.sums.arrays())


def _passing(at: Surroundings, slug: str) -> SecondPassRunner:
    """What the second pass measures along, read from the stages before it."""
    import torch

    from pipeline.decompose.contributions import levels_of
    from pipeline.decompose.second_pass import SecondPassRunner

    before = at.read_arrays(root(at, "decompose", slug), ["mean", "through"])
    directions = at.read_arrays(root(at, "spans", slug), ["directions"])["directions"]
    return SecondPassRunner.of(
        at.model(slug),
        torch.from_numpy(before["mean"].copy()),
        alignment_at(at, slug),
        levels_of(before["through"]),
        torch.from_numpy(directions.copy()),
        at.measuring.texts_of_heads.features,
        embedded(at),
        at.measuring.probe_set.images,
        at.measuring.membership,
    )


def heads(at: Surroundings, unit: WorkUnit) -> PartReceipt:
    """The finished rows of a model's five tables."""
    return at.commit_arrays(unit, head_tables(at, unit))


HEAD_TASKS: dict[str, Callable[[Surroundings, WorkUnit], PartReceipt]] = {
    "pool": pool,
    "decompose": decompose,
    "align": align,
    "spans": spans,
    "project": project,
    "heads": heads,
}
