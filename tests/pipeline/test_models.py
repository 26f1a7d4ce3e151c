"""Descriptions: exact counts without weights or network, ids and slugs, and what bad names get."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from atlas_schema.errors import BadConfig, UnknownFamily, UnknownModel
from pipeline.models import ModelRequest, catalogue, describe, from_module, known_models, load
from pipeline.models.device import quickest_threads
from pipeline.models.sites import find_sites
from pipeline.models.sources import blueprint

ACCEPTANCE = {  # model: neurons, FFN sites, heads; the list
    "timm/deit_tiny_patch16_224": (9216, 12, 36),
    "timm/vit_base_patch16_224": (36864, 12, 144),
    "timm/vit_large_patch16_224": (98304, 24, 384),
    "timm/swin_tiny_patch4_window7_224": (17664, 12, 138),
    "timm/coat_tiny": (8512, 14, 208),
    "timm/convit_tiny": (9216, 12, 48),
    "timm/pit_b_224": (31744, 13, 124),
    "timm/twins_svt_small": (19968, 18, 156),
    "open_clip/ViT-B-32": (36864, 12, 144),
    "open_clip/ViT-B-32/openai": (36864, 12, 144),
}


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("describe() opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("model", ACCEPTANCE)
def test_counts_need_neither_weights_nor_network(model, no_network):
    found = describe(ModelRequest(model))
    assert (found.neurons, len(found.ffn_sites), found.heads) == ACCEPTANCE[model]
    assert [site.layer for site in found.ffn_sites] == list(range(len(found.ffn_sites)))
    assert [site.layer for site in found.attention_sites] == list(range(len(found.attention_sites)))


def test_flops_of_vit_base_are_those_of_its_matrix_products():
    found = describe(ModelRequest("timm/vit_base_patch16_224"))
    tokens, width, hidden = 197, 768, 3072
    attention = 2 * tokens * width * 4 * width + 2 * 2 * tokens * tokens * width  # qkv, proj; scores, mix
    expand = 2 * tokens * width * hidden
    embed = 2 * 196 * (16 * 16 * 3) * width
    assert found.ffn_sites[0].flops == embed + attention + expand
    assert found.ffn_sites[11].flops == embed + 12 * attention + 23 * expand
    assert found.forward_flops == embed + 12 * attention + 24 * expand + 2 * width * 1000
    assert found.ffn_sites[11].depth == pytest.approx(found.ffn_sites[11].flops / found.forward_flops)
    assert found.parameters == 86_567_656


def test_id_takes_the_librarys_default_tag_and_slug_follows():
    found = describe(ModelRequest("timm/deit_tiny_patch16_224"))
    assert found.id == "timm/deit_tiny_patch16_224.fb_in1k"
    assert found.slug == "deit-tiny-patch16-224--fb-in1k"
    assert found.licence == "apache-2.0"
    assert found == describe(ModelRequest("timm/deit_tiny_patch16_224.fb_in1k"))
    assert describe(ModelRequest("open_clip/ViT-B-32/openai")).slug == "clip-vit-b-32--openai"
    assert describe(ModelRequest("zoo/vit")).slug == "zoo-vit"


def test_untrained_and_own_weights_never_take_the_trained_models_slug():
    random = describe(ModelRequest("timm/deit_tiny_patch16_224", random_weights=True))
    own = describe(ModelRequest("timm/deit_tiny_patch16_224", weights="w.safetensors", name="My DeiT"))
    assert random.slug == "deit-tiny-patch16-224--random"
    assert own.slug == "my-deit"
    assert random.id == own.id == "timm/deit_tiny_patch16_224"
    assert random.licence == own.licence == ""  # the hub's licence is for the hub's weights


def test_own_weights_need_a_name():
    with pytest.raises(BadConfig, match=r"w\.pth.*--as NAME"):
        describe(ModelRequest("timm/deit_tiny_patch16_224", weights="w.pth"))
    with pytest.raises(BadConfig, match="exclude each other"):
        describe(ModelRequest("timm/deit_tiny_patch16_224", weights="w", name="n", random_weights=True))


def test_preprocessing_is_the_librarys_own():
    swin = describe(ModelRequest("timm/swin_tiny_patch4_window7_224"))
    assert swin.mean == (0.485, 0.456, 0.406)
    vit = describe(ModelRequest("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k"))
    assert (vit.mean, vit.std, vit.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bicubic")
    clip = describe(ModelRequest("open_clip/ViT-B-32/openai"))
    assert clip.mean == (0.48145466, 0.4578275, 0.40821073)
    siglip = describe(ModelRequest("open_clip/ViT-B-16-SigLIP/webli"))
    assert siglip.mean == (0.5, 0.5, 0.5)
    assert siglip.input_size == (224, 224)


def test_input_size_overrides_the_default():
    default = describe(ModelRequest("timm/vit_small_patch14_dinov2"))
    small = describe(ModelRequest("timm/vit_small_patch14_dinov2", input_size=224))
    assert (default.input_size, default.ffn_sites[0].grids) == ((518, 518), ((37, 37),))
    assert (small.input_size, small.ffn_sites[0].grids) == ((224, 224), ((16, 16),))
    assert small.slug == default.slug
    clip = describe(ModelRequest("open_clip/ViT-B-32", input_size=256))
    assert clip.ffn_sites[0].grids == ((8, 8),)
    twins = describe(ModelRequest("timm/twins_svt_small", input_size=256))
    assert [twins.ffn_sites[i].grids for i in (0, -1)] == [((64, 64),), ((8, 8),)]


@pytest.mark.parametrize(("model", "size"), [("timm/vit_base_patch16_224", 225), ("open_clip/ViT-B-32", 200)])
def test_patches_must_tile_the_picture(model, size):
    with pytest.raises(BadConfig, match=rf"input size {size} is no multiple of its (16|32)-pixel patches"):
        describe(ModelRequest(model, input_size=size))


def test_the_tag_decides_the_activation_function():
    plain = describe(ModelRequest("open_clip/ViT-B-32/laion2b_s34b_b79k"))
    openai = describe(ModelRequest("open_clip/ViT-B-32/openai"))
    assert plain.ffn_sites[0].activation == "GELU"
    assert openai.ffn_sites[0].activation == "QuickGELU"


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("timm/deit_tinny_patch16_224", "timm/deit_tiny_patch16_224"),
        ("timm/deit_tiny_patch16_224.fb_in1", "fb_in1k"),
        ("deit_tiny_patch16_224", "timm/deit_tiny_patch16_224"),
        ("open_clip/ViT-B32", "open_clip/ViT-B-32"),
        ("open_clip/ViT-B-32/openia", "openai"),
        ("zoo/vitt", "zoo/vit"),
        ("nonsense", "expected timm/NAME"),
        ("", "expected timm/NAME"),
    ],
)
def test_unknown_names_get_close_matches(model, hint):
    with pytest.raises(UnknownModel) as error:
        describe(ModelRequest(model))
    assert hint in str(error.value)
    assert "Traceback" not in str(error.value)


def test_a_model_of_no_family_says_what_was_found_in_it():
    with pytest.raises(UnknownFamily) as error:
        describe(ModelRequest("timm/visformer_tiny"))
    message = str(error.value)
    assert "timm.models.visformer.Visformer" in message
    assert "FFN-like modules: " in message
    assert "attention-like modules: 8 (stage2.0.attn" in message
    assert "docs/families.md" in message


def test_a_known_class_of_another_form_is_refused():
    with pytest.raises(UnknownFamily, match=r"FFN sites.*\n\s+matched: 0"):
        describe(ModelRequest("timm/vit_base_patch16_xp_224"))  # attention and FFN in one projection


def test_describing_makes_no_weights(monkeypatch):
    """What is described is on the meta device: no number is computed, however large the model."""
    seen = []

    def spy(family, model, input_size):
        seen.append(model)
        return find_sites(family, model, input_size)

    monkeypatch.setattr("pipeline.models.description.find_sites", spy)
    found = describe(ModelRequest("timm/vit_large_patch16_224", name="again"))
    (model,) = seen
    assert sum(parameter.numel() for parameter in model.parameters()) == found.parameters > 3e8
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def test_normalise_inverts_mean_and_std_per_channel():
    model = from_module(
        blueprint("zoo/vit").build(), name="m", input_size=(64, 64), mean=(0.1, 0.2, 0.3), std=(1, 2, 4)
    )
    x01 = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    taken = model.normalise(x01)
    assert taken.dtype == torch.float64
    for channel, (mean, std) in enumerate([(0.1, 1), (0.2, 2), (0.3, 4)]):
        assert torch.allclose(taken[:, channel] * std + mean, x01[:, channel], atol=1e-15, rtol=0)


def test_normalise_first_used_for_inference_still_serves_gradients():
    model = from_module(blueprint("zoo/vit").build(), name="m", input_size=(64, 64))
    with torch.inference_mode():
        model.normalise(torch.rand(1, 3, 4, 4))
    x01 = torch.rand(1, 3, 4, 4, requires_grad=True)
    model.normalise(x01).sum().backward()
    assert torch.allclose(x01.grad, torch.full_like(x01, 2.0))


def test_the_list_of_models_has_families_and_patterns():
    every = catalogue()
    families = {known.id: known.family for known in every}
    assert len(families) == len(every) > 500
    assert families["zoo/coat"] == "coat"
    assert families["timm/deit_tiny_patch16_224.fb_in1k"] == "deit"
    assert families["timm/deit3_base_patch16_224.fb_in1k"] == "deit"
    assert families["timm/vit_base_patch16_clip_224.openai"] == "clip"
    assert families["timm/vit_small_patch14_dinov2.lvd142m"] == "vit"
    assert families["open_clip/ViT-B-32/openai"] == "clip"
    assert {"swin", "coat", "convit", "pit", "twins", "maxvit"} <= set(families.values())
    assert not any("resnet" in known.lower() or "/rn50" in known.lower() for known in families)
    assert known_models("timm/convit_*") == [
        "timm/convit_base.fb_in1k",
        "timm/convit_small.fb_in1k",
        "timm/convit_tiny.fb_in1k",
    ]
    assert known_models("CONVIT_TINY") == ["timm/convit_tiny.fb_in1k"]
    assert known_models("no such model") == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_listed_architectures_have_the_form_of_their_family():
    """A quarter of them; all of them (452) passed when the families were written."""
    families: dict[str, str] = {}
    for known in catalogue():
        name = known.id.rpartition("/")[0] if known.id.startswith("open_clip/") else known.id.partition(".")[0]
        families[name] = known.family
    wrong = {}
    for name, family in sorted(families.items())[::4]:
        found = describe(ModelRequest(name))
        if found.family != family or not found.neurons or not found.heads:
            wrong[name] = found.family
    assert not wrong
    assert len(families) > 400


def test_a_model_is_described_where_gradients_are_off() -> None:
    """In a process of its own: descriptions are kept for a process's life."""
    code = (
        "import torch; from pipeline.models import ModelRequest, load\n"
        "for name in ('pit', 'swin'):\n"
        "    with torch.no_grad(): assert load(ModelRequest(f'zoo/{name}')).description.heads\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        (lambda threads: 0.004 * threads, 1),  # a small model: more threads only hand out more work
        (lambda threads: 0.04 / threads, 4),
        (lambda threads: 0.02 if threads == 1 else 0.01, 2),  # as quick with fewer
    ],
)
def test_a_model_works_with_as_many_threads_as_it_is_quickest_with(seconds, chosen, monkeypatch):
    model = load(ModelRequest("zoo/vit", random_weights=True))
    before = torch.get_num_threads()
    monkeypatch.setattr(model.module, "forward", lambda x: time.sleep(seconds(torch.get_num_threads())))
    assert quickest_threads(model, 4) == chosen
    assert torch.get_num_threads() == before
