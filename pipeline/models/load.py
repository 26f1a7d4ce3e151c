"""Weights into a model: from the hub, from a file of one's own, or random; they fit, or they are refused."""

import hashlib
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from atlas_schema.address import slugify
from atlas_schema.errors import AtlasError, NoNetwork, UnknownModel, WeightsMismatch
from pipeline.models.arguments import Arguments, as_arguments
from pipeline.models.class_names import checked, class_names, names_in, said
from pipeline.models.description import (
    LoadedModel,
    ModelRequest,
    blueprint_of,
    classes_of,
    classifiers,
    describe,
    described,
    prepare_module,
    unwrapped,
)
from pipeline.models.network import quick_when_offline
from pipeline.models.sources import Blueprint, blueprint, timm_parameters
from pipeline.models.weights import NO_FIT, Names, fit, listed, read_weights
from pipeline.models.weights.variants import arguments_that_fit

RANDOM_SEED = 0


def load(request: ModelRequest, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """The requested model on a device, in eval mode, its parameters without gradient.

    Raises NoNetwork, WeightsMismatch, WeightsUnreadable, and what `describe` raises.
    """
    device = torch.device(device)
    description = describe(request)
    plan = blueprint_of(request)
    checkpoint: Names | None = None
    changes: tuple[str, ...] = ()
    if request.random_weights:
        module = _random(plan)
    elif request.weights:
        module, checkpoint = _random(plan), read_weights(request.weights)
        changes = _fitted(module, request, checkpoint)
    else:
        module, changes, checkpoint = _pretrained(plan)
    module = module.eval().requires_grad_(False)
    fingerprint = fingerprint_of(module)
    module = module.to(device=device, dtype=dtype)
    prepare_module(module, plan, description)
    # weights of one's own bring their number of classes; a classifier that they came without is all zero
    trained = any(bool(part.any()) for head in classifiers(module) for part in head.parameters())
    description = replace(description, classes=classes_of(module, plan) if trained else 0)
    names = checked(request.class_names, description.classes, description.id)
    model = LoadedModel(description, module, fingerprint, device, (*plan.notes, *changes), names)
    return model if names or checkpoint is None else _named(model, names_in(checkpoint))


def _named(model: LoadedModel, found: tuple[str, ...]) -> LoadedModel:
    """With the names of classes that the checkpoint holds, if they are as many as its outputs."""
    outputs = model.description.classes
    note = said(found, bool(class_names(model)), outputs)
    fits = bool(found) and len(found) == outputs
    return replace(model, class_note=note, class_names=found if fits else ())


def _fitted(module: nn.Module, request: ModelRequest, names: Names) -> tuple[str, ...]:
    """The weights of one's own into a module; where they do not fit, what would make them fit is said."""
    try:
        return fit(module, names, which=request.which or "", architecture=request.model)
    except WeightsMismatch as error:
        advice = _advice(request, names) if NO_FIT in str(error) else ""
        raise WeightsMismatch(f"{error}{advice}") from error


def _advice(request: ModelRequest, names: Names) -> str:
    found = fitting_arguments(request, names)
    if found:
        told = " ".join(f"--model-args {name}={value}" for name, value in found)
        return f"\nThe weights fit this architecture with: {told}"
    return f"\nneuron-atlas check weights {names.location}\nsays what the file is and which architectures fit it."


def fitting_arguments(request: ModelRequest, names: Names) -> Arguments:
    """All arguments under which the architecture of a request takes some weights; () where none of those tried does."""
    if not request.model.startswith("timm/"):
        return ()

    def build(arguments: Arguments) -> nn.Module:
        merged = as_arguments({**dict(request.arguments), **dict(arguments)})
        return blueprint(request.model, request.input_size, merged, own_weights=True).build()

    architecture = request.model.removeprefix("timm/").partition(".")[0]
    found = arguments_that_fit(build, timm_parameters(architecture), names)
    return as_arguments({**dict(request.arguments), **dict(found)}) if found else ()


def from_module(
    module: nn.Module,
    *,
    name: str,
    input_size: tuple[int, int],
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
    architecture: str = "",
) -> LoadedModel:
    """A module of one's own (any class that a family covers) as the pipeline takes it, where it is.

    It is put in eval mode and its parameters stop taking gradients; `name` makes the slug. What `torch.compile` and
    `DataParallel` wrap around it is taken off.
    """
    module = unwrapped(module)
    plan = Blueprint(
        source="module",
        architecture=architecture,
        tag="",
        id=name,
        input_size=input_size,
        mean=mean,
        std=std,
        interpolation="bicubic",
        licence="",
        tags=(),
        build=lambda: module,
        fetch=lambda: module,
    )
    module.eval().requires_grad_(False)
    description = described(deepcopy(module).to("meta"), plan, slugify(name))
    prepare_module(module, plan, description)
    device = next(module.parameters()).device
    return LoadedModel(description, module, fingerprint_of(module), device)


def fingerprint_of(module: nn.Module) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of the sorted state dict; the device does not
    matter.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            digest.update(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def _random(plan: Blueprint) -> nn.Module:
    """Fresh weights from a fixed seed; the global generators are left as they were."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(RANDOM_SEED)
        return plan.build()


# ------------------------------------------------------------------------------------------------- the hub


def _pretrained(plan: Blueprint) -> tuple[nn.Module, tuple[str, ...], Names | None]:
    """The module with the weights of the hub, what was done to them, and what they came in, where that is known."""
    if plan.source != "zoo" and not plan.tag:
        tags = "The hub has no weights for it."
        if plan.tags:
            tags = f"Add one of its tags: {listed(plan.tags, 8)}."
        raise UnknownModel(
            f"{plan.id} is an architecture without weights. {tags} "
            "Or give --weights FILE --as NAME, or --random-weights."
        )
    try:
        with quick_when_offline():
            got = plan.fetch()
    except AtlasError:
        raise
    except RuntimeError as error:  # torch: shapes of the hub's weights against another input size
        raise WeightsMismatch(
            f"{plan.id}: the hub's weights do not fit at {plan.input_size[0]} pixels: {_told(error)} "
            "Leave out the input size."
        ) from error
    except Exception as error:
        raise NoNetwork(_unreachable(plan, error)) from error
    if isinstance(got, nn.Module):
        return got, (), None
    module = _random(plan)
    names = got if isinstance(got, Names) else Names(plan.id, got)
    return module, fit(module, names, architecture=_asked(plan)), names


def _asked(plan: Blueprint) -> str:
    """The id of the architecture, for messages that name a variant of it."""
    return f"{plan.source}/{plan.architecture}"


def _unreachable(plan: Blueprint, error: Exception) -> str:
    return (
        f"{plan.id}: its weights are neither in the local cache nor can they be fetched from the hub.\n"
        f"  {_told(error)}\n"
        "Connect this machine once (they are kept), set HF_ENDPOINT to a mirror or HF_HOME to a filled cache, "
        "or use --weights FILE --as NAME, or --random-weights to try the pipeline."
    )


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(line.strip() for line in lines[:2])[:300]
