"""What a neuron does to the answer: the fall of the correct output when its activation is replaced by its mean.

Mean ablation: on all tokens, patches and prefix alike and at all scales, the activation becomes its mean over the
probe set; all else runs on. Where nothing but the readout follows, that is a formula
(`pipeline.effects.last_norm`), exact for all images at little cost. Elsewhere the rest of the network runs again for
each neuron: what lies before the site is cached once and replayed.

A correct output is the logit of the image's class, the mean over several correct ones (the zoo: one an attribute), or,
for a CLIP, the cosine with the text of the image's caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.effects.last_norm import Traced, traced
from pipeline.effects.readout import Readout, columns
from pipeline.hooks.frozen import stub
from pipeline.models import FfnSite, LoadedModel

COPIES = {"cpu": 32, "cuda": 512}
"""Pictures that run at a time, images times neurons, by the type of device."""


@dataclass(frozen=True)
class AnsweredImages:
    """Images with what is right about them.

    pixels: (images, 3, height, width) in [0, 1], of the model's input size
    answers: int64 (images,) or (images, k), indices of the correct outputs; or float (images, d), for a CLIP, the
        embeddings of the true captions, each of length 1
    """

    pixels: Tensor
    answers: Tensor


@dataclass(frozen=True)
class AblationEffects:
    """The effects of some neurons of a site over some images.

    fall: float64 (neurons,), the sum over images of the fall of the correct output; squares: of its squares
    """

    units: tuple[int, ...]
    fall: NDArray[np.float64]
    squares: NDArray[np.float64]
    images: int
    kind: str  # "exact" | "measured", as in the column ablation_kind

    @property
    def effect(self) -> NDArray[np.float64]:
        """The mean fall of the correct output, in its own unit (logit or cosine): (neurons,)."""
        return self.fall / self.images

    @property
    def standard_error(self) -> NDArray[np.float64] | None:
        """The standard error of `effect` over images, (neurons,); None for one image."""
        if self.images < 2:
            return None
        spread = np.maximum(self.squares - self.fall**2 / self.images, 0) / (self.images - 1)
        return np.sqrt(spread / self.images)


def matter_most(model: LoadedModel, site: FfnSite, std: Tensor, count: int) -> list[int]:
    """The `count` units of a site that move the residual stream most, strongest first.

    By the length of what a unit writes, times the standard deviation (width,) of its activation over the probe set.
    """
    moved = columns(model, site).norm(dim=0).cpu() * std.cpu()
    return [int(unit) for unit in moved.argsort(descending=True, stable=True)[:count]]


def _dtype(model: LoadedModel) -> torch.dtype:
    return next(p.dtype for p in model.module.parameters() if p.is_floating_point())


def exact_form(
    model: LoadedModel,
    site: FfnSite,
    images: Iterable[AnsweredImages],
    readout: Readout,
    on_step: Callable[[], None] = lambda: None,
) -> list[Traced] | None:
    """What the formula needs of each batch of images, whatever the neurons; None where the site has none."""
    form: list[Traced] = []
    for batch in images:
        x, answers = model.normalise(batch.pixels.to(model.device, _dtype(model))), batch.answers.to(model.device)
        if not form:  # one image shows it, at less cost where there is none
            known = traced(model, site, x[:1], answers[:1], readout)
        own = None if known is None else traced(model, site, x, answers, readout, known)
        if own is None:
            return None
        form.append(own)
        on_step()
    return form or None


@torch.no_grad()
def ablation_effects(
    model: LoadedModel,
    site: FfnSite,
    units: Sequence[int],
    images: Iterable[AnsweredImages],
    means: Tensor,
    readout: Readout,
    *,
    form: Sequence[Traced] | None = None,
    copies: int | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> AblationEffects:
    """Mean-ablation effects of some units of a site.

    means: (width,), the activation of each unit, mean over patch tokens of the probe set. form: what `exact_form` gave
    for these images; without it the rest of the network is run. copies: pictures at a time, default by device. on_step:
    called after each run. BadConfig without images or where the model has no readout; NotFinite where outputs are not.
    """
    if readout.reason:
        raise BadConfig(f"{model.description.slug}: no effect can be measured, for {readout.reason}.")
    index = torch.tensor(list(units), dtype=torch.long, device=model.device)
    target = means.to(model.device)[index]  # (units,)
    column = columns(model, site)[:, index].T  # (units, d)
    total, squares, count = np.zeros(len(index)), np.zeros(len(index)), 0
    for number, batch in enumerate(images):
        answers = batch.answers.to(model.device)
        if form is not None:
            falls = form[number].falls(column, index, answers, target, readout)
        else:
            x = model.normalise(batch.pixels.to(model.device, _dtype(model)))
            at_once = copies or _copies(model)
            falls = falls_by_replay(model, site, index, x, answers, target, readout, at_once, on_step)
        on_step()
        fall_of_images = falls.double().cpu().numpy()  # (units, images)
        total, squares = total + fall_of_images.sum(1), squares + (fall_of_images**2).sum(1)
        count += len(answers)
    if not count:
        raise BadConfig("no images to measure an ablation on: the probe set is empty.")
    if not np.isfinite(total).all():
        raise NotFinite(f"{model.description.slug}: the outputs are NaN or infinite; the weights are damaged.")
    kind = "measured" if form is None else "exact"
    return AblationEffects(tuple(int(u) for u in units), total, squares, count, kind)


def _copies(model: LoadedModel) -> int:
    return COPIES.get(model.device.type, COPIES["cpu"])


def correct_output(model: LoadedModel, readout: Readout, x: Tensor, answers: Tensor) -> Tensor:
    """The correct output of each image, (images,). x: normalised; answers: as in AnsweredImages."""
    if not answers.is_floating_point():
        outputs = readout.outputs(model, x)
        return outputs.gather(1, answers.view(len(x), -1)).mean(1)
    out = model.module(x)
    return (functional.normalize(out[0] if isinstance(out, tuple) else out, dim=1) * answers.to(x)).sum(1)


# ------------------------------------------------------------------------------------------- caching and replaying


@dataclass
class _Cache:
    """What one forward showed up to a site: outputs of attention and FFNs before it, and the site's own calls."""

    before: dict[str, list[Any]]
    hidden: list[Tensor]
    outputs: list[Tensor]
    correct: Tensor  # (images,)


def falls_by_replay(
    model: LoadedModel,
    site: FfnSite,
    units: Tensor,
    x: Tensor,
    answers: Tensor,
    target: Tensor,
    readout: Readout,
    copies: int,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """The falls of the correct output, (units, images), by running the network behind the site once a unit.

    Attention and FFNs before the site are cached once; of the site itself, an ablated unit changes the output by its
    column times the change of its activation.
    """
    cache = _cached(model, site, x, answers, readout)
    at_once = max(1, copies // len(x))
    falls = []
    for some, wanted in zip(units.split(at_once), target.split(at_once), strict=True):
        with _replayed(model, site, cache, some, wanted):
            ablated = correct_output(model, readout, _copied(x, len(some), 0), _copied(answers, len(some), 0))
        falls.append(cache.correct - ablated.unflatten(0, (len(some), len(x))))
        on_step()
    return torch.cat(falls)


def _cached(model: LoadedModel, site: FfnSite, x: Tensor, answers: Tensor, readout: Readout) -> _Cache:
    paths = [attention.path for attention in model.description.attention_sites]
    paths += [other.path for other in model.description.ffn_sites if other != site]
    before: dict[str, list[Any]] = {path: [] for path in paths}
    hidden: list[Tensor] = []
    outputs: list[Tensor] = []

    def keep(path: str) -> Any:
        return lambda module, args, out: None if hidden else before[path].append(out)

    with ExitStack() as hooks:
        for path in paths:
            hooks.callback(model.module.get_submodule(path).register_forward_hook(keep(path)).remove)
        post, ffn = model.module.get_submodule(site.post), model.module.get_submodule(site.path)
        hooks.callback(post.register_forward_pre_hook(lambda module, args: hidden.append(args[0])).remove)
        hooks.callback(ffn.register_forward_hook(lambda module, args, out: outputs.append(out)).remove)
        correct = correct_output(model, readout, x, answers)
    return _Cache(before, hidden, outputs, correct)


@contextmanager
def _replayed(model: LoadedModel, site: FfnSite, cache: _Cache, units: Tensor, target: Tensor) -> Iterator[None]:
    """A forward in here, on one copy of the images for each unit, takes what is cached and ablates the units."""
    batch_axis = 1 if site.layout == "LNC" else 0  # windows fold into the batch behind the images: copies stay in order
    with ExitStack() as stubs:
        for path, outs in cache.before.items():
            if outs:
                answers = iter([_repeat(out, len(units), batch_axis) for out in outs])
                _stub(stubs, model.module.get_submodule(path), answers, len(outs))
        column = columns(model, site)[:, units].T  # (units, d)
        calls = zip(cache.hidden, cache.outputs, strict=True)
        ablated = iter([_ablated(h, out, site, units, target, column) for h, out in calls])
        _stub(stubs, model.module.get_submodule(site.path), ablated, len(cache.outputs))
        yield


def _stub(stubs: ExitStack, module: nn.Module, answers: Iterator[Any], count: int) -> None:
    """The module's first `count` calls are answered from the cache, those after run."""
    left = [count]

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not left[0]:
            return real(*args, **kwargs)
        left[0] -= 1
        return next(answers)

    real = stub(stubs, module, forward)


def _repeat(out: Any, times: int, axis: int) -> Any:
    if isinstance(out, tuple):
        return tuple(_repeat(part, times, axis) for part in out)
    return _copied(out, times, axis) if isinstance(out, Tensor) else out


def _copied(x: Tensor, times: int, axis: int) -> Tensor:
    """The whole batch, again and again along its axis."""
    return torch.cat([x] * times, dim=axis)


def _ablated(hidden: Tensor, out: Tensor, site: FfnSite, units: Tensor, target: Tensor, column: Tensor) -> Tensor:
    """The FFN's output of one call with each unit ablated in its own copy of the batch."""
    if site.layout == "NCHW":
        change = target[:, None, None, None] - hidden[:, units].transpose(0, 1)  # (units, images, height, width)
        return (out + change[:, :, None] * column[:, None, :, None, None]).flatten(0, 1)
    change = target.view(-1, *[1] * (hidden.ndim - 1)) - hidden[..., units].movedim(-1, 0)  # (units, *tokens)
    ablated = out + change[..., None] * column.view(len(units), *[1] * (hidden.ndim - 1), -1)
    return ablated.movedim(0, 1).flatten(1, 2) if site.layout == "LNC" else ablated.flatten(0, 1)
