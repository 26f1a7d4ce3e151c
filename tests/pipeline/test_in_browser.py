"""Models written for browsers: the graph gives what torch gives, in every family, or is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from atlas_schema.errors import BadConfig, WorkFailed
from pipeline.hooks.activations import all_ffn_activations
from pipeline.images.world import World
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.preprocess import pixels_of
from pipeline.probe.measure import measure
from pipeline.uses import in_browser


def scenes(model: LoadedModel, count: int) -> torch.Tensor:
    return torch.stack([pixels_of(World().fetch(index)[0], model.description) for index in range(count)])


def differs(model: LoadedModel, graph: bytes, images: torch.Tensor) -> float:
    """By the probe stage's own measure, and by the maps as they are: the largest share of a layer's largest value."""
    run, worst = in_browser.Runner(graph), 0.0
    for pixels in images:
        found = run(pixels)
        with torch.no_grad():
            hidden = all_ffn_activations(model, model.normalise(pixels[None]))
        for site in model.description.ffn_sites:
            peak = measure(torch.zeros(1, dtype=torch.int64), hidden[site.layer], site.grids).peak[0].numpy()
            worst = max(worst, np.abs(found[f"peaks.{site.layer}"] - peak).max() / np.abs(peak).max())
            for call, (grid, values) in enumerate(zip(site.grids, hidden[site.layer], strict=True)):
                field = values[0].unflatten(0, grid).numpy()
                worst = max(worst, np.abs(found[f"map.{site.layer}.{call}"] - field).max() / np.abs(field).max())
    return float(worst)


def test_a_graph_gives_what_the_probe_stage_measures(vit: LoadedModel, vit_graph: bytes) -> None:
    assert differs(vit, vit_graph, scenes(vit, 3)) < in_browser.TOLERANCE


def test_a_graph_ends_behind_the_last_site_and_leaves_the_model_as_it_was(vit: LoadedModel, vit_graph: bytes) -> None:
    import onnx

    graph = onnx.load_from_string(vit_graph).graph
    used = {name for node in graph.node for name in node.input}
    assert {weight.name for weight in graph.initializer} <= used
    site = vit.description.ffn_sites[-1]
    after = vit.module.get_submodule(site.post)
    shapes = [tuple(weight.dims) for weight in graph.initializer]
    assert shapes.count((site.width, after.weight.shape[0])) == len(vit.description.ffn_sites) - 1, (
        "none behind the last"
    )
    assert all(part.fused_attn for part in vit.module.modules() if hasattr(part, "fused_attn"))
    assert torch.isfinite(vit.module(vit.normalise(scenes(vit, 1)))).all()


def test_weights_that_float16_holds_are_kept_in_it() -> None:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    exact = rng.normal(size=(64, 64)).astype(np.float16).astype(np.float32)
    weights = {"exact": exact, "other": exact + np.float32(1e-4), "large": exact * 1e6, "short": exact[0]}
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "exact"], ["y"]), helper.make_node("Mul", ["y", "other"], ["z"])],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64, 64])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [64, 64])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", in_browser.OPSET)], ir_version=10)
    in_browser.halve(model)
    kept = {weight.name: weight.data_type for weight in model.graph.initializer}
    assert kept == {"exact.half": TensorProto.FLOAT16} | dict.fromkeys(("other", "large", "short"), TensorProto.FLOAT)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = rng.normal(size=(64, 64)).astype(np.float32)
    assert np.array_equal(session.run(None, {"x": x})[0], (x + exact) * weights["other"])


def test_a_graph_that_is_not_equal_is_refused(
    vit: LoadedModel, vit_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        weight = vit.module.get_parameter("blocks.0.mlp.fc1.bias")
        was = weight.clone()
        weight += 0.01
    monkeypatch.setattr(in_browser, "graph_of", lambda model: vit_graph)
    with pytest.raises(WorkFailed, match=r"its activations differ from torch's by .* allowed are 0\.0001"):
        in_browser.checked_graph(vit, scenes(vit, 1))
    with torch.no_grad():
        weight.copy_(was)


def test_a_model_that_no_browser_could_hold_is_refused_at_once(
    vit: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_browser, "LARGEST_WEIGHTS", 600_000)
    with pytest.raises(WorkFailed, match=r"takes 0\.00061 GB as ONNX, and browsers are given at most 0\.0006 GB"):
        in_browser.graph_of(vit)


def test_without_the_packages_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        return None if name == "onnxscript" else object()

    monkeypatch.setattr(in_browser, "find_spec", absent)
    with pytest.raises(BadConfig, match=r"not installed: onnxscript\. .*neuron-atlas\[browser\]"):
        in_browser.require_exporter()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "swin", "clip", "coat"])
def test_a_family_of_the_zoo_is_equal_on_twenty_images(name: str) -> None:
    """CoaT: sites that fire at several scales."""
    model = load(ModelRequest(f"zoo/{name}"))
    assert differs(model, in_browser.graph_of(model), scenes(model, 20)) < in_browser.TOLERANCE
