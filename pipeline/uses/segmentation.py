"""Objects found in an image by what its places pass to the representation along a class, without training for it.

After Gandelsman et al. (2310.05916, section 5.2): the heat of a class is the map along its direction less the mean of
the maps along all classes; what is above the mean of the heat's positive part is the object. A map is linear in the
direction, so that one vector-Jacobian product gives the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.decompose import class_outputs
from pipeline.models import LoadedModel


def contrasts(vectors: Tensor, targets: Tensor) -> Tensor:
    """The direction of each image's class, (images, d): its vector less the mean over classes.

    vectors: (classes, d), such as embeddings of texts. targets: (images,) int64.
    """
    return (vectors - vectors.mean(0))[targets]


def class_directions(model: LoadedModel, representation: Tensor, targets: Tensor, among: Sequence[int]) -> Tensor:
    """The direction, (images, d), along which each image's output for its class rises against the mean of those it
    competes with.

    representation: (images, d). targets: (images,) int64, places in `among`, the outputs that compete. Of a linear
    classifier the difference of its weights; elsewhere the derivative at the image's own representation.
    """
    with torch.inference_mode(False), torch.enable_grad():
        z = representation.detach().clone().requires_grad_()
        outputs = class_outputs(model, z)[:, torch.as_tensor(among, device=z.device)]
        own = outputs.gather(1, targets.to(z.device)[:, None])[:, 0]
        (directions,) = torch.autograd.grad((own - outputs.mean(1)).sum(), z)
        return directions


def segmented(heat: Tensor) -> Tensor:
    """The object in each heat, bool (images, height, width): where the positive part of a heat is above its mean over
    the image.
    """
    positive = heat.clamp_min(0)
    return positive > positive.mean((1, 2), keepdim=True)


@dataclass(frozen=True)
class Agreement:
    """How well heats agree with masks of objects, over images.

    pixel_accuracy: share of pixels on the right side. miou: mean of the intersection over union of the object and of
    the rest, each over all pixels of all images. average_precision: of the ranking of pixels by heat, mean over images.
    mass, mass_near: share of the positive heat on the object, and within a margin of it; area, area_near: share of the
    image that these are; means over images with any positive heat.
    """

    images: int
    pixel_accuracy: float
    miou: float
    average_precision: float
    mass: float
    mass_near: float
    area: float
    area_near: float


def agreement(heat: Tensor, masks: Tensor, margin: int) -> Agreement:
    """How well heats agree with masks. heat: (images, height, width); masks: bool of this shape; margin: pixels, the
    size of a patch.
    """
    masks = masks.to(heat.device)
    segments = segmented(heat)
    near = functional.max_pool2d(masks[:, None].to(heat), 2 * margin + 1, stride=1, padding=margin)[:, 0].bool()
    positive = heat.clamp_min(0)
    total = positive.sum((1, 2))
    some = total > 0
    mass, mass_near = (((positive * of).sum((1, 2)) / total)[some].mean() for of in (masks, near))
    precision = torch.stack(
        [average_precision(pixels, mask) for pixels, mask in zip(heat.flatten(1), masks.flatten(1), strict=True)]
    )
    return Agreement(
        images=len(heat),
        pixel_accuracy=float((segments == masks).double().mean()),
        miou=(_iou(segments, masks) + _iou(~segments, ~masks)) / 2,
        average_precision=float(precision.mean()),
        mass=float(mass),
        mass_near=float(mass_near),
        area=float(masks.double().mean()),
        area_near=float(near.double().mean()),
    )


def _iou(segments: Tensor, masks: Tensor) -> float:
    return float((segments & masks).sum() / (segments | masks).sum().clamp_min(1))


def average_precision(score: Tensor, positive: Tensor) -> Tensor:
    """Mean, over the positives, of the precision among all that score as high; equal scores count together.

    score: (pixels,). positive: bool (pixels,). NaN without positives.
    """
    order = score.argsort(descending=True)
    hits = positive[order].double().cumsum(0)
    ordered = score[order]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[:-1] != ordered[1:]  # the last of each run of equal scores
    precision = hits[last] / (torch.arange(1, len(score) + 1, device=score.device)[last])
    gained = torch.diff(hits[last], prepend=hits.new_zeros(1))
    return (precision * gained).sum() / hits[-1]
