"""What a neuron says of pictures: the objective that an ascent climbs, and the activations that judge a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.hooks.activations import ffn_activations, ffn_pre_and_post
from pipeline.hooks.tf32 import judging
from pipeline.models import FfnSite, LoadedModel
from pipeline.models.device import dtype_of
from pipeline.visualize.recipes import Ascent, Phase
from pipeline.visualize.transforms import augment, draw, roll_each

FRESH = Ascent(parameterization="pixels", phases=(), learning_rate=0.0)  # what the judge draws transforms for


def objective(
    model: LoadedModel,
    site: FfnSite,
    x: Tensor,
    units: Tensor,
    ascent: Ascent,
    dtype: torch.dtype,
    together: int = 1,
) -> tuple[Tensor, Tensor]:
    """What is climbed, and the true activation (mean over patches), of each unit on its own picture: (n,), (n,).

    x: (n, 3, height, width), normalised. A module that several scales share counts each scale alike. together: so many
    pictures in a row are kept apart from one another, at the price `ascent.diversity`.
    """
    if together > 1:
        calls, hidden = _with_hidden(model, site, x, units, ascent, dtype)
    elif ascent.objective == "softplus" and site.pre:
        calls, hidden = [(z.to(dtype), after.to(dtype)) for z, after in ffn_pre_and_post(model, site, x, units)], None
    else:
        calls = [(after.to(dtype), after.to(dtype)) for after in ffn_activations(model, site, x, units)]
        hidden = None
    soft = ascent.objective == "softplus" and bool(site.pre)
    value = over_patches([(F.softplus(z) if soft else z, z) for z, _ in calls], ascent)
    true = mean_of([after for _, after in calls])
    if hidden is not None:  # in units of what is climbed: a price that means the same for every neuron
        value = value - ascent.diversity * value.detach().abs() * alike(hidden, together).sum(1) / (together - 1)
    return value, true


def _with_hidden(
    model: LoadedModel, site: FfnSite, x: Tensor, units: Tensor, ascent: Ascent, dtype: torch.dtype
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Before and after the activation function, of each picture's own unit, by call; and the whole hidden vectors
    (n, tokens, width) of the first call."""
    place = units[:, None, None].to(x.device)

    def own(hidden: Tensor) -> Tensor:
        return hidden.gather(2, place.expand(-1, hidden.shape[1], 1)).squeeze(2).to(dtype)

    if ascent.objective == "softplus" and site.pre:
        both = ffn_pre_and_post(model, site, x)
        return [(own(z), own(after)) for z, after in both], both[0][1].to(dtype)
    whole = ffn_activations(model, site, x)
    return [(own(after), own(after)) for after in whole], whole[0].to(dtype)


def alike(hidden: Tensor, together: int) -> Tensor:
    """How alike each picture is to each other one of its group: (n, together), 0 to itself.

    hidden: (n, tokens, width), groups of `together` in a row. The cosine of the Gram matrices of the hidden vectors
    over tokens (the style of Gatys et al., by which Olah et al. 2017 keep variants apart), less their mean over the
    group, which all have and which would make all alike. The scalar product of two Gram matrices H'H and K'K is the
    squared norm of HK', so that no matrix of width x width is made.
    """
    groups = hidden.unflatten(0, (-1, together))  # (group, together, tokens, width)
    groups = groups - groups.detach().mean((1, 2), keepdim=True)
    products = torch.einsum("gitc,gjuc->gijtu", groups, groups).square().sum((3, 4))  # (group, together, together)
    length = products.diagonal(dim1=1, dim2=2).clamp(min=1e-12).sqrt()
    cosine = products / (length[:, :, None] * length[:, None, :])
    return (cosine * (1 - torch.eye(together, dtype=cosine.dtype, device=cosine.device))).flatten(0, 1)


def likeness(x: Tensor, model: LoadedModel, site: FfnSite, together: int) -> Tensor:
    """Of each picture, the likeness to the most similar other one of its group (as in `alike`): (n,) in [0, 1]."""
    return alike(ffn_activations(model, site, x)[0].float(), together).amax(1).cpu()


def distance(picture: Tensor, start: Tensor) -> Tensor:
    """Mean squared difference, (n,), in units of a difference of a tenth of the range: 1 where all values differ so."""
    return (picture - start).square().mean((1, 2, 3)) / 0.01


def over_patches(calls: Sequence[tuple[Tensor, Tensor]], ascent: Ascent) -> Tensor:
    """What is climbed, (n,), from (value, value before the activation function) of each call, (n, patches) each: of a
    call its mean or its own strongest patches, then the mean over calls."""
    return torch.stack([_over_patches(value, before, ascent) for value, before in calls]).mean(0)


def _over_patches(value: Tensor, before: Tensor, ascent: Ascent) -> Tensor:
    """(n, patches) of a call to (n,): the mean over patches, or what weighs strong ones more (`peak_share`, `focus`),
    or a mix of both."""
    if ascent.peak_share:
        strong = value.topk(max(1, round(ascent.peak_share * value.shape[1])), dim=1).values.mean(1)
    elif ascent.focus:
        strong = (torch.logsumexp(ascent.focus * before, 1) - math.log(before.shape[1])) / ascent.focus
    else:
        return value.mean(1)
    return strong if not ascent.everywhere else (1 - ascent.everywhere) * strong + ascent.everywhere * value.mean(1)


def fresh_responses(
    model: LoadedModel,
    site: FfnSite,
    units: Sequence[int],
    pictures: Tensor,
    keys: Sequence[tuple[object, ...]],
    draws: int,
) -> tuple[Tensor, Tensor]:
    """Mean over patches and strongest patch under fresh transforms of full strength: (n, draws) each.

    The transforms are those of `reference` without its offset: (x - m) / s per channel and a circular shift
    of up to 32 px. They depend on `keys` alone, not on the recipe, so that recipes can be compared pairwise.
    """
    transforms = draw(
        keys, replace(FRESH, phases=(Phase(steps=draws, copies=1),)), model.description.input_size, pictures
    )
    means, peaks = [], []
    own = torch.tensor(units)
    for numbers in transforms:
        shifted = augment(roll_each(pictures, numbers.roll), numbers.mean, numbers.std, numbers.offset)
        mean, peak = respond(model, site, own, shifted)
        means.append(mean)
        peaks.append(peak)
    return torch.stack(means, 1), torch.stack(peaks, 1)


@torch.no_grad()
def respond(
    model: LoadedModel, site: FfnSite, units: Sequence[int] | Tensor, pictures: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean over patches, and strongest patch, of each unit on its own picture: (n,), (n,), in main memory.

    pictures: (n, 3, height, width), in [0, 1]. Of float32 weights on a GPU by its TF32 units where
    these agree (pipeline/hooks/tf32.py).
    """
    units = torch.as_tensor(units)
    means, peaks = [], []
    with judging(model):
        for chunk, own in _chunks(pictures, units, 32):
            x = model.normalise(chunk).to(dtype_of(model))
            calls = ffn_activations(model, site, x, own.to(chunk.device))
            means.append(mean_of(calls))
            peaks.append(torch.stack([call.amax(1) for call in calls]).amax(0))
    return torch.cat(means).cpu(), torch.cat(peaks).cpu()


def _chunks(pictures: Tensor, units: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    if pictures.is_cuda:
        size *= 16
    yield from zip(pictures.split(size), units.split(size), strict=True)


def mean_of(calls: list[Tensor]) -> Tensor:
    """Mean over patches of each call, then over calls (the scales of a shared module): (batch,)."""
    return torch.stack([call.mean(1) for call in calls]).mean(0)
