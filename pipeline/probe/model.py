"""The probe pass: every FFN neuron of a model measured in one forward of each batch of images.

`ModelProbe` holds the accumulators of all FFN sites. It can be updated, merged with that of other images, and
written as named arrays and read back; neither the split of the images nor the order of merges changes what it
says (sums of float64 up to their rounding; everything else exactly).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from pipeline.hooks.activations import stream_ffn_activations
from pipeline.images.probe_set import ProbeSet
from pipeline.images.windows import ViewSettings
from pipeline.models import LoadedModel, ModelDescription
from pipeline.models.sites import FfnSite
from pipeline.probe.classes import ClassSums
from pipeline.probe.measure import Measured, measure
from pipeline.probe.moments import Moments
from pipeline.probe.panel import Panel, panel_of
from pipeline.probe.sketch import Sketch, SketchSettings
from pipeline.probe.top import TopImages

OnBatch = Callable[[int], None]
"""Called after each batch with the images seen so far: a heartbeat."""


@dataclass(frozen=True)
class ProbeSettings:
    """What decides the result of a pass, beside model and images."""

    top: int = 9
    panel: int = 2048
    least_class: int = 5  # images: the mean of fewer says nothing of a class
    sketch: SketchSettings = field(default_factory=SketchSettings)
    views: ViewSettings = field(default_factory=ViewSettings)  # where the peak's token lies is kept as a window

    def hash(self, probe_set: str) -> str:
        """16 hex digits that stand for these settings on that probe set."""
        facts = json.dumps({**asdict(self), "probe_set": probe_set}, sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Membership:
    """Which images belong to the panel and to which class: facts of the whole set, the same in every slice."""

    panel: Tensor  # (images,) bool
    labels: Tensor  # (images,) int64, -1 where the image has no class that counts
    classes: tuple[str, ...]

    @classmethod
    def of(cls, probe_set: ProbeSet, settings: ProbeSettings) -> Membership:
        images = probe_set.images
        panel = torch.zeros(len(images), dtype=torch.bool)
        panel[panel_of([image.sha256 for image in images], settings.panel)] = True
        sizes = Counter(image.label for image in images if image.label)
        classes = tuple(sorted(name for name, size in sizes.items() if size >= settings.least_class))
        index_of = {name: index for index, name in enumerate(classes)}
        labels = torch.tensor([index_of.get(image.label, -1) for image in images], dtype=torch.int64)
        return cls(panel, labels, classes)


class SiteProbe:
    """All accumulators of one FFN site."""

    KINDS: Mapping[str, type[Moments | Sketch | TopImages | Panel | ClassSums]] = {
        "moments": Moments,
        "peaks": Sketch,
        "means": Sketch,
        "top": TopImages,
        "panel": Panel,
        "classes": ClassSums,
    }

    def __init__(
        self, moments: Moments, peaks: Sketch, means: Sketch, top: TopImages, panel: Panel, classes: ClassSums
    ):
        self.moments, self.peaks, self.means = moments, peaks, means
        self.top, self.panel, self.classes = top, panel, classes

    @classmethod
    def empty(
        cls, site: FfnSite, settings: ProbeSettings, membership: Membership, capacity: int, device: torch.device
    ) -> SiteProbe:
        """Accumulators that have seen no image. capacity: images of the panel that can come."""
        width, tokens = site.width, max(height * columns for height, columns in site.grids)
        return cls(
            Moments(width, device),
            Sketch(width, device),
            Sketch(width, device),
            TopImages(width, settings.top, tokens, device),
            Panel(width, membership.panel, capacity, device),
            ClassSums(width, membership.labels, len(membership.classes), device),
        )

    @property
    def device(self) -> torch.device:
        """Where the sums are."""
        return self.moments.powers.device

    def update(self, batch: Measured) -> None:
        self.moments.update(batch)
        self.peaks.update(batch.peak)
        self.means.update(batch.mean)
        self.top.update(batch)
        self.panel.update(batch)
        self.classes.update(batch)

    def merge(self, other: SiteProbe) -> None:
        for kind in self.KINDS:
            getattr(self, kind).merge(getattr(other, kind))

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            f"{kind}/{name}": array.detach().cpu().numpy()
            for kind in self.KINDS
            for name, array in getattr(self, kind).arrays().items()
        }

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> SiteProbe:
        """The accumulators that `arrays` gave. They share the arrays' memory, and a merge leaves that as it is."""
        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in cls.KINDS}
        for name, array in arrays.items():
            kind, _, field = name.partition("/")
            parts[kind][field] = torch.from_numpy(array if array.flags.writeable else array.copy())
        return cls(**{kind: accumulator.of(parts[kind]) for kind, accumulator in cls.KINDS.items()})  # type: ignore[arg-type]


class ModelProbe:
    """The accumulators of every FFN site of a model, by layer, and the images that they saw."""

    def __init__(self, sites: dict[int, SiteProbe], images: int = 0) -> None:
        self.sites, self.images = sites, images

    @classmethod
    def empty(
        cls,
        description: ModelDescription,
        settings: ProbeSettings,
        membership: Membership,
        indices: Sequence[int],
        device: torch.device,
    ) -> ModelProbe:
        """Accumulators that have seen no image, for a pass over the images `indices` of the set."""
        capacity = int(membership.panel[torch.as_tensor(indices, dtype=torch.int64)].sum())
        device = torch.device("cpu") if device.type == "mps" else device  # Metal has no float64
        return cls(
            {
                site.layer: SiteProbe.empty(site, settings, membership, capacity, device)
                for site in description.ffn_sites
            }
        )

    def merge(self, other: ModelProbe) -> None:
        """Take in what other images said; `other` must be of the same model and settings."""
        self.images += other.images
        for layer, site in self.sites.items():
            site.merge(other.sites[layer])

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything, as `layer/accumulator/field`; `of` is the way back."""
        return dict(self.named())

    def named(self) -> Iterator[tuple[str, np.ndarray]]:
        """`arrays` in the order of names, made layer by layer: beside the sums there is what one layer gives."""
        for layer in sorted(self.sites, key=str):
            for name, array in sorted(self.sites[layer].arrays().items()):
                yield f"{layer}/{name}", array
        yield "images", np.array(self.images)

    @staticmethod
    def apart(names: Iterable[str]) -> list[list[str]]:
        """Names of arrays in groups that merge each by itself: those of each layer, and the number of images."""
        return [list(layer) for _, layer in groupby(sorted(names), key=lambda name: name.partition("/")[0])]

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> ModelProbe:
        """The sums that `arrays` gave, or those of some of its groups."""
        layers: dict[int, dict[str, np.ndarray]] = {}
        for name, array in arrays.items():
            if name != "images":
                layer, _, field = name.partition("/")
                layers.setdefault(int(layer), {})[field] = array
        return cls({layer: SiteProbe.of(layers[layer]) for layer in sorted(layers)}, int(arrays.get("images", 0)))


def probe(
    model: LoadedModel,
    batches: Iterable[tuple[Sequence[int], Tensor]],
    into: ModelProbe,
    on_batch: OnBatch | None = None,
) -> ModelProbe:
    """Measure every FFN neuron on all images. batches: (indices in the probe set, pixels (n, 3, h, w) in [0, 1]).

    One forward a batch, in the weights' precision; a site's activations are measured as it fires and let go.
    """
    grids = {site.layer: site.grids for site in model.description.ffn_sites}
    dtype = next(model.module.parameters()).dtype
    for indices, pixels in batches:
        images = torch.as_tensor(indices, dtype=torch.int64)

        def take(layer: int, hidden: list[Tensor], images: Tensor = images) -> None:
            site = into.sites[layer]
            site.update(measure(images, [call.to(site.device) for call in hidden], grids[layer]))

        with torch.inference_mode():
            stream_ffn_activations(model, model.normalise(pixels.to(model.device)).to(dtype), take)
        into.images += len(images)
        if on_batch:
            on_batch(into.images)
    return into


def site_arrays(layer: int) -> list[str]:
    """Names of the arrays of one layer in what `ModelProbe.arrays` gives; `site_of` reads them."""
    fields = {
        "moments": ("powers", "active", "tokens"),
        "peaks": ("counts", "low", "high"),
        "means": ("counts", "low", "high"),
        "top": TopImages.FIELDS,
        "panel": ("images", "peak", "mean", "window"),
        "classes": ("sums", "images"),
    }
    return [f"{layer}/{kind}/{name}" for kind, names in fields.items() for name in names]


def site_of(arrays: Mapping[str, np.ndarray], layer: int) -> SiteProbe:
    """The accumulators of one layer, from the arrays that `site_arrays` names."""
    return SiteProbe.of({name.removeprefix(f"{layer}/"): array for name, array in arrays.items()})
