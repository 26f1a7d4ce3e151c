"""The shipped models: the libraries' own classes, trained, and described rightly by their card."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from atlas_schema.errors import BadConfig, UnknownModel, WeightsUnreadable
from pipeline.zoo import ZOO, build, load_state, weights_path, zoo_config
from pipeline.zoo.card import card
from pipeline.zoo.train import RECIPES, evaluate, predict, scene_order, train
from pipeline.zoo.weights import read_weights
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, scenes

CLASSES = {
    "vit": "timm.models.vision_transformer.VisionTransformer",
    "deit": "timm.models.deit.VisionTransformerDistilled",
    "swin": "timm.models.swin_transformer.SwinTransformer",
    "coat": "timm.models.coat.CoaT",
    "convit": "timm.models.convit.ConVit",
    "pit": "timm.models.pit.PoolingVisionTransformer",
    "twins": "timm.models.twins.Twins",
    "clip": "open_clip.model.CLIP",
}


def trained(name):
    model = build(name)
    model.load_state_dict(load_state(name), strict=True)
    return model.eval()


@pytest.mark.parametrize("name", ZOO)
def test_a_model_is_the_librarys_class_and_small(name):
    with torch.device("meta"):
        model = build(name)
    assert f"{type(model).__module__}.{type(model).__qualname__}" == CLASSES[name]
    assert all(parameter.is_meta for parameter in model.parameters())
    assert 100_000 < sum(parameter.numel() for parameter in model.parameters()) < 500_000
    vision = getattr(model, "visual", model)
    neurons = [m.out_features for n, m in vision.named_modules() if n.endswith(("fc1", "c_fc"))]
    assert 256 <= sum(neurons) <= 768
    assert zoo_config(name)["family"] == name
    shapes = {key: tensor.shape for key, tensor in load_state(name).items()}
    assert shapes == {key: tensor.shape for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", ZOO)
def test_a_model_knows_every_attribute_as_well_as_its_header_says(name):
    """300 held-out scenes: far above chance everywhere, and within four standard errors of the header."""
    images = 300
    header = read_weights(weights_path(name))[1]
    assert header["model"] == f"zoo/{name}"
    assert json.loads(header["recipe"]) == asdict(RECIPES[name]), "the default recipe is not the shipped weights'"
    stated = json.loads(header["accuracies"])
    measured = evaluate(name, trained(name), images=images)
    for attribute, values in ATTRIBUTES.items():
        margin = 4 * (max(stated[attribute] * (1 - stated[attribute]), 0.002) / images) ** 0.5
        assert abs(measured[attribute] - stated[attribute]) < margin, (attribute, measured)
        assert measured[attribute] > 1 / len(values) + 0.5 * (1 - 1 / len(values)), (attribute, measured)


def test_accuracy_comes_from_the_pictures():
    """The same models, asked about other pictures than those shown, are at chance."""
    model = trained("vit")
    shown, others = scenes(HELD_OUT_SEED, range(400)), scenes(HELD_OUT_SEED, range(400, 800))
    right = (predict("vit", model, shown) == others.labels).mean(axis=0)
    for share, values in zip(right, ATTRIBUTES.values(), strict=True):
        assert abs(share - 1 / len(values)) < 0.1


def test_the_shared_ffn_of_coat_is_shared_and_its_copies_agree():
    model, state = build("coat"), load_state("coat")
    block = model.parallel_blocks[0]
    assert block.mlp2 is block.mlp3 is block.mlp4
    assert torch.equal(state["parallel_blocks.0.mlp2.fc1.weight"], state["parallel_blocks.0.mlp4.fc1.weight"])


def test_state_is_float32_on_loading_and_half_on_disk():
    assert {t.dtype for t in load_state("vit").values() if t.is_floating_point()} == {torch.float32}
    sizes = [weights_path(name).stat().st_size for name in ZOO]
    assert sum(sizes) < 10_000_000
    assert weights_path("vit").stat().st_size < 2.3 * sum(p.numel() for p in build("vit").parameters())


def test_the_card_is_generated_from_the_files():
    assert weights_path("vit").with_name("README.md").read_text(encoding="utf-8") == card(), (
        "stale: run python -m pipeline.zoo.card"
    )


@pytest.mark.parametrize("name", ["vit", "clip", "deit"])
@pytest.mark.slow
def test_training_reduces_the_loss_and_repeats(name, tmp_path):
    seen = []
    report = train(
        name, steps=25, seed=3, out=tmp_path, on_progress=lambda step, steps, loss: seen.append((step, steps, loss))
    )
    assert seen == [(i + 1, 25, loss) for i, loss in enumerate(report.losses)]
    assert sum(report.losses[-5:]) < 0.95 * sum(report.losses[:5])
    state, header = read_weights(report.path)
    assert json.loads(header["recipe"])["steps"] == 25
    assert json.loads(header["accuracies"]) == report.accuracies
    assert list(tmp_path.iterdir()) == [report.path]
    build(name).load_state_dict(state, strict=True)
    if name == "vit":
        again = train(name, steps=25, seed=3, out=tmp_path / "again")
        assert again.losses == report.losses


def test_a_bounded_training_sees_its_scenes_again_in_new_orders_and_no_others(tmp_path):
    order = np.concatenate([scene_order(first, 4, 10, seed=1) for first in range(0, 32, 4)])
    rounds = [order[begin : begin + 10].tolist() for begin in (0, 10, 20)]
    assert [sorted(one) for one in rounds] == [list(range(10))] * 3
    assert len({tuple(one) for one in rounds}) == 3, "an order of its own each time"
    assert scene_order(64, 3, None, seed=1).tolist() == [64, 65, 66]
    free = train("vit", steps=3, seed=3, out=tmp_path / "free")
    few = train("vit", steps=3, scenes=8, seed=3, out=tmp_path / "few")
    assert few.losses[1:] != free.losses[1:]
    assert read_weights(few.path)[1]["scenes"] == "8"
    assert "scenes" not in read_weights(free.path)[1]


def test_training_leaves_the_callers_generator_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train("vit", steps=1, out=tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UnknownModel, match=r"zoo/swim: no such model.*zoo/swin"):
        build("swim")
    with pytest.raises(UnknownModel, match="all: vit, deit"):
        train("resnet", out=tmp_path)
    with pytest.raises(BadConfig, match="scenes = 0: expected at least 1, or none"):
        train("vit", scenes=0, out=tmp_path)
    with pytest.raises(BadConfig, match="steps = 0"):
        train("vit", steps=0, out=tmp_path)
    broken = tmp_path / "vit.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(WeightsUnreadable, match=r"vit.safetensors.*neuron-atlas zoo train vit"):
        read_weights(broken)
    assert set(RECIPES) == set(ZOO)
