"""Feature visualization of FFN neurons by gradient ascent on a picture.

Many neurons of one site share a batch, each picture climbing for its own neuron; the forward stops at the
site; no gradient is taken of weights. Sources: Ghiasi, Kazemi et al. (2212.06727) for the objective and the
augmentations of `reference`; Olah et al., *Feature Visualization* (2017), for the Fourier parameterization and variants
kept apart; Fel et al. (2306.06805) for fixed amplitudes; Hamblin et al. (2402.10039) for a start from photographs.
Settings: pipeline/visualize/recipes.py. Plain functions: no files, no Ray.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from atlas_schema.address import NeuronAddress
from atlas_schema.errors import BadAddress
from pipeline.models import FfnSite, LoadedModel
from pipeline.models.device import (
    choose_precision,
    dtype_of,
    in_precision,
    is_out_of_memory,
    quickest_attention,
)
from pipeline.seeds import generator
from pipeline.visualize.adam import optimizer_of
from pipeline.visualize.initial_images import bank, best_of_bank, faded, own_noises
from pipeline.visualize.objective import distance, fresh_responses, likeness, objective, respond
from pipeline.visualize.parametrize import Space, parameterization
from pipeline.visualize.picture import encode_webp, stored_pixels, to_bytes
from pipeline.visualize.recipes import Ascent, Recipe
from pipeline.visualize.result import LEFT, NO_NUMBER, Visualization
from pipeline.visualize.threads import each
from pipeline.visualize.transforms import augment, draw, roll_each, total_variation, turn_each

BETTER = "a generated picture as start, which excited the neuron more"
"""What a row says of a neuron whose first picture reached less than the best one of the bank."""

LEAST_VALUE = 0.1  # of what is climbed, where it weighs the distance from a photograph


@dataclass(frozen=True)
class VisualizeSettings:
    """What is decided beside the recipe: how a picture is stored, and what is told of the way to it."""

    webp_quality: int = 75  # 12 to 20 kB for 224 px
    curve_points: int = 11  # of an ascent that rows hold
    choice_draws: int = 4  # fresh transforms by which one of several ascents of a recipe is chosen


OnStep = Callable[[int, int], None]
"""Called after each step of a batch with (steps done, steps in all): a heartbeat."""


def visualize(
    model: LoadedModel,
    site: FfnSite,
    units: Sequence[int],
    recipe: Recipe,
    *,
    seed: int = 0,
    batch: int | None = None,
    precision: str | None = None,
    on_step: OnStep | None = None,
    settings: VisualizeSettings = VisualizeSettings(),
    photographs: Mapping[int, Tensor] | None = None,
) -> list[Visualization]:
    """Visualize `units` of one FFN site; one result per unit, in their order, or per unit and variant of the recipe.

    photographs: by unit, float (recipe.variants, 3, height, width) in [0, 1], of a recipe that starts from them.

    batch: neurons per step (chosen from the device where None); it changes speed, and rounding, never the
    random numbers. Out of memory halves it and goes on. precision: of the ascent, one of device.PRECISIONS
    (measured where None); the reported numbers are always computed with the weights' own precision.

    A neuron whose ascent or activation leaves the finite numbers has the status failed; the others of its batch go on.
    Raises BadAddress for a unit that the site does not have, and
    torch.OutOfMemoryError where not even one neuron fits.
    """
    wrong = [unit for unit in units if not 0 <= unit < site.width]
    if wrong:
        raise BadAddress(
            f"{model.description.slug} layer {site.layer} has no unit {wrong[0]}: its units are 0 to {site.width - 1}."
        )
    if recipe.photographs and photographs is None:
        raise ValueError(f"the recipe {recipe.name} starts from photographs of the neuron: give them")
    precision, own = precision or choose_precision(model), dict(photographs or {})
    climber = _Climber(model, in_precision(model, precision), site, recipe, seed, precision, on_step, settings, own)
    size, done, left = batch or default_batch(model, site, recipe), [], list(units)
    while left:
        try:
            with quickest_attention(climber.fast.module, torch.device(model.device), precision):
                done += climber.batch(left[:size])
            left = left[size:]
        except Exception as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            size = max(1, min(size, len(left)) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return done


def default_batch(model: LoadedModel, site: FfnSite, recipe: Recipe) -> int:
    """Neurons per step: enough pictures to keep the device busy, few enough to stay in a CPU's cache."""
    images = pictures_at_once(site, torch.device(model.device).type == "cuda")
    return max(1, images // pictures_of(site, recipe))


def pictures_at_once(site: FfnSite, on_gpu: bool) -> int:
    """Pictures of all neurons of a step, copies among them."""
    return 512 if on_gpu else int(min(128, max(16, 4e9 / max(site.flops, 1))))


def pictures_of(site: FfnSite, recipe: Recipe) -> int:
    """Pictures of a neuron in a step, at most: all variants, with their copies."""
    return recipe.variants * max(phase.copies for ascent in recipe.ascents_at(site.depth) for phase in ascent.phases)


@dataclass
class _Result:
    """What one ascent reached for each neuron of a batch. Tensors are (batch, ...)."""

    ascent: Ascent
    pictures: Tensor
    initial_pictures: Tensor
    curve: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)  # step, objective, activation
    failed: list[bool] = field(default_factory=list)  # the ascent left the finite numbers: the picture is the start


@dataclass
class _Climber:
    """An ascent's fixed surroundings: `model` judges in its own precision, `fast` climbs."""

    model: LoadedModel
    fast: LoadedModel
    site: FfnSite
    recipe: Recipe
    seed: int
    precision: str
    on_step: OnStep | None
    settings: VisualizeSettings = VisualizeSettings()
    photographs: Mapping[int, Tensor] = field(default_factory=dict)

    def batch(self, wanted: Sequence[int]) -> list[Visualization]:
        """All ascents of the recipe for each variant of the units `wanted`, the best picture of each, judged."""
        began = time.perf_counter()
        ascents = self.recipe.ascents_at(self.site.depth)
        variants = list(range(self.recipe.variants)) * len(wanted)
        units = [unit for unit in wanted for _ in range(self.recipe.variants)]
        results = [self.climb(units, ascent, f"ascent {i}", variants) for i, ascent in enumerate(ascents)]
        chosen = [results[0]] * len(units)
        if len(results) > 1:
            draws = self.settings.choice_draws
            scores = torch.stack([self.fresh(units, r.pictures, "choice", draws)[0].mean(1) for r in results])
            chosen = [results[i] for i in scores.argmax(0).tolist()]
        picks = [_Pick(result, row, None, result.initial_pictures[row]) for row, result in enumerate(chosen)]
        spent = [sum(ascent.image_steps for ascent in ascents)] * len(units)
        reached = self._rescue(units, variants, picks, spent)
        return self._judge(units, variants, picks, spent, reached, began)

    def _rescue(
        self, units: Sequence[int], variants: Sequence[int], picks: list[_Pick], spent: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Give each neuron that a generated picture excites more than its own (`Recipe.overtaken`), then each whose
        picture does not make it fire (`Recipe.rescue`), the recipe's ways out of that, in turn. What the first kind
        finds has to be as good at the strongest patch too: a plain colour is no likeness of a neuron for stripes.

        Returns what the pictures reach in the end: mean over patches and strongest patch, (n,) each."""
        reached, peak = self.respond(units, torch.stack([p.picture for p in picks]))
        ways = [("overtaken", *way) for way in enumerate(self.recipe.overtaken)]
        ways += [("rescue", *way) for way in enumerate(self.recipe.rescue)]
        for kind, number, ascent in ways:
            overtaken, least = kind == "overtaken", torch.zeros_like(reached)
            if overtaken:
                least = self._best_of_bank(ascent)[1][list(units)].to(reached).clamp(min=0)
            flat = (~(reached > least)).nonzero()[:, 0].tolist()
            if not flat:
                continue
            again = [units[index] for index in flat]
            result = self.climb(again, ascent, f"{kind} {number}", [variants[index] for index in flat])
            rescued, found_peak = self.respond(again, result.pictures)
            told = BETTER if overtaken else f"{ascent.start} start, {ascent.objective} objective"
            for row, index in enumerate(flat):
                spent[index] += ascent.image_steps
                if rescued[row] > reached[index] and (not overtaken or found_peak[row] >= peak[index]):
                    picks[index] = _Pick(result, row, told, picks[index].first)
                    reached[index], peak[index] = rescued[row], found_peak[row]
        return reached, peak

    def climb(self, units: Sequence[int], ascent: Ascent, purpose: str, variants: Sequence[int] = ()) -> _Result:
        """One gradient ascent for each of `units` at once, of its variant (where given, all of a unit in a row)."""
        size = self.model.description.input_size
        space = parameterization(ascent.parameterization, size, ascent.spectrum_exponent)
        variants = variants or [0] * len(units)
        keys = [self._key(unit, purpose, variant) for unit, variant in zip(units, variants, strict=True)]
        latent = self._initial_latents(units, variants, keys, ascent, space).requires_grad_()
        draws = draw(keys, ascent, size, latent, patch_size(self.site, size))
        own = torch.tensor(units, device=latent.device)
        optimizer = optimizer_of(latent, ascent.learning_rate, ascent.betas, ascent.shared_moment)
        result = _Result(ascent, latent, space.picture(latent).detach().clone())
        first = own.new_zeros(len(own), dtype=latent.dtype)  # what is climbed, at the start
        kept = set(np.linspace(0, ascent.steps - 1, self.settings.curve_points).round().astype(int).tolist())
        for step, numbers in enumerate(draws):
            progress = step / max(ascent.steps - 1, 1)
            optimizer.param_groups[0]["lr"] = ascent.learning_rate * (1 + math.cos(math.pi * progress)) / 2
            picture = space.picture(latent)
            rolled = roll_each(picture, numbers.roll)
            seen = turn_each(rolled, numbers.turn) if ascent.turn or ascent.zoom else rolled
            copies = augment(seen, numbers.mean, numbers.std, numbers.offset)
            value, activation = self._objective(copies, own, ascent)  # (batch,) each
            loss = -ascent.objective_scale * value.sum()
            if ascent.total_variation:
                loss = loss + ascent.total_variation * total_variation(rolled, numbers.std).sum()
            if ascent.hold:
                first = value.detach().clamp(min=LEAST_VALUE) if step == 0 else first
                loss = loss + ascent.hold * (first * distance(picture, result.initial_pictures)).sum()
            (slope,) = torch.autograd.grad(loss, latent)
            latent.grad = slope.contiguous()  # the fused step takes it as it lies in memory, whatever its strides
            optimizer.step()
            with torch.no_grad():
                space.project(latent)
            if step in kept:
                result.curve.append((step, value.detach(), activation.detach()))
            if self.on_step:
                self.on_step(step + 1, ascent.steps)
        # fetched once all steps are on their way: none waits for a figure
        result.curve = [(step, value.cpu(), activation.cpu()) for step, value, activation in result.curve]
        pictures = self._best_placed(units, space.picture(latent).detach(), keys, ascent)
        finite = torch.isfinite(pictures).flatten(1).all(1)  # one that is not stands for no neighbour of its batch
        result.failed = (~finite).tolist()
        result.pictures = torch.where(finite[:, None, None, None], pictures, result.initial_pictures)
        return result

    @torch.no_grad()
    def _best_placed(
        self, units: Sequence[int], pictures: Tensor, keys: Sequence[tuple[object, ...]], ascent: Ascent
    ) -> Tensor:
        """Each picture in the best of `ascent.placements` circular shifts within a patch, its own place among them."""
        if not ascent.placements:
            return pictures
        patch = np.array(patch_size(self.site, self.model.description.input_size))
        own = torch.tensor(units)
        best, reached = pictures, respond(self.fast, self.site, own, pictures)[0]
        drawn = np.stack([generator(*key, "placement").integers(0, patch, (ascent.placements, 2)) for key in keys], 1)
        for roll in torch.from_numpy(drawn).to(pictures.device):
            moved = roll_each(pictures, roll)
            mean = respond(self.fast, self.site, own, moved)[0]
            better = (mean > reached).to(pictures.device)
            best = torch.where(better[:, None, None, None], moved, best)
            reached = torch.maximum(mean, reached)
        return best

    def _key(self, unit: int, purpose: str, variant: int = 0) -> tuple[object, ...]:
        address = NeuronAddress(self.model.description.slug, self.site.layer, unit)
        return (self.recipe.draws, str(address), purpose, self.seed, *((f"variant {variant}",) if variant else ()))

    def _initial_latents(
        self,
        units: Sequence[int],
        variants: Sequence[int],
        keys: Sequence[tuple[object, ...]],
        ascent: Ascent,
        space: Space,
    ) -> Tensor:
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        like = torch.empty(0, dtype=dtype, device=self.model.device)
        if ascent.start == "photograph":
            own = [self.photographs[unit][variant] for unit, variant in zip(units, variants, strict=True)]
            return faded(space.latent(torch.stack(own).to(like)), ascent.start_strength, space)
        if ascent.start != "bank":
            return faded(own_noises(keys, space, like), ascent.start_strength, space)
        best, _ = self._best_of_bank(ascent)
        pictures = bank(ascent.bank_size, *self.model.description.input_size)[best[list(units)]]
        latent = space.latent(pictures.to(like))
        return faded(latent, ascent.start_strength, space)

    def _best_of_bank(self, ascent: Ascent) -> tuple[Tensor, Tensor]:
        """best_of_bank, kept: a worker asks it once per site, however many units of it it gets."""
        site, size = (self.model.description.slug, self.site.layer), self.model.description.input_size
        key = (self.model.fingerprint, *site, size, ascent.bank_size, self.precision)
        if key not in _best_of_banks:
            batch = min(32, pictures_at_once(self.site, torch.device(self.model.device).type == "cuda"))
            beat = partial(self.on_step, 0, ascent.steps) if self.on_step else lambda: None
            _best_of_banks[key] = best_of_bank(self.fast, self.site, ascent, batch, beat)
        return _best_of_banks[key]

    def _objective(self, copies: Tensor, own: Tensor, ascent: Ascent) -> tuple[Tensor, Tensor]:
        """What is climbed and the true activation, per neuron: mean over patches, scales and copies."""
        x = self.model.normalise(copies).to(dtype_of(self.fast))
        count = len(copies) // len(own)
        together = self.recipe.variants if ascent.diversity else 1
        wanted, true = objective(self.fast, self.site, x, own.repeat_interleave(count), ascent, copies.dtype, together)
        return wanted.reshape(-1, count).mean(1), true.reshape(-1, count).mean(1)

    @torch.no_grad()
    def respond(self, units: Sequence[int], pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over patches, and strongest patch, of each unit on its own picture: (n,), (n,)."""
        return respond(self.model, self.site, torch.tensor(units), pictures)

    @torch.no_grad()
    def fresh(self, units: Sequence[int], pictures: Tensor, purpose: str, draws: int) -> tuple[Tensor, Tensor]:
        """The same under `draws` fresh colour and circular shifts each: (n, draws), (n, draws)."""
        keys = [(str(NeuronAddress(self.model.description.slug, self.site.layer, u)), purpose) for u in units]
        return fresh_responses(self.model, self.site, units, pictures, keys, draws)

    def _judge(
        self,
        units: Sequence[int],
        variants: Sequence[int],
        picks: list[_Pick],
        spent: list[int],
        reached: tuple[Tensor, Tensor],
        began: float,
    ) -> list[Visualization]:
        """The results, with every number that a row has besides what the picture was `reached` with."""
        pictures = torch.stack([pick.picture for pick in picks])
        mean, peak = reached
        start_mean, start_peak = self.respond(units, torch.stack([pick.first for pick in picks]))
        fresh_mean, fresh_peak = self.fresh(units, pictures, "robust", self.recipe.robust_draws)
        images, webps, read_back = self._files(pictures)
        stored, _ = self.respond(units, read_back)
        seconds = (time.perf_counter() - began) / len(units)
        numbers = torch.stack([mean, peak, stored, start_mean, start_peak, *fresh_mean.T, *fresh_peak.T])
        finite = torch.isfinite(numbers).all(0).tolist()
        alike = self._likeness(pictures, len(picks))
        return [
            Visualization(
                address=NeuronAddress(self.model.description.slug, self.site.layer, unit),
                image=images[i],
                webp=webps[i],
                activation=mean[i].item(),
                activation_peak=peak[i].item(),
                activation_stored=stored[i].item(),
                activation_start=start_mean[i].item(),
                activation_start_peak=start_peak[i].item(),
                robust_mean=fresh_mean[i].mean().item(),
                robust_std=fresh_mean[i].std().item(),
                robust_peak=fresh_peak[i].mean().item(),
                robust_draws=self.recipe.robust_draws,
                loss_curve=picks[i].curve(),
                rescue=picks[i].rescue,
                start=picks[i].result.ascent.start,
                steps=picks[i].result.ascent.steps,
                image_steps=spent[i],
                seconds=seconds,
                recipe=self.recipe,
                precision=self.precision,
                seed=self.seed,
                status_reason=NO_NUMBER if not finite[i] else LEFT if picks[i].failed else None,
                variant=variants[i],
                likeness=alike[i],
            )
            for i, unit in enumerate(units)
        ]

    def _files(self, pictures: Tensor) -> tuple[list[np.ndarray], list[bytes], Tensor]:
        """Pictures as bytes of colour, as files, and as these are read back."""
        images = each(to_bytes, pictures.float().cpu().numpy())
        files = each(lambda image: encode_webp(image, self.settings.webp_quality), images)
        return images, files, torch.stack(each(stored_pixels, files)).to(pictures)

    @torch.no_grad()
    def _likeness(self, pictures: Tensor, count: int) -> list[float | None]:
        """Of each picture, how alike it is to the most similar other variant; None where there is no other."""
        together = self.recipe.variants
        if together == 1:
            return [None] * count
        x = self.model.normalise(pictures).to(dtype_of(self.model))
        alike = torch.cat([likeness(some, self.model, self.site, together) for some in x.split(together)])
        return [min(1.0, max(0.0, value)) for value in alike.tolist()]


@dataclass(frozen=True)
class _Pick:
    """The picture chosen for a neuron: `row` of an ascent's result."""

    result: _Result
    row: int
    rescue: str | None
    first: Tensor
    """What the first attempt began with, which a picture is to exceed: a later one begins with a good picture."""

    @property
    def failed(self) -> bool:
        return self.result.failed[self.row]

    @property
    def picture(self) -> Tensor:
        return self.result.pictures[self.row]

    def curve(self) -> list[dict[str, float]]:
        """A few points of the ascent: step, objective, and activation on that step's augmented copies."""
        return [
            {"step": step, "objective": value[self.row].item(), "activation": activation[self.row].item()}
            for step, value, activation in self.result.curve
        ]


def patch_size(site: FfnSite, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of what one token of the site's finest grid stands for."""
    rows, columns = max(site.grids)
    return max(1, size[0] // rows), max(1, size[1] // columns)


_best_of_banks: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}
