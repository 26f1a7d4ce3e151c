"""Forms of checkpoints that training scripts write: the source module's features, or an error with a way out."""

import argparse
import collections
import pathlib

import numpy as np
import pytest
import torch

from atlas_schema.errors import WeightsMismatch, WeightsUnreadable
from pipeline.models.weights import Names, fit
from tests.pipeline.checkpoints import PIXELS, assert_equal, body, loaded, made, under


@pytest.fixture(scope="module")
def source() -> torch.nn.Module:
    return made()


@pytest.fixture(scope="module")
def state(source) -> dict[str, torch.Tensor]:
    return source.state_dict()


@pytest.fixture(scope="module")
def other() -> dict[str, torch.Tensor]:
    return made(seed=12).state_dict()


# ---------------------------------------------------------------------------- wrappers, prefixes, what stands beside


def marked(state, part, wrapped):
    """With the mark of a wrapper put into some names."""
    return {name.replace(part, wrapped): value for name, value in state.items()}


SERIES = {
    "timm's train.py, arguments and all": lambda s: {
        "epoch": 3,
        "arch": "test_vit",
        "state_dict": s,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(lr=1e-3, model="test_vit", img_size=None, input_size=None),
        "metric": 71.2,
    },
    "numpy's numbers beside": lambda s: {"state_dict": s, "best": np.float64(71.2), "curve": np.arange(3.0)},
    "paths beside": lambda s: {"model": s, "config": {"out": pathlib.PurePosixPath("runs/1"), "in": pathlib.Path("x")}},
    "NumPy's arrays": lambda s: {"model": {name: value.numpy() for name, value in s.items()}},
    "an OrderedDict": lambda s: collections.OrderedDict(s),
    "a defaultdict of lists beside": lambda s: {"model": s, "log": collections.defaultdict(list, loss=[1.0])},
    "DDP": lambda s: under("module.", s),
    "torch.compile": lambda s: under("_orig_mod.", s),
    "torch.compile of each block": lambda s: marked(s, "blocks.0.", "blocks.0._orig_mod."),
    "FSDP": lambda s: under("_fsdp_wrapped_module.", marked(s, ".mlp.", "._fsdp_wrapped_module.mlp.")),
    "activation checkpointing": lambda s: marked(s, ".attn.", "._checkpoint_wrapped_module.attn."),
    "Lightning": lambda s: {"state_dict": under("model.", s), "hyper_parameters": {"lr": 0.1}, "epoch": 1},
    "Lightning, net": lambda s: {"state_dict": under("net.", s), "callbacks": {}},
    "Lightning, compiled": lambda s: {"state_dict": under("model._orig_mod.", s)},
    "vit": lambda s: under("vit.", s),
    "image_encoder": lambda s: under("image_encoder.", s),
    "visual_encoder": lambda s: {**under("visual_encoder.", s), "text_encoder.embeddings.weight": torch.ones(3, 3)},
    "clip": lambda s: under("clip.visual.", s),
    "Sequential": lambda s: under("0.", s),
    "transformers' wrapper of timm": lambda s: under("timm_model.", s),
    "an unheard-of wrapper": lambda s: {"weights": {"of": {"the": under("run.nr7.", s)}}},
    "total_ops of thop": lambda s: {**s, "total_ops": torch.zeros(1), "blocks.0.total_ops": torch.zeros(1)},
    "an infinite metric": lambda s: {"state_dict": {**under("model.", s), "metric.best": torch.tensor(float("inf"))}},
    "an infinite metric without prefix": lambda s: {**s, "metric.best": torch.tensor(float("inf"))},
    "AveragedModel": lambda s: {**under("module.", s), "n_averaged": torch.tensor(7)},
    "projection head": lambda s: {**s, "projector.0.weight": torch.ones(3, 64), "projector.0.bias": torch.ones(3)},
    "loss, prototypes": lambda s: {**s, "criterion.center": torch.ones(1, 8), "prototypes.weight": torch.ones(8, 64)},
    "MAE's decoder": lambda s: {
        "model": {**s, "mask_token": torch.zeros(1, 1, 32), "decoder_embed.weight": torch.ones(32, 64)}
    },
}  # fmt: skip


@pytest.mark.parametrize("form", SERIES)
def test_one_model_in_whatever_wraps_it(form, source, state, tmp_path):
    torch.save(SERIES[form](state), tmp_path / "w.pth")
    assert_equal(loaded(tmp_path / "w.pth"), source)


@pytest.mark.parametrize("legacy", [True, False], ids=["before torch 1.6", "now"])
def test_both_formats_of_torch(legacy, source, state, tmp_path):
    what = {"state_dict": state, "args": argparse.Namespace(lr=1.0), "best": np.float32(1)}
    torch.save(what, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    assert_equal(loaded(tmp_path / "w.pth"), source)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float64])
def test_every_precision_is_read_to_the_values_it_holds_and_said(dtype, state, tmp_path):
    stored = {name: value.to(dtype) for name, value in state.items()}
    torch.save(stored, tmp_path / "w.pth")
    model = loaded(tmp_path / "w.pth")
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, stored[name].float())
    word = "narrowed" if dtype is torch.float64 else "widened"
    assert model.notes == (f"{str(dtype).removeprefix('torch.')} {word} to float32",)


def test_what_was_left_out_is_said_by_group(state, tmp_path):
    whole = {"state_dict": under("module.backbone.", state), "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
    whole["state_dict"] |= {"module.head.mlp.0.weight": torch.ones(2, 2), "module.head.mlp.0.bias": torch.ones(2)}
    torch.save(whole, tmp_path / "w.pth")
    assert loaded(tmp_path / "w.pth").notes == (
        "taken from under state_dict.module.backbone",
        "tensors of other modules left out: 3 (state_dict.module.head: 2, optimizer.state.0.exp_avg)",
    )


def test_tensors_without_names_are_not_read_and_said(source, state, tmp_path):
    """Lightning's callback for averages stores them as a list."""
    averages = {"EMA": {"ema_weights": [value * 2 for value in state.values()]}}
    torch.save({"state_dict": under("model.", state), "callbacks": averages}, tmp_path / "w.ckpt")
    model = loaded(tmp_path / "w.ckpt")
    assert_equal(model, source)
    assert model.notes[-1] == f"not read: callbacks.EMA.ema_weights, a list of {len(state)} tensors without names"


# --------------------------------------------------------------------------------------------- two models in one file

PAIRS = {
    "DINO": ("teacher.backbone.", "student.backbone.", {"student.head.mlp.0.weight": torch.ones(2, 2)}),
    "iBOT": ("teacher.", "student.", {}),
    "Lightning, student and teacher": ("state_dict.teacher.", "state_dict.student.", {}),
    "I-JEPA": ("target_encoder.module.", "encoder.module.", {"predictor.module.mask_token": torch.zeros(1, 1, 8)}),
    "MoCo v3": ("state_dict.module.base_encoder.", "state_dict.module.momentum_encoder.", {}),
    "BYOL": ("online_encoder.net.", "target_encoder.net.", {}),
    "timm's EMA": ("state_dict_ema.", "state_dict.", {}),
    "DeiT's EMA": ("model_ema.", "model.", {}),
    "EMA under a longer name": ("ema.module.", "model.module.", {}),
}


def nested(flat):
    """Names with dots, the first part as a dict of its own: as these scripts store them."""
    out: dict[str, dict] = {}
    for name, value in flat.items():
        first, _, rest = name.partition(".")
        out.setdefault(first, {})[rest] = value
    return out


@pytest.mark.parametrize("form", PAIRS)
def test_of_two_models_the_rule_takes_one_and_says_so(form, source, state, other, tmp_path):
    taken, left, extra = PAIRS[form]
    torch.save(nested({**under(left, other), **under(taken, state), **extra}), tmp_path / "w.pth")
    model = loaded(tmp_path / "w.pth")
    assert_equal(model, source)
    assert f"{taken.rstrip('.')} taken, not {left.rstrip('.')}: --which chooses" in model.notes


def test_which_takes_the_other_one(source, state, other, tmp_path):
    torch.save({"state_dict": {**under("student.", state), **under("teacher.", other)}}, tmp_path / "w.ckpt")
    model = loaded(tmp_path / "w.ckpt", which="student")
    assert_equal(model, source)
    assert model.notes[0] == "state_dict.student taken, as --which student says"
    with pytest.raises(
        WeightsMismatch, match=r"called 'pupil'. It holds this architecture under: state_dict\.student, "
    ):
        loaded(tmp_path / "w.ckpt", which="pupil")


def test_where_no_rule_decides_both_are_named(source, state, other, tmp_path):
    torch.save({**under("left.", state), **under("right.", other)}, tmp_path / "w.pth")
    with pytest.raises(
        WeightsMismatch, match=r"holds 2 models of this architecture: left, right\. Say which with --which"
    ):
        loaded(tmp_path / "w.pth")
    assert_equal(loaded(tmp_path / "w.pth", which="left"), source)


def test_one_model_under_two_names_is_one_model(source, state, tmp_path):
    torch.save({**under("net.", state), **under("model.net.", state)}, tmp_path / "w.pth")
    assert_equal(loaded(tmp_path / "w.pth"), source)


# --------------------------------------------------------------------------------- heads, and other architectures


@pytest.mark.parametrize("classes", [10, 2, 1])
def test_heads_of_any_number_of_classes(classes, tmp_path):
    tuned = made(num_classes=classes)
    torch.save(tuned.state_dict(), tmp_path / "w.pth")
    assert_equal(loaded(tmp_path / "w.pth"), tuned)


def test_no_head(tmp_path):
    headless = made(num_classes=0)
    torch.save(headless.state_dict(), tmp_path / "w.pth")
    model = loaded(tmp_path / "w.pth")
    assert_equal(model, headless, logits=False)
    assert model.notes == ("classifier head missing: set to zero",)


def test_a_head_without_bias(source, state, tmp_path):
    torch.save({name: value for name, value in state.items() if name != "head.bias"}, tmp_path / "w.pth")
    model = loaded(tmp_path / "w.pth")
    assert_equal(model, source, logits=False)
    assert torch.equal(model.module.head.weight, state["head.weight"])
    assert model.notes == ("head.bias missing: set to zero",)


def test_a_head_of_several_layers_is_left_out(source, state, tmp_path):
    torch.save(
        {**body(state), "head.0.weight": torch.ones(9, 64), "head.2.weight": torch.ones(2, 9)}, tmp_path / "w.pth"
    )
    model = loaded(tmp_path / "w.pth")
    assert_equal(model, source, logits=False)
    assert model.notes == ("tensors of other modules left out: 2 (head: 2)", "classifier head missing: set to zero")


ARGUMENTS = {
    "average pooling": ({"global_pool": "avg"}, "--model-args global_pool=avg"),
    "no class token": ({"class_token": False, "global_pool": "avg"}, "--model-args class_token=False --model-args"),
    "registers": ({"reg_tokens": 4}, "--model-args reg_tokens=4"),
    "LayerScale": ({"init_values": 0.1}, "--model-args init_values=1e-05"),
    "no bias of queries": ({"qkv_bias": False}, "--model-args qkv_bias=False"),
    "norms of queries": ({"qk_norm": True}, "--model-args qk_norm=True"),
    "more blocks": ({"depth": 5}, "--model-args depth=5"),
    "smaller patches": ({"patch_size": 8}, "--model-args patch_size=8"),
}


@pytest.mark.parametrize("form", ARGUMENTS)
def test_the_argument_that_makes_weights_fit_is_named_and_then_they_fit(form, tmp_path):
    options, told = ARGUMENTS[form]
    tuned = made(**options)
    torch.save({"model": tuned.state_dict()}, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch) as error:
        loaded(tmp_path / "w.pth")
    assert told in str(error.value)
    assert_equal(loaded(tmp_path / "w.pth", arguments=tuple(sorted(options.items()))), tuned)


def test_a_part_of_the_encoder_is_never_left_out(state):
    """What could change its features is no other module's: a deeper model, adapters, a layer within a block."""
    module = made(seed=1)
    for extra in (
        "blocks.0.adapter.weight",
        "blocks.9.norm1.weight",
        "blocks.0.attn.qkv.lora_A",
        "reg_token",
        "attn_pool.q",
    ):
        with pytest.raises(WeightsMismatch, match=f"1 unexpected: {extra}"):
            fit(module, Names("w.pth", {**state, extra: torch.ones(2, 2)}))


def test_adapters_are_called_so(state, tmp_path):
    wrapped = {
        n.replace("qkv.weight", "qkv.base_layer.weight"): v for n, v in under("base_model.model.", state).items()
    }
    torch.save(
        {**wrapped, "base_model.model.blocks.0.attn.qkv.lora_A.default.weight": torch.ones(2, 64)}, tmp_path / "w.pth"
    )
    with pytest.raises(WeightsMismatch, match=r"merge them first \(model\.merge_and_unload\(\)\)"):
        loaded(tmp_path / "w.pth")


def test_integers_are_no_weights(state, tmp_path):
    torch.save({**state, "norm.weight": torch.ones(64, dtype=torch.int8)}, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match=r"norm\.weight \(64,\) of torch\.int8, expected \(64,\)"):
        loaded(tmp_path / "w.pth")


def test_distilled_weights_under_the_plain_architecture_are_refused(tmp_path):
    torch.save(made("deit_tiny_distilled_patch16_224", depth=1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match=r"1 unexpected: dist_token\n(.*\n)+  a distilled model: name"):
        loaded(tmp_path / "w.pth", "timm/deit_tiny_patch16_224", arguments=(("depth", 1),))


def test_beits_shared_table_gives_the_same_function(tmp_path):
    small = {"depth": 2, "embed_dim": 32, "num_heads": 2, "img_size": 32}
    pretrained = made("beit_base_patch16_224", use_rel_pos_bias=False, use_shared_rel_pos_bias=True, **small)
    torch.save({"model": pretrained.state_dict()}, tmp_path / "w.pth")
    asked = tuple(sorted({name: value for name, value in small.items() if name != "img_size"}.items()))
    model = loaded(tmp_path / "w.pth", "timm/beit_base_patch16_224", input_size=32, arguments=asked)
    pixels = PIXELS[:, :, :32, :32]
    with torch.no_grad():  # the biases lie otherwise in memory, so sums round otherwise
        assert (model.module(pixels) - pretrained(pixels)).abs().max() < 1e-6
    assert model.notes == ("taken from under model", "one table of relative positions was copied into 2 blocks")


def test_nan_matters_only_in_what_is_used(source, state, tmp_path):
    torch.save({**under("model.", state), "ema.decay": torch.tensor(float("nan"))}, tmp_path / "w.pth")
    assert_equal(loaded(tmp_path / "w.pth"), source)
    torch.save({**under("model.", state), "model.norm.bias": torch.full((64,), float("nan"))}, tmp_path / "w.pth")
    with pytest.raises(WeightsUnreadable, match=r"NaN or infinity in 1 of .* \(norm\.bias\)"):
        loaded(tmp_path / "w.pth")
