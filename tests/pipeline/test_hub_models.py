"""`hf://ORG/NAME` and folders of the hub: architecture, size and preparation of pictures from their config files."""

import json
import socket

import pytest
import safetensors.torch
import torch

from atlas_schema.errors import NoNetwork, UnknownModel
from pipeline.models import ModelRequest, describe, load
from pipeline.models.hub_models import CLIP, OF_TIMM, SIGLIP, hub_model
from pipeline.models.sources import blueprint
from tests.pipeline.checkpoints import PIXELS, assert_equal, made

VIT = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
VIT |= {"patch_size": 16, "image_size": 224}
SMALL = {**VIT, "hidden_size": 384, "num_attention_heads": 6, "mlp_ratio": 4, "patch_size": 14, "image_size": 518}
SWIN = {"depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "embed_dim": 96, "window_size": 7, "patch_size": 4}

#: config.json -> the architecture, its arguments, the size of its pictures
CONFIGS = [
    ({"model_type": "vit", **VIT}, "timm/vit_base_patch16_224", {}, 224),
    ({"model_type": "vit", **VIT, "image_size": 384}, "timm/vit_base_patch16_224", {}, 384),
    ({"model_type": "vit_mae", **VIT}, "timm/vit_base_patch16_224", {}, 224),
    ({"model_type": "vit", **VIT, "qkv_bias": False}, "timm/vit_base_patch16_224", {"qkv_bias": False}, 224),
    (
        {"model_type": "vit", **VIT, "num_hidden_layers": 3},
        "timm/vit_base_patch16_224",
        {"depth": 3, "embed_dim": 768, "num_heads": 12, "patch_size": 16},
        224,
    ),
    ({"model_type": "deit", **VIT}, "timm/deit_base_patch16_224", {}, 224),
    (
        {"model_type": "deit", **VIT, "architectures": ["DeiTForImageClassificationWithTeacher"]},
        "timm/deit_base_distilled_patch16_224",
        {},
        224,
    ),
    ({"model_type": "dinov2", **SMALL}, "timm/vit_small_patch14_dinov2", {}, 518),
    ({"model_type": "dinov2_with_registers", **SMALL}, "timm/vit_small_patch14_reg4_dinov2", {}, 518),
    (
        {"model_type": "dinov3_vit", **SMALL, "patch_size": 16, "image_size": 224},
        "timm/vit_small_patch16_dinov3",
        {},
        224,
    ),
    ({"model_type": "swin", **SWIN, "image_size": 224}, "timm/swin_tiny_patch4_window7_224", {}, 224),
    ({"model_type": "clip", "vision_config": {**VIT, "patch_size": 32}}, "open_clip/ViT-B-32-quickgelu", {}, 224),
    ({"model_type": "clip", "vision_config": {**VIT, "hidden_act": "gelu"}}, "open_clip/ViT-B-16", {}, 224),
    (
        {"model_type": "siglip", "vision_config": {**VIT, "image_size": 256}},
        "timm/vit_base_patch16_siglip_224",
        {"act_layer": "gelu_tanh"},
        256,
    ),
]


def folder_of(config: dict, path, pictures: dict | None = None):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    if pictures is not None:
        (path / "preprocessor_config.json").write_text(json.dumps(pictures))
    return path


@pytest.mark.parametrize("entry", CONFIGS, ids=lambda entry: f"{entry[0]['model_type']} {entry[1]}")
def test_the_architecture_follows_from_the_config(entry, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "socket", None)  # neither weights nor network
    config, architecture, arguments, size = entry
    found = describe(ModelRequest(str(folder_of(config, tmp_path / "my-model"))))
    assert hub_model(str(tmp_path / "my-model")).architecture == architecture
    assert dict(found.arguments) == arguments
    assert found.input_size == (size, size)
    assert (found.id, found.slug) == ("hf://my-model", "my-model")
    assert found.neurons > 0


def test_pictures_are_prepared_as_the_folder_says(tmp_path):
    pictures = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 2}
    found = describe(ModelRequest(str(folder_of({"model_type": "vit", **VIT}, tmp_path / "m", pictures))))
    assert (found.mean, found.std, found.interpolation) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear")


def test_a_model_that_timm_pushed(tmp_path):
    source = made(global_pool="avg", num_classes=5)
    config = {
        "architecture": "test_vit",
        "num_classes": 5,
        "model_args": {"global_pool": "avg"},
        "pretrained_cfg": {
            "input_size": [3, 160, 160],
            "mean": [0.1] * 3,
            "std": [0.2] * 3,
            "interpolation": "bilinear",
        },
    }
    folder = folder_of(config, tmp_path / "pushed")
    safetensors.torch.save_file(source.state_dict(), folder / "model.safetensors")
    model = load(ModelRequest(str(folder)))
    assert_equal(model, source)
    assert model.description.mean == (0.1, 0.1, 0.1)
    assert model.notes == ("classifier head has 5 classes instead of 1000",)
    smaller = load(ModelRequest(str(folder), input_size=80)).module
    with torch.no_grad():
        assert smaller(PIXELS[:, :, :80, :80]).shape == (2, 5)


def test_other_kinds_are_named(tmp_path):
    with pytest.raises(
        UnknownModel, match=r"of the type 'resnet' are not read from the hub\. Expected clip, deit, dinov2"
    ):
        describe(ModelRequest(str(folder_of({"model_type": "resnet"}, tmp_path / "a"))))
    with pytest.raises(UnknownModel, match=r"its config\.json lacks what an architecture needs \('hidden_size'\)"):
        describe(ModelRequest(str(folder_of({"model_type": "vit"}, tmp_path / "b"))))
    folder_of({}, tmp_path / "c")
    (tmp_path / "c" / "config.json").write_text("{")
    with pytest.raises(UnknownModel, match="not valid JSON"):
        describe(ModelRequest(str(tmp_path / "c")))


def test_a_repository_is_read_through_the_hubs_client(tmp_path, monkeypatch):
    """As `hf://ORG/NAME`: its files come from the client's cache, weights only when they are loaded."""
    import huggingface_hub

    source = made()
    config = {
        "architecture": "test_vit",
        "pretrained_cfg": {"input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [1.0] * 3},
    }
    folder = folder_of(config, tmp_path / "cache", {})
    safetensors.torch.save_file(source.state_dict(), folder / "model.safetensors")
    asked: list[str] = []
    monkeypatch.setattr(
        huggingface_hub, "hf_hub_download", lambda repository, name: asked.append(name) or str(folder / name)
    )
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda repository, allow_patterns: asked.append(repository) or str(folder)
    )
    found = describe(ModelRequest("hf://somebody/my-vit"))
    assert (found.id, found.slug) == ("hf://somebody/my-vit", "somebody-my-vit")
    assert "somebody/my-vit" not in asked
    assert_equal(load(ModelRequest("hf://somebody/my-vit")), source)
    assert "somebody/my-vit" in asked


def test_no_network_is_said(monkeypatch):
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise OSError("no route to the hub\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(
        NoNetwork, match=r"hf://org/name: its config\.json is neither in the local cache .* no route to the hub"
    ):
        describe(ModelRequest("hf://org/name"))


def test_every_architecture_of_the_tables_is_there():
    for _, general in OF_TIMM.values():
        assert blueprint(f"timm/{general}")
    for name in SIGLIP.values():
        assert blueprint(f"timm/{name}")
    for name in CLIP.values():
        assert blueprint(f"open_clip/{name}")
