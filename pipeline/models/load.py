"""Weights into a model: from the hub, from a file of one's own, or random; they fit, or they are refused."""

import hashlib
import inspect
import sys
from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from atlas_schema.address import slugify
from atlas_schema.errors import AtlasError, NoNetwork, UnknownModel, WeightsMismatch
from pipeline.models.checkpoint import listed, read_checkpoint, without_prefix
from pipeline.models.description import LoadedModel, ModelRequest, describe, described, prepare_module
from pipeline.models.families import qualified_class
from pipeline.models.families.clip import WRAPPER
from pipeline.models.network import quick_when_offline
from pipeline.models.sources import Blueprint, blueprint

RANDOM_SEED = 0


def load(request: ModelRequest, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """The requested model on a device, in eval mode, its parameters without gradient.

    Raises NoNetwork, WeightsMismatch, WeightsUnreadable, and what `describe` raises.
    """
    device = torch.device(device)
    description = describe(request)
    plan = blueprint(request.model, request.input_size)
    changes: tuple[str, ...] = ()
    if request.random_weights:
        module = _random(plan)
    elif request.weights:
        module = _random(plan)
        changes = fit(module, read_checkpoint(request.weights), request.weights)
    else:
        module, changes = _pretrained(plan)
    module = module.eval().requires_grad_(False)
    fingerprint = fingerprint_of(module)
    module = module.to(device=device, dtype=dtype)
    prepare_module(module, plan, description)
    return LoadedModel(description, module, fingerprint, device, changes)


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

    It is put in eval mode and its parameters stop taking gradients; `name` makes the slug.
    """
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


def _pretrained(plan: Blueprint) -> tuple[nn.Module, tuple[str, ...]]:
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
        return got, ()
    module = _random(plan)
    return module, fit(module, got, plan.id)


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


# -------------------------------------------------------------------------------------------------- fitting


def fit(module: nn.Module, weights: dict[str, Tensor], origin: str) -> tuple[str, ...]:
    """Load weights into a module. All keys and shapes must be the module's, but for its classifier.

    Returns notes on what is not as the architecture has it (a classifier of other size or none, modules of a
    training wrapper left out), for the record. WeightsMismatch otherwise, with the keys that differ.
    """
    weights, left_out = without_prefix(_floats(weights), module.state_dict())
    weights = _adapted(module, weights, origin)
    if not set(weights) & set(module.state_dict()):
        raise WeightsMismatch(
            f"{origin} does not fit {type(module).__name__}: none of its {len(weights)} tensors has a name of "
            f"this architecture ({listed(weights)}). Name the architecture they were trained with."
        )
    notes = [f"tensors of other modules left out: {left_out}"] if left_out else []
    notes += _settle_classifier(module, weights)
    own = module.state_dict()
    missing = [key for key in own if key not in weights]
    unexpected = [key for key in weights if key not in own]
    misshapen = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    if missing or unexpected or misshapen:
        raise WeightsMismatch(_mismatch(origin, module, weights, missing, unexpected, misshapen))
    module.load_state_dict(weights)
    return tuple(notes)


def _floats(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half precision is for storage: position embeddings are resampled, and fingerprints taken, in
    float32.
    """
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


def _mismatch(
    origin: str,
    module: nn.Module,
    weights: dict[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    misshapen: list[str],
) -> str:
    own = module.state_dict()
    lines = [f"{origin} does not fit {type(module).__name__}:"]
    if missing:
        lines.append(f"  {len(missing)} missing: {listed(missing)}")
    if unexpected:
        lines.append(f"  {len(unexpected)} unexpected: {listed(unexpected)}")
    if misshapen:
        shapes = [f"{k} {tuple(weights[k].shape)}, expected {tuple(own[k].shape)}" for k in misshapen]
        lines.append(f"  {len(misshapen)} of another shape: {listed(shapes)}")
    lines.append("Name the architecture (and --input-size) they were trained with, or rename their keys.")
    return "\n".join(lines)


def _adapted(module: nn.Module, weights: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    """Through the library's own conversion of foreign layouts and other image sizes."""
    try:
        if qualified_class(module).startswith("open_clip."):
            return _adapted_open_clip(module, weights)
        return _adapted_timm(module, weights)
    except (LookupError, RuntimeError, AttributeError, ValueError, AssertionError, TypeError) as error:
        raise WeightsMismatch(
            f"{origin} does not fit {type(module).__name__}: {type(error).__name__} {_told(error)} while its "
            f"{len(weights)} tensors ({listed(weights)}) were read as weights of this architecture."
        ) from error


def _adapted_timm(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    convert: Callable[..., dict[str, Tensor]] | None = getattr(
        sys.modules[type(module).__module__], "checkpoint_filter_fn", None
    )
    if convert is None:
        return weights
    options = {}
    if "adapt_layer_scale" in inspect.signature(convert).parameters:
        options["adapt_layer_scale"] = True  # DeiT-III wrote gamma_1 for ls1.gamma; else without effect
    return dict(convert(weights, module, **options))


def _adapted_open_clip(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """open_clip converts whole models; here only the tower is built, and only its keys are kept."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import resize_pos_embed

    whole = SimpleNamespace(visual=module)
    weights = convert_state_dict(whole, weights)
    if any(key.startswith("visual.") for key in weights):
        weights = {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")}
    if qualified_class(module) == WRAPPER:
        trunk = {key.removeprefix("trunk."): v for key, v in weights.items() if key.startswith("trunk.")}
        rest = {key: value for key, value in weights.items() if not key.startswith("trunk.")}
        adapted = _adapted_timm(module.get_submodule("trunk"), trunk)
        return rest | {f"trunk.{key}": value for key, value in adapted.items()}
    prefixed = {f"visual.{key}": value for key, value in weights.items()}
    resize_pos_embed(prefixed, whole)
    return {key.removeprefix("visual."): value for key, value in prefixed.items()}


def _settle_classifier(module: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Make the module's classifier what the weights have: of their number of classes, or zero where they
    have none.

    Changes `module` and removes from `weights` what a module without a classifier cannot take.
    """
    named = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    names = (named,) if isinstance(named, str) else tuple(named)
    notes = []
    for name in names:
        own, given = f"{name}.weight" in module.state_dict(), weights.get(f"{name}.weight")
        if not own:
            dropped = [key for key in weights if key.startswith(f"{name}.")]
            for key in dropped:
                del weights[key]
            notes += [f"classifier {name} left out: the architecture has none"] if dropped else []
        elif given is None:
            for part in ("weight", "bias"):
                key = f"{name}.{part}"
                if key in module.state_dict() and key not in weights:
                    weights[key] = torch.zeros_like(module.state_dict()[key])
            notes.append(f"classifier {name} missing: set to zero")
        elif given.shape[0] != module.state_dict()[f"{name}.weight"].shape[0]:
            classes = module.state_dict()[f"{name}.weight"].shape[0]
            module.reset_classifier(given.shape[0])  # type: ignore[operator]
            notes.append(f"classifier {name} has {given.shape[0]} classes instead of {classes}")
    return notes
