"""Weights under the names of Hugging Face transformers: the same features as that library computes.

Both libraries compute the same sums, in an order that is each one's own: features are compared to float32 rounding (the
largest difference of tokens was 0 where this was written). Skipped where transformers is not installed.
"""

import json

import pytest
import torch

from atlas_schema.errors import WeightsMismatch
from pipeline.models import ModelRequest, load
from tests.pipeline.checkpoints import shaken

transformers = pytest.importorskip(
    "transformers", reason="needs transformers (the dev extra): pip install transformers"
)

SIZE, PATCH, WIDTH, DEPTH, HEADS, HIDDEN = 32, 8, 32, 2, 2, 64
PIXELS = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "image_size": SIZE,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
}
TIMM = (("depth", DEPTH), ("embed_dim", WIDTH), ("num_heads", HEADS), ("patch_size", PATCH))


def asked(name: str, folder, **more) -> ModelRequest:
    arguments = tuple(sorted({**dict(TIMM), **more}.items()))
    return ModelRequest(f"timm/{name}", weights=str(folder), name="mine", input_size=SIZE, arguments=arguments)


def saved(module, folder) -> torch.nn.Module:
    torch.manual_seed(7)
    shaken(module).save_pretrained(folder)
    return module


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 2e-6 * theirs.abs().max()


FORMS = {
    "ViT": (
        lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**COMMON, intermediate_size=HIDDEN)),
        "vit_tiny_patch16_224",
        {"mlp_ratio": 2.0},
    ),
    "DeiT, distilled": (
        lambda: transformers.DeiTForImageClassificationWithTeacher(
            transformers.DeiTConfig(**COMMON, intermediate_size=HIDDEN)
        ),
        "deit_tiny_distilled_patch16_224",
        {"mlp_ratio": 2.0},
    ),
    "DINOv2": (
        lambda: transformers.Dinov2Model(transformers.Dinov2Config(**COMMON, mlp_ratio=2)),
        "vit_small_patch14_dinov2",
        {"mlp_ratio": 2.0},
    ),
    "DINOv2, registers": (
        lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**COMMON, mlp_ratio=2, num_register_tokens=4)
        ),
        "vit_small_patch14_reg4_dinov2",
        {"mlp_ratio": 2.0},
    ),
    "DINOv3": (
        lambda: transformers.DINOv3ViTModel(
            transformers.DINOv3ViTConfig(
                **COMMON | {"layer_norm_eps": 1e-5}, intermediate_size=HIDDEN, num_register_tokens=4, query_bias=False,
                value_bias=False,
            )
        ),
        "vit_small_patch16_dinov3",
        {"mlp_ratio": 2.0},
    ),
}  # fmt: skip


def hidden_states(module) -> torch.Tensor:
    inner = next((getattr(module, name) for name in ("vit", "deit") if hasattr(module, name)), module)
    with torch.no_grad():
        return inner(PIXELS).last_hidden_state


@pytest.mark.parametrize("as_saved", [True, False], ids=["save_pretrained", "state_dict"])
@pytest.mark.parametrize("form", FORMS)
def test_tokens_are_those_of_transformers(form, as_saved, tmp_path):
    make, name, more = FORMS[form]
    theirs = saved(make(), tmp_path)
    if not as_saved:
        torch.save(theirs.state_dict(), tmp_path / "memory.pth")
    ours = load(asked(name, tmp_path if as_saved else tmp_path / "memory.pth", **more))
    with torch.no_grad():
        close(ours.module.forward_features(PIXELS), hidden_states(theirs))
    assert any(note.startswith("names translated from transformers'") for note in ours.notes)


def test_logits_of_both_heads(tmp_path):
    theirs = saved(FORMS["ViT"][0](), tmp_path / "vit")
    ours = load(asked("vit_tiny_patch16_224", tmp_path / "vit", mlp_ratio=2.0))
    with torch.no_grad():
        close(ours.module(PIXELS), theirs(PIXELS).logits)
    theirs = saved(FORMS["DeiT, distilled"][0](), tmp_path / "deit")
    ours = load(asked("deit_tiny_distilled_patch16_224", tmp_path / "deit", mlp_ratio=2.0))
    with torch.no_grad():
        close(ours.module(PIXELS), theirs(PIXELS).logits)


def test_swin(tmp_path):
    config = transformers.SwinConfig(
        image_size=56, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=7, layer_norm_eps=1e-5
    )
    theirs = saved(transformers.SwinForImageClassification(config), tmp_path)
    arguments = (("depths", (2, 2)), ("embed_dim", 16), ("num_heads", (2, 4)))
    request = ModelRequest(
        "timm/swin_tiny_patch4_window7_224", weights=str(tmp_path), name="mine", input_size=56, arguments=arguments
    )
    pixels = torch.rand(2, 3, 56, 56)
    with torch.no_grad():
        close(load(request).module(pixels), theirs(pixels).logits)


CLIP = {**COMMON, "intermediate_size": 4 * WIDTH, "layer_norm_eps": 1e-5}


def clip_of(act: str):
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 99,
    }
    vision = {**CLIP, "hidden_act": act}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=512))


OPEN_CLIP = (("head_width", WIDTH // HEADS), ("layers", DEPTH), ("patch_size", PATCH), ("width", WIDTH))


def test_clip_into_open_clip_and_its_activation_function(tmp_path):
    theirs = saved(clip_of("quick_gelu"), tmp_path)
    request = ModelRequest(
        "open_clip/ViT-B-32", weights=str(tmp_path), name="mine", input_size=SIZE, arguments=OPEN_CLIP
    )
    with pytest.raises(
        WeightsMismatch, match=r"hidden_act = quick_gelu in its config\.json.*open_clip/ViT-B-32-quickgelu"
    ):
        load(request)
    quick = ModelRequest(
        "open_clip/ViT-B-32-quickgelu", weights=str(tmp_path), name="mine", input_size=SIZE, arguments=OPEN_CLIP
    )
    with torch.no_grad():
        features = theirs.visual_projection(theirs.vision_model(PIXELS).pooler_output)
        close(load(quick).module(PIXELS), features)


def test_clip_into_timm(tmp_path):
    theirs = saved(clip_of("gelu"), tmp_path)
    ours = load(asked("vit_base_patch32_clip_224", tmp_path))
    with torch.no_grad():
        close(ours.module(PIXELS), theirs.visual_projection(theirs.vision_model(PIXELS).pooler_output))


def test_siglip_into_timm(tmp_path):
    vision = {**COMMON, "intermediate_size": 2 * WIDTH, "hidden_act": "gelu_pytorch_tanh"}
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "vocab_size": 99,
    }
    theirs = saved(
        transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)), tmp_path
    )
    ours = load(asked("vit_base_patch16_siglip_224", tmp_path, mlp_ratio=2.0, act_layer="gelu_tanh"))
    with torch.no_grad():
        close(ours.module(PIXELS), theirs.vision_model(PIXELS).pooler_output)


def test_another_epsilon_of_norms_is_said(tmp_path):
    """transformers' ViT has 1e-12 where timm's has 1e-6."""
    config = transformers.ViTConfig(**{**COMMON, "layer_norm_eps": 1e-12}, intermediate_size=HIDDEN)
    saved(transformers.ViTModel(config), tmp_path)
    ours = load(asked("vit_tiny_patch16_224", tmp_path, mlp_ratio=2.0))
    assert "norms have an epsilon of 1e-06, where config.json names 1e-12" in ours.notes


def test_a_folder_is_a_model(tmp_path):
    """The architecture from config.json, the weights beside it."""
    theirs = saved(FORMS["DINOv2, registers"][0](), tmp_path)
    ours = load(ModelRequest(str(tmp_path)))
    assert dict(ours.description.arguments) == {**dict(TIMM), "mlp_ratio": 2.0}
    with torch.no_grad():
        close(ours.module.forward_features(PIXELS), hidden_states(theirs))


def test_a_config_that_names_another_size_is_resampled_and_said(tmp_path):
    saved(FORMS["ViT"][0](), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["image_size"] == SIZE
    arguments = tuple(sorted({**dict(TIMM), "mlp_ratio": 2.0}.items()))
    request = ModelRequest(
        "timm/vit_tiny_patch16_224", weights=str(tmp_path), name="mine", input_size=64, arguments=arguments
    )
    assert "resampled from 1 x 17 x 32 to 1 x 65 x 32: pos_embed" in load(request).notes
