"""neuron-atlas heatmap: a picture and numbers, and mistakes in plain words."""

import json

import pytest
import torch
from PIL import Image

import jobs.commands.comparing
from atlas_schema.errors import BadConfig, NothingThere
from jobs.commands.heatmap import heatmap
from pipeline.decompose import components_of
from pipeline.decompose.alignment import Alignment
from pipeline.models import ModelRequest, load
from pipeline.zoo.world import HELD_OUT_SEED, scenes


@pytest.fixture
def pictures(tmp_path):
    """Scenes as files: a pink disk in the centre, and a purple cross at the top left."""
    world = scenes(HELD_OUT_SEED, range(2))
    assert [world.words(i)["colour"] for i in range(2)] == ["pink", "purple"]
    paths = [tmp_path / f"scene{i}.png" for i in range(2)]
    for path, pixels in zip(paths, world.images, strict=True):
        Image.fromarray(pixels).save(path)
    return paths


def _json(capsys, **asked):
    assert heatmap(as_json=True, **asked) == 0
    return json.loads(capsys.readouterr().out)


def test_a_class_is_found_where_its_object_is(pictures, tmp_path, capsys):
    out = tmp_path / "heat.png"
    told = _json(capsys, model="zoo/pit", image=pictures[0], class_name="pink", out=out)
    assert told["sought"] == "class “colour: pink”"
    assert told["level"] == "direct"
    assert told["positive"] > 2 * -told["negative"]
    assert all(abs(place - 0.5) < 0.15 for place in told["strongest"])
    with Image.open(out) as drawn:
        assert drawn.width > 2 * drawn.height * 0.8
        near = drawn.getpixel((drawn.width * 3 // 4, drawn.height // 2))
    assert near[0] > near[2] + 40  # red
    wrong = _json(capsys, model="zoo/pit", image=pictures[0], class_name="colour: blue", out=out)
    assert wrong["positive"] < 0.5 * told["positive"]


def test_a_text_and_a_likeness(pictures, tmp_path, capsys):
    out = tmp_path / "heat.webp"
    asked = {"model": "zoo/clip", "image": pictures[1], "out": out}
    told = _json(capsys, **asked, text="a purple object", against=["a red object", "a green object"])
    assert told["sought"] == "“a purple object” against “a red object”, “a green object”"
    assert max(told["strongest"]) < 0.6  # top left
    like = _json(capsys, **asked, like=pictures[1])
    assert like["sought"] == "what is like scene1.png"
    assert like["positive"] > 0
    heatmap(**asked, like=pictures[0], level="through")
    text = capsys.readouterr().out
    assert "level through attention" in text
    assert str(out) in text


def test_a_text_for_a_model_that_reads_none_takes_the_atlas_alignment(pictures, tmp_path, capsys, monkeypatch):
    model = load(ModelRequest("zoo/vit"))
    count = len(components_of(model))
    maps = torch.randn(count, model.description.representation_dim, 64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(jobs.commands.comparing, "alignment_of", lambda store, slug: Alignment.of_maps(
        maps, torch.zeros(64), 1.0, 1.0, 1.0, 0.0
    ))  # fmt: skip
    asked = {"model": "zoo/vit", "image": pictures[0], "text": "a pink object", "out": tmp_path / "heat.png"}
    told = _json(capsys, **asked, atlas=str(tmp_path))
    assert len(told["heads"]) == 12
    values = [abs(one["value"]) for one in told["heads"]]
    assert values == sorted(values, reverse=True)
    assert values[-1] > 0


def test_mistakes_are_named(pictures, tmp_path):
    asked = {"model": "zoo/vit", "image": pictures[0], "out": tmp_path / "heat.png"}
    cases = [
        ({}, "exactly one of --text, --class and --like"),
        ({"text": "a", "class_name": "pink"}, "exactly one of"),
        ({"class_name": "pink", "against": ["a"]}, "--against goes with --text"),
        ({"text": " "}, "is empty"),
        ({"class_name": "pink", "level": "deep"}, "'deep': expected one of direct, through, gated"),
        ({"class_name": "pnik"}, "40 classes, not this one. Did you mean 'pink'"),
        ({"like": tmp_path / "none.png"}, r"--like .*none\.png: cannot be read"),
        ({"text": "a pink object"}, "zoo-vit reads no texts. Give --atlas"),
    ]
    for options, message in cases:
        with pytest.raises(BadConfig, match=message):
            heatmap(**asked, **options)
    with pytest.raises(NothingThere):
        heatmap(**asked, text="a pink object", atlas=str(tmp_path))
    with pytest.raises(BadConfig, match="has no classes"):
        heatmap(**(asked | {"model": "zoo/clip"}), class_name="pink")
    with pytest.raises(BadConfig, match=r"--out .*nowhere.*cannot be written"):
        heatmap(**(asked | {"out": tmp_path / "nowhere" / "heat.png"}), class_name="pink")
    with pytest.raises(BadConfig, match=r"--out .*heat\.odd.*cannot be written"):
        heatmap(**(asked | {"out": tmp_path / "heat.odd"}), class_name="pink")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(BadConfig, match=r"--image .*broken\.png: cannot be read"):
        heatmap(**(asked | {"image": broken}), class_name="pink")
