"""Files and folders of weights: read without running code, or called what they are, with a way out that works."""

import argparse
import gzip
import json
import tarfile
import zipfile

import fsspec
import numpy as np
import pytest
import safetensors.torch
import torch

from atlas_schema.errors import WeightsMismatch, WeightsUnreadable
from pipeline.models.weights import read_weights
from tests.pipeline.checkpoints import PIXELS, assert_equal, loaded, made, refused, run_told_command, under


@pytest.fixture(scope="module")
def source() -> torch.nn.Module:
    return made()


@pytest.fixture(scope="module")
def state(source) -> dict[str, torch.Tensor]:
    return source.state_dict()


# ----------------------------------------------------------------------------------------------------------- formats


def test_torchscript_is_read_without_being_run(source, tmp_path):
    traced = torch.jit.trace(source, PIXELS[:1], check_trace=False)
    torch.jit.save(traced, tmp_path / "script.pt")
    assert_equal(loaded(tmp_path / "script.pt"), source)


def test_half_precision_torchscript(tmp_path):
    half = made().half()
    want = made()
    want.load_state_dict({name: value.float() for name, value in half.state_dict().items()})

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = half

        def forward(self, x):
            return x

    torch.jit.save(torch.jit.trace(Wrapped(), torch.zeros(1)), tmp_path / "script.pt")
    model = loaded(tmp_path / "script.pt")
    assert_equal(model, want)
    assert model.notes == ("taken from under visual", "float16 widened to float32")


def test_folders_of_hugging_face_and_their_shards(source, state, tmp_path):
    folder = tmp_path / "hub"
    folder.mkdir()
    safetensors.torch.save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    torch.save(made(seed=3).state_dict(), folder / "training_args.bin")
    assert_equal(loaded(folder), source)
    halves = [dict(list(state.items())[::2]), dict(list(state.items())[1::2])]
    (folder / "model.safetensors").unlink()
    index = {}
    for number, half in enumerate(halves, 1):
        name = f"model-0000{number}-of-00002.safetensors"
        safetensors.torch.save_file(half, folder / name)
        index |= dict.fromkeys(half, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert_equal(loaded(folder), source)
    assert_equal(loaded(folder / "model.safetensors.index.json"), source)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsUnreadable, match=r"model-00002-of-00002\.safetensors: no such file"):
        loaded(folder)


def test_an_index_cannot_name_files_elsewhere(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')
    refused(tmp_path / "model.safetensors.index.json", "names a file of another folder")


def test_a_folder_with_one_file_is_that_file(source, state, tmp_path):
    torch.save(state, tmp_path / "epoch_3.pt")
    assert_equal(loaded(tmp_path), source)
    torch.save(state, tmp_path / "epoch_4.pt")
    refused(tmp_path, r"2 weights files: epoch_3\.pt, epoch_4\.pt\. Name one")


FOLDERS = {
    "__0_0.distcp": "dcp_to_torch",
    "zero_to_fp32.py": "DeepSpeed checkpoint",
    "saved_model.pb": "TensorFlow SavedModel",
    "flax_model.msgpack": "Flax model",
    "tf_model.h5": "TensorFlow model",
    "README.md": "without a weights file; it holds README.md",
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_other_kinds_are_called_what_they_are(name, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    refused(tmp_path, FOLDERS[name])


def test_the_command_for_a_distributed_checkpoint_works(source, state, tmp_path, monkeypatch):
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": state}, checkpoint_id=tmp_path / "dcp", no_dist=True)
    told = refused(tmp_path / "dcp", "a distributed checkpoint")
    run_told_command(told.split("\n")[1], tmp_path, monkeypatch)
    assert_equal(loaded(tmp_path / "weights.pth"), source)


def as_jax(state, heads: int) -> dict[str, np.ndarray]:
    """A ViT as Google's JAX code stores it: kernels transposed, attention by head."""
    width = state["cls_token"].shape[-1]
    out = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].t(),
        "head/bias": state["head.bias"],
    }
    for index in range(12):
        ours, theirs = f"blocks.{index}.", f"Transformer/encoderblock_{index}/"
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        for own, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            out |= {
                f"{theirs}{name}/scale": state[f"{ours}{own}.weight"],
                f"{theirs}{name}/bias": state[f"{ours}{own}.bias"],
            }
        for own, name in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            out[f"{theirs}MlpBlock_3/{name}/kernel"] = state[f"{ours}mlp.{own}.weight"].t()
            out[f"{theirs}MlpBlock_3/{name}/bias"] = state[f"{ours}mlp.{own}.bias"]
        weights, biases = state[f"{ours}attn.qkv.weight"].chunk(3), state[f"{ours}attn.qkv.bias"].chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            out[f"{attention}{name}/kernel"] = weight.t().reshape(width, heads, -1)
            out[f"{attention}{name}/bias"] = bias.reshape(heads, -1)
        out[f"{attention}out/kernel"] = state[f"{ours}attn.proj.weight"].t().reshape(heads, -1, width)
        out[f"{attention}out/bias"] = state[f"{ours}attn.proj.bias"]
    return {name: value.detach().numpy() for name, value in out.items()}


def test_jax_archives_are_called_so_and_the_command_works(tmp_path, monkeypatch):
    source = made("vit_tiny_patch16_224")
    np.savez(tmp_path / "jax.npz", **as_jax(source.state_dict(), heads=3))
    told = refused(tmp_path / "jax.npz", r"is a NumPy archive \(\.npz\), as JAX training writes it")
    command = told[told.index("python -c") :].replace("NAME", "vit_tiny_patch16_224")
    run_told_command(command, tmp_path, monkeypatch)
    model = loaded(tmp_path / "weights.pth", "timm/vit_tiny_patch16_224")
    assert_equal(model, source, pixels=torch.rand(1, 3, 224, 224))


def test_the_command_for_an_exported_program_works(tmp_path, monkeypatch):
    source = made()
    with torch.no_grad():
        torch.export.save(torch.export.export(source, (torch.zeros(1, 3, 160, 160),)), tmp_path / "exported.pt2")
    told = refused(tmp_path / "exported.pt2", r"is a program that torch.export wrote")
    run_told_command(told[told.index("python -c") :], tmp_path, monkeypatch)
    assert_equal(loaded(tmp_path / "weights.pth"), source)


FOREIGN = {
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "page.pth": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page.* /resolve/ in place of /blob/"),
    "error.bin": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
    "llama.gguf": (b"GGUF" + bytes(64), "a GGUF file"),
    "array.npy": (b"\x93NUMPY\x01\x00" + bytes(64), "one NumPy array"),
    "model.onnx": (b"\x08\x07\x12\x07pytorch" + bytes(64), "an ONNX file"),
    "picture.pth": (b"\xff\xd8\xff\xe0" + bytes(64), "a JPEG picture"),
    "weights.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(64), "a 7z archive"),
    "settings.pth": (b'{"lr": 0.1}', "a JSON file without weights"),
    "text.pth": (b"to be uploaded", "no weights file. It does not begin"),
    "empty.pth": (b"", "no weights file. It is empty"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_kinds_are_called_what_they_are(name, tmp_path):
    data, said = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    assert "damaged" not in refused(tmp_path / name, said)


@pytest.mark.parametrize("length", [0x80, 0x4B50, 0x8B1F, 0x120708])
def test_safetensors_whose_length_looks_like_another_format(length, source, state, tmp_path):
    """The file begins with the length of its header, in bytes that may be anything."""
    data = safetensors.torch.save(state)
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size]
    wanted = length if length > size else size + (length - size) % 256
    padded = header + b" " * (wanted - size)
    (tmp_path / "w.safetensors").write_bytes(len(padded).to_bytes(8, "little") + padded + data[8 + size :])
    assert_equal(loaded(tmp_path / "w.safetensors"), source)


def test_archives_are_called_so(state, tmp_path):
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    with tarfile.open(tmp_path / "weights.tar", "w") as archive:
        archive.add(tmp_path / "w.safetensors", "w.safetensors")
    with zipfile.ZipFile(tmp_path / "weights.zip", "w") as archive:
        archive.write(tmp_path / "w.safetensors", "w.safetensors")
    (tmp_path / "weights.pth.gz").write_bytes(gzip.compress(b"x" * 99))
    refused(tmp_path / "weights.tar", "is a tar archive. Unpack it")
    refused(tmp_path / "weights.zip", r"is a zip archive \(w\.safetensors\)\. Unpack it")
    refused(tmp_path / "weights.pth.gz", "is a gzip archive. Unpack it")


@pytest.mark.parametrize("length", [3, 20, 200, 0.5, -1])
def test_a_file_that_was_cut_off(length, state, tmp_path):
    for name, save in (("w.pth", torch.save), ("w.safetensors", safetensors.torch.save_file)):
        save(state, tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(length * len(data)) if isinstance(length, float) else length])
        refused(tmp_path / name, "is truncated or damaged|is no weights file")


def test_a_byte_that_changed_in_a_zip_is_noticed(state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    data = bytearray((tmp_path / "w.pth").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "w.pth").write_bytes(data)
    refused(tmp_path / "w.pth", "w.pth is truncated or damaged: .*CRC")


def test_what_holds_no_tensors_says_what_it_holds(tmp_path):
    for content, said in (([1, 2], "no state dict but list"), ({"epoch": 3, "best": 0.5}, "but the keys epoch, best")):
        torch.save(content, tmp_path / "log.pth")
        refused(tmp_path / "log.pth", said)


# ------------------------------------------------------------------------------------------------------------ stores


class Refusing(fsspec.AbstractFileSystem):
    """A store that answers with an error of its own library."""

    protocol = "refusing"
    cachable = False

    class Denied(Exception):
        pass

    def cat_file(self, path, **kwargs):
        raise self.Denied("An error occurred (403) when calling the GetObject operation: Forbidden\nRequest id: 7")

    def info(self, path, **kwargs):
        raise self.Denied("403")

    def isdir(self, path):
        return False


def test_a_store_that_refuses_ends_in_our_error(monkeypatch):
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    with pytest.raises(
        WeightsUnreadable, match=r"refusing://b/w\.pth cannot be opened: An error occurred \(403\)"
    ) as error:
        read_weights("refusing://b/w.pth")
    assert "Request id" not in str(error.value)


def test_folders_in_a_store(source, state):
    files = fsspec.filesystem("memory")
    files.pipe_file("/hub/model.safetensors", safetensors.torch.save(state))
    files.pipe_file("/hub/config.json", b"{}")
    assert_equal(loaded("memory://hub"), source)
    with pytest.raises(WeightsUnreadable, match="no such file"):
        loaded("memory://hub/none.pth")


def test_a_mismatch_says_where_it_looked(state, tmp_path):
    torch.save(
        {"model": under("net.", {n: v for n, v in state.items() if not n.startswith("norm.")})}, tmp_path / "w.pth"
    )
    with pytest.raises(
        WeightsMismatch, match=r"w\.pth \(under model\.net\) does not fit VisionTransformer:\n  2 missing: norm"
    ):
        loaded(tmp_path / "w.pth")


def test_the_arguments_of_a_trainer_are_no_state_dict(tmp_path):
    torch.save(argparse.Namespace(lr=0.1), tmp_path / "args.pth")
    refused(tmp_path / "args.pth", "no state dict but Namespace")
