"""Labels of near meaning: which texts lead to which labels, and the same order in Python and in the browser."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_build import manifest_of

from site_builder import app
from site_builder.build import build_site
from site_builder.near_texts import near_file, near_labels, ranked
from site_builder.sections import labels, neurons

#: Of each neuron its best texts with their z; the first is its label.
NEURONS = [
    *[[("a red disc", 9.0), ("crimson light", 7.0), ("a wall", 1.0)]] * 4,
    *[[("an orange disc", 8.0), ("a red disc", 3.0), ("crimson light", 2.0)]] * 3,
    *[[("stripes", 9.0), ("a wall", 5.0), ("Écru ropes", 4.0)]] * 3,
    [("a lone thing", 9.0), ("seen once", 8.0)],
    [],
]
LABELS = ["a red disc", "an orange disc", "stripes", "a lone thing"]
QUERIES = ["crimson", "crim", "red", "disc", "light crimson", "ecru", "wall", "once", "nothing", "", "--"]


@pytest.fixture(scope="module")
def near() -> dict[str, list[tuple[str, float]]]:
    return near_labels(NEURONS, LABELS)


def test_a_word_that_no_neuron_is_called_by_leads_to_what_it_comes_second_to(near: Any) -> None:
    found = ranked(near, "crimson")
    assert [label for label, _ in found] == ["a red disc", "an orange disc"]
    assert found[0][1] > 0.9 > found[1][1]
    assert [label for label, _ in ranked(near, "ECRU rop")] == ["stripes"], (
        "no case, no accents, the beginning of a word"
    )


def test_the_likeness_is_the_cosine_of_z_over_neurons(near: Any) -> None:
    red, crimson = [9.0] * 4 + [3.0] * 3, [7.0] * 4 + [2.0] * 3
    dot = sum(a * b for a, b in zip(red, crimson, strict=True))
    cosine = dot / (sum(a * a for a in red) * sum(b * b for b in crimson)) ** 0.5
    assert dict(near["crimson light"])["a red disc"] == pytest.approx(cosine, abs=5e-4)


def test_a_label_found_by_its_own_words_is_not_told_again_and_chance_meetings_are_none(near: Any) -> None:
    assert [label for label, _ in ranked(near, "red")] == ["an orange disc"]
    assert ranked(near, "disc") == [], "both hold the word"
    assert "seen once" not in near, "one neuron is no likeness"
    assert ranked(near, "") == ranked(near, "--") == []
    assert near_labels([[], []], []) == {}


@pytest.mark.skipif(shutil.which("node") is None, reason="node missing")
def test_the_browser_ranks_as_python_does(near: Any, tmp_path: Path) -> None:
    """The module itself, run by node; what it needs of a document is put in place."""
    shutil.copytree(app.STATIC, tmp_path / "static")
    (tmp_path / "static" / "package.json").write_text('{"type": "module"}')
    file = json.loads(gzip.decompress(near_file(near)))
    script = f"""
      globalThis.document = {{ getElementById: () => null, baseURI: "http://localhost/" }};
      const {{ ranked }} = await import("./near_labels.js");
      const {{ wordsOf }} = await import("./labels.js");
      const file = {json.dumps(file)}, queries = {json.dumps(QUERIES)};
      const asked = (words) => (words.length === 0 ? [] : ranked(file, words));
      console.log(JSON.stringify(queries.map((query) => asked(wordsOf(query)))));"""
    (tmp_path / "static" / "test.js").write_text(script)
    done = subprocess.run(["node", "test.js"], cwd=tmp_path / "static", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[list(one) for one in ranked(near, query)] for query in QUERIES]


def test_a_site_has_the_labels_of_near_meaning_of_its_atlas(
    evident_atlas: Path, tmp_path: Path, unpacked: Callable[[Path], Any]
) -> None:
    build_site(evident_atlas, tmp_path / "site", sections=(neurons.SECTION, labels.SECTION))
    file = unpacked(tmp_path / "site" / manifest_of(tmp_path / "site")["search"]["near"])
    fence = [file["labels"][at] for at, _ in file["near"]["grille"]]
    assert fence, "it comes among the best texts of labelled neurons"
    assert all(0.1 <= likeness <= 1 for own in file["near"].values() for _, likeness in own)
