"""What would load and be another model: other grids, windows and activation functions are said, or refused."""

import argparse
import json

import open_clip
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from open_clip.model import CLIP

from atlas_schema.errors import BadConfig, NoNetwork, UnknownModel, WeightsMismatch
from pipeline.models import ModelRequest, catalogue, describe, load
from pipeline.models.sources import blueprint
from tests.pipeline.checkpoints import PIXELS, assert_equal, loaded, made, shaken, under

# ------------------------------------------------------------------------------------------------------------ grids


def test_a_rectangle_names_its_sizes_and_is_equal_at_them(tmp_path):
    wide = made(img_size=(80, 160))
    torch.save(wide.state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        WeightsMismatch, match=r"50 position embeddings.* no square grid.*80x160 \(a grid of 5 x 10\) or 160x80"
    ):
        loaded(tmp_path / "w.pth")
    model = loaded(tmp_path / "w.pth", input_size=(80, 160))
    assert model.description.input_size == (80, 160)
    assert model.description.ffn_sites[0].grids == ((5, 10),)
    assert_equal(model, wide, pixels=PIXELS[:, :, :80])


def test_a_grid_that_could_be_a_square_is_no_guess(tmp_path):
    wide = made(img_size=(80, 320))  # 5 x 20 = 10 x 10
    pixels = torch.cat([PIXELS[:, :, :80]] * 2, dim=-1)
    torch.save({"state_dict": wide.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match=r"may be a grid of 5 x 20 or of 10 x 10.*'img_size': \[80, 320\]"):
        loaded(tmp_path / "w.pth", input_size=(80, 320))
    torch.save({"state_dict": wide.state_dict(), "img_size": [80, 320]}, tmp_path / "w.pth")
    assert_equal(loaded(tmp_path / "w.pth", input_size=(80, 320)), wide, pixels=pixels)


def test_a_square_that_is_said_is_resampled_to_the_rectangle(tmp_path):
    square = made()
    torch.save({"model": square.state_dict(), "args": argparse.Namespace(img_size=160)}, tmp_path / "w.pth")
    model = loaded(tmp_path / "w.pth", input_size=(80, 320))
    want = timm.layers.resample_abs_pos_embed(square.pos_embed, new_size=[5, 20], old_size=[10, 10])
    assert torch.equal(model.module.pos_embed, want)
    assert "position embeddings are a grid of 10 x 10, by the file's own settings" in model.notes


def test_a_rectangle_that_is_said_is_not_resampled_as_a_square(tmp_path):
    wide = made(img_size=(80, 320))
    torch.save({"model": wide.state_dict(), "args": argparse.Namespace(input_size=[3, 80, 320])}, tmp_path / "w.pth")
    model = loaded(tmp_path / "w.pth", input_size=224)
    want = timm.layers.resample_abs_pos_embed(wide.pos_embed, new_size=[14, 14], old_size=[5, 20])
    assert torch.equal(model.module.pos_embed, want)


def test_resampling_is_said_with_from_and_to(tmp_path):
    torch.save(made().state_dict(), tmp_path / "w.pth")
    assert loaded(tmp_path / "w.pth", input_size=224).notes == (
        "the 100 position embeddings are taken as a square grid, 10 x 10: the file does not say",
        "resampled from 1 x 101 x 64 to 1 x 197 x 64: pos_embed",
    )


# ---------------------------------------------------------------------------------------------------------- windows

SMALL = {"depths": (1, 1), "embed_dim": 16, "num_heads": (2, 4)}


def swin(window: int, size: int) -> torch.nn.Module:
    return made("swin_tiny_patch4_window7_224", window_size=window, img_size=size, **SMALL)


def test_swins_window_of_12_is_not_one_of_7(tmp_path):
    wide = swin(12, 96)
    torch.save({"model": wide.state_dict()}, tmp_path / "w.pth")
    arguments = tuple(sorted(SMALL.items()))
    with pytest.raises(
        WeightsMismatch, match=r"windows of 12 x 12 patches, this architecture has 7 x 7.*window_size=12"
    ):
        loaded(tmp_path / "w.pth", "timm/swin_tiny_patch4_window7_224", input_size=96, arguments=arguments)
    with_window = tuple(sorted({**SMALL, "window_size": 12}.items()))
    model = loaded(tmp_path / "w.pth", "timm/swin_tiny_patch4_window7_224", input_size=96, arguments=with_window)
    assert_equal(model, wide, pixels=PIXELS[:, :, :96, :96])


def test_official_swin_v2_files_say_their_window(tmp_path):
    """Microsoft's files keep the coordinates of their windows; timm's do not, and cannot be told apart."""
    small = {"depths": (1, 1), "embed_dim": 16, "num_heads": (2, 4)}
    source = made("swinv2_tiny_window8_256", img_size=64, **small)
    arguments = tuple(sorted(small.items()))
    for window, fits in ((8, True), (16, False)):
        coordinates = torch.zeros(1, 2 * window - 1, 2 * window - 1, 2)
        state = {**source.state_dict(), "layers.0.blocks.0.attn.relative_coords_table": coordinates}
        torch.save({"model": state}, tmp_path / "w.pth")
        asked = {"model": "timm/swinv2_tiny_window8_256", "input_size": 64, "arguments": arguments}
        if fits:
            assert_equal(loaded(tmp_path / "w.pth", **asked), source, pixels=PIXELS[:, :, :64, :64])
        else:
            with pytest.raises(WeightsMismatch, match="windows of 16 x 16 patches, this architecture has 8 x 8"):
                loaded(tmp_path / "w.pth", **asked)


def test_official_swin_files(tmp_path):
    """Microsoft's names: merging at the end of a stage, its indices and masks stored, the head without a level."""
    own = swin(7, 56)
    official = {}
    for name, value in own.state_dict().items():
        name = name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc.", "head.")
        official[name] = value
    official |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64)}
    official |= {"layers.0.blocks.0.attn_mask": torch.zeros(4, 49, 49)}
    torch.save({"model": official, "optimizer": {}, "lr_scheduler": {}, "epoch": 299}, tmp_path / "w.pth")
    arguments = tuple(sorted(SMALL.items()))
    model = loaded(tmp_path / "w.pth", "timm/swin_tiny_patch4_window7_224", input_size=56, arguments=arguments)
    assert_equal(model, own, pixels=PIXELS[:, :, :56, :56])
    assert model.notes == ("taken from under model",)


# -------------------------------------------------------------------------------------------------------- QuickGELU

MARKS = {
    name: torch.tensor(value) for name, value in (("input_resolution", 64), ("context_length", 77), ("vocab_size", 99))
}


@pytest.fixture(scope="module")
def clip() -> torch.nn.Module:
    config = open_clip.get_model_config("ViT-B-32")
    config["vision_cfg"] |= {"layers": 2, "width": 128}
    config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 2, "vocab_size": 100}
    torch.manual_seed(5)
    return shaken(CLIP(32, config["vision_cfg"], config["text_cfg"], quick_gelu=True))


OF_CLIP = (("layers", 2), ("width", 128))


def small(name: str, **more) -> dict:
    """A request for the small CLIP under a name of open_clip, whose text side is not built."""
    return {"model": f"open_clip/{name}", "arguments": tuple(sorted({**dict(OF_CLIP), **more}.items()))}


@pytest.fixture
def narrow(monkeypatch):
    """open_clip's ViT-B-32 with an embedding of the small CLIP's length."""
    config = open_clip.get_model_config("ViT-B-32") | {"embed_dim": 32}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: {**config, "quick_gelu": "quickgelu" in name})


def test_openais_weights_are_never_run_with_gelu(clip, tmp_path, narrow):
    torch.save({**clip.state_dict(), **MARKS}, tmp_path / "openai.pt")
    with pytest.raises(WeightsMismatch, match=r"trained with QuickGELU .*Ask for open_clip/ViT-B-32-quickgelu\."):
        loaded(tmp_path / "openai.pt", **small("ViT-B-32"))
    for request in (small("ViT-B-32-quickgelu"), small("ViT-B-32", quick_gelu=True)):
        model = loaded(tmp_path / "openai.pt", **request)
        assert {site.activation for site in model.description.ffn_sites} == {"QuickGELU"}
        x = torch.rand(2, 3, 224, 224)
        with torch.no_grad():
            assert (model.module(x) - clip.encode_image(x)).abs().max() == 0


def test_openais_names_in_timms_architecture(clip, tmp_path):
    torch.save({**clip.state_dict(), **MARKS}, tmp_path / "openai.pt")
    size = (("depth", 2), ("embed_dim", 128), ("num_heads", 2))
    with pytest.raises(WeightsMismatch, match=r"Ask for timm/vit_base_patch32_clip_quickgelu_224\."):
        loaded(tmp_path / "openai.pt", "timm/vit_base_patch32_clip_224", arguments=size)
    model = loaded(tmp_path / "openai.pt", "timm/vit_base_patch32_clip_quickgelu_224", arguments=size)
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        difference = (model.module(x) - clip.encode_image(x)).abs().max()
    assert difference < 1e-5  # another library's attention: its sums are in another order
    assert "names translated from OpenAI's CLIP" in model.notes


@pytest.mark.parametrize("since", ["0.15", "the first release"])
def test_torchvisions_names(since, tmp_path):
    theirs = shaken(torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=5))
    state = theirs.state_dict()
    if since == "the first release":  # whose names the published files have
        state = {
            name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for name, v in state.items()
        }
    torch.save(state, tmp_path / "vit.pth")
    size = (("depth", 2), ("embed_dim", 32), ("mlp_ratio", 2.0), ("num_heads", 2), ("patch_size", 8))
    model = loaded(tmp_path / "vit.pth", "timm/vit_tiny_patch16_224", input_size=32, arguments=size)
    x = torch.rand(2, 3, 32, 32, generator=torch.manual_seed(0))
    with torch.no_grad():
        ours, expected = model.module(x), theirs(x)
    assert (ours - expected).abs().max() < 2e-6 * expected.abs().max()
    assert "names translated from torchvision's ViT" in model.notes


def test_timms_tags_that_are_natively_quickgelu_get_it():
    natively = [
        name
        for name in timm.list_pretrained("*_clip_*")
        if "natively QuickGELU" in " ".join(timm.models.get_pretrained_cfg(name).notes or ())
        and "quickgelu" not in name
    ]
    assert {"vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_224.metaclip_400m"} <= set(natively)
    known = {one.id for one in catalogue("timm/*_clip_*")}
    for name in natively:
        assert f"timm/{name}" in known
        assert dict(blueprint(f"timm/{name}").arguments) == {"act_layer": "quick_gelu"}, name
    found = describe(ModelRequest("timm/vit_base_patch16_clip_224.openai"))
    assert {site.activation for site in found.ffn_sites} == {"QuickGELU"}
    plain = describe(ModelRequest("timm/vit_base_patch16_clip_224.laion2b"))
    assert {site.activation for site in plain.ffn_sites} == {"GELU"}
    assert found.arguments
    assert not plain.arguments


# -------------------------------------------------------------------------------------------------------- arguments


def test_arguments_are_checked_against_the_constructor():
    for arguments, said in {
        (("global_poool", "avg"),): "no argument 'global_poool'; nearest: global_pool",
        (("in_chans", 1),): "pictures have 3 channels here",
        (("img_size", 64),): "the size of the input is --input-size",
        (("num_classes", 10),): "follows from the weights",
        (("global_pool", "mean"),): "cannot be built for 160 x 160 pixels with global_pool=mean",
    }.items():
        with pytest.raises(BadConfig, match=said):
            describe(ModelRequest("timm/test_vit", random_weights=True, arguments=arguments))
    with pytest.raises(BadConfig, match="no argument 'layer'; nearest: layers"):
        describe(ModelRequest("open_clip/ViT-B-32", random_weights=True, arguments=(("layer", 2),)))
    with pytest.raises(BadConfig, match="zoo/vit takes no arguments"):
        describe(ModelRequest("zoo/vit", arguments=(("depth", 2),)))


def test_a_tower_of_timm_in_open_clip(tmp_path):
    from open_clip.timm_model import TimmModel

    from pipeline.models.weights import Names, fit

    def tower(seed):
        torch.manual_seed(seed)
        return shaken(TimmModel("test_vit", embed_dim=6, image_size=160, pool="", proj="linear"))

    source, target = tower(1), tower(2)
    notes = fit(target, Names("w", under("module.visual.", source.state_dict())))
    assert notes == ("taken from under module.visual",)
    with torch.no_grad():
        assert torch.equal(target(PIXELS), source(PIXELS))


def test_open_clips_training_checkpoint(clip, tmp_path, narrow):
    """epoch_1.pt: the whole CLIP under DDP's prefix, beside its optimizer."""
    wrapped = {f"module.{name}": value for name, value in clip.state_dict().items()}
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}
    torch.save({"epoch": 1, "name": "run", "state_dict": wrapped, "optimizer": optimizer}, tmp_path / "epoch_1.pt")
    model = loaded(tmp_path / "epoch_1.pt", **small("ViT-B-32", quick_gelu=True))
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert (model.module(x) - clip.encode_image(x)).abs().max() == 0
    assert model.notes[0] == "taken from under state_dict.module.visual"
    assert "optimizer.state.0.exp_avg" in model.notes[1]


def test_dinov2s_own_names_with_registers(tmp_path):
    """Meta's files: positions for the class token too, registers under another name, a mask token."""
    source = made("vit_small_patch14_reg4_dinov2", depth=1, embed_dim=64, num_heads=2, img_size=56)
    state = source.state_dict()
    state["register_tokens"] = state.pop("reg_token")
    state["pos_embed"] = torch.cat([torch.zeros(1, 1, 64), state["pos_embed"]], dim=1)
    teacher = {f"backbone.{name}": value for name, value in {**state, "mask_token": torch.ones(1, 64)}.items()}
    heads = {"dino_head.last_layer.weight": torch.ones(8, 4), "ibot_head.mlp.0.weight": torch.ones(4, 64)}
    torch.save({"teacher": {**teacher, **heads}}, tmp_path / "w.pth")
    arguments = (("depth", 1), ("embed_dim", 64), ("num_heads", 2))
    model = loaded(tmp_path / "w.pth", "timm/vit_small_patch14_reg4_dinov2", input_size=56, arguments=arguments)
    assert_equal(model, source, pixels=PIXELS[:, :, :56, :56])
    assert model.notes == (
        "taken from under teacher.backbone",
        "tensors of other modules left out: 2 (teacher.dino_head.last_layer.weight, teacher.ibot_head.mlp.0.weight)",
    )


# ------------------------------------------------------------------------------------------ folders of open_clip's own


def test_a_folder_as_open_clip_writes_it(clip, tmp_path):
    """`open_clip/local-dir:FOLDER`: the architecture and the preparation of pictures stand beside the weights."""
    folder = tmp_path / "my-clip"
    folder.mkdir()
    vision = {"layers": 2, "width": 128, "patch_size": 32, "image_size": 224}
    model = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": {}}
    pictures = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7], "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": pictures}))
    safetensors.torch.save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    found = load(ModelRequest(f"open_clip/local-dir:{folder}"))
    assert (found.description.id, found.description.slug) == ("open_clip/local-dir:my-clip", "clip-local-dir-my-clip")
    assert found.description.mean == (0.1, 0.2, 0.3)
    assert found.description.interpolation == "bilinear"
    assert {site.activation for site in found.description.ffn_sites} == {"QuickGELU"}
    x = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert (found.module(x) - clip.encode_image(x)).abs().max() == 0
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(UnknownModel, match="not a configuration of open_clip"):
        describe(ModelRequest(f"open_clip/local-dir:{folder}"))
    with pytest.raises(UnknownModel, match=r"expected a folder with open_clip_config\.json"):
        describe(ModelRequest("open_clip/local-dir:nowhere"))


def test_a_repository_of_the_hub_that_cannot_be_reached(monkeypatch):
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise OSError("no route to the hub\nmore")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with pytest.raises(
        NoNetwork, match=r"open_clip/hf-hub:laion/x: its open_clip_config\.json .*: no route to the hub Check"
    ):
        describe(ModelRequest("open_clip/hf-hub:laion/x"))
