"""`check weights`: the right architecture first, what would be done on the way in, and a command that works."""

import argparse

import pytest
import torch
import torchvision

from atlas_schema.errors import WeightsMismatch, WeightsUnreadable
from pipeline.models import load
from pipeline.models.catalogue import architectures
from pipeline.models.ranking import _expanded, kept, known_shapes, ranked, shapes_of
from pipeline.models.weights import Names
from pipeline.models.weights_check import check_weights
from tests.pipeline.checkpoints import assert_equal, made, under


def test_adapters_alone_are_called_so(tmp_path):
    torch.save(
        {f"base_model.model.blocks.{i}.attn.qkv.lora_A.weight": torch.ones(4, 8) for i in (0, 1)}, tmp_path / "a.bin"
    )
    report = check_weights(str(tmp_path / "a.bin"))
    assert report.error.startswith("None of its tensors has a name of a known architecture: adapters (LoRA)")
    assert report.command == ""


#: architecture -> what its file has beside: a prefix, a head of other classes, extra keys, the word of its trainer
TWENTY = {
    "timm/vit_tiny_patch16_224": {"prefix": "module."},
    "timm/vit_small_patch16_384": {"prefix": "state_dict.model."},
    "timm/vit_base_patch16_224": {"extra": {"decoder_embed.weight": (512, 768), "mask_token": (1, 1, 512)}},
    "timm/vit_base_patch32_224": {"classes": 10},
    "timm/vit_base_patch8_224": {"prefix": "teacher.backbone.", "extra": {"teacher.head.mlp.0.weight": (2048, 768)}},
    "timm/vit_large_patch16_224": {"prefix": "model.", "classes": 0},
    "timm/vit_small_patch14_dinov2": {"extra": {"head.weight": (7, 384)}},
    "timm/vit_base_patch14_reg4_dinov2": {"prefix": "backbone."},
    "timm/deit_small_patch16_224": {"prefix": "model.", "said": argparse.Namespace(model="deit_small_patch16_224")},
    "timm/deit_tiny_distilled_patch16_224": {"prefix": "model."},
    "timm/deit3_small_patch16_224": {"classes": 100},
    "timm/swin_tiny_patch4_window7_224": {"prefix": "model."},
    "timm/swin_base_patch4_window12_384": {"prefix": "encoder.", "extra": {"decoder.0.weight": (3072, 1024, 1, 1)}},
    "timm/swinv2_tiny_window8_256": {"classes": 5},
    "timm/coat_tiny": {"prefix": "net."},
    "timm/convit_small": {"extra": {"total_ops": (1,)}},
    "timm/pit_s_224": {"prefix": "module.", "classes": 2},
    "timm/twins_svt_small": {"prefix": "student."},
    "open_clip/ViT-B-32": {"prefix": "state_dict.module.visual.", "extra": {"state_dict.module.logit_scale": ()}},
    "open_clip/ViT-L-14": {"prefix": "visual.", "extra": {"token_embedding.weight": (49408, 768)}},
}


def shapes_in_file(model: str, prefix: str = "", classes: int = 1000, extra=None, said=None) -> Names:
    """The names and shapes of a file of these weights; its numbers do not matter here."""
    found = {}
    for name, shape in shapes_of(model).items():
        if name.startswith("head"):
            if not classes:
                continue
            shape = (classes, *shape[1:])
        found[prefix + name] = shape
    tensors = {name: torch.empty(shape, device="meta") for name, shape in {**found, **(extra or {})}.items()}
    return Names("w.pth", tensors, {f"args.{name}": value for name, value in vars(said).items()} if said else {})


@pytest.mark.parametrize("model", TWENTY)
def test_the_right_architecture_comes_first(model):
    best = ranked(shapes_in_file(model, **TWENTY[model]))
    assert best[0].id == model
    assert 1 <= len(best) <= 3
    assert best[0].share == 1
    assert best[0].prefix == TWENTY[model].get("prefix", "")
    assert [one.share for one in best] == sorted((one.share for one in best), reverse=True)


def test_the_list_of_shapes_is_current():
    """All names, and three of its architectures built again; all of them in the slow test below."""
    assert {one for ids in known_shapes().values() for one in ids} == set(architectures()), (
        "python -m pipeline.models.ranking"
    )
    for model in ("timm/test_vit", "timm/swin_tiny_patch4_window7_224", "open_clip/ViT-B-32"):
        (there,) = [shapes for shapes, ids in known_shapes().items() if model in ids]
        assert dict(there) == shapes_of(model)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_list_of_shapes_is_current():
    now = {frozenset(_expanded(one["tensors"])): tuple(one["ids"]) for one in kept(architectures())["architectures"]}
    assert now == known_shapes()


def test_a_files_report_and_its_request(tmp_path):
    source = made(num_classes=5)
    wrapped = {"state_dict": under("model.", source.state_dict()), "optimizer": {"state": {0: {"a": torch.ones(2)}}}}
    torch.save(wrapped, tmp_path / "My Run.ckpt")
    report = check_weights(str(tmp_path / "My Run.ckpt"))
    assert report.form == "torch.save"
    assert report.candidates[0].id == "timm/test_vit"
    assert report.notes == (
        "taken from under state_dict.model",
        "tensors of other modules left out: 1 (optimizer.state.0.a)",
        "classifier head has 5 classes instead of 1000",
    )
    assert report.command == (
        f"neuron-atlas run --model timm/test_vit --weights '{tmp_path}/My Run.ckpt' --as my-run --out atlas"
    )
    assert_equal(load(report.request), source)


def test_arguments_that_make_it_fit_are_in_the_command(tmp_path):
    source = made(global_pool="avg")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    report = check_weights(str(tmp_path / "w.pth"), "timm/test_vit")
    assert "--model-args global_pool=avg" in report.command
    assert_equal(load(report.request), source)


def test_of_the_same_shapes_the_one_with_the_right_activation_is_found(tmp_path):
    """OpenAI's weights: open_clip has two architectures of these shapes, with GELU and with QuickGELU."""
    shapes = shapes_of("open_clip/ViT-B-32-quickgelu")
    state = {f"visual.{name}": torch.zeros(()).expand(shape) for name, shape in shapes.items()}  # of one number each
    marks = {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(9)}
    torch.save({**state, **marks}, tmp_path / "openai.pt")
    report = check_weights(str(tmp_path / "openai.pt"))
    assert report.request.model == "open_clip/ViT-B-32-quickgelu"
    assert report.command


def test_a_file_of_nothing_known(tmp_path):
    torch.save({"conv.weight": torch.ones(2, 2)}, tmp_path / "w.pth")
    report = check_weights(str(tmp_path / "w.pth"))
    assert (report.candidates, report.command) == ((), "")
    assert "None of its tensors" in report.error
    (tmp_path / "page.html").write_text("<!DOCTYPE html>")
    with pytest.raises(WeightsUnreadable, match="is a web page"):
        check_weights(str(tmp_path / "page.html"))


def test_the_way_out_of_a_mismatch_is_this_command(tmp_path):
    torch.save({"conv.weight": torch.ones(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match=r"neuron-atlas check weights .*w\.pth"):
        load(check_weights(str(tmp_path / "w.pth"), "timm/test_vit").request)


def test_names_of_another_library_fit_as_well_as_its_own(tmp_path):
    """Every tensor counts, matrices too."""
    theirs = torchvision.models.VisionTransformer(224, 16, 12, 3, 192, 768)
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    (best, *_) = check_weights(str(tmp_path / "vit.pth")).candidates
    assert (best.id, best.share, best.extra) == ("timm/vit_tiny_patch16_224", 1.0, 0)
