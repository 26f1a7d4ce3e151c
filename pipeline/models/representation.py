"""The final representation of a model: what its classifier reads, or for a CLIP the projected embedding."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from atlas_schema.errors import BadConfig
from pipeline.models.description import LoadedModel, classifiers


def representation(model: LoadedModel, x: Tensor) -> Tensor:
    """The final representation of some images, (images, d), by one forward. x: normalised.

    A distilled model has two classifiers: what they read is concatenated, class token first. An activation function
    right before the classifier (MaxViT) belongs to it: the representation is what it receives. BadConfig where what the
    classifier reads is not one vector an image.
    """
    read: dict[int, Tensor] = {}

    def keep(index: int, given: Tensor) -> None:
        read[index] = given

    heads = _readers(model)
    with ExitStack() as hooks:
        for index, head in enumerate(heads):
            hook = head.register_forward_pre_hook(lambda module, args, index=index: keep(index, args[0]))
            hooks.callback(hook.remove)
        out = model.module(x)
    if heads:
        vectors = torch.cat([read[index] for index in range(len(heads))], dim=-1)
    else:
        vectors = out[0] if isinstance(out, tuple) else out
    if vectors.ndim != 2 or len(vectors) != len(x):
        raise BadConfig(
            f"{model.description.slug}: its readout has the shape {tuple(vectors.shape)}, not one vector an image: "
            "there is no final representation to decompose."
        )
    return vectors


def _readers(model: LoadedModel) -> list[nn.Module]:
    module = model.module
    if getattr(module, "head_dist", None) is not None:  # also where both were made the identity
        return [module.get_submodule("head"), module.get_submodule("head_dist")]
    squashed = getattr(getattr(getattr(module, "head", None), "pre_logits", None), "act", None)
    if isinstance(squashed, nn.Module):  # MaxViT's classifier reads tanh(pooled features)
        return [squashed]
    tuned = "_ft_" in model.description.id  # a CLIP of timm that was tuned to classes: its head is no projection
    return [] if is_clip(model) and not tuned else classifiers(module)


def is_clip(model: LoadedModel) -> bool:
    """Whether the output is an embedding that is read by texts."""
    return model.description.family == "clip" or hasattr(model.module, "output_dim")
