"""The pure parts: packs, ranks, sheets, bundles, sizes, byte ranges."""

from __future__ import annotations

import gzip
import io
import json
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from atlas_schema.read import Atlas
from site_builder.budget import HOSTS, SiteTooLarge, check, estimate
from site_builder.layers import activation_ranks, ranges_of, trust_order
from site_builder.outline import Layer, Outline
from site_builder.packs import dump, layer_table, packs, plain
from site_builder.sections import neurons
from site_builder.serve import byte_range
from site_builder.sprites import bundle, bundle_size, mean_color, sheet, thumbnail
from site_builder.survey import Survey


def unpack(data: bytes) -> dict:
    return json.loads(gzip.decompress(data))


def test_a_pack_gives_back_every_value_of_its_64_units() -> None:
    units = [*range(3, 70), 200]
    columns = {
        "unit": units,
        "activation": [u / 7 for u in units],
        "recipe": ["fast"] * len(units),
        "rescue": [None] * len(units),
    }
    made = packs(units, columns, "neurons/m/train-00000-of-00001.parquet")
    assert sorted(made) == [0, 1, 3]
    for number, data in made.items():
        pack = unpack(data)
        assert pack["columns"]["unit"] == [u for u in units if u // 64 == number]
        assert pack["columns"].get("activation", [pack["shared"].get("activation")]) == pytest.approx(
            [u / 7 for u in units if u // 64 == number], rel=1e-6
        )
        assert pack["shared"]["recipe"] == "fast"
        assert pack["shared"]["rescue"] is None


def test_json_keeps_all_digits_of_a_float32_and_has_no_nan() -> None:
    values = np.random.default_rng(0).normal(size=200).astype(np.float32)
    kept = np.array(unpack(dump(values.astype(float).tolist())))
    assert np.max(np.abs(kept / values - 1)) < 5e-7
    assert plain([float("nan"), float("inf"), 0.0]) == [None, None, 0.0]
    assert dump({"a": 1}) == dump({"a": 1})


@given(st.lists(st.floats(-5, 5, allow_nan=False), min_size=1, max_size=50))
def test_the_rank_of_a_neuron_is_one_more_than_those_above_it(values: list[float]) -> None:
    ranks = activation_ranks(values)
    assert ranks == [1 + sum(other > value for other in values) for value in values]


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranges_hold_exactly_the_units(units: set[int]) -> None:
    ranges = ranges_of(sorted(units))
    assert [unit for start, stop in ranges for unit in range(start, stop)] == sorted(units)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_thumbnails_are_ordered_by_what_holds_and_inactive_ones_come_last() -> None:
    columns = {
        "robust_mean": [1.0, 9.0, None, 3.0],
        "activation": [5.0, 9.5, 4.0, 3.5],
        "status": ["active", "inactive", "active", "active"],
    }
    assert trust_order(columns) == [2, 3, 0, 1]


def test_the_layer_table_says_where_each_thumbnail_lies() -> None:
    columns = {
        "unit": [4, 5, 9],
        "activation": [1, 2, 3],
        "robust_mean": [3, 1, 2],
        "activation_start": [0, 0, 0],
        "status": ["active", "inactive", "active"],
    }
    table = unpack(layer_table(columns, [0, 2, 1], ["aaaaaa", "bbbbbb", "cccccc"]))
    assert table["thumb"] == [0, 2, 1]
    assert table["inactive"] == [1]
    assert table["color"] == "aaaaaabbbbbbcccccc"


def webp_of(color: tuple[int, int, int], side: int = 96) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), color).save(buffer, "WEBP", quality=90)
    return buffer.getvalue()


def test_each_tile_of_a_sheet_is_its_own_picture() -> None:
    colors = [(int(r), int(g), int(b)) for r, g, b in np.random.default_rng(1).integers(40, 216, (19, 3))]
    thumbs = [thumbnail(webp_of(color, side)) for color, side in zip(colors, [224, 96, 64] * 7, strict=False)]
    grid = np.asarray(Image.open(io.BytesIO(sheet([*thumbs, None], 8))).convert("RGB"))
    assert grid.shape == (3 * 96, 8 * 96, 3)
    for place, color in enumerate(colors):
        top, left = place // 8 * 96, place % 8 * 96
        inner = grid[top + 8 : top + 88, left + 8 : left + 88].reshape(-1, 3).mean(0)
        assert np.abs(inner - color).max() < 12, place
    assert mean_color(Image.new("RGB", (4, 4), (1, 2, 255))) == "0102ff"


def test_small_pictures_stay_small_and_large_ones_shrink() -> None:
    assert thumbnail(webp_of((9, 9, 9), 64)).size == (64, 64)
    assert thumbnail(webp_of((9, 9, 9), 224)).size == (96, 96)
    assert Image.open(io.BytesIO(sheet([thumbnail(webp_of((9, 9, 9), 64))] * 8, 8))).size == (512, 64)


def test_a_bundle_holds_the_bytes_untouched() -> None:
    pictures: list[bytes | None] = [b"abc", None, b"", b"0123456789"]
    data = bundle(pictures)
    assert struct.unpack_from("<4I", data) == (3, 0, 0, 10)
    assert data[16:] == b"abc0123456789"


def test_a_bundle_of_large_pictures_has_few() -> None:
    assert [bundle_size(kilobytes * 1e3) for kilobytes in (0, 2, 8, 8.1, 16, 20, 32, 33, 500)] == [
        8,
        8,
        8,
        4,
        4,
        2,
        2,
        1,
        1,
    ]


def atlas_of(layers: int, width: int, kilobytes: float = 12) -> Survey:
    """A survey of one model of `layers` layers whose pictures have so many kilobytes."""
    source = neurons.LayerSource(Layer("m", 0, layers, tuple(range(width))), int(width * kilobytes * 1000), 96)
    outline = Outline(Atlas("memory://nothing"), [{"slug": "m"}])
    return Survey(outline, ((neurons.SECTION, [source] * layers),))


def test_github_pages_holds_one_vit_base_whole_but_not_two() -> None:
    check(HOSTS["github-pages"], estimate(atlas_of(12, 3072), "sprite"), "sprite")
    with pytest.raises(SiteTooLarge) as error:
        check(HOSTS["github-pages"], estimate(atlas_of(24, 3072), "sprite"), "sprite")
    for said in ("github-pages", "1.00 GB", "--target", "1 GB"):
        assert said in str(error.value)


def test_a_space_refuses_a_file_a_neuron_and_says_what_instead() -> None:
    with pytest.raises(SiteTooLarge, match=r"100,000.*--images sprite"):
        check(HOSTS["hf-space"], estimate(atlas_of(24, 4096), "files"), "files")
    check(HOSTS["hf-space"], estimate(atlas_of(24, 4096), "range"), "range")
    with pytest.raises(SiteTooLarge, match=r"fullest folder|one folder"):
        check(HOSTS["hf-space"], estimate(atlas_of(1, 65_536), "sprite"), "sprite")


@given(st.integers(1, 500), st.integers(0, 600), st.integers(0, 600))
def test_byte_ranges_follow_the_standard(size: int, first: int, last: int) -> None:
    whole = bytes(i % 251 for i in range(size))
    start, stop = byte_range(str(first), str(last), size)
    if first < size and first <= last:
        assert whole[start : stop + 1] == whole[first : last + 1]
    else:
        assert start > stop
    start, stop = byte_range("", str(last), size)
    assert whole[start : stop + 1] == (whole[-last:] if last else b"")
    assert byte_range(str(min(first, size - 1)), "", size) == (min(first, size - 1), size - 1)
