"""Linear maps from a model's components to the space of a CLIP, so that texts can say what a component adds.

CompAlign (Balasubramanian, Basu, Feizi 2024, 2406.01583): one map a component, near to an isometry, fitted so that the
sum of the mapped components points along the CLIP's embedding of the same image. Contributions are streamed and held in
a bounded buffer only; what is kept of every image is the representation, its sum.

A head writes to a space of few dimensions (`Spaces`), and its map is one of this space: 64 x 512 numbers instead of
768 x 512, near to an isometry of what the head can say. What a map would do elsewhere no contribution ever meets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.decompose.alignment import Alignment, Spaces
from pipeline.decompose.components import Level
from pipeline.decompose.contributions import direct_components
from pipeline.decompose.stock import Batch, Batches, Stock, joined


@dataclass(frozen=True)
class Question:
    """A zero-shot question about images.

    texts: (values, e), each of length 1; answers: (images,) int64, the index of the right text, -1 where unknown.
    """

    texts: Tensor
    answers: Tensor


@dataclass(frozen=True)
class AlignSettings:
    """How maps are fitted; they decide the numbers, so they belong to the work unit's key."""

    orthogonality: float = 1.0  # weight of the distance from an isometry; the published value
    steps: int = 400
    batch: int = 128
    rate: float = 0.024  # Adam's first learning rate, in units of 1 / sqrt(max(d, e)), the size of an isometry's entry
    ridge: float = 0.01  # of the shared least-squares map, in units of the representation's mean variance
    buffer_bytes: int = 512 << 20  # of contributions held at a time
    epochs: int = 4  # over one buffer, before the next is read
    watched: int = 64  # images of the fit that are kept aside, to see when more steps gain nothing
    most_watched: float = 0.125  # of the images of the fit; where `watched` are more, all steps are made
    look_each: int = 25  # steps
    patience: int = 3  # looks at which the cosine did not rise, before the fit ends
    rise: float = 1e-4  # of the cosine: what counts as rising
    seed: int = 0


def fit_alignment(
    batches: Batches,
    targets: Tensor,
    fit: Tensor,
    levels: Sequence[Level],
    *,
    spaces: Spaces | None = None,
    settings: AlignSettings | None = None,
    questions: Sequence[Question] = (),
    on_step: Callable[[], None] = lambda: None,
) -> Alignment:
    """The alignment of a model with a CLIP, fitted on some images of a panel and measured on the others.

    The loss is that of CompAlign, 1 - cos(sum of aligned direct components, target) + orthogonality x mean over
    components of |W^T W - I|^2 / m, where m is the smaller of the dimensions of the component's space and e, and W^T W
    stands for the smaller of the two products, so that every isometry and every projection of that space costs nothing.
    The weight of that term grows over the first third of the steps: square isometries come in two kinds, with and
    without a reflection, and no way leads from one to the other among isometries. It starts from the isometry nearest
    to the covariance of representation and target (Procrustes). What has no direct effect does not take part in the sum
    and gets that isometry. It ends before all steps are made where the cosine on images kept aside stops rising, and
    then the maps of the highest are taken.

    batches: called anew for each pass, yields every image of the panel once; a panel that fits in the buffer is read
    once. targets: (images, e), each of length 1. fit: (images,) bool. spaces: those of the components; the whole
    representation where None. on_step: called after each batch and each step. Deterministic: the same batches give the
    same maps. BadConfig where images are missing or either half is empty; NotFinite for NaN or infinity among the
    contributions.
    """
    settings = settings or AlignSettings()
    targets = targets.float()
    fit = fit.to(targets.device)
    direct = direct_components(levels, targets.device)
    _check(targets, fit, direct)
    stock = Stock(batches, targets, direct, spaces, settings.buffer_bytes, on_step)
    representation = stock.representation
    z, y = representation[fit].double(), targets[fit].double()
    shared, offset = least_squares(z, y, settings.ridge)
    isometry, bias = procrustes(z, y)
    ranks = stock.spaces.ranks
    maps = torch.cat([stock.spaces.within(isometry, component) for component in range(len(ranks))])
    fitted = _descend(stock, fit, direct, maps, bias, settings)
    maps, bias = fitted.maps, fitted.bias
    taking_part = direct.repeat_interleave(torch.tensor(ranks, device=direct.device))
    aligned = torch.empty_like(targets)
    for images, coordinates in stock.all():
        aligned[images] = coordinates[:, taking_part] @ maps[taking_part] + bias
    return Alignment(
        stock.spaces,
        maps.cpu(),
        bias.cpu(),
        cosine=_cosine(aligned[~fit], targets[~fit]),
        cosine_fit=_cosine(aligned[fit], targets[fit]),
        cosine_shared=_cosine((representation @ shared + offset)[~fit], targets[~fit]),
        cosine_chance=_chance(aligned[~fit], targets[~fit]),
        accuracy=zero_shot(aligned, questions, ~fit),
    )


def least_squares(z: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """The linear map with the least squared error: float32 W (d, e) and b (e,) with the least mean of |W^T z + b - y|^2
    + ridge |W|^2.

    z: (images, d), y: (images, e), float64; ridge in units of the mean variance of z's coordinates.
    """
    zero, mean = z.mean(0), y.mean(0)
    centred = z - zero
    moments = centred.T @ centred
    weight = ridge * moments.diagonal().mean()
    weight = weight if weight > 0 else weight + 1  # a representation that never changes: the map is zero
    weights = torch.linalg.solve(moments + weight * torch.eye(len(moments)).to(moments), centred.T @ (y - mean))
    return weights.float(), (mean - zero @ weights).float()


def procrustes(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The orthogonal Procrustes map: float32 (d, e) and (e,), the isometry (or projection) W with the greatest sum of
    <W^T z, y>, both centred (Schönemann 1966), and the offset that takes the mean of z to that of y, scaled as z is.
    """
    zero, mean = z.mean(0), y.mean(0)
    centred, wanted = z - zero, y - mean
    left, _, right = torch.linalg.svd(centred.T @ wanted, full_matrices=False)
    weights = left @ right
    length = wanted.norm()
    scale = (centred @ weights).norm() / length if length > 0 else length.new_ones(())
    return weights.float(), (scale * mean - zero @ weights).float()


def orthogonality(maps: Tensor) -> Tensor:
    """How far each map is from an isometry, (components,): |W^T W - I|^2 / m, with the smaller of W^T W and W W^T, m
    its side. maps: (components, d, e).
    """
    short = maps if maps.shape[1] >= maps.shape[2] else maps.mT  # (components, longer, m)
    excess = short.mT @ short - torch.eye(short.shape[2], device=maps.device)
    return excess.square().sum((1, 2)) / short.shape[2]


def zero_shot(aligned: Tensor, questions: Sequence[Question], rows: Tensor) -> float | None:
    """Share of right answers among some images, mean over questions; None where no answer is known.

    aligned: (images, e); rows: (images,) bool. The answer is the text with the greatest product.
    """
    shares = []
    for question in questions:
        answers = question.answers.to(aligned.device)
        known = rows & (answers >= 0)
        if known.any():
            chosen = (aligned[known] @ question.texts.to(aligned).T).argmax(1)
            shares.append(float((chosen == answers[known]).double().mean()))
    return sum(shares) / len(shares) if shares else None


@dataclass(frozen=True)
class _Fitted:
    maps: Tensor  # (sum of ranks, e), of all components
    bias: Tensor


def _descend(
    stock: Stock, fit: Tensor, direct: Tensor, start: Tensor, bias: Tensor, settings: AlignSettings
) -> _Fitted:
    """Adam on the loss of CompAlign, its rate falling to zero; start: (sum of ranks, e), bias: (e,)."""
    ranks = torch.tensor(stock.spaces.ranks, device=direct.device)
    taking_part = direct.repeat_interleave(ranks)
    own_ranks = ranks[direct].tolist()
    watched = _watched(fit, settings)
    watch = (
        _Watch(joined(list(stock.buffers(watched, taking_part))), stock.targets, settings) if watched.any() else None
    )
    with torch.inference_mode(False), torch.enable_grad():
        maps, bias = start[taking_part].clone().requires_grad_(), bias.clone().requires_grad_()
        rate = settings.rate / math.sqrt(max(stock.spaces.width, maps.shape[1]))
        optimiser = torch.optim.Adam([maps, bias], lr=rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 1 / settings.steps, settings.steps)
        for step, (images, coordinates) in enumerate(_shuffled(stock, fit & ~watched, taking_part, settings)):
            if watch is not None and step % settings.look_each == 0 and watch.ends(maps.detach(), bias.detach()):
                break
            aligned = coordinates @ maps + bias
            distance = 1 - functional.cosine_similarity(aligned, stock.targets[images])
            weight = settings.orthogonality * min(1.0, 3 * step / settings.steps)
            excess = torch.cat([orthogonality(alike) for alike in _by_rank(maps, own_ranks)])
            loss = distance.mean() + weight * excess.mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            stock.on_step()
    best, bias = (maps.detach(), bias.detach()) if watch is None else watch.best(maps.detach(), bias.detach())
    whole = start.clone()
    whole[taking_part] = best
    return _Fitted(whole, bias)


def _by_rank(maps: Tensor, ranks: Sequence[int]) -> list[Tensor]:
    """The maps of all components, those of equal rank together: (components, rank, e)."""
    alike: dict[int, list[Tensor]] = {}
    for rank, own in zip(ranks, maps.split(list(ranks)), strict=True):
        alike.setdefault(rank, []).append(own)
    return [torch.stack(together) for together in alike.values()]


def _watched(fit: Tensor, settings: AlignSettings) -> Tensor:
    """(images,) bool: the images of the fit that are kept aside; none where they would be too large a share."""
    chosen = torch.zeros_like(fit)
    candidates = fit.nonzero()[:, 0]
    if settings.watched <= settings.most_watched * len(candidates):
        generator = torch.Generator().manual_seed(settings.seed)
        order = torch.randperm(len(candidates), generator=generator)[: settings.watched]
        chosen[candidates[order.to(fit.device)]] = True
    return chosen


class _Watch:
    """Looks at the cosine on images kept aside, and keeps the maps with which it was highest."""

    def __init__(self, kept: Batch, targets: Tensor, settings: AlignSettings) -> None:
        images, self.coordinates = kept
        self.targets, self.settings = targets[images], settings
        self.highest, self.looks = -math.inf, 0
        self.held: tuple[Tensor, Tensor] | None = None

    def _look(self, maps: Tensor, bias: Tensor) -> bool:
        """Whether the cosine has risen."""
        cosine = _cosine(self.coordinates @ maps + bias, self.targets)
        risen = cosine > self.highest + self.settings.rise
        if cosine > self.highest:
            self.highest, self.held = cosine, (maps.clone(), bias.clone())
        return risen

    def ends(self, maps: Tensor, bias: Tensor) -> bool:
        self.looks = 0 if self._look(maps, bias) else self.looks + 1
        return self.looks > self.settings.patience

    def best(self, maps: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        self._look(maps, bias)
        assert self.held is not None
        return self.held


def _shuffled(stock: Stock, fit: Tensor, taking_part: Tensor, settings: AlignSettings) -> Iterator[Batch]:
    """`steps` batches of fit images: some epochs over a buffer in new orders, then the next buffer."""
    generator = torch.Generator().manual_seed(settings.seed)
    left = settings.steps
    while left:
        for images, coordinates in stock.buffers(fit, taking_part):
            for _ in range(settings.epochs):
                order = torch.randperm(len(images), generator=generator).to(images.device)
                for rows in order.split(settings.batch)[:left]:
                    yield images[rows], coordinates[rows]
                    left -= 1
            if not left:
                break


def _cosine(aligned: Tensor, targets: Tensor) -> float:
    return float(functional.cosine_similarity(aligned.double(), targets.double()).mean())


def _chance(aligned: Tensor, targets: Tensor) -> float:
    """Mean cosine of each aligned vector with the targets of all other images; NaN of a single image."""
    count = len(targets)
    ours = functional.normalize(aligned.double(), dim=1)
    theirs = functional.normalize(targets.double(), dim=1)
    pairs = float(ours.sum(0) @ theirs.sum(0) - (ours * theirs).sum())
    return pairs / (count * (count - 1)) if count > 1 else math.nan


def _check(targets: Tensor, fit: Tensor, direct: Tensor) -> None:
    if fit.shape != targets.shape[:1] or fit.dtype != torch.bool:
        raise BadConfig(f"alignment: fit is {tuple(fit.shape)} {fit.dtype}, expected ({len(targets)},) of torch.bool.")
    chosen, checked = int(fit.sum()), int((~fit).sum())
    if chosen < 2 or checked < 1:
        raise BadConfig(
            f"alignment: {chosen} images to fit the maps on and {checked} to check them; expected at least 2 and 1. "
            "Probe more images."
        )
    if not direct.any():
        raise BadConfig("alignment: no component has a direct effect, so there is no sum to align.")
    if not torch.isfinite(targets).all():
        raise NotFinite("alignment: NaN or infinity among the CLIP's embeddings.")
