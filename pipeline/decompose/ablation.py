"""What becomes of a representation, and of what is read from it, when one component is replaced by its mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.decompose.classifiers import Classifier


class MeanAblation:
    """Sums over images of what changes when one component is replaced by its mean over images and all else is held.

    After Gandelsman et al., section 3.2: contributions are summed anew, no network runs.

    change: (components,), sum of cosine distances; images: number of them. fall, fall_squared: (components,), sums over
    answered images of the fall of the share of right answers; right: sum of these shares, nothing ablated; judged:
    images of which some answer is known. group_fall, margin_fall: (components, groups), sums of the fall of right
    answers, and of margins (`Classifier.margins`), in each group; margin, margin_squared, answered: (groups,), sums of
    margins, nothing ablated, and number of images. All float64.
    """

    OF_IMAGES = ("change", "images", "fall", "fall_squared", "right", "judged")
    OF_GROUPS = ("group_fall", "margin_fall", "margin", "margin_squared", "answered")
    FIELDS = OF_IMAGES + OF_GROUPS

    def __init__(self, components: int, groups: int) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64)

        self.change, self.images = zeros(components), zeros()
        self.fall, self.fall_squared = zeros(components), zeros(components)
        self.right, self.judged = zeros(), zeros()
        self.group_fall, self.margin_fall = zeros(components, groups), zeros(components, groups)
        self.margin, self.margin_squared, self.answered = zeros(groups), zeros(groups), zeros(groups)

    def update(self, whole: Tensor, apart: Tensor) -> None:
        """Take in what becomes of the representation.

        whole: (n, d); apart: (n, components, d), deviations of contributions from their means.
        """
        held = functional.cosine_similarity(whole[:, None] - apart, whole[:, None], dim=-1)
        self.change += (1 - held).clamp_min(0).sum(0).double().cpu()
        self.images += len(whole)

    def answer(self, classifier: Classifier, whole: Tensor, apart: Tensor, images: Tensor) -> None:
        """Take in what becomes of answers. whole and apart: in the space that the classifier takes."""
        before = classifier.margins(whole, images).double()  # (n, groups), NaN where unknown
        ablated = [classifier.margins(whole - deviation, images).double() for deviation in apart.unbind(1)]
        after = torch.stack(ablated, dim=1)
        known = ~before.isnan()
        right = (before > 0).double()
        fall = torch.where(known[:, None], right[:, None] - (after > 0).double(), 0.0)  # (n, components, groups)
        count = known.sum(1).clamp_min(1)
        of_image = fall.sum(2) / count[:, None]
        self.fall += of_image.sum(0).cpu()
        self.fall_squared += of_image.square().sum(0).cpu()
        self.right += ((right * known).sum(1) / count).sum().cpu()
        self.judged += known.any(1).sum().cpu()
        self.group_fall += fall.sum(0).cpu()
        self.margin_fall += (before[:, None] - after).nan_to_num().sum(0).cpu()
        self.margin += before.nan_to_num().sum(0).cpu()
        self.margin_squared += before.nan_to_num().square().sum(0).cpu()
        self.answered += known.sum(0).cpu()

    def merge(self, other: MeanAblation) -> None:
        for name in self.FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name).numpy() for name in self.FIELDS}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> MeanAblation:
        sums = cls(0, 0)
        for name in cls.FIELDS:
            setattr(sums, name, torch.from_numpy(np.array(arrays[name])))
        return sums

    # --------------------------------------------------------------------------------------------------- results

    def effect(self) -> tuple[Tensor, Tensor]:
        """The fall of accuracy by component, and its standard error, (components,) each; NaN where no image was
        answered.
        """
        mean = self.fall / self.judged
        variance = (self.fall_squared / self.judged - mean.square()).clamp_min(0)
        return mean, (variance / (self.judged - 1).clamp_min(1)).sqrt()

    def accuracy(self) -> float:
        """Share of right answers, nothing ablated; NaN where none is known."""
        return float(self.right / self.judged)

    def group_effect(self) -> Tensor:
        """The fall of accuracy by component and question, (components, groups); NaN where no answer is known."""
        return self.group_fall / self.answered

    def margin_effect(self) -> Tensor:
        """The fall of the right answer's margin by component and question, (components, groups), in standard deviations
        of it over images.
        """
        mean = self.margin / self.answered
        deviation = (self.margin_squared / self.answered - mean.square()).clamp_min(0).sqrt()
        return self.margin_fall / self.answered / deviation
