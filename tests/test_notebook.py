"""examples/first_look.ipynb: its cells run in their order on a small atlas, and nothing of a run is stored in it."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.neuron_card import Neuron
from atlas_schema.store import Store
from tests.atlas_schema.made_atlas import make_atlas

NOTEBOOK = Path(__file__).parents[1] / "examples" / "first_look.ipynb"


def cells(kind: str) -> dict[str, Any]:
    """Its cells of one kind by their ids, in their order."""
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    return {cell["id"]: cell for cell in notebook["cells"] if cell["cell_type"] == kind}


def run(source: str, names: dict[str, Any]) -> Any:
    """The value of the last line, as a notebook shows it; None where that is no expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names) if last else None


def test_no_output_is_stored() -> None:
    code = cells("code")
    assert code
    for cell in code.values():
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    assert len(cells("markdown")) >= len(code) - 1


def test_its_cells_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    make_atlas(Store(tmp_path / "demo" / "atlas"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    names: dict[str, Any] = {}
    shown = {name: run("".join(cell["source"]), names) for name, cell in cells("code").items()}
    assert shown["open"] == [("zoo-vit", 64, 3)]
    assert isinstance(shown["neuron"], Neuron)
    assert shown["neuron"]["address"] == "zoo-vit/mlp/1/23"
    assert "data:image/webp;base64," in shown["neuron"]._repr_html_()
    assert 0 < len(shown["search"]) <= 5
    assert all(names["word"] in label for label in shown["search"]["label"])
    assert list(shown["heads"]["texts_explain"]) == sorted(shown["heads"]["texts_explain"], reverse=True)
    assert len(shown["heads"]) == 3
    assert "@misc{neuron-atlas" in capsys.readouterr().out
