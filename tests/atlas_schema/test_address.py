"""Addresses have one spelling; slugs follow their rules; wrong ones are answered with the right one."""

from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_schema.address import HeadAddress, NeuronAddress, is_slug, parse_address, slug_of, slugify
from atlas_schema.errors import AtlasError, BadAddress, BadConfig

slugs = st.from_regex(r"[a-z0-9]+(-{1,2}[a-z0-9]+){0,3}", fullmatch=True)
layers, units = st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1)
addresses = st.builds(NeuronAddress, slugs, layers, units) | st.builds(HeadAddress, slugs, layers, units)


@given(addresses)
def test_an_address_reads_back(address: NeuronAddress | HeadAddress) -> None:
    assert parse_address(str(address)) == address
    assert type(address).parse(str(address)) == address


@given(st.text() | st.from_regex(r"[a-z-]{1,4}/(mlp|head)/[0-9]{1,3}/[0-9]{1,3}", fullmatch=True))
def test_any_other_spelling_is_refused(text: str) -> None:
    try:
        spelt = str(parse_address(text))
    except BadAddress as error:
        spelt = str(error)
    assert spelt == text or repr(text) in spelt


@given(slugs, st.lists(st.tuples(layers, units), min_size=2))
def test_addresses_sort_by_number(slug: str, places: list[tuple[int, int]]) -> None:
    found = sorted(NeuronAddress(slug, layer, unit) for layer, unit in places)
    assert [(address.layer, address.unit) for address in found] == sorted(places)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("timm/deit_tiny_patch16_224.fb_in1k/mlp/3/17", "deit-tiny-patch16-224--fb-in1k/mlp/3/17"),
        ("open_clip/ViT-B-32/openai/head/0/1", "clip-vit-b-32--openai/head/0/1"),
        ("zoo-vit/mlp/03/17", "zoo-vit/mlp/3/17"),
        ("Zoo_ViT/mlp/3/17", "zoo-vit/mlp/3/17"),
        ("zoo-vit/mpl/3/17", "zoo-vit/mlp/3/17"),
        ("zoo-vit/ffn/3/17", "zoo-vit/mlp/3/17"),
        ("zoo-vit/heads/3/1", "zoo-vit/head/3/1"),
        (" zoo-vit/mlp/3/17 ", "zoo-vit/mlp/3/17"),
        ("zoo-vit/mlp/3/17/", "zoo-vit/mlp/3/17"),
    ],
)
def test_a_near_miss_is_answered_with_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(BadAddress) as told:
        parse_address(text)
    assert str(told.value).endswith(f"Did you mean {hint}?")


@pytest.mark.parametrize("text", ["", "zoo-vit", "zoo-vit/mlp/3", "zoo-vit/mlp/x/1", "a/mlp/-1/2", "ä/mlp/٣/1"])
def test_a_far_miss_is_told_the_form(text: str) -> None:
    with pytest.raises(BadAddress, match=r"expected \{slug\}/mlp/\{layer\}/\{unit\}.*for example zoo-vit/mlp/3/17"):
        parse_address(text)


def test_a_head_is_no_neuron() -> None:
    with pytest.raises(BadAddress, match="this is a head; a neuron was expected"):
        NeuronAddress.parse("zoo-vit/head/0/0")
    with pytest.raises(BadAddress, match="this is a neuron; a head was expected"):
        HeadAddress.parse("zoo-vit/mlp/0/0")


@pytest.mark.parametrize(("slug", "layer", "unit"), [("A", 0, 0), ("a", -1, 0), ("a", 2**15, 0), ("a", 0, 2**31)])
def test_an_impossible_address_cannot_be_made(slug: str, layer: int, unit: int) -> None:
    with pytest.raises(BadAddress):
        NeuronAddress(slug, layer, unit)


@pytest.mark.parametrize(
    ("model_id", "slug"),
    [
        ("timm/deit_tiny_patch16_224.fb_in1k", "deit-tiny-patch16-224--fb-in1k"),
        ("timm/deit_tiny_patch16_224", "deit-tiny-patch16-224"),
        ("timm/vit_base_patch16_224.augreg2_in21k_ft_in1k", "vit-base-patch16-224--augreg2-in21k-ft-in1k"),
        ("timm/vit_base_patch16_clip_224.openai", "vit-base-patch16-clip-224--openai"),
        ("open_clip/ViT-B-32/openai", "clip-vit-b-32--openai"),
        ("open_clip/ViT-B-32-quickgelu/metaclip_400m", "clip-vit-b-32-quickgelu--metaclip-400m"),
        ("open_clip/ViT-B-32", "clip-vit-b-32"),
        ("zoo/vit", "zoo-vit"),
    ],
)
def test_slugs_of_model_ids(model_id: str, slug: str) -> None:
    assert slug_of(model_id) == slug
    assert is_slug(slug)


@pytest.mark.parametrize("model_id", ["", "timm", "timm/", "resnet50", "hub/thing"])
def test_what_is_no_model_id(model_id: str) -> None:
    with pytest.raises(BadConfig, match=r"is not a model id: expected timm/NAME\.TAG"):
        slug_of(model_id)


@given(st.text())
def test_a_name_becomes_a_slug_that_stays(name: str) -> None:
    if not any(character.isascii() and character.isalnum() for character in normalize("NFKD", name)):
        with pytest.raises(BadAddress, match="no slug can be made of it"):
            slugify(name)
        return
    slug = slugify(name)
    assert is_slug(slug)
    assert slugify(slug) == slug
    assert str(parse_address(f"{slug}/mlp/0/0")) == f"{slug}/mlp/0/0"


@pytest.mark.parametrize(("name", "slug"), [("My DINO v2.1", "my-dino-v2-1"), ("a--b", "a--b"), ("Été", "ete")])
def test_own_names(name: str, slug: str) -> None:
    assert slugify(name) == slug


@given(st.sampled_from(["timm", "open_clip", "zoo"]), st.text(max_size=20))
def test_no_model_id_breaks_the_slug(source: str, rest: str) -> None:
    try:
        assert is_slug(slug_of(f"{source}/{rest}"))
    except AtlasError:
        assert not any(c.isascii() and c.isalnum() for c in rest) or "/" in rest or "." in rest
