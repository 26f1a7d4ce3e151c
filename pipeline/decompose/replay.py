"""The model's own forward as an affine map: attention and FFNs answer from what they are given, norms are frozen.

Everything else runs as the library wrote it: patch merging, pooling and positional convolutions, sums across scales,
the readout.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.decompose.activation_cache import ActivationCache, gate_path, multiplied
from pipeline.decompose.attention import QueriesAndKeys, as_given, open_up, output_projection
from pipeline.decompose.convolutions import linear_convolutions
from pipeline.hooks.frozen import centred, gain, is_norm, shift, stub
from pipeline.models import LoadedModel
from pipeline.models.representation import representation

Calls = dict[str, list[Tensor]]


@dataclass
class Replay:
    """The representation that a replay gave, with the tensors it passed through.

    heads: of each attention's calls, as given or as computed; values: of live attention, as `QueriesAndKeys` keeps
    them.
    """

    representation: Tensor  # (images, d)
    heads: Calls = field(default_factory=dict)
    values: Calls = field(default_factory=dict)


def replay(
    model: LoadedModel,
    cache: ActivationCache,
    image: Tensor,
    convolutions: Calls,
    heads: Calls | None,
    ffns: Calls | None,
    *,
    cut: bool = False,
    projected: Collection[str] = (),
    twice: bool = True,
) -> Replay:
    """The representation as an affine function of all that is given, from the model's own forward.

    image: normalised pixels. convolutions: what convolution blocks add. heads: what each attention's output projection
    receives; None: attention is live in its values, with cached queries and keys. ffns: the outputs of FFNs; None:
    they are live, with cached gates. cut: the values of live attention are leaves: no gradient passes them. projected:
    paths of attention whose `heads` are what the output projection gives, not what it receives. twice: derivatives of
    live attention are themselves differentiated; without it, attention weights need not be kept.
    """
    head_calls: Calls = {}
    values: Calls = {}
    mode = QueriesAndKeys(cache.maps, cache.queries_and_keys, replay=True, cut=cut)
    with ExitStack() as stack:
        linear_convolutions(stack, model.module, cache.maps)
        for site in model.description.attention_sites:
            module = model.module.get_submodule(site.path)
            if heads is None:
                open_up(stack, site.path, module)
                mode.within(stack, module)
                calls = head_calls.setdefault(site.path, [])
                hook = output_projection(module).register_forward_pre_hook(
                    lambda m, args, calls=calls: calls.append(args[0])
                )
                stack.callback(hook.remove)
            else:
                given = iter(heads[site.path])
                answer = _written if site.path in projected else _projected
                stub(stack, module, answer(module, given))
        for ffn in model.description.ffn_sites:
            module = model.module.get_submodule(ffn.path)
            if ffns is not None:
                stub(stack, module, _answer(iter(ffns[ffn.path])))
            else:
                path = gate_path(ffn)
                gates = iter(cache.gates[path])
                stub(stack, model.module.get_submodule(path), _gated(gates, multiplied(module)))
        for path, block_outputs in convolutions.items():
            stub(stack, model.module.get_submodule(path), _answer(iter(block_outputs)))
        for path, module in model.module.named_modules():
            if is_norm(module):
                stub(stack, module, _frozen(module, iter(cache.scales[path])))
        if heads is None:
            values = stack.enter_context(mode).values
            if twice:  # other kernels have no second derivative, by which a component alone is pushed forward
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        return Replay(representation(model, image), heads if heads is not None else head_calls, values)


@dataclass
class Written:
    """What FFNs write into the values of attention.

    values: by `FrozenMap.path` and call. outputs: by path and call of the FFN, the leaves that values depend on: what
    its last map gives. hidden: what that map receives, hidden vectors after activation (and gate, and norm).
    """

    values: Calls
    outputs: Calls = field(default_factory=dict)
    hidden: Calls = field(default_factory=dict)


def written_values(model: LoadedModel, cache: ActivationCache, image: Tensor) -> Written:
    """Values of all attention, affine in what FFNs write along the residual path: heads are held.

    cache: with queries and keys. image: normalised pixels.
    """
    hidden: Calls = {}
    outputs: Calls = {}

    def write(path: str, post: nn.Module, args: Any, out: Tensor) -> Tensor:
        hidden.setdefault(path, []).append(args[0].detach())
        outputs.setdefault(path, []).append(out.detach().clone().requires_grad_())
        return outputs[path][-1]

    with ExitStack() as stack:
        mode = QueriesAndKeys(cache.maps, cache.queries_and_keys, replay=True)
        for site in model.description.attention_sites:
            module = model.module.get_submodule(site.path)
            open_up(stack, site.path, module)
            mode.within(stack, module)
            hook = output_projection(module).register_forward_pre_hook(lambda m, args: args[0].detach())
            stack.callback(hook.remove)
        for ffn in model.description.ffn_sites:
            post = model.module.get_submodule(ffn.post)
            hook = post.register_forward_hook(lambda m, args, out, path=ffn.path: write(path, m, args, out))
            stack.callback(hook.remove)
        for path, given in cache.convolutions.items():
            stub(stack, model.module.get_submodule(path), _answer(iter(given)))
        for path, module in model.module.named_modules():
            if is_norm(module):
                stub(stack, module, _frozen(module, iter(cache.scales[path])))
        stack.enter_context(mode)
        representation(model, image)
    return Written(mode.values, outputs, hidden)


def _projected(module: nn.Module, given: Iterator[Tensor]) -> Callable[..., Any]:
    projection = output_projection(module)
    if isinstance(module, nn.MultiheadAttention):
        return lambda *args, **options: (projection(next(given)), None)
    return lambda x, *args, **options: as_given(projection(next(given)), x)


def _written(module: nn.Module, given: Iterator[Tensor]) -> Callable[..., Any]:
    if isinstance(module, nn.MultiheadAttention):
        return lambda *args, **options: (next(given), None)
    return lambda x, *args, **options: as_given(next(given), x)


def _answer(given: Iterator[Tensor]) -> Callable[..., Any]:
    return lambda *args, **options: next(given)


def _gated(gates: Iterator[Tensor], is_product: bool) -> Callable[[Tensor], Tensor]:
    return lambda z: next(gates) if is_product else z * next(gates)


def _frozen(norm: nn.Module, scales: Iterator[Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: centred(norm, x) * next(scales) * gain(norm) + shift(norm)
