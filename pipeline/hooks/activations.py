"""Reading hidden activations of FFN sites by hooks, which are removed whatever happens.

A forward that is asked for one site stops there: the hook that has read what it needs raises, so that nothing
behind the site runs. Nothing here turns gradients on or off: with a differentiable `x` the results are
differentiable with respect to `x`, and under autocast they are computed as autocast says.

A site of a shared module fires several times per forward (CoaT: one FFN, three scales): results are lists
over calls. Only patch tokens are returned, in row-major order of the site's grid for that call. One model
must not be hooked from two threads at once.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from atlas_schema.errors import SiteMissing
from pipeline.models import LoadedModel
from pipeline.models.sites import FfnSite


class _Reached(Exception):
    """Raised inside a hook to end the forward; never leaves this module."""


def ffn_activations(model: LoadedModel, site: FfnSite, x: Tensor, units: Tensor | None = None) -> list[Tensor]:
    """Hidden activations after the activation function, one tensor per call of the site.

    x: (batch, 3, height, width), normalised. units: None for all units, each (batch, tokens, width); or
    (batch,) long, one unit per image, each (batch, tokens).
    """
    return [after for _, after in _read(model, site, x, units, before=False)]


def ffn_pre_and_post(
    model: LoadedModel, site: FfnSite, x: Tensor, units: Tensor | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Values before and after the activation function, both as in `ffn_activations`, from one forward.

    SiteMissing where the FFN has no value of the unit before an activation function: in a gated FFN the unit
    is a product of two.
    """
    if not site.pre:
        raise SiteMissing(
            f"{site.path} has no value before an activation function: its hidden vector is a gated product "
            f"({site.activation}). Use the value after it (ffn_activations)."
        )
    return [(before, after) for before, after in _read(model, site, x, units, before=True) if before is not None]


def all_ffn_activations(model: LoadedModel, x: Tensor) -> dict[int, list[Tensor]]:
    """The hidden activations of all FFN sites from one whole forward: layer -> one (batch, tokens, width) tensor per
    call.
    """
    activations: dict[int, list[Tensor]] = {}
    stream_ffn_activations(model, x, activations.__setitem__)
    return dict(sorted(activations.items()))


def stream_ffn_activations(
    model: LoadedModel, x: Tensor, take: Callable[[int, list[Tensor]], None], *, to_the_end: bool = False
) -> None:
    """Hand out the hidden activations of every FFN site of one forward: take(layer, one (batch, tokens, width) tensor
    per call), as each has fired.

    Nothing of a site is held after `take` returns, and what comes behind the last one never runs; but with
    `to_the_end`, for tracers, which follow no exception out of a module.
    """
    sites = {site.layer: site for site in model.description.ffn_sites}
    calls: dict[int, list[Tensor]] = {layer: [] for layer in sites}
    waiting = set(sites)

    def reader(site: FfnSite) -> Callable[..., None]:
        def read(module: nn.Module, args: Any) -> None:
            calls[site.layer].append(_patches(args[0], site))
            if len(calls[site.layer]) == len(site.grids):
                take(site.layer, calls.pop(site.layer))
                waiting.remove(site.layer)
                if not waiting and not to_the_end:
                    raise _Reached

        return read

    with ExitStack() as hooks:
        for site in sites.values():
            post = model.module.get_submodule(site.post)
            hooks.callback(post.register_forward_pre_hook(reader(site)).remove)
        try:
            model.module(x)
        except _Reached:
            return
    if not waiting:
        return
    missed = ", ".join(sites[layer].path for layer in sorted(waiting))
    raise SiteMissing(
        f"{model.description.slug}: {missed} did not fire as often in a forward as described: the sites are of "
        "another model, or the model was changed since it was described."
    )


def _read(
    model: LoadedModel, site: FfnSite, x: Tensor, units: Tensor | None, *, before: bool
) -> list[tuple[Tensor | None, Tensor]]:
    if units is None:
        return list(_whole_hidden(model, site, x, before))
    if site.expand:
        return list(_own_units(model, site, x, units))
    gathered = []
    for pre, post in _whole_hidden(model, site, x, before):
        gathered.append((None if pre is None else _gather(pre, units), _gather(post, units)))
    return gathered


def _gather(hidden: Tensor, units: Tensor) -> Tensor:
    """(batch, tokens, width), (batch,) -> (batch, tokens): each image's own unit."""
    index = units.to(hidden.device)[:, None, None].expand(-1, hidden.shape[1], 1)
    return hidden.gather(2, index).squeeze(2)


def _whole_hidden(model: LoadedModel, site: FfnSite, x: Tensor, before: bool) -> Iterator[tuple[Tensor | None, Tensor]]:
    pre: list[Tensor] = []
    post: list[Tensor] = []
    calls = len(site.grids)

    def read_pre(module: nn.Module, args: Any, out: Tensor) -> None:
        pre.append(_kept(out, model.module.get_submodule(site.act)))

    def read_post(module: nn.Module, args: Any) -> None:
        post.append(args[0])
        if len(post) == calls:
            raise _Reached

    with ExitStack() as hooks:
        if before:
            hooks.callback(model.module.get_submodule(site.pre).register_forward_hook(read_pre).remove)
        hooks.callback(model.module.get_submodule(site.post).register_forward_pre_hook(read_post).remove)
        _forward_until_reached(model, site, x, post)
    for call, after in enumerate(post):
        yield (_patches(pre[call], site) if before else None), _patches(after, site)


def _own_units(model: LoadedModel, site: FfnSite, x: Tensor, units: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """z = W[unit] . x_hat + b[unit], h = act(z): one row of the expansion per image, not all of them."""
    expand: Any = model.module.get_submodule(site.expand)
    act = model.module.get_submodule(site.act)
    inputs: list[Tensor] = []
    calls = len(site.grids)

    def read_input(module: nn.Module, args: Any) -> None:
        inputs.append(args[0])
        if len(inputs) == calls:
            raise _Reached

    with ExitStack() as hooks:
        hooks.callback(expand.register_forward_pre_hook(read_input).remove)
        _forward_until_reached(model, site, x, inputs)
    weight = expand.weight.flatten(1)[units.to(x.device)]  # (batch, channels)
    bias = None if expand.bias is None else expand.bias[units.to(x.device)][:, None]  # (batch, 1)
    for received in inputs:
        tokens = sequence(received, site)  # (batch, tokens and prefix, channels)
        # the prefix is multiplied too and dropped after: without it the rows would have to be copied together
        z = torch.matmul(tokens, weight[:, :, None]).squeeze(2)[:, len(site.prefix_tokens) :]  # (batch, tokens)
        z = z if bias is None else z + bias
        yield z, act(_kept(z, act))


def _kept(z: Tensor, act: nn.Module) -> Tensor:
    """z as it can be handed out: a copy where the activation function would overwrite it."""
    return z.clone() if getattr(act, "inplace", False) else z


def _forward_until_reached(model: LoadedModel, site: FfnSite, x: Tensor, read: list[Tensor]) -> None:
    try:
        model.module(x)
    except _Reached:
        return
    raise SiteMissing(
        f"{model.description.slug}: {site.path} fired {len(read)} times in a forward, not "
        f"{len(site.grids)}: it is of another model, or the model was changed since it was described."
    )


def _patches(hidden: Tensor, site: FfnSite) -> Tensor:
    """Patch tokens of a tensor of the site's layout as (batch, tokens, channels)."""
    return sequence(hidden, site)[:, len(site.prefix_tokens) :]


def sequence(hidden: Tensor, site: FfnSite) -> Tensor:
    """All tokens of a tensor of the site's layout as (batch, tokens, channels), prefix first."""
    if site.layout == "NLC":
        return hidden
    if site.layout == "LNC":
        return hidden.transpose(0, 1)
    if site.layout == "NHWC":
        return hidden.flatten(1, 2)
    return hidden.flatten(2).transpose(1, 2)
