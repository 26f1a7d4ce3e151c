"""The command line: what loads, what is said, which exit code; read from real processes and a real atlas."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from atlas_schema.store import Store
from jobs.cli import COMMANDS, GROUPS, call
from jobs.commands.work import RunFlags
from jobs.config import ModelEntry, RunConfig
from jobs.lock import Holder
from tests.atlas_schema.made_atlas import make_atlas

REPO = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "timm", "open_clip", "pyarrow", "numpy")
EVERY_COMMAND = [[name] for name in COMMANDS] + [
    [group, name] for group, (_, commands) in GROUPS.items() for name in commands
]


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, cwd="/", timeout=120
    )


def loaded_by(code: str) -> list[str]:
    done = python(f"import sys\n{code}\nprint('LOADED', *[m for m in {HEAVY} if m in sys.modules])")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_help_of_every_command_loads_nothing_heavy():
    calls = "; ".join(f"call({[*words, '--help']!r})" for words in [[], ["site"], ["zoo"], *EVERY_COMMAND])
    assert loaded_by(f"from jobs.cli import call; {calls}") == []


def test_the_check_above_would_notice():
    """The control: a module that does import torch and pyarrow."""
    assert set(loaded_by("import pipeline.models, atlas_schema.tables")) >= {"torch", "pyarrow"}


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert call([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: neuron-atlas " + " ".join(words) in text
    assert "()" not in text, "no default is none"
    example = text.split("Example:")[1]
    assert "neuron-atlas " + " ".join(words) in example


def test_every_setting_is_a_flag():
    flags = set(RunFlags.__dataclass_fields__)
    assert flags - {"config", "model"} == (set(RunConfig.model_fields) | set(ModelEntry.model_fields)) - {
        "models",
        "model",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], 'Did you mean "run"?'),
        (["plan", "--modle", "zoo/vit"], "Did you mean --model?"),
        (["plan"], "no model given"),
        (["plan", "--model", "zoo/vit", "--recipe", "fsat"], "nearest: fast"),
        (["plan", "--model", "zoo/vti"], "vit"),
        (["plan", "--model", "zoo/vit", "--device", "gpu"], "device: 'gpu', expected 'auto', 'cpu', 'cuda' or 'mps'"),
        (["plan", "--model", "zoo/vit", "--units", "0-4"], "0:16"),
        (["plan", "--model", "zoo/vit", "--model", "zoo/vit"], "would share the slug 'zoo-vit'"),
        (["plan", "--model", "timm/deit_tiny_patch16_244"], "deit_tiny_patch16_224"),
        (["run", "--model", "zoo/vit", "--out", "memory://x"], "memory store"),
        (["run", "--model", "zoo/vit", "--address", "127.0.0.1:1", "--config", "no.toml"], "no.toml: cannot be read"),
        (["show", "zoo-vit/mlp/0"], "zoo-vit/mlp/0"),
        (["status", "/nonexistent"], "no atlas here"),
        (["validate", "/nonexistent"], "no atlas here"),
        (["zoo", "train", "vti"], "vit"),
        (["site", "build", "/nonexistent", "--watch", "0"], "--watch 0: expected seconds, more than 0"),
        (["site", "build", "/nonexistent", "--serve", "8000"], "--serve shows a site while it is built: give --watch"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_misuse_is_one_short_message_and_exit_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert call(words) == 2
    out, err = capsys.readouterr()
    assert said in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err
    assert len((out + err).strip().splitlines()) < 12


def test_a_config_typo_is_named_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "run.toml"
    file.write_text('models = ["zoo/vit"]\nrecipie = "fast"\n')
    assert call(["plan", "--config", str(file)]) == 2
    assert "recipie: unknown key; nearest: recipe" in capsys.readouterr().err


def plan_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert call(["plan", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_plan_counts_without_weights_or_network(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The counts of the real checkpoints; any attempt to reach the network raises."""
    import socket

    def refuse(*_: object) -> None:
        raise AssertionError("plan reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    counts = {  # neurons, FFN sites, heads
        "timm/deit_tiny_patch16_224": (9216, 12, 36),
        "timm/vit_base_patch16_224": (36864, 12, 144),
        "timm/vit_large_patch16_224": (98304, 24, 384),
        "timm/swin_tiny_patch4_window7_224": (17664, 12, 138),
        "timm/coat_tiny": (8512, None, 208),
        "timm/convit_tiny": (9216, 12, 48),
        "timm/pit_b_224": (31744, 13, 124),
        "timm/twins_svt_small": (19968, 18, 156),
        "open_clip/ViT-B-32/openai": (36864, 12, 144),
    }
    made = plan_json(capsys, *[word for model in counts for word in ("--model", model)])
    assert len(made["models"]) == len(counts)
    for model, (neurons, sites, heads) in zip(made["models"], counts.values(), strict=True):
        assert (model["neurons"], model["heads"]) == (neurons, heads), model["id"]
        assert sites in (None, model["ffn_sites"]), model["id"]
        assert {"id", "family", "attention_sites", "head_dim", "representation_dim"} <= model.keys()
    assert made["models"][0]["head_dim"] == 64
    assert made["models"][0]["representation_dim"] == 192
    assert made["work_units"] > 0
    assert made["estimated_flops"] > 1e15


def test_plan_says_what_is_in_a_probe_set_and_what_is_not(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for name in ("cat/0.png", "dog/0.png"):
        (tmp_path / name).parent.mkdir()
        Image.effect_noise((32, 32), 50).save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes(b"")
    words = ["--model", "zoo/vit", "--units", "0:16", "--stages", "probe", "--probe", str(tmp_path)]
    assert call(["plan", "--json", *words]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["planned_neurons"] > 0, "what is printed stays JSON"
    assert "2 probe images, 2 classes, 0 captions, set " in told.err
    assert "1 image cannot be used:\n  cut.png: the file is empty (0 bytes)" in told.err
    assert "1 image lies in no class folder: cut.png" in told.err


def test_plan_for_people(capsys: pytest.CaptureFixture[str]):
    assert call(["plan", "--model", "zoo/vit", "--units", "0:16"]) == 0
    text = capsys.readouterr().out
    assert "zoo/vit" in text
    assert "work units" in text
    assert "64" in text


def test_status_is_said_again_as_long_as_a_run_is_at_work(
    clean: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from jobs import status

    one = Holder("nonce", "host boot", 1, "born", "run-1")
    holders = [one, one, None]
    monkeypatch.setattr(status, "read_holder", lambda store: holders.pop(0))
    monkeypatch.setattr(status, "surely_dead", lambda holder: False)
    assert call(["status", str(clean), "--watch", "0.01"]) == 0
    said = capsys.readouterr().out
    assert (said.count("Run run-1 is at work"), said.count("No run is at work")) == (2, 1)
    assert not holders
    assert call(["status", str(clean), "--watch", "0"]) == 2
    assert "expected seconds, more than 0" in capsys.readouterr().err


def test_status_validate_show_card_on_an_atlas(clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    atlas = str(clean)
    assert call(["status", atlas, "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    (model,) = state["models"]
    assert (model["planned"], model["committed"], model["layers_assembled"], model["missing"]) == (128, 128, 2, [])
    assert state["running"] is None
    assert call(["status", atlas]) == 0
    assert "No run is at work" in capsys.readouterr().out

    assert call(["validate", atlas]) == 0
    assert "valid" in capsys.readouterr().out

    png = tmp_path / "neuron.png"
    assert call(["show", "zoo-vit--random/mlp/1/5", "--atlas", atlas, "--image", str(png), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["layer"], row["unit"], row["recipe"]) == (1, 5, "tiny")
    assert Image.open(png).size == (64, 64)
    webp = tmp_path / "neuron.webp"
    assert call(["show", "zoo-vit--random/mlp/1/5", "--atlas", atlas, "--image", str(webp)]) == 0
    assert "activation" in capsys.readouterr().out
    assert Image.open(io.BytesIO(webp.read_bytes())).format == "WEBP"

    assert call(["show", "zoo-vit--random/mlp/3/5", "--atlas", atlas]) == 2
    assert "zoo-vit--random/mlp/3/5" in capsys.readouterr().err
    assert call(["show", "zoo-vit--random/mlp/1/5", "--atlas", atlas, "--image", "/no/such/folder/x.png"]) == 2
    assert "/no/such/folder/x.png" in capsys.readouterr().err


def test_card_writes_croissant_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    atlas = make_atlas(Store(tmp_path / "atlas")).url
    (tmp_path / "atlas" / "README.md").unlink()
    file = tmp_path / "atlas" / "croissant.json"
    assert call(["card", atlas, "--croissant", str(file)]) == 0
    assert capsys.readouterr().out.split() == [f"{atlas}/README.md", str(file)]
    assert (tmp_path / "atlas" / "README.md").exists()
    assert json.loads(file.read_text())["url"] == "README.md"
    assert call(["validate", atlas]) == 0
    assert call(["card", atlas, "--croissant", str(file), "--url", "hf://datasets/org/name@v1"]) == 0
    assert json.loads(file.read_text())["distribution"][0]["contentUrl"].endswith("/datasets/org/name/tree/v1")
    capsys.readouterr()
    assert call(["card", atlas, "--croissant", "/no/such/folder/x.json"]) == 2
    assert "--croissant /no/such/folder/x.json: cannot be written" in capsys.readouterr().err
    assert call(["card", atlas, "--url", "hf://datasets/org/name"]) == 2
    assert "only the description that --croissant FILE writes names it" in capsys.readouterr().err


def test_validate_ends_with_1_where_something_is_wrong(clean: Path, tmp_path: Path, capsys):
    import shutil

    folder = Path(shutil.copytree(clean, tmp_path / "atlas"))
    shard = next(folder.glob("neurons/**/*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-9])
    assert call(["validate", str(folder), "--json"]) == 1
    (violation, *_) = json.loads(capsys.readouterr().out)
    assert violation["path"] == str(shard.relative_to(folder))


def test_models_lists_what_matches(capsys: pytest.CaptureFixture[str]):
    assert call(["models", "zoo/*", "--json"]) == 0
    assert "zoo/vit" in json.loads(capsys.readouterr().out)
    assert call(["models", "no-such-model-anywhere"]) == 2
    assert "no-such-model-anywhere" in capsys.readouterr().err


def test_ctrl_c_in_any_command_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(store: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal did not end the command")

    monkeypatch.setattr("atlas_schema.card.write_card", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert call(["card", "x"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "neuron-atlas: interrupted\n"
