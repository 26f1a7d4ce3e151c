"""Models as the atlas sees them: what is asked for, what it consists of, and a loaded one."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from atlas_schema.address import slug_of, slugify
from atlas_schema.errors import BadConfig, UnknownFamily
from pipeline.models.arguments import Arguments
from pipeline.models.families import FAMILIES, Family, matching_families, qualified_class
from pipeline.models.sites import AttentionSite, FfnSite, attention_like, ffn_like, find_sites
from pipeline.models.sources import Blueprint, blueprint


@dataclass(frozen=True)
class ModelRequest:
    """What a user asks for. `weights` (a file or fsspec URL) needs `name`; it replaces the weights of the
    tag.
    """

    model: str  # timm/NAME[.TAG] | open_clip/NAME[/TAG] | zoo/NAME | hf://ORG/NAME | a folder with a config.json
    weights: str | None = None
    name: str | None = None
    random_weights: bool = False
    input_size: int | tuple[int, int] | None = None  # pixels of a square, or (height, width); default: the library's
    which: str | None = None  # of several models in `weights`, the prefix of the one that is meant
    arguments: Arguments = ()  # of the architecture's constructor, sorted by name
    class_names: tuple[str, ...] = ()  # of the classifier's outputs; default: what the checkpoint says


@dataclass(frozen=True)
class ModelDescription:
    """A model without its weights. Sizes are (height, width) in pixels."""

    id: str
    slug: str
    family: str
    source: str
    licence: str  # of the pretrained weights, "" where unknown
    input_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    representation_dim: int
    ffn_sites: tuple[FfnSite, ...]
    attention_sites: tuple[AttentionSite, ...]
    parameters: int
    forward_flops: int  # one image
    arguments: Arguments = ()  # of the constructor, where they are not the architecture's
    classes: int = 0  # outputs of its classifier; 0 where it has none

    @property
    def neurons(self) -> int:
        return sum(site.width for site in self.ffn_sites)

    @property
    def heads(self) -> int:
        return sum(site.heads for site in self.attention_sites)


@dataclass
class LoadedModel:
    """A module with weights, in eval mode, whose parameters take no gradient."""

    description: ModelDescription
    module: nn.Module  # for CLIP the vision tower
    fingerprint: str  # SHA-256 over the sorted state dict as loaded
    device: torch.device
    notes: tuple[str, ...] = ()  # a sentence for each thing that was done to the weights on the way in
    class_names: tuple[str, ...] = ()  # of the classifier's outputs, as given or as the checkpoint has them
    class_note: str = ""  # where they come from, or why there are none; "" where the id says them

    # mean and std by device and dtype: copied there once, so that a step of a loop waits for no transfer
    _scales: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def remarks(self) -> tuple[str, ...]:
        """All that is to be said of a model that was loaded, a sentence each."""
        return (*self.notes, self.class_note) if self.class_note else self.notes

    def normalise(self, x01: Tensor) -> Tensor:
        """Pictures (batch, 3, height, width) in [0, 1] as the module takes them, on x01's device and in its dtype."""
        place = (x01.device, x01.dtype)
        if place not in self._scales:
            with torch.inference_mode(False):  # else a later gradient could not keep them
                mean, std = (
                    torch.tensor(values, device=x01.device, dtype=x01.dtype)[:, None, None]
                    for values in (self.description.mean, self.description.std)
                )
            self._scales[place] = mean, std
        mean, std = self._scales[place]
        return (x01 - mean) / std


def describe(request: ModelRequest) -> ModelDescription:
    """Sites, counts and costs of a model, from one forward on the meta device: no weights, no network.

    UnknownModel, UnknownFamily or BadConfig where it cannot be.
    """
    slug = slug_for(request)
    own_weights = bool(request.weights or request.random_weights)
    return _describe(request.model, request.input_size, slug, own_weights, request.arguments)


def blueprint_of(request: ModelRequest) -> Blueprint:
    """The architecture of a request, at its size and with its arguments."""
    own_weights = bool(request.weights or request.random_weights)
    return blueprint(request.model, request.input_size, request.arguments, own_weights=own_weights)


def slug_for(request: ModelRequest) -> str:
    """The slug of a request: the name given to it, else that of the model id with its resolved tag.

    Random weights without a name get `--random`, so that no atlas takes them for the trained model.
    """
    if request.weights and not request.name:
        raise BadConfig(
            f"{request.model} with weights of your own ({request.weights}) needs a name of its own: add --as NAME."
        )
    if request.weights and request.random_weights:
        raise BadConfig(f"{request.model}: --weights {request.weights} and --random-weights exclude each other.")
    if request.name:
        return slugify(request.name)
    plan = blueprint_of(request)
    if request.random_weights:
        return slug_of(_untagged(plan)) + "--random"
    return slugify(plan.id.removeprefix("hf://").replace("/", " ")) if plan.id.startswith("hf://") else slug_of(plan.id)


def _untagged(plan: Blueprint) -> str:
    return f"{plan.source}/{plan.architecture}"


@lru_cache(maxsize=64)
def _describe(
    model: str, input_size: int | tuple[int, int] | None, slug: str, own_weights: bool, arguments: Arguments
) -> ModelDescription:
    plan = blueprint(model, input_size, arguments, own_weights=own_weights)
    if own_weights:
        plan = replace(plan, id=_untagged(plan), licence="")
    try:
        # counting FLOPs hooks gradients, also where the caller wants none
        with torch.inference_mode(False), torch.enable_grad():
            return described(_on_meta(plan), plan, slug)
    except _OF_FOREIGN_CODE as error:
        raise BadConfig(_not_built(plan, error)) from error


def _with(plan: Blueprint) -> str:
    told = ", ".join(f"{name}={value}" for name, value in plan.arguments)
    return f" with {told}" if told else ""


def described(module: nn.Module, plan: Blueprint, slug: str) -> ModelDescription:
    """The description of a module on the meta device. UnknownFamily, SiteMissing or BadConfig where it has none."""
    _check_adapters(module, plan)
    family = family_of(module, plan)
    _check_patches(module, plan)
    try:
        ffns, attentions, flops = find_sites(family, module, plan.input_size)
        size = representation_dim(module, plan.input_size)
    except _OF_FOREIGN_CODE as error:
        raise BadConfig(_not_run(module, plan, error)) from error
    return ModelDescription(
        id=plan.id,
        slug=slug,
        family=family.name,
        source=plan.source,
        licence=plan.licence,
        input_size=plan.input_size,
        mean=plan.mean,
        std=plan.std,
        interpolation=plan.interpolation,
        representation_dim=size,
        ffn_sites=ffns,
        attention_sites=attentions,
        parameters=sum(p.numel() for p in module.parameters()),
        forward_flops=flops,
        arguments=plan.arguments,
        classes=classes_of(module, plan),
    )


# what libraries raise where a model is not made for what is asked of it
_OF_FOREIGN_CODE = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _not_built(plan: Blueprint, error: Exception) -> str:
    return (
        f"{plan.id} cannot be built for {plan.input_size[0]} x {plan.input_size[1]} pixels{_with(plan)}: {error}. "
        "Leave out the input size, or take a multiple of its patch and window sizes."
    )


def _not_run(module: nn.Module, plan: Blueprint, error: Exception) -> str:
    """Why the forward pass fails: pictures have three channels."""
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None or first.in_channels == 3:
        return _not_built(plan, error)
    return (
        f"{plan.id} takes pictures of {first.in_channels} channels, and images here have three: red, green, blue. "
        "Expected a model with in_chans=3; timm adapts weights of one channel to it where it loads them."
    )


def _check_adapters(module: nn.Module, plan: Blueprint) -> None:
    """Adapters stand between a layer's input and its weights: which of the two a neuron belongs to is not said."""
    wrapped = next((path for path, part in module.named_modules() if "base_layer" in part._modules), None)
    if wrapped is not None:
        raise BadConfig(
            f"{plan.id}: adapters (LoRA) are attached to it, first at {wrapped}. Merge them into its weights: "
            "model = model.merge_and_unload() with peft."
        )


def unwrapped(module: nn.Module) -> nn.Module:
    """The model itself, without what `torch.compile` and `DataParallel` wrap around it."""
    while type(module).__name__ in ("OptimizedModule", "DataParallel", "DistributedDataParallel"):
        module = module.get_submodule("_orig_mod" if "_orig_mod" in module._modules else "module")
    return module


def _on_meta(plan: Blueprint) -> nn.Module:
    with torch.device("meta"):
        return plan.build().eval()


def _check_patches(module: nn.Module, plan: Blueprint) -> None:
    """Patches must tile the picture: the libraries would silently leave out what is over at the right and
    below.
    """
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if not plan.resized or first is None or tuple(first.kernel_size) != tuple(first.stride):
        return
    for pixels, patch in zip(plan.input_size, first.stride, strict=True):
        if pixels % patch:
            near = max(pixels // patch, 1) * patch
            raise BadConfig(
                f"{plan.id}: input size {pixels} is no multiple of its {patch}-pixel patches. "
                f"Take {near} or {near + patch}."
            )


def family_of(module: nn.Module, plan: Blueprint) -> Family:
    """The one family that covers a module; UnknownFamily, with what was found in it, otherwise."""
    matches = matching_families(module, plan.architecture)
    if len(matches) == 1:
        return matches[0]
    ffns, attentions = ffn_like(module), attention_like(module)
    raise UnknownFamily(
        f"{plan.id}: no family describes the class {qualified_class(module)}.\n"
        f"  FFN-like modules: {len(ffns)}{_examples(ffns)}\n"
        f"  attention-like modules: {len(attentions)}{_examples(attentions)}\n"
        f"Known families: {', '.join(sorted({family.name for family in FAMILIES}))}. To add one, "
        "describe the form in pipeline/models/families/: one literal (docs/families.md)."
    )


def _examples(paths: list[str]) -> str:
    return f" ({paths[0]} ... {paths[-1]})" if paths else ""


def prepare_module(module: nn.Module, plan: Blueprint, description: ModelDescription) -> None:
    """What the family wants done once a module has its weights, device and dtype."""
    prepare = family_of(module, plan).prepare
    if prepare is not None:
        prepare(module, description.ffn_sites[0].grids[0])


def representation_dim(module: nn.Module, input_size: tuple[int, int]) -> int:
    """Size of the final representation: pooled features before any classifier; both tokens of a distilled
    model.
    """
    if hasattr(module, "trunk") or hasattr(module, "output_dim"):
        weight = next(module.parameters())
        out = module(torch.zeros(1, 3, *input_size, device=weight.device, dtype=weight.dtype))
        return int((out[0] if isinstance(out, tuple) else out).shape[-1])
    features: Any = getattr(module, "head_hidden_size", None) or getattr(module, "num_features", None)
    return int(features) * (2 if getattr(module, "head_dist", None) is not None else 1)


def classes_of(module: nn.Module, plan: Blueprint) -> int:
    """How many outputs the classifier of a model has; 0 without one. The last map of a CLIP's tower is none."""
    if family_of(module, plan).name == "clip" and "_ft_" not in plan.id:
        return 0
    return max((int(getattr(head, "out_features", 0)) for head in classifiers(module)), default=0)


def classifiers(module: nn.Module) -> list[nn.Module]:
    """The modules of a timm model that make its logits: one, two in distilled models, none where it has no classes."""
    getter: Any = getattr(module, "get_classifier", None)
    classifier = getter() if getter is not None else nn.Identity()
    heads = list(classifier) if isinstance(classifier, tuple | list | nn.ModuleList) else [classifier]
    heads = [getattr(head, "fc", head) for head in heads]  # SAM gives its head whole, with its pooling
    return [head for head in heads if head is not None and not isinstance(head, nn.Identity)]
