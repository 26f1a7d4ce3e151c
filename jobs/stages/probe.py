"""The stages on real images: probe, evidence, examples, and judge, which compares pictures with real images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.stages.stage import Cost, Sizes, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from atlas_schema.units import WorkUnit
    from jobs.work import Work
    from pipeline.probe.model import SiteProbe

SUMS_WRITTEN = 3.5  # times the sums of a pass, what they take as they are made into a part
SUMS_MERGED = 3.0  # ... and as those of slices are merged, a layer at a time
SUMS_READ = 5.0  # ... and a layer's as another stage reads them
LAYER_ROWS = 3e3  # bytes of the rows of a neuron while they are made
SUMMED = 6.4e4  # FLOPs that stand for what a neuron's sums cost an image (1.6 microseconds of one core)
SECOND = 4.0e10  # FLOPs that stand for a second of one core where no arithmetic of a model is done


def probe(work: Work, unit: WorkUnit) -> Iterator[tuple[str, np.ndarray]]:
    """Sums over a slice of the probe images, for all layers of a model; their arrays are made as they are written."""
    from pipeline.images.probe_set import batches
    from pipeline.probe.model import ModelProbe
    from pipeline.probe.model import probe as run

    model, inputs = work.model(unit.slug), work.inputs
    indices = range(unit.start, unit.stop)
    sums = ModelProbe.empty(model.description, inputs.settings.probe, inputs.membership, indices, work.torch_device)
    source = batches(inputs.images, indices, model.description, work.batch)
    return run(model, source, sums, lambda images: work.step()).named()


def evidence(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """Statistics of each neuron's activation over the probe images."""
    from pipeline.probe.evidence import evidence_rows

    inputs = work.inputs
    units, settings = range(unit.start, unit.stop), inputs.settings.evidence
    return evidence_rows(sums_of_layer(work, unit), units, inputs.images.identity, inputs.membership, settings)


def examples(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """The images that excite each neuron most, and some from the rest of its range."""
    from pipeline.probe.evidence import quantile_rows, top_rows

    model, sums, units = work.model(unit.slug), sums_of_layer(work, unit), range(unit.start, unit.stop)
    site, images = model.description.ffn_sites[work.layer(unit)], work.inputs.images
    settings = work.inputs.settings.examples
    rows = list(top_rows(sums, site, units, images))
    work.step()
    return rows + list(quantile_rows(model, sums, site, units, images, work.batch, settings, work.step))


def judge(work: Work, unit: WorkUnit) -> list[dict[str, Any]]:
    """How far each picture gets beyond real images; what the pictures reach is read from their parts."""
    from pipeline.probe.evidence import Picture, judge_rows

    columns = ["unit", "activation", "activation_peak"]
    rows = work.rows("visualize", unit, columns)
    pictures = {
        row["unit"]: None if row["activation"] is None else Picture(row["activation"], row["activation_peak"])
        for row in rows
    }
    return judge_rows(sums_of_layer(work, unit), pictures)


def sums_of_layer(work: Work, unit: WorkUnit) -> SiteProbe:
    """The sums of the whole pass over the probe images, of the unit's layer."""
    from pipeline.probe.model import site_arrays, site_of

    layer = work.layer(unit)
    return site_of(work.arrays("probe", unit.slug, site_arrays(layer)), layer)


def pass_cost(sizes: Sizes) -> Cost:
    """A forward of each image, and what it adds to the sums of each neuron; these are as large for any number."""
    each = sizes.forward + sizes.opened + SUMMED * sizes.description.neurons
    return Cost(each=each, kept=sizes.description.neurons * (2200 + 5 * sizes.panel))


def examples_cost(sizes: Sizes) -> Cost:
    """One forward of the gallery to the layer a unit; each example has its map of a byte a token."""
    from pipeline.probe.evidence import ExampleSettings

    settings = ExampleSettings()
    count = sizes.examples + len(settings.lower_quantiles)
    bytes_each = count * (0.8 * sizes.tokens + 150)
    return Cost(each=2e-3 * SECOND, fixed=settings.gallery * sizes.to_site, bytes=bytes_each)


def sums_bytes(sizes: Sizes, panel: int) -> float:
    """Bytes of the sums of a pass: sketches of every neuron, maps of its strongest images, its numbers on the panel."""
    from pipeline.probe.sketch import BINS

    total = 0.0
    for site in sizes.description.ffn_sites:
        map_bytes = max(height * width for height, width in site.grids)
        total += site.width * (2 * 4 * BINS + sizes.examples * (map_bytes + 25) + 5 * panel)
    return total


def pass_memory(sizes: Sizes, batch: int) -> float:
    """A forward, and the sums; or what is written of merged slices."""
    passing = sums_bytes(sizes, sizes.panel) * SUMS_WRITTEN + sizes.forward_bytes(batch)
    merging = sums_bytes(sizes, sizes.panel) * SUMS_MERGED
    return sizes.weights + max(passing, merging)


def layer_memory(sizes: Sizes, batch: int) -> float:
    """The sums of a layer as they are read and unpacked."""
    assert sizes.site is not None
    own = replace(sizes, description=replace(sizes.description, ffn_sites=(sizes.site,)))
    return SUMS_READ * sums_bytes(own, sizes.panel) + LAYER_ROWS * sizes.site.width


def examples_memory(sizes: Sizes, batch: int) -> float:
    """What is read of a layer, and forwards up to it."""
    return sizes.weights + layer_memory(sizes, batch) + sizes.forward_bytes(batch)


PROBE = Stage(
    name="probe",
    does="Runs a model over the probe images once, and sums up what every neuron does",
    group="",
    cut="images",
    facts=("images", "classes", "probe settings"),
    merge="pipeline.probe.model:ModelProbe",
    compute=probe,
    cost=pass_cost,
    memory=pass_memory,
)
EVIDENCE = Stage(
    name="evidence",
    does="Describes how each neuron's activation is distributed over the probe images",
    group="probe",
    cut="neurons",
    reads=("probe",),
    facts=("evidence settings",),
    compute=evidence,
    memory=layer_memory,
    cost=lambda sizes: Cost(each=2e-4 * SECOND, fixed=0.018 * SECOND, bytes=340),
)
EXAMPLES = Stage(
    name="examples",
    does="Lists the probe images that excite each neuron most, and some that excite it less",
    group="probe",
    cut="neurons",
    reads=("probe",),
    facts=("example settings",),
    compute=examples,
    memory=examples_memory,
    cost=examples_cost,
)
JUDGE = Stage(
    name="judge",
    does="Compares what each picture reaches with what real images reach",
    group="probe",
    cut="neurons",
    reads=("probe",),
    reads_if_there=("visualize",),
    compute=judge,
    memory=layer_memory,
    cost=lambda sizes: Cost(each=5e-5 * SECOND, fixed=0.018 * SECOND, bytes=30),
)
