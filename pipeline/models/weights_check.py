"""What a file of weights is, which architectures it fits, what is done to it on the way in, and how to ask for it."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, replace

from atlas_schema.errors import AtlasError
from pipeline.models.description import ModelRequest
from pipeline.models.load import fitting_arguments, load
from pipeline.models.ranking import Candidate, ranked
from pipeline.models.weights import ODD, Names, names_of, read_file

MOST_TRIED = 4  # architectures of the same shapes, after the best


@dataclass(frozen=True)
class WeightsReport:
    """`request` loads the file where `error` is empty; `notes` are what it does to the weights."""

    location: str
    form: str
    tensors: int
    bytes: int
    candidates: tuple[Candidate, ...]
    request: ModelRequest | None
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def command(self) -> str:
        """The run that works; "" where none does."""
        return run_command(self.request) if self.request is not None and not self.error else ""


def check_weights(location: str, model: str | None = None) -> WeightsReport:
    """Read a file, compare it with every architecture (or with one), and load it into the best.

    WeightsUnreadable where it cannot be read: the error says what it is.
    """
    checkpoint = read_file(location)
    names = names_of(checkpoint)
    found = () if model else tuple(ranked(names))
    size = sum(value.numel() * value.element_size() for value in names.tensors.values())
    report = WeightsReport(location, checkpoint.form, len(names.tensors), size, found, None)
    chosen = [model] if model else [one for best in found[:1] for one in _like(best)]
    if not chosen:
        return replace(report, error=_unknown(names))
    tried = [_tried(report, ModelRequest(one, weights=location, name=_name(location)), names) for one in chosen[:1]]
    while tried[-1].error and len(tried) < len(chosen):  # the same shapes with another activation function
        tried.append(_tried(report, ModelRequest(chosen[len(tried)], weights=location, name=_name(location)), names))
    return tried[0] if tried[-1].error else tried[-1]


def _unknown(names: Names) -> str:
    """Why no architecture has such names, as far as they say it."""
    done = next((told for part, told in ODD if any(part in name for name in names.tensors)), "")
    return f"None of its tensors has a name of a known architecture{done and f': {done}'}."


def _like(best: Candidate) -> list[str]:
    """The best architecture, then others of the same shapes: variants of its own name first."""
    others = sorted(best.same, key=lambda one: (not one.startswith(best.id), len(one), one))
    return [best.id, *others[:MOST_TRIED]]


def _tried(report: WeightsReport, request: ModelRequest, names: Names) -> WeightsReport:
    """The report of loading a file into one architecture, with the arguments that this takes."""
    try:
        return replace(report, request=request, notes=load(request).notes)
    except AtlasError as error:
        told = str(error)
    arguments = fitting_arguments(request, names)
    if arguments:
        request = replace(request, arguments=arguments)
        try:
            return replace(report, request=request, notes=load(request).notes)
        except AtlasError as error:
            told = str(error)
    return replace(report, request=request, error=told)


def run_command(request: ModelRequest) -> str:
    """The command line of a request."""
    parts = ["neuron-atlas", "run", "--model", request.model, "--weights", request.weights or ""]
    parts += [part for name, value in request.arguments for part in ("--model-args", f"{name}={value}")]
    return shlex.join([*parts, "--as", request.name or "", "--out", "atlas"])


def _name(location: str) -> str:
    """A name for addresses from a file's: letters, digits and hyphens."""
    stem = os.path.basename(location.rstrip("/")).partition(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "mine"
