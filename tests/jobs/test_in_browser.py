"""Which model a site lets browsers run: the one that the atlas was made of, asked for as its run did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from atlas_schema.errors import NothingThere, WeightsMismatch
from atlas_schema.read import Atlas
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import MODELS
from jobs import in_browser
from jobs.in_browser import models_for_browsers, request_of
from pipeline.models import ModelRequest, load
from tests.jobs.test_cli import call


def row(slug: str, model_id: str, **more: Any) -> dict[str, Any]:
    return {"slug": slug, "model_id": model_id, **more}


def run(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"config": json.dumps({"models": entries, **more})}


def test_a_model_is_asked_for_as_the_last_run_that_had_it_did() -> None:
    own = {"model": "timm/vit_tiny_patch16_224", "weights": "/weights.pt", "name": "mine", "input_size": 64}
    runs = [run(own), run({"model": "zoo/*"}), {"config": None}, {"config": "{"}, run({"model": "timm/no_such_model"})]
    assert request_of(row("mine", "timm/vit_tiny_patch16_224"), runs) == ModelRequest(
        "timm/vit_tiny_patch16_224", weights="/weights.pt", name="mine", input_size=64
    )
    assert request_of(row("zoo-vit", "zoo/vit"), runs) == ModelRequest("zoo/vit"), "one of a pattern"
    assert request_of(row("zoo-clip", "zoo/clip"), []) == ModelRequest("zoo/clip")


@pytest.fixture
def atlas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    url = str(tmp_path / "atlas")
    plain = {"string": "drawn", "float": 0.5, "double": 0.5}
    for slug, model_id in (("zoo-vit", "zoo/vit"), ("zoo-clip", "zoo/clip")):
        filled = {
            one.name: [] if str(one.type).startswith("list") else plain.get(str(one.type), 1)
            for one in MODELS.columns
            if not one.absent
        }
        told = row(
            slug,
            model_id,
            fingerprint="f" * 64,
            input_height=64,
            input_width=64,
            mean=[0.5] * 3,
            std=[0.5] * 3,
            interpolation="bicubic",
            source="zoo",
        )
        write_rows(Store(url), MODELS, slug, [filled | told], provenance={"code_version": "test"})
    return url


def test_other_weights_than_the_atlas_was_made_of_are_refused(atlas: str) -> None:
    with pytest.raises(WeightsMismatch, match=r"--in-browser zoo-vit: zoo/vit now has the fingerprint .* made of ffff"):
        models_for_browsers(atlas, ["zoo-vit"], lambda text: None)


def test_a_graph_that_was_written_before_is_not_written_again(atlas: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def checked(model: Any, images: Any) -> tuple[bytes, float]:
        calls.append(model.description.slug)
        assert images.shape == (in_browser.CHECKED_IMAGES, 3, 64, 64)
        assert images.std() > 0.05
        return b"graph", 1e-6

    monkeypatch.setattr("pipeline.uses.in_browser.checked_graph", checked)
    monkeypatch.setattr(in_browser, "_loaded", lambda row, runs: load(ModelRequest(row["model_id"])))
    said: list[str] = []
    first = models_for_browsers(atlas, ["all"], said.append)
    assert calls == ["zoo-clip", "zoo-vit"]
    assert "within 1e-06 of torch on 8 images" in said[1]
    again = models_for_browsers(atlas, ["zoo/vit", "zoo-vit"], said.append)
    assert again == [one for one in first if one.slug == "zoo-vit"]
    assert len(calls) == 2
    assert again[0].graph.read_bytes() == b"graph"


def test_a_name_that_the_atlas_does_not_have_is_told_with_the_nearest(atlas: str) -> None:
    with pytest.raises(NothingThere, match=r"--in-browser zoo/vitt: .* has no such model\. Nearest: zoo/vit\."):
        models_for_browsers(atlas, ["zoo/vitt"], lambda text: None)
    assert len(Atlas(atlas).models()) == 2


def test_options_that_cannot_go_together_are_refused(atlas: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["--onnxruntime-web", "x"], "--onnxruntime-web is for models that browsers run"),
        (["--in-browser", "zoo-vit", "--watch", "5"], "--in-browser needs a finished atlas"),
    ):
        assert call(["site", "build", atlas, *words]) == 2
        assert said in capsys.readouterr().err
