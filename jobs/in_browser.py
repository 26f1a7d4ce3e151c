"""Models of an atlas for the browsers of its site: asked for as its runs did, and held against its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas_schema.errors import AtlasError, NothingThere, WeightsMismatch, nearest
from atlas_schema.published import cache_folder
from atlas_schema.read import Atlas
from jobs.config import config_from_mapping
from site_builder.folders import replace
from site_builder.in_browser import InBrowser

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.models import LoadedModel, ModelRequest

Say = Callable[[str], None]
ALL = "all"
CHECKED_IMAGES = 8
"""On which a graph is held against torch as it is made."""


def models_for_browsers(url: str, names: Sequence[str], say: Say) -> list[InBrowser]:
    """The graphs of some models of an atlas, from the cache of this machine or made anew.

    names: slugs or model ids; `all` stands for every model. Raises BadConfig without the packages; NothingThere for a
    name that the atlas does not have; WeightsMismatch where the weights are not the atlas's; WorkFailed where torch
    cannot write a model, or the graph is not equal to it.
    """
    from pipeline.uses.in_browser import require_exporter

    require_exporter()
    atlas = Atlas(url)
    rows = _chosen(atlas.models(), names, url)
    runs = atlas.runs()
    return [InBrowser(row["slug"], _graph(atlas, row, runs, say)) for row in rows]


def foretold_for_browsers(url: str, names: Sequence[str], say: Say) -> list[InBrowser]:
    """The same models before any is loaded or written: what the cache has of them, else how large they may get.

    Raises BadConfig and NothingThere as `models_for_browsers` does; WorkFailed for a model that is too large.
    """
    from pipeline.uses.in_browser import require_exporter, require_small_weights

    require_exporter()
    found = []
    for row in _chosen(Atlas(url).models(), names, url):
        path, parameters = _path(row), int(row["parameters"])
        if not path.exists():
            require_small_weights(parameters)
            least, most = InBrowser(row["slug"], None, parameters).spans
            say(
                f"{row['slug']}: not written as ONNX yet; by its {parameters:,} parameters it will take "
                f"{least / 1e6:.1f} to {most / 1e6:.1f} MB. A build loads its weights, writes it and checks it by torch"
            )
        found.append(InBrowser(row["slug"], path if path.exists() else None, parameters))
    return found


def _chosen(models: Sequence[Mapping[str, Any]], names: Sequence[str], url: str) -> list[Mapping[str, Any]]:
    if ALL in names:
        return list(models)
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        row = next((one for one in models if name in (one["slug"], one["model_id"])), None)
        if row is None:
            known = [text for one in models for text in (one["slug"], one["model_id"])]
            close = nearest(name, known)
            hint = f"Nearest: {close[0]}." if close else f"It has {', '.join(one['slug'] for one in models) or 'none'}."
            raise NothingThere(f"--in-browser {name}: {url} has no such model. {hint}")
        found[row["slug"]] = row
    return list(found.values())


def _graph(atlas: Atlas, row: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], say: Say) -> Path:
    """The file of a model's graph: named by all that decides it, so that one which is there was checked already."""
    from pipeline.uses.in_browser import checked_graph

    path = _path(row)
    if path.exists():
        return path
    say(f"{row['slug']}: writing it as ONNX for browsers, and holding that against torch")
    model = _loaded(row, runs)
    graph, far = checked_graph(model, _real_images(atlas, row, model))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, graph)
    say(f"{row['slug']}: {len(graph) / 1e6:.1f} MB, within {far:.1g} of torch on {CHECKED_IMAGES} images")
    return path


def _path(row: Mapping[str, Any]) -> Path:
    return cache_folder("onnx") / f"{row['slug']}-{_key(row)}.onnx"


def _key(row: Mapping[str, Any]) -> str:
    import torch

    from pipeline.uses.in_browser import FORMAT

    fed = [row[name] for name in ("fingerprint", "input_height", "input_width", "mean", "std")]
    return hashlib.sha256(json.dumps([FORMAT, torch.__version__, *fed]).encode()).hexdigest()[:16]


def _loaded(row: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> LoadedModel:
    """The model with the weights that the atlas was made of; WeightsMismatch where these are not to be had."""
    from pipeline.models import load

    request = request_of(row, runs)
    model = load(request)
    own = model.description
    size = (row["input_height"], row["input_width"])
    if model.fingerprint != row["fingerprint"] or own.input_size != size:
        raise WeightsMismatch(
            f"--in-browser {row['slug']}: {request.weights or request.model} now has the fingerprint "
            f"{model.fingerprint[:12]} at {own.input_size[0]} x {own.input_size[1]} pixels, and the atlas was made of "
            f"{row['fingerprint'][:12]} at {size[0]} x {size[1]}. A browser would run another model: bring back the "
            "weights that the atlas was made of, or run it on these."
        )
    return model


def request_of(row: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> ModelRequest:
    """How a model of an atlas was asked for, by the configuration of the last run that did; else by its id alone.

    row: of the models table; runs: all rows of the runs table, the earliest first.
    """
    from jobs.prepare import expand
    from pipeline.models import ModelRequest
    from pipeline.models.description import slug_for

    for run in reversed(runs):
        try:
            config = config_from_mapping(json.loads(run["config"] or "{}"))
            requests = [entry.request() for entry in expand(config).models]
            asked = next((one for one in requests if slug_for(one) == row["slug"]), None)
        except (AtlasError, ValueError):  # of another version, or a library that lacks one of its models
            continue
        if asked is not None:
            return asked
    return ModelRequest(row["model_id"])


def _real_images(atlas: Atlas, row: Mapping[str, Any], model: LoadedModel) -> Tensor:
    """Some images, (CHECKED_IMAGES, 3, height, width) in [0, 1]: of the model's probe set where the atlas shows them,
    else scenes of the zoo's world.
    """
    import torch

    from pipeline.images.decoding import decoded
    from pipeline.images.world import World
    from pipeline.models.preprocess import pixels_of

    shown: list[bytes] = []
    if row["probe_set"] in atlas.probe_sets():
        cells = atlas.probe_images(row["probe_set"], ["thumbnail"])["thumbnail"].to_pylist()
        shown = [cell["bytes"] for cell in cells if cell and cell["bytes"]]
    step = max(1, len(shown) // CHECKED_IMAGES)
    pictures = [decoded(data) for data in shown[::step][:CHECKED_IMAGES]]
    pictures += [World().fetch(index)[0] for index in range(CHECKED_IMAGES - len(pictures))]
    return torch.stack([pixels_of(picture, model.description) for picture in pictures])
