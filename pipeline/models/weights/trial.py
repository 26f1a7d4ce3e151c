"""One place of a checkpoint tried on a module: what its tensors become, and what would be missing, odd or left over."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace

from torch import Tensor, nn

from pipeline.models.families import qualified_class
from pipeline.models.families.clip import WRAPPER
from pipeline.models.weights.files import first_line
from pipeline.models.weights.layouts import made
from pipeline.models.weights.search import Place

#: Ends of names that are worked out again, or count, and say nothing of the weights.
COUNTERS = (
    *("relative_position_index", "attn_mask", "relative_coords_table", "position_ids", "num_batches_tracked"),
    *("total_ops", "total_params", "rel_indices", "inv_freq", "rope.periods", "bias_mask"),
)
#: First parts of a name, and words in one, that say another module than the encoder: it is left out.
BESIDE = frozenset(
    {
        *("fc", "linear", "transformer", "ln_final", "positional_embedding", "epoch", "step", "attn_mask", "mlp_head"),
        *("input_resolution", "context_length", "vocab_size", "normalize", "total_ops", "total_params", "n_averaged"),
    }
)
BESIDE_WORDS = (
    *("accuracy", "auxiliary", "classifier", "center", "contrast", "criterion", "decoder", "dino_", "discriminator"),
    *("head", "ibot", "logit_", "loss", "mask_token", "metric", "momentum", "optimizer", "pooler", "pred", "proj"),
    *("prototype", "queue", "scheduler", "student", "teacher", "temperature", "text", "token_embedding", "lm_"),
)


@dataclass
class Trial:
    """What a place gives: tensors by the module's names, and where these and the module's differ."""

    place: Place
    weights: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # whole names in the file
    resampled: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)  # by the module's names, before the library converts them
    kinds: tuple[str, ...] = ()  # dtypes of the tensors that are used
    error: str = ""

    @property
    def fits(self) -> bool:
        return not (self.error or self.missing or self.misshapen or self.unexpected)

    @property
    def whole(self) -> bool:
        """Whether all of the encoder is there, whatever else is."""
        return not (self.error or self.missing or self.misshapen)


def attempt(place: Place, tensors: dict[str, Tensor], module: nn.Module) -> Trial:
    """The tensors under a place as weights of a module; nothing is loaded, and the module is left as it is."""
    own = module.state_dict()
    state, used = assembled(place, tensors, own)
    trial = Trial(place, state=state, kinds=tuple(sorted({str(tensors[key].dtype) for key in used})))
    try:
        converted = converted_by_library(module, dict(state))
    except Exception as error:  # the libraries' conversions assume much, and end in any error
        trial.error = f"{type(error).__name__} {first_line(error)}"
        converted = state  # for what is said of names and shapes
    heads = classifier_names(module)
    trial.weights = {name: value for name, value in converted.items() if name in own}
    trial.missing = [name for name in own if name not in converted and not _of(name, heads)]
    trial.misshapen = [name for name, value in trial.weights.items() if not _fitting(value, own[name], name, heads)]
    trial.misshapen += [name for name in _uneven(trial.weights, heads) if name not in trial.misshapen]
    trial.resampled = {
        name: (tuple(state[name].shape), tuple(value.shape))
        for name, value in trial.weights.items()
        if name in state and _is_resampled(state[name], value)
    }
    inside = [name for name in converted if name not in own]
    inside += [key.removeprefix(place.prefix) for key in tensors if key.startswith(place.prefix) and key not in used]
    trial.unexpected = [name for name in inside if _belongs(name, own, heads, bool(place.layout.rules))]
    odd = {f"{place.prefix}{name}" for name in trial.unexpected}
    leftover = {f"{place.prefix}{name}" for name in inside} - odd
    leftover |= {key for key in tensors if key not in used and not key.startswith(place.prefix)}
    trial.left_out = sorted(key for key in leftover if key in tensors and not key.endswith(COUNTERS))
    return trial


def assembled(place: Place, tensors: dict[str, Tensor], own: dict[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """The state that a place gives before the library converts it, and which tensors of the file are in it."""
    if not place.layout.rules:
        used = {key for key in tensors if key.startswith(place.prefix)}
        inner = {key[len(place.prefix) :]: tensors[key] for key in tensors if key in used}
        return {name: _ready(value, own.get(name)) for name, value in inner.items()}, used
    state: dict[str, Tensor] = {}
    used = set()
    for name, like in own.items():
        found = place.layout.sources(name)
        if found is None:
            continue
        keys = [_place_of(source, place) for source in found[0]]
        if all(key in tensors for key in keys):
            value = made(found[1], [tensors[key] for key in keys], like)
            state[name] = _ready(value, like)
            used |= set(keys)
    return state, used


def _is_resampled(before: Tensor, after: Tensor) -> bool:
    """Whether numbers were made up between others: not where axes were added, or the class token's position moved."""
    if before.numel() == after.numel():
        return False
    moved = before.ndim == after.ndim == 3 and before.shape[1] - after.shape[1] == 1
    return not moved


def _ready(value: Tensor, own: Tensor | None) -> Tensor:
    """Half precision is for storage: what is to be resampled is widened; what is only to be loaded is, then."""
    loads = own is not None and value.shape == own.shape
    return value if loads or not value.is_floating_point() else value.float()


def _place_of(source: str, place: Place) -> str:
    return place.outer + source[1:] if source.startswith("^") else place.prefix + source


def _fitting(value: Tensor, own: Tensor, name: str, heads: tuple[str, ...]) -> bool:
    """Whether a tensor can be loaded: a classifier may have another number of classes; no integers for weights."""
    if own.is_floating_point() != value.is_floating_point():
        return False
    if _of(name, heads) and value.ndim:
        return value.ndim == own.ndim and value.shape[1:] == own.shape[1:]
    return value.shape == own.shape


def _uneven(weights: dict[str, Tensor], heads: tuple[str, ...]) -> list[str]:
    """Classifiers of no class, and biases of another number of classes than their weights."""
    found = []
    for head in heads:
        weight, bias = weights.get(f"{head}.weight"), weights.get(f"{head}.bias")
        if weight is not None and weight.ndim and not len(weight):
            found.append(f"{head}.weight")
        if bias is not None and (weight is None or not weight.ndim or not bias.ndim or len(bias) != len(weight)):
            found.append(f"{head}.bias")
    return found


def classifier_names(module: nn.Module) -> tuple[str, ...]:
    """Where a timm model has its classifiers, as its record says."""
    named = getattr(module, "pretrained_cfg", {}).get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def _of(name: str, heads: Iterable[str]) -> bool:
    return any(name.startswith(f"{head}.") for head in heads)


def _belongs(name: str, own: Iterable[str], heads: tuple[str, ...], translated: bool) -> bool:
    """Whether a tensor that the module has no place for would be part of the encoder."""
    if name.endswith(COUNTERS):
        return False
    if _of(name, heads):  # a head of several layers is another one; a part of this one that is unknown is not
        part = next(name.removeprefix(f"{head}.") for head in heads if name.startswith(f"{head}."))
        return "." not in part and part not in ("weight", "bias")
    first = name.partition(".")[0]
    if first in {one.partition(".")[0] for one in own}:
        return first not in {head.partition(".")[0] for head in heads}
    if translated and first in ("encoder", "layers", "layer", "embeddings", "model"):
        return not name.endswith("mask_token")
    return first not in BESIDE and not any(word in first for word in BESIDE_WORDS)


# ------------------------------------------------------------------------------------------ the libraries' own rules


def converted_by_library(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Through the library's own conversion of foreign layouts and other image sizes."""
    if qualified_class(module).startswith("open_clip."):
        return _by_open_clip(module, weights)
    return _by_timm(module, weights)


def _by_timm(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    convert: Callable[..., dict[str, Tensor]] | None = getattr(
        sys.modules[type(module).__module__], "checkpoint_filter_fn", None
    )
    if convert is None:
        return weights
    options = {}
    if "adapt_layer_scale" in inspect.signature(convert).parameters:
        options["adapt_layer_scale"] = True  # DeiT-III wrote gamma_1 for ls1.gamma; else without effect
    return dict(convert(weights, module, **options))


def _by_open_clip(module: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
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
        adapted = _by_timm(module.get_submodule("trunk"), trunk)
        return rest | {f"trunk.{key}": value for key, value in adapted.items()}
    prefixed = {f"visual.{key}": value for key, value in weights.items()}
    resize_pos_embed(prefixed, whole)
    return {key.removeprefix("visual."): value for key, value in prefixed.items()}
