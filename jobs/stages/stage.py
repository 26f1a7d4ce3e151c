"""What a stage is: one step of the pipeline as data. Hashes, graph, resume, status, plan and docs derive from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from atlas_schema.units import WorkUnit
    from jobs.inputs import Inputs
    from jobs.work import Work
    from pipeline.models import FfnSite, LoadedModel, ModelDescription
    from pipeline.visualize.recipes import Recipe

Row = Mapping[str, Any]
#: What a stage's function gives: rows of its table, rows by table, or named arrays where it fills no table.
Result = "Sequence[Row] | Mapping[str, Sequence[Row]] | Mapping[str, np.ndarray]"

FLOAT = 4.0  # bytes of a number
TOWERS = 3.0  # times the weights of its picture tower, what a CLIP takes while it is loaded
LIVE = 4.0  # times its widest hidden vectors, what a forward holds of an image at once
GRAPH = 3.5  # times the hidden vectors of all layers, what a forward keeps of an image for a backward
PIXEL_COPIES = 6.0  # of a picture: decoded ahead, joined, normalised
IMAGE = 900.0  # FLOPs that stand for reading or changing an image, for each of its numbers (22 ns of one core)
LEAST_FLOPS = 8.0e6
"""A step on a tiny model is bound by calls, not by arithmetic: no forward of an image counts as less."""


@dataclass(frozen=True)
class Cost:
    """What a unit costs, estimated: a part that grows with its neurons, images or pairs, and one that does not."""

    each: float  # FLOPs of one neuron, image, model or pair
    fixed: float = 0.0  # FLOPs of a unit beside, whatever its length
    bytes: float = 0.0  # that each adds to the tables that people read
    kept: float = 0.0  # bytes of a unit's part beside these rows, whatever its length: what later stages read
    kept_each: float = 0.0  # the same, of one neuron or image

    def flops(self, count: int) -> float:
        """FLOPs of a unit of `count` neurons, images, models or pairs."""
        return self.fixed + count * self.each


@dataclass(frozen=True)
class Sizes:
    """What costs depend on: a model, a layer of it where the stage is cut along neurons, and counts of the inputs."""

    description: ModelDescription
    recipe: Recipe
    images: int = 0  # of the probe set
    panel: int = 0
    match_images: int = 0
    texts: int = 0  # that labels are chosen from
    pool: int = 0  # that heads are described with
    examples: int = 0
    site: FfnSite | None = None
    partner: ModelDescription | None = None  # the other model of a pair

    @property
    def forward(self) -> float:
        """FLOPs of one image through the model."""
        return max(self.description.forward_flops, LEAST_FLOPS)

    @property
    def to_site(self) -> float:
        """FLOPs of one image up to the layer."""
        return max(self.site.flops if self.site else self.forward, LEAST_FLOPS)

    def at(self, cut: object, partner: ModelDescription | None = None) -> Sizes:
        """The sizes that hold for a unit: of its layer, or with the other model of its pair."""
        layer = getattr(cut, "layer", None)
        site = self.description.ffn_sites[layer] if layer is not None else None
        return replace(self, site=site, partner=partner)

    @property
    def weights(self) -> float:
        """Bytes of the model's weights."""
        return FLOAT * self.description.parameters

    @property
    def all_weights(self) -> float:
        """... and of its text tower where it may have one, while both are loaded: the picture tower is there twice."""
        return self.weights * (1 if self.description.source == "timm" else TOWERS)

    @property
    def outputs(self) -> int:
        """Classes of the model's classifier; without one, texts that the outputs of a CLIP are read by."""
        return self.description.classes or self.texts

    @property
    def pixels(self) -> float:
        """Bytes of an image as the model takes it."""
        return FLOAT * 3 * math.prod(self.description.input_size)

    @property
    def opened(self) -> float:
        """FLOPs that stand for reading an image, or for changing one, in a batch."""
        return IMAGE * 3 * math.prod(self.description.input_size)

    @property
    def hidden(self) -> float:
        """Bytes of the widest hidden vectors of an FFN site, of all tokens of one image."""
        return FLOAT * max(hidden_floats(site) for site in self.description.ffn_sites)

    @property
    def hidden_up_to_site(self) -> float:
        """Bytes of the hidden vectors of one image in all layers up to the unit's, else in all."""
        last = self.site.layer if self.site else len(self.description.ffn_sites)
        return FLOAT * sum(hidden_floats(site) for site in self.description.ffn_sites if site.layer <= last)

    def forward_bytes(self, batch: int) -> float:
        """Bytes that a forward of a batch holds at once, its pixels and those decoded ahead included."""
        return batch * (LIVE * self.hidden + PIXEL_COPIES * self.pixels)

    @property
    def tokens(self) -> int:
        """Patch tokens of the layer's largest grid."""
        grids = self.site.grids if self.site else ()
        return max((height * width for height, width in grids), default=1)


def hidden_floats(site: FfnSite) -> int:
    """Numbers in the hidden vectors of one image at a site, over all its calls."""
    tokens = sum(height * width for height, width in site.grids)
    return site.width * (tokens + len(site.prefix_tokens) * len(site.grids))


def never(_: object) -> bool:
    """No model is an exception."""
    return False


def no_objection(_: object) -> str:
    """Every model, or every input, will do."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the pipeline.

    A unit's key holds the model's weights and the hash of: `version`, the values of `facts`, how the model is fed, and
    the settings of the stages in `reads`. Change `version` whenever the algorithm would give other numbers.
    """

    name: str
    does: str  # one line, for people who never saw the code
    group: str  # what `--stages` accepts: the stages of one group run together
    cut: Literal["neurons", "images", "targets", "readings", "model", "pair"]  # along what it is divided into units
    compute: Callable[[Work, WorkUnit], Any]  # gives a Result; run in a worker, imports there what it needs
    cost: Callable[[Sizes], Cost]
    memory: Callable[[Sizes, int], float]  # bytes with so many images in a forward, weights included; 0: what is fixed
    together: bool = False  # all neurons of a layer in one unit, as what they share is most of the work
    over: Literal["images", "panel"] = "images"  # which images, where it is cut along images
    samples: Callable[[ModelDescription], bool] = never  # models of which an image costs so much that the panel must do
    owner: Literal["model", "embedder"] = "model"  # whose weights it runs, and in whose folder its parts lie
    reads: tuple[str, ...] = ()  # stages that must be complete before; they run too where they are not
    reads_if_there: tuple[str, ...] = ()  # stages that it waits for where they run, and else takes as they stand
    facts: tuple[str, ...] = ()  # names of `jobs.facts.FACTS`: what it reads beside the model and other stages
    inverts: tuple[str, ...] = ()  # where it is cut along targets: the kinds of target that are its own
    merge: str = ""  # where it is cut along images: module:Class with of(arrays), merge(other) and arrays()
    names_classes: bool = False  # it knows the outputs of the classifier by name: other names are another result
    version: int = 1
    objects: Callable[[Inputs], str] = no_objection  # what is wrong with the inputs for this stage; "" where nothing
    unfit: Callable[[LoadedModel], str] = no_objection  # why a model cannot do it; "" where it can

    def passes_over(self, description: ModelDescription) -> Literal["images", "panel"]:
        """Which images it passes over, of a model."""
        return "panel" if self.samples(description) else self.over
