"""Weights into a module: found wherever they stand in a checkpoint, all of them, or refused. Every change is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from atlas_schema.errors import WeightsMismatch, WeightsUnreadable
from pipeline.models.weights.activation import check_activation
from pipeline.models.weights.files import listed
from pipeline.models.weights.grids import check_grids
from pipeline.models.weights.names import Names
from pipeline.models.weights.search import RULE, Place, equal, library_places, places, preferred, within
from pipeline.models.weights.shared import without_shared_tables
from pipeline.models.weights.trial import Trial, attempt, classifier_names

#: Tensors that an architecture has no place for -> what they are a mark of.
MARKS = (
    ("dist_token", "a distilled model: name the architecture with `_distilled_` in its name"),
    ("attn_pool.", "a pooling head: --model-args global_pool=map, or an architecture that has it"),
)

NO_FIT = "does not fit"  # in messages on names and shapes, for which other arguments may be a way out

#: Parts of names -> what was done to the weights, and how it is undone.
ODD = (
    ("lora_", "adapters (LoRA) stand beside the weights: merge them first (model.merge_and_unload())"),
    ("base_layer", "adapters (PEFT) wrap the layers: merge them first (model.merge_and_unload())"),
    ("parametrizations", "a parametrization is in it: remove it first (torch.nn.utils.parametrize)"),
    ("weight_g", "weight normalisation is in it: remove it first (torch.nn.utils.remove_weight_norm)"),
    ("qweight", "its weights are quantised: take those that they were made from"),
    (".SCB", "its weights are quantised: take those that they were made from"),
    ("_flat_param", "its weights are flattened by FSDP: save a full state dict (StateDictType.FULL_STATE_DICT)"),
)


def fit(module: nn.Module, names: Names, *, which: str = "", architecture: str = "") -> tuple[str, ...]:
    """Load weights into a module: all its names with their shapes, but for its classifier.

    which: of several models in a checkpoint, the prefix of the one that is meant. architecture: the model id, for
    messages. Returns a sentence for every thing that is not as the file or the architecture has it. WeightsMismatch
    where the file does not hold this model, or several and no rule chooses; WeightsUnreadable for NaN in what is used.
    """
    names, copied = without_shared_tables(module, names)
    trial, chosen = choose(module, names, which)
    notes = list(check_activation(module, names, trial.place, architecture))
    if _all_named(trial, module) and not trial.unexpected:
        notes += check_grids(module, trial.state, names)
        trial = attempt(trial.place, names.tensors, module)  # now the module may know the grid
    if not trial.fits:
        raise WeightsMismatch(mismatch(trial, names, module))
    weights = {name: value.float() if value.is_floating_point() else value for name, value in trial.weights.items()}
    _check_finite(weights, names)
    notes = [
        *chosen,
        *_translated(trial),
        *_left_out(trial),
        *_unnamed(names),
        *copied,
        *_widened(trial),
        *notes,
        *_resampled(trial),
    ]
    notes += settle_classifier(module, weights)
    module.load_state_dict(weights)
    return tuple(notes)


def choose(module: nn.Module, names: Names, which: str = "") -> tuple[Trial, tuple[str, ...]]:
    """The place of a checkpoint that is this model, tried; and what is to be said of the choice.

    Where none is whole, the one that lacks least, for the message. WeightsMismatch where the rule does not decide
    between several, or nothing is called as `which` says.
    """
    found = places(names.tensors, module)
    if which:
        found = _named(found, which, names)
    trials = [attempt(place, names.tensors, module) for place in found]
    if not any(trial.whole for trial in trials) and not which:
        trials += [attempt(place, names.tensors, module) for place in library_places(names.tensors)]
    whole = _one_a_prefix([trial for trial in trials if trial.whole])
    if not whole:
        return min(trials, key=lambda trial: (_lacking(trial), len(trial.place.prefix))), ()
    if len(whole) == 1:
        return whole[0], (f"{whole[0].place.label} taken, as --which {which} says",) if which else ()
    best = preferred([trial.place for trial in whole])
    if best is not None:
        left = [trial.place.label or "the names without prefix" for trial in whole if trial.place is not best]
        taken = next(trial for trial in whole if trial.place is best)
        return taken, (f"{best.label} taken, not {listed(left)}: --which chooses",)
    if all(equal(whole[0].weights, trial.weights) for trial in whole[1:]):
        return whole[0], ()
    labels = [trial.place.label or "''" for trial in whole]
    raise WeightsMismatch(
        f"{names.location} holds {len(whole)} models of this architecture: {', '.join(labels)}. Say which with "
        f"--which {labels[0]} (or another of these). {RULE}"
    )


def _lacking(trial: Trial) -> int:
    """How many tensors of a module a place does not give; where the library gave up, by their names alone."""
    return len(trial.missing) + (0 if trial.error else len(trial.misshapen))


def _named(found: Sequence[Place], which: str, names: Names) -> list[Place]:
    chosen = within(found, which)
    if not chosen:
        labels = dict.fromkeys(place.label or "''" for place in found)
        there = f"It holds this architecture under: {listed(labels, 8)}." if labels else "Nothing in it fits at all."
        raise WeightsMismatch(f"{names.location}: nothing of this architecture is called {which!r}. {there}")
    return chosen


def _one_a_prefix(trials: Iterable[Trial]) -> list[Trial]:
    """Of the layouts that fit at one prefix, the one that has most of the module's names."""
    best: dict[str, Trial] = {}
    for trial in trials:
        there = best.get(trial.place.prefix)
        if there is None or len(trial.weights) > len(there.weights):
            best[trial.place.prefix] = trial
    return list(best.values())


def _all_named(trial: Trial, module: nn.Module) -> bool:
    """Whether every tensor of the encoder is there by name, whatever its shape."""
    heads = tuple(f"{name}." for name in classifier_names(module))
    return all(name in trial.state or bool(heads and name.startswith(heads)) for name in module.state_dict())


def _check_finite(weights: dict[str, Tensor], names: Names) -> None:
    broken = [key for key, value in weights.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if broken:
        raise WeightsUnreadable(
            f"{names.location}: NaN or infinity in {len(broken)} of {len(weights)} tensors ({listed(broken)}). "
            "The checkpoint is damaged, or its training diverged."
        )


# -------------------------------------------------------------------------------------------------------- what is said


def _translated(trial: Trial) -> Iterator[str]:
    if trial.place.prefix:
        yield f"taken from under {trial.place.label}"
    if trial.place.layout.rules:
        yield f"names translated from {trial.place.layout.name}"


def _left_out(trial: Trial) -> Iterator[str]:
    if trial.left_out:
        groups: dict[str, list[str]] = {}
        for name in trial.left_out:
            groups.setdefault(_group(name, trial.place.prefix), []).append(name)
        most = sorted(groups.items(), key=lambda group: -len(group[1]))
        told = [names[0] if len(names) == 1 else f"{group}: {len(names)}" for group, names in most]
        yield f"tensors of other modules left out: {len(trial.left_out)} ({listed(told, 6)})"


def _unnamed(names: Names) -> Iterator[str]:
    for name, count in names.unnamed().items():
        yield f"not read: {name}, a list of {count} tensors without names"


def _group(name: str, prefix: str) -> str:
    """What a tensor that is left out belongs to: the first part in which its name differs from the encoder's."""
    depth = 0
    parts, common = name.split("."), prefix.split(".")
    while depth < len(parts) - 1 and depth < len(common) and parts[depth] == common[depth]:
        depth += 1
    return ".".join(parts[: depth + 1])


def _widened(trial: Trial) -> Iterator[str]:
    for kind in trial.kinds:
        if "float" in kind and kind != "torch.float32":
            word = "narrowed" if kind == "torch.float64" else "widened"
            yield f"{kind.removeprefix('torch.')} {word} to float32"


def _resampled(trial: Trial) -> Iterator[str]:
    changed: dict[tuple[str, str], list[str]] = {}
    for name, (before, after) in trial.resampled.items():
        changed.setdefault((_shape(before), _shape(after)), []).append(name)
    for (old, new), found in changed.items():
        yield f"resampled from {old} to {new}: {listed(found, 1)}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def mismatch(trial: Trial, names: Names, module: nn.Module) -> str:
    """What differs between a place and a module, in a few lines."""
    own = module.state_dict()
    kind = type(module).__name__
    location = names.location
    if trial.error and not trial.weights:
        return (
            f"{location} {NO_FIT} {kind}: {trial.error} while its {len(names.tensors)} tensors "
            f"({listed(names.tensors)}) were read as weights of this architecture."
        )
    if not trial.weights:
        return (
            f"{location} {NO_FIT} {kind}: none of its {len(names.tensors)} tensors has a name of "
            f"this architecture ({listed(names.tensors)}). Name the architecture they were trained with."
        )
    where = f" (under {trial.place.label})" if trial.place.prefix else ""
    where += f", read as names of {trial.place.layout.name}," if trial.place.layout.rules else ""
    lines = [f"{location}{where} {NO_FIT} {kind}:"]
    if trial.missing:
        lines.append(f"  {len(trial.missing)} missing: {listed(trial.missing)}")
    if trial.unexpected:
        lines.append(f"  {len(trial.unexpected)} unexpected: {listed(trial.unexpected)}")
    if trial.misshapen:
        lines.append(f"  {len(trial.misshapen)} of another shape: {listed(_shapes(trial, own))}")
    lines += [f"  the library's own conversion ended in: {trial.error}"] if trial.error else []
    lines += [f"  {told}." for part, told in MARKS if any(name.startswith(part) for name in trial.unexpected)]
    lines += [f"  {told}." for part, told in ODD if any(part in name for name in names.tensors)][:2]
    lines.append("Name the architecture (and --input-size) they were trained with, or rename their keys.")
    return "\n".join(lines)


def _shapes(trial: Trial, own: dict[str, Tensor]) -> list[str]:
    told = []
    for name in trial.misshapen:
        value = trial.weights[name]
        kind = "" if value.is_floating_point() == own[name].is_floating_point() else f" of {value.dtype}"
        told.append(f"{name} {tuple(value.shape)}{kind}, expected {tuple(own[name].shape)}")
    return told


# ---------------------------------------------------------------------------------------------------------- classifiers


def settle_classifier(module: nn.Module, weights: dict[str, Tensor]) -> list[str]:
    """Make the module's classifier what the weights have: of their number of classes, or zero where they
    have none.

    Changes `module` and removes from `weights` what a module without a classifier cannot take.
    """
    notes = []
    for name in classifier_names(module):
        own, given = f"{name}.weight" in module.state_dict(), weights.get(f"{name}.weight")
        if not own:
            continue
        if given is None:
            notes.append(f"classifier {name} missing: set to zero")
        elif given.shape[0] != module.state_dict()[f"{name}.weight"].shape[0]:
            classes = module.state_dict()[f"{name}.weight"].shape[0]
            module.reset_classifier(given.shape[0])  # type: ignore[operator]
            notes.append(f"classifier {name} has {given.shape[0]} classes instead of {classes}")
        notes += _zeroed(module, weights, name, alone=given is not None)
    return notes


def _zeroed(module: nn.Module, weights: dict[str, Tensor], name: str, *, alone: bool) -> list[str]:
    """Set to zero what a classifier lacks; alone: it has its weight."""
    notes = []
    for part in ("weight", "bias"):
        key = f"{name}.{part}"
        if key in module.state_dict() and key not in weights:
            weights[key] = torch.zeros_like(module.state_dict()[key])
            notes += [f"{key} missing: set to zero"] if alone else []
    return notes
