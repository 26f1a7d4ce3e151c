"""FFN and attention sites of a model: found by its family's description, measured on one forward without data.

Shapes are never computed from formulas: the model runs once on the meta device and what its modules received
is read. Prefix tokens and patch grids follow from these shapes and from the grids of the convolutions before
them.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from atlas_schema.errors import SiteMissing, UnknownFamily
from pipeline.models.families.family import Family
from pipeline.models.flops import RunningFlops

# FFNs whose output map (named) takes a mix of several values of a token, so that no single row makes a unit
GATED = {"GluMlp": "fc2", "SwiGLU": "fc2", "GatedMlp": "fc2", "GlobalResponseNormMlp": "fc2", "GeGluMlp": "w2"}
# the same of several tokens: a convolution stands between the two maps
CONVOLVED = {"MlpWithDepthwiseConv": "fc2"}
TRACE_BATCH = 3  # tells the batch axis from the token axis in a traced shape


@dataclass(frozen=True)
class FfnSite:
    """One feed-forward module. Paths are module paths from the model; sizes are those of the traced input."""

    layer: int
    path: str
    width: int  # hidden units: neurons
    # module whose output is the value before the activation function; "" where there is no such value
    pre: str
    post: str  # module whose input is the hidden vector after activation (and gate, and norm)
    activation: str  # class name of the activation function
    grids: tuple[tuple[int, int], ...]  # patch grid (height, width) of each call
    prefix_tokens: tuple[str, ...]
    layout: str  # of the hidden vector: "NLC" | "LNC" | "NHWC" | "NCHW"
    depth: float  # share of the forward's FLOPs up to and including the site, 0..1
    flops: int  # from the input up to and including the hidden vector of the last call, one image
    expand: str = ""  # linear map whose row u alone makes unit u; "" where a unit needs more than its row
    act: str = ""  # the activation module; "" where there is no `pre`


@dataclass(frozen=True)
class AttentionSite:
    """One attention module; `kind` is how its queries see keys."""

    layer: int
    path: str
    heads: int
    head_dim: int
    kind: str  # "global" | "window" | "grid" | "factorised" | "pooled" | "positional"
    grids: tuple[tuple[int, int], ...]
    prefix_tokens: tuple[str, ...]
    depth: float


@dataclass(frozen=True)
class FfnParts:
    """Names of the parts inside an FFN module; "" where the form has none."""

    pre: str
    post: str
    expand: str
    act: str
    activation: str


@dataclass
class _Call:
    shape: tuple[int, ...]
    grid: tuple[int, int]
    prefix: tuple[str, ...]
    layout: str
    flops: int


@dataclass
class _Trace:
    """What one forward showed: calls per module path in order of first execution, and the total FLOPs."""

    calls: dict[str, list[_Call]] = field(default_factory=dict)
    flops: int = 0


def ffn_parts(module: nn.Module) -> FfnParts | None:
    """The parts of an FFN-like module, or None. Covers timm's and open_clip's forms:

    fc1 - act - [norm] - fc2 (`Mlp`); fc1 - norm - act - fc2 (`ConvMlp`); c_fc - gelu - [ln] - c_proj
    (open_clip); and those of GATED and CONVOLVED.
    """
    kind = type(module).__name__
    if isinstance(module, nn.Sequential) and {"c_fc", "gelu", "c_proj"} <= set(module._modules):
        return _plain_parts(module, "c_fc", "gelu", "c_proj", norm="ln")
    plain = {"fc1", "act", "fc2"} <= set(module._modules)  # other libraries' classes share the names
    if kind == "ConvMlp" and plain:
        parts = _plain_parts(module, "fc1", "act", "fc2", norm="norm")
        return parts if parts.expand else replace(parts, pre="norm")
    if kind == "Mlp" and plain:
        return _plain_parts(module, "fc1", "act", "fc2", norm="norm")
    post = (GATED | CONVOLVED).get(kind)
    if post is not None and {post, "act"} <= set(module._modules):
        return FfnParts("", post, "", "", type(module.get_submodule("act")).__name__)
    return None


def _plain_parts(module: nn.Module, expand: str, act: str, post: str, *, norm: str) -> FfnParts:
    activation = module.get_submodule(act)
    # a unit is made from its row alone only by a linear map, an activation that treats all units alike, and
    # without a norm, which would mix units
    normed = not isinstance(module._modules.get(norm, nn.Identity()), nn.Identity)
    alone = not normed and _is_row_wise(module.get_submodule(expand)) and not list(activation.parameters())
    name = type(activation).__name__
    return FfnParts(expand, post, expand if alone else "", act, name)


def _is_row_wise(module: nn.Module) -> bool:
    if type(module) is nn.Linear:
        return True
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def heads_of(module: nn.Module) -> tuple[int, int] | None:
    """(heads, channels of a head) of an attention-like module, or None."""
    heads = getattr(module, "num_heads", None)
    if not isinstance(heads, int):
        return None
    if isinstance(module, nn.MultiheadAttention):
        return heads, module.head_dim
    projection = getattr(module, "proj", None) or getattr(module, "out_proj", None)
    return (heads, _inputs_of(projection) // heads) if isinstance(projection, nn.Linear | nn.Conv2d) else None


def attention_kind(family: Family, module: nn.Module, path: str, block: nn.Module) -> str:
    """How the queries of an attention module, in its block, see keys, as its family says."""
    if family.windows_of_block and getattr(block, family.windows_of_block) > 0:
        return "window"
    if family.pooling_ratio and getattr(module, family.pooling_ratio, 1) > 1:
        return "pooled"
    if family.pooling_part and module._modules.get(family.pooling_part) is not None:
        return "pooled"
    names = {type(module).__name__, *path.split(".")}
    return next((kind for name, kind in family.attention_kinds if name in names), "global")


def find_sites(
    family: Family, model: nn.Module, input_size: tuple[int, int]
) -> tuple[tuple[FfnSite, ...], tuple[AttentionSite, ...], int]:
    """All sites in the order of execution, and the forward FLOPs of one image.

    `model` is on the meta device and in eval mode; it is run once and left as it was. UnknownFamily if the
    model has FFNs or attention where the family expects none, or none where it expects some.
    """
    modules = dict(model.named_modules())
    ffn_paths, attention_paths = _match(family, modules)
    trace = _run(model, family, input_size, ffn_paths, attention_paths)
    _check_ran(family, trace, ffn_paths | attention_paths)
    ffns = [path for path in trace.calls if path in ffn_paths]
    attentions = [path for path in trace.calls if path in attention_paths]
    return (
        tuple(_ffn_site(layer, path, modules[path], trace) for layer, path in enumerate(ffns)),
        tuple(_attention_site(layer, path, modules, trace, family) for layer, path in enumerate(attentions)),
        trace.flops,
    )


def ffn_like(model: nn.Module) -> list[str]:
    """Paths of modules that look like an FFN."""
    return [path for path, module in model.named_modules() if ffn_parts(module) is not None]


def attention_like(model: nn.Module) -> list[str]:
    """Paths of modules that look like multi-head attention."""
    return [path for path, module in model.named_modules() if heads_of(module) is not None]


def _match(family: Family, modules: dict[str, nn.Module]) -> tuple[set[str], set[str]]:
    candidates = {
        "FFN": {path for path, module in modules.items() if ffn_parts(module) is not None},
        "attention": {path for path, module in modules.items() if heads_of(module) is not None},
    }
    wanted = {"FFN": family.ffn, "attention": family.attention}
    matched: dict[str, set[str]] = {}
    for what, pattern in wanted.items():
        matched[what] = {path for path in candidates[what] if re.fullmatch(pattern, path)}
        strays = {p for p in candidates[what] - matched[what] if not re.fullmatch(family.outside, p)}
        expected = {path for path in modules if re.fullmatch(pattern, path)} - matched[what]
        if strays or expected or not matched[what]:
            raise UnknownFamily(_misfit(family, what, pattern, matched[what], strays, expected))
    return matched["FFN"], matched["attention"]


def _misfit(family: Family, what: str, pattern: str, matched: set[str], strays: set[str], odd: set[str]) -> str:
    lines = [f"The model does not have the form of the family {family.name!r}: its {what} sites are `{pattern}`."]
    lines.append(f"  matched: {len(matched)}")
    if strays:
        lines.append(f"  {what}-like modules elsewhere: {_some(strays)}")
    if odd:
        lines.append(f"  modules at such a path without the parts of {what}: {_some(odd)}")
    lines.append("Describe the form in pipeline/models/families/ (docs/families.md shows how).")
    return "\n".join(lines)


def _some(paths: set[str] | list[str], n: int = 4) -> str:
    ordered = sorted(paths)
    return ", ".join(ordered[:n]) + (f" and {len(ordered) - n} more" if len(ordered) > n else "")


def _run(model: nn.Module, family: Family, input_size: tuple[int, int], ffns: set[str], attentions: set[str]) -> _Trace:
    """One forward on the meta device with a hook at every site and every convolution."""
    trace = _Trace()
    grids: list[tuple[int, int]] = []
    prefix = family.prefix(model)
    weight = next(model.parameters())

    def note_call(path: str, x: Tensor, channels: int, flops: int) -> None:
        layout = layout_of(tuple(x.shape), channels)
        grid, before = grid_of(tuple(x.shape), layout, grids, prefix)
        trace.calls.setdefault(path, []).append(_Call(tuple(x.shape), grid, before, layout, flops))

    def saw_map(module: nn.Module, args: Any, out: Tensor) -> None:
        if out.ndim == 4 and out.shape[0] == TRACE_BATCH:
            # linear maps act on the last axis, convolutions on axis 1
            height, width = out.shape[1:3] if isinstance(module, nn.Linear) else out.shape[2:4]
            grids.append((int(height), int(width)))

    def ffn_hook(path: str) -> Callable[..., None]:
        return lambda module, args: note_call(path, args[0], _inputs_of(module), counter.so_far)

    def attention_hook(path: str) -> Callable[..., None]:
        return lambda module, args, out: note_call(path, args[0], _attended(module), counter.so_far)

    with ExitStack() as hooks, RunningFlops() as counter:
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                hooks.callback(module.register_forward_hook(saw_map).remove)
        for path in ffns:
            module = model.get_submodule(path)
            parts = ffn_parts(module)
            assert parts is not None
            hooks.callback(module.get_submodule(parts.post).register_forward_pre_hook(ffn_hook(path)).remove)
        for path in attentions:
            hooks.callback(model.get_submodule(path).register_forward_hook(attention_hook(path)).remove)
        model(torch.zeros(TRACE_BATCH, 3, *input_size, device=weight.device, dtype=weight.dtype))
        trace.flops = counter.so_far // TRACE_BATCH
    return trace


def _inputs_of(module: nn.Module) -> int:
    """Channels that a linear map or a convolution takes; UnknownFamily where a module is neither."""
    if isinstance(module, nn.Linear):
        return module.in_features
    if isinstance(module, nn.Conv2d):
        return module.in_channels
    raise UnknownFamily(
        f"A module of the class {type(module).__name__} stands where an FFN or an attention has a linear map or a "
        "convolution: what enters it is not one neuron a channel (docs/families.md)."
    )


def _attended(module: nn.Module) -> int:
    """Channels that an attention module receives."""
    if isinstance(module, nn.MultiheadAttention):
        return int(module.embed_dim)
    named = ("qkv", "q", "qk", "q_proj", "out_proj")  # open_clip's own attention keeps its input map packed
    first = next((module._modules[name] for name in named if module._modules.get(name)), None)
    if first is None:
        raise UnknownFamily(
            f"{type(module).__name__}, an attention module, has no map of a name that is known ({', '.join(named)}): "
            "how many channels it receives cannot be told. Name the map in pipeline/models/sites.py."
        )
    return _inputs_of(first)


def layout_of(shape: tuple[int, ...], channels: int) -> str:
    """Axis order of a traced activation; "windows" where the batch axis is folded into windows."""
    if len(shape) == 4 and shape[0] == TRACE_BATCH:
        if shape[-1] == channels:
            return "NHWC"
        if shape[1] == channels:
            return "NCHW"
    if len(shape) == 3 and shape[-1] == channels and TRACE_BATCH in shape[:2]:
        return "NLC" if shape[0] == TRACE_BATCH else "LNC"
    return "windows"


def grid_of(
    shape: tuple[int, ...], layout: str, grids: list[tuple[int, int]], prefix: tuple[str, ...]
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """Patch grid and prefix tokens of a traced activation; (0, 0) where only its block's FFN can tell
    (windows).

    A token sequence says only its length: it must be the patches of the latest convolution map that fits,
    behind either all prefix tokens of the model or none of them.
    """
    if layout == "windows":
        return (0, 0), ()
    if layout in ("NHWC", "NCHW"):
        return ((shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])), ()
    tokens = shape[1] if layout == "NLC" else shape[0]
    for before in (prefix, ()):
        for height, width in reversed(grids):
            if tokens == height * width + len(before):
                return (height, width), before
    raise UnknownFamily(
        f"A site received {tokens} tokens, which is no patch grid of the model ({grids}) with its prefix tokens "
        f"{prefix} or without them. Name the prefix tokens in the family's description (docs/families.md)."
    )


def _check_ran(family: Family, trace: _Trace, paths: set[str]) -> None:
    idle = paths - set(trace.calls)
    if idle:
        raise UnknownFamily(
            f"Sites of the family {family.name!r} that the forward pass never calls as modules: {_some(idle)}. "
            "Their activations cannot be read; describe the form in pipeline/models/families/ (docs/families.md)."
        )


def _ffn_site(layer: int, path: str, module: nn.Module, trace: _Trace) -> FfnSite:
    parts, calls = ffn_parts(module), trace.calls[path]
    assert parts is not None
    if len({(call.prefix, call.layout) for call in calls}) > 1 or calls[0].layout == "windows":
        raise UnknownFamily(
            f"{path} is called with hidden vectors of shapes {[c.shape for c in calls]}: mixed layouts."
        )

    def within(name: str) -> str:
        return f"{path}.{name}" if name else ""

    flops = calls[-1].flops // TRACE_BATCH
    return FfnSite(
        layer=layer,
        path=path,
        width=_inputs_of(module.get_submodule(parts.post)),
        pre=within(parts.pre),
        post=within(parts.post),
        activation=parts.activation,
        grids=tuple(call.grid for call in calls),
        prefix_tokens=calls[0].prefix,
        layout=calls[0].layout,
        depth=flops / trace.flops,
        flops=flops,
        expand=within(parts.expand),
        act=within(parts.act),
    )


def _attention_site(
    layer: int, path: str, modules: dict[str, nn.Module], trace: _Trace, family: Family
) -> AttentionSite:
    module, calls = modules[path], trace.calls[path]
    heads, head_dim = heads_of(module) or (0, 0)
    own = calls[0].layout != "windows"
    shown = calls if own else [_next_ffn_call(path, trace)]
    return AttentionSite(
        layer=layer,
        path=path,
        heads=heads,
        head_dim=head_dim,
        kind=attention_kind(family, module, path, modules[path.rpartition(".")[0]]),
        grids=tuple(call.grid for call in shown),
        prefix_tokens=shown[0].prefix,
        depth=calls[-1].flops / TRACE_BATCH / trace.flops,
    )


def _next_ffn_call(path: str, trace: _Trace) -> _Call:
    """Attention inside windows has lost the patch grid; the FFN behind it in the same block has it."""
    paths = list(trace.calls)
    later = (call for p in paths[paths.index(path) + 1 :] for call in trace.calls[p] if call.layout != "windows")
    following = next(later, None)
    if following is None:
        raise SiteMissing(f"{path} works in windows and no FFN follows it: its patch grid cannot be read.")
    return following
