"""A model over a set of images, its components compared with texts: what the uses of a decomposition begin with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import torch
from torch import Tensor

from pipeline.decompose import (
    Alignment,
    Batch,
    Component,
    Contributing,
    FeatureSet,
    Held,
    Lens,
    Level,
    direct_components,
    fit_alignment,
)
from pipeline.images.probe_set import ProbeSet, batches
from pipeline.label.embedder import Embedder
from pipeline.models import LoadedModel
from pipeline.uses.choosing import merits

HELD_BYTES = 1 << 30  # contributions are held where they fit, and computed again for each pass where they do not
BATCH = 16


class Compared:
    """Contributions of a model to its representation of some images, and what they are in a CLIP's space.

    batches: all contributions, image by image in the order of the set. alignment: fitted on the images where none is
    given and the model is not the CLIP itself. Raises what `decompose` and `fit_alignment` raise.
    """

    def __init__(
        self, model: LoadedModel, probe: ProbeSet, clip: Embedder | None = None, alignment: Alignment | None = None
    ) -> None:
        self.model, self.probe, self._clip, self._given = model, probe, clip, alignment
        self._contributing = Contributing(model)
        self.batches = Held(self._read, HELD_BYTES)
        self._batch(range(1))  # what reaches the representation is known from the first image on

    @property
    def components(self) -> tuple[Component, ...]:
        return self._contributing.components

    @property
    def levels(self) -> tuple[Level, ...]:
        return self._contributing.levels

    @property
    def direct(self) -> Tensor:
        """(components,) bool."""
        return direct_components(self.levels)

    @property
    def clip(self) -> Embedder:
        assert self._clip is not None, "a comparison with texts needs a CLIP"
        return self._clip

    @cached_property
    def alignment(self) -> Alignment:
        if self.model.fingerprint == self.clip.vision.fingerprint:
            return Alignment.own(len(self.levels), self.model.description.representation_dim)
        if self._given is not None:
            return self._given
        every = range(len(self.probe))
        pictures = batches(self.probe, every, self.clip.vision.description, 2 * BATCH)
        targets = torch.cat([self.clip.pictures(x).cpu() for _, x in pictures])
        fit = torch.tensor([self.probe.split(index) == "fit" for index in every])
        return fit_alignment(self.batches, targets, fit, self.levels)

    def merits(self, features: FeatureSet) -> Mapping[str, Tensor]:
        """(components,) of each feature: how much each component is worth looking at for it."""
        embedded = {name: self.clip.texts(prompts).cpu() for name, prompts in features.prompts.items()}
        lens = Lens.of(embedded, self.alignment, self.levels)
        return dict(zip(lens.features, merits(self.batches(), lens).unbind(1), strict=True))

    def contributions(self, pixels: Tensor) -> Tensor:
        """(images, components, d), float32, on the CPU. pixels: (images, 3, height, width) in [0, 1]."""
        return self._contributing(self.model.normalise(pixels.to(self.model.device))).vectors.float().cpu()

    def of(self, probe: ProbeSet) -> Iterator[Batch]:
        """Contributions to the representations of other images."""
        for indices, pixels in batches(probe, range(len(probe)), self.model.description, BATCH):
            yield torch.tensor(indices), self.contributions(pixels)

    def _read(self) -> Iterator[Batch]:
        return self.of(self.probe)

    def _batch(self, indices: range) -> None:
        for _, pixels in batches(self.probe, indices, self.model.description, BATCH):
            self.contributions(pixels)
