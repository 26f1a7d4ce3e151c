"""A model as an ONNX graph that browsers run: of one image, how strongly each FFN neuron fires and where.

The graph takes `pixels`, float32 (1, 3, height, width) in [0, 1], normalises them itself, and gives for every FFN site
`peaks.LAYER`, (width,): each neuron's strongest patch token (pipeline/probe/measure.py, by which exciting images are
chosen too), and for every call of the site `map.LAYER.CALL`, (rows, columns, width): its activation at each. What
lies behind the last site is not in it. A graph is handed out only where it gives what torch gives.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from atlas_schema.errors import BadConfig, WorkFailed
from pipeline.hooks.activations import stream_ffn_activations
from pipeline.models import LoadedModel

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

FORMAT = 1
"""Raise it when the graph of the same weights changes."""

TOLERANCE = 1e-4
"""Largest deviation from torch, as a share of the largest activation of an output."""

LARGEST_BYTES = 1 << 30
"""Of a graph: WebAssembly has 4 GiB in all, and a session needs the weights about twice while it is made."""

LARGEST_WEIGHTS = 2 * 10**9
"""Bytes of a model's float32 weights: an ONNX file without companions holds 2 GiB."""

OPSET = 18
NEEDED = ("onnx", "onnxscript", "onnxruntime")
_WORTH_HALVING = 1024  # values of a weight


def require_exporter() -> None:
    """BadConfig where the packages are missing that write and check a graph."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise BadConfig(
            f"Models for browsers are written by packages that are not installed: {', '.join(missing)}. "
            "Install them: pip install 'neuron-atlas[browser]'"
        )


def output_names(model: LoadedModel) -> list[str]:
    """Names of the graph's outputs, in order."""
    sites = model.description.ffn_sites
    maps = [f"map.{site.layer}.{call}" for site in sites for call in range(len(site.grids))]
    return [*(f"peaks.{site.layer}" for site in sites), *maps]


class Reading(nn.Module):
    """What the graph computes, in torch."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.module = model.module
        self._model = model
        # its own: a tracer would leave stand-ins in what `LoadedModel.normalise` keeps
        mean, std = (torch.tensor(values)[:, None, None] for values in (model.description.mean, model.description.std))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """pixels: (1, 3, height, width) in [0, 1]; the outputs in the order of `output_names`."""
        sites = self._model.description.ffn_sites
        hidden: dict[int, list[Tensor]] = {}
        x = (pixels - self.get_buffer("mean")) / self.get_buffer("std")
        stream_ffn_activations(self._model, x, hidden.__setitem__, to_the_end=True)
        peaks = [torch.stack([call[0].amax(0) for call in hidden[site.layer]]).amax(0) for site in sites]
        maps = [call[0].unflatten(0, grid) for site in sites for call, grid in _calls(hidden[site.layer], site.grids)]
        return (*peaks, *maps)


def _calls(hidden: list[Tensor], grids: tuple[tuple[int, int], ...]) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    return zip(hidden, grids, strict=True)


def graph_of(model: LoadedModel) -> bytes:
    """The graph of a float32 model on the CPU, as an ONNX file. BadConfig without the packages; WorkFailed where torch
    cannot write the model, or where the file is too large for a browser.
    """
    require_exporter()
    require_small_weights(model.description.parameters)
    reading = Reading(model).eval()
    pixels = torch.zeros(1, 3, *model.description.input_size)
    try:
        with torch.no_grad(), warnings.catch_warnings(), _plain_attention(model.module):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                reading,
                (pixels,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["pixels"],
                output_names=output_names(model),
            )
    except Exception as error:  # the exporter wraps whatever stopped it, of many kinds
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise WorkFailed(
            f"{model.description.id}: torch cannot write it as ONNX: {reason[0][:300]}\n"
            "Leave it out of --in-browser; the rest of its site is not concerned."
        ) from error
    return _slim(program)


def _slim(program: Any) -> bytes:
    """An exported program as a file: without notes on where nodes come from, weights as small as they can be."""
    import onnx

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.onnx"
        program.save(str(path), external_data=False)
        graph: ModelProto = onnx.load(str(path))
    for node in graph.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    graph.graph.ClearField("value_info")
    graph.ClearField("metadata_props")
    halve(graph)
    _require_small(graph.ByteSize(), LARGEST_BYTES)
    data: bytes = graph.SerializeToString(deterministic=True)
    return data


def require_small_weights(parameters: int) -> None:
    """WorkFailed where so many float32 parameters are more than one ONNX file holds."""
    _require_small(4 * parameters, LARGEST_WEIGHTS)


def _require_small(size: int, most: int) -> None:
    if size > most:
        raise WorkFailed(
            f"The model takes {size / 1e9:.2g} GB as ONNX, and browsers are given at most {most / 1e9:.2g} GB: "
            "leave it out of --in-browser."
        )


def halve(model: ModelProto) -> None:
    """Keep weights that float16 holds exactly in it, and cast them back as they are used: half the bytes, no loss."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weight in model.graph.initializer:
        if weight.data_type != TensorProto.FLOAT or np.prod(weight.dims) < _WORTH_HALVING:
            continue
        values = numpy_helper.to_array(weight)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            name = weight.name
            stored: TensorProto = numpy_helper.from_array(half, f"{name}.half")
            weight.CopyFrom(stored)
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)


@contextmanager
def _plain_attention(module: nn.Module) -> Iterator[None]:
    """Attention as products of matrices, which ONNX has in every shape; the fused one only for four axes."""
    fused: list[Any] = [part for part in module.modules() if getattr(part, "fused_attn", False)]
    for part in fused:
        part.fused_attn = False
    try:
        yield
    finally:
        for part in fused:
            part.fused_attn = True


class Runner:
    """A graph in onnxruntime on the CPU, as a browser runs it."""

    def __init__(self, graph: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Tensor) -> dict[str, np.ndarray]:
        """pixels: (3, height, width) in [0, 1]; outputs by name."""
        names = [output.name for output in self.session.get_outputs()]
        values = self.session.run(names, {"pixels": pixels[None].numpy()})
        return dict(zip(names, values, strict=True))


@torch.no_grad()
def deviation(graph: bytes, model: LoadedModel, images: Tensor) -> float:
    """How far a graph is from torch on some images, as the largest share of an output's largest activation.

    images: (n, 3, height, width) in [0, 1].
    """
    run, reading, names = Runner(graph), Reading(model), output_names(model)
    worst = 0.0
    for pixels in images:
        found = run(pixels)
        for name, expected in zip(names, reading(pixels[None]), strict=True):
            largest = max(float(expected.abs().max()), 1e-12)
            worst = max(worst, float(np.abs(found[name] - expected.numpy()).max()) / largest)
    return worst


def checked_graph(model: LoadedModel, images: Tensor) -> tuple[bytes, float]:
    """The graph, and how far it is from torch on some images; WorkFailed where that is more than `TOLERANCE`."""
    graph = graph_of(model)
    far = deviation(graph, model, images)
    if not far <= TOLERANCE:
        raise WorkFailed(
            f"{model.description.id}: as ONNX its activations differ from torch's by {far:.2g} of the largest on "
            f"{len(images)} images, allowed are {TOLERANCE:g}: a browser would show other neurons. "
            "Leave it out of --in-browser."
        )
    return graph, far
