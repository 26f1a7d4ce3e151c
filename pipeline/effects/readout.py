"""How a model's outputs are read: as classes, or as cosines with texts; and whether the way to them is linear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.models import FfnSite, LoadedModel
from pipeline.models.class_names import class_names
from pipeline.models.description import classifiers
from pipeline.models.representation import is_clip

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
        "LinearConvolution",
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


def columns(model: LoadedModel, site: FfnSite) -> Tensor:
    """What each neuron of a site adds to the output of its FFN per unit of activation, (d, width)."""
    weight: Tensor = model.module.get_submodule(site.post).weight  # type: ignore[assignment]
    return weight.flatten(1)


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
