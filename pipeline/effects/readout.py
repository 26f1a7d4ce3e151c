"""What a neuron's output direction writes to: the model's outputs, through all that is linear behind it.

With attention and all other FFNs held at their values, and the statistics of norms (and of a CLIP the length of the
embedding) held too, the outputs depend by a linear map on what an FFN adds to the residual stream. Its derivative is
the *direct* effect: what one unit of activation, on every token at once, adds to each output. It is taken at each of
some images and averaged; a norm thereby enters with the mean of its reciprocal deviations.

No family is described here. The model runs as its library wrote it, hooks cut the gradient behind attention and FFNs,
and the gradient that is left is the map: patch merging, pooling convolutions and layer scale are linear, and part of
it. The gradient's own graph shows whether all that it passed is linear; where it is not, there is no number, but a
reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.hooks.frozen import centred, gain, is_norm, reciprocal_deviation
from pipeline.models import FfnSite, LoadedModel
from pipeline.models.representation import classifiers, is_clip
from pipeline.zoo import output_names

# Nodes of autograd's graph, without `Backward` and number, that are linear in what they differentiate
_LINEAR = frozenset(
    (
        "AccumulateGrad",
        "AdaptiveAvgPool2D",
        "Add",
        "Alias",
        "AsStrided",
        "AvgPool2D",
        "Cat",
        "Clone",
        "ConstantPadNd",
        "CudnnBatchNorm",
        "Expand",
        "Gather",
        "Index",
        "IndexSelect",
        "Mean",
        "NativeBatchNorm",
        "Neg",
        "Permute",
        "Repeat",
        "ReshapeAlias",
        "Roll",
        "Select",
        "Slice",
        "Split",
        "SplitWithSizes",
        "Squeeze",
        "Stack",
        "Sub",
        "Sum",
        "T",
        "ToCopy",
        "Transpose",
        "Unbind",
        "UnsafeView",
        "Unsqueeze",
        "UpsampleBicubic2D",
        "UpsampleBilinear2D",
        "View",
    )
)
# ... and those that are as long as they differentiate one operand only
_BILINEAR = frozenset(("Addmm", "Bmm", "Convolution", "Div", "Mm", "Mul", "Mv"))


@dataclass(frozen=True)
class Readout:
    """How a model's outputs are read: as the logits of a classifier, or as cosines with texts.

    `reason`: why nothing can be read; the rest is then empty.
    """

    names: tuple[str, ...] = ()  # classes or texts
    texts: Tensor | None = None  # (texts, d), each of length 1, on the model's device; None: logits
    reason: str = ""

    def outputs(self, model: LoadedModel, x: Tensor, *, frozen: bool = False) -> Tensor:
        """The outputs of some images, (images, names). x: normalised. frozen: the length of the embedding takes no
        gradient.
        """
        out = model.module(x)
        out = out[0] if isinstance(out, tuple) else out
        if self.texts is None:
            return out
        length = out.norm(dim=-1, keepdim=True)
        return (out / (length.detach() if frozen else length)) @ self.texts.to(out).T


@dataclass(frozen=True)
class SiteEffect:
    """The direct effect of all neurons of a site on all outputs: `effect` (names, width), output per unit of
    activation; or None, and why.
    """

    layer: int
    effect: Tensor | None
    reason: str = ""


def readout_of(
    model: LoadedModel, *, names: Sequence[str] | None = None, texts: tuple[Sequence[str], Tensor] | None = None
) -> Readout:
    """The readout of a model, or the reason why it has none.

    names: of the classes, default `class_names`. texts: texts and their embeddings (texts, d) of the model's own text
    tower, which a CLIP needs. BadConfig where names or embeddings are of another number or size than the outputs.
    """
    if is_clip(model):
        if texts is None:
            return Readout(reason="the output of a CLIP is read by texts, and none were given")
        _check(len(texts[0]), len(texts[1]), "texts", "embeddings")
        _check(texts[1].shape[1], outputs_of(model), "numbers in an embedding of a text", "in one of a picture")
        vectors = functional.normalize(texts[1].to(model.device), dim=1)
        return Readout(tuple(texts[0]), vectors)
    heads = classifiers(model.module)
    if not heads:
        return Readout(reason="the model has no classifier: its output is the representation")
    if not any(bool(parameter.any()) for head in heads for parameter in head.parameters()):
        return Readout(reason="the classifier is all zero: the weights came without one")
    count = outputs_of(model)
    given = tuple(names) if names is not None else class_names(model)
    _check(len(given) if given else count, count, "names of classes", "outputs")
    return Readout(given or tuple(f"class {i}" for i in range(count)))


def _check(count: int, expected: int, what: str, of: str) -> None:
    if count != expected:
        raise BadConfig(f"{count} {what}, {expected} {of}: expected as many.")


@torch.no_grad()
def outputs_of(model: LoadedModel) -> int:
    """How many outputs a model has, from one forward."""
    weight = next(p for p in model.module.parameters() if p.is_floating_point())
    out = model.module(torch.zeros(1, 3, *model.description.input_size, device=model.device, dtype=weight.dtype))
    return int((out[0] if isinstance(out, tuple) else out).shape[-1])


def class_names(model: LoadedModel) -> tuple[str, ...]:
    """Names of a classifier's outputs where they are known for certain; else ().

    The zoo's: `attribute: value`, in the order of its outputs. timm's: ImageNet's, where the tag of the weights says
    that they were trained on it; of a user's own weights nothing is assumed.
    """
    source, _, name = model.description.id.partition("/")
    if source == "zoo":
        return output_names(name)
    if source == "timm" and "_in" in name.partition(".")[2]:
        from timm.data import ImageNetInfo, infer_imagenet_subset

        subset = infer_imagenet_subset(model.module)
        if subset is not None:
            info = ImageNetInfo(subset)
            return tuple(info.index_to_description(i) for i in range(info.num_classes()))
    return ()


# ------------------------------------------------------------------------------------------------ direct effects


def direct_effects(model: LoadedModel, readout: Readout, images: Iterable[Tensor]) -> list[SiteEffect]:
    """Direct effects of all neurons of all sites on all outputs, averaged over images.

    images: batches (images, 3, height, width) in [0, 1]; some dozens of images are enough for the mean of the norms.
    One backward pass an output and batch, of the residual path alone. BadConfig without images.
    """
    sites = model.description.ffn_sites
    if readout.reason:
        return [SiteEffect(site.layer, None, readout.reason) for site in sites]
    sums: list[Tensor | None] = [None for _ in sites]
    reasons = ["" for _ in sites]
    count = 0
    for x01 in images:
        dtype = next(p.dtype for p in model.module.parameters() if p.is_floating_point())
        gradients, obstacles_found = _site_gradients(model, readout, model.normalise(x01.to(model.device, dtype)))
        count += len(x01)
        reasons = [reason or new for reason, new in zip(reasons, obstacles_found, strict=True)]
        sums = [new if old is None else old + new for old, new in zip(sums, gradients, strict=True)]
    if not count:
        raise BadConfig("no images to freeze the norms at: the probe set is empty.")
    return [_site_effect(model, *args, count) for args in zip(sites, sums, reasons, strict=True)]


def _site_effect(model: LoadedModel, site: FfnSite, total: Tensor | None, reason: str, count: int) -> SiteEffect:
    if reason or total is None:
        return SiteEffect(site.layer, None, reason)
    if not bool(total.any()):
        return SiteEffect(site.layer, None, "the tokens it writes to do not reach the readout along the residual path")
    return SiteEffect(site.layer, (total / count).float() @ columns(model, site).float())


def columns(model: LoadedModel, site: FfnSite) -> Tensor:
    """What each neuron of a site adds to the output of its FFN per unit of activation, (d, width)."""
    weight: Tensor = model.module.get_submodule(site.post).weight  # type: ignore[assignment]
    return weight.flatten(1)


def _site_gradients(model: LoadedModel, readout: Readout, x: Tensor) -> tuple[list[Tensor], list[str]]:
    """For each site (names, d), the gradient of each output, summed over images, by what its FFN adds everywhere; and
    for each site why it does not hold, or "".
    """
    sites = model.description.ffn_sites
    with torch.inference_mode(False), torch.enable_grad():
        added = [
            torch.zeros(len(columns(model, site)), dtype=x.dtype, device=x.device, requires_grad=True) for site in sites
        ]
        with residual_path(model, added):
            total = readout.outputs(model, x, frozen=True).sum(0)  # (names,)
        each = total.unbind()
    if total.grad_fn is None:
        return [torch.zeros(len(total), len(tensor), device=x.device) for tensor in added], ["" for _ in sites]
    # one output at a time: batched gradients of convolutions are several times slower
    rows = [
        torch.autograd.grad(output, added, retain_graph=True, allow_unused=True, materialize_grads=True)
        for output in each
    ]
    return [torch.stack(row) for row in zip(*rows, strict=True)], obstacles(total, added)


@contextmanager
def residual_path(model: LoadedModel, added: Sequence[Tensor]) -> Iterator[None]:
    """A forward in here has all its values, but a gradient along the residual path only, with frozen norms.

    added: one vector (d,) a site, added to its FFN's output at every token of every call.
    """
    module = model.module
    with ExitStack() as hooks:
        for part in module.modules():
            if is_norm(part):
                hooks.callback(part.register_forward_hook(_frozen_norm).remove)
        for attention in model.description.attention_sites:
            hooks.callback(module.get_submodule(attention.path).register_forward_hook(_cut).remove)
        for site, vector in zip(model.description.ffn_sites, added, strict=True):
            shaped = vector[:, None, None] if site.layout == "NCHW" else vector
            hook = module.get_submodule(site.path).register_forward_hook(lambda m, a, out, v=shaped: out.detach() + v)
            hooks.callback(hook.remove)
        yield


def _cut(module: nn.Module, args: Any, out: Any) -> Any:
    return tuple(o.detach() if isinstance(o, Tensor) else o for o in out) if isinstance(out, tuple) else out.detach()


def _frozen_norm(module: Any, args: Any, out: Tensor) -> Tensor:
    """The norm's value, with the gradient that it has when its deviation is a constant."""
    x = args[0]
    if not x.requires_grad:
        return out
    centre = centred(module, x)
    moving = centre * (reciprocal_deviation(module, centre.detach()) * gain(module))
    return out.detach() + (moving - moving.detach())


def obstacles(output: Tensor, leaves: Sequence[Tensor]) -> list[str]:
    """For each leaf, why the output is not linear in it, by the operations of autograd's graph between them; or ""."""
    index = {id(leaf): i for i, leaf in enumerate(leaves)}
    beneath: dict[Any, int] = {}  # node -> the leaves it depends on, a bit each
    obstacle_bits: dict[str, int] = {}
    stack: list[tuple[Any, bool]] = [(output.grad_fn, False)]
    while stack:
        node, finished = stack.pop()
        children = [child for child, _ in node.next_functions if child is not None]
        if not finished and node not in beneath:
            beneath[node] = 0
            stack += [(node, True), *((child, False) for child in children)]
        elif finished:
            own = index.get(id(getattr(node, "variable", None)))
            bits = [beneath[child] for child in children] + ([1 << own] if own is not None else [])
            for child_bits in bits:
                beneath[node] |= child_bits
            name = node.name().removeprefix("torch::autograd::").partition("Backward")[0]
            if name not in _LINEAR and not (name in _BILINEAR and sum(child_bits > 0 for child_bits in bits) <= 1):
                obstacle_bits[name] = obstacle_bits.get(name, 0) | beneath[node]
    texts = [
        ", ".join(sorted(name for name, bits in obstacle_bits.items() if bits >> leaf & 1))
        for leaf in range(len(leaves))
    ]
    return [f"the way to the readout is not linear: it passes {text}" if text else "" for text in texts]
