"""The stages that decompose attention heads: pool, decompose, align, spans, project, maps, reads, heads.

pool (texts embedded) ───────┐                         ┌─> project (slices, merges) ─> maps (slices, merges) ─┐
decompose (slices, merges) ──┼─> align ─> spans ───────┤                                                     ├─> heads
embed (slices, merges) ──────┘                         └─> reads ────────────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.stages.label import texts_memory
from jobs.stages.probe import SECOND
from jobs.stages.stage import FLOAT, Cost, Sizes, Stage

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atlas_schema.units import WorkUnit
    from jobs.inputs import Inputs
    from jobs.work import Work
    from pipeline.decompose.align import Question
    from pipeline.decompose.alignment import Alignment
    from pipeline.decompose.contributions import Contributing
    from pipeline.models import LoadedModel, ModelDescription

FORWARDS = 2.0  # plain forwards that contributions cost, about, where heads have paths (docs/decomposition.md)
#: ... through shifted windows, and where heads are pushed through later attention: of the zoo's models and of larger
#: ones (ConViT 11 and 15, CoaT 18 and 7, Twins 5)
FORWARDS_OF = {"swin": 3.0, "twins": 5.0, "coat": 14.0, "convit": 12.0, "maxvit": 15.0}
OPEN_FAMILIES = ("twins", "coat", "convit", "maxvit")  # most of whose heads have no path or no direct effect
STEPS_MADE = 0.6  # of the steps of an alignment, until more gain nothing


def pool(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """All texts that heads are compared with, embedded: the pool, each feature's, the names of the classes."""
    embedder = work.embedder()
    prompts = work.inputs.head_texts.prompts()
    return {name: embedder.texts(texts, on_step=work.step).float().cpu().numpy() for name, texts in prompts.items()}


def decompose(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """Moments of the contributions of all components over a slice of the probe images."""
    from pipeline.decompose.moments import ContributionMoments

    contributing = work.shared(unit.slug, contributing_of)
    device = "cpu" if work.device == "mps" else work.device
    batches = (batch for _, batch in _contributions(work, contributing, _indices(work, unit, DECOMPOSE)))
    return ContributionMoments.over(contributing, batches, device).arrays()


def contributing_of(work: Work, slug: str) -> Contributing:
    """What is known of how a model's components reach its representation, found once a worker."""
    from pipeline.decompose.contributions import Contributing

    return Contributing(work.model(slug))


def _contributions(
    work: Work, contributing: Contributing, indices: Sequence[int], *, through: bool = True
) -> Iterator[tuple[Sequence[int], Any]]:
    """Images, a batch at a time, with what their components contribute. through: as `Contributing` has it."""
    from pipeline.images.probe_set import batches

    model = contributing.model
    for numbers, pixels in batches(work.inputs.images, indices, model.description, work.batch):
        yield numbers, contributing(model.normalise(pixels.to(model.device)), through=through)
        work.step()


def align(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """The maps of a model's components to the embedder's space; the embedder itself needs none."""
    import torch

    from pipeline.decompose.align import fit_alignment
    from pipeline.decompose.alignment import Alignment
    from pipeline.decompose.moments import ContributionMoments
    from pipeline.label.views import Views

    inputs = work.inputs
    contributing, panel = work.shared(unit.slug, contributing_of), inputs.panel
    views = Views.of(work.arrays("embed"))
    row = {index: i for i, index in enumerate(panel)}

    def again() -> Iterator[tuple[Tensor, Tensor]]:
        for indices, contributions in _contributions(work, contributing, panel, through=False):
            yield torch.tensor([row[index] for index in indices]), contributions.vectors.float()

    moments = ContributionMoments.of(work.arrays("decompose", unit.slug))
    levels = moments.levels
    if unit.fingerprint == inputs.embedder.fingerprint:
        return Alignment.own(len(levels), contributing.model.description.representation_dim).arrays()
    fit = torch.tensor([inputs.images.split(index) == "fit" for index in panel])
    return fit_alignment(
        again,
        views.whole.to(work.device),
        fit,
        levels,
        spaces=moments.spaces(),
        settings=inputs.settings.align,
        questions=_questions(work, panel),
        on_step=work.step,
    ).arrays()


def _questions(work: Work, panel: Sequence[int]) -> list[Question]:
    """What the aligned representation is asked on images that it was not fitted on."""
    from pipeline.decompose.align import Question
    from pipeline.decompose.classifiers import zero_shot_classifier
    from pipeline.decompose.second_pass import zero_shot_texts

    inputs = work.inputs
    images = [inputs.images.images[index] for index in panel]
    classifier = zero_shot_classifier(zero_shot_texts(inputs.head_texts.features, _embedded(work), images), images)
    if classifier is None:
        return []
    return [
        Question(texts, answers) for texts, answers in zip(classifier.texts, classifier.labels.unbind(1), strict=True)
    ]


def _embedded(work: Work) -> dict[str, Tensor]:
    """All texts that heads are compared with, by what they are for."""
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in work.arrays("pool").items()}


def _alignment(work: Work, slug: str) -> Alignment:
    from pipeline.decompose.alignment import Alignment

    return Alignment.of(work.arrays("align", slug))


def spans(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """Texts and axes of every head, and the directions along which the next pass orders images."""
    from pipeline.decompose.moments import ContributionMoments
    from pipeline.decompose.spans import spans_of

    moments = ContributionMoments.of(work.arrays("decompose", unit.slug))
    pool_texts, settings = _embedded(work)["pool"], work.inputs.settings.spans
    return spans_of(moments, _alignment(work, unit.slug), pool_texts, work.step, settings).arrays()


def project(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """The second pass over a slice of the images: what the contributions are along each head's directions."""
    import torch

    from pipeline.decompose.contributions import levels_of
    from pipeline.decompose.second_pass import SecondPassRunner

    inputs, model = work.inputs, work.model(unit.slug)
    before = work.arrays("decompose", unit.slug, ["mean", "through"])
    directions = work.arrays("spans", unit.slug, ["directions"])["directions"]
    passing = SecondPassRunner.of(
        model,
        torch.from_numpy(before["mean"].copy()),
        _alignment(work, unit.slug),
        levels_of(before["through"]),
        torch.from_numpy(directions.copy()),
        inputs.head_texts.features,
        _embedded(work),
        inputs.images.images,
        inputs.membership,
        inputs.settings.project,
    )
    contributing = work.shared(unit.slug, contributing_of)
    for indices, contributions in _contributions(work, contributing, _indices(work, unit, PROJECT)):
        passing.update(contributions, indices)
    return passing.sums.arrays()


def maps(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """Where in the example images of a slice heads find what they contribute."""
    import torch

    from pipeline.decompose.head_maps import HeadMaps, maps_of_images
    from pipeline.decompose.rows import asked_maps
    from pipeline.decompose.second_pass import SecondPass
    from pipeline.images.probe_set import batches

    inputs, model = work.inputs, work.model(unit.slug)
    top = SecondPass.of(work.arrays("project", unit.slug)).top
    directions = torch.from_numpy(work.arrays("spans", unit.slug, ["directions"])["directions"].copy())
    within = set(_indices(work, unit, MAPS))
    asked = [one for one in asked_maps(top, directions, len(inputs.images)) if one.image in within]
    images = sorted({one.image for one in asked})
    contributing, sums = work.shared(unit.slug, contributing_of), HeadMaps()
    for numbers, pixels in batches(inputs.images, images, model.description, work.batch):
        own = [one for one in asked if one.image in set(numbers)]
        x = model.normalise(pixels.to(model.device))
        sums.add(_each_step(work, maps_of_images(contributing, x, numbers, own, directions)))
    return sums.arrays()


def _each_step(work: Work, found: Iterable[Any]) -> Iterator[Any]:
    for one in found:
        work.step()
        yield one


def reads(work: Work, unit: WorkUnit) -> dict[str, np.ndarray]:
    """The heads that read each neuron most, along the first axis of each head."""
    import torch

    from pipeline.decompose.reads import reads as run
    from pipeline.images.probe_set import batches

    inputs, model = work.inputs, work.model(unit.slug)
    settings, axes = inputs.settings.reads, work.arrays("spans", unit.slug, ["directions"])["directions"][:, 0]
    images = list(inputs.panel[: settings.images])
    source = batches(inputs.images, images, model.description, work.batch)
    pixels = (model.normalise(x.to(model.device)) for _, x in source)
    contributing = work.shared(unit.slug, contributing_of)
    without = settings.images_without_path
    sums = run(contributing, pixels, torch.from_numpy(axes.copy()), without_path=without, on_step=work.step)
    return sums.readers(model, settings.readers).arrays()


def heads(work: Work, unit: WorkUnit) -> dict[str, list[dict[str, Any]]]:
    """The rows of a model's five tables of heads."""
    from pipeline.decompose.head_maps import HeadMaps
    from pipeline.decompose.moments import ContributionMoments
    from pipeline.decompose.reads import Readers
    from pipeline.decompose.rows import HeadEvidence, head_rows
    from pipeline.decompose.second_pass import SecondPass
    from pipeline.decompose.spans import Spans

    inputs, slug = work.inputs, unit.slug
    evidence = HeadEvidence(
        model=work.model(slug),
        probe_set=inputs.images,
        membership=inputs.membership,
        pool=inputs.head_texts.pool,
        features=inputs.head_texts.features,
        embedded=_embedded(work),
        embedder=inputs.embedder.slug,
        moments=ContributionMoments.of(work.arrays("decompose", slug)),
        spans=Spans.of(work.arrays("spans", slug)),
        second_pass=SecondPass.of(work.arrays("project", slug)),
        alignment=_alignment(work, slug),
        maps=HeadMaps.of(work.arrays("maps", slug)),
        readers=Readers.of(work.arrays("reads", slug)),
        settings=inputs.settings.heads,
    )
    return head_rows(evidence)


def not_a_sum(model: LoadedModel) -> str:
    """Why the representation of a model is no sum of components, tried on one picture; "" where it is."""
    from atlas_schema.errors import UnknownFamily
    from pipeline.decompose import Contributing, random_pictures

    try:
        Contributing(model)(model.normalise(random_pictures(model, 1)))
    except UnknownFamily as error:
        return str(error)
    return ""


def too_few_images(inputs: Inputs) -> str:
    """What is wrong where an alignment cannot be fitted on some images of the panel and checked on others."""
    fit = sum(inputs.images.split(index) == "fit" for index in inputs.panel)
    test = len(inputs.panel) - fit
    if fit < 2 or test < 1:
        return (
            f"{inputs.images.spec}: {fit} images to fit an alignment on and {test} to check it; expected at least 2 "
            "and 1. Give more images."
        )
    return ""


def moments_bytes(sizes: Sizes) -> float:
    """Bytes of the rows that stand for the covariance of every head, and of means, whatever the number of images."""
    width, description = sizes.description.representation_dim, sizes.description
    rows = sum(site.heads * site.head_dim for site in description.attention_sites)
    return FLOAT * width * (rows + 2 * (description.heads + len(description.ffn_sites)))


def measured_on_panel(description: ModelDescription) -> bool:
    """Whether heads of a model are measured on the panel alone: where an image costs many forwards."""
    return description.family in OPEN_FAMILIES


def _indices(work: Work, unit: WorkUnit, stage: Stage) -> Sequence[int]:
    """The images of a unit, as the probe set numbers them."""
    if stage.passes_over(work.sizes.description) == "panel":
        return work.inputs.panel[unit.start : unit.stop]
    return range(unit.start, unit.stop)


def forwards(sizes: Sizes) -> float:
    """Plain forwards that the contributions of an image cost."""
    return FORWARDS_OF.get(sizes.description.family, FORWARDS)


def coordinates(sizes: Sizes) -> float:
    """Numbers of an image's contributions, those of heads in the coordinates of what they write to."""
    description = sizes.description
    own = sum(site.heads * site.head_dim for site in description.attention_sites)
    return own + (len(description.ffn_sites) + 2) * description.representation_dim


def contributions_cost(sizes: Sizes) -> Cost:
    """Contributions cost some forwards of each image; the sums of a slice are as large as those of all images."""
    return Cost(each=forwards(sizes) * sizes.forward + sizes.opened, kept=moments_bytes(sizes))


def project_cost(sizes: Sizes) -> Cost:
    """The same contributions once more; what is kept of them is small."""
    return replace(contributions_cost(sizes), kept=0.1e6)


def align_cost(sizes: Sizes) -> Cost:
    """Contributions of the panel, along paths alone, and some hundred steps on some of them."""
    from pipeline.decompose.align import AlignSettings

    settings = AlignSettings()
    steps = STEPS_MADE * 6 * settings.steps * settings.batch * coordinates(sizes) * 512
    passed = sizes.panel * (FORWARDS * sizes.forward + sizes.opened)
    return Cost(each=passed + steps, kept=4 * coordinates(sizes) * 512)


def maps_cost(sizes: Sizes) -> Cost:
    """A recorded forward, and products through attention, of each image that is an example; without paths a product
    through the network for each example.
    """
    count = sizes.description.heads
    examples = 20.0 * count  # of five directions, four images each
    without = measured_on_panel(sizes.description)
    images = max(sizes.panel if without else sizes.images, 1)
    share = min(1.0, examples / images)
    # CoaT-Small: 0.1 forwards an example; of a small model most is spent between the products
    through = (0.1 * sizes.forward + 0.0055 * SECOND) * examples / images if without else 0.0
    return Cost(each=share * (4.0 * sizes.forward + sizes.opened + through), kept_each=300 * examples / images)


def reads_cost(sizes: Sizes) -> Cost:
    """Products for each head and image: through the values alone, or through the network first."""
    from pipeline.decompose.rows import ReadSettings

    settings, without = ReadSettings(), sizes.description.family in OPEN_FAMILIES
    each = 0.6 if without else 0.04
    images = min(settings.images_without_path if without else settings.images, sizes.panel)
    calls = 0.03 * SECOND * sizes.description.heads  # of a small model most of it
    followed = images * sizes.description.heads * each * sizes.forward
    return Cost(each=followed + calls, kept=24 * sizes.description.neurons)


def heads_cost(sizes: Sizes) -> Cost:
    """Rows are written, and nothing computed."""
    return Cost(each=(0.05 + 0.002 * sizes.description.heads) * SECOND, bytes=sizes.description.heads * 9e3)


# Memory, in multiples that are measured: see tests/jobs/test_memory.py.

# All but the last are times the hidden vectors of one image in all layers.
CONTRIBUTION = 2.0  # what an image's contributions take along paths
WINDOWED = 5.5  # the same through shifted windows and merges (Swin-B: 2.4 GB more than weights and moments at 8 images)
PUSHED = 11.0  # the same with the graphs that each component is pushed through (ConViT-B: through all later attention)
FINDING = 4 * 2.8  # what the pictures take by which paths are found
MAPPED = 6.5  # an image with its live attention
FOLLOWED = 12.0  # the same, with neurons followed into it
MOMENTS_HELD = 3.0  # times the moments, as they are summed up, merged and made into a part
WIDEST_SPACE = 1024  # of an embedder


def contributions_memory(sizes: Sizes, batch: int) -> float:
    """Weights, the graph of some images, and moments in some copies."""
    family = sizes.description.family
    each = PUSHED if family in OPEN_FAMILIES else WINDOWED if family == "swin" else CONTRIBUTION
    graph = max(FINDING, batch * each) * sizes.hidden_up_to_site
    return sizes.weights + graph + MOMENTS_HELD * moments_bytes(sizes)


def moments_memory(sizes: Sizes, batch: int) -> float:
    """The moments as a stage reads them, and the texts."""
    texts = sizes.pool * sizes.description.representation_dim * FLOAT
    return sizes.weights + MOMENTS_HELD * moments_bytes(sizes) + 2 * texts


def align_memory(sizes: Sizes, batch: int) -> float:
    """Contributions as above; those of the panel as far as a fit holds them, twice; maps, gradients and their means."""
    from pipeline.decompose.align import AlignSettings

    panel = min(AlignSettings().buffer_bytes, FLOAT * sizes.panel * coordinates(sizes))
    maps = FLOAT * coordinates(sizes) * min(WIDEST_SPACE, sizes.description.representation_dim)
    return contributions_memory(sizes, batch) + 2 * panel + 5 * maps


def maps_memory(sizes: Sizes, batch: int) -> float:
    """Weights, and the graph of attention of some images; without paths also that to the representation."""
    each = PUSHED if sizes.description.family in OPEN_FAMILIES else MAPPED
    return sizes.weights + max(FINDING, batch * each) * sizes.hidden_up_to_site


def reads_memory(sizes: Sizes, batch: int) -> float:
    """Graphs of some images, and two numbers for every head and neuron."""
    sums = 16.0 * sizes.description.heads * sizes.description.neurons
    return sizes.weights + max(FINDING, batch * FOLLOWED) * sizes.hidden_up_to_site + sums


POOL = Stage(
    name="pool",
    does="Embeds the texts and features that heads are described with",
    group="decompose",
    cut="model",
    owner="embedder",
    facts=("texts of heads",),
    compute=pool,
    memory=lambda sizes, batch: texts_memory(sizes, sizes.pool),
    cost=lambda sizes: Cost(each=sizes.pool * sizes.forward, kept=4 * sizes.pool * 512),
)
DECOMPOSE = Stage(
    name="decompose",
    does="Splits the final representation of every probe image into what each head and FFN adds to it",
    group="decompose",
    cut="images",
    facts=("images",),
    samples=measured_on_panel,
    merge="pipeline.decompose.moments:ContributionMoments",
    version=2,
    compute=decompose,
    memory=contributions_memory,
    cost=contributions_cost,
    unfit=not_a_sum,
)
ALIGN = Stage(
    name="align",
    does="Fits maps from a model's representation to the space in which images and texts are compared",
    group="decompose",
    cut="model",
    reads=("decompose", "embed", "pool"),
    facts=("images", "panel", "classes", "attributes", "features", "align settings"),
    version=2,
    compute=align,
    memory=align_memory,
    cost=align_cost,
    objects=too_few_images,
)
SPANS = Stage(
    name="spans",
    does="Finds the texts that explain most of what each head adds (TextSpan), and its principal axes",
    group="decompose",
    cut="model",
    reads=("decompose", "align", "pool"),
    facts=("span settings",),
    compute=spans,
    memory=moments_memory,
    cost=lambda sizes: Cost(each=sizes.description.heads * 2e8, kept=0.1e6),
)
PROJECT = Stage(
    name="project",
    does="Measures every head's contribution along its directions and features, and what is lost without it",
    group="decompose",
    cut="images",
    reads=("decompose", "align", "spans", "pool"),
    facts=("images", "classes", "attributes", "features", "project settings"),
    names_classes=True,
    samples=measured_on_panel,
    merge="pipeline.decompose.second_pass:SecondPass",
    compute=project,
    memory=contributions_memory,
    cost=project_cost,
)
MAPS = Stage(
    name="maps",
    does="Finds where in its example images each head finds what it adds",
    group="decompose",
    cut="images",
    reads=("spans", "project"),
    facts=("images",),
    samples=measured_on_panel,
    merge="pipeline.decompose.head_maps:HeadMaps",
    compute=maps,
    memory=maps_memory,
    cost=maps_cost,
)
READS = Stage(
    name="reads",
    does="Follows every neuron into the values of later heads, to name those that read it most",
    group="decompose",
    cut="model",
    reads=("spans",),
    facts=("images", "panel", "read settings"),
    compute=reads,
    memory=reads_memory,
    cost=reads_cost,
)
HEADS = Stage(
    name="heads",
    does="Writes the tables of heads: numbers, texts, features, example images, and the neurons that heads read",
    group="decompose",
    cut="model",
    reads=("decompose", "align", "spans", "project", "maps", "reads", "pool"),
    facts=("images", "classes", "features", "head settings"),
    version=2,
    compute=heads,
    memory=moments_memory,
    cost=heads_cost,
)
