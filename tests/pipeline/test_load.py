"""Weights: every container a checkpoint comes in gives the same model, and what does not fit is refused by name."""

import io
import os
import pickle
import socket
import time
import types
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch

from atlas_schema.errors import BadConfig, NoNetwork, UnknownModel, WeightsMismatch, WeightsUnreadable
from pipeline.hooks.activations import ffn_activations
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.load import fingerprint_of
from pipeline.models.weights import Names, fit
from tests.pipeline.close import assert_close

FIXTURE = Path(__file__).parents[3] / "shared/fixtures/checkpoints/vit_small_patch14_dinov2.saliency.safetensors"
TINY = "timm/test_vit"  # 3 blocks of width 64, 160 px, 16-pixel patches: 0.4 M parameters


def tiny(**options) -> torch.nn.Module:
    import timm

    torch.manual_seed(11)
    module = timm.create_model("test_vit", **options)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module.eval()


def loaded(path: object, model: str = TINY, **options) -> LoadedModel:
    return load(ModelRequest(model, weights=str(path), name="mine", **options))


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return tiny().state_dict()


def _safetensors(state, path):
    safetensors.torch.save_file(state, path)


def _wrapped(*keys, prefix="", extra=None):
    def save(state, path):
        inner: object = {prefix + key: value for key, value in state.items()}
        for key in reversed(keys):
            inner = {key: inner, **(extra or {})}
        torch.save(inner, path)

    return save


CONTAINERS = {
    "a.safetensors": _safetensors,
    "b.pth": _wrapped(),
    "c.pt": _wrapped("state_dict", extra={"epoch": 3, "arch": "test_vit"}),
    "d.bin": _wrapped("model", "state_dict"),
    "e.pth": _wrapped(prefix="module."),
    "f.pth": _wrapped("model_ema", prefix="_orig_mod.module."),
    "g.pth": _wrapped("teacher", prefix="backbone."),
    "no_suffix": _safetensors,
    "misnamed.pth": _safetensors,  # told apart by content
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_model(name, state, tmp_path):
    CONTAINERS[name](state, tmp_path / name)
    model = loaded(tmp_path / name)
    want = tiny()
    assert model.fingerprint == fingerprint_of(want)
    x = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        assert torch.equal(model.module(x), want(x))
    prefix = {"c.pt": "state_dict", "d.bin": "model.state_dict", "e.pth": "module", "f.pth": "model_ema.module"}
    prefix["g.pth"] = "teacher.backbone"
    assert model.notes == ((f"taken from under {prefix[name]}",) if name in prefix else ())
    assert model.description.slug == "mine"
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())


def test_averaged_weights_go_before_raw_ones(state, tmp_path):
    raw = {key: value * 0 for key, value in state.items()}
    torch.save({"state_dict": raw, "state_dict_ema": state}, tmp_path / "both.pth")
    assert loaded(tmp_path / "both.pth").fingerprint == fingerprint_of(tiny())


def test_weights_from_an_fsspec_url(state):
    with fsspec.open("memory://weights/w.safetensors", "wb") as file:
        file.write(safetensors.torch.save(state))
    assert loaded("memory://weights/w.safetensors").fingerprint == fingerprint_of(tiny())


def test_modules_of_a_training_wrapper_are_left_out_and_noted(state, tmp_path):
    whole = {f"backbone.{key}": value for key, value in state.items()}
    whole |= {"projector.0.weight": torch.ones(3, 3), "projector.0.bias": torch.ones(3)}
    torch.save(whole, tmp_path / "dino.pth")
    model = loaded(tmp_path / "dino.pth")
    assert model.fingerprint == fingerprint_of(tiny())
    assert model.notes == ("taken from under backbone", "tensors of other modules left out: 2 (projector: 2)")


def test_position_embedding_follows_the_image_size(state, tmp_path):
    from timm.layers import resample_abs_pos_embed

    _safetensors(state, tmp_path / "w.safetensors")
    large = loaded(tmp_path / "w.safetensors", input_size=224).module.state_dict()
    for key, value in state.items():
        assert (large[key].shape == value.shape) is (key != "pos_embed")
        if key != "pos_embed":
            assert torch.equal(large[key], value)
    assert torch.equal(large["pos_embed"], resample_abs_pos_embed(state["pos_embed"], new_size=[14, 14]))


def test_half_precision_is_widened_to_the_values_it_holds(state, tmp_path):
    half = {key: value.half() for key, value in state.items()}
    _safetensors(half, tmp_path / "w.safetensors")
    model = loaded(tmp_path / "w.safetensors")
    for key, value in model.module.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, half[key].float())


def test_own_classifier_is_kept_with_its_classes(tmp_path):
    fine_tuned = tiny(num_classes=10)
    _safetensors(fine_tuned.state_dict(), tmp_path / "w.safetensors")
    model = loaded(tmp_path / "w.safetensors")
    assert model.notes == ("classifier head has 10 classes instead of 1000",)
    assert model.fingerprint == fingerprint_of(fine_tuned)


def test_missing_classifier_is_zero_and_noted(state, tmp_path):
    body = {key: value for key, value in state.items() if not key.startswith("head.")}
    _safetensors(body, tmp_path / "w.safetensors")
    model = loaded(tmp_path / "w.safetensors")
    assert model.notes == ("classifier head missing: set to zero",)
    assert model.module.head.weight.abs().sum() == 0
    assert torch.equal(model.module.norm.weight, state["norm.weight"])


def test_classifier_of_an_architecture_without_one_is_left_out(tmp_path):
    import timm

    torch.manual_seed(1)
    module = timm.create_model("vit_small_patch14_dinov2", img_size=28, depth=1)
    state = module.state_dict() | {"head.weight": torch.ones(7, 384), "head.bias": torch.ones(7)}
    assert fit(module, Names("w", state)) == ("tensors of other modules left out: 2 (head: 2)",)


def test_differing_keys_are_counted_and_named(state, tmp_path):
    odd = dict(state)
    for key in ("blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias", "norm.weight"):
        del odd[key]
    odd["blocks.9.attn.qkv.weight"] = torch.ones(2, 2)
    odd["blocks.1.mlp.fc2.weight"] = torch.ones(64, 128)
    torch.save(odd, tmp_path / "odd.pth")
    with pytest.raises(WeightsMismatch) as error:
        loaded(tmp_path / "odd.pth")
    message = str(error.value)
    assert "odd.pth does not fit VisionTransformer" in message
    assert "3 missing: blocks.0.mlp.fc1.weight, blocks.0.mlp.fc1.bias, norm.weight" in message
    assert "1 unexpected: blocks.9.attn.qkv.weight" in message
    assert "1 of another shape: blocks.1.mlp.fc2.weight (64, 128), expected (64, 192)" in message
    assert error.value.exit_code == 2


def test_many_missing_keys_are_shortened(state, tmp_path):
    _safetensors({k: v for k, v in state.items() if "blocks.2." not in k}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match=r"12 missing: blocks\.2\.norm1\.weight, .* and 8 more"):
        loaded(tmp_path / "w.safetensors")


@pytest.mark.parametrize("model", [TINY, "timm/convit_tiny", "timm/swin_tiny_patch4_window7_224", "timm/coat_tiny"])
def test_weights_of_another_architecture_are_refused(model, tmp_path):
    foreign = {f"layer{i}.conv.weight": torch.ones(2, 2) for i in range(9)}
    _safetensors(foreign, tmp_path / "resnet.safetensors")
    with pytest.raises(WeightsMismatch, match=r"9 tensors .*layer0\.conv\.weight.* and 5 more"):
        loaded(tmp_path / "resnet.safetensors", model)


# -------------------------------------------------------------------------------------------- unreadable files


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


def test_truncated_files_are_unreadable(state, tmp_path):
    for name, save in (("w.safetensors", _safetensors), ("w.pth", _wrapped())):
        save(state, tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for length in (len(data) // 2, 200, 20):
            (tmp_path / name).write_bytes(data[:length])
            with pytest.raises(WeightsUnreadable, match=rf"{name} is truncated or damaged") as error:
                loaded(tmp_path / name)
            assert "Fetch it again" in str(error.value)


def test_code_in_a_pickle_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"w": torch.ones(1)}, "hook": _Bomb()}, tmp_path / "evil.pth")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(_Bomb()))
    for name in ("evil.pth", "evil.pt"):
        with pytest.raises(WeightsUnreadable, match="would run code: refused"):
            loaded(tmp_path / name)
    assert not (tmp_path / "bomb-went-off").exists()


def test_foreign_files_are_unreadable(tmp_path):
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "JPEG")
    (tmp_path / "photo.pth").write_bytes(picture.getvalue())
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "folder").mkdir()
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 3, "best": 0.5}, tmp_path / "log.pth")
    for name, said in {
        "photo.pth": "is a JPEG picture",
        "empty.safetensors": "It is empty",
        "text.bin": "is a git-lfs pointer",
        "folder": "is a folder without a weights file; it holds nothing",
        "list.pth": "holds no state dict but list",
        "log.pth": "the keys epoch, best",
        "missing.pth": "no such file",
        "nowhere://x.pth": "cannot be opened",
    }.items():
        location = name if "://" in name else tmp_path / name
        with pytest.raises(WeightsUnreadable, match=said) as error:
            loaded(location)
        assert name in str(error.value)


def test_not_a_number_in_weights_is_refused(state, tmp_path):
    broken = {key: value.clone() for key, value in state.items()}
    broken["norm.weight"][3] = float("nan")
    _safetensors(broken, tmp_path / "w.safetensors")
    with pytest.raises(WeightsUnreadable, match=rf"NaN or infinity in 1 of {len(state)} tensors \(norm\.weight\)"):
        loaded(tmp_path / "w.safetensors")


# ------------------------------------------------------------------------------------------ the hub, and no hub


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize("model", ["timm/deit_tiny_patch16_224", "open_clip/ViT-B-32/openai"])
def test_no_network_is_said_at_once(model, no_hub, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)  # the hub's client alone would retry for 48 s
    with pytest.raises(NoNetwork) as error:
        load(ModelRequest(model))
    assert not waits
    for said in (model, "--weights FILE --as NAME", "--random-weights", "HF_ENDPOINT"):
        assert said in str(error.value)


def test_an_architecture_without_tag_names_its_tags():
    with pytest.raises(UnknownModel, match=r"open_clip/ViT-B-32 is an architecture without weights.*openai"):
        load(ModelRequest("open_clip/ViT-B-32"))


# --------------------------------------------------------------------------------------- random weights, the zoo


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone():
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    first = load(ModelRequest(TINY, random_weights=True))
    assert torch.equal(torch.rand(3), want)
    torch.manual_seed(6)
    again = load(ModelRequest(TINY, random_weights=True), dtype=torch.float64)
    assert first.fingerprint == again.fingerprint  # also whatever the precision it runs in
    assert next(again.module.parameters()).dtype == torch.float64


def test_fingerprint_sees_every_bit_and_name(state):
    module = tiny()
    before = fingerprint_of(module)
    assert before == fingerprint_of(tiny())
    with torch.no_grad():
        module.norm.bias[0] = torch.nextafter(module.norm.bias[0], torch.tensor(9.0))
    assert fingerprint_of(module) != before
    assert len(before) == 64


@pytest.mark.parametrize("name", ["vit", "deit", "swin", "coat", "convit", "pit", "twins", "clip"])
def test_zoo_models_load_with_their_weights(name):
    from pipeline import zoo

    model = load(ModelRequest(f"zoo/{name}"))
    shipped = zoo.load_state(name)
    prefix = "visual." if name == "clip" else ""
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, shipped[prefix + key])
    random = load(ModelRequest(f"zoo/{name}", random_weights=True))
    assert random.fingerprint != model.fingerprint
    assert [site.path for site in random.description.ffn_sites] == [site.path for site in model.description.ffn_sites]


def test_whole_clip_checkpoint_gives_its_tower(tmp_path):
    from pipeline import zoo

    torch.manual_seed(2)
    whole = zoo.build("clip").eval()
    _safetensors(whole.state_dict(), tmp_path / "clip.safetensors")
    model = loaded(tmp_path / "clip.safetensors", "zoo/clip")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(model.module(x), whole.encode_image(x), 1e-6)
    assert "left out" in model.notes[1]


def test_open_clip_weights_at_another_size(tmp_path):
    from open_clip.model import resize_pos_embed

    name = "open_clip/ViT-S-32-alt"  # its 7 x 7 positions become 8 x 8
    tower = load(ModelRequest(name, random_weights=True)).module.state_dict()
    whole = {f"visual.{key}": value for key, value in tower.items()}
    whole |= {"logit_scale": torch.tensor(4.6), "token_embedding.weight": torch.ones(4, 4)}
    torch.save({"state_dict": {f"module.{key}": value for key, value in whole.items()}}, tmp_path / "epoch_32.pt")
    same = loaded(tmp_path / "epoch_32.pt", name).module.state_dict()
    large = loaded(tmp_path / "epoch_32.pt", name, input_size=256)
    assert large.description.ffn_sites[0].grids == ((8, 8),)
    resize_pos_embed(whole, types.SimpleNamespace(visual=large.module))
    for key, value in large.module.state_dict().items():
        assert torch.equal(value, whole[f"visual.{key}"])
        assert torch.equal(same[key], tower[key])
    with torch.no_grad():
        large.module(torch.rand(1, 3, 256, 256))


def test_open_clip_around_timm_takes_its_own_checkpoints(tmp_path):
    def tower():
        from open_clip.timm_model import TimmModel

        return TimmModel("test_vit", embed_dim=6, image_size=160, pool="", proj="linear")

    torch.manual_seed(3)
    source, target = tower(), tower()
    whole = {f"visual.{key}": value for key, value in source.state_dict().items()}
    notes = fit(target, Names("w", whole | {"text.token_embedding.weight": torch.ones(2, 2)}))
    assert fingerprint_of(target) == fingerprint_of(source)
    assert notes == ("taken from under visual", "tensors of other modules left out: 1 (text.token_embedding.weight)")


def test_zoo_takes_its_own_size_only():
    with pytest.raises(BadConfig, match="64"):
        load(ModelRequest("zoo/vit", input_size=224))


# ----------------------------------------------------------------------------------------------- the real weights


@pytest.mark.skipif(not FIXTURE.exists(), reason=f"needs the trained ViT of the fixtures: {FIXTURE}")
def test_trained_dinov2_at_another_size():
    request = ModelRequest("timm/vit_small_patch14_dinov2", weights=str(FIXTURE), name="dino", input_size=224)
    model = load(request)
    stored = safetensors.torch.load_file(FIXTURE)
    assert stored["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    assert model.module.state_dict()["pos_embed"].shape == (1, 1 + 16 * 16, 384)
    for key in ("blocks.0.mlp.fc1.weight", "blocks.11.attn.proj.bias", "norm.weight"):
        assert torch.equal(model.module.state_dict()[key], stored[key].float())
    assert (model.description.neurons, model.description.heads) == (18432, 72)
    assert model.notes == (
        "float16 widened to float32",
        "the 1369 position embeddings are taken as a square grid, 37 x 37: the file does not say",
        "resampled from 1 x 1370 x 384 to 1 x 257 x 384: pos_embed",
    )
    assert (
        model.fingerprint
        != load(ModelRequest("timm/vit_small_patch14_dinov2", random_weights=True, input_size=224)).fingerprint
    )
    # a trained net treats neighbours alike; the same net with its positions shuffled in would not
    gradient = torch.linspace(0, 1, 224).expand(1, 3, 224, 224)
    with torch.no_grad():
        (hidden,) = ffn_activations(model, model.description.ffn_sites[2], model.normalise(gradient))
    tokens = hidden.reshape(16, 16, -1)
    near = torch.cosine_similarity(tokens[:, :-1], tokens[:, 1:], dim=-1).mean()
    far = torch.cosine_similarity(tokens[:, :8], tokens[:, 8:], dim=-1).mean()
    assert near > far
