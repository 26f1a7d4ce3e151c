"""Concept sets: what is read, and what is refused with which words."""

import pytest

from atlas_schema.errors import BadConfig
from pipeline.label.concepts import (
    LONGEST,
    knows_few_words,
    parse_concepts,
    read_concepts,
    shipped_concepts,
    suited_set,
)
from pipeline.zoo.captions import WordTokenizer, prompts
from pipeline.zoo.world import ATTRIBUTES

FILE = b"# name: birds\n# source: a walk\n# licence: CC0-1.0\n# template: a photo of a {}\n## garden\nrobin\n\n wren \n"


def test_header_remarks_and_texts():
    birds = parse_concepts(FILE, "birds.txt")
    assert (birds.name, birds.source, birds.licence) == ("birds", "a walk", "CC0-1.0")
    assert birds.texts == ("robin", "wren")
    assert birds.prompts == ("a photo of a robin", "a photo of a wren")
    assert birds.title == f"birds-{birds.identity}"


def test_a_file_without_header_takes_its_files_name(tmp_path):
    (tmp_path / "my words.txt").write_bytes(b"\xef\xbb\xbfred\r\nblue\r\n")  # byte order mark, DOS line ends
    mine = read_concepts(str(tmp_path / "my words.txt"))
    assert (mine.name, mine.texts, mine.prompts, mine.licence) == ("my words", ("red", "blue"), ("red", "blue"), "")


def test_identity_is_what_decides_a_label():
    birds = parse_concepts(FILE, "birds.txt")
    assert parse_concepts(FILE.replace(b"birds", b"fowl"), "").identity == birds.identity
    for old, new in (
        (b"a photo of a {}", b"a drawing of a {}"),
        (b"wren", b"tit"),
        (b"robin\n\n wren", b"wren\nrobin"),
    ):
        assert parse_concepts(FILE.replace(old, new), "").identity != birds.identity


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", ["0 texts", "at least two"]),
        (b"# name: x\n## only remarks\n", ["0 texts"]),
        (b"red\n", ["1 texts"]),
        (b"red\nblue\n RED\n", ["'RED' stands twice", "lines 1 and 3"]),
        (b"red\nbl\xfce\n", ["not UTF-8", "0xfc", "save it as UTF-8"]),
        (b"red\n" + b"x" * (LONGEST + 1), ["line 2", "201 characters", "at most 200"]),
        (b"red\nblue\x00\n", ["line 2", "control character"]),
        (b"# licens: MIT\nred\nblue", ["line 1", "# licens: MIT", "licence"]),
        (b"# a remark\nred\nblue", ["line 1", "A remark begins with ##"]),
        (b"# template: a photo\nred\nblue", ["template 'a photo'", "{}"]),
        (b"# template: {} or {}\nred\nblue", ["template"]),
    ],
)
def test_refused_with_what_is_wrong(content, told):
    with pytest.raises(BadConfig) as error:
        parse_concepts(content, "words.txt")
    assert "words.txt" in str(error.value)
    for part in told:
        assert part in str(error.value)


def test_no_such_set_names_those_that_are():
    with pytest.raises(BadConfig, match=r"generl: no such concept set .* shipped: general"):
        read_concepts("generl")


def test_a_folder_is_no_concept_set(tmp_path):
    with pytest.raises(BadConfig, match="no such concept set"):
        read_concepts(str(tmp_path))


def test_shipped_sets():
    assert shipped_concepts() == ("general", "zoo")
    for name in shipped_concepts():
        concepts = read_concepts(name)
        assert concepts.name == name
        assert concepts.licence == "Apache-2.0"
        assert concepts.source
    assert 500 <= len(read_concepts("general")) <= 1500


def test_the_zoos_set_is_the_prompts_of_every_attribute_in_order():
    concepts = read_concepts("zoo")
    assert concepts.texts == tuple(text for attribute in ATTRIBUTES for text in prompts(attribute))
    assert concepts.prompts == concepts.texts
    assert WordTokenizer()(concepts.prompts).shape[0] == 40  # every word is one that zoo/clip knows


def test_each_embedder_gets_the_texts_whose_words_it_knows():
    assert (knows_few_words("zoo/clip"), suited_set("zoo/clip")) == (True, "zoo")
    for other in ("open_clip/ViT-B-32/openai", "zoo/vit", "timm/clip"):
        assert (knows_few_words(other), suited_set(other)) == (False, "general")
