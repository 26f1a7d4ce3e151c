"""Mean ablation of the neurons of a last FFN, with nothing but norms and linear maps behind it: a formula.

What the last FFN writes passes a scale at most, then one norm, then only linear maps. With the input x of the norm, a
neuron's column c and the change s of its activation at that token,

    norm(x + s c) = gamma * (x~ + s c~) / sqrt(v + 2 s <x~, c~> / d + s^2 <c~, c~> / d) + beta,

where ~ takes the mean off (not in RMSNorm) and v is the variance of x plus the norm's epsilon. So all neurons of all
images need three products of matrices. In post-norm blocks (Swin v2) a norm of the FFN's own output comes first: it
turns the change into a p + b q, with p the normed output of the FFN, q the normed column and two numbers a, b a token,
and the last norm is moved by these two directions instead of one.

Whether a model has this form is read off the gradient: which rows of the norm are read, and which tokens of the FFN a
row depends on. Where it has another (an attention pools, an activation function follows), there is no result, and the
caller runs the network instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.effects.readout import Readout, columns, obstacles
from pipeline.hooks.activations import sequence
from pipeline.hooks.frozen import channels_first, epsilon_of, is_norm
from pipeline.models import FfnSite, LoadedModel

NUMBERS_AT_ONCE = 1 << 24


@dataclass(eq=False)
class _Norm:
    """One call of a norm behind the site. Rows are its tokens, one after the other."""

    module: Any
    x: Tensor  # its input, by a graph that leads to what the FFN added
    y: Tensor  # its output, a leaf from which what follows is computed

    def rows(self, like: Tensor, images: int) -> Tensor:
        """(images, rows, d) of a tensor shaped as the norm's input."""
        if channels_first(self.module):
            return like.flatten(2).transpose(1, 2)
        return like.reshape(images, -1, like.shape[-1])


def has_formula(model: LoadedModel, site: FfnSite, x: Tensor, answers: Tensor, readout: Readout) -> bool:
    """Whether the formula holds for a site: a fact of the model's form, which one image shows.

    x: normalised; answers: as in `pipeline.effects.ablation.AnsweredImages`.
    """
    return traced(model, site, x[:1], answers[:1], readout) is not None


def _comes_last(model: LoadedModel, site: FfnSite) -> bool:
    """Whether none of the described attention and FFNs comes after the site; heads that pool may."""
    last = model.description.ffn_sites[-1]
    return site == last and all(attention.depth <= site.depth for attention in model.description.attention_sites)


@torch.no_grad()
def falls_behind_last_norm(
    model: LoadedModel, site: FfnSite, units: Tensor, x: Tensor, answers: Tensor, target: Tensor, readout: Readout
) -> Tensor | None:
    """The fall, (units, images), of each image's correct output when a unit's activation becomes `target` on all its
    tokens; None where the model does not have the form.

    units: (units,) long; x: normalised; answers: as in `pipeline.effects.ablation.AnsweredImages`; target: (units,).
    """
    found = traced(model, site, x, answers, readout)
    return None if found is None else found.falls(columns(model, site)[:, units].T, units, answers, target, readout)


@dataclass
class Traced:
    """What the formula needs of some images, whatever the neurons."""

    embedding: Tensor  # (images, q), the outputs that are read
    paths: list[_Path]
    reads: list[Tensor]  # of each path what `_reads` gives, all rows

    @torch.no_grad()
    def falls(self, column: Tensor, units: Tensor, answers: Tensor, target: Tensor, readout: Readout) -> Tensor:
        """As `falls_behind_last_norm`. column: (units, d), what each unit adds to the FFN's output."""
        images, outputs = self.embedding.shape
        size = max(images * path.rows.shape[1] * path.reads.shape[1] for path in self.paths)
        falls = []
        for some in torch.arange(len(units), device=units.device).split(max(1, NUMBERS_AT_ONCE // size)):
            change = self.embedding.new_zeros(images, len(some), outputs)
            for path in self.paths:
                moved = target[some] - path.hidden[:, :, units[some]]  # (images, tokens, units)
                change += path.change(column[some], torch.einsum("st,btu->bsu", path.mix, moved))
            falls.append(_fall(self.embedding, change, answers, readout).T)
        return torch.cat(falls)


@dataclass
class _Moved:
    """Where rows of a norm move: along `column` (units, d), the same in all rows, by `by` (images, s, units); behind
    another norm also along `own` (images, s, d), each row its own way, by `own_by` (images, s, units).
    """

    column: Tensor
    by: Tensor
    own: Tensor | None = None
    own_by: Tensor | None = None

    def scaled(self, scale: Tensor | float) -> _Moved:
        """The same, with coordinates multiplied by `scale`, (d,) or one number."""
        return _Moved(self.column * scale, self.by, None if self.own is None else self.own * scale, self.own_by)


def _normed(norm: Any, rows: Tensor, moved: _Moved) -> _Moved:
    """How the output of a norm moves, but for its gain, when its input `rows` (images, s, d) moves."""

    def centred(x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if isinstance(norm, nn.LayerNorm) else x

    rows, column, by = centred(rows), centred(moved.column), moved.by
    variance = rows.square().mean(-1, keepdim=True) + epsilon_of(norm, rows.dtype)  # (images, s, 1)
    rise = by * (2 * torch.einsum("bsd,ud->bsu", rows, column) / rows.shape[-1])
    rise = rise + by.square() * column.square().mean(-1)
    if moved.own is not None and moved.own_by is not None:
        own, own_by = centred(moved.own), moved.own_by
        across = (own * rows).mean(-1, keepdim=True) + by * torch.einsum("bsd,ud->bsu", own, column) / rows.shape[-1]
        rise = rise + 2 * own_by * across + own_by.square() * own.square().mean(-1, keepdim=True)
    old, new = variance.sqrt(), (variance + rise).sqrt()
    turned = -rise / (old * new * (old + new))  # 1 / new - 1 / old, without cancellation
    if moved.own is None or moved.own_by is None:
        return _Moved(column, by / new, rows, turned)
    # both row by row: the rest of the row turns, its own direction is added
    return _Moved(column, by / new, torch.cat([rows, own], 1), torch.cat([turned, own_by / new], 1))


@dataclass
class _Path:
    """From one call of the FFN through one call of a norm to the outputs; s counts the norm's rows that are read."""

    norm: Any
    hidden: Tensor  # (images, tokens, width), of the tokens that any row takes
    rows: Tensor  # (images, s, d), the norm's input
    mix: Tensor  # (s, tokens), what of each token of the FFN a row takes
    scale: Tensor  # (d,), by which factor (layer scale)
    reads: Tensor  # (images or 1, q, s, d), what the outputs take of the norm's output
    first: Any = None  # the norm of the FFN's own output, where there is one; then a row takes one token
    first_rows: Tensor | None = None  # (images, s, d), its input at the tokens that the rows take

    def change(self, column: Tensor, by: Tensor) -> Tensor:
        """(images, units, q): what the outputs gain.

        column: (units, d), of the FFN's output map; by: (images, s, units), by how much activations change.
        """
        moved = _Moved(column, by)
        if self.first_rows is not None:
            moved = _normed(self.first, self.first_rows, moved).scaled(_gain(self.first))
        moved = _normed(self.norm, self.rows, moved.scaled(self.scale))
        assert moved.own is not None
        assert moved.own_by is not None
        images, reads = len(self.rows), self.reads * _gain(self.norm)
        of_column = torch.einsum("ud,bqsd->bsuq", moved.column, reads).expand(images, -1, -1, -1)
        # behind another norm each row moves along two directions of its own, one after the other in `own`
        reads = reads.repeat(1, 1, moved.own.shape[1] // reads.shape[2], 1).expand(images, -1, -1, -1)
        of_own = torch.einsum("bsd,bqsd->bsq", moved.own, reads)
        return torch.einsum("bsu,bsq->buq", moved.own_by, of_own) + torch.einsum("bsu,bsuq->buq", moved.by, of_column)


def _gain(norm: Any) -> Tensor | float:
    weight: Tensor | None = getattr(norm, "weight", None)
    return 1.0 if weight is None else weight


def _fall(embedding: Tensor, change: Tensor, answers: Tensor, readout: Readout) -> Tensor:
    """(images, units). embedding: (images, q) before; change: (images, units, q)."""
    if readout.texts is None:
        return -change[:, :, 0]  # q = 1: the correct output itself
    new = functional.normalize(embedding[:, None] + change, dim=2)
    old = functional.normalize(embedding, dim=1)
    truth = _truth(readout, answers).to(old)  # (images, k, q)
    return torch.einsum("bq,bkq->b", old, truth)[:, None] / truth.shape[1] - (
        torch.einsum("buq,bkq->bu", new, truth) / truth.shape[1]
    )


def _truth(readout: Readout, answers: Tensor) -> Tensor:
    """(images, k, q): the texts that are true of each image."""
    if answers.is_floating_point():
        return answers[:, None]
    assert readout.texts is not None
    return readout.texts[answers.view(len(answers), -1)]


# ---------------------------------------------------------------------------------------- reading the form off a model


def traced(
    model: LoadedModel, site: FfnSite, x: Tensor, answers: Tensor, readout: Readout, known: Traced | None = None
) -> Traced | None:
    """What the formula needs of some images; None where the model has another form.

    x: normalised; answers: as in `pipeline.effects.ablation.AnsweredImages`. known: of other images of this model,
    whose embedding reads the norm alike.
    """
    if not _comes_last(model, site):
        return None
    with torch.inference_mode(False), torch.enable_grad():
        return _trace(model, site, x, answers, readout, known)


def _trace(
    model: LoadedModel, site: FfnSite, x: Tensor, answers: Tensor, readout: Readout, known: Traced | None
) -> Traced | None:
    hidden: list[Tensor] = []
    added: list[Tensor] = []
    norms: list[_Norm] = []

    def add(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        added.append(torch.zeros_like(out, requires_grad=True))
        return out.detach() + added[-1]

    def cut(module: nn.Module, args: Any, out: Tensor) -> Tensor | None:
        if not args[0].requires_grad:
            return None
        norms.append(_Norm(module, args[0], out.detach().requires_grad_()))
        return norms[-1].y

    with ExitStack() as hooks:
        post = model.module.get_submodule(site.post)
        hooks.callback(post.register_forward_pre_hook(lambda m, args: hidden.append(sequence(args[0], site))).remove)
        hooks.callback(model.module.get_submodule(site.path).register_forward_hook(add).remove)
        for part in model.module.modules():
            if is_norm(part):
                hooks.callback(part.register_forward_hook(cut).remove)
        out = model.module(x)
    out = out[0] if isinstance(out, tuple) else out
    if readout.texts is None:
        out = out.gather(1, answers.view(len(x), -1)).mean(1, keepdim=True)
    first = [norm for norm in norms if _depends(norm.x, added)]
    last = [norm for norm in norms if norm not in first]
    if not last:  # one norm on the way, as in pre-norm blocks
        first, last, sources = [], first, added
    else:
        sources = [norm.y for norm in first]
    if not last or _depends(out, added) or any(obstacles(out, [norm.y for norm in last])):
        return None
    if first and (_depends(out, sources) or not _are_of_outputs(first, added, site)):
        return None
    if any(_depends(norm.x, [other.y for other in last]) for norm in last):  # a third norm
        return None
    reads = [_reads(norm, out, readout) for norm in last] if known is None or readout.texts is None else known.reads
    paths = [_path(norm, sources, first, out, site, read, hidden) for norm, read in zip(last, reads, strict=True)]
    found = [path for path in paths if path is not None]
    return Traced(out.detach(), found, reads) if len(found) == len(paths) else None


def _are_of_outputs(norms: list[_Norm], added: list[Tensor], site: FfnSite) -> bool:
    """Whether these are norms of what the FFN's calls gave, a norm a call, token by token."""
    if len(norms) != len(added):
        return False
    for norm, leaf in zip(norms, added, strict=True):
        if norm.x.shape != leaf.shape or channels_first(norm.module) or not _depends(norm.x, [leaf]):
            return False
        seed = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(leaf)
        if not torch.equal(torch.autograd.grad(norm.x, leaf, seed, retain_graph=True)[0], seed):
            return False
    return True


def _depends(out: Tensor, leaves: list[Tensor]) -> bool:
    """Whether any of the leaves is in the graph of `out`."""
    if not out.requires_grad:
        return False
    grads = torch.autograd.grad(out, leaves, torch.zeros_like(out), retain_graph=True, allow_unused=True)
    return any(grad is not None for grad in grads)


def _path(
    norm: _Norm,
    sources: list[Tensor],
    first: list[_Norm],
    out: Tensor,
    site: FfnSite,
    reads: Tensor,
    hidden: Sequence[Tensor],
) -> _Path | None:
    """The path through one norm. sources: by call, what the norm's input is linear in: the FFN's output, or that of the
    `first` norm behind it. reads: (images or 1, q, rows, d). hidden: by call, (images, tokens, width).
    """
    calls = [call for call, leaf in enumerate(sources) if _depends(norm.x, [leaf])]
    if len(calls) != 1 or any(obstacles(norm.x, sources)) or norm.x.shape[0] != len(out):
        return None
    read = reads.flatten(0, 1).ne(0).any(2).any(0).nonzero()[:, 0]
    mixing = _mix(norm.rows(norm.x, len(out)), sources[calls[0]], read, site)
    if mixing is None:
        return None
    tokens = hidden[calls[0]].detach()
    path = _Path(norm.module, tokens, norm.rows(norm.x.detach(), len(out))[:, read], *mixing, reads[:, :, read])
    if first:
        token = path.mix.argmax(1)
        one_each = functional.one_hot(token, path.mix.shape[1]).to(path.mix)
        if not torch.allclose(path.mix, one_each, rtol=0, atol=1e-4):
            return None  # tokens are averaged between the norms
        before = first[calls[0]]
        path.mix, path.first = one_each, before.module
        path.first_rows = sequence(before.x.detach(), site)[:, token]
    taken = path.mix.ne(0).any(0)
    path.mix, path.hidden = path.mix[:, taken], tokens[:, taken]
    return path


def _reads(norm: _Norm, out: Tensor, readout: Readout) -> Tensor:
    """(images, 1, rows, d) for one output an image; (1, q, rows, d) where each image has the same q."""
    if readout.texts is None:
        grad = torch.autograd.grad(out.sum(), norm.y, retain_graph=True)[0]
        return norm.rows(grad, len(out))[:, None]
    grads = [torch.autograd.grad(output, norm.y, retain_graph=True)[0][:1] for output in out[0]]
    return torch.cat([norm.rows(grad, 1) for grad in grads])[None]


def _mix(rows: Tensor, source: Tensor, read: Tensor, site: FfnSite) -> tuple[Tensor, Tensor] | None:
    """(rows read, tokens) and (d,): row = mix @ tokens * scale, from gradients of the first image; None if not so.

    rows: (images, rows, d), linear in `source`.
    """
    d = rows.shape[-1]

    def pulled(seed: Tensor) -> Tensor:
        """(tokens, d): the gradient of the first image's rows, weighted by seed (rows read, d)."""
        return sequence(torch.autograd.grad(rows[0, read], source, seed, retain_graph=True)[0], site)[0]

    ones = torch.ones(len(read), d, dtype=rows.dtype, device=rows.device)
    scale_at = pulled(ones)
    scale = scale_at[scale_at.abs().sum(1).argmax()]
    if len(read) == 1:
        mix = (scale_at @ scale / scale.square().sum())[None]
    else:  # each row takes one token, or this does not hold and is refused below
        strongest = scale.abs().argmax()
        numbered = torch.arange(1, len(read) + 1, dtype=rows.dtype, device=rows.device)
        row = (pulled(numbered[:, None] * ones)[:, strongest] / scale[strongest]).round().long()
        mix = functional.one_hot(row.clamp(0, len(read)), len(read) + 1)[:, 1:].T.to(rows.dtype)
    generator = torch.Generator().manual_seed(0)
    seed = torch.randn(len(read), d, generator=generator, dtype=torch.float64).to(rows)
    holds = torch.allclose(pulled(seed), (mix.T @ seed) * scale, rtol=1e-4, atol=1e-5 * float(scale.abs().max()))
    return (mix.detach(), scale.detach()) if holds else None
