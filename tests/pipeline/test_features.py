"""Features: which files are read and which refused; scores against sums written out, merged in any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.components import Level
from pipeline.decompose.features import (
    LONGEST,
    FeatureSums,
    Lens,
    basis,
    parse_features,
    read_features,
    shipped_features,
)
from pipeline.zoo.captions import WordTokenizer, prompts
from pipeline.zoo.world import ATTRIBUTES
from tests.pipeline.close import assert_close

FILE = b"""
name = "birds"
source = "a walk"
licence = "CC0-1.0"
template = "a photo of a {}"
[features]
plumage = ["red bird", "black bird"]
place = ["bird in a tree", "bird on water", "bird on a roof"]
[values]
plumage = ["red", "black"]
"""


def test_a_file_is_read() -> None:
    birds = parse_features(FILE, "birds.toml")
    assert (birds.name, birds.source, birds.licence, len(birds)) == ("birds", "a walk", "CC0-1.0", 2)
    assert birds.features["plumage"] == ("red bird", "black bird")
    assert birds.prompts["place"][1] == "a photo of a bird on water"
    assert birds.title == f"birds-{birds.identity}"


def test_answers_are_found_by_value_or_by_text() -> None:
    birds = parse_features(FILE, "birds.toml")
    told = birds.answers([{"plumage": "black", "place": "bird on a roof"}, {"plumage": "black bird"}, {}])
    assert told.tolist() == [[1, 2], [-1, -1], [-1, -1]]
    assert birds.answers([]).shape == (0, 2)


def test_a_users_text_becomes_a_prompt() -> None:
    birds = parse_features(FILE, "birds.toml")
    assert birds.prompt_of("plumage", " Black ") == "a photo of a black bird"
    assert birds.prompt_of("plumage", "red bird") == "a photo of a red bird"
    assert birds.prompt_of("plumage", "blue bird") == "a photo of a blue bird"
    with pytest.raises(BadConfig, match=r"'plumag': no feature of birds; expected one of: plumage"):
        birds.prompt_of("plumag", "red")


def test_a_file_without_name_takes_its_files_name(tmp_path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'\xef\xbb\xbf[features]\r\ncolour = ["red", "blue"]\r\n')
    mine = read_features(str(tmp_path / "mine.toml"))
    assert (mine.name, mine.prompts) == ("mine", {"colour": ("red", "blue")})


def test_identity_is_what_decides_a_score() -> None:
    birds = parse_features(FILE, "birds.toml")
    assert parse_features(FILE.replace(b'"birds"', b'"fowl"'), "").identity == birds.identity
    for old, new in ((b"a photo of", b"a drawing of"), (b"on water", b"on sand"), (b"place =", b"spot =")):
        assert parse_features(FILE.replace(old, new), "").identity != birds.identity


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ["empty", "[features]"]),
        (b"# nothing but a remark\n", ["empty"]),
        (b'name = "x"\n', ["no feature", 'colour = ["red", "green"]']),
        (b"[features]\ncolour = ['r\xfcd', 'blue']", ["not UTF-8", "0xfc", "save it as UTF-8"]),
        (b"[features\n", ["not TOML"]),
        (b"licens = 'MIT'\n[features]\na = ['b', 'c']", ["unknown key 'licens'", "licence"]),
        (b"[features]\ncolour = ['red']", ["'colour'", "1 texts", "at least two"]),
        (b"[features]\ncolour = 'red'", ["'colour'", "a list"]),
        (b"[features]\ncolour = ['red', 3]", ["3 is no text", "quotes"]),
        (b"[features]\ncolour = ['red', ' RED ']", ["'RED' stands twice"]),
        (b"[features]\ncolour = ['red', '  ']", ["an empty text"]),
        (b"[features]\ncolour = ['red', \"a\\u0007b\"]", ["control character"]),
        (b"[features]\n'a/b' = ['red', 'blue']", ["'a/b' is no name of a feature", "link"]),
        (b"features = 3\n", ["expected a table", "3"]),
        (b"template = 'a'\n[features]\ncolour = ['red', 'blue']", ["template 'a'", "{}"]),
        (b"[features]\ncolour = ['red', 'blue']\n[values]\ncolour = ['a', 'b', 'c']", ["3 values", "2 texts"]),
        (b"[features]\ncolour = ['red', 'blue']\n[values]\ncolor = ['a', 'b']", ["color", "0 texts"]),
    ],
)
def test_refused_with_what_is_wrong(content: bytes, told: list[str]) -> None:
    with pytest.raises(BadConfig) as error:
        parse_features(content, "mine.toml")
    assert "mine.toml" in str(error.value)
    for part in told:
        assert part in str(error.value)


def test_of_a_long_text_only_the_beginning_is_quoted() -> None:
    long = "y" * 10_000
    with pytest.raises(BadConfig, match="10000 characters") as error:
        parse_features(f"[features]\ncolour = ['red', '{long}']".encode(), "mine.toml")
    assert f"'{'y' * 40}' ..." in str(error.value)
    assert "y" * 41 not in str(error.value)
    assert f"at most {LONGEST}" in str(error.value)


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(BadConfig, match="no such set of features") as error:
        read_features(str(tmp_path / "nowhere.toml"))
    assert all(name in str(error.value) for name in shipped_features())
    with pytest.raises(BadConfig, match="zoo"):
        read_features("zooo")


def test_the_zoos_set_is_what_its_clip_was_trained_on() -> None:
    zoo = read_features("zoo")
    assert zoo.prompts == {name: tuple(prompts(name)) for name in ATTRIBUTES}
    assert zoo.values == ATTRIBUTES
    for texts in zoo.prompts.values():
        WordTokenizer()(texts)  # raises on a word outside the vocabulary
    labels = [[values.index(value) for values, value in zip(ATTRIBUTES.values(), row, strict=True)] for row in
              [("star", "red", "dotted", "small", "centre", "wavy")]]  # fmt: skip
    attributes = dict(zip(ATTRIBUTES, ("star", "red", "dotted", "small", "centre", "wavy"), strict=True))
    assert zoo.answers([attributes]).tolist() == labels


def test_the_general_set_is_as_its_documentation_says() -> None:
    general = read_features("general")
    assert {"colour", "texture", "pattern", "shape", "animal", "person", "vehicle", "food", "location"} <= set(
        general.features
    )
    assert {"count", "size", "material", "weather", "light"} <= set(general.features)
    assert all(len(texts) == 12 for texts in general.features.values())
    assert general.licence == "Apache-2.0"


# ------------------------------------------------------------------------------------------------------- scores

IMAGES, COMPONENTS, D, E = 60, 5, 7, 6
LEVELS = (Level.DIRECT, Level.THROUGH, Level.DIRECT, Level.DIRECT, Level.DIRECT)
DIRECT = torch.tensor([True, False, True, True, True])


def drawn(seed: int = 0) -> tuple[torch.Tensor, Alignment, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(IMAGES, COMPONENTS, D, generator=generator) + 1
    maps = torch.randn(COMPONENTS, D, E, generator=generator) / 3
    texts = {name: functional.normalize(torch.randn(count, E, generator=generator), dim=1)
             for name, count in (("a", 3), ("b", 4))}  # fmt: skip
    return vectors, Alignment.of_maps(maps, torch.randn(E, generator=generator), 0, 0, 0, 0), texts


def summed(parts, lens, means=None) -> FeatureSums:
    total = FeatureSums.empty(lens)
    for part in parts:
        total.update(part, lens, means)
    return total


def test_scores_are_the_published_formula_written_out() -> None:
    vectors, alignment, texts = drawn()
    lens = Lens.of(texts, alignment, LEVELS)
    found = summed(vectors.split(17), lens).finalize(lens)
    aligned = alignment.apply(vectors)  # (images, components, e)
    whole = aligned[:, DIRECT].sum(1)
    for place, name in enumerate(texts):
        for component in range(COMPONENTS):
            parts = (aligned[:, component] @ basis(texts[name]).T).numpy()
            wholes = (whole @ basis(texts[name]).T).numpy()
            correlations = [np.corrcoef(s, w)[0, 1] for s, w in zip(parts.T, wholes.T, strict=True)]
            assert float(found["score"][component, place]) == pytest.approx(np.mean(correlations), abs=1e-5)
            covariance = sum(np.cov(s, w, bias=True)[0, 1] for s, w in zip(parts.T, wholes.T, strict=True))
            if DIRECT[component]:
                share = float(found["variance_share"][component, place])
                assert share == pytest.approx(covariance / wholes.var(0).sum(), abs=1e-5)
            own = [float((aligned[:, component] @ basis(one).T).var(0).sum()) for one in texts.values()]
            assert float(found["selectivity"][component, place]) == pytest.approx(own[place] / sum(own), abs=1e-5)
    assert found["variance_share"][1].isnan().all()
    assert torch.allclose(found["variance_share"][DIRECT].sum(0), torch.ones(2, dtype=torch.float64))


def test_flips_are_counted_one_by_one() -> None:
    vectors, alignment, texts = drawn(1)
    lens = Lens.of(texts, alignment, LEVELS)
    means = vectors.mean(0)
    found = summed(vectors.split(11), lens, means).finalize(lens)
    for place, name in enumerate(texts):
        for component in range(COMPONENTS):
            changed = 0
            for image in vectors:
                held = image.clone()
                held[component] = means[component]
                before = alignment.whole(image[None], DIRECT)[0]
                after = alignment.whole(held[None], DIRECT)[0]
                if not DIRECT[component]:  # it is no part of the sum: what it adds through attention is taken off
                    after = before - alignment.apply((image - held)[None])[0, component]
                changed += int((texts[name] @ before).argmax() != (texts[name] @ after).argmax())
            assert float(found["flips"][component, place]) == pytest.approx(changed / IMAGES)
    assert float(found["flips"].max()) > 0


def test_any_split_and_order_gives_the_same() -> None:
    vectors, alignment, texts = drawn(2)
    vectors = vectors.double()  # in float32 products round by the size of the batch
    lens, means = Lens.of(texts, alignment, LEVELS), vectors.mean(0)
    whole = summed([vectors], lens, means)
    pieces = [summed([part], lens, means) for part in vectors.split([1, 20, 9, 30])]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merged = FeatureSums.empty(lens)
        for place in order:
            merged.merge(FeatureSums.of(pieces[place].arrays()))
        for name, value in whole.finalize(lens).items():
            assert torch.allclose(merged.finalize(lens)[name], value, rtol=1e-9, atol=1e-12, equal_nan=True)


def test_a_large_mean_costs_no_digits() -> None:
    """Sums of squares about zero would lose all of float64's digits here; about the mean they lose none."""
    vectors, alignment, texts = drawn(3)
    lens = Lens.of(texts, alignment, LEVELS)
    plain = summed(vectors.double().split(7), lens).finalize(lens)["score"]
    moved = summed((vectors.double() + 1e6).split(7), lens).finalize(lens)["score"]
    assert_close(moved, plain, 1e-6)


def test_what_never_changes_has_no_score() -> None:
    vectors, alignment, texts = drawn(4)
    vectors[:, 2] = torch.tensor([1e4, 1, 2, 3, 0.1, 0.2, 0.3])
    lens = Lens.of(texts, alignment, LEVELS)
    found = summed(vectors.split(13), lens, vectors.mean(0)).finalize(lens)
    assert (found["score"][2] == 0).all()
    assert (found["flips"][2] == 0).all()
    assert found["score"].isfinite().all()
    still = summed([vectors[:1]], lens).finalize(lens)
    assert (still["score"] == 0).all()
    assert still["variance_share"].isnan().all()
    assert still["flips"].isnan().all()


def test_a_clips_own_space_needs_no_map() -> None:
    vectors, _, texts = drawn(5)
    vectors = vectors[..., :E]
    own = Lens.of(texts, Alignment.own(COMPONENTS, E), LEVELS)
    same = Lens.of(
        texts, Alignment.of_maps(torch.eye(E).expand(COMPONENTS, -1, -1), torch.zeros(E), 0, 0, 0, 0), LEVELS
    )
    assert_close(summed([vectors], own).finalize(own)["score"], summed([vectors], same).finalize(same)["score"], 1e-6)


def test_a_basis_spans_the_texts_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(6)
    texts = torch.randn(4, 9, generator=generator)
    found = basis(torch.cat([texts, 2 * texts[:1] - texts[2:3]]))
    assert found.shape == (4, 9)
    assert torch.allclose(found @ found.T, torch.eye(4), atol=1e-6)
    assert torch.allclose(texts @ found.T @ found, texts, atol=1e-5)
    assert torch.allclose(found[0], functional.normalize(texts[0], dim=0), atol=1e-6)  # in the order of the texts
    assert basis(torch.randn(12, 9, generator=generator)).shape == (9, 9)
    assert basis(torch.zeros(2, 9)).shape == (0, 9)
