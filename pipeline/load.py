"""Weights: from the hub, from a file or URL of one's own, or random; fitted to the architecture or refused."""

import hashlib
import inspect
import pickle
import sys
from pathlib import PurePosixPath
from typing import Any
from zipfile import BadZipFile

import fsspec
import torch
from torch import Tensor, nn

from atlas_schema.errors import WeightsMismatch, WeightsUnreadable
from pipeline.models import LoadedModel, ModelRequest, describe, family_of
from pipeline.sources import Blueprint, blueprint

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module", "teacher", "student")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
RANDOM_SEED = 0


def load_model(request: ModelRequest, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """The requested model on a device, in eval mode, parameters frozen.

    Raises NoNetwork, WeightsMismatch, WeightsUnreadable, and what `describe` raises.
    """
    description = describe(request)
    plan = blueprint(request.model, request.input_size)
    changes: tuple[str, ...] = ()
    if request.random_weights:
        module = _random(plan)
    elif request.weights:
        module = _random(plan)
        changes = fit(module, read_weights(request.weights), request.weights)
    else:
        module, changes = _fetched(plan)
    module = module.eval().requires_grad_(False)
    fingerprint = fingerprint_of(module)
    family = family_of(module, plan)
    module = module.to(device=device, dtype=dtype)
    if family.prepare is not None:
        family.prepare(module, description.ffn_sites[0].grids[0])
    return LoadedModel(description, module, fingerprint, device, changes)


def _random(plan: Blueprint) -> nn.Module:
    """Fresh weights from a fixed seed, whatever the state of the global generators."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(RANDOM_SEED)
        return plan.build()


def _fetched(plan: Blueprint) -> tuple[nn.Module, tuple[str, ...]]:
    got = plan.fetch()
    if isinstance(got, nn.Module):
        return got, ()
    module = _random(plan)
    return module, fit(module, got, plan.id)


def fingerprint_of(module: nn.Module) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of the sorted state dict; the device does not matter."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def read_weights(location: str) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pth, .pt or .bin file (or fsspec URL), out of its common wrappers.

    Pickled files are read with weights_only: nothing in them is executed. WeightsUnreadable otherwise.
    """
    try:
        with fsspec.open(location, "rb") as file:
            data = file.read()
    except (OSError, ValueError, ImportError) as error:
        raise WeightsUnreadable(
            f"{location} cannot be read: {error}. Give a file or an fsspec URL."
        ) from error
    try:
        return unwrapped(_parse(data, PurePosixPath(location).suffix.lower()), location)
    except WeightsUnreadable:
        raise
    except (pickle.UnpicklingError, RuntimeError, BadZipFile, EOFError, ValueError, KeyError) as error:
        raise WeightsUnreadable(f"{location}: {error}") from error


def _parse(data: bytes, suffix: str) -> Any:
    if suffix == ".safetensors":
        from safetensors.torch import load

        return load(data)
    import io

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def unwrapped(checkpoint: Any, location: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint without the wrappers of training scripts."""
    while isinstance(checkpoint, dict) and not _is_state_dict(checkpoint):
        inner = next((checkpoint[key] for key in WRAPPERS if isinstance(checkpoint.get(key), dict)), None)
        if inner is None:
            raise WeightsUnreadable(f"{location} holds no state dict: its keys are {list(checkpoint)[:5]}.")
        checkpoint = inner
    if not isinstance(checkpoint, dict):
        raise WeightsUnreadable(f"{location} holds a {type(checkpoint).__name__}, not a state dict.")
    for prefix in PREFIXES:
        if checkpoint and all(key.startswith(prefix) for key in checkpoint):
            checkpoint = {key.removeprefix(prefix): value for key, value in checkpoint.items()}
    return checkpoint


def _is_state_dict(checkpoint: dict) -> bool:
    return bool(checkpoint) and all(isinstance(value, Tensor) for value in checkpoint.values())


def fit(module: nn.Module, weights: dict[str, Tensor], location: str) -> tuple[str, ...]:
    """Load weights into a module; what differs in the classifier is returned, anything else raises."""
    weights = _adapted(module, weights)
    own = module.state_dict()
    classifier = _classifier_prefixes(module)
    changed = [
        key
        for key in own
        if key.startswith(classifier) and (key not in weights or weights[key].shape != own[key].shape)
    ]
    weights = {key: value for key, value in weights.items() if key not in changed}
    missing = [key for key in own if key not in weights and key not in changed]
    unexpected = [key for key in weights if key not in own]
    misshapen = [key for key in weights if key in own and weights[key].shape != own[key].shape]
    if missing or unexpected or misshapen:
        raise WeightsMismatch(f"{location}: {missing[:3]} {unexpected[:3]} {misshapen[:3]}")
    module.load_state_dict({key: weights.get(key, own[key]) for key in own})
    return tuple(changed)


def _adapted(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Through the library's own filter for foreign layouts and other image sizes, where its module has one."""
    convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return weights
    options = (
        {"adapt_layer_scale": True} if "adapt_layer_scale" in inspect.signature(convert).parameters else {}
    )
    return convert({key: value.float() for key, value in weights.items()}, module, **options)


def _classifier_prefixes(module: nn.Module) -> tuple[str, ...]:
    names = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
