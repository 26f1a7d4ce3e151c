"""Studies of inversions: each ablation by hand, figures against their pictures, commands, and what bad input gets."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atlas_schema.errors import AtlasError, BadConfig
from jobs.cli import call
from jobs.commands.inversion_studies import Asked, inversion_ablations, inversion_scale, text_of
from jobs.commands.own_checkpoint import OwnCheckpoint
from pipeline.invert.ablations import FULL, ablations, shortened
from pipeline.invert.recipes import CLIP_INVERSION, FAST, PII, VARIED
from pipeline.invert.targets import class_outputs, targets_of, text_outputs
from pipeline.label.embedder import load_embedder
from pipeline.models import ModelRequest, load
from pipeline.uses.inversion_trials import MEASURES, Subject, by_chance, check_readers, differences, means, told, trial


def subject(name: str) -> Subject:
    model = load(ModelRequest(name))
    return Subject(name, model, class_outputs(model))


@pytest.fixture(scope="module")
def vit() -> Subject:
    return subject("zoo/vit")


@pytest.fixture(scope="module")
def pit() -> Subject:
    return subject("zoo/pit")


def test_each_ablation_takes_away_one_thing_of_the_published_recipe() -> None:
    found = {one.name: one.recipe for one in ablations()}
    assert found[FULL] == PII
    assert len({recipe.hash for recipe in found.values()}) == len(found) == 7
    assert {one.border_share for one in found["without centring"].stages} == {0.0}
    grown = found["without zoom"].stages
    sides = [round(64 * one.size_share) for one in grown]
    inner = [side - round(64 * one.border_share) for side, one in zip(sides, grown, strict=True)]
    assert inner[1:] == sides[:-1], "what was made before keeps its size"
    both = found["without both"]
    assert [one.size_share for one in both.stages] == [1.0]
    assert both.image_steps == PII.image_steps, "at the same cost"
    assert [one.ascent.jitter for one in found["without jitter"].stages] == [0] * 7
    plain = [phase for one in found["without colour shift"].stages for phase in one.ascent.phases]
    assert {phase.colour_shift for phase in plain} == {(0.0, 0.0)}
    assert found["without ensemble"].image_steps * 8 == PII.image_steps
    assert found["without ensemble"].stages[0].ascent.phases[0].colour_shift == (1.0, 1.0)
    for name in ("without centring", "without zoom", "without jitter"):
        assert found[name].image_steps == PII.image_steps


def test_shortening_is_at_most_and_is_no_longer_the_same_recipe() -> None:
    cut = shortened(PII, 5, 2)
    assert cut.image_steps == 7 * 5 * 2
    assert cut.hash != PII.hash
    assert shortened(FAST, None, None) == FAST
    assert shortened(CLIP_INVERSION, 1000, 99).steps == 900 + 900 + 1000
    with pytest.raises(BadConfig, match="steps = 0: expected at least 1"):
        ablations(steps=0)
    with pytest.raises(BadConfig, match="copies = -1: expected at least 1"):
        shortened(FAST, None, -1)


def test_figures_of_a_trial_are_those_of_its_pictures(vit: Subject, pit: Subject) -> None:
    """Read again from the stored files, by the bare models; means and errors by hand."""
    targets = targets_of(vit.outputs, ["colour: red", "colour: blue", "size: large"])
    one = trial(vit, targets, shortened(FAST, 12, None), [pit], seed=3)
    stored = torch.stack([made.pixels() for made in one.made])
    for at, (name, first, last) in enumerate((("red", 8, 16), ("blue", 8, 16), ("large", 22, 25))):
        assert targets[at].text.endswith(name)
        for who, measure in ((vit, "own"), (pit, "transfer")):
            chances = who.model.module(who.model.normalise(stored[at : at + 1]))[0, first:last].softmax(0)
            place = targets[at].index - first
            assert one.values[f"{measure}_score"][at] == pytest.approx(float(chances[place]), abs=1e-4)
            assert one.values[f"{measure}_right"][at] == float(chances.argmax() == place)
    assert by_chance(vit.outputs, targets) == pytest.approx((1 / 8 + 1 / 8 + 1 / 3) / 3)
    data = told(one)
    values = one.values["transfer_score"]
    assert data["transfer_score"] == {
        "mean": pytest.approx(values.mean(), abs=1e-4),
        "error": pytest.approx(values.std(ddof=1) / 3**0.5, abs=1e-4),
    }
    assert [row["target"] for row in data["targets"]] == ["colour: red", "colour: blue", "size: large"]
    assert set(MEASURES) <= set(data)


def test_differences_are_taken_target_by_target(vit: Subject) -> None:
    """Two trials that differ by the same amount everywhere differ by that, without error, whatever each spreads."""
    one = trial(vit, targets_of(vit.outputs, ["0-2"]), shortened(FAST, 2, None), [])
    assert one.readers == ()
    assert told(one)["transfer_right"] is None
    more = replace(one, values={name: values + 0.25 for name, values in one.values.items()})
    assert differences(more, one)["own_score"] == {"mean": 0.25, "error": 0.0}
    assert differences(more, one)["transfer_score"] is None
    other = trial(vit, targets_of(vit.outputs, ["0-1"]), shortened(FAST, 2, None), [])
    with pytest.raises(ValueError, match="expected the same targets"):
        differences(one, other)


def test_what_is_missing_is_left_out_of_scores_and_is_not_right(vit: Subject, pit: Subject) -> None:
    broken = replace(FAST, stages=(replace(FAST.stages[0], ascent=replace(FAST.stages[0].ascent, learning_rate=1e38)),))
    one = trial(vit, targets_of(vit.outputs, ["0-1"]), shortened(broken, 3, None), [pit])
    assert [made.webp for made in one.made] == [None, None]
    assert told(one)["own_score"] is None
    assert told(one)["transfer_right"] == {"mean": 0.0, "error": 0.0}
    assert told(one)["targets"][0]["transfer_score"] is None
    assert means({"a": np.array([np.nan, 0.5])}) == {"a": {"mean": 0.5}}


def test_readers_that_read_nothing_of_worth_are_refused(vit: Subject, pit: Subject) -> None:
    targets = targets_of(vit.outputs, ["0"])
    again = Subject("mine", vit.model, vit.outputs)
    with pytest.raises(
        BadConfig, match=r"reader mine: it has the weights of the model that is inverted. Expected other"
    ):
        check_readers(vit, targets, [pit, again])
    with pytest.raises(BadConfig, match="reader twice: it has the weights of the reader zoo/pit"):
        check_readers(vit, targets, [pit, replace(pit, name="twice")])
    with pytest.raises(BadConfig, match="recipe varied: makes 4 pictures of a target, expected one"):
        trial(vit, targets, VARIED, [])


def test_classes_without_names_are_read_by_nobody(vit: Subject, pit: Subject) -> None:
    numbers = replace(vit.outputs.readout, names=tuple(str(number) for number in range(40)))
    unnamed = replace(vit, outputs=replace(vit.outputs, readout=numbers))
    targets = targets_of(unnamed.outputs, ["0"])
    assert check_readers(unnamed, targets, []) == []
    with pytest.raises(BadConfig, match=r"the classes of zoo/vit have no names to find them by .* --class-names"):
        check_readers(unnamed, targets, [pit])


def test_the_command_of_ablations_says_what_each_part_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "found.json", tmp_path / "sheet.webp"
    words = ["study", "inversion-ablations", "--model", "zoo/vit", "--readers", "zoo/pit,zoo/deit", "--steps", "2"]
    words += [
        "--copies",
        "2",
        "--classes",
        "colour: red",
        "--classes",
        "20-21",
        "--out",
        str(out),
        "--sheet",
        str(sheet),
    ]
    assert call(words) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert printed.strip() == text_of(found)
    assert "Shortened: at most 2 steps a stage, 2 copies a step. The recipe itself is longer." in printed
    assert "By chance the target comes first in 0.153" in printed
    assert [row["name"] for row in found["trials"]][:2] == [FULL, "without centring"]
    first, second = found["trials"][:2]
    less = [b["transfer_score"] - a["transfer_score"] for a, b in zip(first["targets"], second["targets"], strict=True)]
    assert second["less_the_first"]["transfer_score"]["mean"] == pytest.approx(np.mean(less), abs=2e-4)
    assert "less_the_first" not in first
    assert found["readers"] == ["zoo/pit", "zoo/deit"]
    assert Image.open(sheet).size[1] > 7 * 112


def test_the_command_of_scale_compares_weights_of_one_architecture(tmp_path: Path, capsys: Any) -> None:
    from pipeline.zoo.train import train

    train("vit", steps=1, scenes=8, out=tmp_path)
    weights = f"8={tmp_path / 'vit.safetensors'}"
    words = ["study", "inversion-scale", "--architecture", "zoo/vit", "--weights", weights, "--model", "zoo/vit"]
    words += ["--readers", "zoo/pit", "--classes", "8-15", "--steps", "60", "--json"]
    assert call(words) == 0
    found = json.loads(capsys.readouterr().out)
    untrained, trained = found["trials"]
    assert (untrained["name"], trained["name"]) == ("8", "zoo/vit")
    assert untrained["parameters"] == trained["parameters"] == 153_192
    assert trained["own_right"]["mean"] == 1.0
    assert trained["transfer_right"]["mean"] > 0.7 > 0.4 > untrained["transfer_right"]["mean"]
    assert trained["less_the_first"]["transfer_right"]["mean"] > 0.3
    assert found["chance"] == pytest.approx(1 / 8)
    assert found["readers"] == "the same for all"


def test_clips_read_the_texts_of_one_another() -> None:
    """A CLIP and one whose weights were moved a little: cosines by hand, of the stored pictures."""
    clip = load_embedder(ModelRequest("zoo/clip"))
    module = copy.deepcopy(clip.vision.module)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.02 * weight.std() * torch.randn(weight.shape, generator=draw) if weight.numel() > 1 else 0
    other = replace(clip, vision=replace(clip.vision, module=module, fingerprint="moved"))
    texts = ["a red object", "a blue object"]
    one, reader = (
        Subject(name, own.vision, text_outputs(own.vision, own, texts)) for name, own in (("a", clip), ("b", other))
    )
    found = trial(one, targets_of(one.outputs), shortened(FAST, 30, None), [reader])
    stored = torch.stack([made.pixels() for made in found.made])
    for measure, who in (("own_score", clip), ("transfer_score", other)):
        cosines = (who.pictures(stored) * clip.texts(texts)).sum(1)
        assert found.values[measure] == pytest.approx(cosines.numpy(), abs=1e-4)
    assert found.values["own_score"].min() > 0.2


def test_a_model_without_a_text_tower_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a red object\na blue object\n")
    words = ["study", "inversion-scale", "--model", "zoo/clip", "--model", "zoo/vit", "--prompts", str(texts)]
    assert call([*words, "--steps", "1"]) == 2
    assert "zoo/vit has no text tower" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "zoo/clip"}, "zoo/clip has no classes to invert"),
        ({"model": "zoo/vit", "asked": Asked(classes=("colour: rad",))}, "'colour: rad' is no class of the model"),
        ({"model": "zoo/vit", "asked": Asked(readers="zoo/clip")}, "zoo/clip has no classes to invert"),
        ({"model": "zoo/vit", "asked": Asked(readers="zoo/vit")}, "it has the weights of the model that is inverted"),
        ({"model": "zoo/vit", "asked": Asked(steps=0)}, "steps = 0: expected at least 1"),
        (
            {"model": "zoo/vit", "asked": Asked(sheet=Path("a.txt"))},
            "expected a file name that ends in .webp, .png, .jpg",
        ),
        ({"model": "zoo/vit", "asked": Asked(out=Path("nowhere/a.json"))}, "there is no folder nowhere"),
    ],
)
def test_ablations_of_what_cannot_be_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtlasError, match=message):
        inversion_ablations(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": ["zoo/vit"]}, "compares models, and 1 is named: expected two or more"),
        ({"model": ["zoo/vit", "zoo/vit"]}, "zoo/vit is named twice"),
        ({"model": ["zoo/vit"], "weights": ["a=b"]}, "--architecture and --weights go together"),
        ({"architecture": "zoo/vit", "weights": ["b.safetensors"]}, "expected NAME=FILE, such as"),
        ({"model": ["zoo/vit", "zoo/pit"], "recipe": "fest"}, "'fest'.*nearest: fast"),
        (
            {"model": ["zoo/vit", "zoo/pit"], "prompts": "zoo", "asked": Asked(classes=("0",))},
            "--prompts of CLIPs: expected one",
        ),
    ],
)
def test_comparisons_of_what_cannot_be_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtlasError, match=message):
        inversion_scale(**options)


def test_models_whose_classes_do_not_correspond_are_named(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"thing {number}" for number in range(40)))
    mine = OwnCheckpoint(class_names=str(names))
    with pytest.raises(
        BadConfig, match=r"zoo/pit cannot read the pictures of .*no.* exactly one class called 'thing 0'"
    ):
        inversion_ablations(model="zoo/vit", checkpoint=mine, asked=Asked(readers="zoo/pit", steps=1))
