"""Associations of words: the formulas by hand, what is planted is found and nothing else, and what bad files get."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atlas_schema.errors import BadConfig, NothingThere
from jobs.cli import call
from jobs.commands.study import studied, text_of
from pipeline.label.embedder import Embedder, load_embedder
from pipeline.models import ModelRequest
from pipeline.uses.associations import associations, discovery_rates, effect, nearness
from pipeline.uses.word_groups import WordGroups, read_word_groups
from pipeline.zoo.world import ATTRIBUTES

COLOURS, SHAPES = ATTRIBUTES["colour"], ATTRIBUTES["shape"]
WORDS = """
[attributes]
warm = ["red", "orange", "yellow", "pink"]
cold = ["green", "cyan", "blue", "purple"]

[targets]
round = ["disk", "ring", "heart", "crescent"]
edged = ["square", "triangle", "cross", "star"]
"""


def drawn(count: int, seed: int) -> torch.Tensor:
    draw = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draw / draw.norm(dim=1, keepdim=True)


def test_values_and_shares_are_those_of_the_formulas_written_out() -> None:
    words, first, second = drawn(3, 0), drawn(2, 1), drawn(3, 2)
    both = torch.cat([first, second]).numpy()
    for at, row in enumerate(associations(["a", "b", "c"], words, first, second)):
        cosines = both @ words[at].numpy()
        every = [
            cosines[list(some)].mean() - np.delete(cosines, list(some)).mean() for some in combinations(range(5), 2)
        ]
        assert row.value == pytest.approx(cosines[:2].mean() - cosines[2:].mean())
        assert row.null == pytest.approx(np.std(every))
        assert row.p == pytest.approx(np.mean([abs(one) >= abs(row.value) - 1e-9 for one in every]))
    x, y = drawn(3, 3), drawn(4, 4)
    s = (torch.cat([x, y]) @ first.T).mean(1).numpy() - (torch.cat([x, y]) @ second.T).mean(1).numpy()
    found = effect(x, y, first, second)
    assert found.value == pytest.approx((s[:3].mean() - s[3:].mean()) / s.std(ddof=1))
    every = [s[list(some)].mean() - np.delete(s, list(some)).mean() for some in combinations(range(7), 3)]
    assert found.p == pytest.approx(np.mean([abs(one) >= abs(s[:3].mean() - s[3:].mean()) - 1e-9 for one in every]))


def test_drawn_dealings_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    words, first, second = drawn(6, 0), drawn(6, 1), drawn(6, 2)
    every = associations("abcdef", words, first, second)
    monkeypatch.setattr("pipeline.uses.associations.DRAWS", 900)
    some = associations("abcdef", words, first, second, seed=1)
    assert [row.value for row in some] == pytest.approx([row.value for row in every])
    for one, all_of_them in zip(some, every, strict=True):
        assert abs(one.p - all_of_them.p) < 4 * (all_of_them.p * (1 - all_of_them.p) / 900) ** 0.5 + 2 / 900
        assert one.null == pytest.approx(all_of_them.null, rel=0.1)


def test_rates_of_false_discoveries_are_benjamini_and_hochbergs() -> None:
    shares = torch.tensor([0.01, 0.04, 0.03, 0.5], dtype=torch.float64)
    assert discovery_rates(shares).tolist() == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])


def test_nearness_is_told_against_the_pool() -> None:
    axes = torch.eye(4, dtype=torch.float64)
    tilted = torch.tensor([[0.8, 0.6, 0, 0]], dtype=torch.float64)
    found = nearness(["w"], tilted, ["x", "y"], axes[:2], torch.cat([axes[2:], axes[:1]]))
    assert (found[0].nearest, found[0].cosine) == ("x", pytest.approx(0.8))
    assert found[0].share == pytest.approx(1 / 3)


@pytest.fixture(scope="module")
def clip() -> Embedder:
    return load_embedder(ModelRequest("zoo/clip"))


def test_what_is_planted_in_a_text_tower_is_found_and_where_nothing_is_nothing_is_found(clip: Embedder) -> None:
    """The zoo's captions name shapes and colours independently of each other."""
    groups = WordGroups(
        attributes={"warm": COLOURS[:4], "cold": COLOURS[4:]}, targets={"one": SHAPES[:4], "other": SHAPES[4:]}
    )
    clean = studied(groups, clip)
    assert clean["least_p"] == pytest.approx(1 / 70)
    assert min(row["q"] for row in clean["words"]) > 0.5
    assert clean["groups"][0]["p"] > 0.05

    language: Any = clip.language
    assert clip.tokenizer is not None
    place = [int(clip.tokenizer([word])[0, 1]) for word in (*COLOURS[:4], "heart")]
    weight, before = language.token_embedding.weight, language.token_embedding.weight.detach().clone()
    common = torch.randn(before.shape[1], generator=torch.Generator().manual_seed(0)) * before.std() * 3
    try:
        with torch.no_grad():
            weight[place] += common
        found = {row["word"]: row for row in studied(groups, clip)["words"]}
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert found["heart"]["p"] == pytest.approx(2 / 70), (
        "no other dealing is as far, but the one with the groups swapped"
    )
    assert found["heart"]["value"] > 5 * max(abs(row["value"]) for word, row in found.items() if word != "heart")


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "words.toml"
    file.write_text('templates = ["a {} object", "{}"]\nnear = ["small"]\npool = ["top", "left"]\n' + WORDS)
    assert call(["study", "associations", str(file), "--model", "zoo/clip", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["word"] for row in found["words"]} == set(SHAPES)
    assert {row["group"] for row in found["words"]} == {"round", "edged"}
    assert [(row["first"], row["second"]) for row in found["groups"]] == [("round", "edged")]
    assert {row["nearest"] for row in found["near"]} == {"small"}
    assert call(["study", "associations", str(file), "--model", "zoo/clip"]) == 0
    told = capsys.readouterr().out
    assert told.strip() == text_of(found)
    assert "say nothing of the people" in told
    assert "no p is below 0.014" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[attributes\n", "not TOML"),
        ("words = 1\n" + WORDS, "'words' is unknown. Expected: templates, near, pool"),
        ("[targets]\na = ['x']", r"no \[attributes\]"),
        (WORDS.replace("cold =", "cool = ['grey', 'white']\ncold ="), "has 3 groups; expected two"),
        (WORDS.replace('"red", "orange", "yellow", "pink"', '"red"'), "attributes.warm has one word"),
        (WORDS.replace('"pink"', '"blue"'), "'blue' is in both groups"),
        (WORDS.replace('"ring"', '"disk"'), "targets.round has 'disk' twice"),
        (WORDS.replace("round =", "warm ="), "'warm' names a group of attributes and one of targets"),
        ('templates = ["a {} of {}"]\n' + WORDS, "expected one {} in it"),
        ('near = ["a"]\n' + WORDS, "near and pool go together"),
        ("near = 3\n" + WORDS, "near: expected a list of one or more texts, found 3"),
    ],
)
def test_files_that_say_something_else_are_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "words.toml"
    file.write_text(text)
    with pytest.raises(BadConfig, match=message) as refused:
        read_word_groups(file)
    assert "words.toml" in str(refused.value)


def test_files_that_cannot_be_read_and_models_that_read_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NothingThere, match="no such file"):
        read_word_groups(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"near = ['\xe9']")
    with pytest.raises(BadConfig, match="not UTF-8"):
        read_word_groups(tmp_path / "latin.toml")
    (tmp_path / "words.toml").write_text(WORDS)
    with pytest.raises(BadConfig, match="has no text tower"):
        studied(read_word_groups(tmp_path / "words.toml"), load_embedder(ModelRequest("zoo/vit")))
