"""Which activation function weights were trained with, where their file says it: never another one is run."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from atlas_schema.errors import WeightsMismatch
from pipeline.models.weights.names import Names
from pipeline.models.weights.search import Place

#: OpenAI's own files carry these beside their weights; all of them were trained with QuickGELU.
OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
QUICK = "QuickGELU"

#: `hidden_act` of a config.json of transformers -> class names of the same function
SAID = {
    "quick_gelu": {QUICK},
    "gelu": {"GELU"},
    "gelu_new": {"GELUTanh"},
    "gelu_pytorch_tanh": {"GELUTanh"},
    "gelu_fast": {"GELUTanh"},
    "relu": {"ReLU"},
    "silu": {"SiLU"},
    "swish": {"SiLU"},
}


def check_activation(module: nn.Module, names: Names, place: Place, architecture: str) -> tuple[str, ...]:
    """Notes where a config names an approximation of the same function; WeightsMismatch where it is another one.

    architecture: the model id that was asked for, in whose place the message names another.
    """
    own = activations_of(module)
    said, source = _said(names, place)
    notes = _other_norms(module, names)
    if not said or not own or own & said:
        return notes
    expected, found = sorted(said)[0], sorted(own)[0]
    if {expected, found} == {"GELU", "GELUTanh"}:
        return (*notes, f"activation function {found}, where {source} names {expected}: they differ by less than 0.001")
    variant = variant_of(architecture) if expected == QUICK else f"--model-args act_layer={expected.lower()}"
    raise WeightsMismatch(
        f"{names.location} was trained with {expected} ({source}), and {architecture or type(module).__name__} has "
        f"{found}: run with it, every activation would be another. Ask for {variant}."
    )


def _other_norms(module: nn.Module, names: Names) -> tuple[str, ...]:
    """A note where a config names another epsilon of the norms than the library's architecture has."""
    inner = names.config.get("vision_config")
    settings = {**names.config, **(inner if isinstance(inner, Mapping) else {})}
    own = next((part.eps for part in module.modules() if isinstance(part, nn.LayerNorm)), None)
    said = settings.get("layer_norm_eps")
    if own is None or not isinstance(said, float) or said == own:
        return ()
    return (f"norms have an epsilon of {own:g}, where config.json names {said:g}",)


def activations_of(module: nn.Module) -> set[str]:
    """Class names of the activation functions in the FFNs of a model."""
    found = set()
    for path, part in module.named_modules():
        if path.endswith((".mlp.act", ".mlp.gelu")):
            name = type(part).__name__
            tanh = name == "GELU" and getattr(part, "approximate", "none") == "tanh"
            found.add("GELUTanh" if tanh else name)
    return found


def _said(names: Names, place: Place) -> tuple[set[str], str]:
    marks = [mark for mark in OPENAI_MARKS if _has(names, place.outer + mark) or _has(names, place.prefix + mark)]
    if len(marks) >= 2:
        return {QUICK}, f"OpenAI's marks {', '.join(marks)} are in it"
    inner = names.config.get("vision_config")
    for settings in (inner if isinstance(inner, Mapping) else {}, names.config):
        if settings.get("hidden_act") in SAID:
            return SAID[settings["hidden_act"]], f"hidden_act = {settings['hidden_act']} in its config.json"
    return set(), ""


def _has(names: Names, name: str) -> bool:
    return name in names.tensors or name in names.values


def variant_of(architecture: str) -> str:
    """The id of the same architecture with QuickGELU."""
    import open_clip
    import timm

    source, _, rest = architecture.partition("/")
    if source == "open_clip":
        name = f"{rest.partition('/')[0]}-quickgelu"
        return f"open_clip/{name}" if name in open_clip.list_models() else "--model-args quick_gelu=true"
    name = rest.partition(".")[0].replace("_clip_", "_clip_quickgelu_")
    if source == "timm" and name != rest and timm.is_model(name):
        return f"timm/{name}"
    return "--model-args act_layer=quick_gelu"
