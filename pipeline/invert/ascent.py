"""Inversion by gradient ascent on a picture: many targets of one model at a time, each picture climbing for its own.

Sources: *Plug-In Inversion* (Ghiasi, Kazemi et al., 2201.12961) for stages of growing size and colour-shifted copies;
*What do we learn from inverting CLIP models?* (Kazemi et al., 2403.02580, section 3) for texts, by the cosine of two
embeddings. Parameterizations and transforms are those of neurons (pipeline/visualize). Plain functions: no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.hooks.activations import ffn_activations
from pipeline.invert.recipes import InversionRecipe, InversionStage
from pipeline.invert.targets import Outputs, Target
from pipeline.models import LoadedModel
from pipeline.models.device import dtype_of
from pipeline.seeds import generator
from pipeline.visualize.adam import optimizer_of
from pipeline.visualize.initial_images import faded, own_noises
from pipeline.visualize.objective import alike
from pipeline.visualize.parametrize import Space, parameterization
from pipeline.visualize.recipes import Ascent
from pipeline.visualize.threads import each
from pipeline.visualize.transforms import Draws, augment, draw, roll_each, total_variation, turn_each

if TYPE_CHECKING:
    from pipeline.invert.heads import HeadOutputs

    Climbed: TypeAlias = Outputs | HeadOutputs  # answers to a whole picture, or what a head of the model adds

SQUARED_DISTANCE = 1e-12  # of two embeddings, at least: the slope of a root ends nowhere
PICTURES_AT_ONCE = {"cpu": 64, "cuda": 512}  # of all targets of a step, copies among them


def invert(
    model: LoadedModel,
    outputs: Climbed,
    targets: Sequence[Target],
    recipe: InversionRecipe,
    *,
    seed: int = 0,
    batch: int | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """The pictures of each target, float (targets * recipe.variants, 3, height, width) in [0, 1], in the weights'
    precision; those of a target follow one another.

    batch: targets per step (by device where None); it changes speed, and rounding, never the random numbers. on_step is
    called after each step of a batch. A picture whose ascent leaves the finite numbers is all NaN; others go on.
    """
    at_once = PICTURES_AT_ONCE["cuda" if torch.device(model.device).type == "cuda" else "cpu"]
    size = batch or max(1, at_once // recipe.copies)
    parts = [
        _batch(model, outputs, targets[begin : begin + size], recipe, seed, on_step)
        for begin in range(0, len(targets), size)
    ]
    return torch.cat(parts) if parts else torch.empty(0, 3, *model.description.input_size)


def value_of(outputs: Outputs, answers: Tensor, index: Tensor, objective: str, measure: str = "cosine") -> Tensor:
    """What is climbed, (n,): see `InversionRecipe.objective` and `text_measure`. answers: (n, outputs); index: (n,)."""
    own = answers.gather(1, index[:, None]).squeeze(1)
    if outputs.kind == "text":
        return own if measure == "cosine" else -(2 - 2 * own).clamp_min(SQUARED_DISTANCE).sqrt()
    rivals = outputs.rivals(index)
    if objective == "probability":
        return own - answers.masked_fill(~rivals, -math.inf).logsumexp(1)
    if objective == "logit":
        return own - (answers * rivals).sum(1) / rivals.sum(1)
    if objective == "margin":
        others = rivals.scatter(1, index[:, None], False)
        others = torch.where(others.any(1, keepdim=True), others, rivals)  # it competes with none: nothing to climb
        return own - answers.masked_fill(~others, -math.inf).logsumexp(1)
    raise ValueError(f"objective is {objective!r}; expected 'probability', 'logit' or 'margin'")


def _batch(
    model: LoadedModel,
    outputs: Climbed,
    targets: Sequence[Target],
    recipe: InversionRecipe,
    seed: int,
    on_step: Callable[[], None],
) -> Tensor:
    picture: Tensor | None = None
    slug, each = model.description.slug, [(target, variant) for target in targets for variant in range(recipe.variants)]
    for number, stage in enumerate(recipe.stages):
        keys = [
            (recipe.hash, *target.key(slug), f"stage {number}", seed, *([f"variant {variant}"] if variant else []))
            for target, variant in each
        ]
        picture = _climb(model, outputs, [target for target, _ in each], recipe, stage, keys, picture, on_step)
    assert picture is not None, "a recipe has at least one stage"
    finite = torch.isfinite(picture).flatten(1).all(1)
    return picture.masked_fill(~finite[:, None, None, None], math.nan)


def _climb(
    model: LoadedModel,
    outputs: Climbed,
    targets: Sequence[Target],
    recipe: InversionRecipe,
    stage: InversionStage,
    keys: Sequence[tuple[object, ...]],
    before: Tensor | None,
    on_step: Callable[[], None],
) -> Tensor:
    """The pictures of one stage, one for each of `targets` (with variants: as often as there are). before: those of the
    stage before it.
    """
    ascent = stage.ascent
    size = _scaled(model.description.input_size, stage.size_share)
    space = parameterization(ascent.parameterization, size, ascent.spectrum_exponent)
    latent = _start(model, stage, space, keys, before, recipe.scaling).requires_grad_()
    index = torch.tensor([target.index for target in targets], device=latent.device)
    optimizer = optimizer_of(latent, ascent.learning_rate, ascent.betas, ascent.shared_moment, fused=False)
    noises = [generator(*key, "noise") for key in keys]
    placed = _placements(keys, recipe, ascent, latent) if _moves_copies(recipe) else None
    for step, numbers in enumerate(draw(keys, ascent, size, latent)):
        progress = step / max(ascent.steps - 1, 1) if stage.schedule == "cosine" else 0.0
        optimizer.param_groups[0]["lr"] = ascent.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        rolled = roll_each(space.picture(latent), numbers.roll)
        seen = turn_each(rolled, numbers.turn) if ascent.turn or ascent.zoom else rolled
        if recipe.noise:
            drawn = each(lambda random: random.standard_normal((3, *size), dtype=np.float32), noises)
            seen = seen + recipe.noise * torch.from_numpy(np.stack(drawn)).to(seen)
        copies = _copies(seen, numbers, recipe.colour)
        count = len(copies) // len(targets)
        if placed is not None:
            copies = _moved(copies, placed[:, step].flatten(0, 1))
        value = _climbed(model, outputs, copies, index.repeat_interleave(count), recipe)
        if recipe.variants > 1 and ascent.diversity:
            value = value - ascent.diversity * _price_of_likeness(model, copies, value, recipe, count)
        scale = {"text": recipe.cosine_scale, "head": recipe.head_scale}.get(outputs.kind, 1.0)
        loss = -value.sum() / count * scale
        if ascent.total_variation:
            divided_by = numbers.std if recipe.colour == "divide" else numbers.std.reciprocal()
            loss = loss + ascent.total_variation * total_variation(rolled, divided_by).sum()
        (slope,) = torch.autograd.grad(loss, latent)
        latent.grad = _shortened(slope, recipe.gradient_norm).contiguous()
        optimizer.step()
        with torch.no_grad():
            space.project(latent)
        on_step()
    return space.picture(latent).detach()


def _climbed(model: LoadedModel, outputs: Climbed, pictures: Tensor, index: Tensor, recipe: InversionRecipe) -> Tensor:
    """What each picture has reached for its target, (n,)."""
    if not isinstance(outputs, Outputs):
        return outputs.deviations(_taken(model, pictures, recipe.scaling), index).to(pictures.dtype)
    answers = answers_to(model, outputs, pictures, recipe.scaling)
    return value_of(outputs, answers, index, recipe.objective, recipe.text_measure)


def _price_of_likeness(
    model: LoadedModel, copies: Tensor, value: Tensor, recipe: InversionRecipe, count: int
) -> Tensor:
    """What being like the other variants of its target costs each copy, (n,), in units of what it has reached.

    count: copies of a picture; those of one number are compared with one another. Likeness is that of what the middle
    FFN of the model sees, as of variants of neurons (`pipeline.visualize.objective.alike`).
    """
    site = model.description.ffn_sites[len(model.description.ffn_sites) // 2]
    hidden = ffn_activations(model, site, _taken(model, copies, recipe.scaling))[0].to(copies.dtype)
    grouped = hidden.unflatten(0, (-1, recipe.variants, count)).transpose(1, 2).flatten(0, 2)
    likeness = alike(grouped, recipe.variants).sum(1) / (recipe.variants - 1)
    back = likeness.unflatten(0, (-1, count, recipe.variants)).transpose(1, 2).flatten()
    return value.detach().abs() * back


def answers_to(model: LoadedModel, outputs: Outputs, pictures: Tensor, scaling: str = "bilinear") -> Tensor:
    """The model's outputs, (n, outputs), to pictures (n, 3, h, w) of any size, scaled to the model's own."""
    return outputs.readout.outputs(model, _taken(model, pictures, scaling)).to(pictures.dtype)


def _taken(model: LoadedModel, pictures: Tensor, scaling: str) -> Tensor:
    """Pictures (n, 3, h, w) of any size as the model takes them."""
    size = model.description.input_size
    if tuple(pictures.shape[2:]) != tuple(size):
        pictures = F.interpolate(pictures, size=size, mode=scaling, align_corners=False)
    return model.normalise(pictures).to(dtype_of(model))


def _moves_copies(recipe: InversionRecipe) -> bool:
    return bool(recipe.copy_turn or recipe.copy_shift or recipe.copy_zoom != (1.0, 1.0))


def _placements(keys: Sequence[tuple[object, ...]], recipe: InversionRecipe, ascent: Ascent, like: Tensor) -> Tensor:
    """What each copy of each step looks at, (targets, steps, copies, 2, 3): from places of the copy to those of the
    picture, in shares of half the sides from the middle.
    """
    found = []
    for key in keys:
        random = generator(*key, "copies")
        for phase in ascent.phases:
            shape = (phase.steps, phase.copies)
            turn = np.deg2rad(random.uniform(-1, 1, shape) * recipe.copy_turn)
            shift = 2 * recipe.copy_shift * random.uniform(-1, 1, (*shape, 2))  # columns, rows; a side is 2 long
            scale = random.uniform(*recipe.copy_zoom, shape)
            still = random.uniform(0, 1, shape) >= recipe.copy_share
            turn, scale = np.where(still, 0.0, turn), np.where(still, 1.0, scale)
            shift = np.where(still[..., None], 0.0, shift)
            cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
            back = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
            found.append(np.concatenate([back, -(back @ shift[..., None])], -1))
    count = len(ascent.phases)
    together = np.stack([np.concatenate(found[at : at + count]) for at in range(0, len(found), count)])
    return torch.from_numpy(together).to(like)


def _moved(copies: Tensor, to: Tensor) -> Tensor:
    """Copies (n, 3, h, w) turned, shifted and zoomed by (n, 2, 3), as `_placements` has them; the border repeats."""
    height, width = copies.shape[2:]
    ratio = width / height
    share = torch.tensor([[1.0, 1 / ratio, 1.0], [ratio, 1.0, 1.0]], dtype=to.dtype, device=to.device)
    grid = F.affine_grid(to * share, list(copies.shape), align_corners=False)
    return F.grid_sample(copies, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _shortened(slope: Tensor, longest: float) -> Tensor:
    """Gradients (n, ...), each at most so long; as they are where that is 0."""
    if not longest:
        return slope
    lengths = slope.flatten(1).norm(dim=1).clamp_min(longest)
    return slope * (longest / lengths).reshape(-1, *[1] * (slope.dim() - 1))


def _copies(seen: Tensor, numbers: Draws, colour: str) -> Tensor:
    if colour == "divide":
        return augment(seen, numbers.mean, numbers.std, numbers.offset)
    if colour == "multiply":  # x s + m
        return augment(seen, torch.zeros_like(numbers.mean), numbers.std.reciprocal(), numbers.mean + numbers.offset)
    raise ValueError(f"colour is {colour!r}; expected 'divide' or 'multiply'")


def _start(
    model: LoadedModel,
    stage: InversionStage,
    space: Space,
    keys: Sequence[tuple[object, ...]],
    before: Tensor | None,
    scaling: str,
) -> Tensor:
    """Noise of each target's own, with the pictures of the stage before in the middle, as latents."""
    dtype = torch.float64 if dtype_of(model) == torch.float64 else torch.float32
    like = torch.empty(0, dtype=dtype, device=model.device)
    noise = faded(own_noises(keys, space, like), stage.ascent.start_strength, space)
    if before is None:
        return noise
    picture = space.picture(noise).clone()
    border = _scaled(model.description.input_size, stage.border_share, least=0)
    inner = (space.height - border[0], space.width - border[1])
    top, left = border[0] // 2, border[1] // 2
    grown = F.interpolate(before, size=inner, mode=scaling, align_corners=False)
    picture[:, :, top : top + inner[0], left : left + inner[1]] = grown.clamp(0, 1)  # bicubic overshoots
    return space.latent(picture)


def _scaled(size: tuple[int, int], share: float, least: int = 1) -> tuple[int, int]:
    return max(least, int(size[0] * share)), max(least, int(size[1] * share))
