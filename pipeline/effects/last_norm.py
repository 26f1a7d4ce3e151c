"""Mean ablation of neurons with nothing but the readout behind them: a formula, exact for every image.

What the last FFN writes passes a scale at most, then one norm, then only linear maps. With the input x of the norm, a
neuron's column c and the change s of its activation at that token,

    norm(x + s c) = gamma * (x~ + s c~) / sqrt(v + 2 s <x~, c~> / d + s^2 <c~, c~> / d) + beta,

where ~ takes the mean off (not in RMSNorm) and v is the variance of x plus the norm's epsilon. So all neurons of all
images need three products of matrices. Whether a model has this form is read off the gradient: which rows of the norm
are read, and which tokens of the FFN a row depends on. Where it has another, there is no result, and the caller runs
the network instead.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.effects.readout import Readout, columns, obstacles
from pipeline.hooks.activations import sequence
from pipeline.hooks.frozen import epsilon_of, is_norm
from pipeline.models import FfnSite, LoadedModel

NUMBERS_AT_ONCE = 1 << 24


@dataclass
class _Norm:
    """One call of a norm behind the site. Rows are its tokens, one after the other."""

    module: Any
    x: Tensor  # (images, rows, d), its input, by a graph that leads to what the FFN added
    y: Tensor  # its output, a leaf from which the outputs are computed


def only_readout_follows(model: LoadedModel, site: FfnSite) -> bool:
    """Whether no attention and no other FFN comes after the site."""
    last = model.description.ffn_sites[-1]
    return site == last and all(attention.depth <= site.depth for attention in model.description.attention_sites)


@torch.no_grad()
def falls_behind_last_norm(
    model: LoadedModel, site: FfnSite, units: Tensor, x: Tensor, answers: Tensor, target: Tensor, readout: Readout
) -> Tensor | None:
    """(units, images): the fall of each image's correct output when a unit's activation becomes `target` on all its
    tokens; None where the model does not have the form.

    units: (units,) long; x: normalised; answers: as in `pipeline.effects.ablation.AnsweredImages`; target: (units,).
    """
    with torch.inference_mode(False), torch.enable_grad():
        traced = _trace(model, site, x, answers, readout)
    if traced is None:
        return None
    hidden, embedding, paths = traced
    column = columns(model, site)[:, units].T  # (units, d)
    size = max(len(x) * path.rows.shape[1] * path.reads.shape[1] for path in paths)
    falls = []
    for some in torch.arange(len(units), device=x.device).split(max(1, NUMBERS_AT_ONCE // size)):
        change = torch.zeros(len(x), len(some), embedding.shape[1], dtype=x.dtype, device=x.device)
        for path in paths:
            moved = target[some] - hidden[path.call][:, :, units[some]]  # (images, tokens, units)
            change += path.change(column[some], torch.einsum("st,btu->bsu", path.mix, moved))
        falls.append(_fall(embedding, change, answers, readout).T)
    return torch.cat(falls)


@dataclass
class _Path:
    """From one call of the FFN through one call of a norm to the outputs; s counts the norm's rows that are read."""

    norm: Any
    call: int
    rows: Tensor  # (images, s, d), the norm's input
    mix: Tensor  # (s, tokens), what of each token of the FFN a row takes
    scale: Tensor  # (d,), by which factor (layer scale)
    reads: Tensor  # (images or 1, q, s, d), what the outputs take of the norm's output

    def change(self, column: Tensor, moved: Tensor) -> Tensor:
        """(images, units, q): what the outputs gain. column: (units, d); moved: (images, s, units)."""
        column, rows = self._centred(column * self.scale), self._centred(self.rows)
        gain: Tensor | None = getattr(self.norm, "weight", None)
        reads = self.reads if gain is None else self.reads * gain
        variance = rows.square().mean(-1, keepdim=True) + epsilon_of(self.norm, rows.dtype)  # (b, s, 1)
        rise = moved * (2 * torch.einsum("bsd,ud->bsu", rows, column) / rows.shape[-1])
        rise += moved.square() * column.square().mean(-1)
        old, new = variance.sqrt(), (variance + rise).sqrt()
        # 1 / new - 1 / old, without cancellation
        turned = -rise / (old * new * (old + new))
        of_row = torch.einsum("bsd,bqsd->bsq", rows, reads.expand(len(rows), -1, -1, -1))
        of_column = torch.einsum("ud,bqsd->bsuq", column, reads)
        change = torch.einsum("bsu,bsq->buq", turned, of_row)
        return change + torch.einsum("bsu,bsuq->buq", moved / new, of_column.expand(len(rows), -1, -1, -1))

    def _centred(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if isinstance(self.norm, nn.LayerNorm) else x


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


def _trace(
    model: LoadedModel, site: FfnSite, x: Tensor, answers: Tensor, readout: Readout
) -> tuple[list[Tensor], Tensor, list[_Path]] | None:
    """Hidden activations of each call (images, tokens, width), the outputs that are read (images, q), and the paths."""
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
    leaves = [norm.y for norm in norms]
    if not norms or any(obstacles(out, leaves)) or _depends(out, added):
        return None
    if any(_depends(norm.x, leaves) for norm in norms):  # a norm behind a norm
        return None
    paths = [_path(norm, added, out, site, readout) for norm in norms]
    known = [path for path in paths if path is not None]
    return (hidden, out.detach(), known) if len(known) == len(paths) else None


def _depends(out: Tensor, leaves: list[Tensor]) -> bool:
    """Whether any of the leaves is in the graph of `out`."""
    if not out.requires_grad:
        return False
    grads = torch.autograd.grad(out, leaves, torch.zeros_like(out), retain_graph=True, allow_unused=True)
    return any(grad is not None for grad in grads)


def _path(norm: _Norm, added: list[Tensor], out: Tensor, site: FfnSite, readout: Readout) -> _Path | None:
    calls = [call for call, leaf in enumerate(added) if _depends(norm.x, [leaf])]
    over_channels = type(norm.module).__name__.endswith("2d") or norm.x.shape[0] != len(out)
    if len(calls) != 1 or any(obstacles(norm.x, added)) or over_channels:
        return None
    reads = _reads(norm, out, readout)  # (images or 1, q, rows, d)
    read = reads.flatten(0, 1).ne(0).any(2).any(0).nonzero()[:, 0]
    mixing = _mix(norm.x, added[calls[0]], read, site)
    if mixing is None:
        return None
    rows = norm.x.detach().reshape(len(out), -1, norm.x.shape[-1])[:, read]
    return _Path(norm.module, calls[0], rows, mixing[0], mixing[1], reads[:, :, read])


def _reads(norm: _Norm, out: Tensor, readout: Readout) -> Tensor:
    """(images, 1, rows, d) for one output an image; (1, q, rows, d) where each image has the same q."""
    if readout.texts is None:
        grad = torch.autograd.grad(out.sum(), norm.y, retain_graph=True)[0]
        return grad.reshape(len(out), 1, -1, grad.shape[-1])
    grads = [torch.autograd.grad(output, norm.y, retain_graph=True)[0][0] for output in out[0]]
    return torch.stack([grad.reshape(-1, grad.shape[-1]) for grad in grads])[None]


def _mix(x: Tensor, added: Tensor, read: Tensor, site: FfnSite) -> tuple[Tensor, Tensor] | None:
    """(rows read, tokens) and (d,): row = mix @ tokens * scale, from gradients of the first image; None if not so."""
    batch, d = x.shape[0], x.shape[-1]
    rows = x.reshape(batch, -1, d)

    def pulled(seed: Tensor) -> Tensor:
        """(tokens, d): the gradient of the first image's rows, weighted by seed (rows read, d)."""
        return sequence(torch.autograd.grad(rows[0, read], added, seed, retain_graph=True)[0], site)[0]

    ones = torch.ones(len(read), d, dtype=x.dtype, device=x.device)
    scale_at = pulled(ones)
    scale = scale_at[scale_at.abs().sum(1).argmax()]
    if len(read) == 1:
        mix = (scale_at @ scale / scale.square().sum())[None]
    else:  # each row takes one token, or this does not hold and is refused below
        strongest = scale.abs().argmax()
        numbered = torch.arange(1, len(read) + 1, dtype=x.dtype, device=x.device)
        row = (pulled(numbered[:, None] * ones)[:, strongest] / scale[strongest]).round().long()
        mix = functional.one_hot(row.clamp(0, len(read)), len(read) + 1)[:, 1:].T.to(x.dtype)
    generator = torch.Generator().manual_seed(0)
    seed = torch.randn(len(read), d, generator=generator, dtype=torch.float64).to(x)
    holds = torch.allclose(pulled(seed), (mix.T @ seed) * scale, rtol=1e-4, atol=1e-5 * float(scale.abs().max()))
    return (mix.detach(), scale.detach()) if holds else None
