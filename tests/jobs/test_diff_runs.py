"""`neuron-atlas diff` on what runs measured: a trained model against itself permuted, and against other weights."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.cli import call
from pipeline.models import ModelRequest, load
from tests.jobs.conftest import Runner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WIDTH, LAYERS = 128, 4


def permutations() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randperm(WIDTH, generator=generator) for _ in range(LAYERS)]


def edited() -> torch.Tensor:
    """An order in which 30 neurons of a layer change places."""
    return torch.cat([torch.arange(10), torch.arange(10, 40).roll(1), torch.arange(40, WIDTH)])


def written(path: Path, orders: list[torch.Tensor], dead: int = 0) -> Path:
    """zoo/vit with the neurons of each layer in another order: the same function of an image.

    dead: how many of the last layer, from the first on, are switched off, so that they are constant and negative.
    """
    state = {name: value.clone() for name, value in load(ModelRequest("zoo/vit")).module.state_dict().items()}
    for layer, order in enumerate(orders):
        mlp = f"blocks.{layer}.mlp"
        for name in (f"{mlp}.fc1.weight", f"{mlp}.fc1.bias"):
            state[name] = state[name][order].contiguous()
        state[f"{mlp}.fc2.weight"] = state[f"{mlp}.fc2.weight"][:, order].contiguous()
    state[f"{mlp}.fc1.weight"][:dead] = 0.0
    state[f"{mlp}.fc1.bias"][:dead] = -3.0
    save_file(state, path)
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert call(["diff", *words, "--json"]) == 0, capsys.readouterr().err
    (found,) = json.loads(capsys.readouterr().out)
    return found


def fates(found: dict[str, Any], side: str = "a") -> Counter[str]:
    return Counter(row["fate"] for row in found["rows"] if row["side"] == side and row["kind"] == "neuron")


def test_what_runs_measured(run_into: Runner, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "atlas"
    still = [torch.arange(WIDTH)] * (LAYERS - 1)
    weights = {
        "permuted": written(tmp_path / "permuted.safetensors", permutations()),
        "edited": written(tmp_path / "edited.safetensors", [*still, edited()], dead=10),
    }
    models = [
        {"model": "zoo/vit"},
        *({"model": "zoo/vit", "weights": str(path), "name": name} for name, path in weights.items()),
        {"model": "zoo/vit", "random_weights": True, "name": "untrained"},
    ]
    whole = {"layers": "all", "units": "all", "unit_seconds": 5.0, "workers": 1, "random_weights": None}
    report = run_into(folder, models=models, probe="zoo:400", match_images=64, stages="probe,match", **whole)
    assert report.exit_code == 0
    orders, atlas = permutations(), str(folder)
    fixed = sum(int((order == torch.arange(WIDTH)).sum()) for order in orders)
    neurons = WIDTH * LAYERS
    for measure in ("correlation", "overlap"):
        found = told(capsys, atlas, "--models", "zoo-vit", "permuted", "--by", measure)
        for side, there in (("a", [torch.argsort(order) for order in orders]), ("b", orders)):
            assert fates(found, side) == Counter(moved=neurons - fixed, kept=fixed)
            rows = [row for row in found["rows"] if row["side"] == side and row["kind"] == "neuron"]
            partners = [int(row["partner"].rsplit("/", 1)[1]) for row in rows]
            assert partners == [int(there[row["layer"]][row["unit"]]) for row in rows]
        found = told(capsys, atlas, "--models", "zoo-vit", "untrained", "--by", measure)
        assert fates(found)["died"] >= 0.95 * neurons
        found = told(capsys, atlas, "--models", "zoo-vit", "edited", "--by", measure)
        assert fates(found) == Counter(kept=neurons - 40, moved=30, died=10)
        assert fates(found, "b") == Counter(kept=neurons - 40, moved=30, silent=10)
        gone = [row["address"] for row in found["rows"] if row["fate"] == "died" and row["silent_there"]]
        assert gone == [f"zoo-vit/mlp/3/{unit}" for unit in range(10)]
        places = {row["unit"]: row["partner"] for row in found["rows"] if row["side"] == "b" and row["fate"] == "moved"}
        assert places == {unit: f"zoo-vit/mlp/3/{edited()[unit]}" for unit in range(10, 40)}
    found = told(capsys, atlas, atlas, "--models", "zoo-vit")
    assert fates(found) == Counter(kept=neurons)
